"""Distributions of counts: binomial, multinomial, Poisson, geometric, negative binomial; and the minimal categorical.

Floor 1. Bernoulli and categorical records are in `finite`. Total counts are known constants: other counts, another
family.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln

from jaxelbo import bregman, finite
from jaxelbo.exponential import ExponentialFamily


class Binomial(NamedTuple):
    """Successes in ``total_count`` trials with log-odds ``logits``."""

    total_count: jax.Array
    logits: jax.Array


class Multinomial(NamedTuple):
    """Counts ``[K]`` of ``total_count`` draws of categories with unnormalised ``logits [K]``."""

    total_count: jax.Array
    logits: jax.Array


class Poisson(NamedTuple):
    """Counts with mean ``rate``, positive."""

    rate: jax.Array


class Geometric(NamedTuple):
    """Failures before the first success, whose log-odds are ``logits``."""

    logits: jax.Array


class NegativeBinomial(NamedTuple):
    """Failures before ``total_count`` successes, each with log-odds ``logits``; the count need not be whole."""

    total_count: jax.Array
    logits: jax.Array


_Counted = Binomial | Multinomial | NegativeBinomial


def kl_binomial(q: Binomial, p: Binomial) -> jax.Array:
    """KL(q || p) in nats, for the same number of trials."""
    return _same_count(q, p, q.total_count * finite.kl_of_odds(q.logits, p.logits))


def kl_multinomial(q: Multinomial, p: Multinomial) -> jax.Array:
    """KL(q || p) in nats, for the same number of draws."""
    return _same_count(
        q, p, q.total_count * finite.kl_categorical(finite.Categorical(q.logits), finite.Categorical(p.logits))
    )


def kl_poisson(q: Poisson, p: Poisson) -> jax.Array:
    """KL(q || p) in nats."""
    return q.rate * bregman.of_minus_log(p.rate, q.rate)


def kl_geometric(q: Geometric, p: Geometric) -> jax.Array:
    """KL(q || p) in nats: that of one trial, times the expected number of trials."""
    return _of_odds_over_success(q.logits, p.logits)


def kl_negative_binomial(q: NegativeBinomial, p: NegativeBinomial) -> jax.Array:
    """KL(q || p) in nats, for the same number of successes."""
    return _same_count(q, p, q.total_count * _of_odds_over_success(q.logits, p.logits))


def _same_count(q: _Counted, p: _Counted, kl: jax.Array) -> jax.Array:
    # With other counts there is no closed form, and where q's is the larger of a bounded support KL is infinite.
    return jnp.where(q.total_count == p.total_count, kl, jnp.nan)


def _of_odds_over_success(logits_q: jax.Array, logits_p: jax.Array) -> jax.Array:
    of_success = bregman.excess(finite.log_ratio_of_odds(logits_q, logits_p))
    return of_success + jnp.exp(-logits_q) * bregman.excess(finite.log_ratio_of_odds(-logits_q, -logits_p))


def _log_choices(total_count: int, counts: jax.Array) -> jax.Array:
    return gammaln(total_count + 1.0) - jnp.sum(gammaln(counts + 1.0))


bernoulli = ExponentialFamily(
    name="Bernoulli",
    log_normalizer=lambda natural: jnp.sum(jax.nn.softplus(natural)),
    statistics=lambda x: x,
    log_base=lambda x: jnp.zeros((), jnp.result_type(x, float)),
    to_natural=lambda usual: usual.logits,
    to_usual=finite.Bernoulli,
    guess=lambda mean: jnp.log(mean) - jnp.log1p(-mean),
    expected_log_base=lambda natural, mean: jnp.zeros((), mean.dtype),
    contains=lambda natural: jnp.all(jnp.isfinite(natural)),
)


def categorical(num_categories: int) -> ExponentialFamily:
    """Categorical distributions of x = 0, ..., K - 1 in minimal form: log-odds ``[K - 1]`` against the last."""
    return multinomial_of(
        1, num_categories, "categorical", lambda x: jax.nn.one_hot(x, num_categories), finite.Categorical
    )


def multinomial(total_count: int, num_categories: int) -> ExponentialFamily:
    """Multinomial counts ``[K]`` of so many draws, in minimal form: log-odds ``[K - 1]`` against the last."""
    return multinomial_of(
        total_count,
        num_categories,
        "multinomial",
        lambda x: x,
        lambda logits: Multinomial(jnp.asarray(total_count, logits.dtype), logits),
    )


def multinomial_of(
    total_count: int,
    num_categories: int,
    name: str,
    counts_of: Callable[[jax.Array], jax.Array],
    record: Callable[[jax.Array], NamedTuple],
) -> ExponentialFamily:
    """The family of counts, of values that stand for them."""

    def log_normalizer(natural: jax.Array) -> jax.Array:
        return total_count * jax.nn.logsumexp(jnp.append(natural, 0))

    def guess(mean: jax.Array) -> jax.Array:
        return jnp.log(mean) - jnp.log(total_count - jnp.sum(mean))

    is_one = total_count == 1
    return ExponentialFamily(
        name=name,
        log_normalizer=log_normalizer,
        statistics=lambda x: counts_of(x)[: num_categories - 1],
        log_base=lambda x: _log_choices(total_count, counts_of(x)),
        to_natural=lambda usual: usual.logits[:-1] - usual.logits[-1],
        to_usual=lambda natural: record(jnp.append(natural, 0)),
        guess=guess,
        expected_log_base=(lambda natural, mean: jnp.zeros((), mean.dtype)) if is_one else None,
        contains=lambda natural: jnp.all(jnp.isfinite(natural)),
    )


def binomial(total_count: int) -> ExponentialFamily:
    """Binomial distributions of so many trials."""
    return ExponentialFamily(
        name="binomial",
        log_normalizer=lambda natural: total_count * jax.nn.softplus(natural),
        statistics=lambda x: x,
        log_base=lambda x: _log_choices(total_count, jnp.stack([x, total_count - x])),
        to_natural=lambda usual: usual.logits,
        to_usual=lambda natural: Binomial(jnp.asarray(total_count, natural.dtype), natural),
        guess=lambda mean: jnp.log(mean) - jnp.log(total_count - mean),
        expected_log_base=None,
        contains=jnp.isfinite,
    )


poisson = ExponentialFamily(
    name="Poisson",
    log_normalizer=jnp.exp,
    statistics=lambda x: x,
    log_base=lambda x: -gammaln(x + 1.0),
    to_natural=lambda usual: jnp.log(usual.rate),
    to_usual=lambda natural: Poisson(jnp.exp(natural)),
    guess=jnp.log,
    expected_log_base=None,
    contains=jnp.isfinite,
)

geometric = ExponentialFamily(
    name="geometric",
    log_normalizer=lambda natural: -jnp.log(-jnp.expm1(natural)),
    statistics=lambda x: x,
    log_base=lambda x: jnp.zeros((), jnp.result_type(x, float)),
    to_natural=lambda usual: -jax.nn.softplus(usual.logits),
    to_usual=lambda natural: Geometric(jnp.log(-jnp.expm1(natural)) - natural),
    guess=lambda mean: -jnp.log1p(1 / mean),
    expected_log_base=lambda natural, mean: jnp.zeros_like(mean),
    contains=lambda natural: natural < 0,
)


def negative_binomial(total_count: float) -> ExponentialFamily:
    """Negative binomial distributions of so many successes."""
    return ExponentialFamily(
        name="negative binomial",
        log_normalizer=lambda natural: -total_count * jnp.log(-jnp.expm1(natural)),
        statistics=lambda x: x,
        log_base=lambda x: gammaln(x + total_count) - gammaln(x + 1.0) - gammaln(jnp.asarray(1.0 * total_count)),
        to_natural=lambda usual: -jax.nn.softplus(usual.logits),
        to_usual=lambda natural: NegativeBinomial(
            jnp.asarray(total_count, natural.dtype), jnp.log(-jnp.expm1(natural)) - natural
        ),
        guess=lambda mean: -jnp.log1p(total_count / mean),
        expected_log_base=None,
        contains=lambda natural: natural < 0,
    )
