"""Exact expectations over the discrete parts.

Floor 3.
"""

import jax

from jaxelbo import checks, finite, monte_carlo, validity
from jaxelbo.types import Bound, Estimator, Family, Key, LogJoint, Params


def enumeration(
    params: Params, key: Key, log_joint: LogJoint, family: Family, bound: Bound, num_samples: int
) -> jax.Array:
    """The exact expectation over all values of the discrete parts, with draws for the rest. `enumeration_up_to`(2^16).

    Value: the sum over configurations of q times (log p - log q), exactly the ELBO where all parts are discrete, and
    the mean of that over S draws of the rest otherwise; there a closed-form entropy takes the place of -log q, where
    the family has one. Gradient: the derivative of that value, exact or, through draws, unbiased. The log joint is
    evaluated once a configuration (and draw of the rest).

    Args:
      params: the family's.
      key: one random key; not used where all parts are discrete.
      log_joint: latent -> scalar log p(x, z).
      family: one whose discrete parts can be listed.
      bound: ``bounds.mean``; no other bound is an expectation over single draws.
      num_samples: S, static, at least 1: draws of the rest. 1 where there is no rest.

    Returns:
      Scalar, in nats, in the dtype of params.

    Raises:
      ValueError: another bound, a family that cannot be listed, or one with more configurations than the limit.

    References:
      Titsias, Lazaro-Gredilla (2015), *Local Expectation Gradients for Black Box Variational Inference*.

    >>> import jax, jax.numpy as jnp, jaxelbo
    >>> family = jaxelbo.families.categorical(3)
    >>> params, table = family.init(jax.random.key(0)), jnp.log(jnp.array([1.0, 1.0, 1.0]))
    >>> value = enumeration(params, jax.random.key(1), lambda z: table[z], family, jaxelbo.bounds.mean, 1)
    >>> round(float(jnp.exp(value)), 4)  # the evidence: q is the posterior
    3.0
    """
    return enumeration_up_to(finite.MAX_CONFIGURATIONS)(params, key, log_joint, family, bound, num_samples)


def enumeration_up_to(limit: int) -> Estimator:
    """`enumeration` with another limit on the number of configurations.

    Args:
      limit: static, at least 1.

    Returns:
      The `Estimator`.

    Raises:
      TypeError, ValueError: a limit that is no positive integer; when called, as `enumeration`.

    References:
      Titsias, Lazaro-Gredilla (2015), *Local Expectation Gradients for Black Box Variational Inference*.

    >>> import jax, jaxelbo
    >>> family = jaxelbo.families.bernoulli(jax.numpy.zeros(9))
    >>> arguments = family.init(jax.random.key(0)), jax.random.key(1), jax.numpy.sum, family
    >>> jaxelbo.elbo(*arguments, num_samples=1, estimator=enumeration_up_to(256))
    Traceback (most recent call last):
    ...
    ValueError: family bernoulli has 512 configurations, more than the limit of 256; ...
    """
    limit = checks.check_count(limit, "limit")

    def estimator(
        params: Params, key: Key, log_joint: LogJoint, family: Family, bound: Bound, num_samples: int
    ) -> jax.Array:
        validity.check("enumeration", params, key, family, bound, num_samples)
        if family.num_configurations > limit:
            raise ValueError(
                f"family {family.name} has {checks.format_count(family.num_configurations)} configurations, more than "
                f"the limit of {limit:,}; raise it with estimators.enumeration_up_to, or use estimators.leave_one_out."
            )

        is_exact = monte_carlo.is_finite(params, family)

        def expectation(key: Key) -> jax.Array:
            latents, log_probs = family.configurations(params, key)
            values = jax.vmap(lambda latent: monte_carlo.evaluate(log_joint, latent, log_probs.dtype))(latents)
            if is_exact:
                values -= log_probs
            elif family.entropy is None:
                values -= jax.vmap(lambda latent: family.log_prob(params, latent))(latents)
            return finite.expectation(log_probs, values)

        value = monte_carlo.apply_bound(bound, monte_carlo.over_samples(expectation, key, num_samples))
        return value if is_exact or family.entropy is None else value + family.entropy(params)

    return estimator
