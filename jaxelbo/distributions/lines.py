"""Distributions on the line that are no exponential families: uniform, Gumbel, Cauchy, Student-t.

Floor 1.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import digamma, gammaln

from jaxelbo import bregman
from jaxelbo.distributions import stirling
from jaxelbo.distributions.normals import Normal

NUM_NODES, NUM_POINTS = 128, 401

_HALF_STEP = (-1 / 8, 1 / 192, -1 / 640, 17 / 14336, -31 / 18432, 691 / 180224, -5461 / 425984)
"""The series of lgamma(n + 1/2) - lgamma(n) - log(n) / 2 in odd powers of 1 / n."""


class Uniform(NamedTuple):
    """Density 1 / (high - low) between ``low`` and ``high``."""

    low: jax.Array
    high: jax.Array


class Gumbel(NamedTuple):
    """The limit of maxima: -log of an exponential variable of rate 1, times ``scale``, plus ``loc``."""

    loc: jax.Array
    scale: jax.Array


class Cauchy(NamedTuple):
    """Student's t with one degree of freedom: ``loc`` and ``scale``."""

    loc: jax.Array
    scale: jax.Array


class StudentT(NamedTuple):
    """Student's t: ``df`` degrees of freedom, ``loc`` and ``scale``."""

    df: jax.Array
    loc: jax.Array
    scale: jax.Array


def kl_uniform(q: Uniform, p: Uniform) -> jax.Array:
    """KL(q || p) in nats; infinite unless p contains q."""
    is_inside = (q.low >= p.low) & (q.high <= p.high)
    excess = ((p.high - q.high) + (q.low - p.low)) / (q.high - q.low)
    return jnp.where(is_inside, jnp.log1p(jnp.where(is_inside, excess, 0)), jnp.inf)


def kl_gumbel(q: Gumbel, p: Gumbel) -> jax.Array:
    """KL(q || p) in nats.

    With c the ratio of scales and E[exp(-(x - loc_p) / scale_p)] = exp(m): exp(m) - 1 - m, and a divergence of
    log-gamma at (c, 1).
    """
    ratio, gap = q.scale / p.scale, (q.scale - p.scale) / p.scale
    log_moment = (p.loc - q.loc) / p.scale + bregman.log_gamma_beyond(gap)
    return bregman.excess(log_moment) + bregman.of_log_gamma_by_gap(ratio, jnp.ones_like(ratio), gap)


def kl_cauchy(q: Cauchy, p: Cauchy) -> jax.Array:
    """KL(q || p) in nats; the same in both directions. Chyzak, Nielsen (2019)."""
    gap, shift = (q.scale - p.scale), (q.loc - p.loc)
    return jnp.log1p(0.25 * ((gap / q.scale) * (gap / p.scale) + (shift / q.scale) * (shift / p.scale)))


def entropy_student_t(student_t: StudentT) -> jax.Array:
    """Entropy in nats."""
    half = 0.5 * student_t.df
    return (half + 0.5) * (digamma(half + 0.5) - digamma(half)) + _log_normalizer_student_t(student_t)


def log_density_student_t(student_t: StudentT, x: jax.Array) -> jax.Array:
    """Log density in nats; of values whose square overflows, too."""
    ratio = (x - student_t.loc) / (student_t.scale * jnp.sqrt(student_t.df))
    is_far = jnp.abs(ratio) > 1e8
    near = jnp.log1p(jnp.where(is_far, 1, ratio) ** 2)
    far = 2 * jnp.log(jnp.abs(jnp.where(is_far, ratio, 1)))
    return -0.5 * (student_t.df + 1) * jnp.where(is_far, far, near) - _log_normalizer_student_t(student_t)


def _log_normalizer_student_t(student_t: StudentT) -> jax.Array:
    of_beta = 0.5 * math.log(math.pi) - _log_gamma_step(0.5 * student_t.df)
    return of_beta + 0.5 * jnp.log(student_t.df) + jnp.log(student_t.scale)


