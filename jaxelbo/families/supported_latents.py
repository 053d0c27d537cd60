"""A family of an unconstrained latent, seen as one of a latent with supports."""

from collections.abc import Callable

import jax

from jaxelbo import checks, supports
from jaxelbo.distributions import Transformed
from jaxelbo.types import Family, Key, Latent, Params


def pushforward(family: Family, constraint: supports.Constraint) -> Family:
    """The distribution of a latent whose unconstrained form has a family's.

    Params are the family's own. Draws and log densities are of the latent on the user's scale, and log densities hold
    the log-determinant. Means on that scale have no closed form in general, so there is no ``location_and_scale``;
    `summary` of `draws` tells them.

    Args:
      family: of the unconstrained latent, with reparameterised draws or not.
      constraint: of `supports.constraint_of`.

    Returns:
      The `Family` of the latent.

    >>> import jax, jax.numpy as jnp
    >>> from jaxelbo import bijectors, families, supports
    >>> constraint = supports.constraint_of({"tau": 1.0}, {"tau": bijectors.positive})
    >>> family = pushforward(families.mean_field({"tau": 0.0}), constraint)
    >>> bool(family.sample(family.init(jax.random.key(0)), jax.random.key(1))["tau"] > 0)
    True
    """
    checks.check_family(family)

    def init(key: Key, start: Latent | None = None) -> Params:
        return family.init(key, None if start is None else supports.unconstrained_like(constraint, start))

    def sample(params: Params, key: Key) -> Latent:
        return supports.constrain(constraint, family.sample(params, key))

    def log_prob(params: Params, latent: Latent) -> jax.Array:
        checks.check_like(latent, jax.eval_shape(sample, params, jax.random.key(0)), "latent", "this family")
        unconstrained = supports.unconstrain(constraint, latent)
        return family.log_prob(params, unconstrained) - supports.log_det(constraint, unconstrained)

    def sample_and_log_prob(params: Params, key: Key) -> tuple[Latent, jax.Array]:
        unconstrained, log_q = family.sample_and_log_prob(params, key)
        return supports.constrain(constraint, unconstrained), log_q - supports.log_det(constraint, unconstrained)

    def score_log_probs(params: Params, latent: Latent) -> jax.Array:
        return family.score_log_probs(params, supports.unconstrain(constraint, latent))

    def distribution(params: Params) -> Transformed:
        return Transformed(family.distribution(params), constraint)

    return Family(
        name=f"{family.name} with supports",
        init=init,
        sample=sample,
        log_prob=log_prob,
        sample_and_log_prob=sample_and_log_prob,
        score_log_probs=score_log_probs,
        distribution=None if family.distribution is None else distribution,
    )


def constrained(constructor: Callable[[Latent], Family], latent_like: Latent, support: supports.Supports) -> Family:
    """A family of a latent with supports: a constructor's family of its unconstrained form, pushed forward.

    Args:
      constructor: unconstrained latent -> `Family`, such as `families.full_rank`.
      latent_like: a latent inside its support, the start, or its shapes.
      support: a pytree of `bijectors.Bijector`, as deep as one likes; in dicts what is not named is real.

    Returns:
      The `Family` of the latent, on the user's scale.

    Raises:
      TypeError, ValueError: naming the leaf: a support that does not fit, a start outside it.

    >>> import jax
    >>> from jaxelbo import bijectors, families
    >>> family = constrained(families.mean_field, {"p": 0.25, "x": 0.0}, {"p": bijectors.unit_interval})
    >>> latent = family.sample(family.init(jax.random.key(0)), jax.random.key(1))
    >>> bool((0 < latent["p"]) & (latent["p"] < 1))
    True
    """
    checks.check_callable(constructor, "constructor")
    constraint = supports.constraint_of(latent_like, support)
    return pushforward(constructor(supports.unconstrained_like(constraint, latent_like)), constraint)
