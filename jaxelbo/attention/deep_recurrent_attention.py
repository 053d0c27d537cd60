"""The deep recurrent attention model (DRAM): several objects read one after the other, its bound and its curriculum.

Attention. The networks are in `deep_recurrent_network`. With all labels of an image read on one path l, the likelihood
is p(y|l, I) = prod_t p(y_t|l, I). For one image; the caller vmaps.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxelbo import checks
from jaxelbo.attention.deep_recurrent_network import (
    Path,
    Shape,
    check_shape,
    init,
    mean_path,
    proposed_path,
    sample_path,
)
from jaxelbo.attention.learning_rules import LearningRule, Paths
from jaxelbo.attention.path_scores import Scores, score_paths
from jaxelbo.types import Key, Params

__all__ = [
    "Path", "Scores", "Shape", "curriculum_objective", "evaluate", "init", "mean_path", "objective",
    "posterior_objective", "proposed_path", "sample_path",
]  # fmt: skip


def objective(
    params: Params,
    key: Key,
    image: jax.Array,
    labels: jax.Array,
    *,
    shape: Shape,
    num_samples: int,
    rule: LearningRule,
    state: Any = (),
) -> tuple[jax.Array, Any]:
    """The bound F of one image by S paths, with the gradient of a learning rule; to be raised.

    Estimand: F = E[sum_t log p(y_t|l, I)] <= log p(y|I), or what the rule says. Rewards are cumulative, as in the
    paper: the steps of target t are paid the number of right labels up to t. What they do to the labels after t is left
    out, so that with `learning_rules.reward` and more than one target the policy follows no expectation's gradient.

    Args:
      params: of `init`.
      key: one random key.
      image: ``[H, W]``, between 0 and 1.
      labels: ``[T]`` integers.
      shape: sizes of the system.
      num_samples: S, static.
      rule: of `learning_rules`.
      state: the rule's, where it has one.

    Returns:
      Scalar, in nats, and the rule's next state.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Ba, Mnih, Kavukcuoglu (2015), *Multiple Object Recognition with Visual Attention*.

    >>> import jax, jax.numpy as jnp
    >>> from jaxelbo.attention import learning_rules
    >>> shape = Shape(image_size=60, glimpse_size=12, num_targets=2)
    >>> arguments = init(jax.random.key(0), shape), jax.random.key(1), jnp.zeros((60, 60)), jnp.array([3, 5])
    >>> value, state = objective(*arguments, shape=shape, num_samples=1, rule=learning_rules.reward())
    >>> bool(value < 0)
    True
    """
    checks.check_callable(rule, "rule")
    draw = lambda key: sample_path(params, key, image, shape)  # noqa: E731
    paths, of_labels, is_right = _read(draw, key, labels, shape, num_samples)
    rewards = _by_step(jnp.cumsum(is_right, axis=1), shape)
    return rule(Paths(jnp.sum(of_labels, axis=1), paths.log_probs, rewards, paths.features), params["baseline"], state)


def posterior_objective(
    params: Params,
    key: Key,
    image: jax.Array,
    labels: jax.Array,
    *,
    shape: Shape,
    num_samples: int,
    rule: LearningRule,
    state: Any = (),
) -> tuple[jax.Array, Any]:
    """The bound of one image by a learned q(l|y, I), which closes the gap of F; to be raised.

    Estimand: E_q[sum_t log p(y_t|l, I) + log p(l|I) - log q(l|y, I)] <= log p(y|I), or the many-sample bound of those
    log-weights, by what the rule says; see `recurrent_attention.posterior_objective`.

    Args:
      params: of `init`.
      key: one random key.
      image: ``[H, W]``, between 0 and 1.
      labels: ``[T]`` integers.
      shape: sizes of the system.
      num_samples: S, static.
      rule: of `learning_rules`; under `learning_rules.reward` q follows the rewards.
      state: the rule's, where it has one.

    Returns:
      Scalar, in nats, and the rule's next state.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Ba, Grosse, Salakhutdinov, Frey (2015), *Learning Wake-Sleep Recurrent Attention Models*.

    >>> import jax, jax.numpy as jnp
    >>> from jaxelbo.attention import learning_rules
    >>> shape = Shape(image_size=60, glimpse_size=12, num_targets=2)
    >>> arguments = init(jax.random.key(0), shape), jax.random.key(1), jnp.zeros((60, 60)), jnp.array([3, 5])
    >>> options = {"shape": shape, "num_samples": 2, "rule": learning_rules.score_function}
    >>> bool(posterior_objective(*arguments, **options)[0] == objective(*arguments, **options)[0])  # q starts as p
    True
    """
    checks.check_callable(rule, "rule")
    draw = lambda key: proposed_path(params, key, image, labels, shape)  # noqa: E731
    paths, of_labels, is_right = _read(draw, key, labels, shape, num_samples)
    log_weights = jnp.sum(of_labels, axis=1) + jnp.sum(paths.log_probs - paths.log_proposals, axis=1)
    rewards = _by_step(jnp.cumsum(is_right, axis=1), shape)
    return rule(Paths(log_weights, paths.log_proposals, rewards, paths.features), params["baseline"], state)


def curriculum_objective(
    params: Params,
    key: Key,
    image: jax.Array,
    labels: jax.Array,
    *,
    shape: Shape,
    num_samples: int,
    rule: LearningRule,
    state: Any = (),
) -> tuple[jax.Array, Any]:
    """As `objective`, but a path counts up to its first wrong target, that one included: the curriculum of the paper.

    Another objective than F: what is learned of later targets waits for the earlier ones. The value returned is the
    mean over paths of the log-likelihoods that count.

    Args:
      params: of `init`.
      key: one random key.
      image: ``[H, W]``, between 0 and 1.
      labels: ``[T]`` integers.
      shape: sizes of the system.
      num_samples: S, static.
      rule: of `learning_rules`.
      state: the rule's, where it has one.

    Returns:
      Scalar, in nats, and the rule's next state.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Ba, Mnih, Kavukcuoglu (2015), *Multiple Object Recognition with Visual Attention*.

    >>> import jax, jax.numpy as jnp
    >>> from jaxelbo.attention import learning_rules
    >>> shape = Shape(image_size=60, glimpse_size=12, num_targets=2)
    >>> arguments = init(jax.random.key(0), shape), jax.random.key(1), jnp.zeros((60, 60)), jnp.array([3, 5])
    >>> options = {"shape": shape, "num_samples": 2, "rule": learning_rules.reward()}
    >>> bool(curriculum_objective(*arguments, **options)[0] >= objective(*arguments, **options)[0])
    True
    """
    checks.check_callable(rule, "rule")
    draw = lambda key: sample_path(params, key, image, shape)  # noqa: E731
    paths, of_labels, is_right = _read(draw, key, labels, shape, num_samples)
    earlier = jnp.concatenate([jnp.ones_like(is_right[:, :1]), is_right[:, :-1]], axis=1)
    counts = jnp.cumprod(earlier, axis=1)
    by_step = functools.partial(_by_step, shape=shape)
    rewards, scores = by_step(counts * jnp.cumsum(is_right, axis=1)), by_step(counts) * paths.log_probs
    features = by_step(counts)[..., None] * paths.features
    return rule(Paths(jnp.sum(counts * of_labels, axis=1), scores, rewards, features), params["baseline"], state)


def evaluate(
    params: Params, key: Key, image: jax.Array, labels: jax.Array, *, shape: Shape, num_samples: int
) -> Scores:
    """Error and bounds of one image, on S paths and on the mean path; an image is right if all its labels are.

    Args:
      params: of `init`.
      key: one random key, not of the training's.
      image: ``[H, W]``, between 0 and 1.
      labels: ``[T]`` integers.
      shape: sizes of the system.
      num_samples: S, static.

    Returns:
      `Scores`, scalars.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Ba, Mnih, Kavukcuoglu (2015), *Multiple Object Recognition with Visual Attention*.

    >>> import jax, jax.numpy as jnp
    >>> shape = Shape(image_size=60, glimpse_size=12, num_targets=2)
    >>> arguments = init(jax.random.key(0), shape), jax.random.key(1), jnp.zeros((60, 60)), jnp.array([3, 5])
    >>> scores = evaluate(*arguments, shape=shape, num_samples=10)
    >>> bool(scores.bound <= scores.many_sample_bound)
    True
    """
    draw = lambda key: sample_path(params, key, image, shape)  # noqa: E731
    paths, _, _ = _read(draw, key, labels, shape, num_samples)
    mean = mean_path(params, image, shape)
    return score_paths(paths.log_classes, paths.locations, mean.log_classes, mean.locations, labels, shape.policy_scale)


def _read(
    draw: Callable[[Key], Path],
    key: Key,
    labels: jax.Array,
    shape: Shape,
    num_samples: int,
) -> tuple[Path, jax.Array, jax.Array]:
    """S paths, with log p(y_t|l, I) of the labels ``[S, T]`` and whether they are read right, 1 or 0, ``[S, T]``."""
    check_shape(shape)
    checks.check_key(key)
    checks.check_labels(labels, shape.num_targets, shape.num_classes)
    paths = jax.vmap(draw)(jax.random.split(key, checks.check_count(num_samples, "num_samples")))
    of_labels = jnp.take_along_axis(paths.log_classes, labels[None, :, None], axis=2)[..., 0]
    is_right = jnp.argmax(paths.log_classes, axis=2) == labels[None]
    return paths, of_labels, is_right.astype(of_labels.dtype)


def _by_step(of_targets: jax.Array, shape: Shape) -> jax.Array:
    """``[S, T]`` for each of the steps of a target, ``[S, T N]``."""
    return jnp.repeat(of_targets, shape.num_glimpses, axis=1)