def _log_gamma_step(half: jax.Array) -> jax.Array:
    """Log Gamma(half + 1/2) - log Gamma(half): for large ones by Stirling's series, where the difference cancels."""
    is_large = half > 30
    large, small = jnp.where(is_large, half, 30), jnp.where(is_large, 1, half)
    inverse = 1 / large
    square = inverse**2
    series = inverse * (-1 / 8 + square * (1 / 192 + square * (-1 / 640 + square * (17 / 14336))))
    return jnp.where(is_large, 0.5 * jnp.log(large) + series, gammaln(small + 0.5) - gammaln(small))


def kl_student_t_normal(q: StudentT, p: Normal) -> jax.Array:
    """KL(q || p) in nats of a Student-t and a normal; infinite for two degrees of freedom or fewer."""
    is_finite = q.df > 2
    df = jnp.where(is_finite, q.df, 4)
    log_variance = bregman.log_ratio_by_gap(df, df - 2, 2 * jnp.ones_like(df))
    of_normals = bregman.excess(2 * bregman.log_ratio(q.scale, p.scale) + log_variance)
    of_normals = of_normals + ((q.loc - p.loc) / p.scale) ** 2
    return jnp.where(is_finite, 0.5 * of_normals + _negentropy(df), jnp.inf)


def _negentropy(df: jax.Array) -> jax.Array:
    """KL of a Student-t and the normal of its mean and variance; what is of order 1 / df cancels."""
    n, is_large = 0.5 * df, df > 2 * bregman.NUM_SHIFTS
    two = 2 * jnp.ones_like(df)
    of_variance = 0.5 * bregman.of_minus_log_by_gap(df - two, df, -two)
    large = jnp.where(is_large, n, 2 * bregman.NUM_SHIFTS)
    (first, *terms), x = _HALF_STEP, 1 / large
    powers = 2 * np.arange(1, len(_HALF_STEP)) + 1
    series = 0.5 * first * x**2
    for term, power in zip(terms, powers.tolist(), strict=True):
        series = series + term * x**power * (power + 1 + 0.5 * power * x)
    moved, half = n + 0.5, 0.5 * jnp.ones_like(n)
    entropy = moved * bregman.digamma_rise(moved, n, half) - 0.5 - _half_step(n)  # less that of a standard normal
    return of_variance + jnp.where(is_large, series, 0.5 / n - entropy)


def _half_step(n: jax.Array) -> jax.Array:
    """lgamma(n + 1/2) - lgamma(n) - log(n) / 2."""
    is_large, is_small = n > bregman.NUM_SHIFTS, n < 1
    x = 1 / jnp.where(is_large, n, 2 * bregman.NUM_SHIFTS)
    large = sum(term * x ** (2 * k + 1) for k, term in enumerate(_HALF_STEP))
    middle, half = jnp.where(is_small, 1, n), 0.5 * jnp.ones_like(n)
    curved = bregman.of_log_gamma_by_gap(middle + half, middle, half) - 0.5 * stirling.log_less_digamma(middle)
    small = jnp.where(is_small, n, 1)
    plain = gammaln(small + 0.5) - gammaln(small) - 0.5 * jnp.log(small)
    return jnp.where(is_large, large, jnp.where(is_small, plain, curved))


