"""Gaussians on a flat vector ``[D]``: draw, log density, entropy and Kullback-Leibler divergence.

Floor 1. Two forms, told apart by type. Both are parameterised by scales, never by covariances, and a draw's log
density is read off its own noise, so drawing makes no linear solve. Products ask for the highest precision, since
the default of GPUs and TPUs would spoil scales and log densities.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxelbo.types import Key

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class Diagonal(NamedTuple):
    """Independent entries: ``loc [D]``, ``log_scale [D]``; standard deviations are exp(log_scale)."""

    loc: jax.Array
    log_scale: jax.Array


class Dense(NamedTuple):
    """Any covariance: scale_tril = diag(exp(log_scale)) (I + strict lower triangle of unit_tril).

    ``loc [D]``, ``log_scale [D]``, ``unit_tril [D, D]`` of which only the entries below the diagonal are read. With
    the diagonal apart as a factor, gradient ascent behaves better than on a plain Cholesky factor, at the same cost.
    """

    loc: jax.Array
    log_scale: jax.Array
    unit_tril: jax.Array


Gaussian = Diagonal | Dense


def draw(gaussian: Gaussian, key: Key) -> tuple[jax.Array, jax.Array]:
    """One draw ``[D]`` and its log density in nats, both differentiable in the Gaussian; no linear solve."""
    noise = jax.random.normal(key, gaussian.loc.shape, gaussian.loc.dtype)
    point = gaussian.loc + jnp.exp(gaussian.log_scale) * _mix(gaussian, noise)
    return point, _log_density_of_noise(gaussian, noise)


def log_density(gaussian: Gaussian, point: jax.Array) -> jax.Array:
    """Log density in nats at ``point [D]``; a triangular solve for `Dense`."""
    standardised = (point - gaussian.loc) * jnp.exp(-gaussian.log_scale)
    return _log_density_of_noise(gaussian, _unmix(gaussian, standardised[:, None])[:, 0])


def entropy(gaussian: Gaussian) -> jax.Array:
    """Entropy in nats."""
    return jnp.sum(gaussian.log_scale) + gaussian.loc.size * (_HALF_LOG_2PI + 0.5)


def standard_deviation(gaussian: Gaussian) -> jax.Array:
    """Standard deviation of each entry, ``[D]``."""
    scale = jnp.exp(gaussian.log_scale)
    if isinstance(gaussian, Diagonal):
        return scale
    return scale * jnp.sqrt(1 + jnp.sum(jnp.tril(gaussian.unit_tril, -1) ** 2, axis=1))


def kl_divergence(q: Gaussian, p: Gaussian) -> jax.Array:
    """KL(q || p) in nats, in closed form. Where p is `Dense` it makes one triangular solve."""
    # In p's standard coordinates q has mean m and scale matrix A:  2 KL = |m|^2 + |A|^2 - D - 2 log det A.
    # A is lower triangular with diagonal s_q / s_p; its part of the sum is written without cancellation near q = p.
    shift = (q.loc - p.loc) * jnp.exp(-p.log_scale)
    log_ratio = q.log_scale - p.log_scale
    of_diagonal = jnp.sum(jnp.expm1(2 * log_ratio) - 2 * log_ratio)
    if isinstance(q, Diagonal) and isinstance(p, Diagonal):
        return 0.5 * (jnp.sum(shift**2) + of_diagonal)
    scale = jnp.exp(log_ratio)[:, None] * _mixing_matrix(q)
    whitened = _unmix(p, jnp.concatenate([scale, shift[:, None]], axis=1))
    below, shift = jnp.tril(whitened[:, :-1], -1), whitened[:, -1]
    return 0.5 * (jnp.sum(below**2) + jnp.sum(shift**2) + of_diagonal)


def _log_density_of_noise(gaussian: Gaussian, noise: jax.Array) -> jax.Array:
    return -0.5 * jnp.sum(noise**2) - (jnp.sum(gaussian.log_scale) + noise.size * _HALF_LOG_2PI)


def _mix(gaussian: Gaussian, noise: jax.Array) -> jax.Array:
    """(I + strict lower triangle) noise."""
    if isinstance(gaussian, Diagonal):
        return noise
    # The vector stands on the left, so that `vmap` over draws makes a product [S, D] x [D, D] without transposing.
    upper = jnp.tril(gaussian.unit_tril, -1).T
    return noise + jnp.matmul(noise, upper, precision=jax.lax.Precision.HIGHEST)


def _unmix(gaussian: Gaussian, columns: jax.Array) -> jax.Array:
    """The inverse of `_mix`, on every column of ``[D, K]``."""
    if isinstance(gaussian, Diagonal):
        return columns
    return _solve_unit_lower(gaussian.unit_tril, columns)


@jax.custom_jvp
def _solve_unit_lower(matrix: jax.Array, columns: jax.Array) -> jax.Array:
    return jax.scipy.linalg.solve_triangular(matrix, columns, lower=True, unit_diagonal=True)


@_solve_unit_lower.defjvp
def _solve_unit_lower_jvp(
    primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    # jax's own rule makes a solve for each argument, and two independent batched solves in one program can deadlock
    # XLA's CPU backend. Joined before the solve, the tangents need one, and so does the gradient.
    (matrix, columns), (matrix_dot, columns_dot) = primals, tangents
    solution = _solve_unit_lower(matrix, columns)
    moved = columns_dot - jnp.matmul(jnp.tril(matrix_dot, -1), solution, precision=jax.lax.Precision.HIGHEST)
    return solution, jax.scipy.linalg.solve_triangular(matrix, moved, lower=True, unit_diagonal=True)


def _mixing_matrix(gaussian: Gaussian) -> jax.Array:
    identity = jnp.eye(gaussian.loc.size, dtype=gaussian.loc.dtype)
    return identity if isinstance(gaussian, Diagonal) else identity + jnp.tril(gaussian.unit_tril, -1)
