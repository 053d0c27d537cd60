"""What the Gaussian families share: a Gaussian on the flat vector, seen as a distribution over the user's pytree.

Floor 2.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxelbo import checks, flattening, gaussians
from jaxelbo.families import flat_latents
from jaxelbo.types import Family, Key, Latent, Params


def gaussian_family(
    name: str,
    layout: flattening.Layout,
    init: Callable[..., Params],
    gaussian: Callable[[Params], gaussians.Gaussian],
) -> Family:
    """Makes the record from ``init`` and the map from params to a Gaussian over the flat vector."""

    def draw(params: Params, key: Key) -> tuple[jax.Array, jax.Array]:
        return gaussians.draw(gaussian(params), key)

    def log_density(params: Params, flat: jax.Array) -> jax.Array:
        return gaussians.log_density(gaussian(params), flat)

    def entropy(params: Params) -> jax.Array:
        return gaussians.entropy(gaussian(params))

    def moments(params: Params) -> tuple[jax.Array, jax.Array]:
        flat = gaussian(params)
        return flat.loc, gaussians.standard_deviation(flat)

    return flat_latents.reparameterised(
        name, layout, init, draw, log_density, entropy=entropy, moments=moments, distribution=gaussian
    )


def layout_of(family: Family, demand: str) -> flattening.Layout:
    """The layout of the latent of a Gaussian family; one that is none is refused by what is demanded."""
    shapes = jax.eval_shape(lambda key: family.init(key), jax.random.key(0))
    form = None if family.distribution is None else jax.eval_shape(family.distribution, shapes)
    if not isinstance(form, gaussians.Gaussian):
        raise ValueError(f"{demand}, such as families.full_rank of a latent, got {family.name}.")
    return flattening.layout_of(jax.eval_shape(family.sample, shapes, jax.random.key(0)))


def initial_location(layout: flattening.Layout, latent_like: Latent, start: Latent | None) -> jax.Array:
    """The flat start ``[D]``: ``start``, or the values of ``latent_like``."""
    if start is None:
        return flattening.flatten(layout, flattening.values_of(latent_like), "latent_like")
    return flattening.flatten(layout, start, "start")


def initial_log_scale(layout: flattening.Layout, initial_scale: float) -> jax.Array:
    """The same log standard deviation for every entry, ``[D]``."""
    return jnp.full((layout.size,), math.log(initial_scale), layout.dtype)


def check_initial_scale(initial_scale: float) -> None:
    """Requires a positive Python number."""
    if isinstance(initial_scale, bool) or not isinstance(initial_scale, int | float | np.floating):
        raise TypeError(f"initial_scale must be a number, got {checks.describe(initial_scale)}.")
    if not 0 < initial_scale < math.inf:
        raise ValueError(f"initial_scale must be positive and finite, got {initial_scale}.")
