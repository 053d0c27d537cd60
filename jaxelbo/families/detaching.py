"""A family whose draws carry no gradient.

Floor 2.
"""

import jax
import jax.numpy as jnp

from jaxelbo import checks
from jaxelbo.types import Family, Key, Latent, Params


def detached(family: Family) -> Family:
    """The same distribution with every draw stopped: its whole gradient goes through log-probabilities.

    The default estimator on it is the score function with a leave-one-out signal, for policies whose draw enters a
    model that is not differentiable in it, such as the Gaussian glimpse location of a hard crop. Its parts are those of
    ``family`` that carry no gradient and, last, all that did.

    Args:
      family: any family.

    Returns:
      The `Family`; it has no configurations and cannot be relaxed. ``log_prob`` of a full-rank Gaussian's draw needs a
      linear solve.

    Raises:
      TypeError: a family that is none.

    References:
      Williams (1992), *Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning*.

    >>> import jax
    >>> from jaxelbo import families
    >>> policy = detached(families.mean_field(0.0))
    >>> params = policy.init(jax.random.key(0))
    >>> float(jax.grad(policy.sample)(params, jax.random.key(1))["loc"][0])
    0.0
    """
    checks.check_family(family)

    def sample(params: Params, key: Key) -> Latent:
        return jax.lax.stop_gradient(family.sample(params, key))

    def sample_and_log_prob(params: Params, key: Key) -> tuple[Latent, jax.Array]:
        latent = sample(params, key)
        return latent, family.log_prob(params, latent)

    def score_log_probs(params: Params, latent: Latent) -> jax.Array:
        scores = family.score_log_probs(params, latent)
        return jnp.append(scores, family.log_prob(params, latent) - jnp.sum(scores))

    return family._replace(
        name=f"detached({family.name})",
        sample=sample,
        sample_and_log_prob=sample_and_log_prob,
        score_log_probs=score_log_probs,
        sample_and_scores=None,
        configurations=None,
        num_configurations=0,
        relax=None,
    )
