"""Exact expectations over the discrete parts, and draws of them without replacement.

Floor 3.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxelbo import checks, custom_gradients, finite, monte_carlo, validity
from jaxelbo.types import Bound, Estimator, Family, Key, LogJoint, Params, PyTree

LIMIT = 2**16
"""How many configurations `enumeration` lists at most."""

MAX_SET = 10
"""How many draws `without_replacement` makes at most; its work on probabilities grows as 2^S."""


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
    return enumeration_up_to(LIMIT)(params, key, log_joint, family, bound, num_samples)


def enumeration_up_to(limit: int) -> Estimator:
    """`enumeration` with another limit on the number of configurations.

    Args:
      limit: static, at least 1.

    Returns:
      The `Estimator`.

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
        _check_size(family, limit, "raise it with estimators.enumeration_up_to, or use estimators.leave_one_out.")

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


def without_replacement(
    params: Params, key: Key, log_joint: LogJoint, family: Family, bound: Bound, num_samples: int
) -> jax.Array:
    """The unordered-set estimator: S different configurations, weighted by how they came to be drawn.

    Value: the sum over the set of q(z) R(z) (log p - log q), with R the ratio of the probability of drawing the set
    given that z came first to that of drawing it at all; unbiased for the ELBO. Gradient: the derivative of that with R
    held fixed and a built-in baseline, unbiased. With as many draws as configurations it is `enumeration`. All
    configurations are listed with their probabilities; the log joint is evaluated at S of them.

    Args:
      params: the family's.
      key: one random key.
      log_joint: latent -> scalar log p(x, z).
      family: one whose discrete parts can be listed; one draw of the rest is made beside each configuration.
      bound: ``bounds.mean``.
      num_samples: S, static, 2 to 10, and not more than there are configurations.

    Returns:
      Scalar, in nats, in the dtype of params.

    Raises:
      ValueError: another bound, a family that cannot be listed or is too large, a number of draws out of that range.

    References:
      Kool, van Hoof, Welling (2020), *Estimating Gradients for Discrete Random Variables by Sampling without
      Replacement*.

    >>> import jax, jax.numpy as jnp, jaxelbo
    >>> family = jaxelbo.families.categorical(3)
    >>> params, table = {"logits": jnp.array([0.0, 1.0, 2.0])}, jnp.array([1.0, 5.0, 2.0])
    >>> arguments = params, jax.random.key(1), lambda z: table[z], family
    >>> value = jaxelbo.elbo(*arguments, num_samples=3, estimator=without_replacement)
    >>> bool(jnp.isclose(value, jaxelbo.elbo(*arguments, num_samples=1, estimator=enumeration)))
    True
    """
    validity.check("without_replacement", params, key, family, bound, num_samples)
    _check_size(family, LIMIT, "use estimators.leave_one_out.")
    most = min(MAX_SET, family.num_configurations)
    if num_samples > most:
        raise ValueError(
            f"num_samples must be at most {most} for estimators.without_replacement (at most {MAX_SET}, and no more "
            f"than the {family.num_configurations} configurations of family {family.name}), got {num_samples}."
        )
    key_set, key_rest = jax.random.split(key)
    latents, log_probs = family.configurations(params, key_rest)
    perturbed = jax.lax.stop_gradient(log_probs) + jax.random.gumbel(key_set, log_probs.shape, log_probs.dtype)
    chosen = jax.lax.top_k(perturbed, num_samples)[1]
    is_left = jnp.ones(log_probs.shape, bool).at[chosen].set(False)
    rest = jnp.sum(jnp.where(is_left, jax.lax.stop_gradient(jnp.exp(log_probs)), 0))
    latents, log_probs = jax.tree.map(lambda leaf: leaf[chosen], (latents, log_probs))

    def weigh(latent: PyTree, log_prob: jax.Array) -> jax.Array:
        # Minus the gradient of its own log-probability, which is zero in the mean, is left out of each term.
        log_q = family.log_prob(params, latent) - (log_prob - jax.lax.stop_gradient(log_prob))
        return monte_carlo.evaluate(log_joint, latent, log_prob.dtype) - log_q

    values = jax.vmap(weigh)(latents, log_probs)
    probabilities = jnp.exp(log_probs)
    first, second = _set_ratios(jax.lax.stop_gradient(probabilities), rest)
    fixed = jax.lax.stop_gradient(values)
    baselines = second @ (jax.lax.stop_gradient(probabilities) * fixed)
    value = jnp.sum(jax.lax.stop_gradient(probabilities) * first * values)
    return custom_gradients.add_gradient(value, jnp.sum(probabilities * first * (fixed - baselines)))


def _set_ratios(probabilities: jax.Array, rest: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The ratios R(s) ``[S]`` and R(s') after s is taken out of the support, ``[S, S]``, of a set drawn in S draws.

    ``probabilities`` are those of the set, ``rest`` is the sum of all others. For every part A of the set, g(A) is the
    probability that draws without replacement from A and the rest give A first. By the first draw it is
    g(A) = sum over i in A of p_i g(A without i) / (rest + p(A)).
    """
    size = probabilities.shape[0]
    bits = (np.arange(2**size)[:, None] >> np.arange(size)) & 1  # [2^S, S]: which are in A
    masses = rest + jnp.asarray(bits, probabilities.dtype) @ probabilities
    chances = jnp.zeros((2**size,), probabilities.dtype).at[0].set(1)
    for count in range(1, size + 1):
        subsets = np.flatnonzero(bits.sum(axis=1) == count)
        members = np.array([np.flatnonzero(bits[subset]) for subset in subsets])  # [number of subsets, count]
        steps = chances[subsets[:, None] - (1 << members)] * probabilities[members]
        chances = chances.at[subsets].set(jnp.sum(steps, axis=1) / masses[subsets])
    whole, one = 2**size - 1, 1 << np.arange(size)
    less_one = chances[whole - one]
    less_two = chances[whole - (one[:, None] | one[None, :])]
    # Given s in the set, the rest of it is a set drawn from what is left; s itself counts with ratio 1.
    return less_one / chances[whole], jnp.where(jnp.eye(size, dtype=bool), 1, less_two / less_one[:, None])


def _check_size(family: Family, limit: int, advice: str) -> None:
    if family.num_configurations > limit:
        raise ValueError(
            f"family {family.name} has {family.num_configurations:,} configurations, more than the limit of {limit:,}; "
            f"{advice}"
        )
