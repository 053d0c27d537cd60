"""The recurrent attention model: a network that sees an image by a few glimpses and chooses where to look next.

Attention. At each of N steps the location is drawn from a Gaussian policy around a mean that the core's state gives,
the sensor cuts the glimpse there, and the core takes it in; the label is read from its last state. For one image and
one path; the caller vmaps. All N locations are drawn, the first from a mean that is learned by itself.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxelbo import checks
from jaxelbo.attention import glimpses, layers
from jaxelbo.attention.learning_rules import LearningRule, Paths
from jaxelbo.attention.path_scores import Scores, score_paths
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
      log_probs: log p(l_n|l_<n, I), ``[N]``, at stopped locations, differentiable in params.
      log_classes: log p(y|l, I) of every label, ``[labels]``.
      features: the core's state before each step, ``[N, units]``: what a baseline may see.
    """

    locations: jax.Array
    log_probs: jax.Array
    log_classes: jax.Array
    features: jax.Array


def init(key: Key, shape: Shape) -> Params:
    """Parameters of all networks; the policy starts near the centre of the image, the classes near uniform.

    Args:
      key: one random key.
      shape: sizes of the system.

    Returns:
      A pytree, float32; its ``"baseline"`` is for the rules that learn one.

    Raises:
      TypeError, ValueError: naming what does not fit, such as zero glimpses.

    References:
      Mnih, Heess, Graves, Kavukcuoglu (2014), *Recurrent Models of Visual Attention*.

    >>> import jax
    >>> sorted(init(jax.random.key(0), Shape(image_size=28, glimpse_size=8)))
    ['baseline', 'classes', 'core', 'glimpse', 'policy']
    """
    _check_shape(shape)
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
    noise = shape.policy_scale * jax.random.normal(key, (shape.num_glimpses, 2), jnp.float32)
    return _run(params, image, noise, shape)


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
    return _run(params, image, jnp.zeros((shape.num_glimpses, 2), jnp.float32), shape)


def objective(
    params: Params,
    key: Key,
    image: jax.Array,
    label: jax.Array,
    *,
    shape: Shape,
    num_samples: int,
    rule: LearningRule,
    state: object = (),
) -> tuple[jax.Array, object]:
    """The bound F of one image by S paths, with the gradient of a learning rule; to be raised.

    Estimand: F = E[log p(y|l, I)] <= log p(y|I), or what the rule says.

    Args:
      params: of `init`.
      key: one random key.
      image: ``[H, W]``, between 0 and 1.
      label: integer scalar.
      shape: sizes of the system.
      num_samples: S, static.
      rule: of `learning_rules`.
      state: the rule's, where it has one.

    Returns:
      Scalar, in nats, and the rule's next state.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Mnih, Heess, Graves, Kavukcuoglu (2014), *Recurrent Models of Visual Attention*;
      Ba, Mnih, Kavukcuoglu (2015), *Multiple Object Recognition with Visual Attention*.

    >>> import jax, jax.numpy as jnp
    >>> from jaxelbo.attention import learning_rules
    >>> shape, rule = Shape(image_size=28, glimpse_size=8), learning_rules.reward()
    >>> arguments = init(jax.random.key(0), shape), jax.random.key(1), jnp.zeros((28, 28)), 3
    >>> value, state = objective(*arguments, shape=shape, num_samples=1, rule=rule)
    >>> bool(value < 0)
    True
    """
    num_samples = checks.check_count(num_samples, "num_samples")
    checks.check_label(label, shape.num_classes)
    path = jax.vmap(lambda key: sample_path(params, key, image, shape))(jax.random.split(key, num_samples))
    is_right = jnp.argmax(path.log_classes, axis=1) == label
    rewards = jnp.broadcast_to(is_right[:, None], path.log_probs.shape).astype(path.log_probs.dtype)
    paths = Paths(path.log_classes[:, label], path.log_probs, rewards, path.features)
    return rule(paths, params["baseline"], state)


def evaluate(params: Params, key: Key, image: jax.Array, label: jax.Array, *, shape: Shape, num_samples: int) -> Scores:
    """Error and bounds of one image, on S paths and on the mean path.

    Args:
      params: of `init`.
      key: one random key, not of the training's.
      image: ``[H, W]``, between 0 and 1.
      label: integer scalar.
      shape: sizes of the system.
      num_samples: S, static.

    Returns:
      `Scores`, scalars.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Mnih, Heess, Graves, Kavukcuoglu (2014), *Recurrent Models of Visual Attention*.

    >>> import jax, jax.numpy as jnp
    >>> shape = Shape(image_size=28, glimpse_size=8)
    >>> arguments = init(jax.random.key(0), shape), jax.random.key(1), jnp.zeros((28, 28)), 3
    >>> scores = evaluate(*arguments, shape=shape, num_samples=10)
    >>> bool(scores.bound <= scores.many_sample_bound)
    True
    """
    num_samples = checks.check_count(num_samples, "num_samples")
    checks.check_label(label, shape.num_classes)
    keys = jax.random.split(key, num_samples)
    paths = jax.vmap(lambda key: sample_path(params, key, image, shape))(keys)
    mean = mean_path(params, image, shape)
    log_classes, mean_log_classes = paths.log_classes[:, None], mean.log_classes[None]
    return score_paths(log_classes, paths.locations, mean_log_classes, mean.locations, jnp.asarray(label)[None])


def _run(params: Params, image: jax.Array, noise: jax.Array, shape: Shape) -> Path:
    _check_shape(shape)
    glimpses.check_square(image, shape.image_size)
    levels = glimpses.pyramid(image, size=shape.glimpse_size, num_scales=shape.num_scales)

    def step(hidden: jax.Array, noise: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        mean = jnp.tanh(layers.dense(params["policy"][1], jax.nn.relu(layers.dense(params["policy"][0], hidden))))
        location = jax.lax.stop_gradient(mean + noise)
        log_prob = jnp.sum(jax.scipy.stats.norm.logpdf(location, mean, shape.policy_scale))
        what = glimpses.hard_glimpse(levels, location, size=shape.glimpse_size).ravel()
        what, where = layers.dense(params["glimpse"]["what"], what), layers.dense(params["glimpse"]["where"], location)
        both = jax.nn.relu(layers.dense(params["glimpse"]["both"], jax.nn.relu(jnp.concatenate([what, where]))))
        after = jax.nn.relu(layers.dense(params["core"], jnp.concatenate([hidden, both])))
        return after, (location, log_prob, hidden)

    last, (locations, log_probs, features) = jax.lax.scan(step, jnp.zeros(shape.num_units, jnp.float32), noise)
    return Path(locations, log_probs, jax.nn.log_softmax(layers.dense(params["classes"], last)), features)


def _check_shape(shape: Shape) -> None:
    if not isinstance(shape, Shape):
        raise TypeError(f"shape must be a recurrent_attention.Shape, got {checks.describe(shape)}.")
    glimpses.check_sizes(shape)
