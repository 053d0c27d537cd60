"""Symmetric matrices: covariances and correlations themselves, through their Cholesky factors.

Floor 1. A model that needs the factor anyway, to solve or to take a determinant, is better off with the bijectors of
`triangles`: a matrix that is nearly singular keeps its digits there.

>>> import jax.numpy as jnp
>>> from jaxelbo import bijectors
>>> bijectors.positive_definite.forward(jnp.array([5.0, 0.0, 0.0])).tolist()
[[1.0, 5.0], [5.0, 26.0]]
>>> jnp.round(10 * bijectors.correlation.forward(jnp.arctanh(jnp.array([0.6])))).tolist()
[[10.0, 6.0], [6.0, 10.0]]
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxelbo.bijectors import triangles
from jaxelbo.bijectors.records import OneValue, for_copies, size_of
from jaxelbo.gaussians import product


def _definite_forward(u: jax.Array) -> jax.Array:
    factor = triangles.cholesky_forward(u)
    return product(factor, factor.T)


def _definite_inverse(value: jax.Array) -> jax.Array:
    return triangles.cholesky_inverse(jnp.linalg.cholesky(value))


def _definite_log_det(u: jax.Array) -> jax.Array:
    # d (L L') / d L is triangular; L_ii stands in it K - i + 1 times (i from 1), twice itself once, and once more in
    # the derivative of exp.
    logs = triangles.log_diagonal(u)
    return jnp.sum(jnp.arange(logs.size + 1, 1, -1, dtype=u.dtype) * logs) + logs.size * math.log(2)


def _correlation_forward(u: jax.Array) -> jax.Array:
    factor = triangles.correlation_forward(u)
    return jnp.where(jnp.eye(factor.shape[0], dtype=bool), 1, product(factor, factor.T))


def _correlation_inverse(value: jax.Array) -> jax.Array:
    return triangles.correlation_inverse(jnp.linalg.cholesky(value))


def _correlation_log_det(u: jax.Array) -> jax.Array:
    # To the factor's determinant comes L_jj once for each entry below it, whose logarithm is minus a sum of log cosh.
    size = size_of(triangles.strictly_below, u.size)
    column = np.tril_indices(size, -1)[1]
    return -jnp.sum(jnp.asarray(size - column, u.dtype) * triangles.log_cosh(u))


def _is_definite(value: jax.Array) -> jax.Array:
    tolerance = math.sqrt(jnp.finfo(value.dtype).eps)
    is_symmetric = jnp.max(jnp.abs(value - value.T)) <= tolerance * jnp.max(jnp.abs(value))
    return is_symmetric & jnp.all(jnp.isfinite(jnp.linalg.cholesky(value)))


def _is_correlation(value: jax.Array) -> jax.Array:
    excess = jnp.abs(jnp.diagonal(value) - 1)
    return _is_definite(value) & jnp.all(excess < math.sqrt(jnp.finfo(value.dtype).eps))


positive_definite = for_copies(
    OneValue(
        "positive_definite", _definite_forward, _definite_inverse, _definite_log_det, _is_definite,
        2, triangles.triangle, "K (K + 1) / 2",
    )
)  # fmt: skip
"""Symmetric positive definite matrices ``[..., K, K]`` from ``[..., K (K + 1) / 2]`` numbers: L L' of `lower_cholesky`.

The log-determinant is with respect to Lebesgue measure of the lower triangle of the matrix. In float32 its diagonal is
finite for unconstrained numbers up to about 40 in size, as it is a square.

References:
  Pinheiro, Bates (1996), *Unconstrained Parametrizations for Variance-Covariance Matrices*.
"""

correlation = for_copies(
    OneValue(
        "correlation", _correlation_forward, _correlation_inverse, _correlation_log_det, _is_correlation,
        2, triangles.strictly_below, "K (K - 1) / 2",
    )
)  # fmt: skip
"""Correlation matrices ``[..., K, K]`` from ``[..., K (K - 1) / 2]`` numbers: L L' of `correlation_cholesky`.

The log-determinant is with respect to Lebesgue measure of the entries below the diagonal. u = 0 is the identity.

References:
  Lewandowski, Kurowicka, Joe (2009), *Generating Random Correlation Matrices Based on Vines and Extended Onion Method*.
"""
