"""KL between different distributions of a positive number, by moments of x and of its logarithm.

Floor 1. Most q here are powers of a gamma variable, x = c G^(1 / h), so E[x^k], E[log x] and Var[log x] are closed.
Most p have a log density that is a sum of such terms. What one lacks, the pair lacks.

All is said of log x, whose distribution is near a normal of variance 1 / precision where shapes are large: KL is that
of the two normals, and corrections in which what cancels has been taken away. For a p that is a power of a gamma,
KL = a (exp(m) - 1 - m) + KL at the best scale, where exp(m) is the ratio of the best scale's moment to p's own.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import digamma, gammaln

from jaxelbo import bregman
from jaxelbo.distributions import stirling
from jaxelbo.distributions.gammas import ChiSquared, Exponential, Gamma, InverseGamma, gamma_of
from jaxelbo.distributions.normals import InverseGaussian, LogNormal
from jaxelbo.distributions.scales import HalfNormal, Pareto, Rayleigh, Weibull, kl_of_weibulls

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)

SOURCES = (Gamma, Exponential, ChiSquared, InverseGamma, Weibull, Rayleigh, HalfNormal, LogNormal, Pareto)
TARGETS = (Gamma, Exponential, ChiSquared, InverseGamma, Weibull, Rayleigh, HalfNormal, LogNormal, InverseGaussian)

_WEIBULLS = (Weibull, Exponential, Rayleigh)
_GAMMAS = (Gamma, ChiSquared)


class _Logarithm(NamedTuple):
    """What p asks of log x under q, most of it from a location of x that q has.

    Attributes:
      precision: one over the variance of log x where that is near a normal variable.
      mean: E[log x] less the logarithm of the location.
      variance_excess: precision Var[log x] - 1.
      entropy_excess: the entropy of log x less that of a normal variable of this precision.
      has_moment: k -> whether E[x^k] is finite.
      log_moment: k -> log E[(x / location)^k]; finite too where it is not, for gradients.
      convexity: k -> log E[x^k] - k E[log x], not negative.
      convexity_excess: k = 1 or -1 -> that less k^2 / (2 precision).
    """

    precision: jax.Array
    mean: jax.Array
    variance_excess: jax.Array
    entropy_excess: jax.Array
    has_moment: Callable[[jax.Array], jax.Array]
    log_moment: Callable[[jax.Array], jax.Array]
    convexity: Callable[[jax.Array], jax.Array]
    convexity_excess: Callable[[int], jax.Array]


def kl_of_moments(q: Any, p: Any) -> jax.Array:
    """KL(q || p) in nats; infinite where a moment is that p's density asks for."""
    if isinstance(q, _WEIBULLS) and isinstance(p, _WEIBULLS):
        return kl_of_weibulls(_power(q)[1], _power(p)[1], _log_over(q, _location(p, least_shape=1.0)))
    if isinstance(p, LogNormal):
        return _kl_to_log_normal(q, p)
    if isinstance(p, InverseGaussian):
        return _kl_to_inverse_gaussian(q, p)
    if isinstance(q, Pareto) and isinstance(p, InverseGamma):
        return jnp.where(p.concentration < 1, _kl_pareto_inverse_gamma(q, p), _kl_to_power(q, p))
    return _kl_to_power(q, p)


def _kl_to_log_normal(q: Any, p: LogNormal) -> jax.Array:
    of_log, scale = _logarithm(q), p.scale
    shift = (_log_location(q) - p.loc + of_log.mean) / scale
    ratio = 1 / (scale**2 * of_log.precision)
    of_normals = bregman.of_minus_log(ratio, jnp.ones_like(ratio)) + shift**2
    return 0.5 * (of_normals + ratio * of_log.variance_excess) - of_log.entropy_excess


