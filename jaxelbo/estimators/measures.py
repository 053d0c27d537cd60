"""Measure-valued derivatives: the derivative of a density as a difference of two densities.

Floor 3.
"""

import math
from collections.abc import Callable
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
    The entropy's gradient is exact. Unbiased. D + 1 (Bernoulli) or 4 D + 1 (Gaussian) evaluations of the log joint a
    sample.

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
    if traits.distribution is finite.Bernoulli:
        draw, slopes_at = finite.draw_bernoulli, _bernoulli_slopes
    else:
        draw, slopes_at = lambda gaussian, key: gaussians.draw(gaussian, key)[0], _gaussian_slopes

    def one(key: Key) -> tuple[jax.Array, NamedTuple]:
        key_draw, key_slopes = jax.random.split(key)
        flat = draw(fixed, key_draw)

        evaluate = monte_carlo.log_density(log_joint, family.unflatten)
        value = evaluate(flat)
        return value, slopes_at(jax.vmap(evaluate), fixed, flat, value, key_slopes)

    values, slopes = monte_carlo.over_samples(one, key, num_samples)
    value = monte_carlo.apply_bound(bound, values) + family.entropy(params)
    slopes = jax.lax.stop_gradient(jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), slopes))
    return custom_gradients.add_gradient(value, sum(map(jnp.vdot, slopes, distribution)))


def _bernoulli_slopes(
    evaluate: Callable[[jax.Array], jax.Array],
    bernoulli: finite.Bernoulli,
    flat: jax.Array,
    value: jax.Array,
    key: Key,
) -> finite.Bernoulli:
    """One of the two draws of each bit is the draw itself, whose value is known."""
    del key
    ones_less_zeros = (2 * flat - 1) * (value - evaluate(_with_each(flat, 1 - flat)))
    variances = jax.nn.sigmoid(bernoulli.logits) * jax.nn.sigmoid(-bernoulli.logits)
    return finite.Bernoulli(variances * ones_less_zeros)


def _gaussian_slopes(
    evaluate: Callable[[jax.Array], jax.Array],
    gaussian: gaussians.Diagonal,
    flat: jax.Array,
    value: jax.Array,
    key: Key,
) -> gaussians.Diagonal:
    """Loc by Rayleigh numbers, from exponential ones; scale by Maxwell numbers, which times uniform ones are normal."""
    del value
    loc, scale = gaussian.loc, jnp.exp(gaussian.log_scale)
    keys = jax.random.split(key, 3)
    rayleigh = jnp.sqrt(2 * jax.random.exponential(keys[0], loc.shape, loc.dtype))
    maxwell = jax.random.double_sided_maxwell(keys[1], 0.0, 1.0, loc.shape, loc.dtype)
    normal = maxwell * jax.random.uniform(keys[2], loc.shape, loc.dtype)
    offsets = (rayleigh, -rayleigh, maxwell, normal)
    values = evaluate(jnp.concatenate([_with_each(flat, loc + scale * offset) for offset in offsets]))
    right, left, wide, narrow = jnp.split(values, 4)
    return gaussians.Diagonal((right - left) / (scale * math.sqrt(2 * math.pi)), wide - narrow)


def _with_each(flat: jax.Array, replacements: jax.Array) -> jax.Array:
    """Copies of ``flat [D]``, the i-th with its i-th entry replaced, ``[D, D]``."""
    return jnp.where(jnp.eye(flat.size, dtype=bool), replacements[:, None], flat[None, :])
