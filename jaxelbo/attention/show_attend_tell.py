"""Show, Attend and Tell: image captions by hard attention, and by soft attention beside it.

Attention. The network is `caption_network`. A path s = (s_1..s_T) names one cell a word; log p(y|s, a) is the sum of
log p(y_t|s_<=t, y_<t, a) over the words of the caption, its end token included. A caption ends with the first end
token, the last word of the vocabulary; what stands after it does not count. For one image; the caller vmaps.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxelbo import bounds, checks
from jaxelbo.attention.caption_network import (
    Attend,
    Shape,
    Telling,
    all_cells,
    centres,
    check_caption,
    drawn_cell,
    init,
    likeliest_cell,
    read,
    tell,
)
from jaxelbo.attention.learning_rules import LearningRule, Paths
from jaxelbo.types import Key, Params

__all__ = [
    "Attend", "Scores", "Shape", "Telling", "all_cells", "centres", "drawn_cell", "evaluate", "init", "likeliest_cell",
    "mixed_objective", "objective", "read", "soft_objective", "tell",
]  # fmt: skip


class Scores(NamedTuple):
    """How one test image fares, to be averaged; a small gap alone says nothing, so bounds and entropy stand together.

    Attributes:
      sequence_error: whether any word read is wrong, end token included; each word is the likeliest after those read.
      on_target: share of the digits whose word is read at a cell (of most weight) with its centre on that digit.
      log_likelihood: log p(y|z, a) of the caption under the same attention, in nats.
      bound: F, the mean of log p(y|s, a) over drawn paths, in nats.
      many_sample_bound: log of the mean of p(y|s, a) over the paths, in nats; between F and log p(y|a) in expectation.
      entropy: of the policy, mean over the words of drawn paths, in nats.
    """

    sequence_error: jax.Array
    on_target: jax.Array
    log_likelihood: jax.Array
    bound: jax.Array
    many_sample_bound: jax.Array
    entropy: jax.Array


def objective(
    params: Params,
    key: Key,
    image: jax.Array,
    caption: jax.Array,
    *,
    shape: Shape,
    num_samples: int,
    rule: LearningRule,
    state: Any = (),
    entropy_weight: jax.Array | float = 0.0,
) -> tuple[jax.Array, Any]:
    """The bound F of one captioned image by S paths of hard attention, with the gradient of a learning rule.

    To be raised. Estimand: F = E[log p(y|s, a)] <= log p(y|a), or what the rule says. With an entropy weight lambda it
    is F + lambda H[s], another objective, no longer a bound on log p(y|a): each path's log p(y|s, a) has lambda times
    the sum of the policy's entropies at its words beside it, so that a rule that is unbiased for F is unbiased for the
    sum as well; in a many-sample bound they stand within the logarithm. (The authors' code follows each word's entropy
    alone, without what it owes to the cells before it.)
    Rewards are the number of words from each step on that would be read right.

    Args:
      params: of `init`.
      key: one random key.
      image: ``[H, W]``, between 0 and 1.
      caption: ``[T]`` integers.
      shape: sizes of the system.
      num_samples: S, static.
      rule: of `learning_rules`; a learned baseline sees zeros after the end of the caption.
      state: the rule's, where it has one.
      entropy_weight: lambda, in nats a nat.

    Returns:
      Scalar, in nats, and the rule's next state.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Xu, Ba, Kiros, Cho, Courville, Salakhudinov, Zemel, Bengio (2015), *Show, Attend and Tell*.

    >>> import jax, jax.numpy as jnp
    >>> from jaxelbo.attention import learning_rules
    >>> shape, caption = Shape(height=40, width=112), jnp.array([3, 1, 10, 10])
    >>> arguments = init(jax.random.key(0), shape), jax.random.key(1), jnp.zeros((40, 112)), caption
    >>> value, state = objective(*arguments, shape=shape, num_samples=1, rule=learning_rules.score_function)
    >>> bool(value < 0)
    True
    """
    checks.check_real(entropy_weight, "entropy_weight")
    keys = jax.random.split(key, checks.check_count(num_samples, "num_samples"))
    told = jax.vmap(lambda key: tell(params, key, image, caption, shape=shape, attend=drawn_cell))(keys)
    counts = _counts(caption, shape)[None]
    scores = counts * jnp.sum(jnp.where(told.weights > 0, told.log_policy, 0), axis=2)
    is_right = counts * (jnp.argmax(told.log_words, axis=2) == caption[None])
    rewards = jnp.flip(jnp.cumsum(jnp.flip(is_right, axis=1), axis=1), axis=1)
    values = jax.vmap(lambda one: _log_likelihood(one, caption, shape))(told)
    values = values + entropy_weight * jnp.sum(counts * _entropies(told.log_policy), axis=1)
    return rule(Paths(values, scores, rewards, counts[:, :, None] * told.features), params["baseline"], state)


def soft_objective(
    params: Params,
    image: jax.Array,
    caption: jax.Array,
    *,
    shape: Shape,
    entropy_weight: jax.Array | float = 0.0,
) -> jax.Array:
    """Soft attention: log p(y|E[z], a), where the context is the mean annotation under the policy; to be raised.

    Deterministic and differentiable, and neither F nor a bound on log p(y|a): another model of the same networks.

    Args:
      params: of `init`.
      image: ``[H, W]``, between 0 and 1.
      caption: ``[T]`` integers.
      shape: sizes of the system.
      entropy_weight: lambda, of the sum of the policy's entropies at the words, in nats a nat.

    Returns:
      Scalar, in nats.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Bahdanau, Cho, Bengio (2015), *Neural Machine Translation by Jointly Learning to Align and Translate*;
      Xu, Ba, Kiros, Cho, Courville, Salakhudinov, Zemel, Bengio (2015), *Show, Attend and Tell*.

    >>> import jax, jax.numpy as jnp
    >>> shape, caption = Shape(height=40, width=112), jnp.array([3, 1, 10, 10])
    >>> bool(soft_objective(init(jax.random.key(0), shape), jnp.zeros((40, 112)), caption, shape=shape) < 0)
    True
    """
    checks.check_real(entropy_weight, "entropy_weight")
    told = tell(params, _no_noise(), image, caption, shape=shape, attend=all_cells)
    entropy = jnp.sum(_counts(caption, shape) * _entropies(told.log_policy))
    return _log_likelihood(told, caption, shape) + entropy_weight * entropy


def mixed_objective(
    params: Params,
    key: Key,
    images: jax.Array,
    captions: jax.Array,
    state: Any,
    *,
    hard: Callable[..., tuple[jax.Array, Any]],
    soft: Callable[..., jax.Array],
    soft_probability: jax.Array | float,
) -> tuple[jax.Array, Any]:
    """The published mean step: with some probability a whole minibatch sees the mean of each cell for its draw.

    To be raised. The coin falls once for the minibatch, as in the authors' code. In a soft step there is no draw and so
    no score term, and the rule's state stays as it is. The estimand is (1 - probability) times that of ``hard`` plus
    probability times that of ``soft``: another objective than the bound F unless the probability is 0.

    Args:
      params: of `init`.
      key: one random key.
      images: ``[B, H, W]``, between 0 and 1.
      captions: ``[B, T]`` integers.
      state: the rule's; the states that come back from the images of a hard step are averaged.
      hard: ``(params, key, image, caption, state=state) -> (value, state)``, `objective` with its options.
      soft: ``(params, image, caption) -> value``, `soft_objective` with its options.
      soft_probability: between 0 and 1; the paper has 1/2.

    Returns:
      Scalar, mean over the minibatch in nats, and the rule's next state.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Xu, Ba, Kiros, Cho, Courville, Salakhudinov, Zemel, Bengio (2015), *Show, Attend and Tell*.

    >>> import functools, jax, jax.numpy as jnp
    >>> from jaxelbo.attention import learning_rules
    >>> shape = Shape(height=40, width=112)
    >>> batch = jnp.zeros((2, 40, 112)), jnp.full((2, 3), 10)
    >>> hard = functools.partial(objective, shape=shape, num_samples=1, rule=learning_rules.score_function)
    >>> options = {"hard": hard, "soft": functools.partial(soft_objective, shape=shape), "soft_probability": 0.5}
    >>> value, state = mixed_objective(init(jax.random.key(0), shape), jax.random.key(1), *batch, (), **options)
    >>> bool(value < 0)
    True
    """
    checks.check_key(key)
    checks.check_callable(hard, "hard")
    checks.check_callable(soft, "soft")
    checks.check_real(soft_probability, "soft_probability")
    checks.check_floating(images, "images", ("B", "H", "W"))
    if jnp.ndim(captions) != 2 or len(captions) != len(images):
        raise ValueError(f"captions must have shape ({len(images)}, T), one an image, got {jnp.shape(captions)}.")
    if not checks.is_traced(soft_probability) and not 0 <= soft_probability <= 1:
        raise ValueError(f"soft_probability must be between 0 and 1, got {soft_probability}.")
    key_coin, key_draws = jax.random.split(key)

    def soft_step(params: Params) -> tuple[jax.Array, Any]:
        return jnp.mean(jax.vmap(lambda image, caption: soft(params, image, caption))(images, captions)), state

    def hard_step(params: Params) -> tuple[jax.Array, Any]:
        of_one = lambda key, image, caption: hard(params, key, image, caption, state=state)  # noqa: E731
        values, states = jax.vmap(of_one)(jax.random.split(key_draws, len(images)), images, captions)
        return jnp.mean(values), jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), states)

    return jax.lax.cond(jax.random.bernoulli(key_coin, soft_probability), soft_step, hard_step, params)


def evaluate(
    params: Params,
    key: Key,
    image: jax.Array,
    caption: jax.Array,
    corners: jax.Array,
    *,
    shape: Shape,
    num_samples: int,
    attend: Attend,
    digit_size: int,
) -> Scores:
    """What is read in one image and where, and its bounds on S paths.

    Args:
      params: of `init`.
      key: one random key, not of the training's.
      image: ``[H, W]``, between 0 and 1.
      caption: ``[T]`` integers: digits, then end tokens.
      corners: ``[D, 2]``: top left corners of the first D words' digits, down and across in pixels.
      shape: sizes of the system.
      num_samples: S, static.
      attend: how the policy is used for reading: `likeliest_cell` or `all_cells`.
      digit_size: side of a digit in pixels, static.

    Returns:
      `Scores`, scalars.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Xu, Ba, Kiros, Cho, Courville, Salakhudinov, Zemel, Bengio (2015), *Show, Attend and Tell*.

    >>> import jax, jax.numpy as jnp
    >>> shape, image = Shape(height=40, width=112), jnp.zeros((40, 112))
    >>> caption, corners = jnp.array([3, 1, 10, 10]), jnp.array([[0, 0], [9, 50], [-1, -1]])
    >>> arguments = init(jax.random.key(0), shape), jax.random.key(1), image, caption, corners
    >>> scores = evaluate(*arguments, shape=shape, num_samples=10, attend=likeliest_cell, digit_size=28)
    >>> bool(scores.bound <= scores.many_sample_bound)
    True
    """
    digit_size = checks.check_count(digit_size, "digit_size")
    check_caption(caption, shape.num_words)
    if jnp.ndim(corners) != 2 or corners.shape[1] != 2 or len(corners) > len(caption):
        raise ValueError(f"corners must have shape [D, 2], one for each of the first words, got {jnp.shape(corners)}.")
    keys = jax.random.split(key, checks.check_count(num_samples, "num_samples"))
    told = jax.vmap(lambda key: tell(params, key, image, caption, shape=shape, attend=drawn_cell))(keys)
    values = jax.vmap(lambda one: _log_likelihood(one, caption, shape))(told)
    reading = read(params, keys[0], image, shape=shape, num_words=len(caption), attend=attend)
    counts, is_digit = _counts(caption, shape), (caption != shape.num_words - 1)[: len(corners)]
    offsets = centres(shape)[jnp.argmax(reading.weights, axis=1)][: len(corners)] - corners
    is_on = is_digit & jnp.all((offsets >= 0) & (offsets < digit_size), axis=1)
    return Scores(
        sequence_error=jnp.any((counts > 0) & (reading.words != caption)).astype(jnp.float32),
        on_target=jnp.sum(is_on) / jnp.maximum(jnp.sum(is_digit), 1),
        log_likelihood=_log_likelihood(
            tell(params, keys[0], image, caption, shape=shape, attend=attend), caption, shape
        ),
        bound=bounds.mean(values),
        many_sample_bound=bounds.importance_weighted(values),
        entropy=jnp.mean(_entropies(told.log_policy) @ counts) / jnp.sum(counts),
    )


def _counts(caption: jax.Array, shape: Shape) -> jax.Array:
    """1 for words up to the first end token, which is one of them, 0 after it."""
    is_end = (caption == shape.num_words - 1).astype(jnp.int32)
    return (jnp.cumsum(is_end) - is_end == 0).astype(jnp.float32)


def _log_likelihood(told: Telling, caption: jax.Array, shape: Shape) -> jax.Array:
    of_words = jnp.take_along_axis(told.log_words, caption[:, None], axis=1)[:, 0]
    return jnp.sum(_counts(caption, shape) * of_words)


def _entropies(log_policy: jax.Array) -> jax.Array:
    return -jnp.sum(jnp.exp(log_policy) * log_policy, axis=-1)


def _no_noise() -> Key:
    """For an attention that draws nothing."""
    return jax.random.key(0)
