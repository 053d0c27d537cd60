"""REBAR and RELAX: score functions whose control variate is a relaxation of the draws.

Floor 3. With a hard draw b, its relaxation z and a relaxation z' drawn anew given b, the gradient for a control variate
c is (f(b) - c(z')) d log q(b) + d c(z) - d c(z'), through z and z' alone. It is unbiased for every c, so c may be
anything, and may learn.
"""

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
    fixed, held = jax.lax.stop_gradient((params, tuned))

    def control(tuned: PyTree, latent: Latent) -> jax.Array:
        return checks.check_scalar(control_variate(tuned[1], latent), "control_variate")

    def one(key: Key) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        hard, soft, again = family.relax(params, key, held[0])
        log_q = family.log_prob(params, hard)
        log_weight = monte_carlo.evaluate(log_joint, hard, log_q.dtype) - log_q
        # Signal and slopes hold the model's parameters, which are not to learn from them.
        relaxed = jax.lax.stop_gradient((soft, again))
        signal, slope, slope_again = jax.lax.stop_gradient(_signal_and_slopes(control, *relaxed, log_weight, held))
        surrogate = _inner(slope, soft) - _inner(slope_again, again)
        return log_weight, family.score_log_probs(params, hard), signal, surrogate

    log_weights, scores, signals, surrogate = monte_carlo.over_samples(one, key, num_samples)

    def mean_square(tuned: PyTree) -> jax.Array:
        def square(key: Key, log_weight: jax.Array) -> jax.Array:
            return _squared_norm(_gradient(control, family, fixed, key, log_weight, tuned))

        return jnp.mean(monte_carlo.over_samples(square, key, num_samples, jax.lax.stop_gradient(log_weights)))

    value = surrogates.weighted_scores(bound, log_weights, scores, signals[:, None] / num_samples)
    value = custom_gradients.add_gradient(value, jnp.mean(surrogate))
    if not is_tuned:
        return value
    return custom_gradients.add_gradient(value, -_inner(jax.lax.stop_gradient(jax.grad(mean_square)(held)), tuned))


def _signal_and_slopes(
    control: Callable[..., jax.Array], soft: Latent, again: Latent, log_weight: jax.Array, tuned: PyTree
) -> tuple[jax.Array, Latent, Latent]:
    """The signal f(b) - c(z'), and the gradients of c at z and at z'."""
    slope = jax.grad(control, argnums=1)(tuned, soft)
    value_again, slope_again = jax.value_and_grad(control, argnums=1)(tuned, again)
    return log_weight - value_again, slope, slope_again


def _gradient(
    control: Callable[..., jax.Array], family: Family, fixed: Params, key: Key, log_weight: jax.Array, tuned: PyTree
) -> PyTree:
    """The gradient in params that one draw gives, as a function of what is tuned."""
    _, soft, again = family.relax(fixed, key, tuned[0])
    signal, slope, slope_again = _signal_and_slopes(control, soft, again, log_weight, tuned)

    def surrogate(params: Params) -> jax.Array:
        hard, soft, again = family.relax(params, key, tuned[0])
        scores = family.score_log_probs(params, jax.lax.stop_gradient(hard))
        return signal * jnp.sum(scores) + _inner(slope, soft) - _inner(slope_again, again)

    return jax.grad(surrogate)(fixed)


def _inner(slopes: PyTree, values: PyTree) -> jax.Array:
    return jax.tree.reduce(operator.add, jax.tree.map(lambda slope, value: jnp.sum(slope * value), slopes, values))


def _squared_norm(tree: PyTree) -> jax.Array:
    return _inner(tree, tree)
