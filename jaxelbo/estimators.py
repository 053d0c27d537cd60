"""Gradient estimators: one value, the bound at draws of q, and several ways to differentiate it.

Floor 3. An estimator is any function ``(params, key, log_joint, family, bound, num_samples) -> scalar`` whose value
estimates the bound and whose gradient, by ``jax.grad``, estimates the bound's gradient. Gradients with respect to
whatever ``log_joint`` closes over (a model's parameters) are right under each of them.
"""

import jax

from jaxelbo import bounds, checks, monte_carlo
from jaxelbo.types import Bound, Family, Key, LogJoint, Params


def pathwise(
    params: Params, key: Key, log_joint: LogJoint, family: Family, bound: Bound, num_samples: int
) -> jax.Array:
    """The reparameterisation gradient: through the draws and through log q. The default; any bound, any S.

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
    _require_reparameterised(params, key, family, "pathwise")

    return _apply_bound(bound, monte_carlo.log_weights_of_draws(params, key, log_joint, family, num_samples))


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
    _require_reparameterised(params, key, family, "sticking_the_landing")
    _require_mean(bound, "sticking_the_landing")
    fixed = jax.lax.stop_gradient(params)

    def log_weight(key: Key) -> jax.Array:
        latent, log_q = family.sample_and_log_prob(params, key)
        # The value is that of the draw, to the last bit; the gradient is that of log q at fixed parameters.
        path = family.log_prob(fixed, latent)
        log_q = jax.lax.stop_gradient(log_q) + (path - jax.lax.stop_gradient(path))
        return monte_carlo.evaluate(log_joint, latent, log_q.dtype) - log_q

    return _apply_bound(bound, monte_carlo.over_samples(log_weight, key, num_samples))


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
      family: a reparameterised family with a closed-form entropy.
      bound: ``bounds.mean``; no other bound splits into these two terms.
      num_samples: S, static, at least 1.

    Returns:
      Scalar, in nats, in the dtype of params; to be maximised.

    Raises:
      ValueError: another bound, a family without an entropy, or one with parts that are not reparameterised.

    References:
      Kucukelbir, Tran, Ranganath, Gelman, Blei (2017), *Automatic Differentiation Variational Inference*.

    >>> import jax, jaxelbo
    >>> family = jaxelbo.families.mean_field(0.0)
    >>> params = family.init(jax.random.key(0))
    >>> value = closed_form_entropy(params, jax.random.key(1), lambda z: 0.0 * z, family, jaxelbo.bounds.mean, 1)
    >>> bool(value == family.entropy(params))
    True
    """
    _require_reparameterised(params, key, family, "closed_form_entropy")
    _require_mean(bound, "closed_form_entropy")
    if family.entropy is None:
        raise ValueError(
            f"closed_form_entropy needs an entropy in closed form, which family {family.name} has not; "
            "use estimators.pathwise."
        )
    entropy = family.entropy(params)

    def log_density(key: Key) -> jax.Array:
        return monte_carlo.evaluate(log_joint, family.sample(params, key), entropy.dtype)

    return _apply_bound(bound, monte_carlo.over_samples(log_density, key, num_samples)) + entropy


def _apply_bound(bound: Bound, log_weights: jax.Array) -> jax.Array:
    return checks.check_scalar(bound(log_weights), "bound")


def _require_mean(bound: Bound, estimator: str) -> None:
    if bound is not bounds.mean:
        name = getattr(bound, "__name__", checks.describe(bound))
        raise ValueError(f"estimators.{estimator} holds for bounds.mean alone, got {name}; use estimators.pathwise.")


def _require_reparameterised(params: Params, key: Key, family: Family, estimator: str) -> None:
    scores = jax.eval_shape(lambda params, key: family.score_log_probs(params, family.sample(params, key)), params, key)
    if scores.shape != (0,):
        raise ValueError(
            f"estimators.{estimator} differentiates through the draws, but {scores.shape[0]} parts of family "
            f"{family.name} are not reparameterised."
        )
