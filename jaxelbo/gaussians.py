"""Gaussians on a flat vector ``[D]``: draw, log density, entropy and Kullback-Leibler divergence.

Floor 1. Three forms, told apart by type. All are parameterised by scales, never by covariances, and a draw's log
density is read off its own noise, so drawing makes no linear solve in D. Products ask for the highest precision, since
the default of GPUs and TPUs would spoil scales and log densities.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxelbo import bregman
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
    """A diagonal and a few directions: a square root of the covariance is diag(s) (I + V (diag(exp t) - I) V').

    ``loc [D]``, ``log_scale [D]``, s = exp(log_scale); ``directions [D, R]``, of which only the span, in its order of
    columns, counts: V is what Gram and Schmidt make of it; ``log_stretch [R]``, t, by which each direction is wider or
    narrower than the diagonal says. Narrow ones are what data leave of a wide prior. Nothing of size D x D is made.
    """

    loc: jax.Array
    log_scale: jax.Array
    directions: jax.Array
    log_stretch: jax.Array


Gaussian = Diagonal | Dense | LowRank


def draw(gaussian: Gaussian, key: Key) -> tuple[jax.Array, jax.Array]:
    """One draw ``[D]`` and its log density in nats, both differentiable in the Gaussian; no linear solve."""
    noise = jax.random.normal(key, gaussian.loc.shape, gaussian.loc.dtype)
    return transform(gaussian, noise), _log_density_of_noise(gaussian, noise)


def transform(gaussian: Gaussian, noise: jax.Array) -> jax.Array:
    """The point ``[D]`` that standard normal noise ``[D]`` stands for."""
    if isinstance(gaussian, LowRank):
        mixed = stretched(axes(gaussian), gaussian.log_stretch, noise)
    else:
        mixed = _mix(gaussian, noise)
    return gaussian.loc + jnp.exp(gaussian.log_scale) * mixed


def standardise(gaussian: Gaussian, point: jax.Array) -> jax.Array:
    """And back: the noise ``[D]`` of a point; a triangular solve for `Dense`, one of size R for `LowRank`."""
    scaled = (point - gaussian.loc) * jnp.exp(-gaussian.log_scale)
    if isinstance(gaussian, LowRank):
        return stretched(axes(gaussian), -gaussian.log_stretch, scaled)
    return _unmix(gaussian, scaled[:, None])[:, 0]


def log_density(gaussian: Gaussian, point: jax.Array) -> jax.Array:
    """Log density in nats at ``point [D]``, from its noise."""
    return _log_density_of_noise(gaussian, standardise(gaussian, point))


def entropy(gaussian: Gaussian) -> jax.Array:
    """Entropy in nats."""
    return log_det(gaussian) + gaussian.loc.size * (_HALF_LOG_2PI + 0.5)


def standard_deviation(gaussian: Gaussian) -> jax.Array:
    """Standard deviation of each entry, ``[D]``."""
    scale = jnp.exp(gaussian.log_scale)
    if isinstance(gaussian, Diagonal):
        return scale
    if isinstance(gaussian, LowRank):
        excess = product(axes(gaussian) ** 2, jnp.expm1(2 * gaussian.log_stretch))
        least = jnp.minimum(0, jnp.min(jnp.expm1(2 * gaussian.log_stretch)))  # what rounding might fall below
        return scale * jnp.sqrt(1 + jnp.maximum(excess, least))
    return scale * jnp.sqrt(1 + jnp.sum(jnp.tril(gaussian.unit_tril, -1) ** 2, axis=1))


def kl_divergence(q: Gaussian, p: Gaussian) -> jax.Array:
    """KL(q || p) in nats, in closed form. Where p is `Dense` it makes one triangular solve."""
    # In p's standard coordinates q has mean m and scale matrix A:  2 KL = |m|^2 + |A|^2 - D - 2 log det A.
    log_ratio = q.log_scale - p.log_scale
    if not isinstance(q, Dense) and not isinstance(p, Dense):
        return _kl_of_low_ranks(q, p, log_ratio)
    if isinstance(q, LowRank) or isinstance(p, LowRank):
        return _kl_of_roots(q, p)
    # A is lower triangular with diagonal s_q / s_p; its part of the sum is written without cancellation near q = p.
    scale = jnp.exp(log_ratio)[:, None] * mixing_matrix(q)
    shift = (q.loc - p.loc) * jnp.exp(-p.log_scale)
    whitened = _unmix(p, jnp.concatenate([scale, shift[:, None]], axis=1))
    below, shift = jnp.tril(whitened[:, :-1], -1), whitened[:, -1]
    return 0.5 * (jnp.sum(below**2) + jnp.sum(shift**2) + jnp.sum(bregman.excess(2 * log_ratio)))


def _kl_of_low_ranks(q: Diagonal | LowRank, p: Diagonal | LowRank, log_ratio: jax.Array) -> jax.Array:
    """In time and memory linear in D: |A|^2 by the directions' inner products alone."""
    scale = jnp.exp(log_ratio)[:, None]
    twice = jnp.sum(bregman.excess(2 * log_ratio)) + jnp.sum(standardise(p, q.loc) ** 2)
    if isinstance(q, LowRank):
        gains = jnp.expm1(2 * q.log_stretch)
        twice += jnp.sum(gains * jnp.sum((scale * axes(q)) ** 2, axis=0) - 2 * q.log_stretch)
    if isinstance(p, LowRank):
        losses = jnp.expm1(-2 * p.log_stretch)
        twice += jnp.sum(losses * jnp.sum((scale * axes(p)) ** 2, axis=0) + 2 * p.log_stretch)
    if isinstance(q, LowRank) and isinstance(p, LowRank):
        inner = product(axes(p).T, scale * axes(q))
        twice += jnp.sum(jnp.expm1(-2 * p.log_stretch)[:, None] * jnp.expm1(2 * q.log_stretch)[None] * inner**2)
    return 0.5 * twice


def _kl_of_roots(q: Gaussian, p: Gaussian) -> jax.Array:
    whitened, shift = standardised(q, p)
    return 0.5 * (jnp.sum(whitened**2) + jnp.sum(shift**2) - q.loc.size) - log_det(q) + log_det(p)


def standardised(q: Gaussian, p: Gaussian) -> tuple[jax.Array, jax.Array]:
    """A root of q's covariance ``[D, D]`` and its mean ``[D]`` in p's standard coordinates, column by column."""
    centred = p._replace(loc=jnp.zeros_like(p.loc))
    columns = jnp.append(root(q).T, (q.loc - p.loc)[None], axis=0)
    whitened = jax.vmap(lambda point: standardise(centred, point))(columns)
    return whitened[:-1].T, whitened[-1]


def root(gaussian: Gaussian) -> jax.Array:
    """A square root of the covariance, ``[D, D]``: what `transform` does to noise, without the mean."""
    centred, identity = gaussian._replace(loc=jnp.zeros_like(gaussian.loc)), jnp.eye(gaussian.loc.size)
    return jax.vmap(lambda noise: transform(centred, noise), out_axes=1)(identity.astype(gaussian.loc.dtype))


def _log_density_of_noise(gaussian: Gaussian, noise: jax.Array) -> jax.Array:
    return -0.5 * jnp.sum(noise**2) - (log_det(gaussian) + noise.size * _HALF_LOG_2PI)


def log_det(gaussian: Gaussian) -> jax.Array:
    """The logarithm of the determinant of a root of the covariance."""
    of_scales = jnp.sum(gaussian.log_scale)
    return of_scales + jnp.sum(gaussian.log_stretch) if isinstance(gaussian, LowRank) else of_scales


def mixing_matrix(gaussian: Diagonal | Dense) -> jax.Array:
    """The factor that is left of a scale matrix when its rows are divided by exp(log_scale), ``[D, D]``."""
    identity = jnp.eye(gaussian.loc.size, dtype=gaussian.loc.dtype)
    return identity if isinstance(gaussian, Diagonal) else identity + jnp.tril(gaussian.unit_tril, -1)


def product(left: jax.Array, right: jax.Array) -> jax.Array:
    """A matrix product at the highest precision; the default of GPUs and TPUs would spoil scales and curvatures."""
    return jnp.matmul(left, right, precision=jax.lax.Precision.HIGHEST)


def axes(gaussian: LowRank) -> jax.Array:
    """The directions made orthonormal, ``[D, R]``."""
    root = jnp.linalg.cholesky(product(gaussian.directions.T, gaussian.directions))
    return jax.scipy.linalg.solve_triangular(root, gaussian.directions.T, lower=True).T


def stretched(axes: jax.Array, log_stretch: jax.Array, vectors: jax.Array) -> jax.Array:
    """Vectors ``[..., D]``, exp(log_stretch) times as long along orthonormal axes ``[D, R]``."""
    along = product(vectors, axes)
    return vectors + product(along * jnp.broadcast_to(jnp.expm1(log_stretch), along.shape), axes.T)


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
