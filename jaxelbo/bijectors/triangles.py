"""Lower triangular matrices: the Cholesky factors of covariances and of correlations.

Floor 1. Entries below a diagonal are read row by row.

>>> import jax.numpy as jnp
>>> from jaxelbo import bijectors
>>> bijectors.lower_cholesky.forward(jnp.array([5.0, 0.0, 0.0])).tolist()
[[1.0, 0.0], [5.0, 1.0]]
>>> jnp.round(10 * bijectors.correlation_cholesky.forward(jnp.arctanh(jnp.array([0.6])))).tolist()
[[10.0, 0.0], [6.0, 8.0]]
>>> bijectors.correlation_cholesky.unconstrained_shape((7, 4, 4))
(7, 6)
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxelbo.bijectors.records import OneValue, for_copies, size_of


def below_diagonal(u: jax.Array) -> jax.Array:
    """Numbers ``[K (K - 1) / 2]`` below the diagonal of a matrix ``[K, K]`` of zeros."""
    size = size_of(strictly_below, u.size)
    return jnp.zeros((size, size), u.dtype).at[np.tril_indices(size, -1)].set(u)


def strictly_below(size: int) -> int:
    """How many entries ``[K, K]`` has below its diagonal."""
    return size * (size - 1) // 2


def triangle(size: int) -> int:
    """How many entries ``[K, K]`` has on and below its diagonal."""
    return size * (size + 1) // 2


def log_cosh(u: jax.Array) -> jax.Array:
    """Which is minus the logarithm of sqrt(1 - tanh(u)^2)."""
    return jnp.logaddexp(u, -u) - math.log(2)


def log_diagonal(u: jax.Array) -> jax.Array:
    """The last K of ``[K (K + 1) / 2]``, logarithms of a diagonal."""
    return u[u.size - size_of(triangle, u.size) :]


def cholesky_forward(u: jax.Array) -> jax.Array:
    """`lower_cholesky` for one matrix."""
    logs = log_diagonal(u)
    return below_diagonal(u[: u.size - logs.size]) + jnp.diag(jnp.exp(logs))


def cholesky_inverse(value: jax.Array) -> jax.Array:
    """And back."""
    return jnp.concatenate([value[np.tril_indices(value.shape[0], -1)], jnp.log(jnp.diagonal(value))])


def correlation_forward(u: jax.Array) -> jax.Array:
    """`correlation_cholesky` for one matrix."""
    matrix = below_diagonal(u)
    # Row by row, an entry is tanh(u) of the length that those before it leave. Lengths as logarithms: 1 - tanh(u)^2
    # would cancel.
    used = jnp.cumsum(log_cosh(matrix), axis=1)
    left = jnp.exp(-jnp.concatenate([jnp.zeros_like(used[:, :1]), used[:, :-1]], axis=1))
    diagonal = jnp.maximum(jnp.diagonal(left), float(jnp.finfo(u.dtype).tiny))  # never zero
    return jnp.tanh(matrix) * left + jnp.diag(diagonal)


def correlation_inverse(value: jax.Array) -> jax.Array:
    """And back."""
    # sinh(u) is the entry by the length of those after it in its row, which is a sum without cancellation.
    lower = jnp.tril(value)
    from_here = jax.lax.cumsum(lower**2, axis=1, reverse=True)
    after = jnp.concatenate([from_here[:, 1:], jnp.zeros_like(lower[:, :1])], axis=1)
    length = jnp.sqrt(jnp.maximum(after, float(jnp.finfo(value.dtype).tiny)))
    return jnp.arcsinh(lower / length)[np.tril_indices(value.shape[0], -1)]


def _cholesky_log_det(u: jax.Array) -> jax.Array:
    return jnp.sum(log_diagonal(u))


def _correlation_log_det(u: jax.Array) -> jax.Array:
    # Entry (i, j) is tanh(u) times the length left: -2 log cosh of its own u, and -1 for each entry after it.
    size = size_of(strictly_below, u.size)
    row, column = np.tril_indices(size, -1)
    return -jnp.sum(jnp.asarray(row - column + 1, u.dtype) * log_cosh(u))


def _is_cholesky(value: jax.Array) -> jax.Array:
    is_lower = jnp.all(jnp.triu(value, 1) == 0)
    return is_lower & jnp.all(jnp.isfinite(value)) & jnp.all(jnp.diagonal(value) > 0)


def _is_correlation_cholesky(value: jax.Array) -> jax.Array:
    excess = jnp.abs(jnp.sum(value**2, axis=1) - 1)
    return _is_cholesky(value) & jnp.all(excess < 2 * math.sqrt(jnp.finfo(value.dtype).eps))


lower_cholesky = for_copies(
    OneValue(
        "lower_cholesky", cholesky_forward, cholesky_inverse, _cholesky_log_det, _is_cholesky,
        2, triangle, "K (K + 1) / 2",
    )
)  # fmt: skip
"""Lower triangular matrices ``[..., K, K]`` with a positive diagonal, from ``[..., K (K + 1) / 2]`` numbers.

The entries below the diagonal come first, as they are, then the logarithms of the diagonal. The log-determinant is with
respect to Lebesgue measure of the lower triangle: the sum of those logarithms.

References:
  Pinheiro, Bates (1996), *Unconstrained Parametrizations for Variance-Covariance Matrices*.
"""

correlation_cholesky = for_copies(
    OneValue(
        "correlation_cholesky", correlation_forward, correlation_inverse, _correlation_log_det,
        _is_correlation_cholesky, 2, strictly_below, "K (K - 1) / 2",
    )
)  # fmt: skip
"""Cholesky factors ``[..., K, K]`` of correlation matrices, from ``[..., K (K - 1) / 2]`` numbers.

Rows are unit vectors; tanh(u) are the canonical partial correlations. The log-determinant is with respect to Lebesgue
measure of the entries below the diagonal. u = 0 is the identity.

References:
  Lewandowski, Kurowicka, Joe (2009), *Generating Random Correlation Matrices Based on Vines and Extended Onion Method*;
  Stan Development Team (2024), *Stan Reference Manual*, Constraint Transforms.
"""
