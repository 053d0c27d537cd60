"""Gamma distributions and their kin: exponential, chi-squared, inverse gamma.

Floor 1. Records of parameters, their exponential families, and KL(q || p) without cancellation.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import digamma, gammaln

from jaxelbo import bregman
from jaxelbo.exponential import ExponentialFamily, Natural


class Gamma(NamedTuple):
    """Density x^(a - 1) exp(-r x) on x > 0: ``concentration`` a and ``rate`` r, positive."""

    concentration: jax.Array
    rate: jax.Array


class InverseGamma(NamedTuple):
    """Density x^(-a - 1) exp(-s / x) on x > 0: ``concentration`` a and ``scale`` s, positive."""

    concentration: jax.Array
    scale: jax.Array


class ChiSquared(NamedTuple):
    """The sum of so many squares of standard normals: ``df`` degrees of freedom, positive."""

    df: jax.Array


class Exponential(NamedTuple):
    """Density exp(-r x) on x > 0: ``rate`` r, positive."""

    rate: jax.Array


def kl_gamma(q: Gamma, p: Gamma) -> jax.Array:
    """KL(q || p) in nats."""
    return bregman.of_log_gamma_and_rate(q.concentration, p.concentration, p.rate / q.rate)


def kl_inverse_gamma(q: InverseGamma, p: InverseGamma) -> jax.Array:
    """KL(q || p) in nats: that of the gammas of 1 / x."""
    return bregman.of_log_gamma_and_rate(q.concentration, p.concentration, p.scale / q.scale)


def kl_chi_squared(q: ChiSquared, p: ChiSquared) -> jax.Array:
    """KL(q || p) in nats."""
    return bregman.of_log_gamma(0.5 * p.df, 0.5 * q.df)


def kl_exponential(q: Exponential, p: Exponential) -> jax.Array:
    """KL(q || p) in nats."""
    return bregman.of_minus_log(p.rate, q.rate)


def gamma_of(distribution: Gamma | ChiSquared | Exponential) -> Gamma:
    """Each of these as the gamma distribution that it is."""
    if isinstance(distribution, ChiSquared):
        half = 0.5 * distribution.df
        return Gamma(half, jnp.full_like(half, 0.5))
    if isinstance(distribution, Exponential):
        return Gamma(jnp.ones_like(distribution.rate), distribution.rate)
    return distribution


def concentration_of_log_gap(gap: jax.Array) -> jax.Array:
    """Nearly the a with log(a) - digamma(a) = gap, for a gap above 0; Minka (2002)."""
    return (3 - gap + jnp.sqrt((gap - 3) ** 2 + 24 * gap)) / (12 * gap)


def _guess_gamma(mean: Natural, sign: float) -> Natural:
    mean_log, mean_power = mean
    concentration = concentration_of_log_gap(jnp.log(mean_power) - sign * mean_log)
    return sign * concentration, -concentration / mean_power


gamma = ExponentialFamily(
    name="gamma",
    log_normalizer=lambda natural: gammaln(natural[0]) - natural[0] * jnp.log(-natural[1]),
    statistics=lambda x: (jnp.log(x), x),
    log_base=lambda x: -jnp.log(x),
    to_natural=lambda usual: (usual.concentration, -usual.rate),
    to_usual=lambda natural: Gamma(natural[0], -natural[1]),
    guess=functools.partial(_guess_gamma, sign=1.0),
    expected_log_base=lambda natural, mean: -mean[0],
    contains=lambda natural: (natural[0] > 0) & (natural[1] < 0),
)

inverse_gamma = ExponentialFamily(
    name="inverse gamma",
    log_normalizer=lambda natural: gammaln(-natural[0]) + natural[0] * jnp.log(-natural[1]),
    statistics=lambda x: (jnp.log(x), 1 / x),
    log_base=lambda x: -jnp.log(x),
    to_natural=lambda usual: (-usual.concentration, -usual.scale),
    to_usual=lambda natural: InverseGamma(-natural[0], -natural[1]),
    guess=functools.partial(_guess_gamma, sign=-1.0),
    expected_log_base=lambda natural, mean: -mean[0],
    contains=lambda natural: (natural[0] < 0) & (natural[1] < 0),
)


def _guess_chi_squared(mean: Natural) -> Natural:
    mean_log = mean - math.log(2)  # digamma(df / 2)
    return jnp.where(mean_log > -2.2, jnp.exp(mean_log) + 0.5, -1 / (mean_log + digamma(1.0)))


chi_squared = ExponentialFamily(
    name="chi-squared",
    log_normalizer=lambda natural: gammaln(natural) + natural * math.log(2),
    statistics=jnp.log,
    log_base=lambda x: -0.5 * x - jnp.log(x),
    to_natural=lambda usual: 0.5 * usual.df,
    to_usual=lambda natural: ChiSquared(2 * natural),
    guess=_guess_chi_squared,
    expected_log_base=lambda natural, mean: -natural - mean,
    contains=lambda natural: natural > 0,
)

exponential = ExponentialFamily(
    name="exponential",
    log_normalizer=lambda natural: -jnp.log(-natural),
    statistics=lambda x: x,
    log_base=lambda x: jnp.zeros_like(x),
    to_natural=lambda usual: -usual.rate,
    to_usual=lambda natural: Exponential(-natural),
    guess=lambda mean: -1 / mean,
    expected_log_base=lambda natural, mean: jnp.zeros_like(mean),
    contains=lambda natural: natural < 0,
)
