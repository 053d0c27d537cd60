"""Gaussians on a flat vector ``[D]``: draw, log density, entropy and Kullback-Leibler divergence.

Floor 1. Three forms, told apart by type. All are parameterised by scales, never by covariances, and a draw's log
density is read off its own noise, so drawing makes no linear solve in D. Products ask for the highest precision, since
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


class LowRank(NamedTuple):
    """A diagonal and a few directions: covariance diag(s) (I + W W') diag(s), s = exp(log_scale).

    ``loc [D]``, ``log_scale [D]``, ``low_rank [D, R]``, W. Nothing of size D x D is ever made.
    """

    loc: jax.Array
    log_scale: jax.Array
    low_rank: jax.Array


Gaussian = Diagonal | Dense | LowRank


def draw(gaussian: Gaussian, key: Key) -> tuple[jax.Array, jax.Array]:
    """One draw ``[D]`` and its log density in nats, both differentiable in the Gaussian; no linear solve."""
    if isinstance(gaussian, LowRank):
        key_each, key_common = jax.random.split(key)
        noise = jax.random.normal(key_each, gaussian.loc.shape, gaussian.loc.dtype)
        common = jax.random.normal(key_common, gaussian.low_rank.shape[1:], gaussian.loc.dtype)
        standardised = noise + product(gaussian.low_rank, common)
        point = gaussian.loc + jnp.exp(gaussian.log_scale) * standardised
        return point, _low_rank_log_density(gaussian, standardised)
    noise = jax.random.normal(key, gaussian.loc.shape, gaussian.loc.dtype)
    point = gaussian.loc + jnp.exp(gaussian.log_scale) * _mix(gaussian, noise)
    return point, _log_density_of_noise(gaussian, noise)


def log_density(gaussian: Gaussian, point: jax.Array) -> jax.Array:
    """Log density in nats at ``point [D]``; a triangular solve for `Dense`, one of size R for `LowRank`."""
    standardised = (point - gaussian.loc) * jnp.exp(-gaussian.log_scale)
    if isinstance(gaussian, LowRank):
        return _low_rank_log_density(gaussian, standardised)
    return _log_density_of_noise(gaussian, _unmix(gaussian, standardised[:, None])[:, 0])


def entropy(gaussian: Gaussian) -> jax.Array:
    """Entropy in nats."""
    of_diagonal = jnp.sum(gaussian.log_scale) + gaussian.loc.size * (_HALF_LOG_2PI + 0.5)
    return of_diagonal + _half_log_det(_inner_root(gaussian)) if isinstance(gaussian, LowRank) else of_diagonal


def standard_deviation(gaussian: Gaussian) -> jax.Array:
    """Standard deviation of each entry, ``[D]``."""
    scale = jnp.exp(gaussian.log_scale)
    if isinstance(gaussian, Diagonal):
        return scale
    if isinstance(gaussian, LowRank):
        return scale * jnp.sqrt(1 + jnp.sum(gaussian.low_rank**2, axis=1))
    return scale * jnp.sqrt(1 + jnp.sum(jnp.tril(gaussian.unit_tril, -1) ** 2, axis=1))


def kl_divergence(q: Diagonal | Dense, p: Diagonal | Dense) -> jax.Array:
    """KL(q || p) in nats, in closed form. Where p is `Dense` it makes one triangular solve."""
    # In p's standard coordinates q has mean m and scale matrix A:  2 KL = |m|^2 + |A|^2 - D - 2 log det A.
    # A is lower triangular with diagonal s_q / s_p; its part of the sum is written without cancellation near q = p.
    shift = (q.loc - p.loc) * jnp.exp(-p.log_scale)
    log_ratio = q.log_scale - p.log_scale
    of_diagonal = jnp.sum(jnp.expm1(2 * log_ratio) - 2 * log_ratio)
    if isinstance(q, Diagonal) and isinstance(p, Diagonal):
        return 0.5 * (jnp.sum(shift**2) + of_diagonal)
    scale = jnp.exp(log_ratio)[:, None] * mixing_matrix(q)
    whitened = _unmix(p, jnp.concatenate([scale, shift[:, None]], axis=1))
    below, shift = jnp.tril(whitened[:, :-1], -1), whitened[:, -1]
    return 0.5 * (jnp.sum(below**2) + jnp.sum(shift**2) + of_diagonal)


def _log_density_of_noise(gaussian: Diagonal | Dense, noise: jax.Array) -> jax.Array:
    return -0.5 * jnp.sum(noise**2) - (jnp.sum(gaussian.log_scale) + noise.size * _HALF_LOG_2PI)


def mixing_matrix(gaussian: Diagonal | Dense) -> jax.Array:
    """The factor that is left of a scale matrix when its rows are divided by exp(log_scale), ``[D, D]``."""
    identity = jnp.eye(gaussian.loc.size, dtype=gaussian.loc.dtype)
    return identity if isinstance(gaussian, Diagonal) else identity + jnp.tril(gaussian.unit_tril, -1)


def product(left: jax.Array, right: jax.Array) -> jax.Array:
    """A matrix product at the highest precision; the default of GPUs and TPUs would spoil scales and curvatures."""
    return jnp.matmul(left, right, precision=jax.lax.Precision.HIGHEST)


def _low_rank_log_density(gaussian: LowRank, standardised: jax.Array) -> jax.Array:
    """By Woodbury: the inverse of I + W W' is I less a product of rank R, and its determinant is that of I + W'W."""
    root = _inner_root(gaussian)
    along = jax.scipy.linalg.solve_triangular(root, product(gaussian.low_rank.T, standardised), lower=True)
    square = jnp.sum(standardised**2) - jnp.sum(along**2)
    log_det = jnp.sum(gaussian.log_scale) + _half_log_det(root)
    return -0.5 * square - log_det - standardised.size * _HALF_LOG_2PI


def _inner_root(gaussian: LowRank) -> jax.Array:
    """The Cholesky factor of I + W'W, ``[R, R]``."""
    rank = gaussian.low_rank.shape[1]
    inner = product(gaussian.low_rank.T, gaussian.low_rank)
    return jnp.linalg.cholesky(jnp.eye(rank, dtype=inner.dtype) + inner)


def _half_log_det(root: jax.Array) -> jax.Array:
    return jnp.sum(jnp.log(jnp.diag(root)))


def _mix(gaussian: Diagonal | Dense, noise: jax.Array) -> jax.Array:
    """(I + strict lower triangle) noise."""
    if isinstance(gaussian, Diagonal):
        return noise
    # The vector stands on the left, so that `vmap` over draws makes a product [S, D] x [D, D] without transposing.
    upper = jnp.tril(gaussian.unit_tril, -1).T
    return noise + product(noise, upper)


def _unmix(gaussian: Diagonal | Dense, columns: jax.Array) -> jax.Array:
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
    moved = columns_dot - product(jnp.tril(matrix_dot, -1), solution)
    return solution, jax.scipy.linalg.solve_triangular(matrix, moved, lower=True, unit_diagonal=True)
