"""Continuous relaxations of discrete draws: biased gradients of low variance.

Floor 3. A relaxation is lower and upper in the same latent pytree: the model sees numbers between 0 and 1 where draws
are 0 or 1. A model that turns them into integers has no gradient to give, and is refused.
"""

import jax

from jaxelbo import checks, custom_gradients, monte_carlo, tracing, validity
from jaxelbo.types import Bound, Estimator, Family, Key, LogJoint, Params


def gumbel_softmax(temperature: jax.Array | float) -> Estimator:
    """The bound of relaxed draws (concrete distribution), differentiated pathwise. Biased.

    Value: ``bound`` of log p - log q at relaxed draws, log q extended linearly to them; not the bound of the family.
    Gradient: the exact derivative of that value with the noise held fixed. The bias falls with the temperature while
    the variance grows.

    Args:
      temperature: positive scalar; may be traced.

    Returns:
      The `Estimator`, for families that can be relaxed.

    Raises:
      TypeError, ValueError: a temperature that is no positive scalar; when called, a family that cannot be relaxed, a
        log joint that turns the relaxed latent into integers.

    References:
      Jang, Gu, Poole (2017), *Categorical Reparameterization with Gumbel-Softmax*;
      Maddison, Mnih, Teh (2017), *The Concrete Distribution*.

    >>> import jax, jaxelbo
    >>> family = jaxelbo.families.one_hot_categorical(3)
    >>> params, table = family.init(jax.random.key(0)), jax.numpy.arange(3.0)
    >>> arguments = params, jax.random.key(1), lambda z: z @ table, family
    >>> gradient = jax.grad(jaxelbo.elbo)(*arguments, num_samples=8, estimator=gumbel_softmax(0.5))
    >>> bool(gradient["logits"][2] > 0)
    True
    """
    check_temperature(temperature)

    def estimator(
        params: Params, key: Key, log_joint: LogJoint, family: Family, bound: Bound, num_samples: int
    ) -> jax.Array:
        validity.check("gumbel_softmax", params, key, family, bound, num_samples)
        tracing.check_no_integers(log_joint, lambda: family.relax(params, key, temperature)[1])

        def log_weight(key: Key) -> jax.Array:
            latent = family.relax(params, key, temperature)[1]
            log_q = family.log_prob(params, latent)
            return monte_carlo.evaluate(log_joint, latent, log_q.dtype) - log_q

        return monte_carlo.apply_bound(bound, monte_carlo.over_samples(log_weight, key, num_samples))

    return estimator


def straight_through(temperature: jax.Array | float) -> Estimator:
    """The bound of hard draws, differentiated as if they moved with their relaxations. Biased.

    Value: ``bound`` of S log-weights, at hard draws. Gradient: the derivative of log p and log q at the hard draws,
    sent back through the relaxed ones; the derivative of no value at all. Its bias need not fall with the temperature.

    Args:
      temperature: positive scalar of the relaxation; may be traced.

    Returns:
      The `Estimator`, for families that can be relaxed.

    Raises:
      TypeError, ValueError: as `gumbel_softmax`.

    References:
      Bengio, Leonard, Courville (2013), *Estimating or Propagating Gradients Through Stochastic Neurons for Conditional
      Computation*; Jang, Gu, Poole (2017), *Categorical Reparameterization with Gumbel-Softmax*.

    >>> import jax, jaxelbo
    >>> family = jaxelbo.families.one_hot_categorical(3)
    >>> params, table = family.init(jax.random.key(0)), jax.numpy.arange(3.0)
    >>> arguments = params, jax.random.key(1), lambda z: z @ table, family
    >>> gradient = jax.grad(jaxelbo.elbo)(*arguments, num_samples=8, estimator=straight_through(0.5))
    """
    check_temperature(temperature)

    def estimator(
        params: Params, key: Key, log_joint: LogJoint, family: Family, bound: Bound, num_samples: int
    ) -> jax.Array:
        validity.check("straight_through", params, key, family, bound, num_samples)
        tracing.check_no_integers(log_joint, lambda: family.relax(params, key, temperature)[1])

        def log_weight(key: Key) -> jax.Array:
            hard, soft, _ = family.relax(params, key, temperature)
            latent = jax.tree.map(lambda h, s: custom_gradients.add_gradient(jax.lax.stop_gradient(h), s), hard, soft)
            log_q = family.log_prob(params, latent)
            return monte_carlo.evaluate(log_joint, latent, log_q.dtype) - log_q

        return monte_carlo.apply_bound(bound, monte_carlo.over_samples(log_weight, key, num_samples))

    return estimator


def check_temperature(temperature: jax.Array | float) -> None:
    """Requires a scalar, positive where its value is known."""
    checks.check_real(temperature, "temperature")
    if isinstance(temperature, int | float) and not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}.")
