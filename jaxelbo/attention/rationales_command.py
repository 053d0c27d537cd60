"""``python -m jaxelbo.attention rationales``: learns which words of a text give its label, scored by humans' marks."""

import argparse
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxelbo import estimators
from jaxelbo.attention import command_options, rationale_bounds, rationales, seeds, text_files, word_vectors
from jaxelbo.attention.rationale_generators import EVERY_WORD, INDEPENDENT, RECURRENT, Generator, Shape
from jaxelbo.attention.rationale_masks import Penalty
from jaxelbo.attention.text_files import Encoded, Text
from jaxelbo.types import Params

GENERATORS = {"independent": INDEPENDENT, "recurrent": RECURRENT, "every-word": EVERY_WORD}
OBJECTIVES = {
    "cost": rationale_bounds.expected_cost,
    "elbo": lambda *arguments, **options: -rationale_bounds.elbo(*arguments, **options),
}
ESTIMATORS = {
    "leave-one-out": estimators.leave_one_out,
    "score-function": estimators.score_function,
    "disarm": estimators.disarm,
    "gumbel-softmax": estimators.gumbel_softmax(0.5),
    "rebar": estimators.rebar(1.0, 0.5),
}
PARTS = {
    "treebank": (text_files.read_treebank, ("train", "dev", "test")),
    "reviews": (text_files.read_reviews, ("train", "val", "test")),
}
VECTOR_LENGTH = 6.0
"""Of a word vector, so that its projection learns as fast as what is learned of single words."""

SCORED_MASKS = 16


class Figures(NamedTuple):
    """A row of the report, of one seed; shares and errors between 0 and 1, bounds and entropy in nats a text.

    ``error`` and ``kept`` are of greedy masks, ``one_path`` and ``drawn`` of drawn ones. ``marked`` is the share of
    kept words that humans marked, ``token_f1`` the harmonic mean of it and of the share of marked words that were kept,
    over the words of whole texts.
    """

    error: float
    one_path: float
    averaged: float
    all_words_error: float
    kept: float
    drawn: float
    marked: float
    token_f1: float
    bound: float
    many_sample_bound: float
    entropy: float


def add_arguments(parser: argparse.ArgumentParser, count: Callable[[str], int]) -> None:
    """The options of the command."""
    parser.add_argument(
        "--data", required=True, help='folder of the texts, or "small" for scikit-learn\'s measurements'
    )
    parser.add_argument("--texts", choices=sorted(PARTS), default="treebank", help="what is in the folder")
    parser.add_argument("--vectors-from", help="folder of movie reviews, read as plain text for the word vectors")
    parser.add_argument("--generator", choices=sorted(GENERATORS), default="independent", help="how words are chosen")
    parser.add_argument("--objective", choices=sorted(OBJECTIVES), default="cost", help="the paper's, or variational")
    parser.add_argument("--estimator", choices=sorted(ESTIMATORS), default="leave-one-out", help="of the gradient")
    parser.add_argument("--sparsity", type=float, default=0.017, help="cost of a kept word in nats")
    parser.add_argument("--coherence", type=float, default=0.0, help="cost of a change between kept and not, in nats")
    parser.add_argument("--samples", type=count, default=8, help="masks a text")
    parser.add_argument("--length", type=count, default=40, help="words that are seen of a text")
    parser.add_argument("--features", type=count, default=64, help="numbers that describe a word")
    parser.add_argument("--dimensions", type=count, default=200, help="of the word vectors")
    parser.add_argument("--feature-dropout", type=float, default=0.5, help="share of features hidden in training")
    parser.add_argument("--word-dropout", type=float, default=0.2, help="share of kept words hidden in training")
    parser.add_argument("--weight-decay", type=float, default=0.3, help="of Adam, decoupled")
    command_options.add_training(parser, count, epochs=9, batch_size=64, learning_rate=3e-3, output="rationales")


