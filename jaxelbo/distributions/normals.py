"""Normal distributions and what follows from them: log-normal, inverse Gaussian; the multivariate ones by `gaussians`.

Floor 1.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxelbo import bregman, gaussians
from jaxelbo.exponential import ExponentialFamily, Natural
from jaxelbo.gaussians import product

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class Normal(NamedTuple):
    """``loc`` and standard deviation ``scale``."""

    loc: jax.Array
    scale: jax.Array


class LogNormal(NamedTuple):
    """log x is normal: ``loc`` and standard deviation ``scale`` of the logarithm."""

    loc: jax.Array
    scale: jax.Array


class InverseGaussian(NamedTuple):
    """When Brownian motion with drift first gets somewhere: mean ``loc``, and ``concentration`` lambda, positive.

    The variance is loc^3 / concentration.
    """

    loc: jax.Array
    concentration: jax.Array


def kl_normal(q: Normal, p: Normal) -> jax.Array:
    """KL(q || p) in nats."""
    return 0.5 * (((q.loc - p.loc) / p.scale) ** 2 + bregman.excess(2 * bregman.log_ratio(q.scale, p.scale)))


def kl_log_normal(q: LogNormal, p: LogNormal) -> jax.Array:
    """KL(q || p) in nats: that of the logarithms."""
    return kl_normal(Normal(*q), Normal(*p))


def kl_inverse_gaussian(q: InverseGaussian, p: InverseGaussian) -> jax.Array:
    """KL(q || p) in nats."""
    shift = (q.loc - p.loc) / p.loc
    return 0.5 * (bregman.of_minus_log(p.concentration, q.concentration) + p.concentration / q.loc * shift**2)


def _scale_of(natural: Natural) -> jax.Array:
    return jnp.sqrt(-0.5 / natural[1])


def _log_normalizer(natural: Natural) -> jax.Array:
    return -0.25 * natural[0] ** 2 / natural[1] - 0.5 * jnp.log(-2 * natural[1]) + _HALF_LOG_2PI


def _guess(mean: Natural) -> Natural:
    variance = mean[1] - mean[0] ** 2
    return mean[0] / variance, -0.5 / variance


normal = ExponentialFamily(
    name="normal",
    log_normalizer=_log_normalizer,
    statistics=lambda x: (x, x**2),
    log_base=jnp.zeros_like,
    to_natural=lambda usual: (usual.loc / usual.scale**2, -0.5 / usual.scale**2),
    to_usual=lambda natural: Normal(-0.5 * natural[0] / natural[1], _scale_of(natural)),
    guess=_guess,
    expected_log_base=lambda natural, mean: jnp.zeros_like(mean[0]),
    contains=lambda natural: natural[1] < 0,
)

log_normal = normal._replace(
    name="log-normal",
    statistics=lambda x: (jnp.log(x), jnp.log(x) ** 2),
    log_base=lambda x: -jnp.log(x),
    to_usual=lambda natural: LogNormal(*normal.to_usual(natural)),
    expected_log_base=lambda natural, mean: -mean[0],
)


def normal_of_known_scale(scale: jax.Array) -> ExponentialFamily:
    """Normal distributions of this standard deviation."""
    return ExponentialFamily(
        name="normal of known scale",
        log_normalizer=lambda natural: 0.5 * (scale * natural) ** 2,
        statistics=lambda x: x,
        log_base=lambda x: -0.5 * (x / scale) ** 2 - jnp.log(scale) - _HALF_LOG_2PI,
        to_natural=lambda usual: usual.loc / scale**2,
        to_usual=lambda natural: Normal(scale**2 * natural, jnp.full_like(natural, scale)),
        guess=lambda mean: mean / scale**2,
        expected_log_base=lambda natural, mean: -0.5 * (1 + (mean / scale) ** 2) - jnp.log(scale) - _HALF_LOG_2PI,
        contains=jnp.isfinite,
    )


def _guess_inverse_gaussian(mean: Natural) -> Natural:
    concentration = 1 / (mean[1] - 1 / mean[0])
    return -0.5 * concentration / mean[0] ** 2, -0.5 * concentration


inverse_gaussian = ExponentialFamily(
    name="inverse Gaussian",
    log_normalizer=lambda natural: -0.5 * jnp.log(-2 * natural[1]) - 2 * jnp.sqrt(natural[0] * natural[1]),
    statistics=lambda x: (x, 1 / x),
    log_base=lambda x: -_HALF_LOG_2PI - 1.5 * jnp.log(x),
    to_natural=lambda usual: (-0.5 * usual.concentration / usual.loc**2, -0.5 * usual.concentration),
    to_usual=lambda natural: InverseGaussian(jnp.sqrt(natural[1] / natural[0]), -2 * natural[1]),
    guess=_guess_inverse_gaussian,
    expected_log_base=None,
    contains=lambda natural: (natural[0] < 0) & (natural[1] < 0),
)

diagonal_normal = ExponentialFamily(
    name="normal of independent entries",
    log_normalizer=lambda natural: jnp.sum(_log_normalizer(natural)),
    statistics=lambda x: (x, x**2),
    log_base=lambda x: jnp.zeros((), x.dtype),
    to_natural=lambda usual: (usual.loc * jnp.exp(-2 * usual.log_scale), -0.5 * jnp.exp(-2 * usual.log_scale)),
    to_usual=lambda natural: gaussians.Diagonal(-0.5 * natural[0] / natural[1], jnp.log(_scale_of(natural))),
    guess=_guess,
    expected_log_base=lambda natural, mean: jnp.zeros((), mean[0].dtype),
    contains=lambda natural: jnp.all(natural[1] < 0),
)


def triangle(matrix: jax.Array) -> jax.Array:
    """The entries ``[D (D + 1) / 2]`` of a symmetric matrix on and below its diagonal."""
    return matrix[np.tril_indices(len(matrix))]  # constants: made by jax they would be compiled each time


def doubled_triangle(matrix: jax.Array) -> jax.Array:
    """The same with those below twice, so that its product with a `triangle` is the trace of the matrices' product."""
    return triangle(2 * matrix - jnp.diag(jnp.diag(matrix)))


