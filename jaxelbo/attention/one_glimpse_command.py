"""``python -m jaxelbo.attention one-glimpse``: one glimpse on a grid, its errors beside the exact evidence."""

import argparse
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxelbo import bounds, estimators
from jaxelbo.attention import (
    command_options,
    one_glimpse,
    one_glimpse_bounds,
    path_training,
    seeds,
    tasks,
    training,
)
from jaxelbo.types import Bound, Estimator, Key, Params

Value = Callable[..., tuple[jax.Array, Any]]
"""``(params, key, image, label, state=) -> (value, state)``, to be raised."""


def _estimated(of: Callable[..., jax.Array], bound: Bound, estimator: Estimator) -> Callable[..., tuple[Value, Any]]:
    """A bound by draws of the policy, or of a learned q(l|y, I), with an estimator of the toolkit."""

    def make(options: argparse.Namespace, shape: one_glimpse.Shape) -> tuple[Value, Any]:
        value = functools.partial(of, shape=shape, num_samples=options.samples, bound=bound, estimator=estimator)
        return lambda *arguments, state: (value(*arguments), state), ()

    return make


def _by_rule(name: str) -> Callable[..., tuple[Value, Any]]:
    """F with a learning rule of the recurrent systems."""

    def make(options: argparse.Namespace, shape: one_glimpse.Shape) -> tuple[Value, Any]:
        rule, state = path_training.RULES[name](options.reward_weight)
        value = functools.partial(one_glimpse_bounds.objective, shape=shape, num_samples=options.samples, rule=rule)
        return value, state

    return make


_OF_POLICY = functools.partial(_estimated, one_glimpse_bounds.sampled_bound)
_OF_POSTERIOR = functools.partial(_estimated, one_glimpse_bounds.posterior_bound)
OBJECTIVES = {
    "vimco": _OF_POLICY(bounds.importance_weighted, estimators.leave_one_out),
    "leave-one-out": _OF_POLICY(bounds.mean, estimators.leave_one_out),
    "score-function": _OF_POLICY(bounds.mean, estimators.score_function),
    "without-replacement": _OF_POLICY(bounds.mean, estimators.without_replacement),
    "exact-bound": _OF_POLICY(bounds.mean, estimators.enumeration),
    "posterior": _OF_POSTERIOR(bounds.mean, estimators.leave_one_out),
    "posterior-vimco": _OF_POSTERIOR(bounds.importance_weighted, estimators.leave_one_out),
    "learned-baseline": _by_rule("learned-baseline"),
    "moving-average": _by_rule("moving-average"),
    "reward": _by_rule("reward"),
}
"""Name -> ``(options, shape) -> (value, first state)``: what is raised, and by which gradient."""


class Figures(NamedTuple):
    """A row of the report, of one seed; bounds and entropy in nats an image.

    Attributes:
      one_path: error of a glimpse that is drawn from the policy, exactly.
      likeliest_place: error of the glimpse at the likeliest place.
      all_places: error of the probabilities averaged over all places by the policy.
    """

    one_path: jax.Array
    likeliest_place: jax.Array
    all_places: jax.Array
    log_evidence: jax.Array
    bound: jax.Array
    gap: jax.Array
    entropy: jax.Array


def add_arguments(parser: argparse.ArgumentParser, count: Callable[[str], int]) -> None:
    """The options of the command."""
    parser.add_argument("--data", required=True, help="folder of MNIST's files, or \"small\" for scikit-learn's digits")
    parser.add_argument("--task", choices=sorted(tasks.NAMED), default="cluttered", help="what is shown")
    parser.add_argument("--objective", choices=sorted(OBJECTIVES), default="vimco", help="bound and gradient")
    parser.add_argument("--reward-weight", type=float, default=1.0, help="of the 0/1 reward")
    parser.add_argument("--samples", type=count, default=4, help="glimpses an image in training")
    parser.add_argument("--grid", type=count, default=9, help="places down and across")
    parser.add_argument("--glimpse-size", type=count, default=28, help="pixels a side")
    parser.add_argument("--scales", type=count, default=1, help="patches a glimpse")
    parser.add_argument("--context-pool", type=count, default=3, help="pixels a side that the context network averages")
    parser.add_argument("--hidden", type=count, default=512, help="units of each hidden layer")
    command_options.add_training(parser, count, epochs=50, batch_size=128, learning_rate=1.5e-3, output="one-glimpse")


