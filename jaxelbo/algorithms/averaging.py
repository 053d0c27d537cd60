"""What to keep of noisy iterates: their average, or the best of them; around any algorithm.

Both are part of the algorithm's state, on the device: they work inside ``jit`` and ``vmap``, a step that is undone
leaves them as they were, and a checkpoint holds them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxelbo import checks
from jaxelbo.types import Algorithm, Applied, Key, Params, PyTree


class AveragedState(NamedTuple):
    """The algorithm's own state, the average of its params so far, and how many steps were taken."""

    inner: Any
    average: Params
    count: jax.Array


class BestState(NamedTuple):
    """The algorithm's own state, the best params, their value and step, the steps taken, the key of evaluations.

    ``value`` is -inf, and ``params`` the start, until a first evaluation was finite.
    """

    inner: Any
    params: Params
    value: jax.Array
    step: jax.Array
    count: jax.Array
    key: Key


def averaged(algorithm: Algorithm, *, first_step: int) -> Algorithm:
    """The same steps; ``params`` is the average of the iterates behind step ``first_step``.

    At a constant step size the iterates wander about the optimum; the average of the last m comes closer to it by up to
    the square root of m. Let ``first_step`` be where the bound has levelled off, such as 80% of the steps. Before it
    ``params`` is the iterate itself.

    Args:
      algorithm: any `Algorithm` whose params are floating-point.
      first_step: static, at least 0.

    Returns:
      The `Algorithm`, with the history of the one given; its state is an `AveragedState`.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Polyak, Juditsky (1992), *Acceleration of Stochastic Approximation by Averaging*.

    >>> import jax, jaxelbo, optax
    >>> descent = jaxelbo.algorithms.gradient_descent(lambda params, key: params**2, optax.sgd(0.25))
    >>> start, key = jax.numpy.array(1.0), jax.random.key(0)
    >>> result = jaxelbo.run_algorithm(start, key, averaged(descent, first_step=1), num_steps=3)
    >>> float(result.params), (0.25 + 0.125) / 2
    (0.1875, 0.1875)
    """
    _check(algorithm)
    first_step = checks.check_count(first_step, "first_step", minimum=0)
    return Algorithm(
        Applied(_averaged_init, (algorithm,)), Applied(_averaged_step, (algorithm, first_step)), _average,
        Applied(_averaged_vital, (algorithm,)),
    )  # fmt: skip


def best(algorithm: Algorithm, evaluate_fn: Callable[[Params, Key], jax.Array], *, every: int) -> Algorithm:
    """The same steps; ``params`` is the iterate with the highest value of those looked at.

    Every so many steps the iterate is evaluated, such as by the bound on rows held out. All iterates are evaluated with
    one key, which no step uses, so that they are compared on the same draws. ``value`` is the largest of noisy numbers:
    report a bound from a key of its own.

    Args:
      algorithm: any `Algorithm`.
      evaluate_fn: ``(params, key) -> scalar``, the higher the better; a value that is not finite never is the best.
      every: steps between two evaluations, static.

    Returns:
      The `Algorithm`, with the history of the one given; its state is a `BestState`. Where no value was finite,
      ``params`` is the last iterate.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Prechelt (1998), *Early Stopping, but When?*

    >>> import jax, jaxelbo, optax
    >>> descent = jaxelbo.algorithms.gradient_descent(lambda params, key: -params, optax.sgd(1.0))
    >>> algorithm = best(descent, lambda params, key: -((params - 3.0) ** 2), every=1)
    >>> result = jaxelbo.run_algorithm(jax.numpy.array(0.0), jax.random.key(0), algorithm, num_steps=10)
    >>> float(result.params), int(result.algorithm_state.step)
    (3.0, 3)
    """
    _check(algorithm)
    checks.check_static(evaluate_fn, "evaluate_fn")
    every = checks.check_count(every, "every")
    return Algorithm(
        Applied(_best_init, (algorithm, evaluate_fn)), Applied(_best_step, (algorithm, evaluate_fn, every)),
        Applied(_best_params, (algorithm,)), Applied(_best_vital, (algorithm,)),
    )  # fmt: skip


def _check(algorithm: Any) -> None:
    if not isinstance(algorithm, Algorithm):
        raise TypeError(f"algorithm must be a jaxelbo.Algorithm, got {checks.describe(algorithm)}.")


def _averaged_init(algorithm: Algorithm, params: Params, key: Key, *data: Any) -> AveragedState:
    inner = algorithm.init(params, key, *data)
    return AveragedState(inner, algorithm.params(inner), jnp.zeros((), jnp.int32))


def _averaged_step(
    algorithm: Algorithm, first_step: int, state: AveragedState, key: Key, *data: Any
) -> tuple[AveragedState, Any]:
    inner, info = algorithm.step(state.inner, key, *data)
    count = state.count + 1
    size = count - first_step

    def move(average: jax.Array, new: jax.Array) -> jax.Array:
        return jnp.where(size <= 1, new, average + (new - average) / jnp.maximum(size, 1).astype(new.dtype))

    return AveragedState(inner, jax.tree.map(move, state.average, algorithm.params(inner)), count), info


def _average(state: AveragedState) -> Params:
    return state.average


def _averaged_vital(algorithm: Algorithm, state: AveragedState) -> PyTree:
    return algorithm.vital(state.inner), state.average


def _best_init(
    algorithm: Algorithm, evaluate_fn: Callable[[Params, Key], jax.Array], params: Params, key: Key, *data: Any
) -> BestState:
    key_inner, key_evaluate = jax.random.split(key)
    inner = algorithm.init(params, key_inner, *data)
    start = algorithm.params(inner)
    value = jax.eval_shape(lambda: checks.check_scalar(evaluate_fn(start, key_evaluate), "evaluate_fn"))
    zero = jnp.zeros((), jnp.int32)
    return BestState(inner, start, jnp.full((), -jnp.inf, value.dtype), zero, zero, key_evaluate)


def _best_step(
    algorithm: Algorithm,
    evaluate_fn: Callable[[Params, Key], jax.Array],
    every: int,
    state: BestState,
    key: Key,
    *data: Any,
) -> tuple[BestState, Any]:
    inner, info = algorithm.step(state.inner, key, *data)
    now, count = algorithm.params(inner), state.count + 1

    def look(_: Any, kept: tuple[Params, jax.Array, jax.Array]) -> tuple[Params, jax.Array, jax.Array]:
        value = evaluate_fn(now, state.key)
        is_better = jnp.isfinite(value) & (value > kept[1])
        return jax.tree.map(lambda new, old: jnp.where(is_better, new, old), (now, value, count), kept)

    # A loop of no or one turn, where a `cond` would copy the params in each step, and under `vmap` evaluate in each.
    turns = jnp.where(count % every == 0, 1, 0)
    best_params, value, step = jax.lax.fori_loop(0, turns, look, (state.params, state.value, state.step))
    return BestState(inner, best_params, value, step, count, state.key), info


def _best_params(algorithm: Algorithm, state: BestState) -> Params:
    now = algorithm.params(state.inner)
    return jax.tree.map(lambda best, now: jnp.where(jnp.isfinite(state.value), best, now), state.params, now)


def _best_vital(algorithm: Algorithm, state: BestState) -> PyTree:
    # The value may be infinite, and is no fault; the best params are as finite as the iterate they were.
    return algorithm.vital(state.inner)
