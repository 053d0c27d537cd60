"""Drives the steps from the host: chunks of one compiled scan, callbacks and checkpoints between them, faults undone.

Floor 5. Inside ``jit`` or ``vmap`` no host can look at values, and the loop is a pure scan that guards each step.
Outside, the scan runs without a guard and says at its end whether all was finite. Where it was not, its steps are
taken again from the same start in smaller pieces, in the end one by one, and those at fault are undone. So nearly all
runs are spared a look at the whole state in each step, and a step is rounded in the same way whatever happens around.
"""

import contextlib
import pathlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxelbo import checkpoints, checks, stepping, streams
from jaxelbo.types import Algorithm, FitResult, Key, Params, Progress, PyTree

_PIECE = 64
# What the batches of one chunk may take on the device, unless the length of chunks is given or rows of the history are
# longer.
_BYTES_AHEAD = 2**26


class Plan(NamedTuple):
    """What a run does, all of it static; the fields are arguments of `run_algorithm`."""

    algorithm: Algorithm
    num_steps: int
    batch_size: int | None
    history_every: int
    callback: Callable[[Progress], bool | None] | None
    report_every: int | None
    checkpoint: str | pathlib.Path | None


class Reached(NamedTuple):
    """How far a run in chunks has come, which is what a checkpoint holds.

    ``history`` has rows for the whole run, in arrays of the host; those behind ``state.step`` mean nothing yet.
    ``is_over`` says that there is nothing left to do, be it by the callback's word.
    """

    state: stepping.LoopState
    history: PyTree
    is_over: Any


Explain = Callable[[tuple[Any, ...]], None]
"""Called with the data of step 0 where the first steps were not finite; may raise."""


def drive(plan: Plan, params: Params, key: Key, data: Any, explain: Explain) -> FitResult:
    """The loop behind `fit` and `run_algorithm`; arguments are checked there."""
    if plan.callback is not None or plan.checkpoint is not None or streams.is_stream(data):
        return _drive_in_chunks(plan, params, key, data, explain)
    static = plan.algorithm, plan.batch_size, plan.num_steps, plan.history_every
    if not checks.is_traced((params, key, data)):
        end, history, is_finite = stepping.compiled(stepping.run, *static, stepping.PLAIN)(params, key, data)
        if not checks.is_traced(is_finite):
            if is_finite:
                return _result(plan, end, history)
            explain(data)
            state = stepping.compiled(stepping.start, plan.algorithm, plan.batch_size)(params, key, data)
            return _result(plan, *_advance_in_pieces(plan, plan.num_steps, state, data, ()))
        # The algorithm closes over a traced value: we are inside a transformation after all.
    end, history, _ = stepping.run(*static, stepping.GUARDED, params, key, data)
    return _result(plan, end, history)


def _drive_in_chunks(plan: Plan, params: Params, key: Key, data: Any, explain: Explain) -> FitResult:
    """Chunk by chunk, with a report behind each, from the checkpoint on if there is one, and to Ctrl-C if it comes."""
    if checks.is_traced((params, key)) or (not streams.is_stream(data) and checks.is_traced(data)):
        raise _inside_a_transformation(plan)
    source = streams.open_source(data)
    plan = plan._replace(report_every=_chunk_length(plan, source))
    configuration = "" if plan.checkpoint is None else _configuration(plan, params, key, source)
    first = (*source.fixed, *source.first)
    state = stepping.compiled(stepping.start, plan.algorithm, plan.batch_size)(params, key, first)
    reached = Reached(state, _empty_history(plan, state, source), np.asarray(False))
    if plan.checkpoint is not None and pathlib.Path(plan.checkpoint).is_file():
        reached = checkpoints.load(plan.checkpoint, reached, configuration)
        reached = reached._replace(history=jax.tree.map(np.array, reached.history))
    if not reached.is_over:
        step = int(reached.state.step)
        chunks = streams.chunks(source, step, _lengths(plan, step))
        with _writer(plan, configuration) as write:
            try:
                chunk = next(chunks, None)
                while chunk is not None:
                    reached, chunk = _next_chunk(plan, reached, source.fixed, chunk, chunks, lambda: explain(first))
                    is_over = _report(plan, reached) or chunk is None
                    reached = reached._replace(is_over=np.asarray(is_over))
                    write(reached)
                    if is_over:
                        break
                    if isinstance(chunk, BaseException):
                        raise chunk
            except KeyboardInterrupt:
                if not int(reached.state.step):
                    raise
                steps = f"{int(reached.state.step)} of {plan.num_steps} steps"
                warnings.warn(f"interrupted: the result is that of the first {steps}.", RuntimeWarning, stacklevel=4)
    rows = _num_rows(plan, int(reached.state.step))
    return _result(plan, reached.state, jax.tree.map(lambda leaf: leaf[:rows], reached.history))


