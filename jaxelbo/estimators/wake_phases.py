"""The wake phases of wake-sleep: what is learned from data, at draws of q held fixed.

Floor 3. The sleep phase needs draws of the model and is an objective of its own: `jaxelbo.sleep_phase`.
"""

import jax
import jax.numpy as jnp

from jaxelbo import custom_gradients, monte_carlo, validity
from jaxelbo.types import Bound, Family, Key, LogJoint, Params


def wake_phase(
    params: Params, key: Key, log_joint: LogJoint, family: Family, bound: Bound, num_samples: int
) -> jax.Array:
    """The wake phase of wake-sleep: the bound's gradient for the model's parameters, none for q's.

    Value: ``bound`` of S log-weights. Gradient for the model: unbiased for that of E[bound(log_weights)], log p at
    draws of q with the weights d bound / d log w_s. Gradient in params: zero by design; q learns in the sleep phase.

    Args:
      params: the family's.
      key: one random key.
      log_joint: latent -> scalar log p(x, z).
      family: any.
      bound: any, log-weights ``[S]`` -> scalar.
      num_samples: S, static, at least 1.

    Returns:
      Scalar, in nats, in the dtype of params.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Hinton, Dayan, Frey, Neal (1995), *The Wake-Sleep Algorithm for Unsupervised Neural Networks*.

    >>> import jax, jaxelbo
    >>> family = jaxelbo.families.bernoulli(0.0)
    >>> arguments = family.init(jax.random.key(0)), jax.random.key(1), lambda z: 3 * z, family, jaxelbo.bounds.mean, 4
    >>> float(jax.grad(wake_phase)(*arguments)["logits"][0])
    0.0
    """
    validity.check("wake_phase", params, key, family, bound, num_samples)

    def log_weight(key: Key) -> jax.Array:
        latent, log_q = jax.lax.stop_gradient(family.sample_and_log_prob(params, key))
        return monte_carlo.evaluate(log_joint, latent, log_q.dtype) - log_q

    return monte_carlo.apply_bound(bound, monte_carlo.over_samples(log_weight, key, num_samples))


def reweighted_wake_phase(
    params: Params, key: Key, log_joint: LogJoint, family: Family, bound: Bound, num_samples: int
) -> jax.Array:
    """The two wake phases of reweighted wake-sleep: the model's by the many-sample bound, q's towards the posterior.

    Value: the importance-weighted bound. Gradient for the model: that of the bound, unbiased for it. Gradient in
    params: the normalised weights times the gradient of log q at the draws, which estimates that of -KL(p(z|x) || q),
    another objective than the bound, with a bias of order 1/S. No draw carries a gradient, so any family will do.

    Args:
      params: the family's.
      key: one random key.
      log_joint: latent -> scalar log p(x, z).
      family: any.
      bound: ``bounds.importance_weighted``.
      num_samples: S, static, at least 1.

    Returns:
      Scalar, in nats, in the dtype of params; raising it in params lowers KL(p(z|x) || q).

    Raises:
      ValueError: another bound.

    References:
      Bornschein, Bengio (2015), *Reweighted Wake-Sleep*; Le, Kosiorek, Siddharth, Teh, Wood (2019), *Revisiting
      Reweighted Wake-Sleep for Models with Stochastic Control Flow*.

    >>> import jax, jaxelbo
    >>> family = jaxelbo.families.bernoulli(0.0)
    >>> arguments = family.init(jax.random.key(0)), jax.random.key(1), lambda z: 3 * z, family
    >>> gradient = jax.grad(reweighted_wake_phase)(*arguments, jaxelbo.bounds.importance_weighted, 100)
    >>> bool(gradient["logits"][0] > 0)
    True
    """
    validity.check("reweighted_wake_phase", params, key, family, bound, num_samples)

    def weigh(key: Key) -> tuple[jax.Array, jax.Array]:
        latent, log_q = jax.lax.stop_gradient(family.sample_and_log_prob(params, key))
        return monte_carlo.evaluate(log_joint, latent, log_q.dtype) - log_q, family.log_prob(params, latent)

    log_weights, log_probs = monte_carlo.over_samples(weigh, key, num_samples)
    weights = jax.nn.softmax(jax.lax.stop_gradient(log_weights))
    return custom_gradients.add_gradient(monte_carlo.apply_bound(bound, log_weights), jnp.vdot(weights, log_probs))
