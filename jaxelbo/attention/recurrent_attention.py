"""The recurrent attention model (RAM): the bounds of an image that is seen by a few glimpses.

Attention. The networks are in `recurrent_network`. For one image; the caller vmaps.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxelbo import checks
from jaxelbo.attention.learning_rules import LearningRule, Paths
from jaxelbo.attention.path_scores import Scores, score_paths
from jaxelbo.attention.recurrent_network import (
    Path,
    Shape,
    check_shape,
    init,
    mean_path,
    proposed_path,
    sample_path,
)
from jaxelbo.types import Key, Params

__all__ = [
    "Path", "Scores", "Shape", "evaluate", "init", "mean_path", "objective", "posterior_objective", "proposed_path",
    "sample_path",
]  # fmt: skip


def objective(
    params: Params,
    key: Key,
    image: jax.Array,
    label: jax.Array,
    *,
    shape: Shape,
    num_samples: int,
    rule: LearningRule,
    state: Any = (),
) -> tuple[jax.Array, Any]:
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

    def draw(key: Key) -> tuple[Path, jax.Array]:
        path = sample_path(params, key, image, shape)
        return path, path.log_classes[label]

    return _by_rule(draw, params, key, label, shape, num_samples, rule, state)


def posterior_objective(
    params: Params,
    key: Key,
    image: jax.Array,
    label: jax.Array,
    *,
    shape: Shape,
    num_samples: int,
    rule: LearningRule,
    state: Any = (),
) -> tuple[jax.Array, Any]:
    """The bound of one image by a learned q(l|y, I), which closes the gap of F; to be raised.

    Estimand: E_q[log p(y|l, I) + log p(l|I) - log q(l|y, I)] <= log p(y|I), or the many-sample bound of those
    log-weights, by what the rule says. The proposal q is the policy with a correction that sees the label, nothing at
    first. Policy, classifier and q are all trained by it, the policy pathwise towards q.

    Args:
      params: of `init`.
      key: one random key.
      image: ``[H, W]``, between 0 and 1.
      label: integer scalar.
      shape: sizes of the system.
      num_samples: S, static.
      rule: of `learning_rules`; under `learning_rules.reward` q follows the rewards.
      state: the rule's, where it has one.

    Returns:
      Scalar, in nats, and the rule's next state.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Ba, Grosse, Salakhutdinov, Frey (2015), *Learning Wake-Sleep Recurrent Attention Models*;
      Deng, Kim, Chiu, Guo, Rush (2018), *Latent Alignment and Variational Attention*.

    >>> import jax, jax.numpy as jnp
    >>> from jaxelbo import bounds
    >>> from jaxelbo.attention import learning_rules
    >>> shape, rule = Shape(image_size=28, glimpse_size=8), learning_rules.leave_one_out(bounds.importance_weighted)
    >>> arguments = init(jax.random.key(0), shape), jax.random.key(1), jnp.zeros((28, 28)), 3
    >>> value, state = posterior_objective(*arguments, shape=shape, num_samples=2, rule=rule)
    >>> bool(value < 0)
    True
    """

    def draw(key: Key) -> tuple[Path, jax.Array]:
        path = proposed_path(params, key, image, label, shape)
        return path, path.log_classes[label] + jnp.sum(path.log_probs - path.log_proposals)

    return _by_rule(draw, params, key, label, shape, num_samples, rule, state)


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
    check_shape(shape)
    num_samples = checks.check_count(num_samples, "num_samples")
    checks.check_label(label, shape.num_classes)
    keys = jax.random.split(key, num_samples)
    paths = jax.vmap(lambda key: sample_path(params, key, image, shape))(keys)
    mean = mean_path(params, image, shape)
    log_classes, mean_log_classes = paths.log_classes[:, None], mean.log_classes[None]
    labels = jnp.asarray(label)[None]
    return score_paths(log_classes, paths.locations, mean_log_classes, mean.locations, labels, shape.policy_scale)


def _by_rule(
    draw: Callable[[Key], tuple[Path, jax.Array]],
    params: Params,
    key: Key,
    label: jax.Array,
    shape: Shape,
    num_samples: int,
    rule: LearningRule,
    state: Any,
) -> tuple[jax.Array, Any]:
    """The rule's value of S paths, drawn with their log-weights."""
    check_shape(shape)
    checks.check_key(key)
    checks.check_label(label, shape.num_classes)
    checks.check_callable(rule, "rule")
    path, log_weights = jax.vmap(draw)(jax.random.split(key, checks.check_count(num_samples, "num_samples")))
    is_right = jnp.argmax(path.log_classes, axis=1) == label
    rewards = jnp.broadcast_to(is_right[:, None], path.log_probs.shape).astype(path.log_probs.dtype)
    return rule(Paths(log_weights, path.log_proposals, rewards, path.features), params["baseline"], state)
