"""ARM and DisARM: Bernoulli gradients from two antithetic draws of one uniform number.

Floor 3.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxelbo import custom_gradients, finite, monte_carlo, validity
from jaxelbo.types import Bound, Family, Key, LogJoint, Params


def arm(params: Params, key: Key, log_joint: LogJoint, family: Family, bound: Bound, num_samples: int) -> jax.Array:
    """Augment-REINFORCE-merge: the difference of two antithetic draws, times the uniform number less a half.

    Value: the mean of log-weights over S pairs of draws. Gradient in logits: (f([u > sigmoid(-logits)]) -
    f([u < sigmoid(logits)])) (u - 1/2), f being log p - log q; model parameters get the mean of the pair. Unbiased. Two
    evaluations of the log joint a sample.

    Args:
      params: ``{"logits": [D]}``.
      key: one random key.
      log_joint: latent -> scalar log p(x, z).
      family: ``families.bernoulli``.
      bound: ``bounds.mean``.
      num_samples: S pairs, static, at least 1.

    Returns:
      Scalar, in nats, in the dtype of params.

    Raises:
      ValueError: another family or bound.

    References:
      Yin, Zhou (2019), *ARM: Augment-REINFORCE-Merge Gradient for Stochastic Binary Networks*.

    >>> import jax, jaxelbo
    >>> family = jaxelbo.families.bernoulli(jax.numpy.zeros(2))
    >>> arguments = family.init(jax.random.key(0)), jax.random.key(1), lambda z: -((z[0] - z[1]) ** 2), family
    >>> gradient = jax.grad(jaxelbo.elbo)(*arguments, num_samples=4, estimator=arm)
    """
    validity.check("arm", params, key, family, bound, num_samples)

    def gradient(uniform: jax.Array, first: jax.Array, second: jax.Array, values: jax.Array) -> jax.Array:
        del first, second
        return (values[0] - values[1]) * (uniform - 0.5)

    return _antithetic(params, key, log_joint, family, bound, num_samples, gradient)


def disarm(params: Params, key: Key, log_joint: LogJoint, family: Family, bound: Bound, num_samples: int) -> jax.Array:
    """DisARM: `arm` with the uniform number averaged out given the two draws; never of more variance.

    Value: the mean of log-weights over S pairs of draws. Gradient in logits: half of (f(b) - f(b')) (-1)^b'
    [b is not b'] sigmoid(|logits|), f being log p - log q; model parameters get the mean of the pair. Unbiased. Two
    evaluations of the log joint a sample.

    Args:
      params: ``{"logits": [D]}``.
      key: one random key.
      log_joint: latent -> scalar log p(x, z).
      family: ``families.bernoulli``.
      bound: ``bounds.mean``.
      num_samples: S pairs, static, at least 1.

    Returns:
      Scalar, in nats, in the dtype of params.

    Raises:
      ValueError: another family or bound.

    References:
      Dong, Mnih, Tucker (2020), *DisARM: An Antithetic Gradient Estimator for Binary Latent Variables*.

    >>> import jax, jaxelbo
    >>> family = jaxelbo.families.bernoulli(jax.numpy.zeros(2))
    >>> arguments = family.init(jax.random.key(0)), jax.random.key(1), lambda z: -((z[0] - z[1]) ** 2), family
    >>> gradient = jax.grad(jaxelbo.elbo)(*arguments, num_samples=4, estimator=disarm)
    """
    validity.check("disarm", params, key, family, bound, num_samples)
    size = jax.nn.sigmoid(jnp.abs(jax.lax.stop_gradient(family.distribution(params).logits)))

    def gradient(uniform: jax.Array, first: jax.Array, second: jax.Array, values: jax.Array) -> jax.Array:
        del uniform
        return 0.5 * (values[0] - values[1]) * (first - second) * size

    return _antithetic(params, key, log_joint, family, bound, num_samples, gradient)


def _antithetic(
    params: Params,
    key: Key,
    log_joint: LogJoint,
    family: Family,
    bound: Bound,
    num_samples: int,
    gradient: Callable[..., jax.Array],
) -> jax.Array:
    """The bound over pairs, with ``gradient(uniform, first, second, log-weights of the two)`` for the logits."""
    logits = family.distribution(params).logits
    fixed = jax.lax.stop_gradient(logits)
    threshold = jax.nn.sigmoid(-fixed)

    def pair(key: Key) -> tuple[jax.Array, jax.Array]:
        uniform = jax.random.uniform(key, logits.shape, logits.dtype)

        def weigh(is_mirrored: jax.Array) -> tuple[jax.Array, jax.Array]:
            flat = (jnp.where(is_mirrored, 1 - uniform, uniform) > threshold).astype(logits.dtype)
            log_q = jnp.sum(finite.log_probs_bernoulli(finite.Bernoulli(fixed), flat))
            return monte_carlo.evaluate(log_joint, family.unflatten(flat), logits.dtype) - log_q, flat

        values, draws = jax.vmap(weigh)(jnp.array([False, True]))
        return jnp.mean(values), gradient(uniform, *draws, jax.lax.stop_gradient(values))

    values, gradients = monte_carlo.over_samples(pair, key, num_samples)
    slope = jax.lax.stop_gradient(jnp.mean(gradients, axis=0))
    return custom_gradients.add_gradient(monte_carlo.apply_bound(bound, values), jnp.vdot(slope, logits))