def _kl_to_inverse_gaussian(q: Any, p: InverseGaussian) -> jax.Array:
    """The density of log x is exp(-log(x / loc) / 2 - (count / 2) (x / loc + loc / x - 2)), count = lambda / loc."""
    of_log, one = _logarithm(q), jnp.ones_like(p.loc)
    loc, log_moment = (p.loc, jnp.ones_like(p.loc)), functools.partial(_log_moment_over, q, of_log)
    is_finite = of_log.has_moment(one) & of_log.has_moment(-one)
    log_half_count = bregman.log_ratio(p.concentration, p.loc) - math.log(2)
    both = jnp.asarray([1, -1], p.loc.dtype)
    of_sides = jnp.sum(jax.vmap(lambda k: bregman.weighted_excess(log_half_count, log_moment(loc, k)))(both))
    ratio = p.concentration / p.loc / of_log.precision
    if _is_near_normal(q):
        convexity = sum(of_log.convexity_excess(sign) for sign in (1, -1))
        spread = 0.5 * bregman.of_minus_log(ratio, jnp.ones_like(ratio))
    else:
        convexity = jnp.sum(jax.vmap(of_log.convexity)(both))
        spread = -0.5 * (1 + jnp.log(ratio))
    spread = spread + 0.5 * (p.concentration / p.loc) * convexity
    kl = of_sides + spread + 0.5 * (_log_over(q, loc) + of_log.mean) - of_log.entropy_excess
    return jnp.where(is_finite, kl, jnp.inf)


def _kl_to_power(q: Any, p: Any) -> jax.Array:
    of_log, (shape, exponent) = _logarithm(q), _power(p)
    is_finite = of_log.has_moment(exponent)
    log_ratio = _log_moment_over(q, of_log, _location(p, least_shape=0.0), exponent)
    at_best = _kl_at_best_scale(q, p, of_log, shape, exponent)
    return jnp.where(is_finite, bregman.weighted_excess(jnp.log(shape), log_ratio) + at_best, jnp.inf)


def _kl_at_best_scale(q: Any, p: Any, of_log: _Logarithm, shape: jax.Array, exponent: jax.Array) -> jax.Array:
    """KL(q || p) where p's scale is the one that makes it least."""
    of_rests = stirling.rest(shape) - of_log.entropy_excess
    if _is_near_normal(q) and _is_near_normal(p):
        ratio = shape / of_log.precision
        excess = of_log.convexity_excess(-1 if isinstance(p, InverseGamma) else 1)
        return 0.5 * bregman.of_minus_log(ratio, jnp.ones_like(ratio)) + shape * excess + of_rests
    plain = 0.5 * (jnp.log(of_log.precision) - jnp.log(shape) - 1) - jnp.log(jnp.abs(exponent))
    plain = plain + shape * of_log.convexity(exponent) + of_rests
    if isinstance(q, _GAMMAS) and isinstance(p, Weibull):
        return _near_exponential(_of_gamma_near_weibull, _power(q)[0], exponent, exponent - 1, plain)
    if isinstance(q, Weibull) and isinstance(p, _GAMMAS):
        return _near_exponential(_of_weibull_near_gamma, shape, 1 / q.shape, (1 - q.shape) / q.shape, plain)
    return plain


def _near_exponential(
    near: Callable[..., jax.Array], shape: jax.Array, ratio: jax.Array, gap: jax.Array, plain: jax.Array
) -> jax.Array:
    """Where gamma and Weibull are one, and KL is zero: its terms are of second order in both gaps there."""
    is_near = (jnp.abs(shape - 1) < 0.4) & (jnp.abs(gap) < 0.4)
    safe = (jnp.where(is_near, value, default) for value, default in ((shape, 1), (ratio, 1), (gap, 0)))
    return jnp.where(is_near, near(*safe), plain)


def _of_gamma_near_weibull(shape: jax.Array, ratio: jax.Array, gap: jax.Array) -> jax.Array:
    one, moved, rise = jnp.ones_like(shape), shape + gap, shape - 1
    of_shapes = bregman.of_log_gamma(one, shape) + bregman.of_log_gamma_by_gap(moved, shape, gap)
    return of_shapes - bregman.of_minus_log_by_gap(moved, ratio, rise) - rise * gap / ratio


def _of_weibull_near_gamma(shape: jax.Array, ratio: jax.Array, gap: jax.Array) -> jax.Array:
    one = jnp.ones_like(shape)
    of_shape = bregman.of_log_gamma(shape, one) - shape * bregman.of_minus_log(one, shape)
    return shape * bregman.of_log_gamma_by_gap(ratio, one, gap) + of_shape + (shape - 1) * jnp.log1p(gap)


