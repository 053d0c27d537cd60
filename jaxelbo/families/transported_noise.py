"""What the flow families share: noise carried through a flow and an affine map, as a distribution over a pytree.

Floor 2.
"""

import math

import jax
import jax.numpy as jnp

from jaxelbo import checks, flattening
from jaxelbo.families import flat_latents, gaussian
from jaxelbo.flows.layers import Layer
from jaxelbo.types import Family, Key, Latent, Params

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def flow_family(
    name: str, latent_like: Latent, initial_scale: float, num_context: int, layout: flattening.Layout, flow: Layer
) -> Family:
    """The distribution of loc + exp(log_scale) * flow(noise) on the flat vector, noise standard normal.

    Its params are ``{"loc": [D], "log_scale": [D], "layers": the flow's}`` and, where num_context > 0, ``"context":
    [C]`` beside them.
    """
    gaussian.check_initial_scale(initial_scale)

    def init(key: Key, start: Latent | None = None) -> Params:
        params = {
            "loc": gaussian.initial_location(layout, latent_like, start),
            "log_scale": gaussian.initial_log_scale(layout, initial_scale),
            "layers": flow.init(key),
        }
        return params | {"context": jnp.zeros((num_context,), layout.dtype)} if num_context else params

    def context(params: Params) -> jax.Array:
        return params["context"] if num_context else jnp.zeros((0,), layout.dtype)

    def of_noise(params: Params, noise: jax.Array, log_det: jax.Array) -> jax.Array:
        log_density = -0.5 * jnp.sum(noise**2) - layout.size * _HALF_LOG_2PI
        return log_density - log_det - jnp.sum(params["log_scale"])

    def draw(params: Params, key: Key) -> tuple[jax.Array, jax.Array]:
        noise = jax.random.normal(key, (layout.size,), layout.dtype)
        flat, log_det = flow.forward(params["layers"], context(params), noise)
        return params["loc"] + jnp.exp(params["log_scale"]) * flat, of_noise(params, noise, log_det)

    def log_density(params: Params, flat: jax.Array) -> jax.Array:
        flat = (flat - params["loc"]) * jnp.exp(-params["log_scale"])
        return of_noise(params, *flow.inverse(params["layers"], context(params), flat))

    return flat_latents.reparameterised(name, layout, init, draw, log_density)


def checked_counts(num_layers: int, width: int, num_context: int) -> tuple[int, int, int]:
    """The counts that flows with networks take, refused by name."""
    return (
        checks.check_count(num_layers, "num_layers"),
        checks.check_count(width, "width"),
        checks.check_count(num_context, "num_context", minimum=0),
    )
