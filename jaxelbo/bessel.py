"""Modified Bessel functions I of any order of at least 0, for the normalisers of distributions of directions.

Floor 1. jax has orders 0 and 1 alone.
"""

import functools
import math

import jax
import jax.numpy as jnp

from jaxelbo import bregman

NUM_ORDERS = 40
"""Orders above the one asked for at which the recurrences start; there the uniform expansion is right to rounding."""

_LARGE, _LARGE_SINGLE = 100.0, 12.0


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def ratio(order: float, x: jax.Array) -> jax.Array:
    """I_(order + 1)(x) / I_order(x), between 0 and 1, for x of at least 0."""
    return x * _ratios_over_x(order, x)[0]


@ratio.defjvp
def _ratio_jvp(order: float, primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    (x,), (x_dot,) = primals, tangents
    value = ratio(order, x)
    over_x = jnp.where(x > 0, value / jnp.where(x > 0, x, 1), 0.5 / (order + 1))
    return value, (1 - value**2 - (2 * order + 1) * over_x) * x_dot


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def log_scaled(order: float, x: jax.Array) -> jax.Array:
    """log(I_order(x) / x^order), finite at 0 too; its derivative is `ratio`."""
    top, square = order + NUM_ORDERS, x**2
    root = jnp.sqrt(top**2 + square)
    p = top / root
    # Debye's expansion, uniform in x.
    terms = (
        (3 * p - 5 * p**3) / 24 / top
        + (81 * p**2 - 462 * p**4 + 385 * p**6) / 1152 / top**2
        + (30375 * p**3 - 369603 * p**5 + 765765 * p**7 - 425425 * p**9) / 414720 / top**3
        + (4465125 * p**4 - 94121676 * p**6 + 349922430 * p**8 - 446185740 * p**10 + 185910725 * p**12)
        / 39813120
        / top**4
    )
    start = root - top * jnp.log(top + root) - 0.5 * jnp.log(2 * math.pi * root) + jnp.log1p(terms)
    return start - sum(jnp.log(each) for each in _ratios_over_x(order, x))


@log_scaled.defjvp
def _log_scaled_jvp(order: float, primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    (x,), (x_dot,) = primals, tangents
    return log_scaled(order, x), ratio(order, x) * x_dot


def divergence(order: float, y: jax.Array, x: jax.Array) -> jax.Array:
    """The Bregman divergence of `log_scaled`, f(y) - f(x) - f'(x) (y - x), without cancellation."""
    is_near = jnp.abs(y - x) < (0.75 if x.dtype == jnp.float32 else 0.5) * x
    small = (0.5 if x.dtype == jnp.float32 else 0.02) * math.sqrt(order + 1)
    is_small, least_large = jnp.maximum(x, y) < small, _least_large(order, x)
    is_large = jnp.minimum(x, y) > least_large
    of_near = _divergence_near(order, *(jnp.where(is_near & ~is_large, each, 1) for each in (y, x)))
    rise, slope = _less_linear(order, y)[0], _less_linear(order, x)
    plain = rise - slope[0] - slope[1] * (y - x)
    of_large = _divergence_large(order, *(jnp.where(is_large, each, least_large) for each in (y, x)))
    of_small = _divergence_small(order, *(jnp.where(is_small, each, 0) for each in (y, x)))
    return jnp.where(is_large, of_large, jnp.where(is_small, of_small, jnp.where(is_near, of_near, plain)))


def _least_large(order: float, like: jax.Array) -> float:
    """Where Hankel's expansion takes over: its error and the digits the curvature has lost are both small there."""
    is_single = like.dtype == jnp.float32
    return max(_LARGE_SINGLE if is_single else _LARGE, (10 if is_single else 30) * order**2)


def _divergence_near(order: float, y: jax.Array, x: jax.Array) -> jax.Array:
    """By the second derivative, which Bessel's equation gives."""

    def curvature(t: jax.Array) -> jax.Array:
        first = ratio(order, t)
        return 1 - first**2 - (2 * order + 1) * first / t

    return (y - x) ** 2 * bregman.mean_curvature(curvature, y, x)


def _series(order: float) -> tuple[float, ...]:
    """Of log(I_order(x) exp(-x) sqrt(2 pi x)) in 1 / x, Hankel's expansion."""
    mu = 4 * order**2
    return -(mu - 1) / 8, -(mu - 1) / 16, -(mu - 1) * (25 - mu) / 384, -(mu - 1) * (13 - mu) / 128


def _less_linear(order: float, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`log_scaled` less x, and its derivative: all but the largest part of it where x is large."""
    least_large = _least_large(order, x)
    is_large = x > least_large
    large, other = jnp.where(is_large, x, least_large), jnp.where(is_large, 1, x)
    terms = [(-(k + 1.0), term) for k, term in enumerate(_series(order))]
    of_large = sum(term * large**power for power, term in terms)
    of_large += -(order + 0.5) * jnp.log(large) - 0.5 * math.log(2 * math.pi)
    slope_large = sum(term * power * large ** (power - 1) for power, term in terms) - (order + 0.5) / large
    value = jnp.where(is_large, of_large, log_scaled(order, other) - other)
    return value, jnp.where(is_large, slope_large, ratio(order, other) - 1)


def _divergence_large(order: float, y: jax.Array, x: jax.Array) -> jax.Array:
    """Where f is x - (order + 1/2) log(x) and a series in 1 / x, each has a divergence of its own."""
    rest = sum(term * bregman.of_power(y, x, -(k + 1.0)) for k, term in enumerate(_series(order)))
    return (order + 0.5) * bregman.of_minus_log(y, x) + rest


def _divergence_small(order: float, y: jax.Array, x: jax.Array) -> jax.Array:
    """And where it is a series in x^2, by Rayleigh's sums over the zeros of J_order."""
    n1, n2, n3, n4 = (order + k for k in (1, 2, 3, 4))
    sums = 1 / (4 * n1), 1 / (16 * n1**2 * n2), 1 / (32 * n1**3 * n2 * n3)
    sums += ((5 * order + 11) / (256 * n1**4 * n2**2 * n3 * n4),)
    total = 0.0
    for k, term in enumerate(sums, start=1):
        # t^n - x^n - n x^(n - 1) (t - x) at y is (y - x)^2 times this, n = 2k.
        rest = sum((j + 1) * x**j * y ** (2 * k - 2 - j) for j in range(2 * k - 1))
        total = total + (-1) ** (k + 1) * term / k * rest
    return (y - x) ** 2 * total


def _ratios_over_x(order: float, x: jax.Array) -> list[jax.Array]:
    """I_(j + 1)(x) / (x I_j(x)) for j = order and the `NUM_ORDERS` - 1 orders above, by the recurrence downwards."""
    top, square = order + 2 * NUM_ORDERS, x**2
    over_x = 1 / (top + 0.5 + jnp.sqrt((top + 1.0) ** 2 + square))  # between Amos' bounds
    found = []
    for step in range(1, 2 * NUM_ORDERS + 1):
        over_x = 1 / (2 * (top - step + 1) + square * over_x)
        found.append(over_x)
    return found[: NUM_ORDERS - 1 : -1]
