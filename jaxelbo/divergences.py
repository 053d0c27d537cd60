"""Kullback-Leibler divergences between approximating distributions.

Floor 3. Direction is carried by argument order: KL(q || p) takes q first. A closed form is never replaced by Monte
Carlo in silence; the latter has its own name and a standard error.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxelbo import checks, distributions, finite, monte_carlo
from jaxelbo.distributions import Transformed, domains, sample_spaces
from jaxelbo.types import Estimate, Family, Key, Latent, Params


def kl_divergence(params_q: Params, params_p: Params, family_q: Family, family_p: Family) -> jax.Array:
    """KL(q || p) in closed form, to be lowered.

    Estimand: E_q[log q(z) - log p(z)], exactly; zero where q = p. May be differentiated in both params.

    Args:
      params_q: parameters of q.
      params_p: parameters of p.
      family_q: q, over the same latent as p.
      family_p: p.

    Returns:
      Scalar, in nats.

    Raises:
      TypeError, ValueError: naming the argument: a pair without a closed form (the message names `kl_monte_carlo`),
        a q with mass where p can have none, latents that differ, params that do not fit.

    References:
      Kullback, Leibler (1951), *On Information and Sufficiency*.

    >>> import jax, jaxelbo
    >>> q, p = jaxelbo.families.mean_field(0.0, initial_scale=1.0), jaxelbo.families.full_rank(0.0, initial_scale=2.0)
    >>> key = jax.random.key(0)
    >>> round(float(kl_divergence(q.init(key), p.init(key), q, p)), 4)  # log 2 - 3/8
    0.3181
    """
    check_pair(params_q, params_p, family_q, family_p)
    closed_form = closed_form_or_none(params_q, params_p, family_q, family_p)
    if closed_form is not None:
        return closed_form
    _check_finite(params_q, params_p, family_q, family_p)
    raise ValueError(
        f"KL({family_q.name} || {family_p.name}) has no closed form here; use kl_monte_carlo, which estimates it by "
        "draws and gives a standard error."
    )


def closed_form_or_none(params_q: Params, params_p: Params, family_q: Family, family_p: Family) -> jax.Array | None:
    """KL(q || p), or ``None`` where it has no closed form here."""
    if family_q.distribution is None or family_p.distribution is None:
        return None
    return _between(family_q.distribution(params_q), family_p.distribution(params_p))


def between(q: Any, p: Any) -> jax.Array:
    """KL(q || p) of two distributions by their records, in closed form, to be lowered.

    Estimand: E_q[log q(x) - log p(x)], exactly; infinite where q reaches beyond p's support, zero where q = p. May be
    differentiated in both. Products and copies go part by part, and what one transform made of two distributions is as
    far apart as they are. Which pairs there are is listed in DISTRIBUTIONS.md; the generic form for an exponential
    family of one's own is `exponential.kl_divergence`.

    Args:
      q: a record of `distributions`, of one distribution; ``vmap`` over records of many.
      p: another of the same support.

    Returns:
      Scalar, in nats.

    Raises:
      TypeError: something that is no record of floating-point arrays.
      ValueError: a pair without a closed form, or arrays of other shapes; a pair whose KL is infinite whatever the
        parameters; parameters out of their domain, by name, where their values are known.

    References:
      Kullback, Leibler (1951), *On Information and Sufficiency*.

    >>> import jax.numpy as jnp
    >>> from jaxelbo.distributions import Poisson
    >>> round(float(between(Poisson(jnp.array(2.0)), Poisson(jnp.array(1.0)))), 4)  # 2 log 2 - 1
    0.3863
    """
    _check_parts(q, "q")
    _check_parts(p, "p")
    closed_form = _between(q, p)
    if closed_form is not None:
        return closed_form
    pair = f"KL({type(q).__name__} || {type(p).__name__})"
    infinite = sample_spaces.why_infinite(q, p)
    if infinite:
        raise ValueError(f"{pair} {infinite}.")
    raise ValueError(
        f"{pair} has no closed form here; DISTRIBUTIONS.md lists those that have one, and kl_monte_carlo estimates it "
        "for families."
    )


def _check_parts(record: Any, name: str) -> None:
    if isinstance(record, finite.Product):
        for index, part in enumerate(record.parts):
            _check_parts(part, f"{name}.parts[{index}]")
    elif isinstance(record, finite.Copies):
        jax.tree.map(lambda leaf: checks.check_float_leaves(leaf, f"{name}.part"), record.part)
        _check_parts(jax.tree.map(lambda leaf: leaf[0], record.part), f"{name}.part")
    elif isinstance(record, Transformed):
        _check_parts(record.base, f"{name}.base")
    else:
        domains.check_record(record, name)


def _check_finite(params_q: Params, params_p: Params, family_q: Family, family_p: Family) -> None:
    """Refuses, by the types of both distributions, what is infinite whatever the parameters."""
    if family_q.distribution is None or family_p.distribution is None:
        return
    records = jax.eval_shape(family_q.distribution, params_q), jax.eval_shape(family_p.distribution, params_p)
    infinite = sample_spaces.why_infinite(*records)
    if infinite:
        raise ValueError(f"KL({family_q.name} || {family_p.name}) {infinite}.")


def _between(q: Any, p: Any) -> jax.Array | None:
    if isinstance(q, Transformed) or isinstance(p, Transformed):
        is_one = isinstance(q, Transformed) and isinstance(p, Transformed) and q.transform == p.transform
        return _between(q.base, p.base) if is_one else None
    if isinstance(q, finite.Product) and isinstance(p, finite.Product) and len(q.parts) == len(p.parts):
        parts = [_between(*pair) for pair in zip(q.parts, p.parts, strict=True)]
        known = [part for part in parts if part is not None]
        return jnp.sum(jnp.stack(known)) if len(known) == len(parts) else None
    if isinstance(q, finite.Copies) and isinstance(p, finite.Copies):
        copies = jax.vmap(_between)(q.part, p.part)
        return None if copies is None else jnp.sum(copies)
    closed_form = distributions.CLOSED_FORMS.get((type(q), type(p)))
    if closed_form is None:
        return None
    # Two families may draw latents of one shape and yet differ, such as in their categories.
    for field in set(q._fields) & set(p._fields) - {"directions", "log_stretch"}:
        of_q, of_p = jnp.shape(getattr(q, field)), jnp.shape(getattr(p, field))
        if of_q != of_p:
            raise ValueError(
                f"params_q and params_p must be of one support, got a {type(q).__name__} and a {type(p).__name__} "
                f"distribution whose {field} have shapes {of_q} and {of_p}."
            )
    return closed_form(q, p)


def k1(log_weights: jax.Array) -> jax.Array:
    """The plain terms of KL(q || p): log q - log p.

    Unbiased. Gradient through reparameterised draws: that of KL(q || p). Gradient in q's parameters with the draws
    held fixed: mean 0, whatever q and p are; do not descend on it.

    Args:
      log_weights: log p(z) - log q(z) at draws of q, ``[S]`` or a scalar.

    Returns:
      Terms of the same shape, in nats, of either sign.

    References:
      Schulman (2020), *Approximating KL Divergence*.

    >>> float(k1(0.5))
    -0.5
    """
    return -log_weights


def k2(log_weights: jax.Array) -> jax.Array:
    """Half the squared log-ratio, (log q - log p)^2 / 2.

    Biased as a value, by a term of third order in the log-ratio. Gradient in q's parameters with the draws held
    fixed: unbiased for that of KL(q || p). Gradient through reparameterised draws: that of its own expectation
    E_q[(log q - log p)^2] / 2, which is not KL(q || p).

    Args:
      log_weights: log p(z) - log q(z) at draws of q, ``[S]`` or a scalar.

    Returns:
      Terms of the same shape, in nats, never negative.

    References:
      Schulman (2020), *Approximating KL Divergence*.

    >>> float(k2(0.5))
    0.125
    """
    return 0.5 * log_weights**2


def k3(log_weights: jax.Array) -> jax.Array:
    """The terms p/q - 1 - log(p/q) of KL(q || p).

    Unbiased where p is zero wherever q is; never negative, and of less variance than `k1` where q is near p. Gradient
    through reparameterised draws: that of KL(q || p). Gradient in q's parameters with the draws held fixed: that of
    the other direction, KL(p || q).

    Args:
      log_weights: log p(z) - log q(z) at draws of q, ``[S]`` or a scalar.

    Returns:
      Terms of the same shape, in nats, never negative.

    References:
      Schulman (2020), *Approximating KL Divergence*.

    >>> round(float(k3(0.5)), 4)
    0.1487
    """
    return jnp.expm1(log_weights) - log_weights


def kl_monte_carlo(
    params_q: Params,
    params_p: Params,
    key: Key,
    family_q: Family,
    family_p: Family,
    *,
    num_samples: int,
    estimator: Callable[[jax.Array], jax.Array] = k1,
) -> Estimate:
    """KL(q || p) by draws of q, with a standard error; to be lowered.

    Estimand and gradient are those of ``estimator``, whose docstring says what they are: `k1` (unbiased), `k2`
    (biased), `k3` (unbiased, never negative). Gradients here go through reparameterised draws.

    Args:
      params_q: parameters of q.
      params_p: parameters of p.
      key: one random key.
      family_q: q, over the same latent as p.
      family_p: p.
      num_samples: S, static, at least 2.
      estimator: log p - log q at the draws ``[S]`` -> terms ``[S]``, whose mean is the estimate.

    Returns:
      `Estimate` of value and standard error, in nats.

    Raises:
      TypeError, ValueError: naming the argument, as `kl_divergence`; fewer than two samples.

    References:
      Schulman (2020), *Approximating KL Divergence*.

    >>> import jax, jaxelbo
    >>> family = jaxelbo.families.mean_field(0.0)
    >>> params, key = family.init(jax.random.key(0)), jax.random.key(1)
    >>> float(kl_monte_carlo(params, params, key, family, family, num_samples=8, estimator=k3).value)
    0.0
    """
    check_pair(params_q, params_p, family_q, family_p)
    _check_finite(params_q, params_p, family_q, family_p)
    checks.check_key(key)
    num_samples = checks.check_count(num_samples, "num_samples", minimum=2)
    checks.check_callable(estimator, "estimator")
    log_weights = monte_carlo.log_weights_of_draws(
        params_q, key, lambda latent: family_p.log_prob(params_p, latent), family_q, num_samples
    )
    terms = estimator(log_weights)
    if getattr(terms, "shape", None) != (num_samples,) or not jnp.issubdtype(terms.dtype, jnp.floating):
        raise ValueError(
            f"estimator must return a floating-point term for each of {num_samples} samples, got "
            f"{checks.describe(terms)}."
        )
    return monte_carlo.estimate_of(terms)


def check_pair(
    params_q: Params,
    params_p: Params,
    family_q: Family,
    family_p: Family,
    names: tuple[str, str, str, str] = ("params_q", "params_p", "family_q", "family_p"),
) -> None:
    """Requires params that fit, and families over the same latent."""
    checks.check_params(params_q, family_q, names[0], names[2])
    checks.check_params(params_p, family_p, names[1], names[3])

    def draw(family: Family) -> Latent:
        return family.sample(family.init(jax.random.key(0)), jax.random.key(0))

    expected = jax.eval_shape(lambda: draw(family_p))
    jax.eval_shape(lambda: checks.check_like(draw(family_q), expected, f"the latent of {names[2]}", names[3]))
