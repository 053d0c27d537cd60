"""Sums over rows whose terms are computed in few bits and added in many.

Floor 1.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxelbo import checks
from jaxelbo.types import PyTree

ROWS = 64
"""Of a block, whose gradient is added in the few bits. In bfloat16 a sum of equal terms stands still from 256 on."""


def check_dtype(dtype: jax.typing.DTypeLike, name: str) -> None:
    """Requires a floating-point dtype of float32's range; a batch's factor N / B would overflow float16."""
    try:
        is_wide = jnp.issubdtype(jnp.dtype(dtype), jnp.floating) and float(jnp.finfo(dtype).max) > 1e38
    except TypeError:  # no dtype at all
        is_wide = False
    if not is_wide:
        raise TypeError(f"{name} must be bfloat16, float32 or float64, got {checks.describe(dtype)}.")


def sum_of_terms(
    term: Callable[[PyTree, tuple[Any, ...]], jax.Array], dtype: jax.typing.DTypeLike
) -> Callable[[PyTree, tuple[Any, ...]], jax.Array]:
    """``(shared, rows) -> scalar``: the sum of terms computed in ``dtype``, added in the dtype of ``shared``.

    Each block of rows has a copy of what is shared. So the derivative in it is added over blocks in its own dtype, and
    in few bits over the rows of a block alone.
    """

    def of_block(total_dtype: jnp.dtype, shared: PyTree, rows: tuple[Any, ...]) -> jax.Array:
        shared, rows = jax.tree.map(lambda leaf: _rounded(leaf, dtype), (shared, rows))
        return jnp.sum(jax.vmap(lambda *row: term(shared, row))(*rows).astype(total_dtype))

    def total(shared: PyTree, rows: tuple[Any, ...]) -> jax.Array:
        shared, rows = jax.tree.map(jnp.asarray, (shared, rows))
        floats = [leaf for leaf in jax.tree.leaves(shared) if jnp.issubdtype(leaf.dtype, jnp.floating)]
        total_dtype = jnp.result_type(*floats, jnp.float32)
        size = jax.tree.leaves(rows)[0].shape[0]
        num_blocks, rest = divmod(size, ROWS)
        parts = []
        if num_blocks:
            count = num_blocks * ROWS
            blocks = jax.tree.map(lambda leaf: leaf[:count].reshape(num_blocks, ROWS, *leaf.shape[1:]), rows)
            copies = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf[None], (num_blocks, *leaf.shape)), shared)
            parts.append(jnp.sum(jax.vmap(functools.partial(of_block, total_dtype))(copies, blocks)))
        if rest:
            parts.append(of_block(total_dtype, shared, jax.tree.map(lambda leaf: leaf[-rest:], rows)))
        return sum(parts[1:], parts[0])

    return total


def _rounded(leaf: jax.Array, dtype: jax.typing.DTypeLike) -> jax.Array:
    return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf
