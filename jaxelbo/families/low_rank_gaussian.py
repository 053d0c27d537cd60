"""The low-rank Gaussian: a diagonal and a few directions of covariance."""

import jax
import jax.numpy as jnp

from jaxelbo import checks, flattening, gaussians
from jaxelbo.families import gaussian
from jaxelbo.types import Family, Key, Latent, Params

INITIAL_STRETCH = 1e-3
"""Not zero, at which directions have no gradient."""


def low_rank(latent_like: Latent, *, rank: int, initial_scale: float = 0.1) -> Family:
    """The Gaussian with a diagonal and a few directions of covariance, over any pytree of floating leaves.

    A square root of its covariance is diag(s) (I + V (diag(exp t) - I) V'), with V of R orthonormal columns: along
    these q is wider (t > 0) or narrower (t < 0) than the diagonal alone. Its params are ``{"loc": [D],
    "log_scale": [D], "directions": [D, R], "log_stretch": [R]}`` on the flat latent of D entries (all leaves, ravelled
    and joined in the order of ``jax.tree.leaves``): s = exp(log_scale), t = log_stretch, and V is ``directions`` made
    orthonormal. A draw, its density and the gradients of both take time and memory of order D R; nothing of size D x D
    is made.

    Args:
      latent_like: a latent, or its shapes (``jax.ShapeDtypeStruct``); also the default start.
      rank: R, static, from 1 to D.
      initial_scale: standard deviation of every entry after ``init``, nearly; positive.

    Returns:
      The `Family`. Its ``init`` draws directions by the key, with small stretches.

    Raises:
      TypeError: a leaf that is not floating-point, by its path.
      ValueError: an empty pytree, a rank below 1 or above D, or a scale that is not positive.

    References:
      Ong, Nott, Smith (2018), *Gaussian Variational Approximation with a Factor Covariance Structure*;
      Zhang, Carpenter, Gelman, Vehtari (2022), *Pathfinder* (this root of a covariance).

    >>> import jax
    >>> family = low_rank({"slope": 0.0, "offsets": jax.ShapeDtypeStruct((3,), "float32")}, rank=2)
    >>> jax.tree.map(jax.numpy.shape, family.init(jax.random.key(0)))
    {'directions': (4, 2), 'loc': (4,), 'log_scale': (4,), 'log_stretch': (2,)}
    """
    layout = flattening.layout_of(latent_like)
    rank = checks.check_count(rank, "rank")
    if rank > layout.size:
        raise ValueError(f"rank must be at most the number of latent entries, {layout.size}, got {rank}.")
    gaussian.check_initial_scale(initial_scale)

    def init(key: Key, start: Latent | None = None) -> Params:
        return {
            "loc": gaussian.initial_location(layout, latent_like, start),
            "log_scale": gaussian.initial_log_scale(layout, initial_scale),
            "directions": jax.random.normal(key, (layout.size, rank), layout.dtype),
            "log_stretch": jnp.full((rank,), INITIAL_STRETCH, layout.dtype),
        }

    def distribution(params: Params) -> gaussians.LowRank:
        return gaussians.LowRank(params["loc"], params["log_scale"], params["directions"], params["log_stretch"])

    return gaussian.gaussian_family("low_rank", layout, init, distribution)
