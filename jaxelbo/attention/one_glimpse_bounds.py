"""Bounds of the system with one glimpse: by draws of the policy, by a learned q(l|y, I), and exactly.

Attention. With M places the evidence is a sum, so that every bound of `jaxelbo.hard_attention` can be seen beside it.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxelbo import bounds, checks, estimators, families, hard_attention, objectives
from jaxelbo.attention import one_glimpse
from jaxelbo.attention.learning_rules import LearningRule, Paths
from jaxelbo.types import Bound, Estimator, Key, Params


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


def sampled_bound(
    params: Params,
    key: Key,
    image: jax.Array,
    label: jax.Array,
    *,
    shape: one_glimpse.Shape,
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
    >>> from jaxelbo.attention import one_glimpse
    >>> shape = one_glimpse.Shape(image_size=24, grid=4, glimpse_size=8)
    >>> params, key = one_glimpse.init(jax.random.key(0), shape), jax.random.key(1)
    >>> bool(sampled_bound(params, key, jnp.ones((24, 24)), 3, shape=shape, num_samples=4) < 0)
    True
    """
    return hard_attention.policy_bound(
        {"logits": one_glimpse.log_policy(params, image, shape)},
        key,
        one_glimpse.log_likelihood(params, image, label, shape),
        families.categorical(shape.grid**2),
        bound=bound,
        num_samples=num_samples,
        estimator=estimator,
    )


def objective(
    params: Params,
    key: Key,
    image: jax.Array,
    label: jax.Array,
    *,
    shape: one_glimpse.Shape,
    num_samples: int,
    rule: LearningRule,
    state: Any = (),
) -> tuple[jax.Array, Any]:
    """F of one image by S glimpses, with the gradient of a learning rule, as in the recurrent systems; to be raised.

    Estimand: F = E[log p(y|l, I)] <= log p(y|I), or what the rule says. Here are the 0/1 reward and the baselines that
    are learned or run along; where no state is needed `sampled_bound` takes any estimator of the toolkit.

    Args:
      params: of `init`.
      key: one random key.
      image: ``[H, W]``, between 0 and 1.
      label: integer scalar.
      shape: sizes of the system.
      num_samples: S, static.
      rule: of `learning_rules`; a learned baseline sees the hidden layer of the context network.
      state: the rule's, where it has one.

    Returns:
      Scalar, in nats, and the rule's next state.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Ba, Mnih, Kavukcuoglu (2015), *Multiple Object Recognition with Visual Attention*.

    >>> import jax, jax.numpy as jnp
    >>> from jaxelbo.attention import learning_rules, one_glimpse
    >>> shape = one_glimpse.Shape(image_size=24, grid=4, glimpse_size=8)
    >>> arguments = one_glimpse.init(jax.random.key(0), shape), jax.random.key(1), jnp.ones((24, 24)), 3
    >>> bool(objective(*arguments, shape=shape, num_samples=4, rule=learning_rules.reward())[0] < 0)
    True
    """
    checks.check_key(key)
    checks.check_callable(rule, "rule")
    policy, features = one_glimpse.policy_and_features(params, image, shape)
    checks.check_label(label, shape.num_classes)
    num_samples = checks.check_count(num_samples, "num_samples")
    places = jax.random.categorical(key, jax.lax.stop_gradient(policy), shape=(num_samples,))
    log_classes = jax.vmap(one_glimpse.classifier(params, image, shape))(places)
    rewards = (jnp.argmax(log_classes, axis=1) == label).astype(policy.dtype)
    seen = jnp.broadcast_to(features, (num_samples, 1, features.size))
    paths = Paths(log_classes[:, label], policy[places][:, None], rewards[:, None], seen)
    return rule(paths, params["baseline"], state)


def posterior_bound(
    params: Params,
    key: Key,
    image: jax.Array,
    label: jax.Array,
    *,
    shape: one_glimpse.Shape,
    num_samples: int,
    bound: Bound = bounds.mean,
    estimator: Estimator = estimators.leave_one_out,
) -> jax.Array:
    """The bound by a learned q(l|y, I), which closes the gap of F; to be maximised.

    Estimand: E_q[log p(y|l, I)] - KL(q(l|y, I) || p(l|I)) <= log p(y|I), or a many-sample bound. Policy, classifier and
    q are all trained by it.

    Args:
      params: of `init`.
      key: one random key.
      image: ``[H, W]``, between 0 and 1.
      label: integer scalar.
      shape: sizes of the system.
      num_samples: S, static.
      bound: log-weights ``[S]`` -> scalar.
      estimator: how the gradient is estimated, of `jaxelbo.estimators`.

    Returns:
      Scalar, in nats.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Deng, Kim, Chiu, Guo, Rush (2018), *Latent Alignment and Variational Attention*.

    >>> import jax, jax.numpy as jnp
    >>> from jaxelbo.attention import one_glimpse
    >>> shape = one_glimpse.Shape(image_size=24, grid=4, glimpse_size=8)
    >>> params, key = one_glimpse.init(jax.random.key(0), shape), jax.random.key(1)
    >>> bool(posterior_bound(params, key, jnp.ones((24, 24)), 3, shape=shape, num_samples=4) < 0)
    True
    """
    policy = one_glimpse.log_policy(params, image, shape)
    log_likelihood = one_glimpse.log_likelihood(params, image, label, shape)
    return objectives.lower_bound(
        {"logits": one_glimpse.log_posterior(params, image, label, shape)},
        key,
        lambda place: policy[place] + log_likelihood(place),
        families.categorical(shape.grid**2),
        bound=bound,
        num_samples=num_samples,
        estimator=estimator,
    )


def exact(params: Params, image: jax.Array, label: jax.Array, shape: one_glimpse.Shape) -> Exact:
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
    >>> from jaxelbo.attention import one_glimpse
    >>> shape = one_glimpse.Shape(image_size=24, grid=4, glimpse_size=8)
    >>> of = exact(one_glimpse.init(jax.random.key(0), shape), jnp.ones((24, 24)), 3, shape)
    >>> bool(abs(of.log_evidence - of.bound - of.gap) < 1e-5)
    True
    """
    checks.check_label(label, shape.num_classes)
    policy = one_glimpse.log_policy(params, image, shape)
    likelihood = one_glimpse.log_classes(params, image, shape)[:, label]
    return Exact(
        log_evidence=hard_attention.log_evidence(policy, likelihood),
        bound=hard_attention.exact_policy_bound(policy, likelihood),
        gap=hard_attention.gap(policy, policy, likelihood),
        entropy=-hard_attention.exact_policy_bound(policy, policy),
    )
