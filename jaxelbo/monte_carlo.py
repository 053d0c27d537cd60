"""Averages over draws of q: the loop over samples, log-weights, and an estimate with its standard error.

Floor 3, below the estimators. Nothing here checks its arguments; the public functions above do.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxelbo import bounds, checks, custom_gradients, device_meshes, finite
from jaxelbo.types import Bound, Estimate, Family, Key, Latent, LogJoint, Params, PyTree

MAX_ENTRIES = 2**22
"""Of draws that are weighed at once."""


def over_samples(function: Callable[..., PyTree], key: Key, num_samples: int, *arrays: jax.Array) -> PyTree:
    """``function`` at S keys, and at the rows of arrays ``[S, ...]`` beside them; leaves ``[S, ...]``.

    A single draw takes the key itself and no vmap, which is faster.
    """
    if num_samples == 1:
        return jax.tree.map(lambda leaf: leaf[None], function(key, *(array[0] for array in arrays)))
    return jax.vmap(function)(device_meshes.spread(jax.random.split(key, num_samples)), *arrays)


def evaluate(log_joint: LogJoint, latent: Latent, dtype: jax.typing.DTypeLike) -> jax.Array:
    """The log joint at one latent in the given dtype, refused by name where it is no floating-point scalar."""
    return checks.check_scalar(log_joint(latent), "log_joint").astype(dtype)


def log_density(
    log_joint: Callable[..., jax.Array], unflatten: Callable[[jax.Array], Latent] | None, *data: PyTree
) -> Callable[[jax.Array], jax.Array]:
    """The log joint as a function of the flat latent ``[D]``, in its dtype; ``unflatten`` of a family that has it."""
    return lambda flat: evaluate(lambda latent: log_joint(latent, *data), unflatten(flat), flat.dtype)


def draw_and_scores(params: Params, key: Key, family: Family) -> tuple[Latent, jax.Array, jax.Array]:
    """A draw, its log-probability and its score log-probabilities ``[P]``, in one pass where the family has one."""
    if family.sample_and_scores is not None:
        return family.sample_and_scores(params, key)
    latent, log_q = family.sample_and_log_prob(params, key)
    return latent, log_q, family.score_log_probs(params, latent)


def _log_weight(params: Params, log_joint: LogJoint, family: Family, key: Key) -> jax.Array:
    """Log p(x, z) - log q(z) at one draw."""
    latent, log_q = family.sample_and_log_prob(params, key)
    return evaluate(log_joint, latent, log_q.dtype) - log_q


def log_weights_of_draws(params: Params, key: Key, log_joint: LogJoint, family: Family, num_samples: int) -> jax.Array:
    """The differences log p(x, z) - log q(z) at S draws, ``[S]``, differentiated through reparameterised draws."""
    return over_samples(functools.partial(_log_weight, params, log_joint, family), key, num_samples)


def log_weights_in_parts(
    params: Params, key: Key, log_joint: LogJoint, family: Family, num_samples: int, size: int
) -> jax.Array:
    """The same without gradient for a latent of D entries, so many draws at a time that they fit into memory.

    A log joint that is NaN counts as -inf.
    """
    log_weight = functools.partial(_log_weight, params, log_joint, family)
    keys, at_once = jax.random.split(key, num_samples), max(1, MAX_ENTRIES // size)
    if at_once >= num_samples:
        log_weights = jax.vmap(log_weight)(keys)
    else:
        log_weights = jax.lax.map(log_weight, keys, batch_size=at_once)
    return jnp.where(jnp.isnan(log_weights), -jnp.inf, log_weights)


def weights_and_scores(
    params: Params, key: Key, log_joint: LogJoint, family: Family, bound: Bound, num_samples: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The bound, its log-weights ``[S]``, and the score log-probabilities of the same draws, ``[S, P]``.

    The bound's gradient is that through the weights. For ``bounds.mean`` the gradient of the score log-probabilities
    inside them is zero in the mean and left out.
    """
    inside = (scores_left_out if bound is bounds.mean else scores_kept)(params, family)

    def weigh(key: Key) -> tuple[jax.Array, jax.Array]:
        latent, log_q, scores = draw_and_scores(params, key, family)
        return evaluate(log_joint, latent, log_q.dtype) - inside(log_q, scores), scores

    log_weights, scores = over_samples(weigh, key, num_samples)
    return apply_bound(bound, log_weights), log_weights, scores


def is_finite(params: Params, family: Family) -> bool:
    """Whether the family is known to have a finite support, no part of it reparameterised."""
    return family.distribution is not None and finite.is_finite(jax.eval_shape(family.distribution, params))


def scores_left_out(params: Params, family: Family) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """A function ``(log_q, scores) -> log_q`` that takes the gradient of the scores out of log q, and not its value."""
    if is_finite(params, family):
        return lambda log_q, scores: jax.lax.stop_gradient(log_q)  # without a gradient to make and to cancel

    def leave_out(log_q: jax.Array, scores: jax.Array) -> jax.Array:
        total = jnp.sum(scores)
        return log_q - (total - jax.lax.stop_gradient(total))

    return leave_out


def scores_kept(params: Params, family: Family) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """A function ``(log_q, scores) -> log_q``, whose gradient joins that of the scores where they are all of log q."""
    if is_finite(params, family):
        return lambda log_q, scores: custom_gradients.add_gradient(jax.lax.stop_gradient(log_q), jnp.sum(scores))
    return lambda log_q, scores: log_q


def terms_and_scores(
    params: Params, key: Key, log_density: LogJoint, family: Family, num_samples: int
) -> tuple[jax.Array, jax.Array]:
    """Values of ``log_density`` at S draws, ``[S]``, and their scores ``[S, P]``, for estimates of E_q[log_density]."""

    def term(key: Key) -> tuple[jax.Array, jax.Array]:
        latent = family.sample(params, key)
        scores = family.score_log_probs(params, latent)
        return evaluate(log_density, latent, scores.dtype), scores

    return over_samples(term, key, num_samples)


def apply_bound(bound: Bound, log_weights: jax.Array) -> jax.Array:
    """The bound of log-weights, refused by name where it is no floating-point scalar."""
    return checks.check_scalar(bound(log_weights), "bound")


def estimate_of(terms: jax.Array) -> Estimate:
    """The mean of independent terms ``[S]``, S >= 2, and its standard error."""
    return Estimate(jnp.mean(terms), jnp.std(terms, ddof=1) / jnp.sqrt(jnp.asarray(terms.size, terms.dtype)))
