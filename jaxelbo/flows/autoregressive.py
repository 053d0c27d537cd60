"""Autoregressive layers: each entry is moved as those before it say, by one masked network for all.

Floor 1. Masks as in Germain, Gregor, Murray, Larochelle (2015), *MADE: Masked Autoencoder for Distribution Estimation*.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxelbo.flows import networks
from jaxelbo.flows.layers import Layer
from jaxelbo.flows.one_number import Increasing
from jaxelbo.gaussians import product
from jaxelbo.types import Key, Params


def autoregressive(size: int, num_context: int, width: int, increasing: Increasing, dtype: jnp.dtype) -> Layer:
    """Entry i of ``[D]`` is moved by a network of the entries before i, and of the context.

    ``forward`` is one pass; ``inverse`` finds entry after entry in a scan of D steps, which cost as much as one pass
    together, since each adds its entry to what the hidden units have summed so far. The order is reversed between
    layers.
    """
    # Unit j sees the entries up to its degree and is seen by those after; at degree -1 it sees the context alone.
    lowest = -1 if num_context or size == 1 else 0
    degrees = lowest + np.arange(width) * (size - 1 - lowest) // width
    mask_in = np.arange(size)[:, None] <= degrees[None, :]
    mask_in = np.concatenate([mask_in, np.ones((num_context, width), bool)])
    mask_out = degrees[:, None] < np.repeat(np.arange(size), increasing.num_parameters)[None, :]

    def init(key: Key) -> Params:
        return networks.init(key, size + num_context, width, size * increasing.num_parameters, dtype)

    def masked(params: Params) -> Params:
        return params | {
            "weight_in": jnp.where(mask_in, params["weight_in"], 0),
            "weight_out": jnp.where(mask_out, params["weight_out"], 0),
        }

    def forward(params: Params, context: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        raw = networks.outputs(masked(params), jnp.concatenate([x, context])).reshape(size, -1)
        y, log_slopes = jax.vmap(increasing.forward)(raw, x)
        return y, jnp.sum(log_slopes)

    def inverse(params: Params, context: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        params = masked(params)
        weight_out = jnp.moveaxis(params["weight_out"].reshape(width, size, -1), 1, 0)  # [D, W, P]

        def step(summed: jax.Array, entry: tuple[jax.Array, ...]) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            y, weight_in, weight_out, bias_out = entry
            x, log_slope = increasing.inverse(product(jnp.tanh(summed), weight_out) + bias_out, y)
            return summed + weight_in * x, (x, log_slope)

        start = params["bias_in"] + product(context, params["weight_in"][size:])
        entries = (y, params["weight_in"][:size], weight_out, params["bias_out"].reshape(size, -1))
        x, log_slopes = jax.lax.scan(step, start, entries)[1]
        return x, jnp.sum(log_slopes)

    return Layer(init, forward, inverse, lambda x, times: x[::-1] if times % 2 else x)
