"""KL between different distributions of a positive number, by moments of x and of its logarithm.

Floor 1. Most q here are powers of a gamma variable, x = c G^(1 / h), so E[x^k], E[log x] and E[(log x)^2] are closed.
Most p have a log density that is a sum of such terms. What one lacks, the pair lacks.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import digamma, gammaln, polygamma

from jaxelbo.distributions.gammas import ChiSquared, Exponential, Gamma, InverseGamma, gamma_of
from jaxelbo.distributions.normals import InverseGaussian, LogNormal
from jaxelbo.distributions.scales import HalfNormal, Pareto, Rayleigh, Weibull

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class _Power(NamedTuple):
    """x = exp(log_scale) G^(1 / exponent) with G a gamma variable of this shape and rate 1."""

    shape: jax.Array
    log_scale: jax.Array
    exponent: jax.Array


class _Terms(NamedTuple):
    """A log density: constant + of_log log x + sum of factors x^powers + of_log_square (log x)^2."""

    constant: jax.Array
    of_log: jax.Array
    factors: tuple[jax.Array, ...]
    powers: tuple[jax.Array, ...]
    of_log_square: jax.Array


def kl_of_moments(q: Any, p: Any) -> jax.Array:
    """KL(q || p) in nats; infinite where a moment is that p's density asks for.

    It is a difference, and in float32 loses digits where its terms are large and q and p close.
    """
    terms = _terms(p)
    expected = terms.constant + terms.of_log * _mean_log(q) + terms.of_log_square * _mean_log_square(q)
    for factor, power in zip(terms.factors, terms.powers, strict=True):
        expected = expected + factor * _moment(q, power)
    return -_entropy(q) - expected


def _power(q: Any) -> _Power:
    if isinstance(q, InverseGamma):
        return _Power(q.concentration, jnp.log(q.scale), -jnp.ones_like(q.scale))
    if isinstance(q, Weibull):
        return _Power(jnp.ones_like(q.scale), jnp.log(q.scale), q.shape)
    if isinstance(q, Rayleigh | HalfNormal):
        shape = jnp.full_like(q.scale, 1.0 if isinstance(q, Rayleigh) else 0.5)
        return _Power(shape, jnp.log(q.scale) + 0.5 * math.log(2), jnp.full_like(q.scale, 2.0))
    of_gamma = gamma_of(q)
    return _Power(of_gamma.concentration, -jnp.log(of_gamma.rate), jnp.ones_like(of_gamma.rate))


def _mean_log(q: Any) -> jax.Array:
    if isinstance(q, LogNormal):
        return q.loc
    if isinstance(q, Pareto):
        return jnp.log(q.minimum) + 1 / q.concentration
    power = _power(q)
    return power.log_scale + digamma(power.shape) / power.exponent


def _mean_log_square(q: Any) -> jax.Array:
    if isinstance(q, LogNormal):
        variance = q.scale**2
    elif isinstance(q, Pareto):
        variance = q.concentration**-2
    else:
        power = _power(q)
        variance = polygamma(1, power.shape) / power.exponent**2
    return variance + _mean_log(q) ** 2


def _moment(q: Any, power: jax.Array) -> jax.Array:
    """E[x^power], infinite where it is."""
    if isinstance(q, LogNormal):
        return jnp.exp(power * q.loc + 0.5 * (power * q.scale) ** 2)
    if isinstance(q, Pareto):
        excess = q.concentration - power
        finite = q.minimum**power * q.concentration / jnp.where(excess > 0, excess, 1)
        return jnp.where(excess > 0, finite, jnp.inf)
    of_gamma = _power(q)
    moved = of_gamma.shape + power / of_gamma.exponent
    log_moment = power * of_gamma.log_scale + gammaln(jnp.where(moved > 0, moved, 1)) - gammaln(of_gamma.shape)
    return jnp.where(moved > 0, jnp.exp(log_moment), jnp.inf)


def _entropy(q: Any) -> jax.Array:
    if isinstance(q, LogNormal):
        return q.loc + jnp.log(q.scale) + _HALF_LOG_2PI + 0.5
    if isinstance(q, Pareto):
        return jnp.log(q.minimum) - jnp.log(q.concentration) + 1 + 1 / q.concentration
    power = _power(q)
    mean_log = digamma(power.shape)
    of_gamma = power.shape + gammaln(power.shape) + (1 - power.shape) * mean_log
    return of_gamma + power.log_scale - jnp.log(jnp.abs(power.exponent)) + (1 / power.exponent - 1) * mean_log


def _terms(p: Any) -> _Terms:
    if isinstance(p, LogNormal):
        zero, precision = jnp.zeros_like(p.loc), p.scale**-2
        constant = -_HALF_LOG_2PI - jnp.log(p.scale) - 0.5 * precision * p.loc**2
        return _Terms(constant, precision * p.loc - 1, (), (), -0.5 * precision + zero)
    if isinstance(p, InverseGaussian):
        zero, one, half = jnp.zeros_like(p.loc), jnp.ones_like(p.loc), 0.5 * p.concentration
        constant = 0.5 * jnp.log(p.concentration) - _HALF_LOG_2PI + p.concentration / p.loc
        return _Terms(constant, -1.5 * one, (-half / p.loc**2, -half), (one, -one), zero)
    power = _power(p)  # the density of c G^(1 / h): |h| (x / c)^(h a) exp(-(x / c)^h) / (x Gamma(a))
    moved = power.exponent * power.shape
    constant = jnp.log(jnp.abs(power.exponent)) - moved * power.log_scale - gammaln(power.shape)
    factor = -jnp.exp(-power.exponent * power.log_scale)
    return _Terms(constant, moved - 1, (factor,), (power.exponent,), jnp.zeros_like(moved))


SOURCES = (Gamma, Exponential, ChiSquared, InverseGamma, Weibull, Rayleigh, HalfNormal, LogNormal, Pareto)
TARGETS = (Gamma, Exponential, ChiSquared, InverseGamma, Weibull, Rayleigh, HalfNormal, LogNormal, InverseGaussian)
