"""One family given a draw of another: mixtures, spike and slab, a discrete part that depends on a continuous one.

Floor 2.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxelbo import checks
from jaxelbo.families.products import configurations_or_draw, is_reparameterised
from jaxelbo.types import Family, Key, Latent, Params


def conditional(
    first: Family, second: Family, link_fn: Callable[[Params, Latent], Params], init_fn: Callable[[Key], Params]
) -> Family:
    """The pair (a, b) with a ~ ``first`` and b ~ ``second`` at the params ``link_fn(link params, a)``.

    Its params are ``{"first": first's, "link": init_fn's}``, its latent the tuple ``(a, b)``. Either may be
    reparameterised or not: gradients flow from b to a where a is reparameterised, and b's log-probabilities depend on
    it.

    Args:
      first: the family of a.
      second: the family of b.
      link_fn: ``(link params, a) -> params of second``.
      init_fn: ``key -> link params``, any pytree of arrays.

    Returns:
      The `Family`. Its ``init`` takes no start; it has no closed-form entropy and cannot be relaxed; its configurations
      are those of a with those of b given each.

    Raises:
      TypeError, ValueError: naming the argument; when used, linked params that do not fit ``second``.

    References:
      Schulman, Heess, Weber, Abbeel (2015), *Gradient Estimation Using Stochastic Computation Graphs*.

    >>> import jax, jax.numpy as jnp
    >>> from jaxelbo import families
    >>> slab = families.mean_field(0.0)
    >>> link_fn = lambda params, on: jax.tree.map(lambda leaf: leaf[on], params)  # a mixture of two Gaussians
    >>> init_fn = lambda key: {"loc": jnp.array([[-1.0], [1.0]]), "log_scale": jnp.zeros((2, 1))}
    >>> family = conditional(families.categorical(2), slab, link_fn, init_fn)
    >>> params = family.init(jax.random.key(0))
    >>> family.score_log_probs(params, (1, jnp.asarray(0.5)))
    Array([-0.6931472], dtype=float32)
    """
    checks.check_family(first, "first")
    checks.check_family(second, "second")
    checks.check_callable(link_fn, "link_fn")
    checks.check_callable(init_fn, "init_fn")

    def linked(params: Params, latent: Latent) -> Params:
        second_params = link_fn(params["link"], latent)
        checks.check_params(second_params, second, "the params that link_fn returns", "second")
        return second_params

    def init(key: Key, start: Latent | None = None) -> Params:
        if start is not None:
            raise ValueError("start must be None for family conditional, whose second params are the link's.")
        key_first, key_link = jax.random.split(key)
        return {"first": first.init(key_first), "link": init_fn(key_link)}

    def sample(params: Params, key: Key) -> Latent:
        return sample_and_log_prob(params, key)[0]

    def sample_and_log_prob(params: Params, key: Key) -> tuple[Latent, jax.Array]:
        key_first, key_second = jax.random.split(key)
        a, log_prob_a = first.sample_and_log_prob(params["first"], key_first)
        b, log_prob_b = second.sample_and_log_prob(linked(params, a), key_second)
        return (a, b), log_prob_a + log_prob_b

    def pair(latent: Latent) -> tuple[Latent, Latent]:
        if not isinstance(latent, tuple) or len(latent) != 2:
            raise ValueError(f"latent must be a pair (a, b) for family conditional, got {checks.describe(latent)}.")
        return latent

    def log_prob(params: Params, latent: Latent) -> jax.Array:
        a, b = pair(latent)
        return first.log_prob(params["first"], a) + second.log_prob(linked(params, a), b)

    def score_log_probs(params: Params, latent: Latent) -> jax.Array:
        a, b = pair(latent)
        of_first = first.score_log_probs(params["first"], a)
        return jnp.concatenate([of_first, second.score_log_probs(linked(params, a), b)])

    def configurations(params: Params, key: Key) -> tuple[Latent, jax.Array]:
        key_first, key_second = jax.random.split(key)
        a, log_probs_a = configurations_or_draw(first, params["first"], key_first)
        given = jax.vmap(lambda a: configurations_or_draw(second, linked(params, a), key_second))
        b, log_probs_b = given(a)  # leaves [M of a, M of b, ...]
        a = jax.tree.map(lambda leaf: jnp.repeat(leaf, log_probs_b.shape[1], axis=0), a)
        b = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), b)
        return (a, b), jnp.ravel(log_probs_a[:, None] + log_probs_b)

    sizes = [family.num_configurations for family in (first, second) if family.configurations is not None]
    can_list = bool(sizes) and all(f.configurations is not None or is_reparameterised(f) for f in (first, second))
    return Family(
        name=f"conditional({first.name}, {second.name})",
        init=init,
        sample=sample,
        log_prob=log_prob,
        sample_and_log_prob=sample_and_log_prob,
        score_log_probs=score_log_probs,
        configurations=configurations if can_list else None,
        num_configurations=math.prod(sizes) if can_list else 0,
    )
