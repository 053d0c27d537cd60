"""Distributions of proportions: beta and Dirichlet.

Floor 1.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import digamma, gammaln

from jaxelbo import bregman
from jaxelbo.distributions import stirling
from jaxelbo.exponential import ExponentialFamily, Natural


class Beta(NamedTuple):
    """Density x^(a - 1) (1 - x)^(b - 1) on 0 < x < 1: ``concentration1`` a and ``concentration0`` b, positive."""

    concentration1: jax.Array
    concentration0: jax.Array


class Dirichlet(NamedTuple):
    """Density of prod x_k^(a_k - 1) over proportions ``[K]``: ``concentration [K]``, positive, K at least 2."""

    concentration: jax.Array


def dirichlet_of(beta: Beta) -> Dirichlet:
    """The distribution of x and 1 - x."""
    return Dirichlet(jnp.stack([beta.concentration1, beta.concentration0]))


def kl_beta(q: Beta, p: Beta) -> jax.Array:
    """KL(q || p) in nats."""
    return kl_dirichlet(dirichlet_of(q), dirichlet_of(p))


def kl_dirichlet(q: Dirichlet, p: Dirichlet) -> jax.Array:
    """KL(q || p) in nats.

    Each concentration adds a divergence of log-gamma, and their sum takes one away. The large ones are first made one
    (by aggregation: the proportions within a group are a Dirichlet of their own); that one and the sum then differ by
    the small others alone, and what nearly cancels is written out where these are close or few.
    """
    a, b = q.concentration, p.concentration
    is_large = jnp.minimum(a, b) > bregman.NUM_SHIFTS
    is_one = jnp.where(jnp.any(is_large), is_large, jnp.arange(a.size) == jnp.argmax(a))
    ones, rests = ((_sum(a, mask), _sum(b, mask)) for mask in (is_one, ~is_one))
    totals = jnp.sum(a), jnp.sum(b)
    gap, rest_gap = (_sum(b - a, mask) for mask in (is_one, ~is_one))
    others = _sum(bregman.of_log_gamma(b, a), ~is_one)
    is_near = (jnp.abs(gap) < 0.5 * ones[0]) & (jnp.abs(rest_gap) <= 0.5 * rests[0])
    near = others + _of_near(ones[0], rests[0], *(jnp.where(is_near, each, 0) for each in (gap, rest_gap)))
    is_most = (ones[0] > 0.9 * totals[0]) & (ones[1] > 0.9 * totals[1])
    most = others + _of_most(ones, totals, rests)
    less_linear = bregman.of_log_gamma_less_linear
    apart = less_linear(*ones[::-1]) - less_linear(*totals[::-1])
    apart = _sum(less_linear(b, a), ~is_one) + apart
    return _within(a, b, is_large) + jnp.where(is_near, near, jnp.where(is_most, most, apart))


def _sum(values: jax.Array, mask: jax.Array) -> jax.Array:
    return jnp.sum(jnp.where(mask, values, 0))


def _within(a: jax.Array, b: jax.Array, is_large: jax.Array) -> jax.Array:
    """KL of the proportions within the group of the large ones.

    The leading parts leave a divergence of the mean proportions.
    """
    gaps = jnp.where(is_large, b - a, 0)
    a, b = (jnp.where(is_large, each, 2.0 * bregman.NUM_SHIFTS) for each in (a, b))
    has_any, weights = jnp.any(is_large), jnp.where(is_large, b, 0)
    total_a, total_b = (jnp.where(has_any, _sum(each, is_large), a[0]) for each in (a, b))
    rise = jnp.where(is_large, (a / b) * (jnp.sum(gaps) / total_a) - gaps / b, 0)  # of q's proportions over p's, less 1
    of_proportions = jnp.sum(weights * bregman.of_minus_log_by_gap(1 + rise, jnp.ones_like(rise), rise))
    rest = bregman.of_log_gamma_less_leading
    return jnp.where(has_any, of_proportions + jnp.sum(rest(b, a)) - rest(total_b, total_a), 0)


def _of_near(one: jax.Array, rest: jax.Array, gap: jax.Array, rest_gap: jax.Array) -> jax.Array:
    """The divergence of the one less that of the sum, as a quadrature; their curvatures differ by the rest alone."""

    def curvature(place: jax.Array) -> jax.Array:
        here, beside = one + place * gap, rest + place * rest_gap
        total = here + beside
        of_total = (1 + stirling.trigamma_excess(total)) / total
        return gap**2 * stirling.trigamma_fall(here, beside) - rest_gap * (2 * gap + rest_gap) * of_total

    return bregman.mean_curvature(curvature, jnp.ones_like(gap), jnp.zeros_like(gap))


def _of_most(
    ones: tuple[jax.Array, jax.Array], totals: tuple[jax.Array, jax.Array], rests: tuple[jax.Array, jax.Array]
) -> jax.Array:
    """The same where the rest is small, by how far log-gamma bends over it."""
    (one_a, one_b), (total_a, total_b), (rest_a, rest_b) = ones, totals, rests
    curved = bregman.of_log_gamma_by_gap(one_b, total_b, -rest_b) - bregman.of_log_gamma_by_gap(one_a, total_a, -rest_a)
    sloped = (one_b - one_a) * bregman.digamma_rise(total_a, one_a, rest_a)
    return curved + sloped - rest_b * bregman.digamma_rise(total_b, total_a, total_b - total_a)


def _inverse_digamma(value: jax.Array) -> jax.Array:
    """Nearly the a with digamma(a) = value; Minka (2000)."""
    return jnp.where(value > -2.2, jnp.exp(value) + 0.5, -1 / (value - digamma(jnp.ones_like(value))))


def _guess_dirichlet(mean: jax.Array) -> jax.Array:
    """Minka's fixed point from a small total: digamma(a_k) = E[log x_k] + digamma(sum of a)."""

    def body(_: int, concentration: jax.Array) -> jax.Array:
        return _inverse_digamma(mean + digamma(jnp.sum(concentration)))

    return jax.lax.fori_loop(0, 50, body, jnp.ones_like(mean))


def _log_normalizer(natural: jax.Array) -> jax.Array:
    return jnp.sum(gammaln(natural)) - gammaln(jnp.sum(natural))


def _guess_beta(mean: Natural) -> Natural:
    guess = _guess_dirichlet(jnp.stack(mean))
    return guess[0], guess[1]


beta = ExponentialFamily(
    name="beta",
    log_normalizer=lambda natural: _log_normalizer(jnp.stack(natural)),
    statistics=lambda x: (jnp.log(x), jnp.log1p(-x)),
    log_base=lambda x: -jnp.log(x) - jnp.log1p(-x),
    to_natural=tuple,
    to_usual=lambda natural: Beta(*natural),
    guess=_guess_beta,
    expected_log_base=lambda natural, mean: -mean[0] - mean[1],
    contains=lambda natural: (natural[0] > 0) & (natural[1] > 0),
)

dirichlet = ExponentialFamily(
    name="Dirichlet",
    log_normalizer=_log_normalizer,
    statistics=jnp.log,
    log_base=lambda x: -jnp.sum(jnp.log(x)),
    to_natural=lambda usual: usual.concentration,
    to_usual=Dirichlet,
    guess=_guess_dirichlet,
    expected_log_base=lambda natural, mean: -jnp.sum(mean),
    contains=lambda natural: jnp.all(natural > 0),
)
