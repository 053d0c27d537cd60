"""The steps of a fit as a pure scan, with and without the guard against numbers that are not finite.

Floor 5, below the drivers. Step t uses the key ``fold_in(key, t)`` and the t-th batch, so the numbers do not depend on
how the steps are cut into scans.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxelbo import checks, minibatches
from jaxelbo.types import Algorithm, Key, Params, PyTree


class LoopState(NamedTuple):
    """All that changes from step to step, and what the guard must know of the start.

    ``order`` is ``None`` without minibatches. ``infinite_scalars`` says of each scalar of the vital state whether it
    was infinite at the start, as an optimiser's "best value so far" is; it may stay so.
    """

    algorithm_state: Any
    order: minibatches.Order | None
    step: jax.Array
    num_skipped: jax.Array
    infinite_scalars: list[jax.Array]
    key: Key


class Way(NamedTuple):
    """How steps are taken: one step, and the loop over them; ``PLAIN`` and ``GUARDED`` below."""

    step: Callable[..., Any]
    scan: Callable[..., tuple[Any, Any]]


def start(algorithm: Algorithm, batch_size: int | None, params: Params, key: Key, data: tuple[Any, ...]) -> LoopState:
    """The state before step 0."""
    key_init, key_order, key_steps = jax.random.split(key, 3)
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype=checks.canonical_dtype(leaf)), params)
    order = None if batch_size is None else minibatches.first_order(key_order, minibatches.num_rows(data))
    zero = jnp.zeros((), jnp.int32)
    state = jax.tree.map(jnp.asarray, algorithm.init(params, key_init, *data))
    infinite = [jnp.isinf(leaf) for leaf in _float_leaves(algorithm.vital(state)) if leaf.ndim == 0]
    return LoopState(state, order, zero, zero, infinite, key_steps)


def advance(
    algorithm: Algorithm,
    batch_size: int | None,
    length: int,
    history_every: int,
    way: Way,
    loop: LoopState,
    data: tuple[Any, ...],
    batches: tuple[Any, ...] = (),
) -> tuple[LoopState, Any, jax.Array]:
    """``length`` steps: the state behind them, the info of each n-th from the first on, and whether all is finite.

    Step t of them sees ``data`` and behind it entry t of ``batches``, arrays ``[length, ...]``.
    """
    if history_every > 1:
        return _advance_thinned(algorithm, batch_size, length, history_every, way, loop, data, batches)
    steps = loop.step + jnp.arange(length, dtype=jnp.int32)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(loop.key, steps)

    def one(loop: LoopState, now: tuple[Key, tuple[Any, ...]]) -> tuple[LoopState, Any]:
        key, batch = now
        return way.step(algorithm, batch_size, loop, key, (*data, *batch))

    end, history = way.scan(one, loop, (keys, batches))
    return end, history, _is_finite(algorithm, end, history)


def _advance_thinned(
    algorithm: Algorithm,
    batch_size: int | None,
    length: int,
    history_every: int,
    way: Way,
    loop: LoopState,
    data: tuple[Any, ...],
    batches: tuple[Any, ...],
) -> tuple[LoopState, Any, jax.Array]:
    """A scan of scans of n steps, so that no more than n infos, or one of each n, are ever there."""

    def row(loop: LoopState, steps: int, batches: tuple[Any, ...]) -> tuple[LoopState, tuple[Any, jax.Array]]:
        end, history, is_finite = advance(algorithm, batch_size, steps, 1, way, loop, data, batches)
        return end, (jax.tree.map(lambda leaf: leaf[0], history), is_finite)

    whole, rest = divmod(length, history_every)
    count = whole * history_every
    cut = jax.tree.map(lambda leaf: leaf[:count].reshape(whole, history_every, *leaf.shape[1:]), batches)
    loop, rows = jax.lax.scan(lambda loop, batches: row(loop, history_every, batches), loop, cut, length=whole)
    if rest:
        loop, last = row(loop, rest, jax.tree.map(lambda leaf: leaf[count:], batches))
        rows = jax.tree.map(lambda leaf, last: jnp.concatenate([leaf, last[None]]), rows, last)
    history, are_finite = rows
    return loop, history, jnp.all(are_finite)


def run(
    algorithm: Algorithm,
    batch_size: int | None,
    length: int,
    history_every: int,
    way: Way,
    params: Params,
    key: Key,
    data: tuple[Any, ...],
) -> tuple[LoopState, Any, jax.Array]:
    """`start` and `advance` in one program."""
    loop = start(algorithm, batch_size, params, key, data)
    return advance(algorithm, batch_size, length, history_every, way, loop, data)


@functools.lru_cache(maxsize=64)
def compiled(function: Callable[..., Any], *static: Any) -> Callable[..., Any]:
    """``function`` with its first arguments fixed, compiled; equal ones share a program, the last 64 are kept."""
    return jax.jit(functools.partial(function, *static))


def next_batch(
    loop: LoopState, batch_size: int | None, data: tuple[Any, ...]
) -> tuple[tuple[Any, ...], minibatches.Order | None]:
    """The rows of ``data`` that the next step sees, all of them without minibatches, and the order behind them."""
    if batch_size is None or loop.order is None:
        return data, None
    rows, order = minibatches.next_rows(loop.order, batch_size)
    return minibatches.take(data, rows), order


def plain_step(
    algorithm: Algorithm, batch_size: int | None, loop: LoopState, key: Key, data: tuple[Any, ...]
) -> tuple[LoopState, Any]:
    """One step, whatever comes of it."""
    data, order = next_batch(loop, batch_size, data)
    result = algorithm.step(loop.algorithm_state, key, *data)
    if not isinstance(result, tuple) or len(result) != 2:
        raise TypeError(f"algorithm.step must return (state, info), got {checks.describe(result)}.")
    algorithm_state, info = jax.tree.map(jnp.asarray, result)
    expected = jax.eval_shape(lambda: loop.algorithm_state)
    checks.check_like(algorithm_state, expected, "the state that algorithm.step returns", "algorithm.init")
    return loop._replace(algorithm_state=algorithm_state, order=order, step=loop.step + 1), info


def guarded_step(
    algorithm: Algorithm, batch_size: int | None, loop: LoopState, key: Key, data: tuple[Any, ...]
) -> tuple[LoopState, Any]:
    """One step, undone and counted where its info or vital state is not finite."""
    new, info = plain_step(algorithm, batch_size, loop, key, data)
    ok = _is_finite(algorithm, new, info)
    kept = jax.tree.map(lambda new, old: jnp.where(ok, new, old), new.algorithm_state, loop.algorithm_state)
    return new._replace(algorithm_state=kept, num_skipped=loop.num_skipped + jnp.where(ok, 0, 1)), info


def _scan_alike(step: Callable[..., Any], start: LoopState, inputs: Any) -> tuple[LoopState, Any]:
    """A scan that rounds alike whatever its length.

    The compiler would do away with a loop of one turn, and fuse its body otherwise. So that one is a loop of two, of
    which it cannot know that the second does nothing.
    """
    if jax.tree.leaves(inputs)[0].shape[0] > 1:
        return jax.lax.scan(step, start, inputs)
    first = jax.tree.map(lambda leaf: leaf[0], inputs)
    step, constants = jax.closure_convert(step, start, first)  # traced once
    _, shapes = jax.eval_shape(step, start, first, *constants)

    def skip(state: LoopState, _: Any) -> tuple[LoopState, Any]:
        return state, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    def turn(state: LoopState, now: tuple[jax.Array, Any]) -> tuple[LoopState, Any]:
        is_step, each = now
        return jax.lax.cond(is_step, lambda state, each: step(state, each, *constants), skip, state, each)

    are_steps = jnp.stack([start.step >= 0, start.step < 0])
    twice = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf]), inputs)
    state, outputs = jax.lax.scan(turn, start, (are_steps, twice))
    return state, jax.tree.map(lambda leaf: leaf[:1], outputs)


PLAIN, GUARDED = Way(plain_step, _scan_alike), Way(guarded_step, jax.lax.scan)


def _is_finite(algorithm: Algorithm, loop: LoopState, info: PyTree) -> jax.Array:
    """Whether info, params and vital state are finite, but for scalars of it that were infinite at the start."""
    vital = _float_leaves(algorithm.vital(loop.algorithm_state))
    always = _float_leaves((info, algorithm.params(loop.algorithm_state)))
    faults = [jnp.any(~jnp.isfinite(leaf)) for leaf in always + [leaf for leaf in vital if leaf.ndim]]
    scalars = [leaf for leaf in vital if leaf.ndim == 0]
    for leaf, may_be_infinite in zip(scalars, loop.infinite_scalars, strict=True):
        faults.append(jnp.isnan(leaf) | (jnp.isinf(leaf) & ~may_be_infinite))
    return ~functools.reduce(jnp.logical_or, faults, jnp.asarray(False))


def _float_leaves(tree: PyTree) -> list[jax.Array]:
    return [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
