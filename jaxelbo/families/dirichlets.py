"""The Dirichlet distribution, over proportions."""

import jax
import jax.numpy as jnp

from jaxelbo import checks, distributions, exponential
from jaxelbo.families import gaussian
from jaxelbo.types import Family, Key, Latent, Params


def dirichlet(latent_like: Latent, *, initial_scale: float = 0.1) -> Family:
    """The Dirichlet distribution of one vector of proportions ``[K]``; `families.independent` makes many.

    Its params are ``{"log_concentration": [K]}``. Draws have implicit gradients.

    Args:
      latent_like: proportions ``[K]`` or their shape, K at least 2; the means at the start, equal where it is a shape.
      initial_scale: standard deviation of an entry at the start over the largest that its mean allows, below 1.

    Returns:
      The `Family`. Its ``init`` ignores the key.

    Raises:
      TypeError, ValueError: a latent that is no floating-point vector, a start that is no proportions.

    References:
      Figurnov, Mohamed, Mnih (2018), *Implicit Reparameterization Gradients*.

    >>> import jax
    >>> family = dirichlet(jax.ShapeDtypeStruct((4,), "float32"))
    >>> round(float(jax.numpy.sum(family.sample(family.init(jax.random.key(0)), jax.random.key(1)))), 5)
    1.0
    """
    checks.check_float_leaves(latent_like, "latent_like")
    if jax.tree.structure(latent_like) != jax.tree.structure(0) or len(jnp.shape(latent_like)) != 1:
        raise ValueError(f"latent_like must be one vector of proportions, got {checks.describe(latent_like)}.")
    (size,), dtype = jnp.shape(latent_like), checks.canonical_dtype(latent_like)
    if size < 2:
        raise ValueError(f"latent_like must have at least 2 proportions, got {size}.")
    gaussian.check_initial_scale(initial_scale)
    if initial_scale >= 1:
        raise ValueError(f"initial_scale must be below 1, got {initial_scale}.")

    def init(key: Key, start: Latent | None = None) -> Params:
        del key
        if start is None and not isinstance(latent_like, jax.ShapeDtypeStruct):
            start = latent_like
        mean = jnp.full((size,), 1 / size, dtype) if start is None else jnp.asarray(start, dtype)
        if mean.shape != (size,):
            raise ValueError(f"start must have shape ({size},), got {mean.shape}.")
        if checks.is_known(mean) and not bool(jnp.all(mean > 0) & (jnp.abs(jnp.sum(mean) - 1) < 1e-4)):
            raise ValueError(f"The start of families.dirichlet must be positive and sum to one, got {mean}.")
        return {"log_concentration": jnp.log(mean) + jnp.log(jnp.asarray(initial_scale**-2.0 - 1, dtype))}

    def distribution(params: Params) -> distributions.Dirichlet:
        return distributions.Dirichlet(jnp.exp(params["log_concentration"]))

    def sample(params: Params, key: Key) -> Latent:
        concentration = distribution(params).concentration
        log_gammas = jax.random.loggamma(key, concentration, dtype=dtype)
        return jnp.maximum(jax.nn.softmax(log_gammas), jnp.finfo(dtype).tiny)

    def log_prob(params: Params, latent: Latent) -> jax.Array:
        checks.check_like(latent, jax.ShapeDtypeStruct((size,), dtype), "latent", "this family")
        return exponential.log_prob(distribution(params).concentration, distributions.dirichlet, latent)

    def sample_and_log_prob(params: Params, key: Key) -> tuple[Latent, jax.Array]:
        latent = sample(params, key)
        return latent, log_prob(params, latent)

    def location_and_scale(params: Params) -> tuple[Latent, Latent]:
        concentration = distribution(params).concentration
        total = jnp.sum(concentration)
        mean = concentration / total
        return mean, jnp.sqrt(mean * (1 - mean) / (total + 1))

    return Family(
        name="dirichlet",
        init=init,
        sample=sample,
        log_prob=log_prob,
        sample_and_log_prob=sample_and_log_prob,
        score_log_probs=lambda params, latent: jnp.zeros((0,), dtype),
        entropy=lambda params: exponential.entropy(distribution(params).concentration, distributions.dirichlet),
        location_and_scale=location_and_scale,
        distribution=distribution,
    )
