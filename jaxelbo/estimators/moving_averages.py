"""Score functions whose baseline is a running mean: state goes in and comes out.

Floor 3. They take a state after the estimator's other arguments and return ``(value, state)``; differentiate them by
``jax.value_and_grad(..., has_aux=True)``, or let ``jaxelbo.fit(..., state=...)`` carry the state.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxelbo import checks, custom_gradients, monte_carlo, surrogates, validity
from jaxelbo.estimators.score import check_baseline, predict, with_prediction
from jaxelbo.types import Bound, Family, Key, LogJoint, Params, PyTree


class RunningMoments(NamedTuple):
    """What is remembered of past learning signals, in nats: both scalar. Start with `running_moments`."""

    mean: jax.Array
    variance: jax.Array


def running_moments(dtype: jax.typing.DTypeLike = float) -> RunningMoments:
    """The state before the first step: mean 0, variance 1.

    >>> float(running_moments().mean)
    0.0
    """
    dtype = jax.dtypes.canonicalize_dtype(dtype)
    return RunningMoments(jnp.zeros((), dtype), jnp.ones((), dtype))


def moving_average(
    params: Params,
    key: Key,
    log_joint: LogJoint,
    family: Family,
    bound: Bound,
    num_samples: int,
    state: RunningMoments,
    *,
    decay: float = 0.9,
) -> tuple[jax.Array, RunningMoments]:
    """The score function with the running mean of past log-weights as baseline.

    Value, estimand and bias as `score_function`: unbiased, since the mean is that of earlier steps. The new mean is
    decay times the old one plus (1 - decay) times the mean of this step's log-weights.

    Args:
      params: the family's.
      key: one random key.
      log_joint: latent -> scalar log p(x, z).
      family: any.
      bound: any, log-weights ``[S]`` -> scalar.
      num_samples: S, static, at least 1.
      state: `running_moments` at first; its variance is that of log-weights about the mean.
      decay: weight of the past, between 0 and 1.

    Returns:
      Scalar, in nats, and the next state.

    Raises:
      TypeError, ValueError: naming the argument: a state that is no `RunningMoments` or of another dtype than params, a
        decay outside 0 to 1.

    References:
      Xu, Ba, Kiros, Cho, Courville, Salakhudinov, Zemel, Bengio (2015), *Show, Attend and Tell*.

    >>> import jax, jaxelbo
    >>> family = jaxelbo.families.bernoulli(0.0)
    >>> arguments = jax.random.key(1), lambda z: z - 100.0, family, jaxelbo.bounds.mean, 1, running_moments()
    >>> params = family.init(jax.random.key(0))
    >>> (value, state), gradient = jax.value_and_grad(moving_average, has_aux=True)(params, *arguments)
    >>> bool(state.mean == 0.1 * value)
    True
    """
    check_decay(decay)
    validity.check("moving_average", params, key, family, bound, num_samples)
    _check_state(state, params)
    value, log_weights = with_prediction(params, key, log_joint, family, bound, num_samples, state.mean)
    return value, update_moments(state, log_weights, decay)


def nvil(
    baseline_fn: Callable[..., jax.Array], baseline_params: PyTree, inputs: tuple[Any, ...] = (), *, decay: float = 0.8
) -> Callable[..., tuple[jax.Array, RunningMoments]]:
    """Neural variational inference and learning: a learned baseline, a running mean, and variance normalisation.

    Value: ``bound`` of S log-weights. Gradient: the score function with the prediction baseline + running mean, its
    signal divided by max(1, running standard deviation of the signal). The model's gradient, and what is
    reparameterised, is not divided. Unbiased but for that factor, which depends on earlier steps alone. The baseline is
    trained as in `learned_baseline`, on the log-weight less the running mean.

    Args:
      baseline_fn: ``(baseline_params, *inputs) -> prediction``, a scalar or ``[S]``.
      baseline_params: its own pytree; must not share leaves with params.
      inputs: what it sees, not the draws.
      decay: weight of the past, between 0 and 1.

    Returns:
      A stateful estimator ``(params, key, log_joint, family, bound, num_samples, state) -> (value, state)``.

    Raises:
      TypeError, ValueError: as `learned_baseline` and `moving_average`.

    References:
      Mnih, Gregor (2014), *Neural Variational Inference and Learning in Belief Networks*.

    >>> import jax, jaxelbo
    >>> family = jaxelbo.families.bernoulli(0.0)
    >>> estimator = nvil(lambda b: b, jax.numpy.asarray(0.0))
    >>> params = family.init(jax.random.key(0))
    >>> arguments = params, jax.random.key(1), lambda z: z - 100.0, family, jaxelbo.bounds.mean, 1
    >>> value, state = estimator(*arguments, running_moments())
    """
    check_baseline(baseline_fn, inputs)
    check_decay(decay)

    def estimator(
        params: Params,
        key: Key,
        log_joint: LogJoint,
        family: Family,
        bound: Bound,
        num_samples: int,
        state: RunningMoments,
    ) -> tuple[jax.Array, RunningMoments]:
        validity.check("nvil", params, key, family, bound, num_samples)
        _check_state(state, params)
        prediction = predict(baseline_fn, baseline_params, inputs, params, num_samples)
        value, log_weights, scores = monte_carlo.weights_and_scores(params, key, log_joint, family, bound, num_samples)
        signals = surrogates.learning_signals(bound, log_weights, prediction + state.mean)
        signals = signals / jnp.maximum(1, jnp.sqrt(state.variance))
        value = surrogates.add_scores(value, scores, signals[:, None])
        value = custom_gradients.add_gradient(value, surrogates.regression(prediction, log_weights - state.mean))
        return value, update_moments(state, log_weights - prediction, decay)

    return estimator


def update_moments(state: RunningMoments, signals: jax.Array, decay: float) -> RunningMoments:
    """The state after one more step's signals; no gradient flows through."""
    signals = jax.lax.stop_gradient(signals)
    mean, variance = jnp.mean(signals), jnp.mean((signals - state.mean) ** 2)
    new = jax.tree.map(lambda old, now: decay * old + (1 - decay) * now, state, RunningMoments(mean, variance))
    return jax.lax.stop_gradient(new)


def _check_state(state: RunningMoments, params: Params) -> None:
    if not isinstance(state, RunningMoments):
        raise TypeError(
            f"state must be a RunningMoments, got {checks.describe(state)}; start with estimators.running_moments()."
        )
    dtype = jnp.result_type(*jax.tree.leaves(params))
    expected = jax.eval_shape(lambda: running_moments(dtype))
    checks.check_like(state, expected, "state", f"params of dtype {dtype}")


def check_decay(decay: float) -> None:
    """Requires a number, between 0 and 1 where its value is known."""
    checks.check_real(decay, "decay")
    if isinstance(decay, int | float) and not 0 <= decay <= 1:
        raise ValueError(f"decay must be between 0 and 1, got {decay}.")
