"""KL between different distributions on the line.

Floor 1.
"""

import math

import jax
import jax.numpy as jnp
from jax.scipy.special import erf

from jaxelbo.distributions.lines import Gumbel, Uniform
from jaxelbo.distributions.normals import Normal
from jaxelbo.distributions.scales import EULER, Laplace

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def kl_normal_laplace(q: Normal, p: Laplace) -> jax.Array:
    """KL(q || p) in nats of a normal and a Laplace distribution."""
    shift = (q.loc - p.loc) / q.scale
    mean_distance = math.sqrt(2 / math.pi) * jnp.exp(-0.5 * shift**2) + shift * erf(shift / math.sqrt(2))
    ratio = q.scale / p.scale
    return ratio * mean_distance - jnp.log(ratio) + math.log(2) - _HALF_LOG_2PI - 0.5


def kl_laplace_normal(q: Laplace, p: Normal) -> jax.Array:
    """KL(q || p) in nats of a Laplace distribution and a normal."""
    ratio, shift = q.scale / p.scale, (q.loc - p.loc) / p.scale
    return ratio**2 + 0.5 * shift**2 - jnp.log(ratio) + _HALF_LOG_2PI - 1 - math.log(2)


def kl_normal_gumbel(q: Normal, p: Gumbel) -> jax.Array:
    """KL(q || p) in nats of a normal and a Gumbel distribution."""
    ratio, shift = q.scale / p.scale, (q.loc - p.loc) / p.scale
    return shift + jnp.exp(0.5 * ratio**2 - shift) - jnp.log(ratio) - _HALF_LOG_2PI - 0.5


def kl_gumbel_normal(q: Gumbel, p: Normal) -> jax.Array:
    """KL(q || p) in nats of a Gumbel distribution and a normal."""
    ratio, shift = q.scale / p.scale, (q.loc - p.loc) / p.scale
    square = (shift + EULER * ratio) ** 2 + (math.pi * ratio) ** 2 / 6
    return 0.5 * square - jnp.log(ratio) + _HALF_LOG_2PI - 1 - EULER


def kl_uniform_normal(q: Uniform, p: Normal) -> jax.Array:
    """KL(q || p) in nats of a uniform distribution and a normal."""
    ratio, shift = (q.high - q.low) / p.scale, 0.5 * ((q.low - p.loc) + (q.high - p.loc)) / p.scale
    return 0.5 * (shift**2 + ratio**2 / 12) - jnp.log(ratio) + _HALF_LOG_2PI
