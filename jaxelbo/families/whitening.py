"""A family said in the standard coordinates of a Gaussian."""

import jax

from jaxelbo import checks, flattening, gaussians
from jaxelbo.families import gaussian as gaussian_families
from jaxelbo.types import Family, Key, Latent, Params


def whitened(family: Family, gaussian: Family) -> Family:
    """The distribution of loc + root @ u, where u has a family's and loc and root are those of a Gaussian.

    A family that starts near N(0, 1) then starts near the Gaussian, and its steps know the posterior's scales and
    correlations. Its params are ``{"base": params of family, "gaussian": params of gaussian}``.

    Args:
      family: of a vector ``[D]``: the base, with reparameterised draws or not.
      gaussian: a Gaussian family of the latent, with D entries: `families.full_rank`, `families.mean_field` or
        `families.low_rank`.

    Returns:
      The `Family` of the latent; it has an entropy and configurations where the base has. Its ``init`` starts both.

    Raises:
      TypeError, ValueError: naming the family: a Gaussian that is none, a base of another latent.

    >>> import jax, jax.numpy as jnp
    >>> from jaxelbo import families
    >>> base = families.mixture(families.full_rank(jnp.zeros(2), initial_scale=1.0), 3)
    >>> family = whitened(base, families.full_rank({"a": 0.0, "b": 0.0}))
    >>> sorted(family.init(jax.random.key(0)))
    ['base', 'gaussian']
    """
    checks.check_family(family)
    checks.check_family(gaussian, "gaussian")
    layout = gaussian_families.layout_of(gaussian, "gaussian must be a Gaussian family")
    of_base = jax.eval_shape(lambda key: family.sample(family.init(key), key), jax.random.key(0))
    if jax.tree.structure(of_base) != jax.tree.structure(0) or of_base.shape != (layout.size,):
        raise ValueError(f"family must be of a vector [{layout.size}], the entries of the latent, got {of_base}.")

    def out(params: Params, flat: jax.Array) -> Latent:
        return flattening.unflatten(layout, gaussians.transform(gaussian.distribution(params["gaussian"]), flat))

    def into(params: Params, latent: Latent) -> jax.Array:
        return gaussians.standardise(gaussian.distribution(params["gaussian"]), flattening.flatten(layout, latent))

    def log_det(params: Params) -> jax.Array:
        return gaussians.log_det(gaussian.distribution(params["gaussian"]))

    def init(key: Key, start: Latent | None = None) -> Params:
        key_base, key_gaussian = jax.random.split(key)
        return {"base": family.init(key_base), "gaussian": gaussian.init(key_gaussian, start)}

    def sample(params: Params, key: Key) -> Latent:
        return out(params, family.sample(params["base"], key))

    def log_prob(params: Params, latent: Latent) -> jax.Array:
        return family.log_prob(params["base"], into(params, latent)) - log_det(params)

    def sample_and_log_prob(params: Params, key: Key) -> tuple[Latent, jax.Array]:
        flat, log_q = family.sample_and_log_prob(params["base"], key)
        return out(params, flat), log_q - log_det(params)

    def score_log_probs(params: Params, latent: Latent) -> jax.Array:
        return family.score_log_probs(params["base"], into(params, latent))

    def entropy(params: Params) -> jax.Array:
        return family.entropy(params["base"]) + log_det(params)

    def configurations(params: Params, key: Key) -> tuple[Latent, jax.Array]:
        flat, log_probs = family.configurations(params["base"], key)
        return jax.vmap(out, (None, 0))(params, flat), log_probs

    return Family(
        name=f"whitened({family.name}, {gaussian.name})",
        init=init,
        sample=sample,
        log_prob=log_prob,
        sample_and_log_prob=sample_and_log_prob,
        score_log_probs=score_log_probs,
        entropy=None if family.entropy is None else entropy,
        configurations=None if family.configurations is None else configurations,
        num_configurations=family.num_configurations,
        unflatten=gaussian.unflatten,
    )
