"""Distributions of directions: von Mises on the circle, von Mises-Fisher on the sphere.

Floor 1.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxelbo import bessel
from jaxelbo.exponential import ExponentialFamily


class VonMises(NamedTuple):
    """Density exp(k cos(x - loc)) on an angle: ``loc`` in radians and ``concentration`` k, positive."""

    loc: jax.Array
    concentration: jax.Array


class VonMisesFisher(NamedTuple):
    """Density exp(k <m, x>) over unit vectors ``[D]``: ``loc [D]`` the unit vector m, ``concentration`` k, positive."""

    loc: jax.Array
    concentration: jax.Array


def kl_von_mises(q: VonMises, p: VonMises) -> jax.Array:
    """KL(q || p) in nats."""
    versine = 2 * jnp.sin(0.5 * (q.loc - p.loc)) ** 2
    return _kl(0.0, q.concentration, p.concentration, versine)


def kl_von_mises_fisher(q: VonMisesFisher, p: VonMisesFisher) -> jax.Array:
    """KL(q || p) in nats."""
    return _kl(0.5 * q.loc.size - 1, q.concentration, p.concentration, 0.5 * jnp.sum((q.loc - p.loc) ** 2))


def _kl(order: float, concentration_q: jax.Array, concentration_p: jax.Array, versine: jax.Array) -> jax.Array:
    of_concentration = bessel.divergence(order, concentration_p, concentration_q)
    return of_concentration + bessel.ratio(order, concentration_q) * concentration_p * versine


def _length(vector: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.sum(vector**2) + jnp.finfo(vector.dtype).tiny)  # differentiable at 0


def _log_normalizer(natural: jax.Array) -> jax.Array:
    size = natural.size
    return bessel.log_scaled(0.5 * size - 1, _length(natural)) + 0.5 * size * math.log(2 * math.pi)


def _guess(mean: jax.Array) -> jax.Array:
    """Banerjee, Dhillon, Ghosh, Sra (2005)."""
    square = jnp.sum(mean**2)
    return mean * (mean.size - square) / (1 - square)


def _von_mises_of(natural: jax.Array) -> VonMises:
    return VonMises(jnp.arctan2(natural[1], natural[0]), _length(natural))


von_mises = ExponentialFamily(
    name="von Mises",
    log_normalizer=_log_normalizer,
    statistics=lambda x: jnp.stack([jnp.cos(x), jnp.sin(x)]),
    log_base=jnp.zeros_like,
    to_natural=lambda usual: usual.concentration * jnp.stack([jnp.cos(usual.loc), jnp.sin(usual.loc)]),
    to_usual=_von_mises_of,
    guess=_guess,
    expected_log_base=lambda natural, mean: jnp.zeros((), mean.dtype),
    contains=lambda natural: jnp.all(jnp.isfinite(natural)),
)

von_mises_fisher = von_mises._replace(
    name="von Mises-Fisher",
    statistics=lambda x: x,
    log_base=lambda x: jnp.zeros((), x.dtype),
    to_natural=lambda usual: usual.concentration * usual.loc,
    to_usual=lambda natural: VonMisesFisher(natural / _length(natural), _length(natural)),
)
