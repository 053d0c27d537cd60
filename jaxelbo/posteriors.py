"""What a user does with a fitted q: draws on their own pytree, summaries of them, and predictions.

Floor 4.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxelbo import checks, monte_carlo, pareto
from jaxelbo.types import Family, Key, Latent, LogJoint, Params, PyTree, Summary


def draws(params: Params, key: Key, family: Family, *, num_samples: int) -> Latent:
    """Independent draws of q, differentiable in params where q is reparameterised.

    Args:
      params: the family's parameters.
      key: one random key.
      family: q.
      num_samples: S, static, at least 1.

    Returns:
      The latent pytree, leaves ``[S, ...]``.

    Raises:
      TypeError, ValueError: at trace time, naming the argument.

    >>> import jax, jaxelbo
    >>> family = jaxelbo.families.mean_field({"slope": 0.0, "offsets": jax.numpy.zeros(3)})
    >>> latents = draws(family.init(jax.random.key(0)), jax.random.key(1), family, num_samples=5)
    >>> jax.tree.map(jax.numpy.shape, latents)
    {'offsets': (5, 3), 'slope': (5,)}
    """
    checks.check_params(params, family)
    checks.check_key(key)
    num_samples = checks.check_count(num_samples, "num_samples")
    return monte_carlo.over_samples(lambda key: family.sample(params, key), key, num_samples)


def summary(latents: Latent, *, probability: float = 0.9) -> Summary:
    """Mean, standard deviation and central interval of every entry of every leaf, from draws.

    Estimands: the mean, the standard deviation (from squares divided by S - 1) and the quantiles of the distribution
    that the draws come from. Errors fall as one over the root of S.

    Args:
      latents: latent pytree, floating-point leaves ``[S, ...]``, such as `draws` returns; S at least 2.
      probability: mass of the interval, strictly between 0 and 1; a Python number.

    Returns:
      `Summary`, each field a pytree like one latent.

    Raises:
      TypeError, ValueError: naming the leaf: one that is not floating-point or has no sample axis, S that differs
        between leaves or is below 2, a probability outside (0, 1).

    >>> import jax.numpy as jnp
    >>> result = summary({"a": jnp.arange(101.0)}, probability=0.5)
    >>> float(result.mean["a"]), float(result.lower["a"]), float(result.upper["a"])
    (50.0, 25.0, 75.0)
    """
    checks.check_float_leaves(latents, "latents")
    if not isinstance(probability, float | np.floating) or not 0 < probability < 1:
        raise ValueError(f"probability must be a number strictly between 0 and 1, got {checks.describe(probability)}.")
    rows = [jnp.shape(leaf)[0] if jnp.ndim(leaf) else 0 for leaf in jax.tree.leaves(latents)]
    for name, count in zip(checks.leaf_names(latents, "latents"), rows, strict=True):
        if count < 2 or count != rows[0]:
            raise ValueError(
                f"{name} must have a leading axis of at least 2 draws, the same for all leaves, got {count}."
            )
    tail = (1 - probability) / 2
    return Summary(
        mean=jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), latents),
        sd=jax.tree.map(lambda leaf: jnp.std(leaf, axis=0, ddof=1), latents),
        lower=jax.tree.map(lambda leaf: jnp.quantile(leaf, tail, axis=0), latents),
        upper=jax.tree.map(lambda leaf: jnp.quantile(leaf, 1 - tail, axis=0), latents),
    )


def predict(latents: Latent, key: Key, predict_fn: Callable[[Latent, Key], PyTree]) -> PyTree:
    """Posterior predictive draws: ``predict_fn`` at each draw of the latent, with a key of its own.

    Estimand: draws of p(y' | x), the mean over q(z) of p(y' | z), so far as q is the posterior.

    Args:
      latents: latent pytree, leaves ``[S, ...]``, such as `draws` returns.
      key: one random key.
      predict_fn: ``(latent, key) -> pytree`` of arrays: one simulated data set, or any function of the latent.

    Returns:
      What ``predict_fn`` returns, leaves ``[S, ...]``.

    Raises:
      TypeError, ValueError: naming the argument.

    >>> import jax, jax.numpy as jnp
    >>> simulate = lambda z, key: z["mean"] + jax.random.normal(key, (3,))
    >>> predict({"mean": jnp.zeros(5)}, jax.random.key(0), simulate).shape
    (5, 3)
    """
    checks.check_key(key)
    checks.check_callable(predict_fn, "predict_fn")
    checks.check_arrays(latents, "latents")
    leaves = jax.tree.leaves(latents)
    if not leaves:
        raise ValueError("latents must have at least one leaf, got an empty pytree.")
    if jnp.ndim(leaves[0]) == 0:
        raise ValueError("latents must have a leading axis of draws, got a scalar; see draws.")
    num_samples = jnp.shape(leaves[0])[0]
    checks.check_leading_axis(latents, num_samples, "latents", "draws")
    return jax.vmap(predict_fn)(latents, jax.random.split(key, num_samples))


def resampled_draws(
    params: Params, key: Key, log_joint: LogJoint, family: Family, *, num_samples: int, num_proposals: int
) -> Latent:
    """Draws of q, chosen anew by their smoothed importance weights: nearer to the posterior than q is.

    Estimand: draws of p(z | x). Bias: vanishes with the number of proposals where the Pareto k of their weights is
    below 0.7; above it these draws are no better than those of q (`pareto.smooth` tells it).

    Args:
      params: the family's parameters.
      key: one random key.
      log_joint: latent pytree -> scalar log p(x, z), in nats.
      family: q.
      num_samples: S, static.
      num_proposals: draws of q to choose from, with replacement, static; many times S.

    Returns:
      The latent pytree, leaves ``[S, ...]``.

    Raises:
      TypeError, ValueError: at trace time, naming the argument.

    References:
      Rubin (1988), *Using the SIR Algorithm to Simulate Posterior Distributions*;
      Vehtari, Simpson, Gelman, Yao, Gabry (2024), *Pareto Smoothed Importance Sampling*.

    >>> import jax, jaxelbo
    >>> family = jaxelbo.families.mean_field(0.0, initial_scale=1.0)
    >>> params, log_joint = family.init(jax.random.key(0)), lambda z: -2 * z**2
    >>> options = {"num_samples": 1000, "num_proposals": 10000}
    >>> latents = resampled_draws(params, jax.random.key(1), log_joint, family, **options)
    >>> bool(abs(latents.std() - 0.5) < 0.05)
    True
    """
    checks.check_callable(log_joint, "log_joint")
    checks.check_params(params, family)
    checks.check_key(key)
    num_samples = checks.check_count(num_samples, "num_samples")
    num_proposals = checks.check_count(num_proposals, "num_proposals")

    def propose(key: Key) -> tuple[Latent, jax.Array]:
        latent, log_q = family.sample_and_log_prob(params, key)
        return latent, monte_carlo.evaluate(log_joint, latent, log_q.dtype) - log_q

    key_propose, key_choose = jax.random.split(key)
    latents, log_weights = monte_carlo.over_samples(propose, key_propose, num_proposals)
    smoothed = pareto.smooth(log_weights).log_weights
    chosen = jax.random.categorical(key_choose, smoothed, shape=(num_samples,))
    return jax.tree.map(lambda leaf: leaf[chosen], latents)
