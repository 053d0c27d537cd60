"""f-divergences by generator, between normalised distributions and to the posterior.

Floor 3. A generator takes log(p / q), not p / q, whose digits it keeps near 1, and may be asked at ``-inf``, where p is
zero; any elementwise function with f(1) = 0 that is convex in p / q will do. `divergences.k1` and `divergences.k3` are
generators of KL(q || p) too.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxelbo import bounds, checks, divergences, estimators
from jaxelbo.types import Estimator, Family, Key, Latent, Params


def f_divergence_monte_carlo(
    params_q: Params,
    params_p: Params,
    key: Key,
    family_q: Family,
    family_p: Family,
    *,
    generator: Callable[[jax.Array], jax.Array],
    num_samples: int,
    estimator: Estimator = estimators.leave_one_out,
) -> jax.Array:
    """The f-divergence E_q[f(p / q)] of a normalised pair, by draws of q; to be lowered.

    Estimand: E_q[f(p(z) / q(z))] for a convex f with f(1) = 0. Unbiased, with a gradient in both params that is right
    for every family and every estimator: the f-divergence is one more bound to them. `divergences.k1` and `k3` are
    generators of KL(q || p), `forward_kl` of KL(p || q).

    Args:
      params_q: parameters of q.
      params_p: parameters of p.
      key: one random key.
      family_q: q, over the same latent as p.
      family_p: p.
      generator: log(p / q) ``[S]`` -> f(p / q) ``[S]``, elementwise.
      num_samples: S, static; at least 2 where parts of q carry no gradient, under the default estimator.
      estimator: how the gradient is estimated, of `jaxelbo.estimators`; those that hold for any bound.

    Returns:
      Scalar, in nats.

    Raises:
      TypeError, ValueError: naming the argument, as `kl_divergence`; a generator that changes the shape.

    References:
      Csiszar (1967), *Information-type measures of difference of probability distributions and indirect observation*;
      Wang, Liu, Liu (2018), *Variational Inference with Tail-adaptive f-Divergence*.

    >>> import jax, jaxelbo
    >>> q, p = jaxelbo.families.bernoulli(0.0), jaxelbo.families.bernoulli(0.0)
    >>> params_q, params_p = q.init(jax.random.key(0)), {"logits": jax.numpy.array([2.0])}
    >>> arguments = params_q, params_p, jax.random.key(1), q, p
    >>> value = f_divergence_monte_carlo(*arguments, generator=squared_hellinger, num_samples=1000)
    >>> bool(0 < value < 1)
    True
    """
    divergences.check_pair(params_q, params_p, family_q, family_p)
    checks.check_key(key)
    num_samples = checks.check_count(num_samples, "num_samples")
    checks.check_callable(generator, "generator")
    checks.check_estimator(estimator)

    def bound(log_ratios: jax.Array) -> jax.Array:
        return jnp.mean(_generated(generator, log_ratios))

    def log_p(latent: Latent) -> jax.Array:
        return family_p.log_prob(params_p, latent)

    return checks.check_scalar(estimator(params_q, key, log_p, family_q, bound, num_samples), "estimator")


def f_divergence_self_normalised(log_weights: jax.Array, generator: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """The f-divergence E_q[f(p / q)] from q to the posterior, from unnormalised log-weights; to be lowered.

    Estimand at S to infinity: E_q[f(p(z|x) / q(z))]. Estimator: the log-weights less the log of their mean stand for
    log(p(z|x) / q(z)), so it is biased, by a term of order 1/S; at S = 1 it is f(1) = 0. A function of log-weights like
    any bound: ``functools.partial(f_divergence_self_normalised, generator=...)`` goes into `upper_bound`, and its
    gradient is right for its own expectation at this S under every estimator that holds for any bound.

    Args:
      log_weights: ``[S]``, in nats, S at least 2.
      generator: log ratio ``[S]`` -> f of the ratio ``[S]``, elementwise.

    Returns:
      Scalar, in nats.

    Raises:
      TypeError, ValueError: log-weights of another shape; a generator that changes the shape.

    References:
      Wan, Li, Hovakimyan (2020), *f-Divergence Variational Inference*.

    >>> import jax.numpy as jnp
    >>> from jaxelbo.divergences import k1
    >>> round(float(f_divergence_self_normalised(jnp.log(jnp.array([1.0, 3.0])), k1)), 4)  # log 2 - log(3) / 2
    0.1438
    """
    if getattr(log_weights, "ndim", None) != 1 or log_weights.shape[0] < 2:
        raise ValueError(f"log_weights must have shape [S] with S at least 2, got {checks.describe(log_weights)}.")
    return jnp.mean(_generated(generator, log_weights - bounds.importance_weighted(log_weights)))


def forward_kl(log_ratios: jax.Array) -> jax.Array:
    """The generator (p/q) log(p/q), of KL(p || q) by draws of q.

    Args:
      log_ratios: log(p / q) at draws of q, any shape; ``-inf`` where p is zero.

    Returns:
      f(p / q), of the same shape, to be averaged.

    References:
      Kullback, Leibler (1951), *On Information and Sufficiency*.

    >>> import jax.numpy as jnp
    >>> float(forward_kl(jnp.zeros(())))
    0.0
    """
    ratios = jnp.exp(log_ratios)
    return ratios * jnp.where(ratios == 0, 0, log_ratios)


def squared_hellinger(log_ratios: jax.Array) -> jax.Array:
    """The generator (sqrt(p/q) - 1)^2 / 2, of the squared Hellinger distance, between 0 and 1.

    Args:
      log_ratios: log(p / q) at draws of q, any shape; ``-inf`` where p is zero.

    Returns:
      f(p / q), of the same shape, to be averaged.

    References:
      Liese, Vajda (2006), *On Divergences and Informations in Statistics and Information Theory*.

    >>> import jax.numpy as jnp
    >>> float(squared_hellinger(jnp.zeros(())))
    0.0
    """
    return 0.5 * jnp.expm1(0.5 * log_ratios) ** 2


def pearson(log_ratios: jax.Array) -> jax.Array:
    """The generator (p/q - 1)^2, of the chi-squared divergence of p from q.

    Args:
      log_ratios: log(p / q) at draws of q, any shape; ``-inf`` where p is zero.

    Returns:
      f(p / q), of the same shape, to be averaged.

    References:
      Liese, Vajda (2006), *On Divergences and Informations in Statistics and Information Theory*.

    >>> import jax.numpy as jnp
    >>> float(pearson(jnp.zeros(())))
    0.0
    """
    return jnp.expm1(log_ratios) ** 2


def jensen_shannon(log_ratios: jax.Array) -> jax.Array:
    """The generator of the Jensen-Shannon divergence, half KL(q || m) plus half KL(p || m) to the mixture m of halves.

    Args:
      log_ratios: log(p / q) at draws of q, any shape; ``-inf`` where p is zero.

    Returns:
      f(p / q), of the same shape, to be averaged.

    References:
      Lin (1991), *Divergence Measures Based on the Shannon Entropy*.

    >>> import jax.numpy as jnp
    >>> float(jensen_shannon(jnp.zeros(())))
    0.0
    """
    ratios, log_2 = jnp.exp(log_ratios), jnp.log(jnp.asarray(2, jnp.result_type(log_ratios)))
    # log(p / m) is log 2 less softplus of -log(p / q), small where the ratio is large, so its product is near 1.
    of_p = ratios * jnp.where(ratios == 0, 0, log_2 - jax.nn.softplus(-log_ratios))
    return 0.5 * (of_p + log_2 - jax.nn.softplus(log_ratios))


def _generated(generator: Callable[[jax.Array], jax.Array], log_ratios: jax.Array) -> jax.Array:
    terms = generator(log_ratios)
    if getattr(terms, "shape", None) != log_ratios.shape:
        raise ValueError(f"generator must return shape {log_ratios.shape}, got {checks.describe(terms)}.")
    return terms
