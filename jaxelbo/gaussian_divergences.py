"""Divergences of two Gaussians beside KL: Renyi, Bhattacharyya, Wasserstein, Fisher.

Floor 1. Both are records of `gaussians` over the same vector, or `distributions.Normal`. Direction is that of the order
of arguments. Work is of order D^3.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxelbo import gaussians
from jaxelbo.distributions import domains
from jaxelbo.distributions.normals import Normal
from jaxelbo.gaussians import Gaussian, product


def renyi_divergence(q: Gaussian | Normal, p: Gaussian | Normal, alpha: jax.Array | float) -> jax.Array:
    """Renyi's divergence D_alpha(q || p) = log of the integral of q^alpha p^(1 - alpha), over alpha - 1; to be lowered.

    Smooth through alpha = 1, where it is KL(q || p); infinite where alpha above 1 asks for more spread than p has.

    Args:
      q: a Gaussian.
      p: another.
      alpha: positive.

    Returns:
      Scalar, in nats.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Gil, Alajaji, Linder (2013), *Renyi divergence measures for commonly used univariate continuous distributions*.

    >>> import jax.numpy as jnp
    >>> q, p = Normal(jnp.array(1.0), jnp.array(1.0)), Normal(jnp.array(0.0), jnp.array(1.0))
    >>> float(renyi_divergence(q, p, 2.0))  # alpha / 2 at equal scales
    1.0
    """
    q, p = _checked(q, p)
    root, shift = gaussians.standardised(q, p)
    axes, lengths, _ = jnp.linalg.svd(root)
    excess = (lengths - 1) * (lengths + 1)  # of q's variances in p's standard coordinates
    spread = (1 - alpha) * excess
    is_proper = jnp.all(spread > -1)
    spread = jnp.where(is_proper, spread, 0)
    moved = 0.5 * alpha * jnp.sum(product(axes.T, shift) ** 2 / (1 + spread))
    widened = 0.5 * jnp.sum(excess * _log1p_over(spread) - 2 * jnp.log(lengths))
    return jnp.where(is_proper, moved + widened, jnp.inf)


def bhattacharyya_distance(q: Gaussian | Normal, p: Gaussian | Normal) -> jax.Array:
    """Minus the logarithm of the integral of sqrt(q p), the same in both directions; to be lowered.

    Args, Raises: as `renyi_divergence`, of which it is half at alpha = 1/2.

    References:
      Bhattacharyya (1943), *On a measure of divergence between two statistical populations*.

    >>> import jax.numpy as jnp
    >>> q, p = Normal(jnp.array(2.0), jnp.array(1.0)), Normal(jnp.array(0.0), jnp.array(1.0))
    >>> float(bhattacharyya_distance(q, p))  # a quarter of half the squared distance
    0.5
    """
    return 0.5 * renyi_divergence(q, p, 0.5)


def squared_wasserstein(q: Gaussian | Normal, p: Gaussian | Normal) -> jax.Array:
    """The squared Wasserstein-2 distance: the least mean squared way from draws of q to draws of p; to be lowered.

    It depends on the units of the latent. Its first derivatives are exact; the turn of p's root that makes it least is
    held fixed, so second derivatives are not.

    Args, Raises: as `renyi_divergence`.

    Returns:
      Scalar, in squared units of the latent.

    References:
      Dowson, Landau (1982), *The Frechet distance between multivariate normal distributions*.

    >>> import jax.numpy as jnp
    >>> q, p = Normal(jnp.array(2.0), jnp.array(3.0)), Normal(jnp.array(0.0), jnp.array(1.0))
    >>> float(squared_wasserstein(q, p))
    8.0
    """
    q, p = _checked(q, p)
    root_q, root_p = gaussians.root(q), gaussians.root(p)
    left, _, right = jnp.linalg.svd(jax.lax.stop_gradient(product(root_p.T, root_q)))
    return jnp.sum((q.loc - p.loc) ** 2) + jnp.sum((root_q - product(root_p, product(left, right))) ** 2)


def fisher_divergence(q: Gaussian | Normal, p: Gaussian | Normal) -> jax.Array:
    """E_q of the squared distance of the scores, grad log q - grad log p; to be lowered.

    It depends on the units of the latent.

    Args, Raises: as `renyi_divergence`.

    Returns:
      Scalar, in one over squared units of the latent.

    References:
      Hyvarinen (2005), *Estimation of Non-Normalized Statistical Models by Score Matching*.

    >>> import jax.numpy as jnp
    >>> q, p = Normal(jnp.array(2.0), jnp.array(1.0)), Normal(jnp.array(0.0), jnp.array(1.0))
    >>> float(fisher_divergence(q, p))
    4.0
    """
    q, p = _checked(q, p)
    root_q, root_p = gaussians.root(q), gaussians.root(p)
    root, shift = gaussians.standardised(q, p)
    # Of the noise of q the score of p is -root_p^-T (root noise + shift), and that of q is -root_q^-T noise.
    of_p = jnp.linalg.solve(root_p.T, jnp.append(root, shift[:, None], axis=1))
    of_q = jnp.linalg.solve(root_q.T, jnp.eye(len(shift), dtype=shift.dtype))
    return jnp.sum(of_p[:, -1] ** 2) + jnp.sum((of_p[:, :-1] - of_q) ** 2)


def _checked(q: Any, p: Any) -> tuple[Gaussian, Gaussian]:
    for record, name in ((q, "q"), (p, "p")):
        domains.check_record(record, name)
        if not isinstance(record, Normal | Gaussian):
            raise TypeError(f"{name} must be a Gaussian, got {type(record).__name__}.")
    q, p = (
        gaussians.Diagonal(record.loc[None], jnp.log(record.scale)[None]) if isinstance(record, Normal) else record
        for record in (q, p)
    )
    if q.loc.shape != p.loc.shape:
        raise ValueError(f"q and p must be of one vector, got {q.loc.shape} and {p.loc.shape}.")
    return q, p


def _log1p_over(x: jax.Array) -> jax.Array:
    """log(1 + x) / x, 1 at 0."""
    is_small = jnp.abs(x) < 1e-4
    other = jnp.where(is_small, 1, x)
    return jnp.where(is_small, 1 - x / 2 + x**2 / 3 - x**3 / 4, jnp.log1p(other) / other)
