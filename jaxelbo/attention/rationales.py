"""Rationales: a generator chooses a few words of a text, an encoder reads the label from those words alone.

Attention. The mask z over words is the latent, drawn from the generator's p(z|x): every word by itself, or one after
the other. What is raised or lowered stands in `rationale_bounds`. For one text; the caller vmaps.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxelbo import bounds, checks
from jaxelbo.attention import layers
from jaxelbo.attention.rationale_generators import Generator, Shape, check_shape
from jaxelbo.attention.text_files import PADDING
from jaxelbo.types import Key, Params


class Scores(NamedTuple):
    """How one test text fares, to be averaged but for the mask.

    Attributes:
      error: whether the label read from the greedy mask is wrong.
      one_path: share of drawn masks from which it is read wrong.
      averaged: whether it is wrong when read from probabilities averaged over drawn masks.
      all_words_error: whether it is wrong when the same encoder sees every word.
      bound: the mean of log p(y|z, x) over drawn masks, in nats.
      many_sample_bound: log of the mean of p(y|z, x), in nats.
      entropy: of the generator, in nats, estimated by the drawn masks.
      num_kept: words that the greedy mask keeps.
      num_drawn: words that drawn masks keep, their mean.
      mask: the greedy mask, ``[T]``.
    """

    error: jax.Array
    one_path: jax.Array
    averaged: jax.Array
    all_words_error: jax.Array
    bound: jax.Array
    many_sample_bound: jax.Array
    entropy: jax.Array
    num_kept: jax.Array
    num_drawn: jax.Array
    mask: jax.Array


def init(key: Key, shape: Shape, generator: Generator, *, num_words: int, num_dimensions: int) -> Params:
    """Parameters of generator and encoder; features start as a projection of the word vectors.

    Args:
      key: one random key.
      shape: sizes of the system.
      generator: `INDEPENDENT` or `RECURRENT`, or the caller's.
      num_words: V, rows of the table of word vectors.
      num_dimensions: D, its columns.

    Returns:
      ``{"words": [V, F], "project": ..., "select": ..., "classify": ...}``, float32.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Lei, Barzilay, Jaakkola (2016), *Rationalizing Neural Predictions*.

    >>> import jax
    >>> from jaxelbo.attention.rationale_generators import INDEPENDENT
    >>> sorted(init(jax.random.key(0), Shape(length=5), INDEPENDENT, num_words=9, num_dimensions=3))
    ['classify', 'project', 'select', 'words']
    """
    check_shape(shape)
    checks.check_key(key)
    key_project, key_select, key_classify = jax.random.split(key, 3)
    return {
        "words": jnp.zeros((checks.check_count(num_words, "num_words"), shape.num_features), jnp.float32),
        "project": layers.dense_init(key_project, num_dimensions, shape.num_features),
        "select": generator.init(key_select, shape),
        "classify": layers.dense_init(key_classify, shape.num_features, shape.num_classes),
    }


def features(params: Params, vectors: jax.Array, words: jax.Array) -> jax.Array:
    """What is known of each word: its vector, projected, and what was learned of that word alone.

    Args:
      params: of `init`.
      vectors: ``[V, D]``, such as of `word_vectors`.
      words: ``[T]`` integers below V.

    Returns:
      ``[T, F]``.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Lei, Barzilay, Jaakkola (2016), *Rationalizing Neural Predictions*.

    >>> import jax, jax.numpy as jnp
    >>> from jaxelbo.attention.rationale_generators import INDEPENDENT
    >>> params = init(jax.random.key(0), Shape(length=5), INDEPENDENT, num_words=9, num_dimensions=3)
    >>> features(params, jnp.ones((9, 3)), jnp.array([2, 3, 4, 0, 0])).shape
    (5, 64)
    """
    checks.check_floating(vectors, "vectors", ("V", "D"))
    if vectors.shape[0] != params["words"].shape[0]:
        raise ValueError(f"vectors must have {params['words'].shape[0]} rows, as params, got shape {vectors.shape}.")
    if getattr(words, "ndim", None) != 1 or not jnp.issubdtype(words.dtype, jnp.integer):
        raise TypeError(f"words must be integers [T], got {checks.describe(words)}; vmap over texts.")
    return layers.dense(params["project"], vectors[words]) + params["words"][words]


def log_classes(params: Params, features: jax.Array, mask: jax.Array) -> jax.Array:
    """The encoder: log p(y|z, x) of every label from the kept words, their features summed.

    Args:
      params: of `init`.
      features: ``[T, F]``.
      mask: ``[T]``, 1 where a word is kept; may lie between, for relaxed masks.

    Returns:
      ``[labels]``, in nats.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Lei, Barzilay, Jaakkola (2016), *Rationalizing Neural Predictions*.

    >>> import jax, jax.numpy as jnp
    >>> from jaxelbo.attention.rationale_generators import INDEPENDENT
    >>> params = init(jax.random.key(0), Shape(length=5), INDEPENDENT, num_words=9, num_dimensions=3)
    >>> log_classes(params, jnp.ones((5, 64)), jnp.zeros(5))  # nothing kept, nothing known
    Array([-0.6931472, -0.6931472], dtype=float32)
    """
    checks.check_floating(mask, "mask", ("T",))
    checks.check_floating(features, "features", ("T", "F"))
    kept = mask @ features / jnp.sqrt(1 + jnp.sum(mask))
    return jax.nn.log_softmax(layers.dense(params["classify"], kept))


class Given(NamedTuple):
    """One text and its label, as the bounds see them.

    Attributes:
      policy: params of the generator's family.
      is_word: ``[T]`` bool.
      log_likelihood: mask ``[T]`` -> log p(y|z, x), in nats.
    """

    policy: Params
    is_word: jax.Array
    log_likelihood: Callable[[jax.Array], jax.Array]


def given(
    params: Params,
    key: Key,
    vectors: jax.Array,
    words: jax.Array,
    label: jax.Array,
    *,
    shape: Shape,
    generator: Generator,
    feature_dropout: float = 0.0,
    word_dropout: float = 0.0,
) -> Given:
    """Policy and likelihood of one text.

    Args:
      params: of `init`.
      key: one random key, for dropout.
      vectors: ``[V, D]``, held fixed.
      words: ``[T]`` integers, `PADDING` behind the text.
      label: integer scalar.
      shape: sizes of the system.
      generator: the policy over masks.
      feature_dropout: share of features that are hidden from either network.
      word_dropout: share of words that are hidden from the encoder though kept.

    Returns:
      `Given`.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Lei, Barzilay, Jaakkola (2016), *Rationalizing Neural Predictions*.

    >>> import jax, jax.numpy as jnp
    >>> from jaxelbo.attention.rationale_generators import INDEPENDENT
    >>> shape = Shape(length=5)
    >>> params = init(jax.random.key(0), shape, INDEPENDENT, num_words=9, num_dimensions=3)
    >>> arguments = params, jax.random.key(1), jnp.ones((9, 3)), jnp.array([2, 3, 4, 0, 0]), 1
    >>> given(*arguments, shape=shape, generator=INDEPENDENT).is_word
    Array([ True,  True,  True, False, False], dtype=bool)
    """
    checks.check_key(key)
    check_shape(shape)
    checks.check_label(label, shape.num_classes)
    known = features(params, jax.lax.stop_gradient(vectors), words)
    if words.shape != (shape.length,):
        raise ValueError(f"words must have shape ({shape.length},), shape.length, got {words.shape}.")
    keys, is_word = jax.random.split(key, 3), words != PADDING
    _check_rate(feature_dropout, "feature_dropout")
    _check_rate(word_dropout, "word_dropout")
    policy = generator.policy(params["select"], _drop(keys[0], known, known.shape, feature_dropout), is_word)
    read = _drop(keys[1], known, known.shape, feature_dropout)
    read = _drop(keys[2], read, (shape.length, 1), word_dropout)
    return Given(policy, is_word, lambda mask: log_classes(params, read, mask)[label])


def evaluate(
    params: Params,
    key: Key,
    vectors: jax.Array,
    words: jax.Array,
    label: jax.Array,
    *,
    shape: Shape,
    generator: Generator,
    num_samples: int,
) -> Scores:
    """Error, bounds and mask of one text.

    Args:
      params: of `init`.
      key: one random key, not of the training's.
      vectors: ``[V, D]``.
      words: ``[T]`` integers, `PADDING` behind the text.
      label: integer scalar.
      shape: sizes of the system.
      generator: the policy over masks.
      num_samples: S masks, static.

    Returns:
      `Scores`.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Lei, Barzilay, Jaakkola (2016), *Rationalizing Neural Predictions*.

    >>> import jax, jax.numpy as jnp
    >>> from jaxelbo.attention.rationale_generators import INDEPENDENT
    >>> shape = Shape(length=5)
    >>> params = init(jax.random.key(0), shape, INDEPENDENT, num_words=9, num_dimensions=3)
    >>> arguments = params, jax.random.key(1), jnp.ones((9, 3)), jnp.array([2, 3, 4, 0, 0]), 1
    >>> evaluate(*arguments, shape=shape, generator=INDEPENDENT, num_samples=4).mask.shape
    (5,)
    """
    checks.check_key(key)
    policy, is_word, _ = given(params, key, vectors, words, label, shape=shape, generator=generator)
    family, known = generator.family(shape), features(params, vectors, words)
    keys = jax.random.split(key, checks.check_count(num_samples, "num_samples"))
    masks, log_probs = jax.vmap(family.sample_and_log_prob, (None, 0))(policy, keys)
    read = jax.vmap(lambda mask: log_classes(params, known, mask))
    drawn, mask = read(masks), generator.mode(policy)
    log_likelihoods = drawn[:, label]

    def is_wrong(log_classes: jax.Array) -> jax.Array:
        return (jnp.argmax(log_classes, axis=-1) != label).astype(jnp.float32)

    error, all_words_error = is_wrong(read(jnp.stack([mask, is_word.astype(mask.dtype)])))
    return Scores(
        error=error,
        one_path=jnp.mean(is_wrong(drawn)),
        averaged=is_wrong(jax.nn.logsumexp(drawn, axis=0)),
        all_words_error=all_words_error,
        bound=bounds.mean(log_likelihoods),
        many_sample_bound=bounds.importance_weighted(log_likelihoods),
        entropy=-jnp.mean(log_probs),
        num_kept=jnp.sum(mask),
        num_drawn=jnp.mean(jnp.sum(masks, axis=1)),
        mask=mask,
    )


def _drop(key: Key, x: jax.Array, noise_shape: tuple[int, ...], rate: float) -> jax.Array:
    """Sets entries to zero and raises the others, so that the mean stays."""
    if isinstance(rate, int | float) and rate == 0:
        return x
    return x * jax.random.bernoulli(key, 1 - rate, noise_shape).astype(x.dtype) / (1 - rate)


def _check_rate(rate: jax.Array | float, name: str) -> None:
    checks.check_real(rate, name)
    if not checks.is_traced(rate) and not 0 <= rate < 1:
        raise ValueError(f"{name} must be at least 0 and below 1, got {rate}.")
