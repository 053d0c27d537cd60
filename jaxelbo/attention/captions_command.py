"""``python -m jaxelbo.attention captions``: trains Show, Attend and Tell on rows of digits, reports, draws cells."""

import argparse
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxelbo.attention import canvases, command_options, seeds, show_attend_tell, tasks, training
from jaxelbo.attention.digit_files import Digits
from jaxelbo.attention.path_training import RULES
from jaxelbo.types import Key, Params

SHAPES = {
    28: show_attend_tell.Shape(height=40, width=124, patch_size=28, stride=6, part_size=10),
    8: show_attend_tell.Shape(height=12, width=36, patch_size=8, stride=2, part_size=4),
}
"""By the side of the digits."""

ATTENTIONS = {
    "hard": show_attend_tell.likeliest_cell,
    "posterior": show_attend_tell.likeliest_cell,
    "relaxed": show_attend_tell.likeliest_cell,
    "soft": show_attend_tell.all_cells,
}
"""How each reads when it is tested."""

NUM_TEST, NUM_TEST_PATHS = 5_000, 10


class Captioning(NamedTuple):
    """The task: training digits, of which every epoch makes new canvases, and the test canvases."""

    train: Digits
    test: canvases.Canvases
    shape: show_attend_tell.Shape


def add_arguments(parser: argparse.ArgumentParser, count: Callable[[str], int]) -> None:
    """The options of the command."""
    parser.add_argument("--data", required=True, help="folder of MNIST's files, or \"small\" for scikit-learn's digits")
    parser.add_argument("--attention", choices=sorted(ATTENTIONS), default="hard", help="how a word looks at the image")
    parser.add_argument("--temperature", type=float, default=0.5, help="of relaxed cells")
    parser.add_argument("--rule", choices=sorted(RULES), default="leave-one-out", help="how hard attention learns")
    parser.add_argument("--reward-weight", type=float, default=1.0, help="of the reward rule")
    parser.add_argument("--samples", type=count, default=2, help="paths an image; at least 2 for leave-one-out, vimco")
    parser.add_argument(
        "--soft-probability",
        type=float,
        nargs=2,
        default=[1.0, 0.0],
        metavar=("FIRST", "LAST"),
        help="chance of a step of hard attention that sees mean cells: at first, and from the middle of training on, a "
        "line between; the paper has 0.5 throughout",
    )
    parser.add_argument("--entropy-weight", type=float, default=0.0, help="of the policy's entropy, hard or soft")
    parser.add_argument("--channels", type=count, default=24, help="features of a part of a patch")
    parser.add_argument("--features", type=count, default=192, help="entries of an annotation vector")
    parser.add_argument("--units", type=count, default=64, help="units of the decoder")
    parser.add_argument("--canvases", type=count, default=10_000, help="new canvases an epoch")
    command_options.add_training(parser, count, epochs=80, batch_size=50, learning_rate=2e-3, output="captions")


def run(options: argparse.Namespace) -> None:
    """Trains every seed, or resumes it, and reports."""
    from rich.console import Console

    from jaxelbo.attention import pictures, reports

    task, attend = _task(options), ATTENTIONS[options.attention]
    batch_size = min(options.batch_size, options.canvases)
    num_steps = options.epochs * (options.canvases // batch_size)
    rate = optax.cosine_decay_schedule(options.learning_rate, num_steps)
    loss_fn, rule_state = LOSSES[options.attention](options, task.shape, num_steps)
    score = seeds.sum_of_chunk(functools.partial(_score, task, attend))
    experiment = seeds.Experiment(
        init=functools.partial(show_attend_tell.init, shape=task.shape),
        optimizer=optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate)),
        loss_fn=loss_fn,
        rule_state=rule_state,
        epoch=functools.partial(_epoch, task, options.canvases),
        batch_size=batch_size,
        score=score,
        watched=("bound", "entropy", "sequence_error", "on_target"),
        name=options.attention,
    )
    rows, params = [], None
    test = tasks.as_bytes(task.test.images), task.test.labels, task.test.corners
    for seed, params in seeds.train_seeds(options, experiment):
        rows.append(seeds.mean_scores(score, params, seeds.test_key(seed), test))
    console = Console()
    console.print(reports.table(show_attend_tell.Scores._fields, rows, f"test, {options.attention} attention"))
    picture = options.output / f"cells-{options.attention}.png"
    pictures.draw_cells(picture, *_shown(params, task, attend), task.shape.patch_size)
    console.print(f"picture: {picture}", highlight=False)


def _task(options: argparse.Namespace) -> Captioning:
    train, test = tasks.read_digits(options.data)
    sizes = {"num_channels": options.channels, "num_features": options.features, "num_units": options.units}
    shape = SHAPES[train.images.shape[1]]._replace(**sizes)
    return Captioning(train, _make(np.random.default_rng(tasks.TEST_SEED), test, shape, NUM_TEST), shape)


def _make(
    rng: np.random.Generator, digits: Digits, shape: show_attend_tell.Shape, num_canvases: int
) -> canvases.Canvases:
    return canvases.captions(
        rng, digits, height=shape.height, width=shape.width, num_canvases=num_canvases, end_token=shape.num_words - 1
    )


