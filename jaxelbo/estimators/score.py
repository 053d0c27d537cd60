"""The score function, alone and with baselines that need no memory.

Floor 3. All of them differentiate reparameterised parts pathwise and the others by their score log-probabilities; they
differ in the prediction of each log-weight that makes the learning signal, see `jaxelbo.surrogates`.
"""

from collections.abc import Callable
from typing import Any

import jax

from jaxelbo import checks, custom_gradients, monte_carlo, surrogates, validity
from jaxelbo.types import Bound, Estimator, Family, Key, LogJoint, Params, PyTree


def leave_one_out(
    params: Params, key: Key, log_joint: LogJoint, family: Family, bound: Bound, num_samples: int
) -> jax.Array:
    """The default, right for every family and bound: pathwise where it can be, leave-one-out score function elsewhere.

    Value: ``bound`` of S log-weights. Gradient: through reparameterised parts and log q as `pathwise`, which it is
    where all parts are reparameterised; for the others the score function, with the learning signal "the bound less the
    bound in which my log-weight is the mean of the others". For ``bounds.mean`` that is the leave-one-out baseline, for
    ``bounds.importance_weighted`` VIMCO. Unbiased for the gradient of E[bound(log_weights)] at this S.

    Args:
      params: the family's.
      key: one random key.
      log_joint: latent -> scalar log p(x, z).
      family: any.
      bound: any, log-weights ``[S]`` -> scalar.
      num_samples: S, static; at least 2 where parts carry no gradient.

    Returns:
      Scalar, in nats, in the dtype of params.

    Raises:
      ValueError: one sample where parts carry no gradient.

    References:
      Mnih, Rezende (2016), *Variational Inference for Monte Carlo Objectives*;
      Kool, van Hoof, Welling (2019), *Buy 4 REINFORCE Samples, Get a Baseline for Free!*.

    >>> import jax, jaxelbo
    >>> family = jaxelbo.families.categorical(3)
    >>> params, table = family.init(jax.random.key(0)), jax.numpy.arange(3.0)
    >>> arguments = params, jax.random.key(1), lambda z: table[z], family, jaxelbo.bounds.mean, 100
    >>> gradient = jax.grad(leave_one_out)(*arguments)
    >>> bool(gradient["logits"][2] > 0)
    True
    """
    traits = validity.check("leave_one_out", params, key, family, bound, num_samples)
    if validity.is_reparameterised(traits):
        return monte_carlo.apply_bound(
            bound, monte_carlo.log_weights_of_draws(params, key, log_joint, family, num_samples)
        )
    value, log_weights, scores = monte_carlo.weights_and_scores(params, key, log_joint, family, bound, num_samples)
    signals = surrogates.learning_signals(bound, log_weights, surrogates.mean_of_others(log_weights))
    return surrogates.add_scores(value, scores, signals[:, None])


def score_function(
    params: Params, key: Key, log_joint: LogJoint, family: Family, bound: Bound, num_samples: int
) -> jax.Array:
    """The plain score function (REINFORCE), without a baseline; pathwise through reparameterised parts.

    Value: ``bound`` of S log-weights. Gradient: as `leave_one_out` with every log-weight predicted to be 0; for
    ``bounds.mean`` the mean of log w times its score. Unbiased for the gradient of E[bound(log_weights)] at this S,
    with a variance that grows with the size of the log-weights.

    Args:
      params: the family's.
      key: one random key.
      log_joint: latent -> scalar log p(x, z).
      family: any; ``families.detached`` makes it the score function for a reparameterised one.
      bound: any, log-weights ``[S]`` -> scalar.
      num_samples: S, static, at least 1.

    Returns:
      Scalar, in nats, in the dtype of params.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Williams (1992), *Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning*;
      Ranganath, Gerrish, Blei (2014), *Black Box Variational Inference*.

    >>> import jax, jaxelbo
    >>> family = jaxelbo.families.detached(jaxelbo.families.mean_field(0.0))
    >>> params = family.init(jax.random.key(0))
    >>> value = score_function(params, jax.random.key(1), jax.scipy.stats.norm.logpdf, family, jaxelbo.bounds.mean, 1)
    """
    validity.check("score_function", params, key, family, bound, num_samples)
    return with_prediction(params, key, log_joint, family, bound, num_samples, 0.0)[0]


