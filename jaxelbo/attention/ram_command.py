"""``python -m jaxelbo.attention ram``: trains the recurrent attention model, reports its errors, draws its glimpses."""

import argparse
import functools
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxelbo import bounds, estimators
from jaxelbo.attention import canvases, learning_rules, recurrent_attention, tasks, training
from jaxelbo.types import Params

TASKS = {
    "digits": tasks.of_digits,
    "translated": functools.partial(tasks.of_canvases, functools.partial(canvases.translated, size=60)),
    "cluttered": functools.partial(tasks.of_canvases, functools.partial(canvases.cluttered, size=60)),
    "cluttered-100": functools.partial(tasks.of_canvases, functools.partial(canvases.cluttered, size=100)),
}
RULES = {
    "reward": lambda weight: (learning_rules.reward(weight), ()),
    "score-function": lambda weight: (learning_rules.score_function, ()),
    "learned-baseline": lambda weight: (learning_rules.learned_baseline, ()),
    "moving-average": lambda weight: (learning_rules.moving_average(), estimators.running_moments()),
    "leave-one-out": lambda weight: (learning_rules.leave_one_out(bounds.mean), ()),
    "vimco": lambda weight: (learning_rules.leave_one_out(bounds.importance_weighted), ()),
}
AVERAGED_PATHS = 10


def add_arguments(parser: argparse.ArgumentParser, count: Callable[[str], int]) -> None:
    """The options of the command."""
    parser.add_argument("--data", required=True, help="folder of MNIST's files, or \"small\" for scikit-learn's digits")
    parser.add_argument("--task", choices=sorted(TASKS), default="digits", help="what is shown")
    parser.add_argument("--rule", choices=sorted(RULES), default="reward", help="how the policy learns")
    parser.add_argument("--reward-weight", type=float, default=0.01, help="of the reward rule")
    parser.add_argument("--samples", type=count, default=1, help="paths an image; at least 2 for leave-one-out, vimco")
    parser.add_argument("--glimpses", type=count, default=6, help="glimpses a path")
    parser.add_argument("--glimpse-size", type=count, default=8, help="pixels a side")
    parser.add_argument("--scales", type=count, default=1, help="patches a glimpse")
    parser.add_argument("--policy-scale", type=float, default=0.1, help="standard deviation of a location")
    parser.add_argument("--epochs", type=count, default=80, help="epochs a seed")
    parser.add_argument("--batch-size", type=count, default=128, help="images a step")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="of Adam, with a cosine to zero")
    parser.add_argument("--seeds", type=count, default=3, help="runs, from seed 0 on; medians are reported")
    parser.add_argument(
        "--output", type=pathlib.Path, default=pathlib.Path("ram"), help="folder of checkpoints, picture"
    )


def run(options: argparse.Namespace) -> None:
    """Trains every seed, or resumes it, and reports."""
    from rich.console import Console

    from jaxelbo.attention import reports

    console = Console()
    options.output.mkdir(parents=True, exist_ok=True)
    task = TASKS[options.task](*tasks.read_digits(options.data))
    shape = recurrent_attention.Shape(
        task.image_size, options.glimpse_size, options.scales, options.glimpses, options.policy_scale
    )
    rows, params = [], None
    for seed in range(options.seeds):
        begin = time.perf_counter()
        params = _train(options, task, shape, seed)
        scores = _test(params, task, shape, jax.random.key(2**30 + seed))
        rows.append([float(score) for score in scores])
        console.print(f"seed {seed}: {time.perf_counter() - begin:.0f} s", highlight=False)
    console.print(reports.table(recurrent_attention.Scores._fields, rows, f"test, {options.task}"))
    picture = options.output / f"glimpses-{options.task}.png"
    reports.draw_paths(picture, *_shown(params, task, shape), shape.glimpse_size, shape.num_scales)
    console.print(f"picture: {picture}", highlight=False)


def _train(options: argparse.Namespace, task: tasks.Task, shape: recurrent_attention.Shape, seed: int) -> Params:
    from jaxelbo.attention import reports

    rule, rule_state = RULES[options.rule](options.reward_weight)
    batch_size = min(options.batch_size, task.num_images)
    num_steps = options.epochs * (task.num_images // batch_size)
    optimizer = optax.adam(optax.cosine_decay_schedule(options.learning_rate, num_steps))
    key_init, key = jax.random.split(jax.random.key(seed))

    def loss_fn(params: Params, key: jax.Array, state: Any, images: jax.Array, labels: jax.Array):
        def of_one(key: jax.Array, image: jax.Array, label: jax.Array):
            return recurrent_attention.objective(
                params, key, image, label, shape=shape, num_samples=options.samples, rule=rule, state=state
            )

        values, states = jax.vmap(of_one)(jax.random.split(key, len(labels)), tasks.as_numbers(images), labels)
        return -jnp.mean(values), (
            jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), states),
            {"bound": jnp.mean(values)},
        )

    configuration = ", ".join(
        f"{name} {value}" for name, value in sorted(vars(options).items()) if name in _CONFIGURING
    )
    with reports.epoch_bar(f"seed {seed}", options.epochs) as callback:
        trained = training.train(
            training.start(recurrent_attention.init(key_init, shape), optimizer, rule_state),
            key,
            loss_fn,
            optimizer,
            functools.partial(task.epoch, seed),
            num_epochs=options.epochs,
            batch_size=batch_size,
            checkpoint=options.output / f"{options.task}-seed-{seed}.npz",
            configuration=configuration,
            callback=callback,
        )
    return trained.params


_CONFIGURING = (
    "task", "rule", "reward_weight", "samples", "glimpses", "glimpse_size", "scales", "policy_scale", "epochs",
    "batch_size", "learning_rate", "data",
)  # fmt: skip


def _test(
    params: Params, task: tasks.Task, shape: recurrent_attention.Shape, key: jax.Array
) -> recurrent_attention.Scores:
    @jax.jit
    def scores(params: Params, keys: jax.Array, images: jax.Array, labels: jax.Array) -> recurrent_attention.Scores:
        def of_one(inputs: tuple[jax.Array, ...]) -> recurrent_attention.Scores:
            key, image, label = inputs
            return recurrent_attention.evaluate(
                params, key, tasks.as_numbers(image), label, shape=shape, num_samples=AVERAGED_PATHS
            )

        return jax.tree.map(jnp.mean, jax.lax.map(of_one, (keys, images, labels), batch_size=250))

    keys = jax.random.split(key, len(task.test_labels))
    return scores(params, keys, jnp.asarray(task.test_images), jnp.asarray(task.test_labels))


def _shown(params: Params, task: tasks.Task, shape: recurrent_attention.Shape, num_images: int = 12):
    """Test images with the locations of their mean paths and the labels read there."""
    images = tasks.as_numbers(jnp.asarray(task.test_images[:num_images]))
    paths = jax.jit(jax.vmap(lambda image: recurrent_attention.mean_path(params, image, shape)))(images)
    return np.asarray(images), np.asarray(paths.locations), np.asarray(jnp.argmax(paths.log_classes, axis=1))
