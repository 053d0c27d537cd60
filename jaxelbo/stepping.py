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
    """All that changes from step to step. ``order`` is ``None`` without minibatches."""

    algorithm_state: Any
    order: minibatches.Order | None
    step: jax.Array
    num_skipped: jax.Array
    key: Key


def start(algorithm: Algorithm, batch_size: int | None, params: Params, key: Key, data: tuple[Any, ...]) -> LoopState:
    """The state before step 0."""
    key_init, key_order, key_steps = jax.random.split(key, 3)
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype=checks.canonical_dtype(leaf)), params)
    order = None if batch_size is None else minibatches.first_order(key_order, minibatches.num_rows(data))
    zero = jnp.zeros((), jnp.int32)
    return LoopState(algorithm.init(params, key_init, *data), order, zero, zero, key_steps)


def advance(
    algorithm: Algorithm,
    batch_size: int | None,
    length: int,
    step: Callable[..., Any],
    loop: LoopState,
    data: tuple[Any, ...],
) -> tuple[LoopState, Any, jax.Array]:
    """``length`` steps: the state behind them, their history, and whether all of it is finite."""
    steps = loop.step + jnp.arange(length, dtype=jnp.int32)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(loop.key, steps)
    end, history = jax.lax.scan(lambda loop, key: step(algorithm, batch_size, loop, key, data), loop, keys)
    return end, history, _is_finite(algorithm, end.algorithm_state, history)


def run(
    algorithm: Algorithm,
    batch_size: int | None,
    length: int,
    step: Callable[..., Any],
    params: Params,
    key: Key,
    data: tuple[Any, ...],
) -> tuple[LoopState, Any, jax.Array]:
    """`start` and `advance` in one program."""
    return advance(algorithm, batch_size, length, step, start(algorithm, batch_size, params, key, data), data)


# At module level, so that the compiled programs outlive a call: a second fit of the same shapes compiles nothing.
start_compiled = jax.jit(start, static_argnums=(0, 1))
advance_compiled = jax.jit(advance, static_argnums=(0, 1, 2, 3))
run_compiled = jax.jit(run, static_argnums=(0, 1, 2, 3))


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
    algorithm_state, info = algorithm.step(loop.algorithm_state, key, *data)
    return loop._replace(algorithm_state=algorithm_state, order=order, step=loop.step + 1), info


def guarded_step(
    algorithm: Algorithm, batch_size: int | None, loop: LoopState, key: Key, data: tuple[Any, ...]
) -> tuple[LoopState, Any]:
    """One step, undone and counted where its info or state is not finite."""
    new, info = plain_step(algorithm, batch_size, loop, key, data)
    ok = _is_finite(algorithm, new.algorithm_state, info)
    kept = jax.tree.map(lambda new, old: jnp.where(ok, new, old), new.algorithm_state, loop.algorithm_state)
    return new._replace(algorithm_state=kept, num_skipped=loop.num_skipped + jnp.where(ok, 0, 1)), info


def _is_finite(algorithm: Algorithm, state: PyTree, info: PyTree) -> jax.Array:
    """Whether ``info``, the parameters and the arrays of the state are finite, and no scalar of the state is NaN.

    A scalar of the state may be infinite: some optimisers start from an infinite "best value so far".
    """
    leaves = [leaf for leaf in jax.tree.leaves((info, algorithm.params(state))) if _is_float(leaf)]
    of_state = [leaf for leaf in jax.tree.leaves(state) if _is_float(leaf)]
    leaves += [leaf for leaf in of_state if leaf.ndim]
    faults = [jnp.any(~jnp.isfinite(leaf)) for leaf in leaves]
    faults += [jnp.isnan(leaf) for leaf in of_state if not leaf.ndim]
    return ~functools.reduce(jnp.logical_or, faults, jnp.asarray(False))


def _is_float(leaf: jax.Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.inexact)