def _kl_pareto_inverse_gamma(q: Pareto, p: InverseGamma) -> jax.Array:
    """Where p's concentration is small, and it nearly a Pareto from its scale on: all terms are of that order."""
    a, b = q.concentration, p.concentration
    of_scales = b * bregman.log_ratio(q.minimum, p.scale) + p.scale / q.minimum * (a / (1 + a))
    return bregman.of_minus_log(b, a) + _log_moment(jnp.ones_like(b), b, b - 1) + of_scales


def _is_near_normal(distribution: Any) -> bool:
    """Whether log x can be as near to a normal variable as one likes."""
    return isinstance(distribution, Gamma | ChiSquared | InverseGamma | LogNormal)


def _power(distribution: Any) -> tuple[jax.Array, jax.Array]:
    """The shape of G and the exponent h of x = c G^(1 / h)."""
    if isinstance(distribution, InverseGamma):
        return distribution.concentration, -jnp.ones_like(distribution.scale)
    if isinstance(distribution, Weibull):
        return jnp.ones_like(distribution.scale), distribution.shape
    if isinstance(distribution, Rayleigh | HalfNormal):
        shape = 1.0 if isinstance(distribution, Rayleigh) else 0.5
        return jnp.full_like(distribution.scale, shape), jnp.full_like(distribution.scale, 2.0)
    of_gamma = gamma_of(distribution)
    return of_gamma.concentration, jnp.ones_like(of_gamma.rate)


def _location(distribution: Any, least_shape: float) -> tuple[jax.Array, jax.Array]:
    """The x of which G is the shape, or ``least_shape`` where that is larger: a fraction, of numbers not rounded."""
    if isinstance(distribution, Pareto):
        return distribution.minimum, jnp.ones_like(distribution.minimum)
    if isinstance(distribution, Weibull):
        return distribution.scale, jnp.ones_like(distribution.scale)
    if isinstance(distribution, Rayleigh | HalfNormal):
        shape = max(least_shape, 1.0 if isinstance(distribution, Rayleigh) else 0.5)
        return math.sqrt(2 * shape) * distribution.scale, jnp.ones_like(distribution.scale)
    if isinstance(distribution, InverseGamma):
        return distribution.scale, jnp.maximum(distribution.concentration, least_shape)
    of_gamma = gamma_of(distribution)
    return jnp.maximum(of_gamma.concentration, least_shape), of_gamma.rate


def _log_location(q: Any) -> jax.Array:
    return q.loc if isinstance(q, LogNormal) else bregman.log_ratio(*_location(q, least_shape=1.0))


def _log_over(q: Any, location: tuple[jax.Array, jax.Array]) -> jax.Array:
    """The logarithm of q's location over this one."""
    top, bottom = location
    if isinstance(q, LogNormal):
        return q.loc - bregman.log_ratio(top, bottom)
    own_top, own_bottom = _location(q, least_shape=1.0)
    gap = bregman.gap_of_products((own_top, bottom), (own_bottom, top))
    is_near = jnp.abs(gap) < 0.5
    far = bregman.log_ratio(own_top / own_bottom, top / bottom)
    return jnp.where(is_near, jnp.log1p(jnp.where(is_near, gap, 0)), far)


def _log_moment_over(q: Any, of_log: _Logarithm, location: tuple[jax.Array, jax.Array], power: jax.Array) -> jax.Array:
    """The logarithm of E[(x / location)^power]."""
    of_spread = of_log.log_moment(power)
    if not isinstance(q, LogNormal):
        return power * _log_over(q, location) + of_spread
    of_place = -power * bregman.log_ratio(*location)
    is_wide = jnp.abs(of_spread) > jnp.abs(of_place)
    larger, smaller = (jnp.where(mask, of_spread, of_place) for mask in (is_wide, ~is_wide))
    return (power * q.loc + larger) + smaller  # the larger may take all of q's location away


def _logarithm(q: Any) -> _Logarithm:
    if isinstance(q, LogNormal):
        return _of_log_normal(q)
    return _of_pareto(q) if isinstance(q, Pareto) else _of_power(*_power(q))


def _of_log_normal(q: LogNormal) -> _Logarithm:
    zero = jnp.zeros_like(q.loc)

    def convexity(k: jax.Array | int) -> jax.Array:
        return 0.5 * (k * q.scale) ** 2

    return _Logarithm(
        1 / q.scale**2, zero, zero, zero, jnp.isfinite, convexity, convexity, convexity_excess=lambda k: zero
    )