def kl_normal_student_t_by_quadrature(q: Normal, p: StudentT) -> jax.Array:
    """KL(q || p) in nats of a normal and a Student-t, by quadrature; right to 1e-7 in float64.

    The mean of log(1 + t^2 / df) has no closed form. It is of Gauss and Hermite with 128 nodes, but where q is wide
    beside p's centre.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(NUM_NODES)
    nodes, weights = (jnp.asarray(each, q.loc.dtype) for each in (nodes, weights / np.sum(weights)))
    ratio, shift = q.scale / p.scale, (q.loc - p.loc) / p.scale
    squares = (shift + ratio * nodes) ** 2
    centre, width = (p.loc - q.loc) / q.scale, jnp.sqrt(p.df) / ratio
    is_wide = (width < 1) & (jnp.abs(centre) < 7)
    wide = _mean_log1p_wide(*(jnp.where(is_wide, each, 1) for each in (centre, width)))
    mean = jnp.where(is_wide, wide, jnp.sum(weights * jnp.log1p(squares / p.df)))
    plain = 0.5 * (p.df + 1) * mean - _half_step(0.5 * p.df)
    plain = plain - 0.5 - bregman.log_ratio(q.scale, p.scale)
    is_near = (p.df > 2 * bregman.NUM_SHIFTS) & (ratio**2 + shift**2 < 0.05 * p.df)
    df, scale, shift = (
        jnp.where(is_near, value, other) for value, other in ((p.df, 64), (q.scale, p.scale), (shift, 0))
    )
    return jnp.where(is_near, _kl_of_nearly_normal(df, scale, shift, p.scale, nodes, weights), plain)


def _mean_log1p_wide(centre: jax.Array, width: jax.Array) -> jax.Array:
    """E[log(1 + ((z - centre) / width)^2)] of a standard normal z that is wide beside the width: z - centre is a sinh.

    So the logarithm is smooth, and the trapezoidal rule of 401 points is right to rounding.
    """
    reach = jnp.arcsinh((9 + jnp.abs(centre)) / width)
    places = reach * jnp.linspace(-1, 1, NUM_POINTS, dtype=width.dtype)
    weights = jnp.exp(-0.5 * (centre + width * jnp.sinh(places)) ** 2) * jnp.cosh(places)
    log_cosh = jnp.abs(places) + jnp.log1p(jnp.exp(-2 * jnp.abs(places))) - math.log(2)
    return 2 * jnp.sum(weights * log_cosh) / jnp.sum(weights)


def _kl_of_nearly_normal(
    df: jax.Array, scale_q: jax.Array, shift: jax.Array, scale_p: jax.Array, nodes: jax.Array, weights: jax.Array
) -> jax.Array:
    """KL of a normal and a Student-t of many degrees of freedom, by powers of 1 / df of which some cancel.

    Moments of (x - loc)^2 and its square are closed; the quadrature is of what log(1 + x) leaves beyond x - x^2 / 2.
    """
    n, gap = 0.5 * df, (scale_q - scale_p) / scale_p
    ratio = 1 + gap
    excess, variance, square = gap * (2 + gap), ratio**2, shift**2  # excess = variance - 1
    first = (3 * variance + 1) * excess + (6 * variance - 2) * square + square**2
    fourth = 3 * variance**2 + 6 * variance * square + square**2
    of_step = sum(term * (1 / n) ** (2 * k + 3) for k, term in enumerate(_HALF_STEP[1:]))
    w = (shift + ratio * nodes) ** 2 / df
    tail = (n + 0.5) * jnp.sum(weights * _log1p_beyond_square(w))
    of_normals = 0.5 * (square + bregman.excess(2 * bregman.log_ratio(scale_q, scale_p)))
    return of_normals - first / (8 * n) - fourth / (16 * n**2) - of_step + tail


def _log1p_beyond_square(w: jax.Array) -> jax.Array:
    """log(1 + w) - w + w^2 / 2, by log(1 + w) = 2 atanh(u), u = w / (2 + w)."""
    is_near = w < 1
    near = jnp.where(is_near, w, 0)
    u, series = near / (2 + near), jnp.zeros_like(w)
    for power in range(33, 1, -2):
        series = u**2 * (series + 1 / power)
    far = jnp.where(is_near, 1, w)
    plain = jnp.log1p(far) - far + 0.5 * far**2
    return jnp.where(is_near, near**3 / (2 * (2 + near)) + 2 * u * series, plain)
