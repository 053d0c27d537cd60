"""How captions fare on test images: words, cells, and bounds side by side.

Attention. For one image; the caller vmaps.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxelbo import bounds, checks
from jaxelbo.attention import tellings
from jaxelbo.attention.caption_network import Shape, centres, check_caption, read, tell
from jaxelbo.attention.cell_choices import Attend, drawn_cell
from jaxelbo.types import Key, Params


class Scores(NamedTuple):
    """How one test image fares, to be averaged; a small gap alone says nothing, so bounds and entropy stand together.

    Attributes:
      sequence_error: whether any word read is wrong, end token included; each word is the likeliest after those read.
      one_path: share of readings along drawn cells in which any word is wrong.
      averaged: whether any word is wrong when each is read from probabilities averaged over those readings.
      on_target: share of the digits whose word is read at a cell (of most weight) with its centre on that digit.
      log_likelihood: log p(y|z, a) of the caption under the same attention, in nats.
      bound: F, the mean of log p(y|s, a) over drawn paths, in nats.
      many_sample_bound: log of the mean of p(y|s, a) over the paths, in nats; between F and log p(y|a) in expectation.
      entropy: of the policy, mean over the words of drawn paths, in nats.
    """

    sequence_error: jax.Array
    one_path: jax.Array
    averaged: jax.Array
    on_target: jax.Array
    log_likelihood: jax.Array
    bound: jax.Array
    many_sample_bound: jax.Array
    entropy: jax.Array


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
    >>> from jaxelbo.attention.caption_network import init
    >>> from jaxelbo.attention.cell_choices import likeliest_cell
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
    key_tell, key_read, key_paths, key_by_attend = jax.random.split(key, 4)
    keys = jax.random.split(key_tell, checks.check_count(num_samples, "num_samples"))
    end_token = shape.num_words - 1
    told = jax.vmap(lambda key: tell(params, key, image, caption, shape=shape, attend=drawn_cell))(keys)
    values = jax.vmap(lambda one: tellings.log_likelihood(one, caption, end_token))(told)

    def read_by(key: Key, attend: Attend) -> tellings.Telling:
        return read(params, key, image, shape=shape, num_words=len(caption), attend=attend)

    reading = read_by(key_read, attend)
    along_paths = jax.vmap(lambda key: read_by(key, drawn_cell))(jax.random.split(key_paths, num_samples))
    averaged = jnp.argmax(jax.nn.logsumexp(along_paths.log_words, axis=0), axis=1)
    counts, is_digit = tellings.counts(caption, end_token), (caption != end_token)[: len(corners)]

    def is_wrong(words: jax.Array) -> jax.Array:
        return jnp.any((counts > 0) & (words != caption)).astype(jnp.float32)

    offsets = centres(shape)[jnp.argmax(reading.weights, axis=1)][: len(corners)] - corners
    is_on = is_digit & jnp.all((offsets >= 0) & (offsets < digit_size), axis=1)
    by_attend = tell(params, key_by_attend, image, caption, shape=shape, attend=attend)
    return Scores(
        sequence_error=is_wrong(reading.words),
        one_path=jnp.mean(jax.vmap(is_wrong)(along_paths.words)),
        averaged=is_wrong(averaged),
        on_target=jnp.sum(is_on) / jnp.maximum(jnp.sum(is_digit), 1),
        log_likelihood=tellings.log_likelihood(by_attend, caption, end_token),
        bound=bounds.mean(values),
        many_sample_bound=bounds.importance_weighted(values),
        entropy=jnp.mean(tellings.entropies(told.log_policy) @ counts) / jnp.sum(counts),
    )