def _epoch(task: Captioning, num_canvases: int, seed: int, number: int) -> tuple[np.ndarray, ...]:
    made = _make(np.random.default_rng([seed, number]), task.train, task.shape, num_canvases)
    return tasks.as_bytes(made.images), made.labels, made.corners


def _hard_loss(options: argparse.Namespace, shape: show_attend_tell.Shape, num_steps: int) -> tuple[training.Loss, Any]:
    hard = functools.partial(show_attend_tell.objective, entropy_weight=options.entropy_weight)
    return _loss_of_draws(hard, options, shape, num_steps)


def _posterior_loss(
    options: argparse.Namespace, shape: show_attend_tell.Shape, num_steps: int
) -> tuple[training.Loss, Any]:
    return _loss_of_draws(show_attend_tell.posterior_objective, options, shape, num_steps)


def _loss_of_draws(
    hard: Callable[..., Any], options: argparse.Namespace, shape: show_attend_tell.Shape, num_steps: int
) -> tuple[training.Loss, Any]:
    """The loss and its first state: the rule's, and the number of steps that are done."""
    rule, rule_state = RULES[options.rule](options.reward_weight)
    first, last = options.soft_probability
    if not (0 <= first <= 1 and 0 <= last <= 1):
        raise ValueError(f"--soft-probability must be between 0 and 1, got {first} and {last}.")
    soft_probability = optax.linear_schedule(first, last, num_steps // 2)
    functions = {
        "hard": functools.partial(hard, shape=shape, num_samples=options.samples, rule=rule),
        "soft": functools.partial(show_attend_tell.soft_objective, shape=shape, entropy_weight=options.entropy_weight),
    }

    def loss_fn(params: Params, key: jax.Array, state: Any, images: jax.Array, captions: jax.Array, corners: jax.Array):
        del corners  # for the scores alone
        rule_state, step = state
        chance = jnp.asarray(soft_probability(step))
        batch = tasks.as_numbers(images), captions
        value, rule_state = show_attend_tell.mixed_objective(
            params, key, *batch, rule_state, **functions, soft_probability=chance
        )
        return -value, ((rule_state, step + 1), {})

    return loss_fn, (rule_state, jnp.zeros((), jnp.int32))


def _soft_loss(options: argparse.Namespace, shape: show_attend_tell.Shape, num_steps: int) -> tuple[training.Loss, Any]:
    del num_steps
    soft = functools.partial(show_attend_tell.soft_objective, shape=shape, entropy_weight=options.entropy_weight)
    return _loss_of_mixtures(lambda params, key, image, caption: soft(params, image, caption)), ()


def _relaxed_loss(
    options: argparse.Namespace, shape: show_attend_tell.Shape, num_steps: int
) -> tuple[training.Loss, Any]:
    del num_steps
    relaxed = functools.partial(show_attend_tell.relaxed_objective, shape=shape)
    return _loss_of_mixtures(
        functools.partial(relaxed, num_samples=options.samples, temperature=options.temperature)
    ), ()


def _loss_of_mixtures(objective: Callable[..., jax.Array]) -> training.Loss:
    """The loss by ``objective(params, key, image, caption)``, which is differentiated through its mixed cells."""

    def loss_fn(params: Params, key: jax.Array, state: Any, images: jax.Array, captions: jax.Array, corners: jax.Array):
        del corners  # for the scores alone
        keys = jax.random.split(key, len(images))
        values = jax.vmap(functools.partial(objective, params))(keys, tasks.as_numbers(images), captions)
        return -jnp.mean(values), (state, {})

    return loss_fn


LOSSES = {"hard": _hard_loss, "posterior": _posterior_loss, "relaxed": _relaxed_loss, "soft": _soft_loss}


def _score(
    task: Captioning, attend: show_attend_tell.Attend, params: Params, key: Key, image: jax.Array, *truth: jax.Array
) -> show_attend_tell.Scores:
    return show_attend_tell.evaluate(
        params,
        key,
        tasks.as_numbers(image),
        *truth,
        shape=task.shape,
        num_samples=NUM_TEST_PATHS,
        attend=attend,
        digit_size=task.train.images.shape[1],
    )


def _shown(params: Params, task: Captioning, attend: show_attend_tell.Attend, num_images: int = 12):
    """Test images with the centres of the cells of most weight and the words that were read there, up to the end."""
    shape, images = task.shape, jnp.asarray(task.test.images[:num_images])

    def of_one(image: jax.Array) -> show_attend_tell.Telling:
        num_words = task.test.labels.shape[1]
        return show_attend_tell.read(params, jax.random.key(0), image, shape=shape, num_words=num_words, attend=attend)

    reading = jax.jit(jax.vmap(of_one))(images)
    cells = np.asarray(show_attend_tell.centres(shape))[np.argmax(reading.weights, axis=2)]
    words = [_until(row.tolist(), shape.num_words - 1) for row in np.asarray(reading.words)]
    return np.asarray(images), [row[: len(said)] for row, said in zip(cells, words, strict=True)], words


def _until(words: list[int], end_token: int) -> list[int]:
    return words[: words.index(end_token)] if end_token in words else words
