"""Gradient descent that knows when it is done: averages at a step size until they are exact, then at half of it.

The recipe RABVI, above `batch_means`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp
import optax

from jaxelbo import checks
from jaxelbo.algorithms import batch_means, stochastic_gradient
from jaxelbo.types import Algorithm, Applied, Key, Params, Progress, PyTree

RUNNING, CONVERGED, NOT_WORTH_IT = range(3)
MAX_R_HAT, MIN_EFFECTIVE_SIZE = 1.1, 50.0
SHARE = 0.25
"""Of the accuracy, that the error of an average may take at each step size."""
FEW_STEPS = 1_000
"""Below which it does not matter how many more a step size takes than the one before."""


class RabviState(NamedTuple):
    """What changes from step to step.

    Attributes:
      inner: of gradient descent.
      batches: means of the iterates at this step size.
      rate: what updates are multiplied by now.
      average: the exact average at the step size before, flat; at the first step size that of the iterates which
        look most stationary, and before these the start.
      num_stages: step sizes that are over.
      steps, previous_steps: taken at this step size, and at the one before.
      divergence: of the last two exact averages in nats; infinite before there are two.
      loss: of the last step.
      status: ``RUNNING``, ``CONVERGED`` or ``NOT_WORTH_IT``.
    """

    inner: stochastic_gradient.GradientDescentState
    batches: batch_means.BatchMeans
    rate: jax.Array
    average: jax.Array
    num_stages: jax.Array
    steps: jax.Array
    previous_steps: jax.Array
    divergence: jax.Array
    loss: jax.Array
    status: jax.Array


class RabviInfo(NamedTuple):
    """The loss before this step's update, the rate of the step, and the status behind it; scalars.

    Behind the end all three are repeated.
    """

    loss: jax.Array
    rate: jax.Array
    status: jax.Array


def rabvi(
    loss_fn: Callable[..., jax.Array],
    optimizer: optax.GradientTransformation,
    divergence_fn: Callable[[Params, Params], jax.Array],
    *,
    accuracy: float = 0.1,
    decay: float = 0.5,
    max_inefficiency: float = 1.0,
) -> Algorithm:
    """Gradient descent by averages of iterates at ever smaller step sizes, that ends when a smaller one changes little.

    At a fixed step size iterates wander about a point that is off the optimum in proportion to it. So: take steps until
    R-hat says that the last iterates are stationary; average them until their mean is exact to a quarter of
    ``accuracy``; go on from there with a step size times ``decay``. From the divergences of three such averages follows
    that of the last one from the optimum. Where it is below ``accuracy`` the status is ``CONVERGED``; where the next
    step size would gain less than it costs, ``NOT_WORTH_IT``; from then on nothing changes. Give `until_converged` as a
    callback of `run_algorithm`, and more steps than it may take.

    Averages are of params, so choose params in which an average has a meaning. What no iterate comes near to, such as
    another mode, is not found. A status that stays ``RUNNING`` asks for more steps, or for a smaller step size where
    iterates run wild.

    Args:
      loss_fn: ``(params, key, *data) -> scalar``, to be lowered.
      optimizer: at the largest step size, such as ``optax.adam(0.1)``; its updates are multiplied.
      divergence_fn: ``(params, other) -> scalar``, in nats, never negative, such as the symmetrised KL of a family,
        ``kl_divergence`` there and back.
      accuracy: in nats, above 0.
      decay: of the step size, between 0 and 1.
      max_inefficiency: how much longer the next step size may take than what it gains, as a ratio of ratios.

    Returns:
      The `Algorithm`; ``params`` is the average, ``info`` a `RabviInfo`, its state a `RabviState`.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Welandawe, Andersen, Vehtari, Huggins (2022), *Robust, Automated, and Accurate Black-box Variational Inference*;
      Dhaka, Catalina, Andersen, Magnusson, Huggins, Vehtari (2020), *Robust, Accurate Stochastic Optimization for
      Variational Inference*.

    >>> import jax, jax.numpy as jnp, jaxelbo, optax
    >>> loss_fn = lambda params, key: jnp.sum((params - 2.0 + jax.random.normal(key, (2,))) ** 2)
    >>> divergence_fn = lambda params, other: jnp.sum((params - other) ** 2)
    >>> algorithm = rabvi(loss_fn, optax.adam(0.1), divergence_fn, accuracy=0.01)
    >>> start, key = jnp.zeros(2), jax.random.key(0)
    >>> result = jaxelbo.run_algorithm(start, key, algorithm, num_steps=50_000, callback=until_converged)
    >>> bool(divergence_fn(result.params, jnp.full(2, 2.0)) < 0.01), len(result.history.loss) < 50_000
    (True, True)
    """
    descent = stochastic_gradient.gradient_descent(loss_fn, optimizer)
    checks.check_static(divergence_fn, "divergence_fn")
    accuracy = checks.check_positive(accuracy, "accuracy")
    max_inefficiency = checks.check_positive(max_inefficiency, "max_inefficiency")
    decay = checks.check_positive(decay, "decay")
    if decay >= 1:
        raise ValueError(f"decay must be below 1, got {decay}.")
    rule = divergence_fn, accuracy, decay, max_inefficiency
    return Algorithm(Applied(_init, (descent,)), Applied(_step, (descent, *rule)), _params, _vital)


def until_converged(progress: Progress) -> bool:
    """A callback that ends a run of `rabvi` when its status is no longer ``RUNNING``."""
    status = getattr(progress.history, "status", None)
    if status is None:
        raise TypeError("until_converged is a callback for runs of rabvi; the history of this one has no status.")
    return bool(status[-1] != RUNNING)


def _init(descent: Algorithm, params: Params, key: Key, *data: Any) -> RabviState:
    checks.check_float_leaves(params, "params")
    flat = jax.flatten_util.ravel_pytree(params)[0]
    zero, inner = jnp.zeros((), jnp.int32), descent.init(params, key, *data)
    one, infinite = jnp.ones((), flat.dtype), jnp.full((), jnp.inf, flat.dtype)
    return RabviState(inner, batch_means.empty(flat), one, flat, zero, zero, zero, infinite, 0 * one, zero)


def _step(
    descent: Algorithm,
    divergence_fn: Callable[[Params, Params], jax.Array],
    accuracy: float,
    decay: float,
    max_inefficiency: float,
    state: RabviState,
    key: Key,
    *data: Any,
) -> tuple[RabviState, RabviInfo]:
    unravel = jax.flatten_util.ravel_pytree(state.inner.params)[1]

    def divergence(one: jax.Array, other: jax.Array) -> jax.Array:
        value = checks.check_scalar(divergence_fn(unravel(one), unravel(other)), "divergence_fn")
        return value.astype(one.dtype)

    def take(now: RabviState) -> RabviState:
        inner, info = descent.step(now.inner, key, *data)
        params = jax.tree.map(
            lambda old, new: old + now.rate.astype(old.dtype) * (new - old), now.inner.params, inner.params
        )
        batches = batch_means.add(now.batches, jax.flatten_util.ravel_pytree(params)[0])
        now = now._replace(inner=inner._replace(params=params), batches=batches, steps=now.steps + 1)
        now = now._replace(loss=info.loss.astype(now.loss.dtype))
        is_look = (batches.count == 0) & (batches.num_full >= batch_means.WINDOWS[0])
        return jax.lax.fori_loop(0, jnp.where(is_look, 1, 0), lambda _, now: look(now), now)

    def look(now: RabviState) -> RabviState:
        window = batch_means.best_window(now.batches)
        error = batch_means.error_of_mean(now.batches, window, divergence)
        is_exact = (window.r_hat < MAX_R_HAT) & (window.effective_size > MIN_EFFECTIVE_SIZE)
        is_exact &= error < SHARE * accuracy
        # The exact average of a larger step size is better than one of a few iterates at this.
        latest = now._replace(average=jnp.where(now.num_stages == 0, window.mean, now.average))
        turns = jnp.where(is_exact, 1, 0)
        return jax.lax.fori_loop(0, turns, lambda _, now: next_stage(now, window.mean, error), latest)

    def next_stage(now: RabviState, exact: jax.Array, error: jax.Array) -> RabviState:
        between = jnp.where(now.num_stages >= 1, divergence(exact, now.average), jnp.inf)
        # Averages are off by a multiple of the step size: the last is 1 / decay - 1 times nearer than the two are. That
        # holds for small ones; so the two before must say the same.
        distance = jnp.maximum(between, decay**2 * now.divergence) / (1 / decay - 1) ** 2 + error
        is_near = distance < accuracy
        growth = now.steps / (now.previous_steps + FEW_STEPS)
        is_slow = (now.num_stages >= 2) & (decay**2 * growth > max_inefficiency)  # the first has the way there in it
        status = jnp.where(is_near, CONVERGED, jnp.where(is_slow, NOT_WORTH_IT, RUNNING)).astype(jnp.int32)
        return RabviState(
            now.inner._replace(params=unravel(exact)), batch_means.empty(exact), now.rate * decay, exact,
            now.num_stages + 1, jnp.zeros_like(now.steps), now.steps, between, now.loss, status,
        )  # fmt: skip

    # Behind the end a loop of no turn: the state stays, and nothing is computed.
    is_running = jnp.where(state.status == RUNNING, 1, 0)
    rate = state.rate
    state = jax.lax.fori_loop(0, is_running, lambda _, now: take(now), state)
    return state, RabviInfo(state.loss, rate, state.status)


def _params(state: RabviState) -> Params:
    return jax.flatten_util.ravel_pytree(state.inner.params)[1](state.average)


def _vital(state: RabviState) -> PyTree:
    return state.inner.params, state.inner.optimizer_state
