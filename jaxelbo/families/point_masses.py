"""The point mass: all of q in one place, by which the bound is a log joint and its optimum the mode."""

import jax
import jax.numpy as jnp

from jaxelbo import flattening
from jaxelbo.families import gaussian
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

    def sample(params: Params, key: Key) -> Latent:
        del key
        return flattening.unflatten(layout, params["loc"])

    def log_prob(params: Params, latent: Latent) -> jax.Array:
        is_there = jnp.all(flattening.flatten(layout, latent) == params["loc"])
        return jnp.where(is_there, 0, -jnp.inf).astype(layout.dtype)

    def sample_and_log_prob(params: Params, key: Key) -> tuple[Latent, jax.Array]:
        return sample(params, key), jnp.zeros((), layout.dtype)

    def location_and_scale(params: Params) -> tuple[Latent, Latent]:
        zeros = jnp.zeros_like(params["loc"])
        return flattening.unflatten(layout, params["loc"]), flattening.unflatten(layout, zeros)

    return Family(
        name="point_mass",
        init=init,
        sample=sample,
        log_prob=log_prob,
        sample_and_log_prob=sample_and_log_prob,
        score_log_probs=lambda params, latent: jnp.zeros((0,), layout.dtype),
        entropy=lambda params: jnp.zeros((), layout.dtype),
        location_and_scale=location_and_scale,
        unflatten=lambda flat: flattening.unflatten(layout, flat),
    )
