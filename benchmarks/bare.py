"""Bare JAX loops: one compiled ``lax.scan`` over ``value_and_grad`` and the optax update, with nothing around it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from benchmarks.works import Work


def step(work: Work) -> Callable[..., Any]:
    """``((params, optimizer_state), key, *data) -> (..., loss)``."""

    def take(carry: Any, key: jax.Array, *data: Any) -> Any:
        params, optimizer_state = carry
        loss, gradient = jax.value_and_grad(work.bare_loss)(params, key, *data)
        updates, optimizer_state = work.optimizer.update(gradient, optimizer_state, params)
        return (optax.apply_updates(params, updates), optimizer_state), loss

    return take


def run(work: Work) -> Callable[..., Any]:
    """``(params, key, *data) -> (params, losses)``, to be compiled."""
    take = step(work)

    def full(params: Any, key: jax.Array, *data: Any) -> Any:
        def body(carry: Any, key: jax.Array) -> Any:
            return take(carry, key, *data)

        keys = jax.random.split(key, work.num_steps)
        (params, _), losses = jax.lax.scan(body, (params, work.optimizer.init(params)), keys)
        return params, losses

    def minibatched(params: Any, key: jax.Array, *data: Any) -> Any:
        # A scan over epochs around a scan over batches: the permutation is never carried through a step.
        num_rows, batch = data[0].shape[0], work.batch_size
        steps = num_rows // batch

        def body(carry: Any, inputs: Any) -> Any:
            key, rows = inputs
            return take(carry, key, *(leaf[rows] for leaf in data))

        def epoch(carry: Any, key: jax.Array) -> Any:
            key_order, key_steps = jax.random.split(key)
            order = jnp.argsort(jax.random.bits(key_order, (num_rows,), jnp.uint32))  # faster than random.permutation
            rows = order[: steps * batch].reshape(steps, batch)
            return jax.lax.scan(body, carry, (jax.random.split(key_steps, steps), rows))

        keys = jax.random.split(key, -(-work.num_steps // steps))
        (params, _), losses = jax.lax.scan(epoch, (params, work.optimizer.init(params)), keys)
        return params, jnp.ravel(losses)

    return full if work.batch_size is None else minibatched
