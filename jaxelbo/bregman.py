"""Bregman divergences F(y) - F(x) - F'(x) (y - x) of what log-normalisers are made of, without cancellation.

Floor 1. The KL divergence of two members of an exponential family is one of its log-normaliser. Written as that
difference it loses all digits where the members are close or their parameters large; every sum here is of terms that
are not negative. All are elementwise, zero where y = x, and never negative.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln

EULER = 0.5772156649015329

NUM_SHIFTS = 8
"""Log-gamma is moved up by so many before Stirling's series is used."""

_NODES, _NODE_WEIGHTS = np.polynomial.legendre.leggauss(10)
_PLACES = 0.5 + 0.5 * _NODES
_WEIGHTS = 0.5 * _NODE_WEIGHTS * (1 - _PLACES)

_ATANH = tuple(2 / (2 * k + 1) for k in range(1, 14))
STIRLING = np.array([1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156])
"""Of log-gamma in odd powers of 1 / x."""

_STIRLING_POWERS = -(2.0 * np.arange(len(STIRLING)) + 1)


def of_minus_log(y: jax.Array, x: jax.Array) -> jax.Array:
    """Of -log, for positive numbers: y / x - 1 - log(y / x)."""
    return _of_minus_log(y, x, y - x)


def of_minus_log_by_gap(y: jax.Array, x: jax.Array, gap: jax.Array) -> jax.Array:
    """The same for a gap y - x that is known better than by its rounded ends."""
    return _of_minus_log(y, x, gap)


def log_ratio(y: jax.Array, x: jax.Array) -> jax.Array:
    """log(y / x), to rounding where these are close, and in range where y / x is not."""
    return _log_ratio(y, x, y - x)


def log_ratio_by_gap(y: jax.Array, x: jax.Array, gap: jax.Array) -> jax.Array:
    """The same for a gap y - x that is known better than by its rounded ends."""
    return _log_ratio(y, x, gap)


def gap_of_products(y: tuple[jax.Array, jax.Array], x: tuple[jax.Array, jax.Array]) -> jax.Array:
    """The product of ``y`` less that of ``x``, over that of ``x``, to rounding where these are close; Dekker (1971)."""
    (of_y, rest_y), (of_x, rest_x) = _exact_product(*y), _exact_product(*x)
    return ((of_y - of_x) + (rest_y - rest_x)) / of_x


