"""REBAR and RELAX: score functions whose control variate is a relaxation of the draws.

Floor 3. With a hard draw b, its relaxation z and a relaxation z' drawn anew given b, the gradient for a control variate
c is (f(b) - c(z')) d log q(b) + d c(z) - d c(z'), through z and z' alone. It is unbiased for every c, so c may be
anything, and may learn.
"""

import functools
import operator
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxelbo import checks, custom_gradients, monte_carlo, surrogates, tracing, validity
from jaxelbo.estimators.relaxed import check_temperature
from jaxelbo.types import Bound, Estimator, Family, Key, Latent, LogJoint, Params, PyTree


def rebar(temperature: jax.Array | float = 0.5, scale: jax.Array | float = 1.0) -> Estimator:
    """REBAR: the control variate is a multiple of log p - log q itself at the relaxed draws. Unbiased.

    Value: the mean of S log-weights, at hard draws. Gradient: see the module; model parameters get the gradient at the
    hard draws. The gradient in ``temperature`` and ``scale``, where they are differentiated, *raises* minus the
    variance of the gradient in params, so one ascent on the bound tunes both (keep log(temperature) as the
    parameter). Untuned it may not be worth its three evaluations of the log joint.

    Args:
      temperature: positive scalar; may be traced and differentiated in.
      scale: the multiple, scalar; may be traced and differentiated in.

    Returns:
      The `Estimator`, for families that can be relaxed and ``bounds.mean``.

    Raises:
      TypeError, ValueError: a temperature or scale that is no scalar; when called, a log joint that turns the relaxed
        latent into integers.

    References:
      Tucker, Mnih, Maddison, Lawson, Sohl-Dickstein (2017), *REBAR: Low-variance, unbiased gradient estimates for
      discrete latent variable models*.

    >>> import jax, jaxelbo
    >>> family = jaxelbo.families.bernoulli(jax.numpy.zeros(2))
    >>> arguments = family.init(jax.random.key(0)), jax.random.key(1), lambda z: -((z[0] - z[1]) ** 2), family
    >>> gradient = jax.grad(jaxelbo.elbo)(*arguments, num_samples=4, estimator=rebar())
    """
    check_temperature(temperature)
    checks.check_real(scale, "scale")

    def estimator(
        params: Params, key: Key, log_joint: LogJoint, family: Family, bound: Bound, num_samples: int
    ) -> jax.Array:
        validity.check("rebar", params, key, family, bound, num_samples)
        tracing.check_no_integers(log_joint, lambda: family.relax(params, key, temperature)[1])
        fixed = jax.lax.stop_gradient(params)

        def control_variate(scale: jax.Array, latent: Latent) -> jax.Array:
            return scale * (log_joint(latent) - family.log_prob(fixed, latent))

        return _with_control_variate(
            params,
            key,
            log_joint,
            family,
            bound,
            num_samples,
            control_variate,
            temperature,
            scale,
        )

    return estimator


def relax(
    control_variate: Callable[[PyTree, Latent], jax.Array],
    control_params: PyTree,
    temperature: jax.Array | float = 0.5,
) -> Estimator:
    """RELAX: the control variate is any function of the relaxed draws, such as a network. Unbiased.

    Value: the mean of S log-weights, at hard draws. Gradient: see the module. The gradient in ``control_params`` and
    ``temperature``, where they are differentiated, *raises* minus the variance of the gradient in params, by the mean
    over draws of its squared norm; so one ascent on the bound trains the control variate too, and only for that.

    Args:
      control_variate: ``(control_params, relaxed latent) -> scalar``, in nats.
      control_params: its own pytree; must not share leaves with params.
      temperature: positive scalar; may be traced and differentiated in.

    Returns:
      The `Estimator`, for families that can be relaxed and ``bounds.mean``.

    Raises:
      TypeError, ValueError: naming the argument; when called, params that share leaves with the control variate's, a
        control variate that returns no scalar.

    References:
      Grathwohl, Choi, Wu, Roeder, Duvenaud (2018), *Backpropagation through the Void: Optimizing control variates for
      black-box gradient estimation*.

    >>> import jax, jaxelbo
    >>> family = jaxelbo.families.bernoulli(jax.numpy.zeros(2))
    >>> def value(params, weights, key):
    ...     estimator = relax(lambda weights, z: weights @ z, weights)
    ...     return jaxelbo.elbo(params, key, lambda z: 3 * z[0] - z[1], family, num_samples=4, estimator=estimator)
    >>> arguments = family.init(jax.random.key(0)), jax.numpy.zeros(2), jax.random.key(1)
    >>> gradient, of_control_variate = jax.grad(value, argnums=(0, 1))(*arguments)
    """
    checks.check_callable(control_variate, "control_variate")
    checks.check_float_leaves(control_params, "control_params")
    check_temperature(temperature)

    def estimator(
        params: Params, key: Key, log_joint: LogJoint, family: Family, bound: Bound, num_samples: int
    ) -> jax.Array:
        validity.check("relax", params, key, family, bound, num_samples)
        checks.check_no_shared_leaves(control_params, params, "control_params", "the variance's own gradient")
        return _with_control_variate(
            params, key, log_joint, family, bound, num_samples, control_variate,
            temperature, control_params,
        )  # fmt: skip

    return estimator


