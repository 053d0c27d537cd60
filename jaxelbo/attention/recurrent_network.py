"""The networks of the recurrent attention model (RAM): where it looks next, and what it reads at the end.

Attention. At each of N steps the location is drawn from a Gaussian policy around a mean that the core's state gives,
the sensor cuts the glimpse there, and the core takes it in; the label is read from its last state. For one image and
one path; the caller vmaps. All N locations are drawn, the first from a mean that is learned by itself.
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
      num_glimpses: N.
      policy_scale: standard deviation of a location about its mean, in units in which the image spans [-1, 1].
      num_features: units of each of the two paths into a glimpse's features.
      num_units: units of the core.
      num_classes: number of labels.
    """

    image_size: int
    glimpse_size: int
    num_scales: int = 1
    num_glimpses: int = 6
    policy_scale: float = 0.1
    num_features: int = 128
    num_units: int = 256
    num_classes: int = 10


class Path(NamedTuple):
    """One path through an image.

    Attributes:
      locations: ``[N, 2]``, down and across.
      log_probs: log p(l_n|l_<n, I) of the policy, ``[N]``, at stopped locations, differentiable in params.
      log_proposals: log-density that the locations were drawn from, ``[N]``: the policy's, or log q(l_n|l_<n, y, I).
      log_classes: log p(y|l, I) of every label, ``[labels]``.
      features: the core's state before each step, ``[N, units]``: what a baseline may see.
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
      A pytree, float32; its ``"baseline"`` is for the rules that learn one, its ``"posterior"`` for
      `posterior_objective`.

    Raises:
      TypeError, ValueError: naming what does not fit, such as zero glimpses.

    References:
      Mnih, Heess, Graves, Kavukcuoglu (2014), *Recurrent Models of Visual Attention*.

    >>> import jax
    >>> sorted(init(jax.random.key(0), Shape(image_size=28, glimpse_size=8)))
    ['baseline', 'classes', 'core', 'glimpse', 'policy', 'posterior']
    """
    check_shape(shape)
    keys = iter(jax.random.split(key, 9))
    rectified = functools.partial(layers.dense_init, gain=2**0.5)
    features, units = shape.num_features, shape.num_units
    pixels = shape.num_scales * shape.glimpse_size**2
    return {
        "glimpse": {
            "what": rectified(next(keys), pixels, features), "where": rectified(next(keys), 2, features),
            "both": rectified(next(keys), 2 * features, units),
        },
        "core": rectified(next(keys), 2 * units, units),
        "policy": [rectified(next(keys), units, features), layers.dense_init(next(keys), features, 2, gain=0.1)],
        "classes": layers.dense_init(next(keys), units, shape.num_classes, gain=0.1),
        "baseline": layers.dense_init(next(keys), units, 1, gain=0.1),
        "posterior": layers.correction_init(next(keys), units + shape.num_classes, features, 2),
    }  # fmt: skip


def sample_path(params: Params, key: Key, image: jax.Array, shape: Shape) -> Path:
    """Draws the locations of one path and reads the label at its end.

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
      Mnih, Heess, Graves, Kavukcuoglu (2014), *Recurrent Models of Visual Attention*.

    >>> import jax, jax.numpy as jnp
    >>> shape = Shape(image_size=28, glimpse_size=8)
    >>> sample_path(init(jax.random.key(0), shape), jax.random.key(1), jnp.zeros((28, 28)), shape).locations.shape
    (6, 2)
    """
    checks.check_key(key)
    check_shape(shape)
    return _run(params, image, _noise(key, shape), shape)


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
      Mnih, Heess, Graves, Kavukcuoglu (2014), *Recurrent Models of Visual Attention*.

    >>> import jax, jax.numpy as jnp
    >>> shape = Shape(image_size=28, glimpse_size=8)
    >>> mean_path(init(jax.random.key(0), shape), jnp.zeros((28, 28)), shape).log_classes.shape
    (10,)
    """
    check_shape(shape)
    return _run(params, image, jnp.zeros((shape.num_glimpses, 2), jnp.float32), shape)


def proposed_path(params: Params, key: Key, image: jax.Array, label: jax.Array, shape: Shape) -> Path:
    """Draws the locations of one path from the proposal q(l|y, I): the policy with a correction that sees the label.

    Args:
      params: of `init`.
      key: one random key.
      image: ``[H, W]``, between 0 and 1.
      label: integer scalar.
      shape: sizes of the system.

    Returns:
      `Path`, whose ``log_proposals`` are those of q.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Ba, Grosse, Salakhutdinov, Frey (2015), *Learning Wake-Sleep Recurrent Attention Models*.

    >>> import jax, jax.numpy as jnp
    >>> shape = Shape(image_size=28, glimpse_size=8)
    >>> arguments = init(jax.random.key(0), shape), jax.random.key(1), jnp.zeros((28, 28))
    >>> path, drawn = proposed_path(*arguments, 3, shape), sample_path(*arguments, shape)
    >>> bool(jnp.all(path.locations == drawn.locations))  # q starts as the policy
    True
    """
    checks.check_key(key)
    check_shape(shape)
    checks.check_label(label, shape.num_classes)
    named = jax.nn.one_hot(label, shape.num_classes, dtype=jnp.float32)

    def correct(hidden: jax.Array) -> jax.Array:
        return layers.correction(params["posterior"], jnp.concatenate([hidden, named]))

    return _run(params, image, _noise(key, shape), shape, correct)


def check_shape(shape: Shape) -> None:
    """Requires the sizes of the system."""
    if not isinstance(shape, Shape):
        raise TypeError(f"shape must be a recurrent_attention.Shape, got {checks.describe(shape)}.")
    glimpses.check_sizes(shape)


def _noise(key: Key, shape: Shape) -> jax.Array:
    return shape.policy_scale * jax.random.normal(key, (shape.num_glimpses, 2), jnp.float32)


def _run(
    params: Params,
    image: jax.Array,
    noise: jax.Array,
    shape: Shape,
    correct: Callable[[jax.Array], jax.Array] | None = None,
) -> Path:
    """A path by its noise; ``correct(hidden)`` is added to the policy's output where locations are of a proposal."""
    glimpses.check_square(image, shape.image_size)
    levels = glimpses.pyramid(image, size=shape.glimpse_size, num_scales=shape.num_scales)

    def step(hidden: jax.Array, noise: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        towards = layers.dense(params["policy"][1], jax.nn.relu(layers.dense(params["policy"][0], hidden)))
        correction = None if correct is None else correct(hidden)
        location, *log_densities = location_policies.draw(towards, correction, noise, shape.policy_scale)
        what = glimpses.hard_glimpse(levels, location, size=shape.glimpse_size).ravel()
        what, where = layers.dense(params["glimpse"]["what"], what), layers.dense(params["glimpse"]["where"], location)
        both = jax.nn.relu(layers.dense(params["glimpse"]["both"], jax.nn.relu(jnp.concatenate([what, where]))))
        after = jax.nn.relu(layers.dense(params["core"], jnp.concatenate([hidden, both])))
        return after, (location, *log_densities, hidden)

    last, (locations, log_probs, log_proposals, features) = jax.lax.scan(
        step, jnp.zeros(shape.num_units, jnp.float32), noise
    )
    log_classes = jax.nn.log_softmax(layers.dense(params["classes"], last))
    return Path(locations, log_probs, log_proposals, log_classes, features)
