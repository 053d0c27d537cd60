"""The loop: `fit` lowers a loss by an optax optimiser, `run_algorithm` drives any ``(init, step)`` pair.

Floor 5. Outside ``jit`` the loop is a few calls of one compiled scan, driven from the host; inside ``jit`` or ``vmap``
it is a pure scan. Both take the same steps with the same keys, so the numbers do not depend on the chunks, on the
callback, on the progress bar, or on how often the run was killed and went on from its checkpoint.
"""

import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxelbo import algorithms, checks, driving, minibatches, stepping, streams
from jaxelbo.algorithms import stochastic_gradient
from jaxelbo.types import Algorithm, FitResult, Key, Params, Progress, PyTree


def fit(
    params: Params,
    key: Key,
    loss_fn: Callable[..., Any],
    optimizer: optax.GradientTransformation,
    *,
    num_steps: int,
    data: tuple[Any, ...] | Iterator[tuple[Any, ...]] = (),
    state: PyTree = None,
    batch_size: int | None = None,
    history_every: int = 1,
    callback: Callable[[Progress], bool | None] | None = None,
    report_every: int | None = None,
    checkpoint: str | pathlib.Path | None = None,
) -> FitResult:
    """Lowers a loss by an optax optimiser: `run_algorithm` with `algorithms.gradient_descent`.

    A step whose loss, parameters or optimiser state is not finite is undone and counted. Outside ``jit``, where
    the first steps are at fault, one compiled check of loss and gradient at the start decides whether that is an error.
    A second call with the same ``loss_fn``, ``optimizer`` and shapes compiles nothing: let data travel in ``data``, not
    in a closure, whose values are read once, when the program is compiled.

    Args:
      params: where to start; a pytree of floating-point arrays.
      key: one random key; step t uses a key of its own that depends on it and on t alone.
      loss_fn: ``(params, key, *data) -> scalar`` to be lowered, such as the negative `elbo`; where ``state`` is given,
        ``(params, key, state, *data) -> (scalar, state)``.
      optimizer: any ``optax.GradientTransformation``; line searches and plateau rules receive what they need.
      num_steps: static, at least 1.
      data: a tuple, passed on to ``loss_fn``; traced, so new values of the same shapes compile nothing. Or an iterator
        of such tuples, one a step, for what does not fit in memory. See `run_algorithm`.
      state: what the loss carries from step to step, or ``None``.
      batch_size: where given, each step sees this many rows of every array in ``data``, by one permutation of the rows
        an epoch. Scale a sum over the rows by N / batch_size.
      history_every: n, static; the history keeps steps 0, n, 2 n, ..., and takes n times less memory.
      callback: called with `Progress` between chunks of steps; ``True`` ends the run, ``None`` or ``False`` go on.
        See `progress_bar`.
      report_every: steps of a chunk, a multiple of ``history_every``; by default about a hundredth of all, fewer where
        batches from an iterator are large.
      checkpoint: a file, read if it is there and written between chunks as the run goes on, by a thread beside it. The
        same program run again after a kill goes on from there to the same end, bit for bit; run again after its end,
        it returns at once. See `run_algorithm`.

    Returns:
      `FitResult`; ``history.loss`` is the loss of each kept step before its update, ``[ceil(T / n)]``.

    Raises:
      TypeError, ValueError: at trace time, naming the argument; and outside ``jit`` for a loss or gradient that is not
        finite at the start, naming the leaf. Inside ``jit`` the result's ``num_skipped`` says it. Before the first
        step, for a checkpoint that is truncated or of another run, or that cannot be written.
      KeyboardInterrupt: without callback, checkpoint and iterator, or before the first chunk's end.

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
    >>> bool(abs(result.params["loc"][0] - 0.5) < 0.1)  # the posterior mean is x / 2
    True
    """
    checks.check_float_leaves(params, "params")
    if state is None:
        algorithm, start = algorithms.gradient_descent(loss_fn, optimizer), params
    else:
        algorithm, start = algorithms.gradient_descent_with_state(loss_fn, optimizer), (params, state)
    plan = driving.Plan(algorithm, num_steps, batch_size, history_every, callback, report_every, checkpoint)
    _check_arguments(plan, start, key, data)

    def explain(data: tuple[Any, ...]) -> None:
        _check_start(loss_fn, plan, start, key, data)

    result = driving.drive(plan, start, key, data, explain)
    return result._replace(state=result.algorithm_state.loss_state)


