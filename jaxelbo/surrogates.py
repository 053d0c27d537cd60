"""Gradient estimators on bare arrays: log-weights and score log-probabilities in, a scalar with the right gradient out.

Floor 1. No family and no model: for those who run their own scan. Every function here returns the bound's value, bit
for bit, and what it adds to the gradient is a surrogate; differentiate it once. Log-weights ``[S]`` come with the
gradients of all they were computed from: reparameterised draws, log q, the model's parameters. Score log-probabilities
``[S, P]`` are the log-probabilities of the P parts of each draw that carry no gradient themselves. Where they are not
inside the log-weights, as under a policy that is prior and q at once, use `add_scores` with `learning_signals`: the
functions before it would take out of ``bounds.mean`` what was never in it, which is right in the mean, and noise.

The learning signal of a draw is one idea for every bound B: *the bound less the bound without me*, in which my
log-weight is replaced by a prediction made without me. For the plain mean and a prediction c it is (log w - c) / S: no
baseline at c = 0, the user's or a learned baseline, a moving average, and the leave-one-out baseline where c is the
mean of the other log-weights. For log-mean-exp that last choice is VIMCO.
"""

import jax
import jax.numpy as jnp

from jaxelbo import bounds, checks
from jaxelbo.custom_gradients import add_gradient
from jaxelbo.types import Bound


def score_function(
    bound: Bound, log_weights: jax.Array, score_log_probs: jax.Array, predictions: jax.Array | float
) -> jax.Array:
    """The bound, differentiated by score function where draws carry no gradient and pathwise elsewhere.

    Estimand: the gradient of E[bound(log_weights)] at this S. Estimator: the gradient of the bound through the weights,
    plus the sum over s of the learning signal of s (see `learning_signals`) times the gradient of s's score
    log-probabilities. Unbiased if a prediction does not depend on the parts of draw s that carry no gradient. For
    ``bounds.mean`` the gradient of the score log-probabilities inside the weights is zero in the mean and left out.

    Args:
      bound: log-weights ``[S]`` -> scalar.
      log_weights: ``[S]``, in nats, differentiable.
      score_log_probs: ``[S, P]``, differentiable; log_weights contain minus their sum over P.
      predictions: ``[S]`` or scalar: what each log-weight is predicted to be; no gradient flows through it.

    Returns:
      Scalar, in nats: ``bound(log_weights)``.

    Raises:
      TypeError, ValueError: naming the argument, its shape or dtype.

    References:
      Mnih, Rezende (2016), *Variational Inference for Monte Carlo Objectives*;
      Schulman, Heess, Weber, Abbeel (2015), *Gradient Estimation Using Stochastic Computation Graphs*.

    >>> import jax, jax.numpy as jnp
    >>> from jaxelbo import bounds
    >>> def value(logit):  # two draws of a bit, 1 and 0, of log joint 3 and 1
    ...     log_probs = jnp.array([[1.0], [0.0]]) * logit - jax.nn.softplus(logit)
    ...     return score_function(bounds.mean, jnp.array([3.0, 1.0]) - log_probs[:, 0], log_probs, 0.0)
    >>> round(float(jax.grad(value)(0.0)), 4)  # ((3 + log 2) / 2 - (1 + log 2) / 2) / 2
    0.5
    """
    _check_arrays(log_weights, score_log_probs)
    signals = learning_signals(bound, log_weights, predictions)
    return weighted_scores(bound, log_weights, score_log_probs, signals[:, None])


def leave_one_out(bound: Bound, log_weights: jax.Array, score_log_probs: jax.Array) -> jax.Array:
    """`score_function` with each log-weight predicted by the mean of the others: leave-one-out, VIMCO.

    Estimand, estimator and bias: as `score_function`; unbiased, no parameters.

    Args:
      bound: log-weights ``[S]`` -> scalar.
      log_weights: ``[S]``, in nats, differentiable, S at least 2.
      score_log_probs: ``[S, P]``, differentiable.

    Returns:
      Scalar, in nats: ``bound(log_weights)``.

    Raises:
      TypeError, ValueError: as `score_function`; fewer than two samples.

    References:
      Kool, van Hoof, Welling (2019), *Buy 4 REINFORCE Samples, Get a Baseline for Free!*;
      Mnih, Rezende (2016), *Variational Inference for Monte Carlo Objectives*.

    >>> import jax, jax.numpy as jnp
    >>> from jaxelbo import bounds
    >>> scores = lambda logits: jax.nn.log_softmax(logits)[jnp.array([0, 1])][:, None]
    >>> value = lambda logits: leave_one_out(bounds.mean, jnp.array([3.0, 1.0]) - scores(logits)[:, 0], scores(logits))
    >>> jax.grad(value)(jnp.zeros(2))
    Array([ 1., -1.], dtype=float32)
    """
    _check_arrays(log_weights, score_log_probs)
    return score_function(bound, log_weights, score_log_probs, mean_of_others(log_weights))


