"""A reparameterised distribution on the flat vector, seen as one over the user's pytree.

Floor 2. What Gaussians, flows, independent entries and the point mass share.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxelbo import flattening
from jaxelbo.types import Family, Key, Latent, Params


def reparameterised(
    name: str,
    layout: flattening.Layout,
    init: Callable[..., Params],
    draw: Callable[[Params, Key], tuple[jax.Array, jax.Array]],
    log_density: Callable[[Params, jax.Array], jax.Array],
    *,
    entropy: Callable[[Params], jax.Array] | None = None,
    moments: Callable[[Params], tuple[jax.Array, jax.Array]] | None = None,
    distribution: Callable[[Params], Any] | None = None,
) -> Family:
    """Makes the record; no part of it draws without gradient.

    Args:
      name: what error messages call the family.
      layout: of the latent.
      init: as in `Family`.
      draw: (params, key) -> a flat latent ``[D]`` and its log density.
      log_density: (params, ``[D]``) -> scalar.
      entropy: as in `Family`.
      moments: params -> mean and standard deviation of the flat latent, ``[D]`` each.
      distribution: as in `Family`.
    """
    unflatten = functools.partial(flattening.unflatten, layout)

    def sample(params: Params, key: Key) -> Latent:
        return unflatten(draw(params, key)[0])

    def log_prob(params: Params, latent: Latent) -> jax.Array:
        return log_density(params, flattening.flatten(layout, latent))

    def sample_and_log_prob(params: Params, key: Key) -> tuple[Latent, jax.Array]:
        flat, log_q = draw(params, key)
        return unflatten(flat), log_q

    def score_log_probs(params: Params, latent: Latent) -> jax.Array:
        del params, latent
        return jnp.zeros((0,), layout.dtype)

    def location_and_scale(params: Params) -> tuple[Latent, Latent]:
        location, scale = moments(params)
        return unflatten(location), unflatten(scale)

    return Family(
        name=name,
        init=init,
        sample=sample,
        log_prob=log_prob,
        sample_and_log_prob=sample_and_log_prob,
        score_log_probs=score_log_probs,
        entropy=entropy,
        location_and_scale=None if moments is None else location_and_scale,
        distribution=distribution,
        unflatten=unflatten,
    )
