"""Rational-quadratic splines: an increasing map of one number, bent within an interval and the identity outside.

Floor 1. Equations are numbered as in Durkan, Bekasov, Murray, Papamakarios (2019), *Neural Spline Flows*.
"""

import math

import jax
import jax.numpy as jnp

from jaxelbo.flows.one_number import Increasing

_BOUND = 4.0
"""The spline lives in [-4, 4]: of standard normal noise all but one draw in 16,000."""
_MIN_SHARE, _MIN_SLOPE = 1e-3, 1e-3
"""No bin is narrower than this share of the interval, no slope at a knot smaller."""


def rational_quadratic(num_bins: int) -> Increasing:
    """The spline of K bins; its 3 K - 1 parameters are widths ``[K]``, heights ``[K]`` and slopes at inner knots."""

    def bin_at(raw: jax.Array, point: jax.Array, axis: int) -> tuple[jax.Array, ...]:
        """Where the bin begins in x and y, its width and height, and the slopes at both ends."""
        knots = _knots(raw[:num_bins]), _knots(raw[num_bins : 2 * num_bins])
        inner = _MIN_SLOPE + jax.nn.softplus(raw[2 * num_bins :] + math.log(math.expm1(1 - _MIN_SLOPE)))
        slopes = jnp.concatenate([jnp.ones_like(inner[:1]), inner, jnp.ones_like(inner[:1])])
        index = jnp.sum(point >= knots[axis][1:-1])
        (left, right), (low, high) = ((along[index], along[index + 1]) for along in knots)
        return left, low, right - left, high - low, slopes[index], slopes[index + 1]

    def forward(raw: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        within = jnp.clip(x, -_BOUND, _BOUND)
        left, low, width, height, first, last = bin_at(raw, within, 0)
        share, slope = (within - left) / width, height / width
        blend = share * (1 - share)
        y = low + height * (slope * share**2 + first * blend) / (slope + (first + last - 2 * slope) * blend)  # (4)
        return _or_identity(x, y, _log_slope(share, slope, first, last))

    def inverse(raw: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        within = jnp.clip(y, -_BOUND, _BOUND)
        left, low, width, height, first, last = bin_at(raw, within, 1)
        slope, above = height / width, within - low
        bend = above * (first + last - 2 * slope)
        a, b, c = height * (slope - first) + bend, height * first - bend, -slope * above  # (6)-(8)
        root = jnp.sqrt(jnp.maximum(b**2 - 4 * a * c, jnp.finfo(y.dtype).tiny))
        share = 2 * c / (-b - root)
        return _or_identity(y, left + share * width, _log_slope(share, slope, first, last))

    return Increasing(3 * num_bins - 1, forward, inverse)


def _knots(raw: jax.Array) -> jax.Array:
    """Knots from -bound to bound, ``[K + 1]``."""
    shares = _MIN_SHARE + (1 - _MIN_SHARE * raw.size) * jax.nn.softmax(raw)
    inner = _BOUND * (2 * jnp.cumsum(shares)[:-1] - 1)
    return jnp.concatenate([jnp.full_like(raw[:1], -_BOUND), inner, jnp.full_like(raw[:1], _BOUND)])


def _log_slope(share: jax.Array, slope: jax.Array, first: jax.Array, last: jax.Array) -> jax.Array:
    blend = share * (1 - share)
    above = last * share**2 + 2 * slope * blend + first * (1 - share) ** 2
    return 2 * jnp.log(slope) + jnp.log(above) - 2 * jnp.log(slope + (first + last - 2 * slope) * blend)  # (5)


def _or_identity(given: jax.Array, mapped: jax.Array, log_slope: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Outside the interval the map is the identity."""
    inside = jnp.abs(given) < _BOUND
    return jnp.where(inside, mapped, given), jnp.where(inside, log_slope, 0)
