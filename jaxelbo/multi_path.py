"""Many paths to a posterior: draws of the Gaussians that Pathfinder finds from many starts, chosen by their weights.

Floor 5.3.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxelbo import checks, families, fitting, monte_carlo, pareto, stepping
from jaxelbo.algorithms import pathfinder_paths
from jaxelbo.types import Key, Latent, LogJoint, Params

MEMORY_LENGTH = 6


class Paths(NamedTuple):
    """What many paths gave.

    Attributes:
      latents: draws, leaves ``[S, ...]``.
      pareto_k: of the importance weights of all proposals; below 0.7 the draws can be trusted.
      elbos: the bound that each path reached, ``[P]``, in nats, as a few draws estimate it.
    """

    latents: Latent
    pareto_k: jax.Array
    elbos: jax.Array


def pathfinder_draws(
    log_joint: LogJoint,
    latents: Latent,
    key: Key,
    *,
    num_samples: int,
    num_steps: int = 100,
    num_proposals: int = 1_000,
) -> Paths:
    """Multi-path Pathfinder: draws from the best Gaussian of each path, resampled by Pareto-smoothed weights.

    Estimand: draws of p(z | x). Each path proposes as many draws; a draw's weight is p over the mixture of all paths'
    q, not over its own alone, so that modes count by their mass and not by how many paths ended there. Bias: what all
    paths missed; with k below 0.7 it vanishes with the number of proposals.

    Args:
      log_joint: latent pytree -> scalar log p(x, z), in nats.
      latents: P starts, leaves ``[P, ...]``, far apart.
      key: one random key.
      num_samples: S, draws to return, with replacement, static.
      num_steps: of each path, static.
      num_proposals: draws of each path, static.

    Returns:
      `Paths`.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Zhang, Carpenter, Gelman, Vehtari (2022), *Pathfinder: Parallel Quasi-Newton Variational Inference*;
      Elvira, Martino, Luengo, Bugallo (2019), *Generalized Multiple Importance Sampling* (the mixture in the weights).

    >>> import jax, jax.numpy as jnp, jaxelbo
    >>> log_joint = lambda z: jnp.logaddexp(-2 * (z - 2.0) ** 2, -2 * (z + 2.0) ** 2)  # two modes
    >>> starts = jnp.linspace(-4.0, 4.0, 8)
    >>> result = jaxelbo.pathfinder_draws(log_joint, starts, jax.random.key(0), num_samples=1_000)
    >>> bool(0.35 < (result.latents > 0).mean() < 0.65)
    True
    """
    checks.check_callable(log_joint, "log_joint")
    checks.check_key(key)
    checks.check_float_leaves(latents, "latents")
    num_samples = checks.check_count(num_samples, "num_samples")
    num_steps = checks.check_count(num_steps, "num_steps")
    num_proposals = checks.check_count(num_proposals, "num_proposals")
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(latents)]
    if not shapes[0] or shapes[0][0] == 0:
        raise ValueError(f"latents must have a leading axis of at least one start, got shape {shapes[0]}.")
    num_paths = shapes[0][0]
    checks.check_leading_axis(latents, num_paths, "latents", "starts")
    if not checks.is_known((latents, key)):
        return _follow_all(log_joint, num_samples, num_steps, num_proposals, latents, key)
    checks.check_static(log_joint, "log_joint")
    return stepping.compiled(_follow_all, log_joint, num_samples, num_steps, num_proposals)(latents, key)


def _follow_all(
    log_joint: LogJoint, num_samples: int, num_steps: int, num_proposals: int, latents: Latent, key: Key
) -> Paths:
    num_paths = jax.tree.leaves(latents)[0].shape[0]
    key_paths, key_choose = jax.random.split(key)
    algorithm = pathfinder_paths.pathfinder(log_joint, memory_length=MEMORY_LENGTH)

    first = jax.tree.map(lambda leaf: jnp.asarray(leaf)[0], latents)
    size = sum(leaf.size for leaf in jax.tree.leaves(first))
    family = families.low_rank(first, rank=min(size, 2 * MEMORY_LENGTH))

    def follow(latent: Latent, key: Key) -> tuple[Params, jax.Array, Latent]:
        key_path, key_propose = jax.random.split(key)
        result = fitting.run_algorithm(latent, key_path, algorithm, num_steps=num_steps)
        proposals = monte_carlo.over_samples(lambda key: family.sample(result.params, key), key_propose, num_proposals)
        return result.params, result.algorithm_state[0].elbo, proposals

    params, elbos, proposals = jax.vmap(follow)(latents, jax.random.split(key_paths, num_paths))

    def log_weight(latent: Latent) -> jax.Array:
        of_each = jax.vmap(family.log_prob, (0, None))(params, latent)
        return monte_carlo.evaluate(log_joint, latent, of_each.dtype) - jax.nn.logsumexp(of_each)

    pooled = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), proposals)
    log_weights = jax.vmap(log_weight)(pooled)
    smoothed = pareto.smooth(jnp.where(jnp.isnan(log_weights), -jnp.inf, log_weights))
    chosen = jax.random.categorical(key_choose, smoothed.log_weights, shape=(num_samples,))
    return Paths(jax.tree.map(lambda leaf: leaf[chosen], pooled), smoothed.pareto_k, elbos)
