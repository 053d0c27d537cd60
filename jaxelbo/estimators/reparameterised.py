"""Gradients through reparameterised draws.

Floor 3.
"""

import jax

from jaxelbo import custom_gradients, monte_carlo, surrogates, validity
from jaxelbo.types import Bound, Family, Key, Latent, LogJoint, Params


def pathwise(
    params: Params, key: Key, log_joint: LogJoint, family: Family, bound: Bound, num_samples: int
) -> jax.Array:
    """The reparameterisation gradient: through the draws and through log q; any bound, any S.

    Value: ``bound`` of S log-weights. Gradient: the exact derivative of that value with the noise held fixed, unbiased
    for the gradient of E[bound(log_weights)] at this S. For the Gaussian families the part through log q is the exact
    gradient of the entropy, since a draw's log density depends on its noise and log-determinant only.

    Args:
      params: the family's.
      key: one random key.
      log_joint: latent -> scalar log p(x, z).
      family: a family all of whose parts are reparameterised.
      bound: log-weights ``[S]`` -> scalar.
      num_samples: S, static, at least 1.

    Returns:
      Scalar, in nats, in the dtype of params; to be maximised for a lower bound.

    Raises:
      ValueError: a family with parts that are not reparameterised.

    References:
      Kingma, Welling (2014), *Auto-Encoding Variational Bayes*;
      Rezende, Mohamed, Wierstra (2014), *Stochastic Backpropagation and Approximate Inference*.

    >>> import jax, jaxelbo
    >>> family = jaxelbo.families.mean_field(0.0)
    >>> params = family.init(jax.random.key(0))
    >>> gradient = jax.grad(pathwise)(params, jax.random.key(1), lambda z: -0.5 * z**2, family, jaxelbo.bounds.mean, 8)
    >>> sorted(gradient)
    ['loc', 'log_scale']
    """
    validity.check("pathwise", params, key, family, bound, num_samples)
    return monte_carlo.apply_bound(bound, monte_carlo.log_weights_of_draws(params, key, log_joint, family, num_samples))


def sticking_the_landing(
    params: Params, key: Key, log_joint: LogJoint, family: Family, bound: Bound, num_samples: int
) -> jax.Array:
    """The path derivative: through the draws alone, log q's own parameters held fixed. Zero variance at q = p(z|x).

    Value: the mean of S log-weights. Gradient: `pathwise` less the score of q, whose expectation is zero; unbiased for
    the gradient of the ELBO. At q = p(z|x) it is zero draw by draw; far from there it can be noisier than
    `pathwise`. For the full-rank family it makes a triangular solve.

    Args:
      params: the family's.
      key: one random key.
      log_joint: latent -> scalar log p(x, z).
      family: a family all of whose parts are reparameterised.
      bound: ``bounds.mean``; for any other bound this gradient would be biased and is refused.
      num_samples: S, static, at least 1.

    Returns:
      Scalar, in nats, in the dtype of params; to be maximised.

    Raises:
      ValueError: another bound, or a family with parts that are not reparameterised.

    References:
      Roeder, Wu, Duvenaud (2017), *Sticking the Landing: Simple, Lower-Variance Gradient Estimators for Variational
      Inference*; Geffner, Domke (2021), *On the Difficulty of Unbiased Alpha Divergence Minimization*, for other
      bounds.

    >>> import jax, jaxelbo
    >>> family = jaxelbo.families.mean_field(0.0, initial_scale=1.0)
    >>> params = family.init(jax.random.key(0))
    >>> arguments = params, jax.random.key(1), lambda z: -0.5 * z**2, family, jaxelbo.bounds.mean, 8
    >>> bool(jax.numpy.all(jax.grad(sticking_the_landing)(*arguments)["log_scale"] == 0))
    True
    """
    validity.check("sticking_the_landing", params, key, family, bound, num_samples)
    draws = _draws(params, key, family, num_samples)
    return monte_carlo.apply_bound(bound, _path_log_weights(params, *draws, log_joint, family))