def weighted_scores(bound: Bound, log_weights: jax.Array, score_log_probs: jax.Array, signals: jax.Array) -> jax.Array:
    """The bound, with the gradient sum of signals times scores beside its path gradient.

    The other functions here are this one with their own signals; use it for signals by part or by step. For
    ``bounds.mean`` the score log-probabilities inside the weights carry no gradient: it is zero in the mean.

    Args:
      bound: log-weights ``[S]`` -> scalar.
      log_weights: ``[S]``, in nats, differentiable; they contain minus the score log-probabilities.
      score_log_probs: ``[S, P]``, differentiable.
      signals: ``[S, P]`` or ``[S, 1]``; no gradient flows through them.

    Returns:
      Scalar, in nats: ``bound(log_weights)``.

    Raises:
      TypeError, ValueError: as `score_function`; signals of a shape that does not fit.

    References:
      Schulman, Heess, Weber, Abbeel (2015), *Gradient Estimation Using Stochastic Computation Graphs*.

    >>> import jax, jax.numpy as jnp
    >>> from jaxelbo import bounds
    >>> value = lambda score: weighted_scores(bounds.mean, jnp.ones(1) - score, score[None, :], jnp.array([[2.0]]))
    >>> float(jax.grad(value)(jnp.zeros(1))[0])
    2.0
    """
    _check_arrays(log_weights, score_log_probs)
    checks.check_bound(bound)
    if bound is bounds.mean:
        scores = jnp.sum(score_log_probs, axis=1)
        log_weights = log_weights + (scores - jax.lax.stop_gradient(scores))
    return add_scores(checks.check_scalar(bound(log_weights), "bound"), score_log_probs, signals)


def add_scores(value: jax.Array, score_log_probs: jax.Array, signals: jax.Array) -> jax.Array:
    """``value``, bit for bit, with the gradient of the sum of signals times scores beside its own.

    Args:
      value: scalar.
      score_log_probs: ``[S, P]``, differentiable.
      signals: ``[S, P]`` or ``[S, 1]``; no gradient flows through them.

    Returns:
      Scalar.

    Raises:
      TypeError, ValueError: naming the argument, its shape or dtype.

    References:
      Williams (1992), *Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning*.

    >>> import jax, jax.numpy as jnp
    >>> float(jax.grad(lambda score: add_scores(score[0, 0] ** 2, score, jnp.array([[2.0]])))(jnp.ones((1, 1)))[0, 0])
    4.0
    """
    checks.check_scalar(value, "value")
    checks.check_floating(score_log_probs, "score_log_probs", ("S", "P"))
    expected = score_log_probs.shape
    if jnp.shape(signals) not in (expected, (expected[0], 1)):
        raise ValueError(f"signals must have shape {expected} or {(expected[0], 1)}, got {jnp.shape(signals)}.")
    return add_gradient(value, jnp.sum(jax.lax.stop_gradient(signals) * score_log_probs))


def learning_signals(bound: Bound, log_weights: jax.Array, predictions: jax.Array | float) -> jax.Array:
    """How much the bound owes to each draw: the bound less the bound with the draw's log-weight predicted, ``[S]``.

    No gradient flows through. Evaluates the bound S + 1 times, at ``bounds.mean`` once.

    Args:
      bound: log-weights ``[S]`` -> scalar.
      log_weights: ``[S]``, in nats.
      predictions: ``[S]`` or scalar.

    Returns:
      ``[S]``, in nats.

    Raises:
      TypeError, ValueError: naming the argument; predictions of a shape that does not fit.

    References:
      Mnih, Rezende (2016), *Variational Inference for Monte Carlo Objectives*.

    >>> import jax.numpy as jnp
    >>> from jaxelbo import bounds
    >>> learning_signals(bounds.mean, jnp.array([3.0, 1.0]), mean_of_others(jnp.array([3.0, 1.0])))
    Array([ 1., -1.], dtype=float32)
    """
    checks.check_bound(bound)
    checks.check_floating(log_weights, "log_weights", ("S",))
    log_weights = jax.lax.stop_gradient(log_weights)
    size = log_weights.shape[0]
    checks.check_real_array(predictions, "a baseline")
    if jnp.shape(predictions) not in ((), (size,)):
        raise ValueError(
            f"a baseline must be a scalar or have shape {(size,)}, one entry a sample, got {jnp.shape(predictions)}."
        )
    predictions = jax.lax.stop_gradient(jnp.broadcast_to(jnp.asarray(predictions, log_weights.dtype), (size,)))
    if bound is bounds.mean:  # the general form, without its S^2 terms and their rounding
        return (log_weights - predictions) / size
    without_me = jnp.where(jnp.eye(size, dtype=bool), predictions[:, None], log_weights[None, :])
    return jax.lax.stop_gradient(checks.check_scalar(bound(log_weights), "bound") - jax.vmap(bound)(without_me))


