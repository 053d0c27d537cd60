"""The point mass: all of q in one place, by which the bound is a log joint and its optimum the mode."""

import jax
import jax.numpy as jnp

from jaxelbo import flattening
from jaxelbo.families import flat_latents, gaussian
from jaxelbo.types import Family, Key, Latent, Params


def point_mass(latent_like: Latent) -> Family:
    """The degenerate member: every draw is ``loc``, and the ELBO is log p(x, loc), up to an infinite constant.

    Raising the bound finds a posterior mode (maximum a posteriori), which depends on the coordinates of the latent.
    Its params are ``{"loc": [D]}``. Its entropy, minus infinity, is counted as zero, and so is its log density at
    ``loc``; elsewhere that is minus infinity.

    Args:
      latent_like: a latent, or its shapes; also the default start.

    Returns:
      The `Family`. Its ``init`` ignores the key.

    Raises:
      TypeError, ValueError: a leaf that is not floating-point, an empty pytree.

    >>> import jax, jaxelbo
    >>> family = point_mass({"a": 2.0})
    >>> params, key = family.init(jax.random.key(0)), jax.random.key(1)
    >>> float(jaxelbo.elbo(params, key, lambda z: -z["a"] ** 2, family, num_samples=1))
    -4.0
    """
    layout = flattening.layout_of(latent_like)

    def init(key: Key, start: Latent | None = None) -> Params:
        del key
        return {"loc": gaussian.initial_location(layout, latent_like, start)}

    def draw(params: Params, key: Key) -> tuple[jax.Array, jax.Array]:
        del key
        return params["loc"], jnp.zeros((), layout.dtype)

    def log_density(params: Params, flat: jax.Array) -> jax.Array:
        return jnp.where(jnp.all(flat == params["loc"]), 0, -jnp.inf).astype(layout.dtype)

    def entropy(params: Params) -> jax.Array:
        del params
        return jnp.zeros((), layout.dtype)

    def moments(params: Params) -> tuple[jax.Array, jax.Array]:
        return params["loc"], jnp.zeros_like(params["loc"])

    return flat_latents.reparameterised("point_mass", layout, init, draw, log_density, entropy=entropy, moments=moments)
