"""One glimpse on a finite grid: the smallest system of hard attention, where everything can be summed.

Attention. A context network sees the whole image at a coarse resolution and chooses one of M places on a grid, the
policy p(l|I); a classifier sees the glimpse there and nothing else, p(y|l, I). With M places the evidence
log p(y|I) = log sum_l p(l|I) p(y|l, I), the bound F and the gap between them are sums (see `jaxelbo.hard_attention`).
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxelbo import bounds, checks, estimators, families, hard_attention
from jaxelbo.attention import glimpses, layers
from jaxelbo.types import Bound, Estimator, Key, Params


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


class Exact(NamedTuple):
    """What can be summed, scalars in nats; a small gap alone says nothing, so they are shown together.

    Attributes:
      log_evidence: log p(y|I).
      bound: F = sum_l p(l|I) log p(y|l, I).
      gap: KL(p(l|I) || p(l|y, I)) = log p(y|I) - F.
      entropy: of the policy p(l|I).
    """

    log_evidence: jax.Array
    bound: jax.Array
    gap: jax.Array
    entropy: jax.Array


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
      ``{"context": ..., "classifier": ...}``, float32.

    Raises:
      TypeError, ValueError: naming what does not fit, such as a glimpse larger than the image.

    References:
      Ba, Mnih, Kavukcuoglu (2015), *Multiple Object Recognition with Visual Attention*.

    >>> import jax
    >>> params = init(jax.random.key(0), Shape(image_size=24, grid=4, glimpse_size=8))
    >>> sorted(params)
    ['classifier', 'context']
    """
    _check_shape(shape)
    keys = jax.random.split(key, 5)
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
    _check_image(image, shape)
    pool = shape.context_pool
    margin = -shape.image_size % pool
    image = jnp.pad(image, ((0, margin), (0, margin)))
    side = image.shape[0] // pool
    pooled = jnp.mean(image.reshape(side, pool, side, pool), axis=(1, 3))
    return jax.nn.log_softmax(_network(params["context"], pooled.ravel()))


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
    levels = _levels(image, shape)
    return jax.vmap(lambda location: _classify(params, levels, location, shape))(locations(shape))


def sampled_bound(
    params: Params,
    key: Key,
    image: jax.Array,
    label: jax.Array,
    *,
    shape: Shape,
    num_samples: int,
    bound: Bound = bounds.mean,
    estimator: Estimator = estimators.leave_one_out,
) -> jax.Array:
    """F of one image, or its many-sample relatives, by draws of the policy; to be maximised.

    `jaxelbo.hard_attention.policy_bound` of this system: estimand, bias and gradient are described there. Only the
    glimpses that are drawn are looked at.

    Args:
      params: of `init`.
      key: one random key.
      image: ``[H, W]``, between 0 and 1.
      label: integer scalar.
      shape: sizes of the system.
      num_samples: S, static.
      bound: log-likelihoods ``[S]`` -> scalar.
      estimator: how the gradient is estimated, of `jaxelbo.estimators`.

    Returns:
      Scalar, in nats.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Ba, Mnih, Kavukcuoglu (2015), *Multiple Object Recognition with Visual Attention*.

    >>> import jax, jax.numpy as jnp
    >>> shape = Shape(image_size=24, grid=4, glimpse_size=8)
    >>> params, key = init(jax.random.key(0), shape), jax.random.key(1)
    >>> bool(sampled_bound(params, key, jnp.ones((24, 24)), 3, shape=shape, num_samples=4) < 0)
    True
    """
    checks.check_label(label, shape.num_classes)
    levels, places = _levels(image, shape), locations(shape)

    def log_likelihood(place: jax.Array) -> jax.Array:
        return _classify(params, levels, places[place], shape)[label]

    family = families.categorical(shape.grid**2)
    policy = {"logits": log_policy(params, image, shape)}
    return hard_attention.policy_bound(
        policy, key, log_likelihood, family, bound=bound, num_samples=num_samples, estimator=estimator
    )


def exact(params: Params, image: jax.Array, label: jax.Array, shape: Shape) -> Exact:
    """The evidence log p(y|I), the bound F, their gap and the policy's entropy, by summing over all places.

    Args:
      params: of `init`.
      image: ``[H, W]``, between 0 and 1.
      label: integer scalar.
      shape: sizes of the system.

    Returns:
      `Exact`; all may be differentiated.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Ba, Mnih, Kavukcuoglu (2015), *Multiple Object Recognition with Visual Attention*.

    >>> import jax, jax.numpy as jnp
    >>> shape = Shape(image_size=24, grid=4, glimpse_size=8)
    >>> of = exact(init(jax.random.key(0), shape), jnp.ones((24, 24)), 3, shape)
    >>> bool(abs(of.log_evidence - of.bound - of.gap) < 1e-5)
    True
    """
    checks.check_label(label, shape.num_classes)
    policy, likelihood = log_policy(params, image, shape), log_classes(params, image, shape)[:, label]
    return Exact(
        log_evidence=hard_attention.log_evidence(policy, likelihood),
        bound=hard_attention.exact_policy_bound(policy, likelihood),
        gap=hard_attention.gap(policy, policy, likelihood),
        entropy=-hard_attention.exact_policy_bound(policy, policy),
    )


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
    for name, value in shape._asdict().items():
        checks.check_count(value, f"shape.{name}")
    glimpses.check_fits(shape.glimpse_size, shape.image_size)


def _check_image(image: jax.Array, shape: Shape) -> None:
    _check_shape(shape)
    glimpses.check_square(image, shape.image_size)
