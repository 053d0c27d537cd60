"""Increasing maps of one number, with parameters that a network gives.

Floor 1.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

_LOG_SCALE_LIMIT = 3.0
"""No layer stretches by more than e^3: a network's mistake far out stays a number in float32."""


class Increasing(NamedTuple):
    """An increasing map of the line with parameters ``[P]``; the identity at zeros.

    Attributes:
      num_parameters: P.
      forward: ``(raw [P], x) -> (y, log dy/dx)``, scalars.
      inverse: ``(raw [P], y) -> (x, log dy/dx)``.
    """

    num_parameters: int
    forward: Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
    inverse: Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


def affine() -> Increasing:
    """X -> exp(t) x + m with raw parameters m and t, the latter bent to lie within its limit."""

    def log_scale(raw: jax.Array) -> jax.Array:
        return _LOG_SCALE_LIMIT * jnp.tanh(raw[1] / _LOG_SCALE_LIMIT)

    def forward(raw: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jnp.exp(log_scale(raw)) * x + raw[0], log_scale(raw)

    def inverse(raw: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jnp.exp(-log_scale(raw)) * (y - raw[0]), log_scale(raw)

    return Increasing(2, forward, inverse)
