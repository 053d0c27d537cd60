"""What the commands ``ram`` and ``dram`` share: training a system of paths over all seeds, its table and its picture.

Attention.
"""

import argparse
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxelbo import bounds, estimators
from jaxelbo.attention import learning_rules, seeds, tasks, training
from jaxelbo.attention.path_scores import Scores
from jaxelbo.types import Key, Params

RULES = {
    "reward": lambda weight: (learning_rules.reward(weight), ()),
    "score-function": lambda weight: (learning_rules.score_function, ()),
    "learned-baseline": lambda weight: (learning_rules.learned_baseline, ()),
    "moving-average": lambda weight: (learning_rules.moving_average(), estimators.running_moments()),
    "leave-one-out": lambda weight: (learning_rules.leave_one_out(bounds.mean), ()),
    "vimco": lambda weight: (learning_rules.leave_one_out(bounds.importance_weighted), ()),
}
"""Name of a rule -> weight of its rewards -> the rule and its first state."""

AVERAGED_PATHS = 10


class System(NamedTuple):
    """A system with its sizes filled in.

    Attributes:
      shape: with ``glimpse_size`` and ``num_scales``.
      init: ``key -> params``.
      objective: ``(params, key, image, labels, num_samples=, rule=, state=) -> (value, state)``.
      evaluate: ``(params, key, image, labels, num_samples=) -> Scores``.
      mean_path: ``(params, image) -> path`` with locations and log_classes.
    """

    shape: Any
    init: Callable[[Key], Params]
    objective: Callable[..., tuple[jax.Array, Any]]
    evaluate: Callable[..., Scores]
    mean_path: Callable[[Params, jax.Array], Any]


def run(options: argparse.Namespace, task: tasks.Task, system: System) -> None:
    """Trains every seed, or resumes it, and reports."""
    from rich.console import Console

    from jaxelbo.attention import pictures, reports

    batch_size = min(options.batch_size, task.num_images)
    num_steps = options.epochs * (task.num_images // batch_size)
    loss_fn, rule_state = _loss(options, system)
    score = seeds.sum_of_chunk(functools.partial(_score, system))
    experiment = seeds.Experiment(
        init=system.init,
        optimizer=optax.adam(_rate(options.learning_rate, num_steps)),
        loss_fn=loss_fn,
        rule_state=rule_state,
        epoch=task.epoch,
        batch_size=batch_size,
        score=score,
        watched=("bound", "entropy", "spread", "one_path"),
        name=options.task,
    )
    rows, params = [], None
    for seed, params in seeds.train_seeds(options, experiment):
        rows.append(seeds.mean_scores(score, params, seeds.test_key(seed), (task.test_images, task.test_labels)))
    console = Console()
    console.print(reports.table(Scores._fields, rows, f"test, {options.task}"))
    picture = options.output / f"glimpses-{options.task}.png"
    pictures.draw_paths(picture, *_shown(params, task, system), system.shape.glimpse_size, system.shape.num_scales)
    console.print(f"picture: {picture}", highlight=False)


def _rate(highest: float, num_steps: int) -> optax.Schedule:
    """Rises over the first twenty-fifth, then a cosine to zero.

    At full rate from the start, some seeds walk into an empty corner of the image while the baseline is still wrong,
    and nothing that is seen there leads back.
    """
    return optax.warmup_cosine_decay_schedule(0.0, highest, max(1, num_steps // 25), max(2, num_steps))


def _loss(options: argparse.Namespace, system: System) -> tuple[training.Loss, Any]:
    """The loss of a minibatch, and the rule's first state."""
    rule, rule_state = RULES[options.rule](options.reward_weight)

    def loss_fn(params: Params, key: jax.Array, state: Any, images: jax.Array, labels: jax.Array):
        def of_one(key: jax.Array, image: jax.Array, label: jax.Array):
            return system.objective(params, key, image, label, num_samples=options.samples, rule=rule, state=state)

        values, states = jax.vmap(of_one)(jax.random.split(key, len(labels)), tasks.as_numbers(images), labels)
        return -jnp.mean(values), (jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), states), {})

    return loss_fn, rule_state


def _score(system: System, params: Params, key: Key, image: jax.Array, label: jax.Array) -> Scores:
    return system.evaluate(params, key, tasks.as_numbers(image), label, num_samples=AVERAGED_PATHS)


def _shown(params: Params, task: tasks.Task, system: System, num_images: int = 12):
    """Test images with the locations of their mean paths and the labels read there."""
    images = tasks.as_numbers(jnp.asarray(task.test_images[:num_images]))
    paths = jax.jit(jax.vmap(functools.partial(system.mean_path, params)))(images)
    return np.asarray(images), np.asarray(paths.locations), np.asarray(jnp.argmax(paths.log_classes, axis=-1))
