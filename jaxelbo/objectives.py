"""What one differentiates: the evidence lower bound and its relatives, as functions of q's parameters.

Floor 3. Three free choices meet here:

    key --family--> latents --log_joint - log q--> log_weights [S] --bound--> scalar --estimator--> gradient

All of these are pure: the same arguments give the same number, and ``jit``, ``vmap`` and ``grad`` apply. Under
``jit``, ``log_joint``, ``family``, ``bound``, ``estimator`` and ``num_samples`` are static.
"""

import jax

from jaxelbo import bounds, checks, estimators, monte_carlo
from jaxelbo.types import Bound, Estimator, Family, Key, LogJoint, Params


def elbo(
    params: Params,
    key: Key,
    log_joint: LogJoint,
    family: Family,
    *,
    num_samples: int,
    estimator: Estimator = estimators.leave_one_out,
) -> jax.Array:
    """The evidence lower bound, to be maximised.

    Estimand: L = E_q[log p(x, z)] + H[q] = log p(x) - KL(q || p(z|x)). Estimator: the mean of S log-weights, unbiased
    at every S. May be differentiated in params and in anything that ``log_joint`` closes over.

    Args:
      params: the family's parameters.
      key: one random key, typed or raw.
      log_joint: latent pytree -> scalar log p(x, z), in nats; written for one latent.
      family: q.
      num_samples: S, static, at least 1; at least 2 where parts of q carry no gradient, under the default estimator.
      estimator: how the gradient is estimated, of `jaxelbo.estimators`. The default is right for every family.

    Returns:
      Scalar, in nats, in the dtype of params.

    Raises:
      TypeError, ValueError: at trace time, naming the argument: a log joint that is no floating-point scalar, params
        that do not fit the family, a key that is none, num_samples below 1.

    References:
      Jordan, Ghahramani, Jaakkola, Saul (1999), *An Introduction to Variational Methods for Graphical Models*;
      Yang (2017), *Understanding the Variational Lower Bound*.

    >>> import jax, jaxelbo
    >>> def log_joint(z):  # a standard normal that knows its evidence: 3
    ...     return jax.scipy.stats.norm.logpdf(z["a"]) + 3.0
    >>> family = jaxelbo.families.mean_field({"a": 0.0}, initial_scale=1.0)
    >>> params = family.init(jax.random.key(0))
    >>> round(float(elbo(params, jax.random.key(1), log_joint, family, num_samples=8)), 4)
    3.0
    >>> gradient = jax.grad(elbo)(params, jax.random.key(1), log_joint, family, num_samples=8)
    """
    return lower_bound(params, key, log_joint, family, bound=bounds.mean, num_samples=num_samples, estimator=estimator)


def lower_bound(
    params: Params,
    key: Key,
    log_joint: LogJoint,
    family: Family,
    *,
    bound: Bound,
    num_samples: int,
    estimator: Estimator = estimators.leave_one_out,
) -> jax.Array:
    """Any lower bound on log p(x) that is a function of log-weights, to be maximised.

    Estimand: E[bound(log_weights)] over S draws of q. Whether that lies below log p(x) is the bound's affair: it does
    for ``bounds.mean``, ``bounds.importance_weighted`` and ``bounds.renyi`` with alpha >= 0. May be differentiated in
    params and in anything that ``log_joint`` or ``bound`` closes over; under an unbiased estimator the gradient is
    that of the estimand at this S.

    Args:
      params: the family's parameters.
      key: one random key, typed or raw.
      log_joint: latent pytree -> scalar log p(x, z), in nats.
      family: q.
      bound: log-weights ``[S]`` -> scalar, of `jaxelbo.bounds` or your own.
      num_samples: S, static, at least 1.
      estimator: how the gradient is estimated, of `jaxelbo.estimators`.

    Returns:
      Scalar, in nats, in the dtype of params.

    Raises:
      TypeError, ValueError: as `elbo`; and where the estimator does not hold for the bound or the family.

    References:
      Burda, Grosse, Salakhutdinov (2016), *Importance Weighted Autoencoders*;
      Li, Turner (2016), *Renyi Divergence Variational Inference*.

    >>> import functools, jax, jaxelbo
    >>> family = jaxelbo.families.mean_field(0.0, initial_scale=0.5)
    >>> arguments = family.init(jax.random.key(0)), jax.random.key(1), jax.scipy.stats.norm.logpdf, family
    >>> renyi = functools.partial(jaxelbo.bounds.renyi, alpha=0.5)
    >>> bool(elbo(*arguments, num_samples=8) < lower_bound(*arguments, bound=renyi, num_samples=8))
    True
    """
    num_samples = _check_arguments(params, key, log_joint, family, num_samples)
    checks.check_bound(bound)
    checks.check_estimator(estimator)
    return checks.check_scalar(estimator(params, key, log_joint, family, bound, num_samples), "estimator")


