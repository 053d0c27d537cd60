"""What a user does with a fitted q: draws on their own pytree, and marginal summaries of them.

Floor 4.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxelbo import checks, monte_carlo
from jaxelbo.types import Family, Key, Latent, Params, Summary


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
