"""The sleep phase: a recognition model learns from draws of the generative model.

Floor 3. The wake phases are estimators: `estimators.wake_phase`, `estimators.reweighted_wake_phase`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxelbo import checks, monte_carlo
from jaxelbo.types import Family, Key, Latent, Params, PyTree


def sleep_phase(
    encoder_params: PyTree,
    key: Key,
    encode: Callable[[PyTree, Any], Params],
    sample_joint: Callable[[Key], tuple[Latent, Any]],
    family: Family,
    *,
    num_samples: int,
) -> jax.Array:
    """E_p(x, z)[log q(z | x)], to be maximised: it lowers KL(p(z|x) || q) on data that the model dreams up.

    Estimator: the mean over S draws of the model, unbiased. May be differentiated in encoder_params; the draws carry no
    gradient, so the model learns nothing here.

    Args:
      encoder_params: weights of the recognition model.
      key: one random key.
      encode: ``(encoder_params, x) -> params of q``.
      sample_joint: ``key -> (latent, x)``, one draw of the model.
      family: q.
      num_samples: S, static, at least 1.

    Returns:
      Scalar, in nats.

    Raises:
      TypeError, ValueError: at trace time, naming the argument; params from ``encode`` that do not fit the family.

    References:
      Hinton, Dayan, Frey, Neal (1995), *The Wake-Sleep Algorithm for Unsupervised Neural Networks*.

    >>> import jax, jaxelbo
    >>> family = jaxelbo.families.bernoulli(0.0)
    >>> def sample_joint(key):  # x is z
    ...     z = family.sample(family.init(key), key)
    ...     return z, z
    >>> encode = lambda weight, x: {"logits": (weight * (2 * x - 1))[None]}
    >>> gradient = jax.grad(sleep_phase)(0.0, jax.random.key(0), encode, sample_joint, family, num_samples=10)
    >>> round(float(gradient), 4)
    0.5
    """
    checks.check_key(key)
    checks.check_callable(encode, "encode")
    checks.check_callable(sample_joint, "sample_joint")
    checks.check_family(family)
    num_samples = checks.check_count(num_samples, "num_samples")

    def log_prob(key: Key) -> jax.Array:
        dream = jax.lax.stop_gradient(sample_joint(key))
        if not isinstance(dream, tuple) or len(dream) != 2:
            raise TypeError(f"sample_joint must return a pair (latent, x), got {checks.describe(dream)}.")
        params = encode(encoder_params, dream[1])
        checks.check_params(params, family, "the params that encode returns")
        return family.log_prob(params, dream[0])

    return jnp.mean(monte_carlo.over_samples(log_prob, key, num_samples))