def upper_bound(
    params: Params,
    key: Key,
    log_joint: LogJoint,
    family: Family,
    *,
    bound: Bound,
    num_samples: int,
    estimator: Estimator = estimators.leave_one_out,
) -> jax.Array:
    """An upper bound on log p(x) that is a function of log-weights, to be lowered.

    Estimand: E[bound(log_weights)] over S draws of q, for ``bounds.chi``, ``bounds.renyi`` with alpha < 0 or
    ``bounds.thermodynamic_right``. The population value lies above log p(x); the estimate from S draws is biased low
    and may lie below log p(x), at S = 1 it is the ELBO, which must not be lowered: at least two draws are asked for.
    May be differentiated as `lower_bound`.

    Args:
      params: the family's parameters.
      key: one random key, typed or raw.
      log_joint: latent pytree -> scalar log p(x, z), in nats.
      family: q.
      bound: log-weights ``[S]`` -> scalar.
      num_samples: S, static, at least 2.
      estimator: how the gradient is estimated, of `jaxelbo.estimators`.

    Returns:
      Scalar, in nats, in the dtype of params.

    Raises:
      TypeError, ValueError: as `lower_bound`; and bounds that are known to be lower ones, or none.

    References:
      Dieng, Tran, Ranganath, Paisley, Blei (2017), *Variational Inference via chi Upper Bound Minimization*.

    >>> import functools, jax, jaxelbo
    >>> family = jaxelbo.families.mean_field(0.0, initial_scale=2.0)
    >>> arguments = family.init(jax.random.key(0)), jax.random.key(1), jax.scipy.stats.norm.logpdf, family
    >>> chi = functools.partial(jaxelbo.bounds.chi, n=2)
    >>> bool(upper_bound(*arguments, bound=chi, num_samples=100) > 0)  # log p(x) = 0
    True
    """
    checks.check_count(num_samples, "num_samples", minimum=2)
    checks.check_bound(bound)
    if _is_lower(bound):
        raise ValueError(
            f"bound must be an upper bound, got bounds.{getattr(bound, 'func', bound).__name__}, here none; use "
            "functools.partial(bounds.chi, n=2), bounds.renyi with alpha < 0 or bounds.thermodynamic_right."
        )
    return lower_bound(params, key, log_joint, family, bound=bound, num_samples=num_samples, estimator=estimator)


def log_weights(params: Params, key: Key, log_joint: LogJoint, family: Family, *, num_samples: int) -> jax.Array:
    """Log-weights log p(x, z) - log q(z) at S draws of q; every bound is a function of them.

    At every z, log weight + log q(z) - log p(z|x) = log p(x). May be differentiated in params, through
    reparameterised draws, and in anything that ``log_joint`` closes over.

    Args:
      params: the family's parameters.
      key: one random key, typed or raw.
      log_joint: latent pytree -> scalar log p(x, z), in nats.
      family: q.
      num_samples: S, static, at least 1.

    Returns:
      ``[S]``, in nats, in the dtype of params; at the draws that `draws` makes from the same key.

    Raises:
      TypeError, ValueError: as `elbo`.

    >>> import jax, jaxelbo
    >>> family = jaxelbo.families.mean_field(0.0)
    >>> params = family.init(jax.random.key(0))
    >>> log_weights(params, jax.random.key(1), jax.scipy.stats.norm.logpdf, family, num_samples=8).shape
    (8,)
    """
    num_samples = _check_arguments(params, key, log_joint, family, num_samples)
    return monte_carlo.log_weights_of_draws(params, key, log_joint, family, num_samples)


def _is_lower(bound: Bound) -> bool:
    """Whether this is known to be a lower bound or no bound; a traced order is not known."""
    function, constants = getattr(bound, "func", bound), getattr(bound, "keywords", {})
    if function is bounds.renyi and isinstance(constants.get("alpha"), int | float):
        return constants["alpha"] >= 0
    if function is bounds.chi and isinstance(constants.get("n"), int | float):
        return constants["n"] < 1
    return function in (bounds.mean, bounds.importance_weighted, bounds.thermodynamic_left, bounds.jackknife)


def _check_arguments(params: Params, key: Key, log_joint: LogJoint, family: Family, num_samples: int) -> int:
    checks.check_callable(log_joint, "log_joint")
    checks.check_params(params, family)
    checks.check_key(key)
    return checks.check_count(num_samples, "num_samples")
