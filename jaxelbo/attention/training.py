"""Training by epochs: each epoch one compiled call, checkpoints between them, and a resumed run that ends the same.

Attention. Everything that changes is in `Training`; the key of epoch e is ``fold_in(key, e)``, so that a run which was
interrupted and resumed has the same numbers as one that was not.
"""

import functools
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxelbo import checkpoints, checks
from jaxelbo.types import Key, Params, PyTree


class Training(NamedTuple):
    """The state of a run between two epochs.

    Attributes:
      params: of the system.
      optimizer_state: of optax.
      rule_state: of the learning rule, such as a moving average; ``()`` where there is none.
      epoch: how many are done, int32.
    """

    params: Params
    optimizer_state: Any
    rule_state: Any
    epoch: jax.Array


Loss = Callable[..., tuple[jax.Array, tuple[Any, PyTree]]]
"""``(params, key, rule_state, *batch) -> (loss, (rule_state, metrics))``, for a whole batch, to be lowered."""


def start(params: Params, optimizer: optax.GradientTransformation, rule_state: Any = ()) -> Training:
    """The state before the first epoch.

    >>> import jax.numpy as jnp, optax
    >>> int(start(jnp.zeros(2), optax.adam(0.1)).epoch)
    0
    """
    return Training(params, optimizer.init(params), rule_state, jnp.zeros((), jnp.int32))


def train(
    training: Training,
    key: Key,
    loss_fn: Loss,
    optimizer: optax.GradientTransformation,
    data_fn: Callable[[int], tuple[Any, ...]],
    *,
    num_epochs: int,
    batch_size: int,
    checkpoint: str | pathlib.Path | None = None,
    configuration: str = "",
    callback: Callable[[Training, PyTree], None] | None = None,
) -> Training:
    """Runs epochs until ``num_epochs`` are done, resuming from the checkpoint if there is one.

    An epoch is one compiled call: a random permutation of the data, cut into batches; the rows that do not fill a last
    batch are left out of that epoch.

    Args:
      training: `start`, also the form in which the checkpoint is read.
      key: one random key for the run.
      loss_fn: `Loss`.
      optimizer: of optax.
      data_fn: number of the epoch -> arrays ``[N, ...]``, the same shapes in each epoch.
      num_epochs: in all, those before the checkpoint included.
      batch_size: rows a step.
      checkpoint: file that is read if it exists and written after every epoch that ended finite.
      configuration: what must be the same to resume, in words.
      callback: called after each epoch with the state and the epoch's mean metrics, ``loss`` among them.

    Returns:
      The state at the end.

    Raises:
      TypeError, ValueError: naming the argument: data of different lengths, a batch larger than the data, a checkpoint
        of another configuration, or in a folder that does not exist.
      FloatingPointError: an epoch ended with a loss or parameters that are not finite; the checkpoint is of the epoch
        before.

    References:
      Bottou (2012), *Stochastic Gradient Descent Tricks*.

    >>> import jax, jax.numpy as jnp, optax
    >>> loss_fn = lambda params, key, state, x: (jnp.mean((x - params) ** 2), (state, {}))
    >>> optimizer, data = optax.sgd(0.1), (jnp.arange(10.0),)
    >>> begin = start(jnp.zeros(()), optimizer)
    >>> end = train(begin, jax.random.key(0), loss_fn, optimizer, lambda e: data, num_epochs=20, batch_size=5)
    >>> bool(abs(end.params - 4.5) < 0.5)
    True
    """
    checks.check_key(key)
    num_epochs = checks.check_count(num_epochs, "num_epochs", minimum=0)
    batch_size = checks.check_count(batch_size, "batch_size")
    if checkpoint is not None and pathlib.Path(checkpoint).exists():
        training = checkpoints.load(checkpoint, training, configuration)
    elif checkpoint is not None and not pathlib.Path(checkpoint).parent.is_dir():
        raise ValueError(f"checkpoint must lie in a folder that exists, got {checkpoint}.")

    run = _compiled_epoch(loss_fn, optimizer, batch_size)
    while int(training.epoch) < num_epochs:
        epoch = int(training.epoch)
        data = jax.tree.map(jnp.asarray, data_fn(epoch))
        _check_data(data, batch_size)
        training, metrics, is_finite = run(training, jax.random.fold_in(key, epoch), data)
        if not is_finite:
            raise FloatingPointError(f"epoch {epoch + 1} ended with a loss or parameters that are not finite.")
        if checkpoint is not None:
            checkpoints.save(checkpoint, training, configuration)
        if callback is not None:
            callback(training, metrics)
    return training


@functools.lru_cache(maxsize=8)
def _compiled_epoch(
    loss_fn: Loss, optimizer: optax.GradientTransformation, batch_size: int
) -> Callable[[Training, Key, tuple[Any, ...]], tuple[Training, PyTree, jax.Array]]:
    """One epoch, compiled once for all runs with the same functions, such as those of several seeds."""

    @jax.jit
    def run(training: Training, key: Key, data: tuple[Any, ...]) -> tuple[Training, PyTree, jax.Array]:
        key_order, key_steps = jax.random.split(key)
        size = data[0].shape[0]
        batches = jax.random.permutation(key_order, size)[: size // batch_size * batch_size].reshape(-1, batch_size)

        def step(carry: tuple, inputs: tuple) -> tuple[tuple, PyTree]:
            params, optimizer_state, rule_state = carry
            rows, key = inputs
            batch = jax.tree.map(lambda leaf: leaf[rows], data)
            value_and_grad = jax.value_and_grad(loss_fn, has_aux=True)
            (loss, (rule_state, metrics)), slopes = value_and_grad(params, key, rule_state, *batch)
            updates, optimizer_state = optimizer.update(slopes, optimizer_state, params)
            return (optax.apply_updates(params, updates), optimizer_state, rule_state), metrics | {"loss": loss}

        keys = jax.random.split(key_steps, len(batches))
        before = training.params, training.optimizer_state, training.rule_state
        (params, optimizer_state, rule_state), metrics = jax.lax.scan(step, before, (batches, keys))
        after = Training(params, optimizer_state, rule_state, training.epoch + 1)
        metrics = jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), metrics)
        is_finite = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves((metrics["loss"], params))]
        return after, metrics, jnp.all(jnp.stack(is_finite))

    return run


def _check_data(data: tuple[Any, ...], batch_size: int) -> None:
    if not isinstance(data, tuple) or not data or any(leaf.ndim == 0 for leaf in jax.tree.leaves(data)):
        raise TypeError(f"data_fn must return a tuple of arrays [N, ...], got {checks.describe(data)}.")
    sizes = {leaf.shape[0] for leaf in jax.tree.leaves(data)}
    if len(sizes) != 1:
        raise ValueError(f"data_fn must return arrays of one length, got lengths {sorted(sizes)}.")
    if batch_size > min(sizes):
        raise ValueError(f"batch_size must be at most the {min(sizes)} rows of the data, got {batch_size}.")
