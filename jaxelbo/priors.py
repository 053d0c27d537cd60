"""The evidence lower bound as a likelihood term less a divergence from the prior.

Floor 3.
"""

import jax
import jax.numpy as jnp

from jaxelbo import bounds, checks, divergences, monte_carlo, surrogates, validity
from jaxelbo.types import Family, Key, Latent, LogJoint, Params


def elbo_with_prior(
    params: Params,
    key: Key,
    log_likelihood: LogJoint,
    family: Family,
    prior_params: Params,
    prior_family: Family,
    *,
    num_samples: int,
    kl_weight: jax.Array | float = 1.0,
) -> jax.Array:
    """E_q[log p(x|z)] - kl_weight KL(q || prior), to be maximised: the objective of a variational autoencoder.

    At kl_weight 1 it is the evidence lower bound; elsewhere it is that of "beta" autoencoders, and no bound below 1.
    Estimator: the mean of S log-likelihoods less the divergence in closed form, where the pair has one, otherwise by
    the same draws. Unbiased. Gradients as those of the default estimator, in params, prior_params, kl_weight, and what
    log_likelihood closes over.

    Args:
      params: q's, such as what an encoder returned for one datum.
      key: one random key.
      log_likelihood: latent -> scalar log p(x|z), in nats.
      family: q.
      prior_params: the prior's; may be learned.
      prior_family: the prior, over the same latent.
      num_samples: S, static, at least 1; at least 2 where parts of q carry no gradient.
      kl_weight: scalar; may be traced, such as a schedule.

    Returns:
      Scalar, in nats, in the dtype of params.

    Raises:
      TypeError, ValueError: at trace time, naming the argument, as `elbo` and `kl_divergence`.

    References:
      Kingma, Welling (2014), *Auto-Encoding Variational Bayes*;
      Higgins, Matthey, Pal, Burgess, Glorot, Botvinick, Mohamed, Lerchner (2017), *beta-VAE*.

    An autoencoder is trained by raising it in the weights of encoder and decoder, one datum at a time under ``vmap``:

    >>> import jax, jax.numpy as jnp, jaxelbo, optax
    >>> family = jaxelbo.families.mean_field(jnp.zeros(1), initial_scale=1.0)
    >>> prior_params = family.init(jax.random.key(0))
    >>> data = jnp.outer(jnp.linspace(-1, 1, 50), jnp.array([1.0, 2.0, -1.0]))  # points on a line
    >>> def negative_bound(weights, key, data):
    ...     def of_one(key, x):
    ...         params = {"loc": weights["encoder"] @ x, "log_scale": weights["log_scale"]}
    ...         log_likelihood = lambda z: jnp.sum(jax.scipy.stats.norm.logpdf(x, weights["decoder"] @ z, 0.1))
    ...         return elbo_with_prior(params, key, log_likelihood, family, prior_params, family, num_samples=1)
    ...     return -jnp.mean(jax.vmap(of_one)(jax.random.split(key, len(data)), data))
    >>> weights = {"encoder": jnp.full((1, 3), 0.1), "decoder": jnp.full((3, 1), 0.1), "log_scale": jnp.zeros(1)}
    >>> key = jax.random.key(1)
    >>> result = jaxelbo.fit(weights, key, negative_bound, optax.adam(0.02), num_steps=500, data=(data,))
    >>> bool(result.history.loss[-1] < 1.0 < 50.0 < result.history.loss[0])
    True
    """
    names = ("params", "prior_params", "family", "prior_family")
    divergences.check_pair(params, prior_params, family, prior_family, names)
    checks.check_callable(log_likelihood, "log_likelihood")
    checks.check_key(key)
    num_samples = checks.check_count(num_samples, "num_samples")
    checks.check_real(kl_weight, "kl_weight")
    kl = divergences.closed_form_or_none(params, prior_params, family, prior_family)
    if kl is None:
        leave_out = monte_carlo.scores_left_out(params, family)

        def term(latent: Latent) -> jax.Array:
            log_q = leave_out(family.log_prob(params, latent), family.score_log_probs(params, latent))
            log_ratio = prior_family.log_prob(prior_params, latent) - log_q
            return checks.check_scalar(log_likelihood(latent), "log_likelihood") + kl_weight * log_ratio

        kl = jnp.zeros(())
    else:

        def term(latent: Latent) -> jax.Array:
            return checks.check_scalar(log_likelihood(latent), "log_likelihood")

    traits = validity.traits_of(params, key, family)
    if not validity.is_reparameterised(traits) and num_samples < 2:
        raise ValueError(
            f"num_samples must be at least 2 for family {family.name}, whose draws carry no gradient in "
            f"{traits.num_scores} parts: their signals are leave-one-out; got {num_samples}."
        )
    terms, scores = monte_carlo.terms_and_scores(params, key, term, family, num_samples)
    value = jnp.mean(terms) - (kl_weight * kl).astype(terms.dtype)
    if validity.is_reparameterised(traits):
        return value
    signals = surrogates.learning_signals(bounds.mean, terms, surrogates.mean_of_others(terms))
    return surrogates.add_scores(value, scores, signals[:, None])
