"""How a policy learns from sampled paths: the learning signals of the toolkit, for systems that run their own scan.

Attention. A system samples S paths of N steps for one datum and hands over what a rule may use, `Paths`. A rule
``(paths, baseline_params, state) -> (value, state)`` returns a scalar to be raised, by ``jax.grad`` in the system's
parameters and the baseline's: the bound, with the gradient that its learning signal gives. All of them are
`jaxelbo.surrogates` at work. With paths drawn from the policy p(l|I) itself, log-weights are log p(y|l, I): the policy
cancels against q.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxelbo import bounds, checks, custom_gradients, surrogates
from jaxelbo.attention import layers
from jaxelbo.estimators import RunningMoments, moving_averages
from jaxelbo.types import Bound, Params


class Paths(NamedTuple):
    """What S sampled paths of one datum give to a rule.

    Attributes:
      log_likelihoods: log p(y|l^s, I), ``[S]``, in nats, differentiable.
      score_log_probs: log p(l_n^s|l_<n^s, I), ``[S, N]``, differentiable, at stopped draws.
      rewards: what a published reward rule pays step n of path s, ``[S, N]``, such as 1 for a right label.
      features: what a learned baseline sees before step n, ``[S, N, F]``.
    """

    log_likelihoods: jax.Array
    score_log_probs: jax.Array
    rewards: jax.Array
    features: jax.Array


LearningRule = Callable[[Paths, Params, Any], tuple[jax.Array, Any]]
"""``(paths, baseline_params, state) -> (value, state)``; rules without baseline or state pass them on unused."""


def score_function(paths: Paths, baseline_params: Params, state: Any) -> tuple[jax.Array, Any]:
    """No baseline: unbiased for the gradient of F = E[log p(y|l, I)], and noisy.

    References:
      Williams (1992), *Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning*.
    """
    del baseline_params
    return _predicted(bounds.mean, paths, 0.0), state


def leave_one_out(bound: Bound) -> LearningRule:
    """The mean of the other paths as baseline: unbiased for F, or for a many-sample bound, where it is VIMCO.

    Args:
      bound: log-likelihoods ``[S]`` -> scalar, S at least 2.

    Returns:
      The rule.

    Raises:
      TypeError, ValueError: a bound that is none; when called, fewer than two paths.

    References:
      Mnih, Rezende (2016), *Variational Inference for Monte Carlo Objectives*.

    >>> import jax.numpy as jnp
    >>> paths = Paths(jnp.array([-1.0, -3.0]), jnp.zeros((2, 4)), jnp.zeros((2, 4)), jnp.zeros((2, 4, 1)))
    >>> float(leave_one_out(bounds.mean)(paths, (), ())[0])
    -2.0
    """
    checks.check_bound(bound)

    def rule(paths: Paths, baseline_params: Params, state: Any) -> tuple[jax.Array, Any]:
        del baseline_params
        return _predicted(bound, paths, surrogates.mean_of_others(paths.log_likelihoods)), state

    return rule


def learned_baseline(paths: Paths, baseline_params: Params, state: Any) -> tuple[jax.Array, Any]:
    """A linear baseline a step, b_n = w . features_n + b, trained by least squares: unbiased for F.

    Its parameters are those of `layers.dense_init` with one output; its loss trains nothing else.

    References:
      Mnih, Gregor (2014), *Neural Variational Inference and Learning in Belief Networks*;
      Ba, Mnih, Kavukcuoglu (2015), *Multiple Object Recognition with Visual Attention*.
    """
    rewards = jnp.broadcast_to(paths.log_likelihoods[:, None], paths.score_log_probs.shape)
    return _with_linear_baseline(paths, baseline_params, rewards, 1.0), state


def moving_average(decay: float = 0.9) -> LearningRule:
    """The running mean of past log-likelihoods as baseline, in the state (`estimators.running_moments`).

    Args:
      decay: weight of the past, between 0 and 1.

    Returns:
      The rule. Under a ``vmap`` over data average the states that come back.

    References:
      Xu, Ba, Kiros, Cho, Courville, Salakhudinov, Zemel, Bengio (2015), *Show, Attend and Tell*.

    >>> import jax.numpy as jnp
    >>> from jaxelbo import estimators
    >>> paths = Paths(jnp.array([-1.0, -3.0]), jnp.zeros((2, 4)), jnp.zeros((2, 4)), jnp.zeros((2, 4, 1)))
    >>> value, state = moving_average()(paths, (), estimators.running_moments())
    >>> round(float(state.mean), 4)
    -0.2
    """
    moving_averages.check_decay(decay)

    def rule(paths: Paths, baseline_params: Params, state: RunningMoments) -> tuple[jax.Array, RunningMoments]:
        del baseline_params
        value = _predicted(bounds.mean, paths, state.mean)
        return value, moving_averages.update_moments(state, paths.log_likelihoods, decay)

    return rule


def reward(weight: float = 1.0) -> LearningRule:
    """The published rule: the policy is raised by its rewards less a learned baseline, the classifier by log p(y|l, I).

    Another objective than F: with 0/1 rewards the policy's gradient is that of the expected accuracy, which is bounded
    where log p(y|l, I) is not. The value returned is F all the same.

    Args:
      weight: lambda, of the policy's gradient against the classifier's.

    Returns:
      The rule, with the baseline of `learned_baseline`.

    Raises:
      TypeError: a weight that is no number.

    References:
      Mnih, Heess, Graves, Kavukcuoglu (2014), *Recurrent Models of Visual Attention*;
      Ba, Mnih, Kavukcuoglu (2015), *Multiple Object Recognition with Visual Attention*.

    >>> import jax, jax.numpy as jnp
    >>> from jaxelbo.attention import layers
    >>> paths = Paths(jnp.array([-1.0, -3.0]), jnp.zeros((2, 4)), jnp.zeros((2, 4)), jnp.zeros((2, 4, 1)))
    >>> float(reward()(paths, layers.dense_init(jax.random.key(0), 1, 1), ())[0])
    -2.0
    """
    checks.check_real(weight, "weight")

    def rule(paths: Paths, baseline_params: Params, state: Any) -> tuple[jax.Array, Any]:
        return _with_linear_baseline(paths, baseline_params, paths.rewards, weight), state

    return rule


def _predicted(bound: Bound, paths: Paths, predictions: jax.Array | float) -> jax.Array:
    """The bound, with the signals of a prediction for each path. No score is inside the weights, and none taken out."""
    signals = surrogates.learning_signals(bound, paths.log_likelihoods, predictions)
    scores = jnp.sum(paths.score_log_probs, axis=1, keepdims=True)
    return surrogates.add_scores(checks.check_scalar(bound(paths.log_likelihoods), "bound"), scores, signals[:, None])


def _with_linear_baseline(
    paths: Paths, baseline_params: Params, rewards: jax.Array, weight: jax.Array | float
) -> jax.Array:
    features = jax.lax.stop_gradient(paths.features)
    predictions = layers.dense(baseline_params, features)[..., 0]
    signals = weight * (rewards - predictions) / paths.log_likelihoods.shape[0]
    value = surrogates.add_scores(jnp.mean(paths.log_likelihoods), paths.score_log_probs, signals)
    return custom_gradients.add_gradient(value, surrogates.regression(predictions, rewards))
