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
    """Where we stand: the permutations of this epoch and the following one ``[N]``, position, epoch, key."""

    current: jax.Array
    following: jax.Array
    position: jax.Array
    epoch: jax.Array
    key: Key


def check_batch_size(batch_size: int, data: tuple[PyTree, ...]) -> None:
    """Requires at least one array in ``data``, the same number of rows in all, and at least one batch of them."""
    checks.check_count(batch_size, "batch_size")
    names, leaves = checks.leaf_names(data, "data"), jax.tree.leaves(data)
    if not leaves:
        raise ValueError("batch_size needs data with rows, got none.")
    for name, leaf in zip(names, leaves, strict=True):
        if jnp.ndim(leaf) == 0:
            raise ValueError(f"{name} must have rows where batch_size is given, got a scalar; close over it.")
    rows = [jnp.shape(leaf)[0] for leaf in leaves]
    for name, count in zip(names, rows, strict=True):
        if count != rows[0]:
            raise ValueError(f"{name} must have {rows[0]} rows as {names[0]} has, got {count}.")
    if batch_size > num_rows(data):
        raise ValueError(f"batch_size must be at most the {rows[0]} rows of data, got {batch_size}.")


def num_rows(data: tuple[PyTree, ...]) -> int:
    """N, the length of the leading axis."""
    return jnp.shape(jax.tree.leaves(data)[0])[0]


def first_order(key: Key, size: int) -> Order:
    """The start of epoch 0."""
    zero = jnp.zeros((), jnp.int32)
    return Order(_permutation(key, zero, size), _permutation(key, zero + 1, size), zero, zero, key)


def next_rows(order: Order, batch_size: int) -> tuple[jax.Array, Order]:
    """The rows of the next batch, ``[B]``, and the order behind it."""
    size = order.current.shape[0]

    def is_over(order: Order) -> jax.Array:
        return order.position >= size

    def next_epoch(order: Order) -> Order:
        epoch = order.epoch + 1
        following = _permutation(order.key, epoch + 1, size)
        return Order(order.following, following, order.position - size, epoch, order.key)

    # A loop of no or one turn, where a `cond` would copy the permutations in each step.
    order = jax.lax.while_loop(is_over, next_epoch, order)
    positions = order.position + jnp.arange(batch_size, dtype=jnp.int32)
    of_current = order.current[jnp.minimum(positions, size - 1)]
    of_following = order.following[jnp.maximum(positions - size, 0)]
    return jnp.where(positions < size, of_current, of_following), order._replace(position=order.position + batch_size)


def take(data: tuple[PyTree, ...], rows: jax.Array) -> tuple[PyTree, ...]:
    """These rows of every array in ``data``."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf).at[rows].get(mode="promise_in_bounds"), data)


def _permutation(key: Key, epoch: jax.Array, size: int) -> jax.Array:
    # One sort by 32 random bits; `jax.random.permutation` makes two from 1,626 rows on, to break the rare ties. A tie,
    # one in 2^32 pairs, leaves its two rows in their first order, and sorting was most of a minibatch step's time.
    bits = jax.random.bits(jax.random.fold_in(key, epoch), (size,), jnp.uint32)
    return jnp.argsort(bits).astype(jnp.int32)
