"""Coupling layers: one half of the entries says how the others move.

Floor 1.
"""

import jax
import jax.numpy as jnp

from jaxelbo.flows import networks
from jaxelbo.flows.layers import Layer
from jaxelbo.flows.one_number import Increasing
from jaxelbo.types import Key, Params


def coupling(size: int, num_context: int, width: int, increasing: Increasing, dtype: jnp.dtype) -> Layer:
    """The first half of ``[D]`` (rounded down) stays, and a network of it moves each other entry.

    Halves change places from layer to layer: of any two layers in a row, every entry is moved by at least one.
    """
    num_kept = size // 2
    num_moved = size - num_kept

    def init(key: Key) -> Params:
        return networks.init(key, num_kept + num_context, width, num_moved * increasing.num_parameters, dtype)

    def raw(params: Params, context: jax.Array, kept: jax.Array) -> jax.Array:
        return networks.outputs(params, jnp.concatenate([kept, context])).reshape(num_moved, -1)

    def forward(params: Params, context: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        kept = x[:num_kept]
        moved, log_slopes = jax.vmap(increasing.forward)(raw(params, context, kept), x[num_kept:])
        return jnp.concatenate([kept, moved]), jnp.sum(log_slopes)

    def inverse(params: Params, context: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        kept = y[:num_kept]
        moved, log_slopes = jax.vmap(increasing.inverse)(raw(params, context, kept), y[num_kept:])
        return jnp.concatenate([kept, moved]), jnp.sum(log_slopes)

    return Layer(init, forward, inverse, lambda x, times: jnp.roll(x, -times * num_kept))