def with_baseline(baseline: jax.Array | float) -> Estimator:
    """The score function with the user's own prediction of the log-weight as baseline.

    Estimand, value and bias as `score_function`: unbiased as long as the baseline does not depend on the draws.

    Args:
      baseline: scalar, or ``[S]`` with one entry a sample, in nats; may be traced; no gradient flows through it.

    Returns:
      The `Estimator`.

    Raises:
      TypeError, ValueError: when called, a baseline that is no number or of another shape.

    References:
      Williams (1992), *Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning*.

    >>> import jax, jaxelbo
    >>> family = jaxelbo.families.bernoulli(0.0)
    >>> params = family.init(jax.random.key(0))
    >>> arguments = params, jax.random.key(1), lambda z: -100.0 + z, family
    >>> gradient = jax.grad(jaxelbo.elbo)(*arguments, num_samples=1, estimator=with_baseline(-99.5))
    >>> bool(abs(gradient["logits"][0]) < 1)
    True
    """

    def estimator(
        params: Params, key: Key, log_joint: LogJoint, family: Family, bound: Bound, num_samples: int
    ) -> jax.Array:
        validity.check("with_baseline", params, key, family, bound, num_samples)
        return with_prediction(params, key, log_joint, family, bound, num_samples, baseline)[0]

    return estimator


def learned_baseline(
    baseline_fn: Callable[..., jax.Array], baseline_params: PyTree, inputs: tuple[Any, ...] = ()
) -> Estimator:
    """The score function with a learned baseline, which this estimator trains and which trains nothing else.

    Value, estimand and bias as `score_function`. Beside it, the gradient in ``baseline_params`` lowers the mean squared
    error of the prediction, (log w - baseline)^2 / 2; no gradient of that flows to the inputs, to params or to the
    model. So one ``jax.grad`` of the bound, in params and in the baseline's params, trains both.

    Args:
      baseline_fn: ``(baseline_params, *inputs) -> prediction`` of the log-weight, a scalar or ``[S]``.
      baseline_params: its own pytree; must not share leaves with params, nor with the encoder that made params (which
        cannot be seen here).
      inputs: what it sees, such as the data; not the draws, or the gradient is biased.

    Returns:
      The `Estimator`.

    Raises:
      TypeError, ValueError: a baseline that is no function, inputs that are no tuple; when called, params that share
        leaves with the baseline's, a prediction of another shape.

    References:
      Mnih, Gregor (2014), *Neural Variational Inference and Learning in Belief Networks*.

    >>> import jax, jaxelbo
    >>> family = jaxelbo.families.bernoulli(0.0)
    >>> def loss_fn(params, baseline, key):
    ...     estimator = learned_baseline(lambda b: b, baseline)
    ...     return -jaxelbo.elbo(params, key, lambda z: z - 100, family, num_samples=1, estimator=estimator)
    >>> params = family.init(jax.random.key(0))
    >>> float(jax.grad(loss_fn, argnums=1)(params, jax.numpy.asarray(-98.0), jax.random.key(1))) > 0
    True
    """
    check_baseline(baseline_fn, inputs)

    def estimator(
        params: Params, key: Key, log_joint: LogJoint, family: Family, bound: Bound, num_samples: int
    ) -> jax.Array:
        validity.check("learned_baseline", params, key, family, bound, num_samples)
        prediction = predict(baseline_fn, baseline_params, inputs, params, num_samples)
        value, log_weights = with_prediction(params, key, log_joint, family, bound, num_samples, prediction)
        return custom_gradients.add_gradient(value, surrogates.regression(prediction, log_weights))

    return estimator


def check_baseline(baseline_fn: Any, inputs: Any) -> None:
    """Requires a function and a tuple of its inputs."""
    checks.check_callable(baseline_fn, "baseline_fn")
    if not isinstance(inputs, tuple):
        raise TypeError(f"inputs must be a tuple, such as (x,), got {checks.describe(inputs)}.")


def with_prediction(
    params: Params,
    key: Key,
    log_joint: LogJoint,
    family: Family,
    bound: Bound,
    num_samples: int,
    prediction: jax.Array | float,
) -> tuple[jax.Array, jax.Array]:
    """The bound with the score function's gradient for log-weights predicted so, and its log-weights ``[S]``."""
    value, log_weights, scores = monte_carlo.weights_and_scores(params, key, log_joint, family, bound, num_samples)
    signals = surrogates.learning_signals(bound, log_weights, prediction)
    return surrogates.add_scores(value, scores, signals[:, None]), log_weights


def predict(
    baseline_fn: Callable[..., jax.Array],
    baseline_params: PyTree,
    inputs: tuple[Any, ...],
    params: Params,
    num_samples: int,
) -> jax.Array:
    """A learned baseline's prediction, scalar or ``[S]``, with its own parameters alone left to be differentiated."""
    checks.check_no_shared_leaves(baseline_params, params, "baseline_params", "the baseline's own loss")
    # What baseline_fn closes over is held fixed as well, or its loss would train that.
    prediction = custom_gradients.hold_closure(baseline_fn, baseline_params, *jax.lax.stop_gradient(inputs))
    if jax.numpy.shape(prediction) not in ((), (num_samples,)):
        raise ValueError(
            f"baseline_fn must return a scalar or shape {(num_samples,)}, one entry a sample, got "
            f"{checks.describe(prediction)}."
        )
    return prediction