def run_algorithm(
    params: Params,
    key: Key,
    algorithm: Algorithm,
    *,
    num_steps: int,
    data: tuple[Any, ...] | Iterator[tuple[Any, ...]] = (),
    batch_size: int | None = None,
    history_every: int = 1,
    callback: Callable[[Progress], bool | None] | None = None,
    report_every: int | None = None,
    checkpoint: str | pathlib.Path | None = None,
) -> FitResult:
    """Takes ``num_steps`` steps of any `Algorithm`.

    A step after which ``info`` or the vital part of the state is not finite is undone and counted; the run goes on with
    the next key.

    With a callback, a checkpoint or an iterator the steps are taken in chunks, and Ctrl-C ends the run: it warns and
    returns what the last finished chunk reached. Without, all steps are one compiled call, which Ctrl-C cannot divide.

    A checkpoint is written at most once a second, takes at most a twentieth of the time, and is written once more at
    the end. Where the disk is full, a warning says so and the next write is tried later. ``num_steps``, ``batch_size``,
    ``history_every``, ``key`` and the values of ``params`` and ``data`` must be those of the run that wrote it, and the
    state must have the same form; that the functions are the same is up to you.

    Where ``data`` is an iterator, batches are read a chunk ahead while the device works, and the run ends with them if
    they end before ``num_steps``. The host and the device hold the batches of a chunk, ``history_every`` of them at
    least. A run that goes on from a checkpoint reads and drops those that were used, so let a generator give the same
    ones again; the values of the first are compared.

    Args:
      params: what ``algorithm.init`` starts from.
      key: one random key; step t uses a key of its own that depends on it and on t alone.
      algorithm: functions ``(init, step, params)``.
      num_steps: static, at least 1.
      data: a tuple, passed on to ``init`` and ``step``; traced. Or an iterator of such tuples, of equal shapes, one a
        step; ``init`` sees the first.
      batch_size: where given, each step sees this many rows of ``data``, by one permutation of the rows an epoch;
        ``init`` sees them all.
      history_every: n, static; the history keeps steps 0, n, 2 n, ..., and takes n times less memory.
      callback: called with `Progress` between chunks of steps; ``True`` ends the run.
      report_every: steps of a chunk, a multiple of ``history_every``; by default about a hundredth of all.
      checkpoint: a file, read if it is there and written as the run goes on.

    Returns:
      `FitResult`; ``history`` is ``info``, leaves ``[ceil(T / n), ...]``.

    Raises:
      TypeError, ValueError: naming the argument; a callback or checkpoint inside ``jit`` or ``vmap``; a checkpoint that
        is truncated or of another run, or that cannot be written.
      KeyboardInterrupt: without callback, checkpoint and iterator, or before the first chunk's end.

    >>> import jax, jaxelbo, optax
    >>> algorithm = jaxelbo.algorithms.gradient_descent(lambda params, key: params**2, optax.sgd(0.25))
    >>> result = run_algorithm(jax.numpy.array(1.0), jax.random.key(0), algorithm, num_steps=3)
    >>> result.history.loss.tolist()
    [1.0, 0.25, 0.0625]
    """
    plan = driving.Plan(algorithm, num_steps, batch_size, history_every, callback, report_every, checkpoint)
    _check_arguments(plan, params, key, data)
    return driving.drive(plan, params, key, data, explain=lambda data: None)


def _check_start(
    loss_fn: Callable[..., Any], plan: driving.Plan, start: PyTree, key: Key, data: tuple[Any, ...]
) -> None:
    """Raises where the loss or its gradient is not finite at step 0, naming the leaf; compiles one program."""

    def first_gradient(start: PyTree, key: Key, data: tuple[Any, ...]) -> tuple[jax.Array, PyTree]:
        state = stepping.start(plan.algorithm, plan.batch_size, start, key, data)
        batch, _ = stepping.next_batch(state, plan.batch_size, data)
        key = jax.random.fold_in(state.key, 0)
        (loss, _), gradient = stochastic_gradient.loss_and_gradient(loss_fn, state.algorithm_state, key, batch)
        return loss, jax.tree.map(lambda leaf: jnp.all(jnp.isfinite(leaf)), gradient)

    loss, is_finite = jax.jit(first_gradient)(start, key, data)
    names, flags = checks.leaf_names(is_finite, "params"), jax.tree.leaves(is_finite)
    at_fault = [name for name, flag in zip(names, flags, strict=True) if not flag]
    if at_fault or not np.isfinite(loss):
        where = f"; its gradient is not finite in {', '.join(at_fault)}" if at_fault else ""
        raise ValueError(
            f"loss_fn is {float(loss)} at the start{where}. Start elsewhere, or look for the draw at fault with "
            "check_log_joint."
        )


def _check_arguments(plan: driving.Plan, params: PyTree, key: Key, data: Any) -> None:
    if not isinstance(plan.algorithm, Algorithm):
        raise TypeError(f"algorithm must be a jaxelbo.Algorithm, got {checks.describe(plan.algorithm)}.")
    for name, function in plan.algorithm._asdict().items():
        checks.check_static(function, f"algorithm.{name}")
    checks.check_count(plan.num_steps, "num_steps")
    checks.check_arrays(params, "params")
    checks.check_key(key)
    if streams.is_stream(data):
        if plan.batch_size is not None:
            raise ValueError("batch_size takes rows of arrays; data that come from an iterator are batches already.")
    elif not isinstance(data, tuple):
        raise TypeError(
            f"data must be a tuple, as in data=(x, y), or an iterator of such tuples, got {checks.describe(data)}."
        )
    else:
        checks.check_arrays(data, "data")
    if plan.batch_size is not None:
        minibatches.check_batch_size(plan.batch_size, data)
    if plan.callback is not None:
        checks.check_callable(plan.callback, "callback")
    checks.check_count(plan.history_every, "history_every")
    if plan.checkpoint is not None and not isinstance(plan.checkpoint, str | pathlib.Path):
        raise TypeError(f"checkpoint must be the path of a file, got {checks.describe(plan.checkpoint)}.")
    if plan.report_every is not None:
        checks.check_count(plan.report_every, "report_every")
        if plan.callback is None and plan.checkpoint is None and not streams.is_stream(data):
            raise ValueError(
                "report_every needs a callback to report to, a checkpoint to write, or data from an iterator, got none."
            )
        if plan.report_every % plan.history_every:
            wanted = f"a multiple of history_every, {plan.history_every}"
            raise ValueError(f"report_every must be {wanted}, got {plan.report_every}.")
