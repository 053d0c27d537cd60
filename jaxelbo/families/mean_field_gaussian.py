"""The mean-field Gaussian: every entry of the latent independent of the others."""

from jaxelbo import flattening, gaussians
from jaxelbo.families import gaussian
from jaxelbo.types import Family, Key, Latent, Params


def mean_field(latent_like: Latent, *, initial_scale: float = 0.1) -> Family:
    """The Gaussian with independent entries, over any pytree of floating-point leaves.

    Its params are ``{"loc": [D], "log_scale": [D]}`` on the flat latent of D entries (all leaves, ravelled and joined
    in the order of ``jax.tree.leaves``). Draws are reparameterised: z = loc + exp(log_scale) * noise.

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
    >>> family = mean_field({"slope": 0.0, "offsets": jax.ShapeDtypeStruct((3,), "float32")})
    >>> params = family.init(jax.random.key(0), start={"slope": 2.0, "offsets": jax.numpy.ones(3)})
    >>> jax.tree.map(jax.numpy.shape, params)
    {'loc': (4,), 'log_scale': (4,)}
    >>> sorted(family.sample(params, jax.random.key(1)))
    ['offsets', 'slope']
    """
    layout = flattening.layout_of(latent_like)
    gaussian.check_initial_scale(initial_scale)

    def init(key: Key, start: Latent | None = None) -> Params:
        del key
        return {
            "loc": gaussian.initial_location(layout, latent_like, start),
            "log_scale": gaussian.initial_log_scale(layout, initial_scale),
        }

    def distribution(params: Params) -> gaussians.Diagonal:
        return gaussians.Diagonal(params["loc"], params["log_scale"])

    return gaussian.gaussian_family("mean_field", layout, init, distribution)
