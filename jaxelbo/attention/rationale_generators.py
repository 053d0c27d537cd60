"""Policies over masks of words: every word by itself, or one after the other, knowing what was kept before.

Attention. A generator is a record of pure functions around a family of the toolkit, so that everything that is known of
the family (its enumeration, its relaxation, its estimators) holds for it.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxelbo import checks, families
from jaxelbo.attention import layers
from jaxelbo.types import Family, Key, Params

_NEVER = -30.0
"""Logit of padding: kept with probability 1e-13."""


class Shape(NamedTuple):
    """Sizes of a rationale system, static.

    Attributes:
      length: T, words that are seen of a text.
      num_features: F, what is known of a word.
      num_units: hidden units of the generator.
      num_classes: number of labels.
    """

    length: int
    num_features: int = 64
    num_units: int = 64
    num_classes: int = 2


class Generator(NamedTuple):
    """A policy p(z|x) over masks.

    Attributes:
      init: ``(key, shape) -> params``.
      family: ``shape -> Family`` over ``[T]``.
      policy: ``(params, features [T, F], is_word [T]) -> params of that family``.
      mode: ``params of that family -> [T]``: the mask of greedy choices.
    """

    init: Callable[[Key, Shape], Params]
    family: Callable[[Shape], Family]
    policy: Callable[[Params, jax.Array, jax.Array], Params]
    mode: Callable[[Params], jax.Array]


def check_shape(shape: Shape) -> None:
    """Requires the sizes of a rationale system, all counts."""
    if not isinstance(shape, Shape):
        raise TypeError(f"shape must be a rationale_generators.Shape, got {checks.describe(shape)}.")
    for name, value in shape._asdict().items():
        checks.check_count(value, f"shape.{name}")


def _init_independent(key: Key, shape: Shape) -> Params:
    return _init(key, shape, shape.num_features)


def _logits(params: Params, features: jax.Array, is_word: jax.Array) -> Params:
    logits = layers.dense(params["output"], jax.nn.relu(layers.dense(params["hidden"], features)))[:, 0]
    return {"logits": jnp.where(is_word, logits, _NEVER)}


INDEPENDENT = Generator(
    init=_init_independent,
    family=lambda shape: families.bernoulli(jnp.zeros(shape.length)),
    policy=_logits,
    mode=lambda policy: (policy["logits"] > 0).astype(policy["logits"].dtype),
)
"""p(z|x) = prod_t p(z_t|x). Lei, Barzilay, Jaakkola (2016), *Rationalizing Neural Predictions*."""


EVERY_WORD = Generator(
    init=lambda key, shape: {},
    family=INDEPENDENT.family,
    policy=lambda params, features, is_word: {"logits": jnp.where(is_word, -_NEVER, _NEVER)},
    mode=INDEPENDENT.mode,
)
"""Keeps all words and learns nothing: the encoder alone, to compare with."""


def _init_recurrent(key: Key, shape: Shape) -> Params:
    return _init(key, shape, shape.num_features + shape.num_units + 1)


def _chain(shape: Shape) -> Family:
    def init_fn(key: Key) -> Params:
        features, is_word = jnp.zeros((shape.length, shape.num_features)), jnp.zeros(shape.length, bool)
        return _follow(_init_recurrent(key, shape), features, is_word)

    return families.sequential(families.bernoulli(0.0), _advance, _begin, init_fn, num_steps=shape.length)


def _follow(params: Params, features: jax.Array, is_word: jax.Array) -> Params:
    return {"networks": params, "features": features, "ceiling": jnp.where(is_word, jnp.inf, _NEVER)}


def _begin(policy: Params) -> tuple[jax.Array, jax.Array]:
    units = policy["networks"]["output"]["weight"].shape[0]
    return jnp.zeros((), jnp.int32), jnp.zeros(units, policy["features"].dtype)


def _advance(policy: Params, carry: tuple[jax.Array, jax.Array], previous: jax.Array) -> tuple[tuple, Params]:
    step, hidden = carry
    inputs = jnp.concatenate([policy["features"][step], hidden, previous[None]])
    hidden = jax.nn.relu(layers.dense(policy["networks"]["hidden"], inputs))
    logit = layers.dense(policy["networks"]["output"], hidden)
    return (step + 1, hidden), {"logits": jnp.minimum(logit, policy["ceiling"][step])}


def _greedy(policy: Params) -> jax.Array:
    def step(state: tuple, _: None) -> tuple[tuple, jax.Array]:
        carry, step_params = _advance(policy, *state)
        kept = (step_params["logits"][0] > 0).astype(policy["features"].dtype)
        return (carry, kept), kept

    start = _begin(policy), jnp.zeros((), policy["features"].dtype)
    return jax.lax.scan(step, start, None, length=policy["features"].shape[0])[1]


RECURRENT = Generator(init=_init_recurrent, family=_chain, policy=_follow, mode=_greedy)
"""p(z|x) = prod_t p(z_t|x, z_<t). Lei, Barzilay, Jaakkola (2016), *Rationalizing Neural Predictions*."""


def _init(key: Key, shape: Shape, num_inputs: int) -> Params:
    key_hidden, key_output = jax.random.split(key)
    return {
        "hidden": layers.dense_init(key_hidden, num_inputs, shape.num_units, gain=2**0.5),
        "output": layers.dense_init(key_output, shape.num_units, 1, gain=0.1),
    }
