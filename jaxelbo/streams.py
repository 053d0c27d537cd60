"""The data of each step: one tuple for all, or batches from an iterator of the host, for what does not fit in memory.

Floor 1. Batches are stacked for a chunk of steps, so that the steps stay one compiled scan.
"""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxelbo import checks
from jaxelbo.types import PyTree

Batch = tuple[PyTree, ...]


class Source(NamedTuple):
    """What all steps see, what step 0 sees behind it, and the batches from step 0 on; ``None`` where there are none."""

    fixed: Batch
    first: Batch
    batches: Iterator[Batch] | None


def is_stream(data: Any) -> bool:
    """Whether batches come one by one from an iterator."""
    return isinstance(data, Iterator)


def open_source(data: Batch | Iterator[Batch]) -> Source:
    """Reads the first batch, if batches come.

    Raises:
      TypeError, ValueError: no batch at all, one that is no tuple of arrays; later, one that is not like the first.
    """
    if not isinstance(data, Iterator):
        return Source(jax.tree.map(jnp.asarray, data), (), None)
    first = next(data, None)
    if first is None:
        raise ValueError("data must give at least one batch, got none.")
    _check(first, "batch 0 of data")
    return Source((), first, itertools.chain([first], _like(first, data)))


def chunks(source: Source, num_read: int, lengths: Iterable[int]) -> Iterator[tuple[int, Batch]]:
    """So many steps at a time and their batches, arrays ``[length, B, ...]``; ends early where the batches do.

    Args:
      source: of `open_source`.
      num_read: batches that an earlier run has used up, and that are read and dropped.
      lengths: of the chunks.
    """
    if source.batches is None:
        yield from ((length, ()) for length in lengths)
        return
    if sum(1 for _ in itertools.islice(source.batches, num_read)) < num_read:
        raise ValueError(f"data must give again the {num_read} batches that came before the checkpoint; it ended.")
    for length in lengths:
        part = list(itertools.islice(source.batches, length))
        if part:
            yield len(part), jax.tree.map(_stack, *part)
        if len(part) < length:
            return


def num_bytes(batch: Batch) -> int:
    """Of one batch."""
    return sum(np.size(leaf) * checks.canonical_dtype(leaf).itemsize for leaf in jax.tree.leaves(batch))


def _like(first: Batch, batches: Iterator[Batch]) -> Iterator[Batch]:
    expected = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, first))
    for index, batch in enumerate(batches, 1):
        name = f"batch {index} of data"
        _check(batch, name)
        checks.check_like(batch, expected, name, "batch 0")
        yield batch


def _check(batch: Any, name: str) -> None:
    if not isinstance(batch, tuple):
        raise TypeError(f"{name} must be a tuple, as in (x, y), got {checks.describe(batch)}.")
    checks.check_arrays(batch, name)


def _stack(*leaves: Any) -> Any:
    first = leaves[0]
    is_spread = isinstance(first, jax.Array) and len(first.sharding.device_set) > 1
    # Rows that lie on many devices stay there. A program with an operand for each step would take long to compile.
    return jnp.stack(leaves) if checks.is_typed_key(first) or is_spread else np.stack(leaves)
