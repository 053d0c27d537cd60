"""Measure-valued derivatives: the derivative of a density as a difference of two densities.

Floor 3.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxelbo import custom_gradients, finite, gaussians, monte_carlo, validity
from jaxelbo.types import Bound, Family, Key, LogJoint, Params


def measure_valued(
    params: Params, key: Key, log_joint: LogJoint, family: Family, bound: Bound, num_samples: int
) -> jax.Array:
    """Weak derivatives, coordinate by coordinate; the log joint need not be differentiable.

    Value: the mean of S log joints plus the closed-form entropy. Gradient in params: for each coordinate the difference
    of the log joint at two coupled draws of it, the others kept: one and zero for a Bernoulli; for a Gaussian loc +-
    scale times a Rayleigh number for its location, a double-sided Maxwell number against a normal one for its scale.
    The entropy's gradient is exact. Unbiased. D + 1 (Bernoulli) or 4 D (Gaussian) evaluations of the log joint a
    sample, beside that of the value.

    Args:
      params: ``{"logits": [D]}``, or ``{"loc": [D], "log_scale": [D]}``.
      key: one random key.
      log_joint: latent -> scalar log p(x, z).
      family: ``families.bernoulli`` or ``families.mean_field``.
      bound: ``bounds.mean``.
      num_samples: S, static, at least 1.

    Returns:
      Scalar, in nats, in the dtype of params.

    Raises:
      ValueError: another family or bound.

    References:
      Mohamed, Rosca, Figurnov, Mnih (2020), *Monte Carlo Gradient Estimation in Machine Learning*.

    >>> import jax, jax.numpy as jnp, jaxelbo
    >>> family = jaxelbo.families.mean_field(jnp.zeros(2))
    >>> arguments = family.init(jax.random.key(0)), jax.random.key(1), lambda z: jnp.sum(jnp.sign(z)), family
    >>> bool(jnp.all(jax.grad(jaxelbo.elbo)(*arguments, num_samples=4, estimator=measure_valued)["loc"] > 0))
    True
    """
    traits = validity.check("measure_valued", params, key, family, bound, num_samples)
    distribution = family.distribution(params)
    fixed = jax.lax.stop_gradient(distribution)
    slopes_at = _bernoulli_slopes if traits.distribution is finite.Bernoulli else _gaussian_slopes

    def one(key: Key) -> tuple[jax.Array, NamedTuple]:
        key_value, key_slopes = jax.random.split(key)
        latent = jax.lax.stop_gradient(family.sample(params, key_value))

        def evaluate(flat: jax.Array) -> jax.Array:
            return monte_carlo.evaluate(log_joint, family.unflatten(flat), flat.dtype)

        return monte_carlo.evaluate(log_joint, latent, dtype), slopes_at(jax.vmap(evaluate), fixed, key_slopes)

    entropy = family.entropy(params)
    dtype = entropy.dtype
    values, slopes = monte_carlo.over_samples(one, key, num_samples)
    value = monte_carlo.apply_bound(bound, values) + entropy
    slopes = jax.lax.stop_gradient(jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), slopes))
    return custom_gradients.add_gradient(value, sum(map(jnp.vdot, slopes, distribution)))


def _bernoulli_slopes(evaluate, bernoulli: finite.Bernoulli, key: Key) -> finite.Bernoulli:
    flat = finite.draw_bernoulli(bernoulli, key)
    # One of the two draws of each bit is the draw itself.
    values = evaluate(jnp.concatenate([flat[None], _with_each(flat, 1 - flat)]))
    ones_less_zeros = (2 * flat - 1) * (values[0] - values[1:])
    variances = jax.nn.sigmoid(bernoulli.logits) * jax.nn.sigmoid(-bernoulli.logits)
    return finite.Bernoulli(variances * ones_less_zeros)


def _gaussian_slopes(evaluate, gaussian: gaussians.Diagonal, key: Key) -> gaussians.Diagonal:
    loc, scale = gaussian.loc, jnp.exp(gaussian.log_scale)
    keys = jax.random.split(key, 4)
    flat = loc + scale * jax.random.normal(keys[0], loc.shape, loc.dtype)
    # A Rayleigh number, from an exponential one; a double-sided Maxwell number and, times a uniform one, a normal one.
    rayleigh = jnp.sqrt(2 * jax.random.exponential(keys[1], loc.shape, loc.dtype))
    maxwell = jax.random.double_sided_maxwell(keys[2], 0.0, 1.0, loc.shape, loc.dtype)
    normal = maxwell * jax.random.uniform(keys[3], loc.shape, loc.dtype)
    offsets = (rayleigh, -rayleigh, maxwell, normal)
    values = evaluate(jnp.concatenate([_with_each(flat, loc + scale * offset) for offset in offsets]))
    right, left, wide, narrow = jnp.split(values, 4)
    return gaussians.Diagonal((right - left) / (scale * math.sqrt(2 * math.pi)), wide - narrow)


def _with_each(flat: jax.Array, replacements: jax.Array) -> jax.Array:
    """Copies of ``flat [D]``, the i-th with its i-th entry replaced, ``[D, D]``."""
    return jnp.where(jnp.eye(flat.size, dtype=bool), replacements[:, None], flat[None, :])