def symmetric(triangle: jax.Array, size: int) -> jax.Array:
    """The symmetric matrix ``[D, D]`` of a `triangle`."""
    lower = jnp.zeros((size, size), triangle.dtype).at[np.tril_indices(size)].set(triangle)
    return lower + jnp.tril(lower, -1).T


def symmetric_of_doubled(triangle: jax.Array, size: int) -> jax.Array:
    """The symmetric matrix of a `doubled_triangle`."""
    full = symmetric(triangle, size)
    return 0.5 * (full + jnp.diag(jnp.diag(full)))


def dense_of(loc: jax.Array, covariance: jax.Array) -> gaussians.Dense:
    """The record of a mean and a covariance."""
    scale_tril = jnp.linalg.cholesky(covariance)
    scales = jnp.diag(scale_tril)
    return gaussians.Dense(loc, jnp.log(scales), jnp.tril(scale_tril / scales[:, None], -1))


def covariance_of(gaussian: gaussians.Dense) -> jax.Array:
    """The covariance ``[D, D]``."""
    root = gaussians.root(gaussian)
    return product(root, root.T)


def _precision_of(natural: Natural) -> jax.Array:
    return -2 * symmetric_of_doubled(natural[1], natural[0].size)


def _multivariate_log_normalizer(natural: Natural) -> jax.Array:
    precision = _precision_of(natural)
    of_loc = 0.5 * jnp.vdot(natural[0], jnp.linalg.solve(precision, natural[0]))
    return of_loc - 0.5 * jnp.linalg.slogdet(precision)[1] + natural[0].size * _HALF_LOG_2PI


def _multivariate_to_natural(usual: gaussians.Dense) -> Natural:
    precision = jnp.linalg.inv(covariance_of(usual))
    return product(precision, usual.loc), doubled_triangle(-0.5 * precision)


def _multivariate_to_usual(natural: Natural) -> gaussians.Dense:
    covariance = jnp.linalg.inv(_precision_of(natural))
    return dense_of(product(covariance, natural[0]), covariance)


def _multivariate_guess(mean: Natural) -> Natural:
    covariance = symmetric(mean[1], mean[0].size) - mean[0][:, None] * mean[0][None]
    return _multivariate_to_natural(dense_of(mean[0], covariance))


multivariate_normal = ExponentialFamily(
    name="multivariate normal",
    log_normalizer=_multivariate_log_normalizer,
    statistics=lambda x: (x, triangle(x[:, None] * x[None])),
    log_base=lambda x: jnp.zeros((), x.dtype),
    to_natural=_multivariate_to_natural,
    to_usual=_multivariate_to_usual,
    guess=_multivariate_guess,
    expected_log_base=lambda natural, mean: jnp.zeros((), mean[0].dtype),
    contains=lambda natural: jnp.all(jnp.linalg.eigvalsh(_precision_of(natural)) > 0),
)
