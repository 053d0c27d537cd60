"""Many fits at once from different starts, of which the best on held-out values is kept.

Floor 5.4.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxelbo import checks, fitting, stepping
from jaxelbo.types import FitResult, Key, Params


class Restarts(NamedTuple):
    """What many fits gave.

    Attributes:
      best: the fit with the highest finite value.
      index: which one it was, ``[]`` int32.
      values: of ``evaluate_fn`` at the end of each fit, ``[R]``.
      num_skipped: steps undone in each, ``[R]``.
    """

    best: FitResult
    index: jax.Array
    values: jax.Array
    num_skipped: jax.Array


def fit_restarts(
    params: Params,
    key: Key,
    loss_fn: Callable[..., jax.Array],
    optimizer: optax.GradientTransformation,
    evaluate_fn: Callable[..., jax.Array],
    *,
    num_steps: int,
    data: tuple[Any, ...] = (),
    held_out: tuple[Any, ...] = (),
    batch_size: int | None = None,
    history_every: int = 1,
) -> Restarts:
    """R fits by one vmapped scan; the one whose params have the highest value of ``evaluate_fn`` is returned.

    Each fit has a key of its own; all ends are evaluated with one further key, so that they are compared on the same
    draws. A fit that went wrong never wins: a step of it that is not finite is undone without touching the others, and
    a value that is not finite counts as the lowest. The highest of R noisy values is biased upwards: report a bound
    from a key of its own.

    Args:
      params: R starts, leaves ``[R, ...]``.
      key: one random key.
      loss_fn: ``(params, key, *data) -> scalar``, to be lowered, for one start.
      optimizer: any ``optax.GradientTransformation``.
      evaluate_fn: ``(params, key, *held_out) -> scalar``, the higher the better, such as the bound on rows held out.
      num_steps: of each fit, static.
      data: a tuple, passed on to ``loss_fn``, the same for all fits.
      held_out: a tuple, passed on to ``evaluate_fn``.
      batch_size: as for `fit`; each fit reads the rows in an order of its own.
      history_every: as for `fit`.

    Returns:
      `Restarts`.

    Raises:
      TypeError, ValueError: naming the argument; and outside ``jit`` where no fit ended with a finite value.

    References:
      Ueda, Nakano (1998), *Deterministic Annealing EM Algorithm* (on how much the ends of restarts differ).

    >>> import jax, jax.numpy as jnp, optax
    >>> two_wells = lambda params, key: (params**2 - 1.0) ** 2 - 0.2 * params
    >>> starts = jnp.array([-2.0, 2.0, jnp.nan])
    >>> value = lambda params, key: -two_wells(params, key)
    >>> result = fit_restarts(starts, jax.random.key(0), two_wells, optax.adam(0.1), value, num_steps=200)
    >>> int(result.index), bool(result.best.params > 1.0)
    (1, True)
    """
    checks.check_float_leaves(params, "params")
    shape = jnp.shape(jax.tree.leaves(params)[0])
    if not shape or shape[0] == 0:
        raise ValueError(f"params must have a leading axis of at least one start, got shape {shape}.")
    checks.check_leading_axis(params, shape[0], "params", "starts")
    checks.check_key(key)
    checks.check_static(loss_fn, "loss_fn")
    checks.check_static(evaluate_fn, "evaluate_fn")
    for name, value in (("data", data), ("held_out", held_out)):
        if not isinstance(value, tuple):
            raise TypeError(f"{name} must be a tuple, as in {name}=(x, y), got {checks.describe(value)}.")
        checks.check_arrays(value, name)
    static = loss_fn, optimizer, evaluate_fn, num_steps, batch_size, history_every
    if not checks.is_known((params, key, data, held_out)):
        return _fit_all(*static, params, key, data, held_out)
    result = stepping.compiled(_fit_all, *static)(params, key, data, held_out)
    if not jnp.isfinite(result.values[result.index]):
        raise ValueError(f"none of the {shape[0]} fits ended with a finite value of evaluate_fn: {result.values}.")
    return result


def _fit_all(
    loss_fn: Callable[..., jax.Array],
    optimizer: optax.GradientTransformation,
    evaluate_fn: Callable[..., jax.Array],
    num_steps: int,
    batch_size: int | None,
    history_every: int,
    params: Params,
    key: Key,
    data: tuple[Any, ...],
    held_out: tuple[Any, ...],
) -> Restarts:
    num_restarts = jnp.shape(jax.tree.leaves(params)[0])[0]
    key_fits, key_evaluate = jax.random.split(key)

    def one(start: Params, key: Key) -> tuple[FitResult, jax.Array]:
        result = fitting.fit(
            start, key, loss_fn, optimizer,
            num_steps=num_steps, data=data, batch_size=batch_size, history_every=history_every,
        )  # fmt: skip
        return result, checks.check_scalar(evaluate_fn(result.params, key_evaluate, *held_out), "evaluate_fn")

    results, values = jax.vmap(one)(params, jax.random.split(key_fits, num_restarts))
    index = jnp.argmax(jnp.where(jnp.isfinite(values), values, -jnp.inf)).astype(jnp.int32)
    best = jax.tree.map(lambda leaf: leaf[index], results)
    return Restarts(best, index, values, results.num_skipped)