def _of_pareto(q: Pareto) -> _Logarithm:
    a = q.concentration
    zero = jnp.zeros_like(a)

    def has_moment(k: jax.Array) -> jax.Array:
        return k < a

    def known(k: jax.Array) -> jax.Array:
        return jnp.where(has_moment(k), k, 0)

    return _Logarithm(
        precision=a**2,
        mean=1 / a,
        variance_excess=zero,
        entropy_excess=zero + 0.5 - _HALF_LOG_2PI,
        has_moment=has_moment,
        log_moment=lambda k: bregman.log_ratio_by_gap(a, a - known(k), known(k)),
        convexity=lambda k: bregman.of_minus_log_by_gap(a - known(k), a, -known(k)),
        convexity_excess=lambda k: zero,
    )


def _of_power(shape: jax.Array, exponent: jax.Array) -> _Logarithm:
    """Of G^(1 / exponent); its location is max(shape, 1)^(1 / exponent)."""

    def has_moment(k: jax.Array) -> jax.Array:
        return shape + k / exponent > 0

    def convexity_excess(k: int) -> jax.Array:
        is_finite = has_moment(k * jnp.ones_like(shape))
        safe = jnp.where(is_finite, shape, 2)
        rising = stirling.fall(safe)
        falling = bregman.of_minus_log_by_gap(safe - 1, safe, -jnp.ones_like(safe)) - rising
        return jnp.where(k * exponent > 0, rising, falling)

    def known(k: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The exponent of G in x^k, and that less 1."""
        is_finite = has_moment(k)
        return jnp.where(is_finite, k / exponent, 1), jnp.where(is_finite, (k - exponent) / exponent, 0)

    return _Logarithm(
        precision=shape * exponent**2,
        mean=_mean_log(shape) / exponent,
        variance_excess=stirling.trigamma_excess(shape),
        entropy_excess=stirling.rest(shape) + shape * stirling.fall(shape),
        has_moment=has_moment,
        log_moment=lambda k: _log_moment(shape, *known(k)),
        convexity=lambda k: _convexity(shape, known(k)[0]),
        convexity_excess=convexity_excess,
    )


def _mean_log(shape: jax.Array) -> jax.Array:
    """E[log G] - log(max(shape, 1))."""
    is_small = shape < 1
    large, small = jnp.where(is_small, 1, shape), jnp.where(is_small, shape, 1)
    return jnp.where(is_small, digamma(small), -stirling.log_less_digamma(large))


def _convexity(shape: jax.Array, power: jax.Array) -> jax.Array:
    return bregman.of_log_gamma_by_gap(shape + power, shape, power)


def _log_moment(shape: jax.Array, power: jax.Array, rise: jax.Array) -> jax.Array:
    """The logarithm of E[G^power], less power log(max(shape, 1)), where rise = power - 1.

    By the divergence of log-gamma where the power is small or near 1, by Stirling's series where both ends are large.
    """
    moved, top = shape + power, jnp.maximum(shape, 1)
    is_one = (jnp.abs(rise) < 0.4) & (shape > 0.5)
    is_near = is_one | (jnp.abs(power) < 0.5 * shape)
    is_large = jnp.minimum(shape, moved) > bregman.NUM_SHIFTS
    gap = jnp.where(is_one, rise, jnp.where(is_near, power, 0))
    near = bregman.of_log_gamma_by_gap(shape + gap, shape, gap) + gap * _mean_log(shape)
    safe_gap = jnp.where(is_one, shape - top + rise, 0)
    near = near + bregman.log_ratio_by_gap(top + safe_gap, top, safe_gap)
    large, large_moved = jnp.where(is_large, shape, 10), jnp.where(is_large, moved, 10)
    large_gap = jnp.where(is_large, power, 0)
    far = large_moved * bregman.of_minus_log_by_gap(large, large_moved, -large_gap)
    far = far - 0.5 * bregman.log_ratio_by_gap(large_moved, large, large_gap)
    far = far + stirling.rest(large_moved) - stirling.rest(large)
    plain = gammaln(moved) - gammaln(shape) - power * jnp.log(top)
    return jnp.where(is_near, near, jnp.where(is_large, far, plain))