Chunk = tuple[int, streams.Batch]


def _lengths(plan: Plan, step: int) -> Iterator[int]:
    """Of the chunks from this step on, which are cut at multiples of their length."""
    assert plan.report_every is not None
    while step < plan.num_steps:
        length = min(plan.report_every - step % plan.report_every, plan.num_steps - step)
        yield length
        step += length


def _next_chunk(
    plan: Plan,
    reached: Reached,
    data: tuple[Any, ...],
    chunk: Chunk,
    chunks: Iterator[Chunk],
    explain: Callable[[], None],
) -> tuple[Reached, Chunk | BaseException | None]:
    """What is reached behind this chunk, and the chunk after it, or what was raised instead of it."""
    state, step = reached.state, int(reached.state.step)
    length, batches = chunk
    end, history, is_finite = _advance(plan, length, plan.history_every, state, data, batches)
    if checks.is_traced((end, is_finite)):
        raise _inside_a_transformation(plan)
    try:
        following = next(chunks, None)  # read while the device works
    except BaseException as error:  # whatever it is, this chunk is not lost
        following = error
    if not is_finite:
        if not step:
            explain()
        end, history = _advance_in_pieces(plan, length, state, data, batches)
    row = _num_rows(plan, step)
    for whole, part in zip(jax.tree.leaves(reached.history), jax.tree.leaves(history), strict=True):
        whole[row : row + len(part)] = part
    return reached._replace(state=end), following


