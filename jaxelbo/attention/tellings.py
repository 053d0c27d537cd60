"""One pass of the decoder of captions, and what is read off it: which words count, their likelihood, entropies.

Attention. A caption ends with the first end token, the last word of the vocabulary; what stands after it does not
count.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Telling(NamedTuple):
    """One pass of the decoder over T words.

    Attributes:
      words: those that were given, or read, ``[T]``.
      log_words: log p(y_t|s_<=t, y_<t, a) of every word, ``[T, words]``, in nats.
      log_policy: log p(s_t = i|s_<t, a) of every cell, ``[T, L]``, in nats.
      log_proposal: what attention used, ``[T, L]``, in nats: the policy, or log q(s_t = i|s_<t, y, a).
      weights: of every cell in the context, ``[T, L]``: one-hot where attention is hard.
      features: the decoder's state before each word, ``[T, units]``: what a baseline may see.
    """

    words: jax.Array
    log_words: jax.Array
    log_policy: jax.Array
    log_proposal: jax.Array
    weights: jax.Array
    features: jax.Array


def counts(caption: jax.Array, end_token: int) -> jax.Array:
    """1 for words up to the first end token, which is one of them, 0 after it, ``[T]``.

    >>> counts(jnp.array([3, 10, 10]), 10)
    Array([1., 1., 0.], dtype=float32)
    """
    is_end = (caption == end_token).astype(jnp.int32)
    return (jnp.cumsum(is_end) - is_end == 0).astype(jnp.float32)


def log_likelihood(told: Telling, caption: jax.Array, end_token: int) -> jax.Array:
    """Log-probability of the words that count, in nats."""
    of_words = jnp.take_along_axis(told.log_words, caption[:, None], axis=1)[:, 0]
    return jnp.sum(counts(caption, end_token) * of_words)


def chosen(weights: jax.Array, log_probs: jax.Array) -> jax.Array:
    """Log-probability of the cell that hard attention took at each word, ``[..., T, L]`` -> ``[..., T]``."""
    return jnp.sum(jnp.where(weights > 0, log_probs, 0), axis=-1)


def entropies(log_policy: jax.Array) -> jax.Array:
    """Entropy of the policy at each word, ``[..., T, L]`` -> ``[..., T]``, in nats."""
    return -jnp.sum(jnp.exp(log_policy) * log_policy, axis=-1)