def _with_control_variate(
    params: Params,
    key: Key,
    log_joint: LogJoint,
    family: Family,
    bound: Bound,
    num_samples: int,
    control_variate: Callable[[PyTree, Latent], jax.Array],
    temperature: jax.Array | float,
    control_params: PyTree,
) -> jax.Array:
    """The bound with the gradients of params and, for the variance, of temperature and control params."""
    is_tuned = checks.is_traced((temperature, control_params))  # else nobody can differentiate in them
    tuned = jax.tree.map(lambda leaf: 1.0 * jnp.asarray(leaf), (temperature, control_params))
    held = jax.lax.stop_gradient(tuned)
    no_shift = jax.tree.map(jnp.zeros_like, params)

    def control(tuned: PyTree, latent: Latent) -> jax.Array:
        return checks.check_scalar(control_variate(tuned[1], latent), "control_variate")

    def one(tuned: PyTree, key: Key) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        """The squared norm of one draw's gradient, and what the bound is made of, from one making of the noise."""

        def shifted(shift: Params) -> tuple[tuple[jax.Array, Latent, Latent], Latent]:
            at = jax.tree.map(jnp.add, params, shift)
            hard, soft, again = family.relax(at, key, tuned[0])
            return (family.score_log_probs(at, hard), soft, again), hard

        # By a shift, so that the derivative in params can be taken here and by the caller of the same draws.
        (scores, soft, again), pull_back, hard = jax.vjp(shifted, no_shift, has_aux=True)
        log_q = family.log_prob(params, hard)
        log_weight = monte_carlo.evaluate(log_joint, hard, log_q.dtype) - log_q
        slope = jax.grad(control, argnums=1)(tuned, soft)
        value_again, slope_again = jax.value_and_grad(control, argnums=1)(tuned, again)
        signal = log_weight - value_again
        (gradient,) = pull_back((jnp.full_like(scores, signal), slope, jax.tree.map(jnp.negative, slope_again)))
        # Signal and slopes hold the model's parameters, which are not to learn from them.
        held_signal, held_slope, held_again = jax.lax.stop_gradient((signal, slope, slope_again))
        surrogate = _inner(held_slope, soft) - _inner(held_again, again)
        return _inner(gradient, gradient), (log_weight, scores, held_signal, surrogate)

    def mean_square(tuned: PyTree) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        squares, drawn = monte_carlo.over_samples(functools.partial(one, tuned), key, num_samples)
        return jnp.mean(squares), drawn

    if is_tuned:
        _, of_tuned, drawn = jax.linearize(mean_square, held, has_aux=True)
    else:
        of_tuned, (_, drawn) = None, mean_square(held)
    log_weights, scores, signals, surrogate = drawn
    value = surrogates.weighted_scores(bound, log_weights, scores, signals[:, None] / num_samples)
    value = custom_gradients.add_gradient(value, jnp.mean(surrogate))
    if of_tuned is None:
        return value
    # The derivative as a linear function: transposed by the caller, over a whole batch at once.
    return custom_gradients.add_gradient(value, -custom_gradients.hold_closure(of_tuned, tuned))


def _inner(slopes: PyTree, values: PyTree) -> jax.Array:
    return jax.tree.reduce(operator.add, jax.tree.map(lambda slope, value: jnp.sum(slope * value), slopes, values))