def _report(plan: Plan, reached: Reached) -> bool:
    """Reports to the callback, if there is one; whether it ends the run."""
    if plan.callback is None:
        return False
    step = int(reached.state.step)
    assert plan.report_every is not None
    rows = slice(_num_rows(plan, (step - 1) // plan.report_every * plan.report_every), _num_rows(plan, step))
    history = jax.tree.map(lambda leaf: leaf[rows].copy(), reached.history)
    now = plan.algorithm.params(reached.state.algorithm_state)
    answer = plan.callback(Progress(step, plan.num_steps, now, history, int(reached.state.num_skipped)))
    if answer is not None and not isinstance(answer, bool | np.bool_):
        raise TypeError(f"callback must return None or a bool, got {checks.describe(answer)}.")
    return bool(answer)


def _advance(
    plan: Plan,
    length: int,
    history_every: int,
    state: stepping.LoopState,
    data: tuple[Any, ...],
    batches: streams.Batch,
) -> Any:
    """``length`` steps without a guard, compiled."""
    return _program(plan, length, history_every)(state, data, batches)


def _program(plan: Plan, length: int, history_every: int) -> Any:
    static = plan.algorithm, plan.batch_size, length, history_every, stepping.PLAIN
    return stepping.compiled(stepping.advance, *static)


def _advance_in_pieces(
    plan: Plan, length: int, state: stepping.LoopState, data: tuple[Any, ...], batches: streams.Batch
) -> tuple[stepping.LoopState, PyTree]:
    """``length`` steps in pieces of 64 and of one; a single step that is not finite is undone and counted."""
    histories, begin = [], 0
    pieces = [1] * length if length <= _PIECE else [_PIECE] * (length // _PIECE) + [1] * (length % _PIECE)
    for piece in pieces:
        part = jax.tree.map(lambda leaf, begin=begin, piece=piece: leaf[begin : begin + piece], batches)
        end, history, is_finite = _advance(plan, piece, 1, state, data, part)
        first = -int(state.step) % plan.history_every
        if not is_finite and piece > 1:
            end, history = _advance_in_pieces(plan, piece, state, data, part)
        else:
            history = jax.tree.map(lambda leaf, first=first: np.asarray(leaf)[first :: plan.history_every], history)
            if not is_finite:
                num_skipped = jnp.asarray(np.asarray(state.num_skipped) + np.int32(1))
                end = end._replace(algorithm_state=state.algorithm_state, num_skipped=num_skipped)
        state, begin = end, begin + piece
        histories.append(history)
    return state, jax.tree.map(lambda *parts: np.concatenate(parts), *histories)


def _result(plan: Plan, end: stepping.LoopState, history: PyTree) -> FitResult:
    params, history = plan.algorithm.params(end.algorithm_state), jax.tree.map(jnp.asarray, history)
    return FitResult(params, None, history, end.num_skipped, end.algorithm_state)


def _num_rows(plan: Plan, step: int) -> int:
    """Rows of the history behind so many steps."""
    return -(-step // plan.history_every)


def _empty_history(plan: Plan, state: stepping.LoopState, source: streams.Source) -> PyTree:
    """Arrays of the host for all rows. The trace serves the first chunk too."""
    length = plan.report_every
    assert length is not None
    batches = jax.eval_shape(lambda: jax.tree.map(lambda leaf: jnp.stack([leaf] * length), source.first))
    _, shapes, _ = _program(plan, length, plan.history_every).eval_shape(state, source.fixed, batches)
    rows = _num_rows(plan, plan.num_steps)
    return jax.tree.map(lambda leaf: np.zeros((rows, *leaf.shape[1:]), leaf.dtype), shapes)


def _chunk_length(plan: Plan, source: streams.Source) -> int:
    """Of equal chunks, a multiple of the steps a row, with a shorter one at the end where they do not divide."""
    num_steps, unit = plan.num_steps, plan.history_every
    if plan.report_every is not None:
        return min(plan.report_every, num_steps)
    most = _BYTES_AHEAD // max(1, streams.num_bytes(source.first))
    about = max(1, min(-(-num_steps // (100 * unit)), most // unit)) * unit
    if source.batches is not None:
        return min(about, num_steps)
    return next((length for length in range(about, 10 * about, unit) if num_steps % length == 0), min(about, num_steps))


def _writer(plan: Plan, configuration: str) -> contextlib.AbstractContextManager[Callable[[Reached], None]]:
    if plan.checkpoint is None:
        return contextlib.nullcontext(lambda reached: None)
    return checkpoints.written_behind(plan.checkpoint, configuration)


def _configuration(plan: Plan, params: Params, key: Key, source: streams.Source) -> str:
    """What a resumed run must have in common with the one that wrote, functions apart."""
    numbers = {name: getattr(plan, name) for name in ("num_steps", "batch_size", "history_every")}
    arrays = {"params": params, "key": key, "data": (*source.fixed, *source.first)}
    digests = {name: checkpoints.digest(value) for name, value in arrays.items()}
    return "; ".join(f"{name} {value}" for name, value in (numbers | digests).items())


def _inside_a_transformation(plan: Plan) -> ValueError:
    what = "data cannot be read from an iterator"
    what = what if plan.checkpoint is None else "checkpoint cannot be written"
    what = what if plan.callback is None else "callback cannot be called"
    return ValueError(f"{what} inside jit, vmap or grad; call the loop outside, or drop it.")
