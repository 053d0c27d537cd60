"""Distributions known but for a scale or an exponent: Laplace, Pareto, Weibull, Rayleigh, half-normal.

Floor 1. The exponential families are those of known location, minimum or shape; other constants are another family.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxelbo import bregman
from jaxelbo.exponential import ExponentialFamily

EULER = bregman.EULER


class Laplace(NamedTuple):
    """Density exp(-|x - loc| / scale) on the line."""

    loc: jax.Array
    scale: jax.Array


class Pareto(NamedTuple):
    """Density x^(-a - 1) from ``minimum`` on: ``concentration`` a, both positive."""

    minimum: jax.Array
    concentration: jax.Array


class Weibull(NamedTuple):
    """(x / scale)^k is exponential of rate 1: ``shape`` k and ``scale``, positive."""

    shape: jax.Array
    scale: jax.Array


class Rayleigh(NamedTuple):
    """The length of two independent normals of standard deviation ``scale``."""

    scale: jax.Array


class HalfNormal(NamedTuple):
    """The absolute value of a normal of mean 0 and standard deviation ``scale``."""

    scale: jax.Array


def kl_laplace(q: Laplace, p: Laplace) -> jax.Array:
    """KL(q || p) in nats."""
    distance, ratio = jnp.abs(q.loc - p.loc) / q.scale, q.scale / p.scale
    return bregman.of_minus_log(q.scale, p.scale) + ratio * bregman.excess(-distance)


def kl_pareto(q: Pareto, p: Pareto) -> jax.Array:
    """KL(q || p) in nats; infinite where q reaches below p's minimum."""
    log_rise = bregman.log_ratio(q.minimum, p.minimum)
    beyond = p.concentration * jnp.where(log_rise < 0, jnp.inf, log_rise)
    return bregman.of_minus_log(p.concentration, q.concentration) + beyond


def kl_weibull(q: Weibull, p: Weibull) -> jax.Array:
    """KL(q || p) in nats."""
    return kl_of_weibulls(q.shape, p.shape, bregman.log_ratio(q.scale, p.scale))


def kl_of_weibulls(shape_q: jax.Array, shape_p: jax.Array, log_ratio: jax.Array) -> jax.Array:
    """KL(q || p) in nats, by the logarithm of q's scale over p's.

    With c = k_p / k_q and E[(x / scale_p)^k_p] = exp(m): exp(m) - 1 - m, and a divergence of log-gamma at (c, 1).
    """
    ratio, gap = shape_p / shape_q, (shape_p - shape_q) / shape_q
    log_moment = shape_p * log_ratio + bregman.log_gamma_beyond(gap)
    return bregman.excess(log_moment) + bregman.of_log_gamma_by_gap(ratio, jnp.ones_like(ratio), gap)


def kl_rayleigh(q: Rayleigh, p: Rayleigh) -> jax.Array:
    """KL(q || p) in nats."""
    return bregman.excess(2 * bregman.log_ratio(q.scale, p.scale))


def kl_half_normal(q: HalfNormal, p: HalfNormal) -> jax.Array:
    """KL(q || p) in nats."""
    return 0.5 * bregman.excess(2 * bregman.log_ratio(q.scale, p.scale))


def laplace(loc: jax.Array) -> ExponentialFamily:
    """Laplace distributions of this location."""
    return ExponentialFamily(
        name="Laplace of known location",
        log_normalizer=lambda natural: math.log(2) - jnp.log(-natural),
        statistics=lambda x: jnp.abs(x - loc),
        log_base=jnp.zeros_like,
        to_natural=lambda usual: -1 / usual.scale,
        to_usual=lambda natural: Laplace(jnp.asarray(loc, jnp.result_type(natural)), -1 / natural),
        guess=lambda mean: -1 / mean,
        expected_log_base=lambda natural, mean: jnp.zeros_like(mean),
        contains=lambda natural: natural < 0,
    )


def pareto(minimum: jax.Array) -> ExponentialFamily:
    """Pareto distributions of this minimum."""
    return ExponentialFamily(
        name="Pareto of known minimum",
        log_normalizer=lambda natural: natural * jnp.log(minimum) - jnp.log(-natural),
        statistics=jnp.log,
        log_base=lambda x: -jnp.log(x),
        to_natural=lambda usual: -usual.concentration,
        to_usual=lambda natural: Pareto(jnp.asarray(minimum, jnp.result_type(natural)), -natural),
        guess=lambda mean: -1 / (mean - jnp.log(minimum)),
        expected_log_base=lambda natural, mean: -mean,
        contains=lambda natural: natural < 0,
    )


def weibull(shape: jax.Array) -> ExponentialFamily:
    """Weibull distributions of this shape."""
    return ExponentialFamily(
        name="Weibull of known shape",
        log_normalizer=lambda natural: -jnp.log(-natural),
        statistics=lambda x: x**shape,
        log_base=lambda x: jnp.log(shape) + (shape - 1) * jnp.log(x),
        to_natural=lambda usual: -(usual.scale**-shape),
        to_usual=lambda natural: Weibull(jnp.asarray(shape, jnp.result_type(natural)), (-natural) ** (-1 / shape)),
        guess=lambda mean: -1 / mean,
        expected_log_base=lambda natural, mean: jnp.log(shape) + (1 - 1 / shape) * (jnp.log(mean) - EULER),
        contains=lambda natural: natural < 0,
    )


rayleigh = ExponentialFamily(
    name="Rayleigh",
    log_normalizer=lambda natural: -jnp.log(-2 * natural),
    statistics=jnp.square,
    log_base=jnp.log,
    to_natural=lambda usual: -0.5 / usual.scale**2,
    to_usual=lambda natural: Rayleigh(jnp.sqrt(-0.5 / natural)),
    guess=lambda mean: -1 / mean,
    expected_log_base=lambda natural, mean: 0.5 * (jnp.log(mean) - EULER),
    contains=lambda natural: natural < 0,
)
