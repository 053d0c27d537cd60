"""Drives the steps from the host: chunks of one compiled scan, callbacks between them, faults undone.

Floor 5. Inside ``jit`` or ``vmap`` no host can look at values, and the loop is a pure scan that guards each step.
Outside, the scan runs without a guard and says at its end whether all was finite. Where it was not, its steps are
taken again from the same start in smaller pieces, in the end one by one, and those at fault are undone. So nearly all
runs are spared a look at the whole state in each step, and a step is rounded in the same way whatever happens around.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxelbo import checks, stepping
from jaxelbo.types import Algorithm, FitResult, Key, Params, Progress, PyTree

_PIECE = 64


class Plan(NamedTuple):
    """What a run does, all of it static; the fields are arguments of `run_algorithm`."""

    algorithm: Algorithm
    num_steps: int
    batch_size: int | None
    callback: Callable[[Progress], bool | None] | None
    report_every: int | None


def drive(plan: Plan, params: Params, key: Key, data: tuple[Any, ...], explain: Callable[[], None]) -> FitResult:
    """The loop behind `fit` and `run_algorithm`; arguments are checked there.

    ``explain`` is called where the first steps were not finite, and may raise.
    """
    algorithm, num_steps, batch_size = plan[:3]
    if plan.callback is not None:
        return _report(plan, params, key, data, explain)
    if not checks.is_traced((params, key, data)):
        run = stepping.compiled(stepping.run, algorithm, batch_size, num_steps, stepping.plain_step)
        end, history, is_finite = run(params, key, data)
        if not checks.is_traced(is_finite):
            if is_finite:
                return _result(plan, end, history)
            explain()
            state = stepping.compiled(stepping.start, algorithm, batch_size)(params, key, data)
            return _result(plan, *_advance_in_pieces(plan, num_steps, state, data))
        # The algorithm closes over a traced value: we are inside a transformation after all.
    end, history, _ = stepping.run(algorithm, batch_size, num_steps, stepping.guarded_step, params, key, data)
    return _result(plan, end, history)


def _report(plan: Plan, params: Params, key: Key, data: tuple[Any, ...], explain: Callable[[], None]) -> FitResult:
    """Chunk by chunk, with a report behind each."""
    inside = ValueError("callback cannot be called inside jit, vmap or grad; call the loop outside, or drop it.")
    if checks.is_traced((params, key, data)):
        raise inside
    data = jax.tree.map(jnp.asarray, data)
    state, histories = stepping.compiled(stepping.start, plan.algorithm, plan.batch_size)(params, key, data), []
    for length in _chunk_lengths(plan):
        end, history, is_finite = _advance(plan, length, state, data)
        if checks.is_traced((end, is_finite)):
            raise inside
        if not is_finite:
            if not histories:
                explain()
            end, history = _advance_in_pieces(plan, length, state, data)
        state = end
        histories.append(jax.tree.map(np.asarray, history))
        if _is_end(plan, state, histories[-1]):
            break
    return _result(plan, state, _join(histories))


def _is_end(plan: Plan, state: stepping.LoopState, history: PyTree) -> bool:
    """Reports to the callback, and whether that ends the run."""
    now = plan.algorithm.params(state.algorithm_state)
    assert plan.callback is not None
    answer = plan.callback(Progress(int(state.step), plan.num_steps, now, history, int(state.num_skipped)))
    if answer is not None and not isinstance(answer, bool | np.bool_):
        raise TypeError(f"callback must return None or a bool, got {checks.describe(answer)}.")
    return bool(answer)


def _advance(plan: Plan, length: int, state: stepping.LoopState, data: tuple[Any, ...]) -> Any:
    """``length`` steps without a guard, compiled."""
    static = plan.algorithm, plan.batch_size, length, stepping.plain_step
    return stepping.compiled(stepping.advance, *static)(state, data)


def _advance_in_pieces(
    plan: Plan, length: int, state: stepping.LoopState, data: tuple[Any, ...]
) -> tuple[stepping.LoopState, PyTree]:
    """``length`` steps in pieces of 64 and of one; a single step that is not finite is undone and counted."""
    histories = []
    pieces = [1] * length if length <= _PIECE else [_PIECE] * (length // _PIECE) + [1] * (length % _PIECE)
    for piece in pieces:
        end, history, is_finite = _advance(plan, piece, state, data)
        if not is_finite and piece > 1:
            end, history = _advance_in_pieces(plan, piece, state, data)
        elif not is_finite:
            num_skipped = jnp.asarray(np.asarray(state.num_skipped) + np.int32(1))
            end = end._replace(algorithm_state=state.algorithm_state, num_skipped=num_skipped)
        state = end
        histories.append(jax.tree.map(np.asarray, history))
    return state, _join(histories)


def _join(histories: list[PyTree]) -> PyTree:
    return jax.tree.map(lambda *parts: np.concatenate(parts), *histories)


def _result(plan: Plan, end: stepping.LoopState, history: PyTree) -> FitResult:
    params, history = plan.algorithm.params(end.algorithm_state), jax.tree.map(jnp.asarray, history)
    return FitResult(params, None, history, end.num_skipped, end.algorithm_state)


def _chunk_lengths(plan: Plan) -> list[int]:
    """Equal chunks, with a shorter one behind them where they do not divide the steps (one more program to compile)."""
    num_steps, report_every = plan.num_steps, plan.report_every
    if report_every is None:
        about = -(-num_steps // 100)
        divisors = [length for length in range(about, 10 * about) if num_steps % length == 0]
        report_every = divisors[0] if divisors else about
    report_every = min(report_every, num_steps)
    chunks, rest = divmod(num_steps, report_every)
    return [report_every] * chunks + [rest] * (rest > 0)
