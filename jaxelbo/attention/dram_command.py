"""``python -m jaxelbo.attention dram``: trains the deep recurrent attention model on one digit, pairs, or sums."""

import argparse
import functools
from collections.abc import Callable

import numpy as np

from jaxelbo.attention import canvases, command_options, deep_recurrent_attention, path_training, tasks
from jaxelbo.attention.digit_files import Digits

PAIRED = {"pairs": canvases.pairs, "additions": canvases.additions}
"""Tasks of two digits on a canvas: both labels from left to right, or their sum."""

OBJECTIVES = {
    "bound": deep_recurrent_attention.objective,
    "curriculum": deep_recurrent_attention.curriculum_objective,
    "posterior": deep_recurrent_attention.posterior_objective,
}


def add_arguments(parser: argparse.ArgumentParser, count: Callable[[str], int]) -> None:
    """The options of the command."""
    parser.add_argument("--data", required=True, help="folder of MNIST's files, or \"small\" for scikit-learn's digits")
    parser.add_argument("--task", choices=sorted({**tasks.NAMED, **PAIRED}), default="cluttered", help="what is shown")
    parser.add_argument(
        "--objective", choices=sorted(OBJECTIVES), default="bound", help="F; up to the first mistake; by a learned q"
    )
    parser.add_argument("--size", type=count, default=100, help="side of the canvas of two digits in pixels")
    command_options.add_paths(
        parser, count, rules=path_training.RULES, reward_weight=0.03, glimpses=4, glimpse_size=12, scales=2
    )
    command_options.add_training(parser, count, epochs=60, batch_size=128, learning_rate=1e-3, output="dram")


def run(options: argparse.Namespace) -> None:
    """Trains every seed, or resumes it, and reports."""
    task = _with_rows(_task(options))
    shape = deep_recurrent_attention.Shape(
        task.image_size,
        options.glimpse_size,
        options.scales,
        options.glimpses,
        num_targets=task.test_labels.shape[1],
        policy_scale=options.policy_scale,
        num_classes=19 if options.task == "additions" else 10,
    )
    system = path_training.System(
        shape=shape,
        init=functools.partial(deep_recurrent_attention.init, shape=shape),
        objective=functools.partial(OBJECTIVES[options.objective], shape=shape),
        evaluate=functools.partial(deep_recurrent_attention.evaluate, shape=shape),
        mean_path=functools.partial(deep_recurrent_attention.mean_path, shape=shape),
    )
    path_training.run(options, task, system)


def _task(options: argparse.Namespace) -> tasks.Task:
    digits = tasks.read_digits(options.data)
    if options.task in tasks.NAMED:
        return tasks.NAMED[options.task](*digits)

    def make(rng: np.random.Generator, digits: Digits) -> canvases.Canvases:
        return PAIRED[options.task](rng, digits, size=options.size, num_canvases=len(digits.images))

    return tasks.of_canvases(make, *digits)


def _with_rows(task: tasks.Task) -> tasks.Task:
    """The same task with its labels as ``[N, T]``, T = 1 where there was one."""

    def rows(labels: np.ndarray) -> np.ndarray:
        return labels.reshape(len(labels), -1)

    def epoch(seed: int, number: int) -> tuple[np.ndarray, np.ndarray]:
        images, labels = task.epoch(seed, number)
        return images, rows(labels)

    return task._replace(epoch=epoch, test_labels=rows(task.test_labels))
