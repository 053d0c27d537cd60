"""The variational bound of hard attention: a label y, and a latent l that says where to look.

Floor 3. With a policy p(l) and a likelihood p(y|l), both given x,

    log p(y) = log sum_l p(l) p(y|l)  >=  F = sum_l p(l) log p(y|l),    log p(y) - F = KL(p(l) || p(l|y)).

For a latent with M values the exact terms are functions of arrays ``[M]`` in nats: ``log_policy`` (normalised),
``log_likelihood`` and, for a learned q(l|y), ``log_q``. Vmap them over data; they differentiate as they stand. For any
family, `policy_bound` estimates F and its many-sample relatives by draws; with a learned q use
`jaxelbo.elbo_with_prior` or `jaxelbo.lower_bound`. The 0/1 reward of the literature in place of log p(y|l) gives the
gradient of expected accuracy, not of F.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from jaxelbo import bounds, checks, custom_gradients, estimators, finite, objectives
from jaxelbo.estimators import decompositions
from jaxelbo.types import Bound, Estimator, Family, Key, Latent, LogJoint, Params


def log_evidence(log_policy: jax.Array, log_likelihood: jax.Array) -> jax.Array:
    """The exact log p(y) = log sum_l p(l) p(y|l), to be maximised.

    Args:
      log_policy: log p(l), ``[M]``.
      log_likelihood: log p(y|l), ``[M]``.

    Returns:
      Scalar, in nats.

    Raises:
      ValueError: arrays that are not ``[M]`` alike.

    References:
      Ba, Mnih, Kavukcuoglu (2015), *Multiple Object Recognition with Visual Attention*.

    >>> import jax.numpy as jnp
    >>> round(float(jnp.exp(log_evidence(jnp.log(jnp.array([0.5, 0.5])), jnp.log(jnp.array([0.2, 0.6]))))), 4)
    0.4
    """
    _check("log_policy and log_likelihood", log_policy, log_likelihood)
    return jax.nn.logsumexp(log_policy + log_likelihood)


def posterior(log_policy: jax.Array, log_likelihood: jax.Array) -> jax.Array:
    """The exact log p(l|y), ``[M]``.

    Args:
      log_policy: log p(l), ``[M]``.
      log_likelihood: log p(y|l), ``[M]``.

    Returns:
      ``[M]``, in nats.

    Raises:
      TypeError, ValueError: arrays that are not floating-point, or not ``[M]`` alike.

    References:
      Ba, Mnih, Kavukcuoglu (2015), *Multiple Object Recognition with Visual Attention*.

    >>> import jax.numpy as jnp
    >>> jnp.exp(posterior(jnp.log(jnp.array([0.5, 0.5])), jnp.log(jnp.array([0.2, 0.6])))).round(2)
    Array([0.25, 0.75], dtype=float32)
    """
    _check("log_policy and log_likelihood", log_policy, log_likelihood)
    return jax.nn.log_softmax(log_policy + log_likelihood)


def exact_policy_bound(log_policy: jax.Array, log_likelihood: jax.Array) -> jax.Array:
    """F = sum_l p(l) log p(y|l), exactly; a lower bound on log p(y), to be maximised.

    Args:
      log_policy: log p(l), ``[M]``.
      log_likelihood: log p(y|l), ``[M]``.

    Returns:
      Scalar, in nats.

    Raises:
      TypeError, ValueError: arrays that are not floating-point, or not ``[M]`` alike.

    References:
      Ba, Mnih, Kavukcuoglu (2015), *Multiple Object Recognition with Visual Attention*.

    >>> import jax.numpy as jnp
    >>> round(float(exact_policy_bound(jnp.log(jnp.array([0.5, 0.5])), jnp.array([-1.0, -3.0]))), 4)
    -2.0
    """
    _check("log_policy and log_likelihood", log_policy, log_likelihood)
    return finite.expectation(log_policy, log_likelihood)


def exact_posterior_bound(log_q: jax.Array, log_policy: jax.Array, log_likelihood: jax.Array) -> jax.Array:
    """The bound with a learned q(l|y): sum_l q(l) (log p(y|l) + log p(l) - log q(l)), exactly; to be maximised.

    It is `exact_policy_bound` at q = p(l), and log p(y) at q = p(l|y).

    Args:
      log_q: log q(l|y), normalised, ``[M]``.
      log_policy: log p(l), ``[M]``.
      log_likelihood: log p(y|l), ``[M]``.

    Returns:
      Scalar, in nats.

    Raises:
      TypeError, ValueError: arrays that are not floating-point, or not ``[M]`` alike.

    References:
      Deng, Kim, Chiu, Guo, Rush (2018), *Latent Alignment and Variational Attention*.

    >>> import jax.numpy as jnp
    >>> log_policy, log_likelihood = jnp.log(jnp.array([0.5, 0.5])), jnp.array([-1.0, -3.0])
    >>> log_q = posterior(log_policy, log_likelihood)
    >>> gap = log_evidence(log_policy, log_likelihood) - exact_posterior_bound(log_q, log_policy, log_likelihood)
    >>> bool(abs(gap) < 1e-6)
    True
    """
    _check("log_q, log_policy and log_likelihood", log_q, log_policy, log_likelihood)
    return finite.expectation(log_q, log_policy + log_likelihood - log_q)


def exact_many_sample_bound(
    log_q: jax.Array, log_policy: jax.Array, log_likelihood: jax.Array, num_samples: int,
    *, bound: Bound = bounds.importance_weighted,
) -> jax.Array:  # fmt: skip
    """E over S draws of q of a bound of their log-weights, exactly, by listing all S-tuples; to be maximised.

    With log-mean-exp it rises with S to log p(y); at S = 1 it is `exact_posterior_bound`.

    Args:
      log_q: log q(l), normalised, ``[M]``; the policy itself for q = p(l).
      log_policy: log p(l), ``[M]``.
      log_likelihood: log p(y|l), ``[M]``.
      num_samples: S, static, with M^S at most 65,536.
      bound: log-weights ``[S]`` -> scalar.

    Returns:
      Scalar, in nats.

    Raises:
      ValueError: too many tuples; the message says how many.

    References:
      Burda, Grosse, Salakhutdinov (2016), *Importance Weighted Autoencoders*.

    >>> import jax.numpy as jnp
    >>> log_policy, log_likelihood = jnp.log(jnp.array([0.5, 0.5])), jnp.array([-1.0, -3.0])
    >>> values = [exact_many_sample_bound(log_policy, log_policy, log_likelihood, s) for s in (1, 2, 4)]
    >>> bool(values[0] < values[1] < values[2] < log_evidence(log_policy, log_likelihood))
    True
    """
    _check("log_q, log_policy and log_likelihood", log_q, log_policy, log_likelihood)
    num_samples = checks.check_count(num_samples, "num_samples")
    checks.check_bound(bound)
    size = log_q.shape[0]
    if size**num_samples > finite.MAX_CONFIGURATIONS:
        raise ValueError(
            f"num_samples = {num_samples} draws of {size} values make {checks.format_count(size**num_samples)} tuples, "
            f"more than the limit of {finite.MAX_CONFIGURATIONS:,}; estimate the bound by draws, with lower_bound."
        )
    tuples = np.array(list(itertools.product(range(size), repeat=num_samples)))
    # What q never draws has no weight; it is set aside before the bound, whose derivative there would be none.
    is_drawn = log_q > -jnp.inf
    log_weights = jnp.where(is_drawn, log_policy + log_likelihood - jnp.where(is_drawn, log_q, 0), 0)
    values = jax.vmap(lambda log_weights: checks.check_scalar(bound(log_weights), "bound"))(log_weights[tuples])
    return finite.expectation(jnp.sum(log_q[tuples], axis=1), values)


def gap(log_q: jax.Array, log_policy: jax.Array, log_likelihood: jax.Array) -> jax.Array:
    """KL(q(l) || p(l|y)), which is log p(y) less `exact_posterior_bound`; with q the policy, log p(y) - F.

    To be lowered. A small gap alone is no sign of quality: look at log p(y) beside it.

    Args:
      log_q: log q(l), normalised, ``[M]``; the policy itself for F.
      log_policy: log p(l), ``[M]``.
      log_likelihood: log p(y|l), ``[M]``.

    Returns:
      Scalar, in nats, never negative but for rounding.

    Raises:
      TypeError, ValueError: arrays that are not floating-point, or not ``[M]`` alike.

    References:
      Ba, Mnih, Kavukcuoglu (2015), *Multiple Object Recognition with Visual Attention*.

    >>> import jax.numpy as jnp
    >>> log_policy, log_likelihood = jnp.log(jnp.array([0.5, 0.5])), jnp.array([-1.0, -3.0])
    >>> bound = exact_policy_bound(log_policy, log_likelihood)
    >>> bool(abs(log_evidence(log_policy, log_likelihood) - bound - gap(log_policy, log_policy, log_likelihood)) < 1e-6)
    True
    """
    _check("log_q, log_policy and log_likelihood", log_q, log_policy, log_likelihood)
    return finite.expectation(log_q, log_q - posterior(log_policy, log_likelihood))


def policy_bound(
    params: Params,
    key: Key,
    log_likelihood: LogJoint,
    family: Family,
    *,
    bound: Bound = bounds.mean,
    num_samples: int,
    estimator: Estimator = estimators.leave_one_out,
) -> jax.Array:
    """F, or its many-sample relatives, by draws of the policy itself; to be maximised.

    Estimand: E[bound of log p(y|l_1), ..., log p(y|l_S)] over S draws of the policy: F for the mean, and for
    log-mean-exp a bound that rises with S to log p(y). Unbiased; the gradient is the estimator's, in params and in what
    log_likelihood closes over.

    Args:
      params: the policy's parameters.
      key: one random key.
      log_likelihood: latent -> scalar log p(y|l), in nats.
      family: the policy p(l), its draws discrete or not; detached where the likelihood is not differentiable in l.
      bound: log-weights ``[S]`` -> scalar.
      num_samples: S, static; at least 2 where parts carry no gradient, under the default estimator.
      estimator: how the gradient is estimated, of `jaxelbo.estimators` but for those that take a decomposition.

    Returns:
      Scalar, in nats.

    Raises:
      TypeError, ValueError: as `jaxelbo.lower_bound`.

    References:
      Ba, Mnih, Kavukcuoglu (2015), *Multiple Object Recognition with Visual Attention*;
      Mnih, Rezende (2016), *Variational Inference for Monte Carlo Objectives*.

    >>> import jax, jaxelbo
    >>> family = jaxelbo.families.categorical(2)
    >>> params, log_likelihood = family.init(jax.random.key(0)), jax.numpy.array([-1.0, -3.0])
    >>> arguments = params, jax.random.key(1), lambda l: log_likelihood[l], family
    >>> round(float(policy_bound(*arguments, num_samples=1, estimator=jaxelbo.estimators.enumeration)), 4)
    -2.0
    """
    checks.check_callable(log_likelihood, "log_likelihood")
    if decompositions.has_terms(estimator):
        raise ValueError(
            "policy_bound cancels the policy's log-probability against log q, which an estimator with terms of its own "
            "cannot know; use estimators.leave_one_out, or signals by step in jaxelbo.surrogates.weighted_scores."
        )

    def log_joint(latent: Latent) -> jax.Array:
        log_policy = family.log_prob(params, latent)
        if bound is bounds.mean:
            # The estimators leave the gradient of log q inside the weights out, as it is zero in the mean. Here log p
            # is log q, and its gradient in params would be left alone without it. That in the latent stays, since in
            # relaxations log p - log q must cancel there too.
            score = lambda latent: jnp.sum(family.score_log_probs(params, latent))  # noqa: E731
            log_policy -= score(latent) - custom_gradients.hold_closure(score, latent)
        return checks.check_scalar(log_likelihood(latent), "log_likelihood") + log_policy

    return objectives.lower_bound(
        params, key, log_joint, family, bound=bound, num_samples=num_samples, estimator=estimator
    )


def _check(names: str, *arrays: jax.Array) -> None:
    for array in arrays:
        if not hasattr(array, "dtype"):
            raise TypeError(f"{names} must be arrays, got {checks.describe(array)}.")
    shapes = [jnp.shape(array) for array in arrays]
    if len(shapes[0]) != 1 or shapes[0] == (0,) or any(shape != shapes[0] for shape in shapes):
        raise ValueError(
            f"{names} must have one shape [M], M at least 1, got {', '.join(map(str, shapes))}; vmap over data."
        )
    for array in arrays:
        if not jnp.issubdtype(jnp.result_type(array), jnp.floating):
            raise TypeError(f"{names} must be floating-point, got {checks.describe(array)}.")
