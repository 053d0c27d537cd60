"""Gaussians fitted by matching the gradient of log q to that of log p: batch and match, and its forerunner."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxelbo import checks, gaussian_moves, gaussians, monte_carlo, quasi_random
from jaxelbo.algorithms import gaussian_targets
from jaxelbo.gaussian_moves import Place
from jaxelbo.gaussians import product
from jaxelbo.types import Algorithm, Applied, Family, Key, LogJoint, Params


class ScoreMatchingState(NamedTuple):
    """The Gaussian so far."""

    place: Place


class ScoreMatchingInfo(NamedTuple):
    """Mean squared distance of the scores of p and q at the draws, in q's standard coordinates; scalar, 0 at q = p."""

    score_distance: jax.Array


def batch_and_match(log_joint: LogJoint, family: Family, *, num_samples: int, step_size: float) -> Algorithm:
    """Batch and match: the Gaussian that best matches the scores at a batch of draws and stays near the last one.

    Each step minimises a covariance-weighted distance of scores plus KL(q_old || q) / step_size in closed form. Where
    p is Gaussian and the batch spans it, a long step arrives. Affine-equivariant. S gradients a step.

    Args:
      log_joint: latent pytree -> scalar log p(x, z), in nats; further arguments are ``data``.
      family: `families.full_rank` of a latent.
      num_samples: S, static, even; draws are balanced.
      step_size: lambda, positive; the paper takes S D / (t + 1) at step t for densities that are no Gaussian.

    Returns:
      The `Algorithm`, started from the family's params; its ``info`` is a `ScoreMatchingInfo`.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Cai, Modi, Pillaud-Vivien, Margossian, Gower, Blei, Saul (2024), *Batch and Match: Black-Box Variational Inference
      with a Score-Based Divergence*.

    >>> import jax, jax.numpy as jnp, jaxelbo
    >>> family = jaxelbo.families.full_rank(jnp.zeros(2))
    >>> algorithm = batch_and_match(lambda z: -jnp.sum((z - 1) ** 2), family, num_samples=8, step_size=100.0)
    >>> start, key = family.init(jax.random.key(0)), jax.random.key(1)
    >>> jaxelbo.run_algorithm(start, key, algorithm, num_steps=8).params["loc"].round(2).tolist()
    [1.0, 1.0]
    """
    step_size = checks.check_positive(step_size, "step_size")
    num_samples = _check(log_joint, family, num_samples)
    step = Applied(_step_batch_and_match, (log_joint, family, num_samples, step_size))
    return Algorithm(Applied(_init, (family,)), step, gaussian_targets.params_of, gaussian_targets.place_of)


def gaussian_score_matching(log_joint: LogJoint, family: Family, *, num_samples: int) -> Algorithm:
    """Gaussian score matching: for each draw the nearest Gaussian that matches its score, then the mean of these.

    Nearest in KL(q_old || q), in closed form; no step size. Affine-equivariant. S gradients a step. With more than a
    few draws it moves slowly; `batch_and_match` does not.

    Args:
      log_joint: latent pytree -> scalar log p(x, z), in nats; further arguments are ``data``.
      family: `families.full_rank` of a latent.
      num_samples: S, static, even; draws are balanced.

    Returns:
      The `Algorithm`, started from the family's params; its ``info`` is a `ScoreMatchingInfo`.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Modi, Gower, Margossian, Yao, Blei, Saul (2023), *Variational Inference with Gaussian Score Matching*.

    >>> import jax, jax.numpy as jnp, jaxelbo
    >>> family = jaxelbo.families.full_rank(jnp.zeros(2))
    >>> algorithm = gaussian_score_matching(lambda z: -jnp.sum((z - 1) ** 2), family, num_samples=2)
    >>> start, key = family.init(jax.random.key(0)), jax.random.key(1)
    >>> jaxelbo.run_algorithm(start, key, algorithm, num_steps=200).params["loc"].round(2).tolist()
    [1.0, 1.0]
    """
    num_samples = _check(log_joint, family, num_samples)
    step = Applied(_step_score_matching, (log_joint, family, num_samples))
    return Algorithm(Applied(_init, (family,)), step, gaussian_targets.params_of, gaussian_targets.place_of)


