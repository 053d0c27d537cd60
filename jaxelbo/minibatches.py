"""Minibatches without replacement: one permutation of the rows an epoch, read on without a gap.

Floor 5. Batch t holds the rows at positions t B to (t + 1) B - 1 of the endless sequence permutation 0,
permutation 1, ... of the N rows. Where B does not divide N a batch may straddle two epochs; every batch then has B
rows, every row is read once an epoch, and over lcm(N, B) / B batches each row is read equally often. So a likelihood
scaled by N / B has the full-data mean, without a short last batch.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxelbo import checks
from jaxelbo.types import Key, PyTree


class Order(NamedTuple):
    """Where we stand in the sequence: this epoch's permutation ``[N]``, the next position in it, the epoch, its key."""

    permutation: jax.Array
    position: jax.Array
    epoch: jax.Array
    key: Key


def check_batch_size(batch_size: int, data: tuple[PyTree, ...]) -> int:
    """Requires at least one array in ``data``, the same number of rows in all, and at least one batch of them."""
    batch_size = checks.check_count(batch_size, "batch_size")
    names, leaves = checks.leaf_names(data, "data"), jax.tree.leaves(data)
    if not leaves:
        raise ValueError("batch_size needs data with rows, got none.")
    rows = [jnp.shape(leaf)[0] if jnp.ndim(leaf) else None for leaf in leaves]
    for name, count in zip(names, rows, strict=True):
        if count is None or count != rows[0]:
            raise ValueError(f"{name} must have {rows[0]} rows as {names[0]} has, got {count}.")
    if batch_size > num_rows(data):
        raise ValueError(f"batch_size must be at most the {rows[0]} rows of data, got {batch_size}.")
    return batch_size


def num_rows(data: tuple[PyTree, ...]) -> int:
    """N, the length of the leading axis."""
    return jnp.shape(jax.tree.leaves(data)[0])[0]


def first_order(key: Key, size: int) -> Order:
    """The start of epoch 0."""
    zero = jnp.zeros((), jnp.int32)
    return Order(_permutation(key, zero, size), zero, zero, key)


def next_rows(order: Order, batch_size: int) -> tuple[jax.Array, Order]:
    """The rows of the next batch, ``[B]``, and the order behind it."""
    size = order.permutation.shape[0]

    def within() -> tuple[jax.Array, Order]:
        rows = jax.lax.dynamic_slice(order.permutation, (order.position,), (batch_size,))
        return rows, order._replace(position=order.position + batch_size)

    def across() -> tuple[jax.Array, Order]:
        epoch = order.epoch + 1
        permutation = _permutation(order.key, epoch, size)
        positions = order.position + jnp.arange(batch_size, dtype=jnp.int32)
        old = order.permutation[jnp.minimum(positions, size - 1)]
        new = permutation[jnp.maximum(positions - size, 0)]
        rows = jnp.where(positions < size, old, new)
        return rows, Order(permutation, order.position + batch_size - size, epoch, order.key)

    return jax.lax.cond(order.position + batch_size > size, across, within)


def take(data: tuple[PyTree, ...], rows: jax.Array) -> tuple[PyTree, ...]:
    """These rows of every array in ``data``."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf).at[rows].get(mode="promise_in_bounds"), data)


def _permutation(key: Key, epoch: jax.Array, size: int) -> jax.Array:
    return jax.random.permutation(jax.random.fold_in(key, epoch), jnp.arange(size, dtype=jnp.int32))
