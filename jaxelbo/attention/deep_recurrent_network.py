"""The networks of the deep recurrent attention model (DRAM): where it looks, and what it reads there.

Attention. Two long short-term memories: the lower one takes in the glimpses, and labels are read from it alone; the
upper one takes in the lower's state and chooses where to look. A context network shows the image at a coarse resolution
to the upper one alone, as its first state, so that no label can be read from the context. Each of T targets has N
glimpses, and its label is read after the last of them. For one image and one path; the caller vmaps.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxelbo import checks
from jaxelbo.attention import glimpses, layers, location_policies
from jaxelbo.types import Key, Params


class Shape(NamedTuple):
    """Sizes of the system, static.

    Attributes:
      image_size: side of the image in pixels.
      glimpse_size: side of a glimpse in pixels of its scale.
      num_scales: patches of a glimpse.
      num_glimpses: N, of each target.
      num_targets: T, labels that are read one after the other.
      policy_scale: standard deviation of a location about its mean, in units in which the image spans [-1, 1].
      context_pool: side of the squares that are averaged for the context network.
      num_features: units of a glimpse's features.
      num_units: units of each memory.
      num_classes: number of labels.
    """

    image_size: int
    glimpse_size: int
    num_scales: int = 2
    num_glimpses: int = 4
    num_targets: int = 1
    policy_scale: float = 0.1
    context_pool: int = 4
    num_features: int = 256
    num_units: int = 256
    num_classes: int = 10


class Path(NamedTuple):
    """One path through an image, T N steps long.

    Attributes:
      locations: ``[T N, 2]``, down and across.
      log_probs: log p(l_n|l_<n, I) of the policy, ``[T N]``, at stopped locations, differentiable in params.
      log_proposals: log-density that the locations were drawn from, ``[T N]``: the policy's, or log q(l_n|l_<n, y, I).
      log_classes: log p(y_t|l, I) of every label of each target, ``[T, labels]``.
      features: the upper memory's state before each step, ``[T N, units]``: what a baseline may see.
    """

    locations: jax.Array
    log_probs: jax.Array
    log_proposals: jax.Array
    log_classes: jax.Array
    features: jax.Array


def init(key: Key, shape: Shape) -> Params:
    """Parameters of all networks; the policy starts near the centre of the image, the classes near uniform.

    Args:
      key: one random key.
      shape: sizes of the system.

    Returns:
      A pytree, float32; its ``"baseline"`` is for the rules that learn one, its ``"posterior"`` for `proposed_path`.

    Raises:
      TypeError, ValueError: naming what does not fit, such as zero glimpses.

    References:
      Ba, Mnih, Kavukcuoglu (2015), *Multiple Object Recognition with Visual Attention*.

    >>> import jax
    >>> sorted(init(jax.random.key(0), Shape(image_size=60, glimpse_size=12)))
    ['baseline', 'classes', 'context', 'glimpse', 'lower', 'policy', 'posterior', 'upper']
    """
    check_shape(shape)
    keys = iter(jax.random.split(key, 10))
    rectified = functools.partial(layers.dense_init, gain=2**0.5)
    features, units = shape.num_features, shape.num_units
    pixels = shape.num_scales * shape.glimpse_size**2
    return {
        "context": [
            rectified(next(keys), (-(-shape.image_size // shape.context_pool)) ** 2, features),
            layers.dense_init(next(keys), features, 2 * units),
        ],
        "glimpse": {"what": rectified(next(keys), pixels, features), "where": rectified(next(keys), 2, features)},
        "lower": layers.lstm_init(next(keys), features, units),
        "upper": layers.lstm_init(next(keys), units, units),
        "policy": layers.dense_init(next(keys), units, 2, gain=0.1),
        "classes": layers.dense_init(next(keys), units, shape.num_classes, gain=0.1),
        "baseline": layers.dense_init(next(keys), units, 1, gain=0.1),
        "posterior": layers.correction_init(next(keys), units + shape.num_classes, features, 2),
    }


def sample_path(params: Params, key: Key, image: jax.Array, shape: Shape) -> Path:
    """Draws the locations of one path and reads the labels on it.

    Args:
      params: of `init`.
      key: one random key.
      image: ``[H, W]``, between 0 and 1.
      shape: sizes of the system.

    Returns:
      `Path`.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Ba, Mnih, Kavukcuoglu (2015), *Multiple Object Recognition with Visual Attention*.

    >>> import jax, jax.numpy as jnp
    >>> shape = Shape(image_size=60, glimpse_size=12, num_targets=2)
    >>> sample_path(init(jax.random.key(0), shape), jax.random.key(1), jnp.zeros((60, 60)), shape).locations.shape
    (8, 2)
    """
    checks.check_key(key)
    check_shape(shape)
    return _run(params, image, _noise(key, shape), shape)


def proposed_path(params: Params, key: Key, image: jax.Array, labels: jax.Array, shape: Shape) -> Path:
    """Draws the locations of one path from the proposal q(l|y, I): at a target's steps the policy sees its label.

    Args:
      params: of `init`.
      key: one random key.
      image: ``[H, W]``, between 0 and 1.
      labels: ``[T]`` integers.
      shape: sizes of the system.

    Returns:
      `Path`, whose ``log_proposals`` are those of q.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Ba, Grosse, Salakhutdinov, Frey (2015), *Learning Wake-Sleep Recurrent Attention Models*.

    >>> import jax, jax.numpy as jnp
    >>> shape = Shape(image_size=60, glimpse_size=12, num_targets=2)
    >>> arguments = init(jax.random.key(0), shape), jax.random.key(1), jnp.zeros((60, 60))
    >>> path, drawn = proposed_path(*arguments, jnp.array([3, 5]), shape), sample_path(*arguments, shape)
    >>> bool(jnp.all(path.locations == drawn.locations))  # q starts as the policy
    True
    """
    checks.check_key(key)
    check_shape(shape)
    checks.check_labels(labels, shape.num_targets, shape.num_classes)
    named = jax.nn.one_hot(jnp.repeat(labels, shape.num_glimpses), shape.num_classes, dtype=jnp.float32)

    def correct(hidden: jax.Array, step: jax.Array) -> jax.Array:
        return layers.correction(params["posterior"], jnp.concatenate([hidden, named[step]]))

    return _run(params, image, _noise(key, shape), shape, correct)


def mean_path(params: Params, image: jax.Array, shape: Shape) -> Path:
    """The path on which every location is its policy's mean.

    Args:
      params: of `init`.
      image: ``[H, W]``, between 0 and 1.
      shape: sizes of the system.

    Returns:
      `Path`.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Ba, Mnih, Kavukcuoglu (2015), *Multiple Object Recognition with Visual Attention*.

    >>> import jax, jax.numpy as jnp
    >>> shape = Shape(image_size=60, glimpse_size=12, num_targets=2)
    >>> mean_path(init(jax.random.key(0), shape), jnp.zeros((60, 60)), shape).log_classes.shape
    (2, 10)
    """
    check_shape(shape)
    return _run(params, image, jnp.zeros((shape.num_targets * shape.num_glimpses, 2), jnp.float32), shape)


def _noise(key: Key, shape: Shape) -> jax.Array:
    noise = jax.random.normal(key, (shape.num_targets * shape.num_glimpses, 2), jnp.float32)
    return shape.policy_scale * noise


def _run(
    params: Params,
    image: jax.Array,
    noise: jax.Array,
    shape: Shape,
    correct: Callable[[jax.Array, jax.Array], jax.Array] | None = None,
) -> Path:
    """A path by its noise; ``correct(hidden, step)`` is added to the policy's output where a proposal draws."""
    glimpses.check_square(image, shape.image_size)
    levels = glimpses.pyramid(image, size=shape.glimpse_size, num_scales=shape.num_scales)

    def step(state: tuple, inputs: tuple) -> tuple[tuple, tuple]:
        (lower, upper), (noise, number) = state, inputs
        towards = layers.dense(params["policy"], upper.hidden)
        correction = None if correct is None else correct(upper.hidden, number)
        location, *log_densities = location_policies.draw(towards, correction, noise, shape.policy_scale)
        patches = glimpses.hard_glimpse(levels, location, size=shape.glimpse_size).ravel()
        what = jax.nn.relu(layers.dense(params["glimpse"]["what"], patches))
        where = jax.nn.relu(layers.dense(params["glimpse"]["where"], location))
        after = layers.lstm(params["lower"], lower, what * where)
        return (after, layers.lstm(params["upper"], upper, after.hidden)), (
            location, *log_densities, after.hidden, upper.hidden,
        )  # fmt: skip

    start = layers.lstm_start(shape.num_units), _first_upper(params, image, shape)
    steps = jax.lax.scan(step, start, (noise, jnp.arange(len(noise))))[1]
    locations, log_probs, log_proposals, hidden, features = steps
    last_of_targets = hidden[shape.num_glimpses - 1 :: shape.num_glimpses]
    log_classes = jax.nn.log_softmax(layers.dense(params["classes"], last_of_targets))
    return Path(locations, log_probs, log_proposals, log_classes, features)


def _first_upper(params: Params, image: jax.Array, shape: Shape) -> layers.LSTMState:
    context = glimpses.pooled(image, shape.context_pool).ravel()
    first, second = params["context"]
    hidden, cell = jnp.split(jnp.tanh(layers.dense(second, jax.nn.relu(layers.dense(first, context)))), 2)
    return layers.LSTMState(hidden, cell)


def check_shape(shape: Shape) -> None:
    """Requires the sizes of the system."""
    if not isinstance(shape, Shape):
        raise TypeError(f"shape must be a deep_recurrent_attention.Shape, got {checks.describe(shape)}.")
    glimpses.check_sizes(shape)
