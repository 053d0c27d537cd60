"""What a rationale system raises or lowers: the expected cost of the paper, and its variational reading.

Attention. The cost E[-log p(y|z, x) + Omega(z)] has the generator as its own policy. Read variationally, exp(-Omega) is
a prior of the mask and the generator an approximate posterior, whose entropy is added: a lower bound of log p(y|x).
Both are bounds of `jaxelbo`, with any of its estimators.
"""

import jax

from jaxelbo import bounds, checks, estimators, hard_attention, objectives
from jaxelbo.attention import rationale_masks, rationales
from jaxelbo.attention.rationale_generators import Generator, Shape
from jaxelbo.attention.rationale_masks import Penalty
from jaxelbo.types import Bound, Estimator, Key, Params


def expected_cost(
    params: Params,
    key: Key,
    vectors: jax.Array,
    words: jax.Array,
    label: jax.Array,
    *,
    shape: Shape,
    generator: Generator,
    penalty: Penalty,
    num_samples: int,
    estimator: Estimator = estimators.leave_one_out,
    feature_dropout: float = 0.0,
    word_dropout: float = 0.0,
) -> jax.Array:
    """The cost of the paper, to be lowered: E_p(z|x)[-log p(y|z, x) + Omega(z)].

    Estimand: that expectation, under dropout of the features. Unbiased; the gradient is the estimator's.

    Args:
      params: of `init`.
      key: one random key.
      vectors: ``[V, D]``, held fixed.
      words: ``[T]`` integers, `PADDING` behind the text.
      label: integer scalar.
      shape: sizes of the system.
      generator: the policy over masks.
      penalty: weights of Omega.
      num_samples: S masks, static.
      estimator: how the gradient is estimated, of `jaxelbo.estimators`.
      feature_dropout: share of features that are hidden from either network.
      word_dropout: share of words that are hidden from the encoder though kept.

    Returns:
      Scalar, in nats.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Lei, Barzilay, Jaakkola (2016), *Rationalizing Neural Predictions*.

    >>> import jax, jax.numpy as jnp
    >>> from jaxelbo.attention import rationales
    >>> from jaxelbo.attention.rationale_generators import INDEPENDENT
    >>> shape = Shape(length=5)
    >>> params = rationales.init(jax.random.key(0), shape, INDEPENDENT, num_words=9, num_dimensions=3)
    >>> arguments = params, jax.random.key(1), jnp.ones((9, 3)), jnp.array([2, 3, 4, 0, 0]), 1
    >>> options = dict(shape=shape, generator=INDEPENDENT, penalty=Penalty(0.1), num_samples=4)
    >>> bool(expected_cost(*arguments, **options) > 0)
    True
    """
    checks.check_key(key)
    key, key_drop = jax.random.split(key)
    policy, is_word, log_likelihood = rationales.given(
        params, key_drop, vectors, words, label,
        shape=shape, generator=generator, feature_dropout=feature_dropout, word_dropout=word_dropout,
    )  # fmt: skip

    def reward(mask: jax.Array) -> jax.Array:
        return log_likelihood(mask) - rationale_masks.omega(mask, is_word, penalty)

    return -hard_attention.policy_bound(
        policy, key, reward, generator.family(shape), num_samples=num_samples, estimator=estimator
    )


def elbo(
    params: Params,
    key: Key,
    vectors: jax.Array,
    words: jax.Array,
    label: jax.Array,
    *,
    shape: Shape,
    generator: Generator,
    penalty: Penalty,
    num_samples: int,
    bound: Bound = bounds.mean,
    estimator: Estimator = estimators.leave_one_out,
    feature_dropout: float = 0.0,
    word_dropout: float = 0.0,
) -> jax.Array:
    """The variational reading, to be raised: a lower bound of log p(y|x) = log sum_z p(z) p(y|z, x).

    The prior p(z) is that of `rationale_masks.log_prior`, the generator an approximate posterior q(z|x) that does not
    see the label. Estimand: E_q[log p(y|z, x) + log p(z)] + H[q], or a many-sample bound.

    Args:
      params: of `init`.
      key: one random key.
      vectors: ``[V, D]``, held fixed.
      words: ``[T]`` integers, `PADDING` behind the text.
      label: integer scalar.
      shape: sizes of the system.
      generator: the policy over masks.
      penalty: weights of Omega.
      num_samples: S masks, static.
      bound: log-weights ``[S]`` -> scalar.
      estimator: how the gradient is estimated, of `jaxelbo.estimators`.
      feature_dropout: share of features that are hidden from either network.
      word_dropout: share of words that are hidden from the encoder though kept.

    Returns:
      Scalar, in nats.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Lei, Barzilay, Jaakkola (2016), *Rationalizing Neural Predictions*.

    >>> import jax, jax.numpy as jnp
    >>> from jaxelbo.attention import rationales
    >>> from jaxelbo.attention.rationale_generators import INDEPENDENT
    >>> shape = Shape(length=5)
    >>> params = rationales.init(jax.random.key(0), shape, INDEPENDENT, num_words=9, num_dimensions=3)
    >>> arguments = params, jax.random.key(1), jnp.ones((9, 3)), jnp.array([2, 3, 4, 0, 0]), 1
    >>> bool(elbo(*arguments, shape=shape, generator=INDEPENDENT, penalty=Penalty(0.1), num_samples=4) < 0)
    True
    """
    checks.check_key(key)
    key, key_drop = jax.random.split(key)
    policy, is_word, log_likelihood = rationales.given(
        params, key_drop, vectors, words, label,
        shape=shape, generator=generator, feature_dropout=feature_dropout, word_dropout=word_dropout,
    )  # fmt: skip

    def log_joint(mask: jax.Array) -> jax.Array:
        return log_likelihood(mask) + rationale_masks.log_prior(mask, is_word, penalty)

    return objectives.lower_bound(
        policy, key, log_joint, generator.family(shape), bound=bound, num_samples=num_samples, estimator=estimator
    )