def run(options: argparse.Namespace) -> None:
    """Trains every seed, or resumes it, and reports."""
    from rich.console import Console

    from jaxelbo.attention import pictures, reports

    task = tasks.NAMED[options.task](*tasks.read_digits(options.data))
    shape = one_glimpse.Shape(
        task.image_size,
        options.grid,
        options.glimpse_size,
        options.scales,
        options.context_pool,
        num_hidden=options.hidden,
    )
    batch_size = min(options.batch_size, task.num_images)
    num_steps = options.epochs * (task.num_images // batch_size)
    loss_fn, rule_state = _loss(options, shape)
    score = seeds.sum_of_chunk(functools.partial(_score, shape))
    experiment = seeds.Experiment(
        init=functools.partial(one_glimpse.init, shape=shape),
        optimizer=optax.adam(optax.cosine_decay_schedule(options.learning_rate, num_steps)),
        loss_fn=loss_fn,
        rule_state=rule_state,
        epoch=task.epoch,
        batch_size=batch_size,
        score=score,
        watched=("log_evidence", "bound", "entropy", "all_places"),
        name=options.task,
    )
    rows, params = [], None
    for seed, params in seeds.train_seeds(options, experiment):
        rows.append(seeds.mean_scores(score, params, seeds.test_key(seed), (task.test_images, task.test_labels)))
    console = Console()
    console.print(reports.table(Figures._fields, rows, f"test, {options.task}"))
    picture = options.output / f"glimpses-{options.task}.png"
    images = tasks.as_numbers(jnp.asarray(task.test_images[:12]))
    pictures.draw_paths(picture, np.asarray(images), *_shown(params, images, shape), *shape[2:4])
    console.print(f"picture: {picture}", highlight=False)


def _loss(options: argparse.Namespace, shape: one_glimpse.Shape) -> tuple[training.Loss, Any]:
    """The loss of a minibatch, and the rule's first state."""
    value, first = OBJECTIVES[options.objective](options, shape)

    def loss_fn(params: Params, key: jax.Array, state: Any, images: jax.Array, labels: jax.Array):
        of_one = functools.partial(value, state=state)
        keys = jax.random.split(key, len(labels))
        values, states = jax.vmap(of_one, (None, 0, 0, 0))(params, keys, tasks.as_numbers(images), labels)
        return -jnp.mean(values), (jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), states), {})

    return loss_fn, first


def _score(shape: one_glimpse.Shape, params: Params, key: Key, image: jax.Array, label: jax.Array) -> Figures:
    del key  # everything is summed
    image = tasks.as_numbers(image)
    log_policy = one_glimpse.log_policy(params, image, shape)
    log_classes = one_glimpse.log_classes(params, image, shape)
    is_wrong = (jnp.argmax(log_classes, axis=1) != label).astype(jnp.float32)
    averaged = jnp.argmax(jax.nn.logsumexp(log_policy[:, None] + log_classes, axis=0))
    return Figures(
        one_path=jnp.vdot(jnp.exp(log_policy), is_wrong),
        likeliest_place=is_wrong[jnp.argmax(log_policy)],
        all_places=(averaged != label).astype(jnp.float32),
        **one_glimpse_bounds.exact(params, image, label, shape)._asdict(),
    )


def _shown(params: Params, images: jax.Array, shape: one_glimpse.Shape) -> tuple[np.ndarray, np.ndarray]:
    """The likeliest place of each image, as a path of one glimpse, and the label that is read there."""

    @jax.vmap
    def of_one(image: jax.Array) -> tuple[jax.Array, jax.Array]:
        place = jnp.argmax(one_glimpse.log_policy(params, image, shape))
        label = jnp.argmax(one_glimpse.log_classes(params, image, shape)[place])
        return one_glimpse.locations(shape)[place][None], label

    locations, labels = jax.jit(of_one)(images)
    return np.asarray(locations), np.asarray(labels)
