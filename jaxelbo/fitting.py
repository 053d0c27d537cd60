"""The loop: `fit` lowers a loss by an optax optimiser, `run_algorithm` drives any ``(init, step)`` pair.

Floor 5. Outside ``jit`` the loop is a few calls of one compiled scan, driven from the host; inside ``jit`` or ``vmap``
it is a pure scan. Both take the same steps with the same keys, so the numbers do not depend on the chunks, on the
callback or on the progress bar.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxelbo import algorithms, checks, minibatches
from jaxelbo.algorithms import stochastic_gradient
from jaxelbo.types import Algorithm, FitResult, Key, Params, Progress, PyTree


class LoopState(NamedTuple):
    """All that changes from step to step. ``order`` is ``None`` without minibatches."""

    algorithm_state: Any
    order: minibatches.Order | None
    step: jax.Array
    num_skipped: jax.Array
    key: Key


def fit(
    params: Params,
    key: Key,
    loss_fn: Callable[..., Any],
    optimizer: optax.GradientTransformation,
    *,
    num_steps: int,
    data: tuple[Any, ...] = (),
    state: PyTree = None,
    batch_size: int | None = None,
    callback: Callable[[Progress], bool | None] | None = None,
    report_every: int | None = None,
) -> FitResult:
    """Lowers a loss by an optax optimiser: `run_algorithm` with `algorithms.gradient_descent`.

    A step whose loss, parameters or optimiser state is not finite is undone and counted. Outside ``jit`` the loss and
    its gradient are checked once at the start, in one compiled call. A second call with the same ``loss_fn``,
    ``optimizer`` and shapes compiles nothing: let data travel in ``data``, not in a closure.

    Args:
      params: where to start; a pytree of floating-point arrays.
      key: one random key; step t uses a key of its own that depends on it and on t alone.
      loss_fn: ``(params, key, *data) -> scalar`` to be lowered, such as the negative `elbo`; where ``state`` is given,
        ``(params, key, state, *data) -> (scalar, state)``.
      optimizer: any ``optax.GradientTransformation``; line searches and plateau rules receive what they need.
      num_steps: static, at least 1.
      data: a tuple, passed on to ``loss_fn``; traced, so new values of the same shapes compile nothing.
      state: what the loss carries from step to step, or ``None``.
      batch_size: where given, each step sees this many rows of every array in ``data``, by one permutation of the rows
        an epoch. Scale a sum over the rows by N / batch_size.
      callback: called with `Progress` between chunks of steps; a true answer ends the run. See `progress_bar`.
      report_every: steps between two calls of ``callback``; by default about a hundredth of all.

    Returns:
      `FitResult`; ``history.loss`` is the loss of each step before its update, ``[T]``.

    Raises:
      TypeError, ValueError: at trace time, naming the argument; and outside ``jit`` for a loss or gradient that is not
        finite at the start, naming the leaf. Inside ``jit`` the result's ``num_skipped`` says it.

    References:
      Robbins, Monro (1951), *A Stochastic Approximation Method*;
      Kingma, Ba (2015), *Adam: A Method for Stochastic Optimization*.

    >>> import jax, jaxelbo, optax
    >>> family = jaxelbo.families.mean_field(0.0)
    >>> def loss_fn(params, key, x):
    ...     log_joint = lambda z: jax.scipy.stats.norm.logpdf(z) + jax.scipy.stats.norm.logpdf(x, z)
    ...     return -jaxelbo.elbo(params, key, log_joint, family, num_samples=8)
    >>> start, key = family.init(jax.random.key(0)), jax.random.key(1)
    >>> result = fit(start, key, loss_fn, optax.adam(0.05), num_steps=500, data=(1.0,))
    >>> round(float(result.params["loc"][0]), 1)  # the posterior mean, x / 2
    0.5
    """
    checks.check_float_leaves(params, "params")
    if state is None:
        algorithm, start = algorithms.gradient_descent(loss_fn, optimizer), params
    else:
        algorithm, start = algorithms.gradient_descent_with_state(loss_fn, optimizer), (params, state)
    num_steps, batch_size = _check_arguments(start, key, algorithm, num_steps, data, batch_size)
    if not checks.is_traced((start, key, data)):
        _check_start(loss_fn, algorithm, batch_size, start, key, data)
    result = run_algorithm(
        start,
        key,
        algorithm,
        num_steps=num_steps,
        data=data,
        batch_size=batch_size,
        callback=callback,
        report_every=report_every,
    )
    return result._replace(state=result.algorithm_state.loss_state)


def run_algorithm(
    params: Params,
    key: Key,
    algorithm: Algorithm,
    *,
    num_steps: int,
    data: tuple[Any, ...] = (),
    batch_size: int | None = None,
    callback: Callable[[Progress], bool | None] | None = None,
    report_every: int | None = None,
) -> FitResult:
    """Takes ``num_steps`` steps of any `Algorithm`.

    A step after which ``info`` or the state holds a number that is not finite, where it was finite before, is undone
    and counted; the run goes on with the next key.

    Args:
      params: what ``algorithm.init`` starts from.
      key: one random key; step t uses a key of its own that depends on it and on t alone.
      algorithm: functions ``(init, step, params)``.
      num_steps: static, at least 1.
      data: a tuple, passed on to ``init`` and ``step``; traced.
      batch_size: where given, each step sees this many rows of ``data``, by one permutation of the rows an epoch;
        ``init`` sees them all.
      callback: called with `Progress` between chunks of steps; a true answer ends the run.
      report_every: steps between two calls of ``callback``; by default about a hundredth of all.

    Returns:
      `FitResult`; ``history`` is ``info``, leaves ``[T, ...]``.

    Raises:
      TypeError, ValueError: naming the argument; a callback inside ``jit`` or ``vmap``.

    >>> import jax, jaxelbo, optax
    >>> algorithm = jaxelbo.algorithms.gradient_descent(lambda params, key: params**2, optax.sgd(0.25))
    >>> result = run_algorithm(jax.numpy.array(1.0), jax.random.key(0), algorithm, num_steps=3)
    >>> result.history.loss.tolist()
    [1.0, 0.25, 0.0625]
    """
    num_steps, batch_size = _check_arguments(params, key, algorithm, num_steps, data, batch_size)
    lengths = [num_steps] if callback is None else _chunk_lengths(num_steps, report_every)
    if checks.is_traced((params, key, data)):
        if callback is not None:
            raise ValueError("callback cannot be called inside jit, vmap or grad; call the loop outside, or drop it.")
        loop, history, _ = _run(_guarded_step, algorithm, batch_size, num_steps, params, key, data)
        return _result(algorithm, loop, history)
    if callback is None:
        loop, history = _guard(_run_compiled, algorithm, batch_size, num_steps, params, key, data)
        return _result(algorithm, loop, history)
    checks.check_callable(callback, "callback")
    loop, histories = _start_compiled(algorithm, batch_size, params, key, data), []
    for length in lengths:
        loop, history = _guard(_advance_compiled, algorithm, batch_size, length, loop, data)
        histories.append(jax.tree.map(np.asarray, history))
        progress = Progress(
            int(loop.step), num_steps, algorithm.params(loop.algorithm_state), histories[-1], int(loop.num_skipped)
        )
        if callback(progress):
            break
    return _result(algorithm, loop, jax.tree.map(lambda *chunks: jnp.asarray(np.concatenate(chunks)), *histories))


def _guard(program: Callable[..., tuple[LoopState, Any, jax.Array]], *arguments: Any) -> tuple[LoopState, Any]:
    """Runs a program without the guard, and again from the same start with it if something was not finite.

    The guard reads every gradient and state once more, each step; nearly all chunks can do without.
    """
    loop, history, is_finite = program(_step, *arguments)
    if checks.is_traced(is_finite) or not is_finite:  # traced where the loss closes over a traced value
        loop, history, _ = program(_guarded_step, *arguments)
    return loop, history


def _start(algorithm: Algorithm, batch_size: int | None, params: Params, key: Key, data: tuple[Any, ...]) -> LoopState:
    key_init, key_order, key_steps = jax.random.split(key, 3)
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype=checks.canonical_dtype(leaf)), params)
    order = None if batch_size is None else minibatches.first_order(key_order, minibatches.num_rows(data))
    zero = jnp.zeros((), jnp.int32)
    return LoopState(algorithm.init(params, key_init, *data), order, zero, zero, key_steps)


def _advance(
    step: Callable[..., Any],
    algorithm: Algorithm,
    batch_size: int | None,
    length: int,
    loop: LoopState,
    data: tuple[Any, ...],
) -> tuple[LoopState, Any, jax.Array]:
    """``length`` steps: the state behind them, their history, and whether all of it is finite."""
    steps = loop.step + jnp.arange(length, dtype=jnp.int32)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(loop.key, steps)
    end, history = jax.lax.scan(lambda loop, key: step(algorithm, batch_size, loop, key, data), loop, keys)
    return end, history, _is_finite(loop.algorithm_state, end.algorithm_state, history)


def _run(
    step: Callable[..., Any],
    algorithm: Algorithm,
    batch_size: int | None,
    length: int,
    params: Params,
    key: Key,
    data: tuple[Any, ...],
) -> tuple[LoopState, Any, jax.Array]:
    return _advance(step, algorithm, batch_size, length, _start(algorithm, batch_size, params, key, data), data)


_start_compiled = jax.jit(_start, static_argnums=(0, 1))
_advance_compiled = jax.jit(_advance, static_argnums=(0, 1, 2, 3))
_run_compiled = jax.jit(_run, static_argnums=(0, 1, 2, 3))


def _step(
    algorithm: Algorithm, batch_size: int | None, loop: LoopState, key: Key, data: tuple[Any, ...]
) -> tuple[LoopState, Any]:
    order = loop.order
    if order is not None and batch_size is not None:
        rows, order = minibatches.next_rows(order, batch_size)
        data = minibatches.take(data, rows)
    algorithm_state, info = algorithm.step(loop.algorithm_state, key, *data)
    return loop._replace(algorithm_state=algorithm_state, order=order, step=loop.step + 1), info


def _guarded_step(
    algorithm: Algorithm, batch_size: int | None, loop: LoopState, key: Key, data: tuple[Any, ...]
) -> tuple[LoopState, Any]:
    new, info = _step(algorithm, batch_size, loop, key, data)
    ok = _is_finite(loop.algorithm_state, new.algorithm_state, info)
    kept = jax.tree.map(lambda new, old: jnp.where(ok, new, old), new.algorithm_state, loop.algorithm_state)
    return new._replace(algorithm_state=kept, num_skipped=loop.num_skipped + jnp.where(ok, 0, 1)), info


def _is_finite(old: PyTree, new: PyTree, info: PyTree) -> jax.Array:
    """Whether ``info`` is finite and no entry of the state is NaN, or infinite where it was finite before.

    Some optimisers start from an infinite "best value so far", so infinity alone is no fault.
    """
    faults = [~jnp.isfinite(leaf) for leaf in jax.tree.leaves(info) if _is_float(leaf)]
    for before, after in zip(jax.tree.leaves(old), jax.tree.leaves(new), strict=True):
        if _is_float(after):
            faults.append(~jnp.isfinite(after) & (jnp.isfinite(before) | jnp.isnan(after)))
    return ~jnp.any(jnp.stack([jnp.any(fault) for fault in faults])) if faults else jnp.asarray(True)


def _is_float(leaf: jax.Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.inexact)


def _result(algorithm: Algorithm, loop: LoopState, history: Any) -> FitResult:
    return FitResult(algorithm.params(loop.algorithm_state), None, history, loop.num_skipped, loop.algorithm_state)


def _check_start(
    loss_fn: Callable[..., Any], algorithm: Algorithm, batch_size: int | None, start: PyTree, key: Key, data: Any
) -> None:
    """Raises where the loss or its gradient is not finite at the first step, naming the leaf."""
    loss, gradient_is_finite = _first_gradient_compiled(loss_fn, algorithm, batch_size, start, key, data)
    if checks.is_traced(loss):  # the loss closes over a traced value
        return
    faults = [name for name, ok in zip(*_names_and_leaves(gradient_is_finite), strict=True) if not ok]
    if not np.isfinite(loss) or faults:
        where = f"; its gradient is not finite in {', '.join(faults)}" if faults else ""
        raise ValueError(
            f"loss_fn is {float(loss)} at the start{where}. Start elsewhere, or look for the draw that is at fault with "
            "check_log_joint."
        )


def _first_gradient(
    loss_fn: Callable[..., Any],
    algorithm: Algorithm,
    batch_size: int | None,
    start: PyTree,
    key: Key,
    data: tuple[Any, ...],
) -> tuple[jax.Array, PyTree]:
    """The loss of step 0, and for each leaf of its gradient whether it is finite."""
    loop = _start(algorithm, batch_size, start, key, data)
    if loop.order is not None and batch_size is not None:
        data = minibatches.take(data, minibatches.next_rows(loop.order, batch_size)[0])
    state: stochastic_gradient.GradientDescentState = loop.algorithm_state
    (loss, _), gradient = stochastic_gradient.loss_and_gradient(loss_fn, state, jax.random.fold_in(loop.key, 0), data)
    return loss, jax.tree.map(lambda leaf: jnp.all(jnp.isfinite(leaf)), gradient)


_first_gradient_compiled = jax.jit(_first_gradient, static_argnums=(0, 1, 2))


def _names_and_leaves(tree: PyTree) -> tuple[list[str], list[Any]]:
    return checks.leaf_names(tree, "params"), jax.tree.leaves(tree)


def _check_arguments(
    params: Params, key: Key, algorithm: Algorithm, num_steps: int, data: tuple[Any, ...], batch_size: int | None
) -> tuple[int, int | None]:
    if not isinstance(algorithm, Algorithm):
        raise TypeError(f"algorithm must be a jaxelbo.Algorithm, got {checks.describe(algorithm)}.")
    for name, function in algorithm._asdict().items():
        checks.check_static(function, f"algorithm.{name}")
    checks.check_arrays(params, "params")
    checks.check_key(key)
    if not isinstance(data, tuple):
        raise TypeError(f"data must be a tuple, as in data=(x, y), got {checks.describe(data)}.")
    checks.check_arrays(data, "data")
    if batch_size is not None:
        batch_size = minibatches.check_batch_size(batch_size, data)
    return checks.check_count(num_steps, "num_steps"), batch_size


def _chunk_lengths(num_steps: int, report_every: int | None) -> list[int]:
    """Equal chunks, with a shorter one behind them where they do not divide the steps (one more program to compile)."""
    if report_every is None:
        about = -(-num_steps // 100)
        divisors = [length for length in range(about, 10 * about) if num_steps % length == 0]
        report_every = divisors[0] if divisors else about
    report_every = min(checks.check_count(report_every, "report_every"), num_steps)
    chunks, rest = divmod(num_steps, report_every)
    return [report_every] * chunks + [rest] * (rest > 0)