def _check(log_joint: LogJoint, family: Family, num_samples: int) -> int:
    if gaussian_targets.check_gaussian(log_joint, family) is not gaussians.Dense:
        raise ValueError(f"scores are matched by a full covariance: family must be full_rank, got {family.name}.")
    return checks.check_even_count(num_samples, "num_samples")


def _init(family: Family, params: Params, key: Key, *data: Any) -> ScoreMatchingState:
    del key, data
    return ScoreMatchingState(gaussian_targets.first_place(family, params))


def _draw(
    log_joint: LogJoint, family: Family, num_samples: int, place: Place, key: Key, *data: Any
) -> tuple[jax.Array, jax.Array, ScoreMatchingInfo]:
    """Draws and scores ``[S, D]`` in the standard coordinates of q, where q's own score is minus the draw."""
    noise = quasi_random.balanced_normals(key, num_samples, place.loc.size, place.loc.dtype)
    gradient_at = jax.grad(monte_carlo.log_density(log_joint, family.unflatten, *data))
    gradients = jax.vmap(gradient_at)(gaussian_moves.points(place, noise))
    scores = gaussian_moves.pulled_back(place.factor, gradients)
    return noise, scores, ScoreMatchingInfo(jnp.mean(jnp.sum((scores + noise) ** 2, axis=1)))


def _moved(place: Place, mean: jax.Array, root: jax.Array) -> ScoreMatchingState:
    """Q with this mean and root of its covariance, both in the standard coordinates of ``place``."""
    log_det = place.log_det + jnp.linalg.slogdet(root)[1]
    return ScoreMatchingState(
        Place(place.loc + gaussian_moves.scaled(place.factor, mean), product(place.factor, root), log_det)
    )


def _step_batch_and_match(
    log_joint: LogJoint,
    family: Family,
    num_samples: int,
    step_size: float,
    state: ScoreMatchingState,
    key: Key,
    *data: Any,
) -> tuple[ScoreMatchingState, ScoreMatchingInfo]:
    noise, scores, info = _draw(log_joint, family, num_samples, state.place, key, *data)
    mean_score, share = jnp.mean(scores, axis=0), step_size / (1 + step_size)
    deviations, identity = scores - mean_score[None], jnp.eye(noise.shape[1], dtype=noise.dtype)
    # Balanced draws have mean 0, so the terms of their mean are gone. The new covariance solves S U S + S = V.
    u = step_size * product(deviations.T, deviations) / num_samples + share * jnp.outer(mean_score, mean_score)
    root_of_v = jnp.linalg.cholesky(identity + step_size * product(noise.T, noise) / num_samples)
    values, axes = jnp.linalg.eigh(product(root_of_v.T, product(u, root_of_v)))
    variances = 2 / (1 + jnp.sqrt(1 + 4 * jnp.maximum(values, 0)))
    root = product(root_of_v, axes) * jnp.sqrt(variances)[None]
    return _moved(state.place, share * product(root, product(root.T, mean_score)), root), info


def _step_score_matching(
    log_joint: LogJoint, family: Family, num_samples: int, state: ScoreMatchingState, key: Key, *data: Any
) -> tuple[ScoreMatchingState, ScoreMatchingInfo]:
    noise, scores, info = _draw(log_joint, family, num_samples, state.place, key, *data)

    def match(draw: jax.Array, score: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Mean and covariance nearest to N(0, I) whose score at the draw is the given one."""
        inner = jnp.vdot(draw, score)
        rho = 0.5 * jnp.sqrt(1 + 4 * (jnp.vdot(score, score) + inner**2)) - 0.5
        residual = score + draw
        mean = (residual + draw * jnp.vdot(score, residual) / (1 + rho - inner)) / (1 + rho)
        change = jnp.outer(draw, draw) - jnp.outer(mean - draw, mean - draw)
        return mean, change

    means, changes = jax.vmap(match)(noise, scores)
    covariance = jnp.eye(noise.shape[1], dtype=noise.dtype) + jnp.mean(changes, axis=0)
    return _moved(state.place, jnp.mean(means, axis=0), jnp.linalg.cholesky(covariance)), info
