"""Attention by mixed cells, differentiated through its weights: soft, relaxed, and hard with soft steps among them.

Attention. Beside `show_attend_tell`, on the same network. For one image but for `mixed_objective`, which sees a
minibatch.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxelbo import checks
from jaxelbo.attention import tellings
from jaxelbo.attention.caption_network import Shape, tell
from jaxelbo.attention.cell_choices import all_cells, relaxed_cell
from jaxelbo.types import Key, Params


def relaxed_objective(
    params: Params,
    key: Key,
    image: jax.Array,
    caption: jax.Array,
    *,
    shape: Shape,
    num_samples: int,
    temperature: float = 0.5,
) -> jax.Array:
    """F with relaxed cells, differentiated through them; to be raised.

    Estimand: the mean of log p(y|z, a) over contexts z mixed by Gumbel-softmax weights, a biased stand-in for F; with a
    falling temperature it comes near.

    Args:
      params: of `init`.
      key: one random key.
      image: ``[H, W]``, between 0 and 1.
      caption: ``[T]`` integers.
      shape: sizes of the system.
      num_samples: S, static.
      temperature: of `relaxed_cell`.

    Returns:
      Scalar, in nats.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Jang, Gu, Poole (2017), *Categorical Reparameterization with Gumbel-Softmax*.

    >>> import jax, jax.numpy as jnp
    >>> from jaxelbo.attention.caption_network import init
    >>> shape, caption = Shape(height=40, width=112), jnp.array([3, 1, 10, 10])
    >>> arguments = init(jax.random.key(0), shape), jax.random.key(1), jnp.zeros((40, 112)), caption
    >>> bool(relaxed_objective(*arguments, shape=shape, num_samples=2) < 0)
    True
    """
    attend = relaxed_cell(temperature)

    def of_one(key: Key) -> jax.Array:
        told = tell(params, key, image, caption, shape=shape, attend=attend)
        return tellings.log_likelihood(told, caption, shape.num_words - 1)

    checks.check_key(key)
    return jnp.mean(jax.vmap(of_one)(jax.random.split(key, checks.check_count(num_samples, "num_samples"))))


def soft_objective(
    params: Params,
    image: jax.Array,
    caption: jax.Array,
    *,
    shape: Shape,
    entropy_weight: jax.Array | float = 0.0,
) -> jax.Array:
    """Soft attention: log p(y|E[z], a), where the context is the mean annotation under the policy; to be raised.

    Deterministic and differentiable, and neither F nor a bound on log p(y|a): another model of the same networks.

    Args:
      params: of `init`.
      image: ``[H, W]``, between 0 and 1.
      caption: ``[T]`` integers.
      shape: sizes of the system.
      entropy_weight: lambda, of the sum of the policy's entropies at the words, in nats a nat.

    Returns:
      Scalar, in nats.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Bahdanau, Cho, Bengio (2015), *Neural Machine Translation by Jointly Learning to Align and Translate*;
      Xu, Ba, Kiros, Cho, Courville, Salakhudinov, Zemel, Bengio (2015), *Show, Attend and Tell*.

    >>> import jax, jax.numpy as jnp
    >>> from jaxelbo.attention.caption_network import init
    >>> shape, caption = Shape(height=40, width=112), jnp.array([3, 1, 10, 10])
    >>> bool(soft_objective(init(jax.random.key(0), shape), jnp.zeros((40, 112)), caption, shape=shape) < 0)
    True
    """
    checks.check_real(entropy_weight, "entropy_weight")
    no_noise = jax.random.key(0)  # this attention draws nothing
    told = tell(params, no_noise, image, caption, shape=shape, attend=all_cells)
    entropy = jnp.sum(tellings.counts(caption, shape.num_words - 1) * tellings.entropies(told.log_policy))
    return tellings.log_likelihood(told, caption, shape.num_words - 1) + entropy_weight * entropy


def mixed_objective(
    params: Params,
    key: Key,
    images: jax.Array,
    captions: jax.Array,
    state: Any,
    *,
    hard: Callable[..., tuple[jax.Array, Any]],
    soft: Callable[..., jax.Array],
    soft_probability: jax.Array | float,
) -> tuple[jax.Array, Any]:
    """The published mean step: with some probability a whole minibatch sees the mean of each cell for its draw.

    To be raised. The coin falls once for the minibatch, as in the authors' code. In a soft step there is no draw and so
    no score term, and the rule's state stays as it is. The estimand is (1 - probability) times that of ``hard`` plus
    probability times that of ``soft``: another objective than the bound F unless the probability is 0.

    Args:
      params: of `init`.
      key: one random key.
      images: ``[B, H, W]``, between 0 and 1.
      captions: ``[B, T]`` integers.
      state: the rule's; the states that come back from the images of a hard step are averaged.
      hard: ``(params, key, image, caption, state=state) -> (value, state)``, `show_attend_tell.objective` with its
        options.
      soft: ``(params, image, caption) -> value``, `soft_objective` with its options.
      soft_probability: between 0 and 1; the paper has 1/2.

    Returns:
      Scalar, mean over the minibatch in nats, and the rule's next state.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Xu, Ba, Kiros, Cho, Courville, Salakhudinov, Zemel, Bengio (2015), *Show, Attend and Tell*.

    >>> import functools, jax, jax.numpy as jnp
    >>> from jaxelbo.attention.caption_network import init
    >>> from jaxelbo.attention import learning_rules, show_attend_tell
    >>> shape = Shape(height=40, width=112)
    >>> batch = jnp.zeros((2, 40, 112)), jnp.full((2, 3), 10)
    >>> rule, soft = learning_rules.score_function, functools.partial(soft_objective, shape=shape)
    >>> hard = functools.partial(show_attend_tell.objective, shape=shape, num_samples=1, rule=rule)
    >>> options = {"hard": hard, "soft": soft, "soft_probability": 0.5}
    >>> value, state = mixed_objective(init(jax.random.key(0), shape), jax.random.key(1), *batch, (), **options)
    >>> bool(value < 0)
    True
    """
    checks.check_key(key)
    checks.check_callable(hard, "hard")
    checks.check_callable(soft, "soft")
    checks.check_real(soft_probability, "soft_probability")
    checks.check_floating(images, "images", ("B", "H", "W"))
    if jnp.ndim(captions) != 2 or len(captions) != len(images):
        raise ValueError(f"captions must have shape ({len(images)}, T), one an image, got {jnp.shape(captions)}.")
    if not checks.is_traced(soft_probability) and not 0 <= soft_probability <= 1:
        raise ValueError(f"soft_probability must be between 0 and 1, got {soft_probability}.")
    key_coin, key_draws = jax.random.split(key)

    def soft_step(params: Params) -> tuple[jax.Array, Any]:
        return jnp.mean(jax.vmap(lambda image, caption: soft(params, image, caption))(images, captions)), state

    def hard_step(params: Params) -> tuple[jax.Array, Any]:
        of_one = lambda key, image, caption: hard(params, key, image, caption, state=state)  # noqa: E731
        values, states = jax.vmap(of_one)(jax.random.split(key_draws, len(images)), images, captions)
        return jnp.mean(values), jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), states)

    return jax.lax.cond(jax.random.bernoulli(key_coin, soft_probability), soft_step, hard_step, params)
