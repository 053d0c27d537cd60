"""How paths of glimpses fare on a test image: errors of one path, the mean path and many paths, and the bounds.

Attention. Averaging over paths hides a poor policy, so the three errors stand side by side.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxelbo import bounds


class Scores(NamedTuple):
    """How one test image fares, to be averaged.

    Attributes:
      one_path: share of single paths on which some label is read wrong.
      mean_path: whether some label is read wrong on the mean path.
      averaged: whether some label is wrong when each is read from probabilities averaged over the paths.
      bound: F, the mean of log p(y|l, I) over paths, in nats.
      many_sample_bound: log of the mean of p(y|l, I) over the paths, in nats; between F and log p(y|I) in expectation.
      entropy: of the policy over the N locations of a path, in nats; it has a scale of its own and is the same for all.
      spread: root mean square distance of locations from those of the mean path.
    """

    one_path: jax.Array
    mean_path: jax.Array
    averaged: jax.Array
    bound: jax.Array
    many_sample_bound: jax.Array
    entropy: jax.Array
    spread: jax.Array


def score_paths(
    log_classes: jax.Array,
    locations: jax.Array,
    mean_log_classes: jax.Array,
    mean_locations: jax.Array,
    labels: jax.Array,
    policy_scale: float,
) -> Scores:
    """The scores of S paths and the mean path of one image with T labels.

    Args:
      log_classes: log p(y_t|l, I) of every label on every path, ``[S, T, labels]``.
      locations: ``[S, N, 2]``.
      mean_log_classes: the same on the mean path, ``[T, labels]``.
      mean_locations: ``[N, 2]``.
      labels: ``[T]`` integers.
      policy_scale: standard deviation of a location.

    Returns:
      `Scores`, scalars.

    References:
      Ba, Mnih, Kavukcuoglu (2015), *Multiple Object Recognition with Visual Attention*.

    >>> import jax.numpy as jnp
    >>> log_classes = jnp.log(jnp.array([[[0.9, 0.1]], [[0.4, 0.6]]]))  # two paths, one label of two
    >>> where = jnp.zeros((2, 3, 2))
    >>> scores = score_paths(log_classes, where, log_classes[0], where[0], jnp.array([0]), policy_scale=0.1)
    >>> float(scores.one_path), float(scores.averaged)
    (0.5, 0.0)
    """

    def is_wrong(log_classes: jax.Array) -> jax.Array:
        return jnp.any(jnp.argmax(log_classes, axis=-1) != labels).astype(jnp.float32)

    log_likelihoods = jnp.sum(jnp.take_along_axis(log_classes, labels[None, :, None], axis=2)[..., 0], axis=1)
    averaged = jax.nn.logsumexp(log_classes, axis=0)
    return Scores(
        one_path=jnp.mean(jax.vmap(is_wrong)(log_classes)),
        mean_path=is_wrong(mean_log_classes),
        averaged=is_wrong(averaged),
        bound=bounds.mean(log_likelihoods),
        many_sample_bound=bounds.importance_weighted(log_likelihoods),
        entropy=jnp.asarray(mean_locations.shape[0] * (1 + math.log(2 * math.pi * policy_scale**2)), jnp.float32),
        spread=jnp.sqrt(jnp.mean(jnp.sum((locations - mean_locations[None]) ** 2, axis=-1))),
    )
