"""Distributions of proportions: beta and Dirichlet.

Floor 1.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import digamma, gammaln

from jaxelbo import bregman
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

    Each concentration adds a divergence of log-gamma, and their sum takes one away. What nearly cancels is written out
    in two cases: where all are large, and where one is most of the sum.
    """
    a, b = q.concentration, p.concentration
    near = jnp.sum(bregman.of_log_gamma(b, a)) - bregman.of_log_gamma(jnp.sum(b), jnp.sum(a))
    far = bregman.of_log_gamma_less_linear
    is_near = jnp.all(jnp.abs(b - a) < 0.5 * a)
    plain = jnp.where(is_near, near, jnp.sum(far(b, a)) - far(jnp.sum(b), jnp.sum(a)))
    is_large = jnp.minimum(jnp.min(a), jnp.min(b)) > bregman.NUM_SHIFTS
    index = jnp.argmax(a)
    is_one = (a[index] > 0.9 * jnp.sum(a)) & (b[index] > 0.9 * jnp.sum(b))
    return jnp.where(is_large, _of_large(a, b, is_large), jnp.where(is_one, _of_one(a, b, index), plain))


def _of_large(a: jax.Array, b: jax.Array, is_large: jax.Array) -> jax.Array:
    """The leading parts leave a divergence of the mean proportions."""
    a, b = (jnp.where(is_large, each, 2.0 * bregman.NUM_SHIFTS) for each in (a, b))
    total_a, total_b = jnp.sum(a), jnp.sum(b)
    of_proportions = jnp.sum(b * bregman.of_minus_log(a / total_a, b / total_b))
    rest = bregman.of_log_gamma_less_leading
    return of_proportions + jnp.sum(rest(b, a)) - rest(total_b, total_a)


def _of_one(a: jax.Array, b: jax.Array, index: jax.Array) -> jax.Array:
    """The divergence of the large one and of the sum, which differ by the others alone."""
    is_other = jnp.arange(a.size) != index
    rest_a, rest_b = (jnp.sum(jnp.where(is_other, each, 0)) for each in (a, b))
    one_a, one_b, total_a, total_b = a[index], b[index], jnp.sum(a), jnp.sum(b)
    others = jnp.sum(jnp.where(is_other, bregman.of_log_gamma(b, a), 0))
    curved = bregman.of_log_gamma_by_gap(one_b, total_b, -rest_b) - bregman.of_log_gamma_by_gap(one_a, total_a, -rest_a)
    sloped = (one_b - one_a) * bregman.digamma_rise(total_a, one_a, rest_a)
    return others + curved + sloped - rest_b * bregman.digamma_rise(total_b, total_a, total_b - total_a)


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
