"""A symmetric matrix seen as a diagonal and a few directions, by products with it alone.

Floor 1.2.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxelbo import krylov
from jaxelbo.gaussians import product
from jaxelbo.types import Key

NUM_PROBES, SPARE_PRODUCTS = 32, 16
NUM_WHOLE = 3
"""Looks after which the scales make the whole diagonal 1."""

MAX_CHANGE = 16.0
LEAST_CURVATURE = 1 / 256
"""Of a direction, relative to the diagonal; less is taken for this."""


class View(NamedTuple):
    """diag(1 / s) (I + V (diag(exp(-2 t)) - I) V') diag(1 / s), and the direction of least curvature.

    Attributes:
      scale: s ``[D]``.
      axes: V ``[D, R]``, orthonormal.
      log_stretch: t ``[R]``.
      rest: the largest eigenvalue beside these, at least 1.
      least: the smallest that was met, with the diagonal at 1.
      flattest: its direction, scaled: ``[D]``.
    """

    scale: jax.Array
    axes: jax.Array
    log_stretch: jax.Array
    rest: jax.Array
    least: jax.Array
    flattest: jax.Array


def num_products(size: int, rank: int, num_looks: int) -> int:
    """How many products `view` takes."""
    return num_looks * (_num_vectors(size, rank) + min(size, NUM_PROBES))


def view(curvature: krylov.Matrix, scale: jax.Array, key: Key, *, rank: int, num_looks: int) -> View:
    """The Gaussian of low rank that is nearest in KL(q || p), if the matrix is the precision of p.

    Each look finds eigenvectors by Lanczos' method under the scales so far and takes those that matter most; probes
    show the diagonal of what is left, from which come better scales. At first those make the whole diagonal 1, so that
    no direction is spent on a single entry; after ``NUM_WHOLE`` looks, the diagonal of what the directions leave. There
    the bound has its optimum.

    Args:
      curvature: ``[D] -> [D]``, a symmetric matrix; it need not be positive.
      scale: s to start from, ``[D]``.
      key: one random key.
      rank: R, static.
      num_looks: static.
    """
    size, dtype = scale.size, scale.dtype

    def look(scale: jax.Array, at: tuple[jax.Array, Key]) -> tuple[jax.Array, View]:
        index, key = at
        is_whole = index < NUM_WHOLE
        key_lanczos, key_probe = jax.random.split(key)
        scaled = lambda vector: scale * curvature(scale * vector)  # noqa: E731
        values, vectors = krylov.lanczos(scaled, key_lanczos, size, _num_vectors(size, rank), dtype)
        held = jnp.maximum(values, LEAST_CURVATURE)
        chosen = jax.lax.top_k(0.5 * (held - 1 - jnp.log(held)), rank)[1]  # what each is worth in KL
        axes, excess = vectors[:, chosen], held[chosen] - 1
        # Probes see what all the vectors do not explain, which has little off the diagonal.
        rest = lambda vector: scaled(vector) - product(vectors, (values - 1) * product(vectors.T, vector))  # noqa: E731
        left = krylov.diagonal(rest, key_probe, NUM_PROBES, size, dtype) + product(vectors**2, values - 1)
        left -= jnp.where(is_whole, 0, product(axes**2, excess))
        held_back = jnp.clip(left, 1 / MAX_CHANGE, MAX_CHANGE)
        better = scale / jnp.sqrt(jnp.where(is_whole & (left != 0), jnp.abs(left), held_back))
        beside = jnp.maximum(1, jnp.max(values.at[chosen].set(1)))
        return better, View(scale, axes, -0.5 * jnp.log1p(excess), beside, values[0], scale * vectors[:, 0])

    views = jax.lax.scan(look, scale, (jnp.arange(num_looks), jax.random.split(key, num_looks)))[1]
    return jax.tree.map(lambda leaf: leaf[-1], views)


def _num_vectors(size: int, rank: int) -> int:
    return min(size, 2 * rank + SPARE_PRODUCTS)