def run(options: argparse.Namespace) -> None:
    """Trains every seed, or resumes it, and reports on the texts for selection and for the test."""
    from rich.console import Console

    from jaxelbo.attention import pictures, reports

    console = Console()
    parts = _read(options)
    train, *scored = parts
    plain = text_files.read_reviews(options.vectors_from, "train") if options.vectors_from else []
    numbers = text_files.vocabulary([*train, *plain], min_count=2)
    vectors = jnp.asarray(
        VECTOR_LENGTH * word_vectors.word_vectors([*train, *plain], numbers, num_dimensions=options.dimensions)
    )
    encoded = [text_files.encode(texts, numbers, length=options.length) for texts in parts]
    shape, generator = Shape(options.length, options.features), GENERATORS[options.generator]
    evaluate = functools.partial(rationales.evaluate, shape=shape, generator=generator, num_samples=SCORED_MASKS)
    experiment = _experiment(options, encoded[0], shape, generator, vectors, evaluate)

    rows, masks = ([], []), np.zeros((0, options.length), bool)
    for seed, params in seeds.train_seeds(options, experiment):
        for row, texts, arrays in zip(rows, scored, encoded[1:], strict=True):
            figures, masks = _score(params, texts, arrays, evaluate, vectors, seed)
            row.append(list(figures))
    for row, words in zip(rows, ("to select with", "test"), strict=True):
        console.print(reports.table(Figures._fields, row, f"{words}, {options.texts}"))
    step = max(1, len(masks) // 24)  # texts often stand in the order of their labels
    picture = options.output / f"words-{options.texts}.png"
    pictures.draw_rationales(picture, scored[1][::step], masks[::step])
    console.print(f"picture: {picture}", highlight=False)


def _read(options: argparse.Namespace) -> list[list[Text]]:
    """Texts to train on, to select with, to test on."""
    if options.data == "small":
        return list(text_files.small_texts())
    read, names = PARTS[options.texts]
    return [read(options.data, name) for name in names]


def _experiment(
    options: argparse.Namespace,
    train: Encoded,
    shape: Shape,
    generator: Generator,
    vectors: jax.Array,
    evaluate: Callable[..., rationales.Scores],
) -> seeds.Experiment:
    size = len(train.labels)
    batch_size = min(options.batch_size, size)
    rate = optax.cosine_decay_schedule(options.learning_rate, options.epochs * (size // batch_size))
    objective = functools.partial(
        OBJECTIVES[options.objective],
        shape=shape,
        generator=generator,
        penalty=Penalty(options.sparsity, options.coherence),
        num_samples=options.samples,
        estimator=ESTIMATORS[options.estimator],
        feature_dropout=options.feature_dropout,
        word_dropout=options.word_dropout,
    )

    def loss_fn(params: Params, key: jax.Array, state: Any, words: jax.Array, labels: jax.Array):
        keys = jax.random.split(key, len(labels))
        losses = jax.vmap(objective, (None, 0, None, 0, 0))(params, keys, vectors, words, labels)
        return jnp.mean(losses), (state, {})

    sizes = {"num_words": vectors.shape[0], "num_dimensions": vectors.shape[1]}
    return seeds.Experiment(
        init=functools.partial(rationales.init, shape=shape, generator=generator, **sizes),
        optimizer=optax.adamw(rate, weight_decay=options.weight_decay),
        loss_fn=loss_fn,
        rule_state=(),
        epoch=lambda seed, epoch: (train.words, train.labels),
        batch_size=batch_size,
        score=seeds.sum_of_chunk(lambda params, key, *text: evaluate(params, key, vectors, *text)),
        watched=("bound", "entropy", "error"),
        name=f"{options.texts}-{options.generator}",
    )


def _score(
    params: Params,
    texts: Sequence[Text],
    arrays: Encoded,
    evaluate: Callable[..., rationales.Scores],
    vectors: jax.Array,
    seed: int,
) -> tuple[Figures, np.ndarray]:
    """The figures of one seed, and the masks."""
    keys = jax.random.split(seeds.test_key(seed), len(texts))
    scores = jax.jit(jax.vmap(evaluate, (None, 0, None, 0, 0)))(params, keys, vectors, arrays.words, arrays.labels)
    masks = np.asarray(scores.mask) > 0.5
    num_right, num_kept = (masks & arrays.is_marked).sum(), masks.sum()
    num_marked = sum(int(text.is_marked.sum()) for text in texts)
    means = {name: float(jnp.mean(getattr(scores, name))) for name in Figures._fields if hasattr(scores, name)}
    return (
        Figures(
            kept=float(num_kept / arrays.lengths.sum()),
            drawn=float(jnp.sum(scores.num_drawn) / arrays.lengths.sum()),
            marked=float(num_right / max(num_kept, 1)),
            token_f1=float(2 * num_right / max(num_kept + num_marked, 1)),
            **means,
        ),
        masks,
    )
