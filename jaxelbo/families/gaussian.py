"""What the Gaussian families share: a Gaussian on the flat vector, seen as a distribution over the user's pytree.

Floor 2.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxelbo import checks, flattening, gaussians
from jaxelbo.types import Family, Key, Latent, Params


def gaussian_family(
    name: str,
    layout: flattening.Layout,
    init: Callable[..., Params],
    gaussian: Callable[[Params], gaussians.Gaussian],
) -> Family:
    """Makes the record from ``init`` and the map from params to a Gaussian over the flat vector."""

    def sample(params: Params, key: Key) -> Latent:
        return sample_and_log_prob(params, key)[0]

    def log_prob(params: Params, latent: Latent) -> jax.Array:
        return gaussians.log_density(gaussian(params), flattening.flatten(layout, latent))

    def sample_and_log_prob(params: Params, key: Key) -> tuple[Latent, jax.Array]:
        flat, log_density = gaussians.draw(gaussian(params), key)
        return flattening.unflatten(layout, flat), log_density

    def score_log_probs(params: Params, latent: Latent) -> jax.Array:
        del params, latent
        return jnp.zeros((0,), layout.dtype)

    def entropy(params: Params) -> jax.Array:
        return gaussians.entropy(gaussian(params))

    def location_and_scale(params: Params) -> tuple[Latent, Latent]:
        flat = gaussian(params)
        scale = gaussians.standard_deviation(flat)
        return flattening.unflatten(layout, flat.loc), flattening.unflatten(layout, scale)

    return Family(
        name=name,
        init=init,
        sample=sample,
        log_prob=log_prob,
        sample_and_log_prob=sample_and_log_prob,
        score_log_probs=score_log_probs,
        entropy=entropy,
        location_and_scale=location_and_scale,
        distribution=gaussian,
        unflatten=functools.partial(flattening.unflatten, layout),
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
