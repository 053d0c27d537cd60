"""One experiment over several seeds: each is trained, or resumed, with a progress bar, and scored.

Attention.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxelbo.attention import command_options, training
from jaxelbo.types import Key, Params

CHUNK = 250
"""Data that one compiled call scores; so many of the training data are scored after each epoch, for the bar."""


class Experiment(NamedTuple):
    """What is trained, and how its progress is seen.

    Attributes:
      init: ``key -> params``.
      optimizer: of optax.
      loss_fn: `training.Loss`.
      rule_state: the first state of the learning rule, ``()`` where there is none.
      epoch: ``(seed, epoch) -> arrays [N, ...]``, N the same in every epoch.
      batch_size: rows a step.
      score: of `sum_of_chunk`, for the bar.
      watched: those scores that stand in the progress bar, scalars.
      name: of the checkpoints, before the seed.
    """

    init: Callable[[Key], Params]
    optimizer: optax.GradientTransformation
    loss_fn: training.Loss
    rule_state: Any
    epoch: Callable[[int, int], tuple[np.ndarray, ...]]
    batch_size: int
    score: Callable[..., Any]
    watched: tuple[str, ...]
    name: str


def train_seeds(options: argparse.Namespace, experiment: Experiment) -> Iterator[tuple[int, Params]]:
    """Trains one seed after the other, or resumes it, and says how long it took.

    Args:
      options: those of `command_options.add_training`, and all others that a checkpoint depends on.
      experiment: `Experiment`.

    Yields:
      The seed and the parameters at its end.

    Raises:
      ImportError: the package rich is not installed.
      ValueError: a checkpoint of other options.

    >>> for seed, params in train_seeds(options, experiment):  # doctest: +SKIP
    ...     print(mean_scores(score, params, key, test_arrays))
    """
    from rich.console import Console

    options.output.mkdir(parents=True, exist_ok=True)
    for seed in range(options.seeds):
        begin = time.perf_counter()
        params = _train(options, experiment, seed)
        Console().print(f"seed {seed}: {time.perf_counter() - begin:.0f} s", highlight=False)
        yield seed, params


def _train(options: argparse.Namespace, experiment: Experiment, seed: int) -> Params:
    from jaxelbo.attention import reports

    key_init, key = jax.random.split(jax.random.key(seed))
    seen: list[np.ndarray] = []  # of the last epoch's data, those that are scored

    def data(epoch: int) -> tuple[np.ndarray, ...]:
        arrays = experiment.epoch(seed, epoch)
        seen[:] = [leaf[:CHUNK] for leaf in arrays]
        return arrays

    def watch(params: Params) -> dict[str, float]:
        means = mean_scores(experiment.score, params, watch_key(seed), tuple(seen))
        return {name.replace("_", " "): float(getattr(means, name)) for name in experiment.watched}

    with reports.epoch_bar(f"seed {seed}", options.epochs, watch) as callback:
        return training.train(
            training.start(experiment.init(key_init), experiment.optimizer, experiment.rule_state),
            key,
            experiment.loss_fn,
            experiment.optimizer,
            data,
            num_epochs=options.epochs,
            batch_size=experiment.batch_size,
            checkpoint=options.output / f"{experiment.name}-seed-{seed}.npz",
            configuration=command_options.configuration(options),
            callback=callback,
        ).params


def test_key(seed: int) -> Key:
    """The key of a seed's test, no other seed's and not of its training.

    >>> bool(test_key(0) != test_key(1))
    True
    """
    return jax.random.key(2**30 + seed)


def watch_key(seed: int) -> Key:
    """The key by which a seed's progress is scored, of neither its training nor its test.

    >>> bool(watch_key(0) != test_key(0))
    True
    """
    return jax.random.key(2**29 + seed)


def sum_of_chunk(of_one: Callable[..., Any]) -> Callable[..., Any]:
    """The scores of a chunk of data added up, as one compiled function ``(params, keys, arrays) -> sums``.

    Args:
      of_one: ``(params, key, *data) -> scores``, of one datum.

    Returns:
      The function, of ``keys [N]`` and ``arrays [N, ...]``.

    >>> score = sum_of_chunk(lambda params, key, x: {"double": params * x})
    >>> float(score(2.0, jax.random.split(jax.random.key(0), 3), (jnp.arange(3.0),))["double"])
    6.0
    """

    @jax.jit
    def score(params: Params, keys: jax.Array, arrays: tuple[jax.Array, ...]) -> Any:
        scores = jax.vmap(lambda key, data: of_one(params, key, *data))(keys, arrays)
        return jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), scores)

    return score


def mean_scores(score: Callable[..., Any], params: Params, key: Key, arrays: tuple[np.ndarray, ...]) -> Any:
    """Mean scores of N data, a chunk at a time, so that one program serves few of them and many.

    Args:
      score: of `sum_of_chunk`.
      params: of the system.
      key: one random key.
      arrays: ``[N, ...]`` each, N at least 1.

    Returns:
      The scores' structure.

    Raises:
      ValueError: no rows.

    >>> score = sum_of_chunk(lambda params, key, x: {"double": params * x})
    >>> float(mean_scores(score, 2.0, jax.random.key(0), (np.arange(601.0),))["double"])
    600.0
    """
    size = len(arrays[0])
    if size == 0:
        raise ValueError("arrays must hold at least one row, got none.")
    keys = jax.random.split(key, size)
    chunks = [slice(start, start + CHUNK) for start in range(0, size, CHUNK)]
    sums = [score(params, keys[rows], tuple(leaf[rows] for leaf in arrays)) for rows in chunks]
    return jax.tree.map(lambda *leaves: sum(leaves) / size, *sums)
