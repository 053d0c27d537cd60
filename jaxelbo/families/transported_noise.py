"""What the flow families share: noise carried through a flow and an affine map, as a distribution over a pytree.

Floor 2.
"""

import functools
import math

import jax
import jax.numpy as jnp

from jaxelbo import flattening
from jaxelbo.families import gaussian
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

    def log_density(params: Params, noise: jax.Array, log_det: jax.Array) -> jax.Array:
        of_noise = -0.5 * jnp.sum(noise**2) - layout.size * _HALF_LOG_2PI
        return of_noise - log_det - jnp.sum(params["log_scale"])

    def sample(params: Params, key: Key) -> Latent:
        return sample_and_log_prob(params, key)[0]

    def log_prob(params: Params, latent: Latent) -> jax.Array:
        flat = (flattening.flatten(layout, latent) - params["loc"]) * jnp.exp(-params["log_scale"])
        noise, log_det = flow.inverse(params["layers"], context(params), flat)
        return log_density(params, noise, log_det)

    def sample_and_log_prob(params: Params, key: Key) -> tuple[Latent, jax.Array]:
        noise = jax.random.normal(key, (layout.size,), layout.dtype)
        flat, log_det = flow.forward(params["layers"], context(params), noise)
        flat = params["loc"] + jnp.exp(params["log_scale"]) * flat
        return flattening.unflatten(layout, flat), log_density(params, noise, log_det)

    def score_log_probs(params: Params, latent: Latent) -> jax.Array:
        del params, latent
        return jnp.zeros((0,), layout.dtype)

    return Family(
        name=name,
        init=init,
        sample=sample,
        log_prob=log_prob,
        sample_and_log_prob=sample_and_log_prob,
        score_log_probs=score_log_probs,
        unflatten=functools.partial(flattening.unflatten, layout),
    )
