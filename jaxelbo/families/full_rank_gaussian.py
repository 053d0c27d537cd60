"""The full-rank Gaussian: any covariance."""

import jax.numpy as jnp

from jaxelbo import flattening, gaussians
from jaxelbo.families import gaussian
from jaxelbo.types import Family, Key, Latent, Params


def full_rank(latent_like: Latent, *, initial_scale: float = 0.1) -> Family:
    """The Gaussian with any covariance, over any pytree of floating-point leaves.

    Its params are ``{"loc": [D], "log_scale": [D], "unit_tril": [D, D]}`` on the flat latent of D entries (all leaves,
    ravelled and joined in the order of ``jax.tree.leaves``); scale_tril = diag(exp(log_scale)) (I + the entries of
    unit_tril below the diagonal). Draws are reparameterised, z = loc + scale_tril @ noise, and their log density needs
    no linear solve; ``log_prob`` of a given latent needs one.

    Args:
      latent_like: a latent, or its shapes (``jax.ShapeDtypeStruct``); also the default start.
      initial_scale: standard deviation of every entry after ``init``; positive. Narrow starts are safe, wide ones can
        diverge. Later, in float32, scales are numbers for |log_scale| up to about 80.

    Returns:
      The `Family`. Its ``init`` ignores the key.

    Raises:
      TypeError: a leaf that is not floating-point, by its path.
      ValueError: an empty pytree, or a scale that is not positive.

    References:
      Kucukelbir, Tran, Ranganath, Gelman, Blei (2017), *Automatic Differentiation Variational Inference*.

    >>> import jax
    >>> family = full_rank({"slope": 0.0, "offsets": jax.ShapeDtypeStruct((3,), "float32")})
    >>> jax.tree.map(jax.numpy.shape, family.init(jax.random.key(0)))
    {'loc': (4,), 'log_scale': (4,), 'unit_tril': (4, 4)}
    """
    layout = flattening.layout_of(latent_like)
    gaussian.check_initial_scale(initial_scale)

    def init(key: Key, start: Latent | None = None) -> Params:
        del key
        return {
            "loc": gaussian.initial_location(layout, latent_like, start),
            "log_scale": gaussian.initial_log_scale(layout, initial_scale),
            "unit_tril": jnp.zeros((layout.size, layout.size), layout.dtype),
        }

    def distribution(params: Params) -> gaussians.Dense:
        return gaussians.Dense(params["loc"], params["log_scale"], params["unit_tril"])

    return gaussian.gaussian_family("full_rank", layout, init, distribution)
