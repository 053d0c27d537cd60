"""``python -m jaxelbo.attention ram``: trains the recurrent attention model, reports its errors, draws its glimpses."""

import argparse
import functools
from collections.abc import Callable

from jaxelbo.attention import command_options, path_training, recurrent_attention, tasks

OBJECTIVES = {"bound": recurrent_attention.objective, "posterior": recurrent_attention.posterior_objective}


def add_arguments(parser: argparse.ArgumentParser, count: Callable[[str], int]) -> None:
    """The options of the command."""
    parser.add_argument("--data", required=True, help="folder of MNIST's files, or \"small\" for scikit-learn's digits")
    parser.add_argument("--task", choices=sorted(tasks.NAMED), default="digits", help="what is shown")
    parser.add_argument("--objective", choices=sorted(OBJECTIVES), default="bound", help="F, or by a learned q(l|y, I)")
    command_options.add_paths(
        parser, count, rules=path_training.RULES, reward_weight=0.03, glimpses=6, glimpse_size=8, scales=1
    )
    command_options.add_training(parser, count, epochs=50, batch_size=256, learning_rate=2e-3, output="ram")


def run(options: argparse.Namespace) -> None:
    """Trains every seed, or resumes it, and reports."""
    task = tasks.NAMED[options.task](*tasks.read_digits(options.data))
    shape = recurrent_attention.Shape(
        task.image_size, options.glimpse_size, options.scales, options.glimpses, options.policy_scale
    )
    system = path_training.System(
        shape=shape,
        init=functools.partial(recurrent_attention.init, shape=shape),
        objective=functools.partial(OBJECTIVES[options.objective], shape=shape),
        evaluate=functools.partial(recurrent_attention.evaluate, shape=shape),
        mean_path=functools.partial(recurrent_attention.mean_path, shape=shape),
    )
    path_training.run(options, task, system)
