"""Bernoulli, categorical and product distributions by their logits: draw, log-probability and entropy.

Floor 1. Draws carry no gradient; log-probabilities do, in logits and in values. Bernoulli and one-hot values are
floating-point numbers, so that their log-probabilities extend linearly to the relaxed values between 0 and 1.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxelbo.types import Key

MAX_CONFIGURATIONS = 2**16
"""How many configurations are listed at most, where nobody says otherwise."""

MAX_SET = 10
"""How many draws without replacement are made at most; the work on their probabilities grows as 2^S."""


class Bernoulli(NamedTuple):
    """Independent zeros and ones: ``logits [D]``, the log-odds of one, finite."""

    logits: jax.Array


class Categorical(NamedTuple):
    """One category of K: unnormalised ``logits [K]``; ``-inf`` for what is never drawn, but not in relaxations."""

    logits: jax.Array


class Product(NamedTuple):
    """Independent distributions, one after the other, finite or not."""

    parts: tuple[Any, ...]


class Copies(NamedTuple):
    """Independent distributions of one kind, finite or not, whose arrays are stacked along a leading axis."""

    part: Any


def is_finite(distribution: NamedTuple) -> bool:
    """Whether the support is finite, so that log q is the sum of the score log-probabilities and nothing else."""
    if isinstance(distribution, Product):
        return all(map(is_finite, distribution.parts))
    if isinstance(distribution, Copies):
        return is_finite(distribution.part)
    return isinstance(distribution, Bernoulli | Categorical)


def draw_bernoulli(bernoulli: Bernoulli, key: Key) -> jax.Array:
    """Zeros and ones ``[D]`` in the dtype of the logits."""
    logits = jax.lax.stop_gradient(bernoulli.logits)
    uniform = jax.random.uniform(key, logits.shape, logits.dtype)
    return (uniform < jax.nn.sigmoid(logits)).astype(logits.dtype)


def log_probs_bernoulli(bernoulli: Bernoulli, values: jax.Array) -> jax.Array:
    """Log-probability of each value, ``[D]``; linear in values between 0 and 1."""
    return values * bernoulli.logits - jax.nn.softplus(bernoulli.logits)


def entropy_bernoulli(bernoulli: Bernoulli) -> jax.Array:
    """Entropy in nats."""
    return jnp.sum(jax.nn.softplus(bernoulli.logits) - jax.nn.sigmoid(bernoulli.logits) * bernoulli.logits)


def draw_categorical(categorical: Categorical, key: Key) -> jax.Array:
    """One index, int32."""
    return jax.random.categorical(key, jax.lax.stop_gradient(categorical.logits)).astype(jnp.int32)


def log_probs_categorical(categorical: Categorical) -> jax.Array:
    """Log-probabilities of all categories, ``[K]``."""
    return jax.nn.log_softmax(categorical.logits)


def entropy_categorical(categorical: Categorical) -> jax.Array:
    """Entropy in nats; a category of probability zero adds nothing."""
    log_probs = log_probs_categorical(categorical)
    return -expectation(log_probs, log_probs)


def relaxed_bernoulli(bernoulli: Bernoulli, key: Key, temperature: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Hard values, their relaxation, and a relaxation drawn anew given the hard values, each ``[D]``.

    With z = logits + logistic noise the hard value is [z > 0] and its relaxation sigmoid(z / temperature), both from
    one draw; the third has the same distribution as the second.
    """
    logits = bernoulli.logits
    key_first, key_second = jax.random.split(key)
    tiny = jnp.finfo(logits.dtype).tiny
    first, second = (jax.random.uniform(k, logits.shape, logits.dtype, minval=tiny) for k in (key_first, key_second))
    z = logits + jnp.log(first) - jnp.log1p(-first)
    hard = jax.lax.stop_gradient((z > 0).astype(logits.dtype))
    # Logits plus logistic noise given its sign, of Tucker et al. (2017), without differences of numbers near 1.
    sign = 2 * hard - 1
    given_hard = sign * (jax.nn.softplus(jnp.log(second) + sign * logits) - jnp.log1p(-second))
    return hard, jax.nn.sigmoid(z / temperature), jax.nn.sigmoid(given_hard / temperature)


def relaxed_one_hot(
    categorical: Categorical, key: Key, temperature: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """A one-hot vector, its relaxation, and a relaxation drawn anew given the one-hot vector, each ``[K]``.

    With z = log-probabilities + Gumbel noise the hard value is one-hot at the largest z and its relaxation
    softmax(z / temperature), both from one draw; the third has the same distribution as the second.
    """
    log_probs = log_probs_categorical(categorical)
    key_first, key_second = jax.random.split(key)
    z = log_probs + jax.random.gumbel(key_first, log_probs.shape, log_probs.dtype)
    index = jnp.argmax(z)
    is_top = jnp.arange(log_probs.size) == index
    hard = jax.lax.stop_gradient(is_top.astype(log_probs.dtype))
    # Given the top category its z is a standard Gumbel, the others are Gumbels cut off at it.
    noise = jax.random.gumbel(key_second, log_probs.shape, log_probs.dtype)
    top = jnp.sum(jnp.where(is_top, noise, 0))
    rest = jnp.where(is_top, 0, log_probs + noise)
    cut = -jnp.logaddexp(-rest, -top)
    return hard, jax.nn.softmax(z / temperature), jax.nn.softmax(jnp.where(is_top, top, cut) / temperature)


def expectation(log_probs: jax.Array, values: jax.Array) -> jax.Array:
    """The sum of exp(log_probs) times values, ``[M]`` each; what has probability zero adds nothing."""
    probabilities = jnp.exp(log_probs)
    return jnp.sum(probabilities * _zero_where_impossible(values, jax.lax.stop_gradient(probabilities)))


@jax.custom_jvp
def _zero_where_impossible(values: jax.Array, probabilities: jax.Array) -> jax.Array:
    return jnp.where(probabilities == 0, 0, values)


@_zero_where_impossible.defjvp
def _of_values_alone(arguments: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
    # What comes back is multiplied by the probability, and so is zero there already.
    return _zero_where_impossible(*arguments), tangents[0]
