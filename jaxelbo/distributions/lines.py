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
from jaxelbo.distributions.normals import Normal

NUM_NODES = 128


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
    ratio = q.scale / p.scale
    log_moment = (p.loc - q.loc) / p.scale + gammaln(1 + ratio)
    return bregman.excess(log_moment) + bregman.of_log_gamma(ratio, jnp.ones_like(ratio))


def kl_cauchy(q: Cauchy, p: Cauchy) -> jax.Array:
    """KL(q || p) in nats; the same in both directions. Chyzak, Nielsen (2019)."""
    gap, shift = (q.scale - p.scale), (q.loc - p.loc)
    return jnp.log1p(0.25 * ((gap / q.scale) * (gap / p.scale) + (shift / q.scale) * (shift / p.scale)))


def entropy_student_t(student_t: StudentT) -> jax.Array:
    """Entropy in nats."""
    half = 0.5 * student_t.df
    return (half + 0.5) * (digamma(half + 0.5) - digamma(half)) + _log_normalizer_student_t(student_t)


def _log_normalizer_student_t(student_t: StudentT) -> jax.Array:
    half = 0.5 * student_t.df
    log_beta = gammaln(half) + 0.5 * math.log(math.pi) - gammaln(half + 0.5)
    return log_beta + 0.5 * jnp.log(student_t.df) + jnp.log(student_t.scale)


def kl_student_t_normal(q: StudentT, p: Normal) -> jax.Array:
    """KL(q || p) in nats of a Student-t and a normal; infinite for two degrees of freedom or fewer."""
    is_finite = q.df > 2
    variance = q.scale**2 * q.df / jnp.where(is_finite, q.df - 2, 1)
    square = (variance + (q.loc - p.loc) ** 2) / p.scale**2
    kl = 0.5 * square + jnp.log(p.scale) + 0.5 * jnp.log(2 * jnp.pi) - entropy_student_t(q)
    return jnp.where(is_finite, kl, jnp.inf)


def kl_normal_student_t_by_quadrature(q: Normal, p: StudentT) -> jax.Array:
    """KL(q || p) in nats of a normal and a Student-t, by Gauss-Hermite quadrature with 128 nodes.

    The mean of log(1 + t^2 / df) has no closed form. The quadrature is right to 1e-8 where q's standard deviation is up
    to about p's scale times sqrt(df), and errs by some 1e-3 where it is a hundred times that.
    """
    nodes, weights = (jnp.asarray(each, q.loc.dtype) for each in np.polynomial.hermite_e.hermegauss(NUM_NODES))
    weights = weights / jnp.sum(weights)
    distance = (q.loc + q.scale * nodes - p.loc) / p.scale
    mean = jnp.sum(weights * jnp.log1p(distance**2 / p.df))
    entropy = jnp.log(q.scale) + 0.5 * jnp.log(2 * jnp.pi) + 0.5
    return 0.5 * (p.df + 1) * mean + _log_normalizer_student_t(p) - entropy
