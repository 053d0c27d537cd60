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


_MANY = 40.0
"""Log-odds above which p is far from q; their exponential may be out of range."""

_Counted = Binomial | Multinomial | NegativeBinomial


def kl_binomial(q: Binomial, p: Binomial) -> jax.Array:
    """KL(q || p) in nats, for the same number of trials."""
    return _same_count(q, p, _of_odds(q.logits, p.logits, jnp.log(q.total_count)))


def kl_bernoulli(q: finite.Bernoulli, p: finite.Bernoulli) -> jax.Array:
    """KL(q || p) in nats, summed over the entries."""
    return jnp.sum(_of_odds(q.logits, p.logits, jnp.zeros_like(q.logits)))


def kl_multinomial(q: Multinomial, p: Multinomial) -> jax.Array:
    """KL(q || p) in nats, for the same number of draws."""
    return _same_count(q, p, _of_categories(q.logits, p.logits, jnp.log(q.total_count)))


def kl_categorical(q: finite.Categorical, p: finite.Categorical) -> jax.Array:
    """KL(q || p) in nats; infinite where q draws what p does not."""
    return _of_categories(q.logits, p.logits, jnp.zeros((), q.logits.dtype))


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


def _of_odds(logits_q: jax.Array, logits_p: jax.Array, log_count: jax.Array) -> jax.Array:
    """KL of so many zeros and ones, elementwise."""
    log_one, log_zero = (log_count - jax.nn.softplus(logits) for logits in (-logits_q, logits_q))
    of_one = bregman.weighted_excess(log_one, _log_ratio_of_ones(logits_q, logits_p))
    return of_one + bregman.weighted_excess(log_zero, _log_ratio_of_ones(-logits_q, -logits_p))


def _of_odds_over_success(logits_q: jax.Array, logits_p: jax.Array) -> jax.Array:
    of_success = bregman.excess(_log_ratio_of_ones(logits_q, logits_p))
    return of_success + bregman.weighted_excess(-logits_q, _log_ratio_of_ones(-logits_q, -logits_p))


def _log_ratio_of_ones(logits_q: jax.Array, logits_p: jax.Array) -> jax.Array:
    """The logarithm of p's probability of one over q's, to rounding where these are close or nearly 1."""
    gap = logits_q - logits_p
    is_near = jnp.abs(gap) < 1
    # (1 + exp(-p)) / (1 + exp(-q)) = 1 + sigmoid(-q) (exp(q - p) - 1)
    near = -jnp.log1p(jax.nn.sigmoid(-logits_q) * jnp.expm1(jnp.where(is_near, gap, 0)))
    return jnp.where(is_near, near, jax.nn.softplus(-logits_q) - jax.nn.softplus(-logits_p))


def _of_categories(logits_q: jax.Array, logits_p: jax.Array, log_count: jax.Array) -> jax.Array:
    """KL of so many categories, by odds against q's likeliest one, whose own probability is said by what it is not."""
    is_q, is_p = (jax.lax.stop_gradient(logits) > -jnp.inf for logits in (logits_q, logits_p))
    is_both, top = is_q & is_p, jnp.argmax(logits_q)
    own_q, own_p = (jnp.where(is_there, x, 0) for is_there, x in ((is_q, logits_q), (is_p, logits_p)))
    log_odds_q, log_odds_p = own_q - own_q[top], own_p - own_p[top]
    gap = jnp.where(is_both, log_odds_p - log_odds_q, 0)
    odds_q, odds_p = (
        jnp.where(is_there, jnp.exp(jnp.minimum(x, _MANY)), 0)
        for is_there, x in ((is_q, log_odds_q), (is_p, log_odds_p))
    )
    log_sum_q = jax.nn.logsumexp(log_odds_q, where=is_q)
    rises = jnp.where(is_both & (jnp.abs(gap) < 1), odds_q * jnp.expm1(jnp.clip(gap, -1, 1)), odds_p - odds_q)
    rise = jnp.sum(rises) / jnp.sum(odds_q)
    is_near = jnp.abs(rise) < 0.5
    near = jnp.log1p(jnp.where(is_near, rise, 0))
    log_rise = jnp.where(is_near, near, jax.nn.logsumexp(log_odds_p, where=is_p) - log_sum_q)
    terms = bregman.weighted_excess(log_odds_q - log_sum_q + log_count, gap - log_rise)
    # Summed, p - q is zero: what q never draws adds p.
    beyond = jnp.exp(jnp.where(is_p & ~is_q, log_odds_p - log_sum_q - log_rise + log_count, -jnp.inf))
    return jnp.where(jnp.any(is_q & ~is_p), jnp.inf, jnp.sum(jnp.where(is_both, terms, beyond)))


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