def doubly_reparameterised(
    params: Params, key: Key, log_joint: LogJoint, family: Family, bound: Bound, num_samples: int
) -> jax.Array:
    """The path derivative for any bound: the score of q in the weights is reparameterised a second time.

    Value: ``bound`` of S log-weights. Gradient: with b_s and h_s the first and second derivatives of the bound in
    log w_s, the sum over s of (b_s - h_s) times the path derivative of log w_s, log q's own parameters held fixed; the
    model's parameters keep the weights b_s. Unbiased for the gradient of E[bound(log_weights)] at this S. For
    ``bounds.mean`` it is `sticking_the_landing`, for ``bounds.importance_weighted`` it has the squared normalised
    weights, and its signal-to-noise ratio does not fall with S as that of `pathwise` does. The log joint is written
    twice into the program and merged by the compiler.

    Args:
      params: the family's.
      key: one random key.
      log_joint: latent -> scalar log p(x, z).
      family: a family all of whose parts are reparameterised.
      bound: log-weights ``[S]`` -> scalar, twice differentiable.
      num_samples: S, static, at least 1.

    Returns:
      Scalar, in nats, in the dtype of params.

    Raises:
      ValueError: a family with parts that are not reparameterised.

    References:
      Tucker, Lawson, Gu, Maddison (2019), *Doubly Reparameterized Gradient Estimators for Monte Carlo Objectives*;
      Geffner, Domke (2021), *On the Difficulty of Unbiased Alpha Divergence Minimization*.

    >>> import jax, jaxelbo
    >>> family = jaxelbo.families.mean_field(0.0, initial_scale=1.0)
    >>> params = family.init(jax.random.key(0))
    >>> bound = jaxelbo.bounds.importance_weighted
    >>> arguments = params, jax.random.key(1), lambda z: -0.5 * z**2, family, bound, 8
    >>> bool(jax.numpy.all(jax.grad(doubly_reparameterised)(*arguments)["loc"] == 0))
    True
    """
    validity.check("doubly_reparameterised", params, key, family, bound, num_samples)
    latents, log_q = _draws(params, key, family, num_samples)

    def log_weight(latent: Latent, log_q: jax.Array) -> jax.Array:
        return monte_carlo.evaluate(log_joint, latent, log_q.dtype) - log_q

    scales = surrogates.path_scales(bound, jax.vmap(log_weight)(*jax.lax.stop_gradient((latents, log_q))))
    latents = jax.vmap(custom_gradients.scale_gradient)(latents, scales)
    return monte_carlo.apply_bound(bound, _path_log_weights(params, latents, log_q, log_joint, family))


def closed_form_entropy(
    params: Params, key: Key, log_joint: LogJoint, family: Family, bound: Bound, num_samples: int
) -> jax.Array:
    """The entropy form E_q[log p(x, z)] + H[q]: the first term by draws, the second exactly.

    Value: the mean of S log joints plus the family's entropy; unbiased for the ELBO, and another number than the mean
    log-weight at the same draws. Gradient: the exact derivative of that value with the noise held fixed, unbiased.

    Args:
      params: the family's.
      key: one random key.
      log_joint: latent -> scalar log p(x, z).
      family: a family with a closed-form entropy; parts that carry no gradient get a leave-one-out signal.
      bound: ``bounds.mean``; no other bound splits into these two terms.
      num_samples: S, static, at least 1; at least 2 where parts carry no gradient.

    Returns:
      Scalar, in nats, in the dtype of params; to be maximised.

    Raises:
      ValueError: another bound, a family without an entropy, one sample where parts carry no gradient.

    References:
      Kucukelbir, Tran, Ranganath, Gelman, Blei (2017), *Automatic Differentiation Variational Inference*.

    >>> import jax, jaxelbo
    >>> family = jaxelbo.families.mean_field(0.0)
    >>> params = family.init(jax.random.key(0))
    >>> value = closed_form_entropy(params, jax.random.key(1), lambda z: 0.0 * z, family, jaxelbo.bounds.mean, 1)
    >>> bool(value == family.entropy(params))
    True
    """
    traits = validity.check("closed_form_entropy", params, key, family, bound, num_samples)
    entropy = family.entropy(params)
    if validity.is_reparameterised(traits):

        def log_density(key: Key) -> jax.Array:
            return monte_carlo.evaluate(log_joint, family.sample(params, key), entropy.dtype)

        return monte_carlo.apply_bound(bound, monte_carlo.over_samples(log_density, key, num_samples)) + entropy
    terms, scores = monte_carlo.terms_and_scores(params, key, log_joint, family, num_samples)
    signals = surrogates.learning_signals(bound, terms, surrogates.mean_of_others(terms))
    return surrogates.add_scores(monte_carlo.apply_bound(bound, terms), scores, signals[:, None]) + entropy


def _draws(params: Params, key: Key, family: Family, num_samples: int) -> tuple[Latent, jax.Array]:
    """S latents and their log-probabilities, made once: no compiler merges two makings of random numbers in a loop."""
    return monte_carlo.over_samples(lambda key: family.sample_and_log_prob(params, key), key, num_samples)


def _path_log_weights(
    params: Params, latents: Latent, log_q: jax.Array, log_joint: LogJoint, family: Family
) -> jax.Array:
    """Log-weights ``[S]`` of these draws, with log q's own parameters held fixed."""
    fixed = jax.lax.stop_gradient(params)

    def log_weight(latent: Latent, log_q: jax.Array) -> jax.Array:
        # The value is that of the draw, to the last bit; the gradient is that of log q with all that makes q held
        # fixed, be it in params or in what the family closes over.
        path = custom_gradients.hold_closure(family.log_prob, fixed, latent)
        log_q = custom_gradients.add_gradient(jax.lax.stop_gradient(log_q), path)
        return monte_carlo.evaluate(log_joint, latent, log_q.dtype) - log_q

    return jax.vmap(log_weight)(latents, log_q)