def mean_of_others(values: jax.Array) -> jax.Array:
    """For each of S values the mean of the other S - 1, along the first axis.

    Args:
      values: ``[S, ...]``, S at least 2. A value of ``-inf`` makes the mean of all the others ``-inf``: then a draw of
        weight not zero owes the whole importance-weighted bound, and its signal is infinite, to itself.

    Returns:
      ``[S, ...]``; the gradient is stopped.

    Raises:
      ValueError: fewer than two values.

    >>> import jax.numpy as jnp
    >>> mean_of_others(jnp.array([1.0, 2.0, 6.0]))
    Array([4. , 3.5, 1.5], dtype=float32)
    """
    checks.check_floating(values, "values", ("S", "..."))
    values = jax.lax.stop_gradient(values)
    size = values.shape[0]
    if size < 2:
        raise ValueError(f"a leave-one-out signal needs at least two samples, got {size}.")
    # A sum without me, rather than the whole less me: one value may be infinite, or swallow the digits of the others.
    is_me = jnp.eye(size, dtype=bool).reshape(size, size, *[1] * (values.ndim - 1))
    return jnp.sum(jnp.where(is_me, 0, values[None]), axis=1) / (size - 1)


def regression(predictions: jax.Array, targets: jax.Array) -> jax.Array:
    """Zero, whose gradient lowers the mean squared error of predictions: how a learned baseline is trained.

    To be added to something that is raised. No gradient flows to the targets.

    Args:
      predictions: any shape, differentiable in the baseline's own parameters alone.
      targets: any shape, if predictions are a scalar; otherwise theirs.

    Returns:
      Scalar, 0; its gradient is that of -mean((predictions - targets)^2) / 2.

    Raises:
      TypeError, ValueError: predictions or targets that are no numbers, or whose shapes do not fit.

    References:
      Mnih, Gregor (2014), *Neural Variational Inference and Learning in Belief Networks*.

    >>> import jax, jax.numpy as jnp
    >>> float(jax.grad(lambda b: regression(b, jnp.asarray(3.0)))(1.0))
    2.0
    """
    checks.check_real_array(predictions, "predictions")
    checks.check_real_array(targets, "targets")
    if jnp.shape(predictions) not in ((), jnp.shape(targets)):
        raise ValueError(
            f"predictions must be a scalar or have the shape of targets {jnp.shape(targets)}, got "
            f"{jnp.shape(predictions)}."
        )
    errors = predictions - jax.lax.stop_gradient(targets)
    return add_gradient(jnp.zeros((), errors.dtype), -0.5 * jnp.mean(errors**2))


def path_scales(bound: Bound, log_weights: jax.Array) -> jax.Array:
    """The factors ``[S]`` by which doubly reparameterised gradients scale what flows back into each draw.

    With b_s = dB/d log w_s and h_s = d2B/d(log w_s)^2 they are (b_s - h_s) / b_s for any bound B: 1 for the mean (which
    is sticking the landing), the normalised weight for log-mean-exp, alpha + (1 - alpha) times it for Renyi's bound.

    Args:
      bound: log-weights ``[S]`` -> scalar, twice differentiable.
      log_weights: ``[S]``, in nats.

    Returns:
      ``[S]``; 0 where b_s is. No gradient flows through.

    Raises:
      TypeError, ValueError: naming the argument, its shape or dtype.

    References:
      Tucker, Lawson, Gu, Maddison (2019), *Doubly Reparameterized Gradient Estimators for Monte Carlo Objectives*.

    >>> import jax.numpy as jnp
    >>> from jaxelbo import bounds
    >>> path_scales(bounds.importance_weighted, jnp.log(jnp.array([1.0, 3.0]))).round(4)
    Array([0.25, 0.75], dtype=float32)
    """
    checks.check_bound(bound)
    checks.check_floating(log_weights, "log_weights", ("S",))
    log_weights = jax.lax.stop_gradient(log_weights)
    if bound is bounds.mean:
        return jnp.ones_like(log_weights)
    if bound is bounds.importance_weighted:  # the general form, without its S^2 terms
        return jax.nn.softmax(log_weights)
    slope = jax.grad(lambda log_weights: checks.check_scalar(bound(log_weights), "bound"))
    slopes = slope(log_weights)
    unit_vectors = jnp.eye(log_weights.shape[0], dtype=log_weights.dtype)
    curvatures = jax.vmap(lambda unit: jnp.vdot(unit, jax.jvp(slope, (log_weights,), (unit,))[1]))(unit_vectors)
    is_flat = slopes == 0
    return jnp.where(is_flat, 0, (slopes - curvatures) / jnp.where(is_flat, 1, slopes))


def _check_arrays(log_weights: jax.Array, score_log_probs: jax.Array) -> None:
    checks.check_floating(log_weights, "log_weights", ("S",))
    checks.check_floating(score_log_probs, "score_log_probs", ("S", "P"))
    if log_weights.shape[0] != score_log_probs.shape[0]:
        raise ValueError(
            f"score_log_probs must have a row for each of {log_weights.shape[0]} samples, got "
            f"shape {score_log_probs.shape}."
        )