def _exact_product(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The product as a sum of two numbers."""
    product, (high_a, high_b) = a * b, map(_first_half, (a, b))
    low_a, low_b = a - high_a, b - high_b
    return product, ((high_a * high_b - product) + high_a * low_b + low_a * high_b) + low_a * low_b


def _first_half(x: jax.Array) -> jax.Array:
    """The number with half of its digits."""
    info = jnp.finfo(x.dtype)
    return jax.lax.reduce_precision(jax.lax.stop_gradient(x), info.nexp, info.nmant // 2)


def of_power(y: jax.Array, x: jax.Array, power: float) -> jax.Array:
    """Of t^power, for positive numbers and a power below 0."""
    gap = y - x
    return _of_power(y, x, gap, jnp.asarray(power, x.dtype), _log_ratio(y, x, gap), _of_minus_log(y, x, gap))


def of_log_gamma(y: jax.Array, x: jax.Array) -> jax.Array:
    """Of log-gamma, for positive numbers.

    lgamma(x) = lgamma(x + 1) - log(x) takes small numbers up, and each step adds a divergence of -log. Above it is
    Stirling's series: its leading part is y D(x, y) + D(y, x) / 2 with D that of -log, the rest is small.
    """
    return of_log_gamma_by_gap(y, x, y - x)


def of_log_gamma_by_gap(y: jax.Array, x: jax.Array, gap: jax.Array) -> jax.Array:
    """The same for a gap y - x that is known better than by its rounded ends."""
    return _of_shifts(y, x, gap) + _of_log_gamma_above(y + NUM_SHIFTS, x + NUM_SHIFTS, gap)


def of_log_gamma_less_linear(y: jax.Array, x: jax.Array) -> jax.Array:
    """Of log-gamma, less x - y: where y is far below x that is nearly all of it, and other terms take it away."""
    gap = y - x
    below = _of_shifts(y, x, gap)
    y, x = y + NUM_SHIFTS, x + NUM_SHIFTS
    return below + y * _log_ratio(y, x, gap) + _of_log_gamma_less_leading(y, x, gap)


def of_log_gamma_and_rate(a: jax.Array, b: jax.Array, ratio: jax.Array) -> jax.Array:
    """Of log-gamma at (b, a), and a (ratio - 1) - b log(ratio): KL of gammas of shapes a, b, and rates of that ratio.

    Where shapes are large or far apart the two parts nearly cancel, so they are summed as one there.
    """
    gap = b - a
    is_large, is_far = jnp.minimum(a, b) > NUM_SHIFTS, jnp.abs(gap) > 0.5 * a
    near = of_log_gamma(b, a) + a * of_minus_log(ratio, jnp.ones_like(ratio)) - gap * jnp.log(ratio)
    far = of_log_gamma_less_linear(b, a) + a * ratio - b - b * jnp.log(ratio)
    large_a, large_b, moved = (jnp.where(is_large, each, NUM_SHIFTS) for each in (a, b, a * ratio))
    above = large_b * of_minus_log(moved, large_b) + of_log_gamma_less_leading(large_b, large_a)
    return jnp.where(is_large, above, jnp.where(is_far, far, near))


def of_log_gamma_less_leading(y: jax.Array, x: jax.Array) -> jax.Array:
    """Of log-gamma less y times the divergence of -log at (x, y), for numbers of at least `NUM_SHIFTS`."""
    return _of_log_gamma_less_leading(y, x, y - x)


def _of_log_gamma_above(y: jax.Array, x: jax.Array, gap: jax.Array) -> jax.Array:
    return y * _of_minus_log(x, y, -gap) + _of_log_gamma_less_leading(y, x, gap)


def _of_log_gamma_less_leading(y: jax.Array, x: jax.Array, gap: jax.Array) -> jax.Array:
    of_log = _of_minus_log(y, x, gap)
    return 0.5 * of_log + _of_stirling(y, x, gap, of_log)


def _of_shifts(y: jax.Array, x: jax.Array, gap: jax.Array) -> jax.Array:
    """The sum of divergences of -log that the steps of log-gamma upwards add."""
    shifts = _along_first(np.arange(NUM_SHIFTS), x)
    return jnp.sum(_of_minus_log(y[None] + shifts, x[None] + shifts, gap[None]), axis=0)


def _of_stirling(y: jax.Array, x: jax.Array, gap: jax.Array, of_log: jax.Array) -> jax.Array:
    """Of lgamma(t) - (t - 1/2) log(t) + t as a series of powers, for numbers of at least `NUM_SHIFTS`."""
    terms, powers = _along_first(STIRLING, x), _along_first(_STIRLING_POWERS, x)
    log_ratio = _log_ratio(y, x, gap)
    of_powers = _of_power(y[None], x[None], gap[None], powers, log_ratio[None], of_log[None])
    return jnp.sum(terms * of_powers, axis=0)


def _along_first(numbers: np.ndarray, like: jax.Array) -> jax.Array:
    """Numbers along a new first axis, in the dtype of ``like``; one array compiles faster than as many copies."""
    return jnp.asarray(numbers, like.dtype).reshape(-1, *(1,) * like.ndim)


def _of_power(
    y: jax.Array, x: jax.Array, gap: jax.Array, power: jax.Array, log_ratio: jax.Array, of_log: jax.Array
) -> jax.Array:
    is_near = jnp.abs(gap) < 0.5 * x
    log_ratio, of_log = (jnp.where(is_near, each, 0) for each in (log_ratio, of_log))
    near = x**power * (excess(power * log_ratio) - power * of_log)
    return jnp.where(is_near, near, y**power - x**power - power * x ** (power - 1) * gap)


def _of_minus_log(y: jax.Array, x: jax.Array, gap: jax.Array) -> jax.Array:
    ratio = gap / x
    is_near = jnp.abs(ratio) < 0.5
    series = _gap_less_log1p(jnp.where(is_near, ratio, 0))
    return jnp.where(is_near, series, jnp.where(is_near, 0, ratio) - _log_ratio(y, x, gap))


def _log_ratio(y: jax.Array, x: jax.Array, gap: jax.Array) -> jax.Array:
    """log(y / x), in which y / x may be out of range."""
    ratio = gap / x
    is_near = jnp.abs(ratio) < 0.5
    return jnp.where(is_near, jnp.log1p(jnp.where(is_near, ratio, 0)), jnp.log(y) - jnp.log(x))


def digamma_rise(y: jax.Array, x: jax.Array, gap: jax.Array) -> jax.Array:
    """digamma(y) - digamma(x), for positive numbers whose gap y - x is known better than by its rounded ends."""
    shifts = _along_first(np.arange(NUM_SHIFTS), x)
    rise = jnp.sum(gap[None] / ((x[None] + shifts) * (y[None] + shifts)), axis=0)
    y, x = y + NUM_SHIFTS, x + NUM_SHIFTS
    log_ratio = _log_ratio(y, x, gap)
    rise += log_ratio + 0.5 * gap / (x * y)
    is_near = jnp.abs(gap) < 0.5 * x
    near = jnp.where(is_near, log_ratio, 0)
    terms, powers = _along_first(STIRLING, x), _along_first(_STIRLING_POWERS, x)
    of_near = x[None] ** (powers - 1) * jnp.expm1((powers - 1) * near[None])
    of_far = y[None] ** (powers - 1) - x[None] ** (powers - 1)
    return rise + jnp.sum(powers * terms * jnp.where(is_near[None], of_near, of_far), axis=0)


def mean_curvature(curvature: Callable[[jax.Array], jax.Array], y: jax.Array, x: jax.Array) -> jax.Array:
    """The divergence over (y - x)^2 by the second derivative, for two close numbers: Gauss-Legendre's quadrature."""
    places = _along_first(_PLACES, x)
    return jnp.sum(_along_first(_WEIGHTS, x) * curvature(x[None] + places * (y - x)[None]), axis=0)


def excess(d: jax.Array) -> jax.Array:
    """exp(d) - 1 - d, to rounding for small d too."""
    is_near = jnp.abs(d) < 0.4
    near = jnp.where(is_near, d, 0)
    # With g = exp(d) - 1, d = log(1 + g): the same series.
    return jnp.where(is_near, _gap_less_log1p(jnp.expm1(near)), jnp.expm1(jnp.where(is_near, 0, d)) - d)


def weighted_excess(log_weight: jax.Array, d: jax.Array) -> jax.Array:
    """exp(log_weight) times `excess`, in range wherever that product is."""
    is_near = d < 1
    weight, near, far = jnp.exp(log_weight), jnp.where(is_near, d, 0), jnp.where(is_near, 1, d)
    return jnp.where(is_near, weight * excess(near), jnp.exp(log_weight + far) - weight * (1 + far))


def log_gamma_beyond(gap: jax.Array) -> jax.Array:
    """lgamma(2 + gap), to rounding near its zero at 0, for a gap above -1."""
    x = 1 + gap
    is_near = jnp.abs(gap) < 0.5
    near_gap = jnp.where(is_near, gap, 0)
    one = jnp.ones_like(gap)
    near = jnp.log1p(near_gap) - EULER * near_gap + of_log_gamma_by_gap(1 + near_gap, one, near_gap)
    return jnp.where(is_near, near, gammaln(1 + jnp.where(is_near, 1, x)))


def _gap_less_log1p(gap: jax.Array) -> jax.Array:
    """The difference gap - log(1 + gap) for |gap| up to 0.5, by log(1 + gap) = 2 atanh(w), w = gap / (2 + gap)."""
    w = gap / (2 + gap)
    square, series = w * w, jnp.zeros_like(w)
    for term in reversed(_ATANH):
        series = square * (series + term)
    return w * (gap - series)
