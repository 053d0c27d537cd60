"""The low-rank Gaussian: a diagonal and a few directions of covariance."""

import jax
import jax.numpy as jnp

from jaxelbo import checks, flattening, gaussians
from jaxelbo.families import gaussian
from jaxelbo.types import Family, Key, Latent, Params


def low_rank(latent_like: Latent, *, rank: int, initial_scale: float = 0.1) -> Family:
    """The Gaussian with covariance diag(s) (I + W W') diag(s), W of few columns, over any pytree of floating leaves.

    Its params are ``{"loc": [D], "log_scale": [D], "low_rank": [D, R]}`` on the flat latent of D entries (all leaves,
    ravelled and joined in the order of ``jax.tree.leaves``), s = exp(log_scale). A draw, its density and the gradients
    of both take time and memory of order D R; nothing of size D x D is made.

    Args:
      latent_like: a latent, or its shapes (``jax.ShapeDtypeStruct``); also the default start.
      rank: R, static, at least 1.
      initial_scale: standard deviation of every entry after ``init``, nearly; positive.

    Returns:
      The `Family`. Its ``init`` draws small directions by the key: all zero would be a saddle of the bound.

    Raises:
      TypeError: a leaf that is not floating-point, by its path.
      ValueError: an empty pytree, a rank below 1, or a scale that is not positive.

    References:
      Ong, Nott, Smith (2018), *Gaussian Variational Approximation with a Factor Covariance Structure*.

    >>> import jax
    >>> family = low_rank({"slope": 0.0, "offsets": jax.ShapeDtypeStruct((3,), "float32")}, rank=2)
    >>> jax.tree.map(jax.numpy.shape, family.init(jax.random.key(0)))
    {'loc': (4,), 'log_scale': (4,), 'low_rank': (4, 2)}
    """
    layout = flattening.layout_of(latent_like)
    rank = checks.check_count(rank, "rank")
    gaussian.check_initial_scale(initial_scale)

    def init(key: Key, start: Latent | None = None) -> Params:
        return {
            "loc": gaussian.initial_location(layout, latent_like, start),
            "log_scale": gaussian.initial_log_scale(layout, initial_scale),
            "low_rank": 0.1 * jax.random.normal(key, (layout.size, rank), layout.dtype) / jnp.sqrt(rank),
        }

    def distribution(params: Params) -> gaussians.LowRank:
        return gaussians.LowRank(params["loc"], params["log_scale"], params["low_rank"])

    return gaussian.gaussian_family("low_rank", layout, init, distribution)
