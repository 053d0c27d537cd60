"""Options that the commands share, and what must not change between a run and its resumption.

Attention.
"""

import argparse
import pathlib
from collections.abc import Callable, Iterable

_FREE = ("command", "output", "seeds")
"""May change: seeds can be added, and the folder moved."""


def add_training(
    parser: argparse.ArgumentParser,
    count: Callable[[str], int],
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    output: str,
) -> None:
    """Epochs, batch size, learning rate, seeds and the folder of the results, with these defaults.

    >>> parser = argparse.ArgumentParser()
    >>> add_training(parser, int, epochs=3, batch_size=64, learning_rate=0.001, output="ram")
    >>> parser.parse_args([]).seeds
    3
    """
    parser.add_argument("--epochs", type=count, default=epochs, help="epochs a seed")
    parser.add_argument("--batch-size", type=count, default=batch_size, help="examples a step")
    parser.add_argument("--learning-rate", type=float, default=learning_rate, help="of Adam, with a cosine to zero")
    parser.add_argument("--seeds", type=count, default=3, help="runs, from seed 0 on; medians are reported")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path(output), help="folder of the results")


def add_paths(
    parser: argparse.ArgumentParser,
    count: Callable[[str], int],
    *,
    rules: Iterable[str],
    reward_weight: float,
    glimpses: int,
    glimpse_size: int,
    scales: int,
) -> None:
    """What a system of paths has: its glimpses, its policy and the rule by which that learns.

    >>> parser = argparse.ArgumentParser()
    >>> add_paths(parser, int, rules=["reward"], reward_weight=1.0, glimpses=6, glimpse_size=8, scales=1)
    >>> parser.parse_args([]).glimpses
    6
    """
    parser.add_argument("--rule", choices=sorted(rules), default="reward", help="how the policy learns")
    parser.add_argument("--reward-weight", type=float, default=reward_weight, help="of the reward rule")
    parser.add_argument("--samples", type=count, default=1, help="paths an image; at least 2 for leave-one-out, vimco")
    parser.add_argument("--glimpses", type=count, default=glimpses, help="glimpses a label")
    parser.add_argument("--glimpse-size", type=count, default=glimpse_size, help="pixels a side")
    parser.add_argument("--scales", type=count, default=scales, help="patches a glimpse")
    parser.add_argument("--policy-scale", type=float, default=0.08, help="standard deviation of a location")


def configuration(options: argparse.Namespace) -> str:
    """The options in words, for checkpoints: a run is resumed only under the same.

    >>> configuration(argparse.Namespace(epochs=3, seeds=2, output="ram"))
    'epochs 3'
    """
    return ", ".join(f"{name} {value}" for name, value in sorted(vars(options).items()) if name not in _FREE)
