"""One glimpse on a finite grid: the smallest system of hard attention, where everything can be summed.

Attention. A context network sees the whole image at a coarse resolution and chooses one of M places on a grid, the
policy p(l|I); a classifier sees the glimpse there and nothing else, p(y|l, I). With M places the evidence
log p(y|I) = log sum_l p(l|I) p(y|l, I), the bound F and the gap between them are sums (`one_glimpse_bounds`).
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxelbo import checks
from jaxelbo.attention import glimpses, layers
from jaxelbo.types import Key, Params


class Shape(NamedTuple):
    """Sizes of the system, all static.

    Attributes:
      image_size: side of the image in pixels.
      grid: places down and across; M is its square.
      glimpse_size: side of a glimpse in pixels of its scale.
      num_scales: patches of a glimpse.
      context_pool: side of the squares that are averaged for the context network.
      num_hidden: units of each hidden layer.
      num_classes: number of labels.
    """

    image_size: int
    grid: int
    glimpse_size: int
    num_scales: int = 1
    context_pool: int = 4
    num_hidden: int = 256
    num_classes: int = 10


def locations(shape: Shape) -> jax.Array:
    """The M places of the grid, ``[M, 2]``: down and across, glimpses at the edges just inside of the image.

    >>> locations(Shape(image_size=24, grid=2, glimpse_size=12))
    Array([[-0.5, -0.5],
           [-0.5,  0.5],
           [ 0.5, -0.5],
           [ 0.5,  0.5]], dtype=float32)
    """
    _check_shape(shape)
    reach = 1 - shape.glimpse_size / shape.image_size
    steps = jnp.linspace(-reach, reach, shape.grid) if shape.grid > 1 else jnp.zeros(1)
    return jnp.stack(jnp.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2)


def init(key: Key, shape: Shape) -> Params:
    """Parameters of the two networks, output layers near zero: a policy that is near uniform, classes too.

    Args:
      key: one random key.
      shape: sizes of the system.

    Returns:
      ``{"context": ..., "classifier": ..., "posterior": ..., "baseline": ...}``, float32; the last two are for
      `log_posterior` and for the rules that learn a baseline.

    Raises:
      TypeError, ValueError: naming what does not fit, such as a glimpse larger than the image.

    References:
      Ba, Mnih, Kavukcuoglu (2015), *Multiple Object Recognition with Visual Attention*.

    >>> import jax
    >>> params = init(jax.random.key(0), Shape(image_size=24, grid=4, glimpse_size=8))
    >>> sorted(params)
    ['baseline', 'classifier', 'context', 'posterior']
    """
    _check_shape(shape)
    keys = jax.random.split(key, 8)
    pooled, hidden = -(-shape.image_size // shape.context_pool), shape.num_hidden
    glimpse = shape.num_scales * shape.glimpse_size**2
    rectified = functools.partial(layers.dense_init, gain=2**0.5)
    return {
        "context": [
            rectified(keys[0], pooled**2, hidden), layers.dense_init(keys[1], hidden, shape.grid**2, gain=0.01),
        ],
        "classifier": [
            rectified(keys[2], glimpse, hidden), rectified(keys[3], hidden, hidden),
            layers.dense_init(keys[4], hidden, shape.num_classes, gain=0.01),
        ],
        "posterior": [
            rectified(keys[5], pooled**2 + shape.num_classes, hidden),
            layers.dense_init(keys[6], hidden, shape.grid**2, gain=0.01),
        ],
        "baseline": layers.dense_init(keys[7], hidden, 1, gain=0.01),
    }  # fmt: skip


def log_policy(params: Params, image: jax.Array, shape: Shape) -> jax.Array:
    """The policy, log p(l|I) of every place, ``[M]``, in nats.

    Args:
      params: of `init`.
      image: ``[H, W]``, between 0 and 1.
      shape: sizes of the system.

    Returns:
      ``[M]``, normalised.

    Raises:
      TypeError, ValueError: an image of another shape.

    References:
      Ba, Mnih, Kavukcuoglu (2015), *Multiple Object Recognition with Visual Attention*.

    >>> import jax, jax.numpy as jnp
    >>> shape = Shape(image_size=24, grid=4, glimpse_size=8)
    >>> log_policy(init(jax.random.key(0), shape), jnp.ones((24, 24)), shape).shape
    (16,)
    """
    return policy_and_features(params, image, shape)[0]


def policy_and_features(params: Params, image: jax.Array, shape: Shape) -> tuple[jax.Array, jax.Array]:
    """As `log_policy`, and the hidden layer of the context network beside it: what a learned baseline may see.

    Args:
      params: of `init`.
      image: ``[H, W]``, between 0 and 1.
      shape: sizes of the system.

    Returns:
      ``[M]``, normalised, and ``[hidden]``.

    Raises:
      TypeError, ValueError: an image of another shape.

    References:
      Ba, Mnih, Kavukcuoglu (2015), *Multiple Object Recognition with Visual Attention*.

    >>> import jax, jax.numpy as jnp
    >>> shape = Shape(image_size=24, grid=4, glimpse_size=8)
    >>> policy_and_features(init(jax.random.key(0), shape), jnp.ones((24, 24)), shape)[1].shape
    (256,)
    """
    first, second = params["context"]
    features = jax.nn.relu(layers.dense(first, _context(image, shape)))
    return jax.nn.log_softmax(layers.dense(second, features)), features


def log_posterior(params: Params, image: jax.Array, label: jax.Array, shape: Shape) -> jax.Array:
    """The learned q(l|y, I) of every place, ``[M]``, in nats: where to look when the label is known.

    Args:
      params: of `init`.
      image: ``[H, W]``, between 0 and 1.
      label: integer scalar.
      shape: sizes of the system.

    Returns:
      ``[M]``, normalised.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Deng, Kim, Chiu, Guo, Rush (2018), *Latent Alignment and Variational Attention*.

    >>> import jax, jax.numpy as jnp
    >>> shape = Shape(image_size=24, grid=4, glimpse_size=8)
    >>> log_posterior(init(jax.random.key(0), shape), jnp.ones((24, 24)), 3, shape).shape
    (16,)
    """
    _check_shape(shape)
    checks.check_label(label, shape.num_classes)
    seen = _context(image, shape)
    named = jax.nn.one_hot(label, shape.num_classes, dtype=seen.dtype)
    return jax.nn.log_softmax(_network(params["posterior"], jnp.concatenate([seen, named])))


def log_classes(params: Params, image: jax.Array, shape: Shape) -> jax.Array:
    """The likelihood, log p(y|l, I) of every label at every place, ``[M, labels]``, in nats.

    Args:
      params: of `init`.
      image: ``[H, W]``, between 0 and 1.
      shape: sizes of the system.

    Returns:
      ``[M, labels]``, each row normalised.

    Raises:
      TypeError, ValueError: an image of another shape.

    References:
      Ba, Mnih, Kavukcuoglu (2015), *Multiple Object Recognition with Visual Attention*.

    >>> import jax, jax.numpy as jnp
    >>> shape = Shape(image_size=24, grid=4, glimpse_size=8)
    >>> log_classes(init(jax.random.key(0), shape), jnp.ones((24, 24)), shape).shape
    (16, 10)
    """
    return jax.vmap(classifier(params, image, shape))(jnp.arange(shape.grid**2))


def log_likelihood(
    params: Params, image: jax.Array, label: jax.Array, shape: Shape
) -> Callable[[jax.Array], jax.Array]:
    """The likelihood as a function of the place alone, for bounds by draws: only drawn places are looked at.

    Args:
      params: of `init`.
      image: ``[H, W]``, between 0 and 1.
      label: integer scalar.
      shape: sizes of the system.

    Returns:
      ``place -> log p(y|l, I)``, an integer below M to a scalar in nats.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Ba, Mnih, Kavukcuoglu (2015), *Multiple Object Recognition with Visual Attention*.

    >>> import jax, jax.numpy as jnp
    >>> shape = Shape(image_size=24, grid=4, glimpse_size=8)
    >>> log_likelihood(init(jax.random.key(0), shape), jnp.zeros((24, 24)), 3, shape)(5).round(2)
    Array(-2.3, dtype=float32)
    """
    _check_shape(shape)
    checks.check_label(label, shape.num_classes)
    classify = classifier(params, image, shape)
    return lambda place: classify(place)[label]


def classifier(params: Params, image: jax.Array, shape: Shape) -> Callable[[jax.Array], jax.Array]:
    """The likelihood of every label as a function of the place: only drawn places are looked at.

    Args:
      params: of `init`.
      image: ``[H, W]``, between 0 and 1.
      shape: sizes of the system.

    Returns:
      ``place -> log p(y|l, I)``, an integer below M to ``[labels]`` in nats.

    Raises:
      TypeError, ValueError: an image of another shape.

    References:
      Ba, Mnih, Kavukcuoglu (2015), *Multiple Object Recognition with Visual Attention*.

    >>> import jax, jax.numpy as jnp
    >>> shape = Shape(image_size=24, grid=4, glimpse_size=8)
    >>> classifier(init(jax.random.key(0), shape), jnp.zeros((24, 24)), shape)(5).shape
    (10,)
    """
    levels, places = _levels(image, shape), locations(shape)
    return lambda place: _classify(params, levels, places[place], shape)


def _context(image: jax.Array, shape: Shape) -> jax.Array:
    """The image at the coarse resolution of the context network, as one vector."""
    _check_image(image, shape)
    return glimpses.pooled(image, shape.context_pool).ravel()


def _classify(params: Params, levels: glimpses.Pyramid, location: jax.Array, shape: Shape) -> jax.Array:
    glimpse = glimpses.hard_glimpse(levels, location, size=shape.glimpse_size)
    return jax.nn.log_softmax(_network(params["classifier"], glimpse.ravel()))


def _network(stack: list[Params], x: jax.Array) -> jax.Array:
    """Dense layers with rectifiers between them."""
    for params in stack[:-1]:
        x = jax.nn.relu(layers.dense(params, x))
    return layers.dense(stack[-1], x)


def _levels(image: jax.Array, shape: Shape) -> glimpses.Pyramid:
    _check_image(image, shape)
    return glimpses.pyramid(image, size=shape.glimpse_size, num_scales=shape.num_scales)


def _check_shape(shape: Shape) -> None:
    if not isinstance(shape, Shape):
        raise TypeError(f"shape must be a one_glimpse.Shape, got {checks.describe(shape)}.")
    glimpses.check_sizes(shape)


def _check_image(image: jax.Array, shape: Shape) -> None:
    _check_shape(shape)
    glimpses.check_square(image, shape.image_size)
