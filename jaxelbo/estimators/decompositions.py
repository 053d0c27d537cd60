"""Rao-Blackwellised score functions: each part is told only the terms of the log joint that it can have caused.

Floor 3.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxelbo import checks, monte_carlo, surrogates, validity
from jaxelbo.types import Bound, Estimator, Family, Key, Latent, LogJoint, Params


def reward_to_go(step_log_joint: Callable[[Latent], jax.Array]) -> Estimator:
    """The score function of a sequence in which each step answers for itself and what follows, leave-one-out.

    Value: the mean of S log-weights. Gradient: pathwise where it can be; step t's score is multiplied by the terms
    t, ..., T of log p - log q less their mean over the other samples. Unbiased for the gradient of the ELBO if entry t
    of ``step_log_joint`` depends on z_1, ..., z_t alone; as a rule with less variance than `leave_one_out`, but not
    where what is left out would have cancelled other terms.

    Args:
      step_log_joint: latent -> ``[T]``, the terms of log p(x, z) by step, in nats, summing to the log joint. It takes
        the place of ``log_joint``, which is not evaluated; model parameters are differentiated through it. If the terms
        do sum to it, the value is that of the default estimator at the same key.

    Returns:
      The `Estimator`, for families with one score log-probability a step (P = T) and ``bounds.mean``.

    Raises:
      TypeError, ValueError: terms that are no function; when called, terms of another shape.

    References:
      Mnih, Gregor (2014), *Neural Variational Inference and Learning in Belief Networks*;
      Schulman, Heess, Weber, Abbeel (2015), *Gradient Estimation Using Stochastic Computation Graphs*.

    >>> import jax, jaxelbo
    >>> family = jaxelbo.families.bernoulli(jax.numpy.zeros(4))
    >>> params, estimator = family.init(jax.random.key(0)), reward_to_go(lambda z: z * jax.numpy.arange(4.0))
    >>> arguments = params, jax.random.key(1), lambda z: z @ jax.numpy.arange(4.0), family
    >>> gradient = jax.grad(jaxelbo.elbo)(*arguments, num_samples=8, estimator=estimator)
    """
    checks.check_callable(step_log_joint, "step_log_joint")
    return functools.partial(_reward_to_go, step_log_joint)


def _reward_to_go(
    step_log_joint: Callable[[Latent], jax.Array],
    params: Params,
    key: Key,
    log_joint: LogJoint,
    family: Family,
    bound: Bound,
    num_samples: int,
) -> jax.Array:
    del log_joint
    traits = validity.check("reward_to_go", params, key, family, bound, num_samples)

    leave_out, is_finite = monte_carlo.scores_left_out(params, family), monte_carlo.is_finite(params, family)

    def weigh(key: Key) -> tuple[jax.Array, jax.Array, jax.Array]:
        latent, log_q, scores = monte_carlo.draw_and_scores(params, key, family)
        terms = _check_terms(step_log_joint(latent), traits.num_scores, "step_log_joint").astype(log_q.dtype)
        to_go = jax.lax.cumsum(jax.lax.stop_gradient(terms - scores), reverse=True)
        if not is_finite:
            # What is reparameterised may depend on any step before it, so every step answers for all of its density.
            to_go -= jax.lax.stop_gradient(log_q - jnp.sum(scores))
        return jnp.sum(terms) - leave_out(log_q, scores), scores, to_go

    log_weights, scores, to_go = monte_carlo.over_samples(weigh, key, num_samples)
    return surrogates.add_scores(monte_carlo.apply_bound(bound, log_weights), scores, _leave_one_out(to_go))


def rao_blackwellised(local_log_joint: Callable[[Latent], jax.Array]) -> Estimator:
    """The score function in which each independent part answers for the terms that involve it, leave-one-out.

    Value: the mean of S log-weights. Gradient: pathwise where it can be; part i's score is multiplied by its local
    log joint less its log-probability, less the mean of that over the other samples. Unbiased for the gradient of the
    ELBO if what entry i leaves out does not depend on part i; as a rule with less variance than `leave_one_out`.

    Args:
      local_log_joint: latent -> ``[P]``, entry i the sum of all terms of log p(x, z) that involve part i, in nats, in
        the order of the family's ``score_log_probs``. Terms that involve several parts stand in several entries.

    Returns:
      The `Estimator`, for families of independent parts and ``bounds.mean``.

    Raises:
      TypeError, ValueError: terms that are no function; when called, terms of another shape.

    References:
      Ranganath, Gerrish, Blei (2014), *Black Box Variational Inference*.

    >>> import jax, jaxelbo
    >>> family = jaxelbo.families.bernoulli(jax.numpy.zeros(4))
    >>> params, weights = family.init(jax.random.key(0)), jax.numpy.arange(4.0)
    >>> arguments = params, jax.random.key(1), lambda z: z @ weights, family
    >>> estimator = rao_blackwellised(lambda z: z * weights)
    >>> gradient = jax.grad(jaxelbo.elbo)(*arguments, num_samples=8, estimator=estimator)
    """
    checks.check_callable(local_log_joint, "local_log_joint")
    return functools.partial(_rao_blackwellised, local_log_joint)


def _rao_blackwellised(
    local_log_joint: Callable[[Latent], jax.Array],
    params: Params,
    key: Key,
    log_joint: LogJoint,
    family: Family,
    bound: Bound,
    num_samples: int,
) -> jax.Array:
    traits = validity.check("rao_blackwellised", params, key, family, bound, num_samples)

    leave_out = monte_carlo.scores_left_out(params, family)

    def weigh(key: Key) -> tuple[jax.Array, jax.Array, jax.Array]:
        latent, log_q, scores = monte_carlo.draw_and_scores(params, key, family)
        local = _check_terms(local_log_joint(latent), traits.num_scores, "local_log_joint").astype(log_q.dtype)
        log_weight = monte_carlo.evaluate(log_joint, latent, log_q.dtype) - leave_out(log_q, scores)
        return log_weight, scores, jax.lax.stop_gradient(local - scores)

    log_weights, scores, local = monte_carlo.over_samples(weigh, key, num_samples)
    return surrogates.add_scores(monte_carlo.apply_bound(bound, log_weights), scores, _leave_one_out(local))


def has_terms(estimator: Estimator) -> bool:
    """Whether an estimator was made here, and so holds terms of a log joint of its own."""
    return getattr(estimator, "func", None) in (_reward_to_go, _rao_blackwellised)


def _leave_one_out(rewards: jax.Array) -> jax.Array:
    """Signals of rewards ``[S, P]``: each less the mean of the other samples', divided by S, in closed form."""
    return (rewards - jnp.mean(rewards, axis=0, keepdims=True)) / (rewards.shape[0] - 1)


def _check_terms(terms: jax.Array, num_parts: int, name: str) -> jax.Array:
    if jnp.shape(terms) != (num_parts,) or not jnp.issubdtype(jnp.result_type(terms), jnp.floating):
        raise ValueError(
            f"{name} must return floating-point terms of shape {(num_parts,)}, one for each part of the family without "
            f"gradient, got {checks.describe(terms)}."
        )
    return jnp.asarray(terms)
