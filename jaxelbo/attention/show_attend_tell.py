"""Show, Attend and Tell: image captions by hard attention, and by soft attention beside it.

Attention. The network is `caption_network`. A path s = (s_1..s_T) names one cell a word; log p(y|s, a) is the sum of
log p(y_t|s_<=t, y_<t, a) over the words of the caption, its end token included. A caption ends with the first end
token, the last word of the vocabulary; what stands after it does not count. For one image; the caller vmaps.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxelbo import checks
from jaxelbo.attention import tellings
from jaxelbo.attention.caption_network import Shape, centres, init, propose, read, tell
from jaxelbo.attention.caption_scores import Scores, evaluate
from jaxelbo.attention.cell_choices import Attend, all_cells, drawn_cell, likeliest_cell, relaxed_cell
from jaxelbo.attention.learning_rules import LearningRule, Paths
from jaxelbo.attention.soft_attention import mixed_objective, relaxed_objective, soft_objective
from jaxelbo.attention.tellings import Telling
from jaxelbo.types import Key, Params

__all__ = [
    "Attend", "Scores", "Shape", "Telling", "all_cells", "centres", "drawn_cell", "evaluate", "init", "likeliest_cell",
    "mixed_objective", "objective", "posterior_objective", "propose", "read", "relaxed_cell", "relaxed_objective",
    "soft_objective", "tell",
]  # fmt: skip


def objective(
    params: Params,
    key: Key,
    image: jax.Array,
    caption: jax.Array,
    *,
    shape: Shape,
    num_samples: int,
    rule: LearningRule,
    state: Any = (),
    entropy_weight: jax.Array | float = 0.0,
) -> tuple[jax.Array, Any]:
    """The bound F of one captioned image by S paths of hard attention, with the gradient of a learning rule.

    To be raised. Estimand: F = E[log p(y|s, a)] <= log p(y|a), or what the rule says. With an entropy weight lambda it
    is F + lambda H[s], another objective, no longer a bound on log p(y|a): each path's log p(y|s, a) has lambda times
    the sum of the policy's entropies at its words beside it, so that a rule that is unbiased for F is unbiased for the
    sum as well; in a many-sample bound they stand within the logarithm. (The authors' code follows each word's entropy
    alone, without what it owes to the cells before it.)
    Rewards are the number of words from each step on that would be read right.

    Args:
      params: of `init`.
      key: one random key.
      image: ``[H, W]``, between 0 and 1.
      caption: ``[T]`` integers.
      shape: sizes of the system.
      num_samples: S, static.
      rule: of `learning_rules`; a learned baseline sees zeros after the end of the caption.
      state: the rule's, where it has one.
      entropy_weight: lambda, in nats a nat.

    Returns:
      Scalar, in nats, and the rule's next state.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Xu, Ba, Kiros, Cho, Courville, Salakhudinov, Zemel, Bengio (2015), *Show, Attend and Tell*.

    >>> import jax, jax.numpy as jnp
    >>> from jaxelbo.attention import learning_rules
    >>> shape, caption = Shape(height=40, width=112), jnp.array([3, 1, 10, 10])
    >>> arguments = init(jax.random.key(0), shape), jax.random.key(1), jnp.zeros((40, 112)), caption
    >>> value, state = objective(*arguments, shape=shape, num_samples=1, rule=learning_rules.score_function)
    >>> bool(value < 0)
    True
    """
    checks.check_real(entropy_weight, "entropy_weight")
    draw = lambda key: tell(params, key, image, caption, shape=shape, attend=drawn_cell)  # noqa: E731

    def value(told: Telling) -> jax.Array:
        entropy = jnp.sum(tellings.counts(caption, shape.num_words - 1) * tellings.entropies(told.log_policy))
        return tellings.log_likelihood(told, caption, shape.num_words - 1) + entropy_weight * entropy

    return _by_rule(draw, value, params, key, caption, shape, num_samples, rule, state)


def posterior_objective(
    params: Params,
    key: Key,
    image: jax.Array,
    caption: jax.Array,
    *,
    shape: Shape,
    num_samples: int,
    rule: LearningRule,
    state: Any = (),
) -> tuple[jax.Array, Any]:
    """The bound of one captioned image by a learned q(s|y, a), which closes the gap of F; to be raised.

    Estimand: E_q[log p(y|s, a) + log p(s|a) - log q(s|y, a)] <= log p(y|a), or the many-sample bound of those
    log-weights, by what the rule says. Before each word q sees which word it is, and is the policy at first. All
    networks are trained by it, the policy pathwise towards q.

    Args:
      params: of `init`.
      key: one random key.
      image: ``[H, W]``, between 0 and 1.
      caption: ``[T]`` integers.
      shape: sizes of the system.
      num_samples: S, static.
      rule: of `learning_rules`; under `learning_rules.reward` q follows the rewards.
      state: the rule's, where it has one.

    Returns:
      Scalar, in nats, and the rule's next state.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Deng, Kim, Chiu, Guo, Rush (2018), *Latent Alignment and Variational Attention*.

    >>> import jax, jax.numpy as jnp
    >>> from jaxelbo.attention import learning_rules
    >>> shape, caption = Shape(height=40, width=112), jnp.array([3, 1, 10, 10])
    >>> arguments = init(jax.random.key(0), shape), jax.random.key(1), jnp.zeros((40, 112)), caption
    >>> options = {"shape": shape, "num_samples": 2, "rule": learning_rules.score_function}
    >>> bool(posterior_objective(*arguments, **options)[0] == objective(*arguments, **options)[0])  # q starts as p
    True
    """
    draw = lambda key: propose(params, key, image, caption, shape=shape)  # noqa: E731

    def value(told: Telling) -> jax.Array:
        ratios = tellings.chosen(told.weights, told.log_policy) - tellings.chosen(told.weights, told.log_proposal)
        prior = jnp.sum(tellings.counts(caption, shape.num_words - 1) * ratios)
        return tellings.log_likelihood(told, caption, shape.num_words - 1) + prior

    return _by_rule(draw, value, params, key, caption, shape, num_samples, rule, state)


def _by_rule(
    draw: Callable[[Key], Telling],
    value: Callable[[Telling], jax.Array],
    params: Params,
    key: Key,
    caption: jax.Array,
    shape: Shape,
    num_samples: int,
    rule: LearningRule,
    state: Any,
) -> tuple[jax.Array, Any]:
    """The rule's value of S tellings: scores of the cells that were drawn, and the words read right from a step on."""
    checks.check_key(key)
    checks.check_callable(rule, "rule")
    told = jax.vmap(draw)(jax.random.split(key, checks.check_count(num_samples, "num_samples")))
    counts = tellings.counts(caption, shape.num_words - 1)[None]
    scores = counts * tellings.chosen(told.weights, told.log_proposal)
    is_right = counts * (jnp.argmax(told.log_words, axis=2) == caption[None])
    rewards = jnp.flip(jnp.cumsum(jnp.flip(is_right, axis=1), axis=1), axis=1)
    return rule(
        Paths(jax.vmap(value)(told), scores, rewards, counts[:, :, None] * told.features), params["baseline"], state
    )
