"""The longest of a few steps that raises a function.

Floor 1.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Found(NamedTuple):
    """The length, 0 where none raised the function; how many were tried; whether one did."""

    length: jax.Array
    num_tried: jax.Array
    is_improved: jax.Array


def first_rise(
    objective: Callable[[jax.Array], jax.Array], now: jax.Array, lengths: jax.Array, may_try: jax.Array
) -> Found:
    """Tries lengths ``[N]`` in turn until the objective is above what it is now; none where it may not."""

    def is_too_long(tried: tuple[jax.Array, jax.Array]) -> jax.Array:
        count, found = tried
        return (count < len(lengths)) & ~(found > now)

    def shorten(tried: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        return tried[0] + 1, objective(lengths[tried[0]])

    first = jnp.where(may_try, 0, len(lengths)), jnp.asarray(-jnp.inf, lengths.dtype)
    num_tried, found = jax.lax.while_loop(is_too_long, shorten, first)
    is_improved = found > now
    return Found(jnp.where(is_improved, lengths[num_tried - 1], 0), num_tried, is_improved)
