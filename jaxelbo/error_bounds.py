"""How far the posterior's moments can be from q's, as far as the second moment of the weights bounds it.

Floor 3.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxelbo import bounds, checks, pareto
from jaxelbo.types import Latent


class MomentBounds(NamedTuple):
    """Upper bounds on the errors of q's moments; of use where they are small.

    With X = exp(D_2(p || q)) - 1, the variance of the normalised weights, Cauchy and Schwarz give |E_p f - E_q f| <=
    sd_q(f) sqrt(X) for any f, and Bolley and Villani a bound on transport. D_2 is not known, but at most 2 (chi bound -
    ELBO), which takes its place.

    Attributes:
      renyi_divergence: 2 (chi bound - ELBO), in nats; at least the Rényi divergence D_2(p || q).
      mean_error: a latent: |posterior mean - q's mean| is at most this.
      sd_error: a latent: |posterior standard deviation - q's| is at most this.
      wasserstein: a latent: the 2-Wasserstein distance of the marginals is at most this.
      is_vacuous: a mean may be off by more than q's standard deviation for all that is known.
      is_unreliable: the squared weights have a tail that their mean cannot be read off, Pareto k above 0.7; the chi
        bound, and all here, may then be far too low.
    """

    renyi_divergence: jax.Array
    mean_error: Latent
    sd_error: Latent
    wasserstein: Latent
    is_vacuous: jax.Array
    is_unreliable: jax.Array


def moment_bounds(log_weights: jax.Array, latents: Latent) -> MomentBounds:
    """Bounds on the errors of q's moments, from draws of q and their log-weights.

    Estimand: what `MomentBounds` says, a bound for the population. The estimate has the Monte Carlo error of the
    squared weights' mean, and is biased low.

    Args:
      log_weights: log p(x, z) - log q(z), ``[S]``; -inf makes all infinite.
      latents: floating-point leaves ``[S, ...]``.

    Returns:
      `MomentBounds`.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Huggins, Kasprzak, Campbell, Broderick (2020), *Validated Variational Inference via Practical Posterior Error
      Bounds*;
      Bolley, Villani (2005), *Weighted Csiszár-Kullback-Pinsker Inequalities and Applications to Transportation
      Inequalities*.

    >>> import jax, jax.numpy as jnp
    >>> normal = jax.scipy.stats.norm.logpdf
    >>> latents = jax.random.normal(jax.random.key(0), (10_000,))
    >>> found = moment_bounds(normal(latents, 0.1) - normal(latents), latents)
    >>> bool(0.1 < found.mean_error < 0.2), bool(found.is_vacuous)
    (True, False)
    """
    checks.check_floating(log_weights, "log_weights", ("S",))
    checks.check_float_leaves(latents, "latents")
    checks.check_leading_axis(latents, log_weights.size, "latents", "draws")
    # The evidence cancels; taken out first, it does not take the digits with it.
    shifted = log_weights - jnp.max(jnp.where(jnp.isfinite(log_weights), log_weights, -jnp.inf))
    difference = bounds.chi(shifted, 2) - bounds.mean(shifted)
    divergence = jnp.where(jnp.isfinite(difference), jnp.maximum(2 * difference, 0), jnp.inf)
    excess = jnp.expm1(divergence)

    def of_leaf(leaf: jax.Array) -> tuple[jax.Array, ...]:
        offset = leaf - jnp.mean(leaf, axis=0, keepdims=True)
        unit = jnp.max(jnp.abs(offset), axis=0)  # fourth powers of small and of large units are no numbers
        offset = offset / jnp.where(unit > 0, unit, 1)[None]
        variance, fourth = jnp.mean(offset**2, axis=0), jnp.mean(offset**4, axis=0)
        mean_error = jnp.sqrt(variance * excess)
        transport = 2 * (fourth * excess) ** 0.25
        # E_p (z - E_q z)^2 is within this of var_q; the posterior's variance is less by the squared error of the mean.
        spread_error = jnp.sqrt(jnp.maximum(fourth - variance**2, 0) * excess)
        sd, lowest = jnp.sqrt(variance), jnp.sqrt(jnp.maximum(variance - spread_error - mean_error**2, 0))
        sd_error = jnp.minimum(jnp.maximum(sd - lowest, jnp.sqrt(variance + spread_error) - sd), transport)
        errors = mean_error, jnp.where(excess < jnp.inf, sd_error, jnp.inf), transport
        return tuple(jnp.where(unit > 0, unit * error, 0) for error in errors)  # nothing moves what does not vary

    leaves, structure = jax.tree.flatten(latents)
    mean_error, sd_error, wasserstein = map(structure.unflatten, zip(*map(of_leaf, leaves), strict=True))
    return MomentBounds(divergence, mean_error, sd_error, wasserstein, excess > 1, pareto.are_heavy(2 * log_weights))
