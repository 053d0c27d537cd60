"""The record of a layer, and layers one after the other.

Floor 1.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxelbo.types import Key, Params


def _as_it_is(x: jax.Array, times: int) -> jax.Array:
    del times
    return x


class Layer(NamedTuple):
    """An invertible map of ``[D]`` to ``[D]`` with parameters, given a context ``[C]`` (C = 0: none).

    Attributes:
      init: ``(key) -> params``, at which the map is the identity.
      forward: ``(params, context, x) -> (y, log |det dy/dx|)``.
      inverse: ``(params, context, y) -> (x, log |det dy/dx|)``, equal to those of ``forward`` at x.
      turn: ``(x, times) -> x``: how entries change places after the layer, so that the next one moves others; done that
        many times, static, backwards where negative.
    """

    init: Callable[[Key], Params]
    forward: Callable[[Params, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
    inverse: Callable[[Params, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
    turn: Callable[[jax.Array, int], jax.Array] = _as_it_is


def chain(layer: Layer, num_layers: int) -> Layer:
    """L layers of one kind, their params stacked to leaves ``[L, ...]``; entries end in the order they began in."""

    def init(key: Key) -> Params:
        return jax.vmap(layer.init)(jax.random.split(key, num_layers))

    # One scan each way: the compiler sees one layer, whatever L is.
    def forward(params: Params, context: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        def body(carry: tuple[jax.Array, jax.Array], layer_params: Params) -> tuple[tuple[jax.Array, jax.Array], None]:
            y, log_det = layer.forward(layer_params, context, carry[0])
            return (layer.turn(y, 1), carry[1] + log_det), None

        (y, log_det), _ = jax.lax.scan(body, (x, jnp.zeros((), x.dtype)), params)
        return layer.turn(y, -num_layers), log_det

    def inverse(params: Params, context: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        def body(carry: tuple[jax.Array, jax.Array], layer_params: Params) -> tuple[tuple[jax.Array, jax.Array], None]:
            x, log_det = layer.inverse(layer_params, context, layer.turn(carry[0], -1))
            return (x, carry[1] + log_det), None

        start = layer.turn(y, num_layers), jnp.zeros((), y.dtype)
        return jax.lax.scan(body, start, params, reverse=True)[0]

    return Layer(init, forward, inverse)
