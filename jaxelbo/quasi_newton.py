"""Limited-memory BFGS: what the last steps showed of a function's curvature, applied to a gradient.

Floor 1. It speaks of functions to be raised. Vectors are said in whatever frame the caller moves in; a step and the
change of the gradient that it made are remembered as they were in the frames of their time.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Memory(NamedTuple):
    """The last M steps and falls of the gradient along them, newest last; rows of zeros where there was none.

    Attributes:
      steps: ``[M, P]``.
      falls: gradient before less gradient after, ``[M, P]``.
    """

    steps: jax.Array
    falls: jax.Array


def empty(length: int, size: int, dtype: jax.typing.DTypeLike) -> Memory:
    """A memory of no steps."""
    return Memory(jnp.zeros((length, size), dtype), jnp.zeros((length, size), dtype))


def remember(memory: Memory, step: jax.Array, fall: jax.Array, is_wanted: jax.Array) -> Memory:
    """With one more step, if it is wanted and the gradient fell along it, as a concave function's does."""
    if not len(memory.steps):
        return memory
    inner = jnp.vdot(step, fall)
    is_curved = inner > 1e-8 * jnp.sqrt(jnp.vdot(step, step) * jnp.vdot(fall, fall))

    def push(rows: jax.Array, row: jax.Array) -> jax.Array:
        return jnp.where(is_wanted & is_curved, jnp.concatenate([rows[1:], row[None]]), rows)

    return Memory(push(memory.steps, step), push(memory.falls, fall))


def forget(memory: Memory, is_wrong: jax.Array) -> Memory:
    """Without any step, if the memory led astray."""
    return jax.tree.map(lambda rows: jnp.where(is_wrong, 0, rows), memory)


def ascent(memory: Memory, gradient: jax.Array, precondition: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """The direction of a quasi-Newton step, ``[P]``.

    Args:
      memory: of past steps.
      gradient: ``[P]``.
      precondition: a linear function ``[P] -> [P]``, symmetric and positive: the inverse curvature without memory.

    References:
      Nocedal, Wright (2006), *Numerical Optimization*, algorithm 7.4.
    """
    inner = jnp.sum(memory.steps * memory.falls, axis=1)
    is_kept = inner > 0
    weights = jnp.where(is_kept, 1 / jnp.where(is_kept, inner, 1), 0)
    rows = (memory.steps, memory.falls, weights)

    def backward(vector: jax.Array, row: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
        step, fall, weight = row
        share = weight * jnp.vdot(step, vector)
        return vector - share * fall, share

    def forward(vector: jax.Array, row: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        step, fall, weight, share = row
        return vector + (share - weight * jnp.vdot(fall, vector)) * step, None

    left, shares = jax.lax.scan(backward, gradient, rows, reverse=True)
    return jax.lax.scan(forward, precondition(left), (*rows, shares))[0]
