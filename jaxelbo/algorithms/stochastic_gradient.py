"""Gradient descent on a loss by any optax optimiser."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

from jaxelbo import checks
from jaxelbo.types import Algorithm, Applied, Key, Params, PyTree


class GradientDescentState(NamedTuple):
    """Parameters, the optimiser's state, and what the loss function carries (``None`` where it carries nothing)."""

    params: Params
    optimizer_state: optax.OptState
    loss_state: Any


class GradientDescentInfo(NamedTuple):
    """The loss of this step, before its update; scalar."""

    loss: jax.Array


def gradient_descent(loss_fn: Callable[..., jax.Array], optimizer: optax.GradientTransformation) -> Algorithm:
    """Lowers ``loss_fn`` by an optax optimiser.

    Each step takes one gradient at one key and gives the optimiser the value, the gradient and the loss as a function
    of params at that key, so line searches and plateau rules work. A line search wants a loss that is the same at
    every step: let the loss ignore its key and use one of its own. An optimiser that asks for more than ``value``,
    ``grad`` and ``value_fn`` (``optax.contrib.sam``, ``sophia``) needs a loop of its own.

    Args:
      loss_fn: ``(params, key, *data) -> scalar``, to be lowered.
      optimizer: an ``optax.GradientTransformation``.

    Returns:
      The `Algorithm`, started from params; its ``info`` is a `GradientDescentInfo`.

    Raises:
      TypeError: a loss that is no function or returns no floating-point scalar, an optimiser that is not one.

    References:
      Robbins, Monro (1951), *A Stochastic Approximation Method*.

    >>> import jax, optax
    >>> algorithm = gradient_descent(lambda params, key: params**2, optax.sgd(0.25))
    >>> state = algorithm.init(jax.numpy.array(1.0), jax.random.key(0))
    >>> state, info = algorithm.step(state, jax.random.key(1))
    >>> float(algorithm.params(state)), float(info.loss)
    (0.5, 1.0)
    """
    _check(loss_fn, optimizer)
    return Algorithm(Applied(_init, (optimizer,)), Applied(_step, (loss_fn, optimizer)), _params, _vital)


def gradient_descent_with_state(
    loss_fn: Callable[..., tuple[jax.Array, PyTree]], optimizer: optax.GradientTransformation
) -> Algorithm:
    """`gradient_descent` for a loss that carries a state of its own, such as a moving average, from step to step.

    Args:
      loss_fn: ``(params, key, state, *data) -> (scalar, state)``, the scalar to be lowered; the state keeps its
        structure, shapes and dtypes.
      optimizer: any ``optax.GradientTransformation``.

    Returns:
      The `Algorithm`, started from the pair ``(params, state)``; its ``params`` are params alone.

    Raises:
      TypeError, ValueError: as `gradient_descent`; a loss that returns no such pair, or a state of another form.

    References:
      Robbins, Monro (1951), *A Stochastic Approximation Method*.

    >>> import jax, optax
    >>> def loss_fn(params, key, count):
    ...     return params**2, count + 1
    >>> algorithm = gradient_descent_with_state(loss_fn, optax.sgd(0.25))
    >>> state = algorithm.init((jax.numpy.array(1.0), jax.numpy.array(0)), jax.random.key(0))
    >>> state, info = algorithm.step(state, jax.random.key(1))
    >>> int(state.loss_state)
    1
    """
    _check(loss_fn, optimizer)
    return Algorithm(Applied(_init_with_state, (optimizer,)), Applied(_step, (loss_fn, optimizer)), _params, _vital)


def _init(optimizer: optax.GradientTransformation, params: Params, key: Key, *data: Any) -> GradientDescentState:
    del key, data
    return GradientDescentState(params, optimizer.init(params), None)


def _init_with_state(
    optimizer: optax.GradientTransformation, start: tuple[Params, PyTree], key: Key, *data: Any
) -> GradientDescentState:
    del key, data
    if not isinstance(start, tuple) or len(start) != 2 or start[1] is None:
        raise TypeError(
            f"gradient_descent_with_state starts from a pair (params, state), got {checks.describe(start)}."
        )
    params, loss_state = start
    return GradientDescentState(params, optimizer.init(params), loss_state)


def _step(
    loss_fn: Callable[..., tuple[jax.Array, PyTree]],
    optimizer: optax.GradientTransformation,
    state: GradientDescentState,
    key: Key,
    *data: Any,
) -> tuple[GradientDescentState, GradientDescentInfo]:
    (loss, loss_state), gradient = loss_and_gradient(loss_fn, state, key, data)
    updates, optimizer_state = optax.with_extra_args_support(optimizer).update(
        gradient,
        state.optimizer_state,
        state.params,
        value=loss,
        grad=gradient,
        value_fn=lambda params: _loss(loss_fn, state._replace(params=params), key, data)[0],
    )
    params = optax.apply_updates(state.params, updates)
    return GradientDescentState(params, optimizer_state, loss_state), GradientDescentInfo(loss)


def _params(state: GradientDescentState) -> Params:
    return state.params


def _vital(state: GradientDescentState) -> PyTree:
    return state.params, state.optimizer_state


def loss_and_gradient(
    loss_fn: Callable[..., Any], state: GradientDescentState, key: Key, data: tuple[Any, ...]
) -> tuple[tuple[jax.Array, PyTree], Params]:
    """``((loss, new loss state), gradient)`` at the state's params."""

    def loss_at(params: Params) -> tuple[jax.Array, PyTree]:
        return _loss(loss_fn, state._replace(params=params), key, data)

    return jax.value_and_grad(loss_at, has_aux=True)(state.params)


def _loss(
    loss_fn: Callable[..., Any], state: GradientDescentState, key: Key, data: tuple[Any, ...]
) -> tuple[jax.Array, PyTree]:
    """The loss and what it carries on, at the state's params."""
    if state.loss_state is None:
        return checks.check_scalar(loss_fn(state.params, key, *data), "loss_fn"), None
    result = loss_fn(state.params, key, state.loss_state, *data)
    if not isinstance(result, tuple) or len(result) != 2:
        raise TypeError(f"loss_fn must return (loss, state) where a state is given, got {checks.describe(result)}.")
    loss, new_state = result
    checks.check_like(
        new_state, jax.eval_shape(lambda: state.loss_state), "the state that loss_fn returns", "the given state"
    )
    return checks.check_scalar(loss, "loss_fn"), new_state


def _check(loss_fn: Any, optimizer: Any) -> None:
    checks.check_static(loss_fn, "loss_fn")
    if not isinstance(optimizer, optax.GradientTransformation):
        hint = "; call it first, as in optax.adam(1e-2)" if callable(optimizer) else ""
        hint = "; pass its .gradient_transformation()" if hasattr(optimizer, "gradient_transformation") else hint
        raise TypeError(f"optimizer must be an optax optimiser, got {checks.describe(optimizer)}{hint}.")
