"""Linear algebra by products with a symmetric matrix alone: its extreme eigenvalues, and a Newton step.

Floor 1.1. Nothing of size D x D is made; the matrix is a function ``[D] -> [D]``.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxelbo.gaussians import product
from jaxelbo.types import Key

Matrix = Callable[[jax.Array], jax.Array]


def lanczos(matrix: Matrix, key: Key, size: int, num_steps: int, dtype: jax.typing.DTypeLike) -> tuple[jax.Array, ...]:
    """Approximate eigenvalues ``[K]`` in rising order and eigenvectors ``[D, K]``, best at both ends of the spectrum.

    Each step is one product. Vectors are made orthogonal to all before them, twice; where a step leads nowhere new, as
    for a multiple of I, it goes on from a random vector.

    References:
      Golub, Van Loan (2013), *Matrix Computations*, chapter 10.
    """
    first = jax.random.normal(jax.random.fold_in(key, num_steps), (size,), dtype)

    def orthogonal(vector: jax.Array, basis: jax.Array) -> jax.Array:
        for _ in range(2):
            vector -= product(product(basis, vector), basis)
        return vector

    def step(carry: tuple[jax.Array, jax.Array], index: jax.Array) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        basis, vector = carry
        basis = basis.at[index].set(vector)
        image = matrix(vector)
        left = orthogonal(image, basis)
        length = jnp.linalg.norm(left)
        is_new = length > 100 * jnp.finfo(dtype).eps * jnp.linalg.norm(image)
        other = orthogonal(jax.random.normal(jax.random.fold_in(key, index), (size,), dtype), basis)
        following = jnp.where(is_new, left / length, other / jnp.linalg.norm(other))
        return (basis, following), image

    start = jnp.zeros((num_steps, size), dtype), first / jnp.linalg.norm(first)
    (basis, _), images = jax.lax.scan(step, start, jnp.arange(num_steps))
    projected = product(basis, images.T)
    values, vectors = jnp.linalg.eigh(0.5 * (projected + projected.T))
    return values, product(basis.T, vectors)


class _Solve(NamedTuple):
    """Conjugate gradients under way."""

    solution: jax.Array
    residual: jax.Array
    search: jax.Array
    square: jax.Array
    count: jax.Array
    is_done: jax.Array


def newton_step(
    matrix: Matrix, right: jax.Array, preconditioner: jax.Array, max_products: int, tolerance: float
) -> tuple[jax.Array, jax.Array]:
    """The solution of ``matrix x = right`` by preconditioned conjugate gradients, and the number of products.

    Where a direction of negative curvature is met, the solution so far is returned, or at the first step that
    direction: it still leads up.

    Args:
      matrix: symmetric; -H.
      right: ``[D]``; the gradient.
      preconditioner: ``[D]``, positive: the inverse of the diagonal, roughly.
      max_products: static.
      tolerance: on the residual's norm relative to the first, in the preconditioner's metric.

    References:
      Steihaug (1983), *The Conjugate Gradient Method and Trust Regions in Large Scale Optimization*.
    """
    first = jnp.vdot(right, preconditioner * right)

    def goes_on(at: _Solve) -> jax.Array:
        return (at.count < max_products) & ~at.is_done & (at.square > tolerance**2 * first)

    def body(at: _Solve) -> _Solve:
        image = matrix(at.search)
        curvature = jnp.vdot(at.search, image)
        is_convex = curvature > 0
        length = jnp.where(is_convex, at.square / jnp.where(is_convex, curvature, 1), 0)
        stopped = jnp.where(at.count == 0, at.search, at.solution)
        solution = jnp.where(is_convex, at.solution + length * at.search, stopped)
        residual = at.residual - length * image
        scaled = preconditioner * residual
        square = jnp.vdot(residual, scaled)
        search = scaled + square / at.square * at.search
        return _Solve(solution, residual, search, square, at.count + 1, ~is_convex)

    start = _Solve(
        jnp.zeros_like(right), right, preconditioner * right, first, jnp.zeros((), jnp.int32), jnp.asarray(False)
    )
    end = jax.lax.while_loop(goes_on, body, start)
    return end.solution, end.count


def diagonal(matrix: Matrix, key: Key, num_probes: int, size: int, dtype: jax.typing.DTypeLike) -> jax.Array:
    """The diagonal ``[D]`` from products with random signs, unbiased; exact, from D products, where D is no more.

    References:
      Bekas, Kokiopoulou, Saad (2007), *An Estimator for the Diagonal of a Matrix*.
    """
    if size <= num_probes:
        probes = jnp.sqrt(jnp.asarray(size, dtype)) * jnp.eye(size, dtype=dtype)
    else:
        probes = jax.random.rademacher(key, (num_probes, size), dtype)

    def add(total: jax.Array, probe: jax.Array) -> tuple[jax.Array, None]:
        return total + probe * matrix(probe), None

    return jax.lax.scan(add, jnp.zeros(size, dtype), probes)[0] / len(probes)
