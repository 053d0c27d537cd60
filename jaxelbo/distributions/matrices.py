"""Distributions of precisions and covariances, with and without a mean beside them.

Floor 1: Wishart, inverse Wishart, normal-gamma, normal-inverse-Wishart, the conjugate priors of normal models.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln, multigammaln

from jaxelbo import bregman
from jaxelbo.distributions.gammas import Gamma, concentration_of_log_gap, kl_gamma
from jaxelbo.distributions.normals import doubled_triangle, symmetric, symmetric_of_doubled, triangle
from jaxelbo.exponential import ExponentialFamily, Natural
from jaxelbo.gaussians import product


class Wishart(NamedTuple):
    """Density |X|^((df - D - 1) / 2) exp(-tr(V^-1 X) / 2): ``df`` above D - 1, V of root ``scale_tril [D, D]``."""

    df: jax.Array
    scale_tril: jax.Array


class InverseWishart(NamedTuple):
    """The inverse of X is Wishart(df, Psi^-1): ``df`` above D - 1, Psi of root ``scale_tril [D, D]``."""

    df: jax.Array
    scale_tril: jax.Array


class NormalGamma(NamedTuple):
    """A precision t, and a mean that is normal given it, over the pair (x, t).

    t is Gamma(``concentration``, ``rate``); x has mean ``loc`` and precision ``count`` t.
    """

    loc: jax.Array
    count: jax.Array
    concentration: jax.Array
    rate: jax.Array


class NormalInverseWishart(NamedTuple):
    """A covariance S, and a mean that is normal given it, over the pair (x, S).

    S is InverseWishart(``df``, ``scale_tril``); x has mean ``loc [D]`` and covariance S / ``count``.
    """

    loc: jax.Array
    count: jax.Array
    df: jax.Array
    scale_tril: jax.Array


def kl_wishart(q: Wishart, p: Wishart) -> jax.Array:
    """KL(q || p) in nats."""
    return _kl_of_roots(q.df, p.df, jax.scipy.linalg.solve_triangular(p.scale_tril, q.scale_tril, lower=True))


def kl_inverse_wishart(q: InverseWishart, p: InverseWishart) -> jax.Array:
    """KL(q || p) in nats: that of the Wisharts of the inverses."""
    return _kl_of_roots(q.df, p.df, jax.scipy.linalg.solve_triangular(q.scale_tril, p.scale_tril, lower=True))


def _kl_of_roots(df_q: jax.Array, df_p: jax.Array, root: jax.Array) -> jax.Array:
    """By the lower triangular ``root`` whose square is V_p^-1 V_q in q's or p's own axes.

    Entry by entry of the diagonal it is the KL of two gammas, but for the shift of their shapes: the i-th of the root
    of a Wishart matrix, squared, is one of shape (df - i) / 2.
    """
    size = len(root)
    below = jnp.sum(jnp.tril(root, -1) ** 2)
    ratios = jnp.diag(root) ** 2
    shifts = 0.5 * jnp.arange(size, dtype=root.dtype)
    of_entries = bregman.of_log_gamma_and_rate(0.5 * df_q - shifts, 0.5 * df_p - shifts, ratios)
    return jnp.sum(of_entries + shifts * bregman.of_minus_log(ratios, jnp.ones_like(ratios))) + 0.5 * df_q * below


def kl_normal_gamma(q: NormalGamma, p: NormalGamma) -> jax.Array:
    """KL(q || p) in nats."""
    of_precision = kl_gamma(Gamma(q.concentration, q.rate), Gamma(p.concentration, p.rate))
    square = p.count * (q.loc - p.loc) ** 2 * q.concentration / q.rate
    return of_precision + 0.5 * (square + bregman.of_minus_log(p.count, q.count))


def kl_normal_inverse_wishart(q: NormalInverseWishart, p: NormalInverseWishart) -> jax.Array:
    """KL(q || p) in nats."""
    shift = (q.loc - p.loc)[:, None]
    columns = jnp.concatenate([p.scale_tril, shift], axis=1)  # one solve: two may deadlock a batch on XLA's CPU backend
    solved = jax.scipy.linalg.solve_triangular(q.scale_tril, columns, lower=True)
    of_covariance = _kl_of_roots(q.df, p.df, solved[:, :-1])
    square = p.count * q.df * jnp.sum(solved[:, -1] ** 2)
    return of_covariance + 0.5 * (square + q.loc.size * bregman.of_minus_log(p.count, q.count))


def _size_of(triangle: jax.Array) -> int:
    return (math.isqrt(8 * triangle.size + 1) - 1) // 2


def _gram(root: jax.Array) -> jax.Array:
    return product(root, root.T)


def _matrix_of(natural: jax.Array) -> jax.Array:
    """The positive definite matrix whose negative half is said by natural parameters."""
    return -2 * symmetric_of_doubled(natural, _size_of(natural))


def _log_normalizer(half_df: jax.Array, natural: jax.Array) -> jax.Array:
    size = _size_of(natural)
    log_det = jnp.linalg.slogdet(_matrix_of(natural))[1]
    return multigammaln(half_df, size) - half_df * (log_det - size * math.log(2))


def _log_base(matrix: jax.Array) -> jax.Array:
    return -0.5 * (len(matrix) + 1) * jnp.linalg.slogdet(matrix)[1]


def _guess_half_df(mean_log_det: jax.Array, mean: jax.Array) -> jax.Array:
    """Nearly the half of df with the gap log|E X| - E log|X|."""
    size = len(mean)
    gap = (jnp.linalg.slogdet(mean)[1] - mean_log_det) / size
    return concentration_of_log_gap(gap) + 0.5 * (size - 1)


def _is_proper(half_df: jax.Array, natural: jax.Array) -> jax.Array:
    matrix = _matrix_of(natural)
    return (half_df > 0.5 * (len(matrix) - 1)) & jnp.all(jnp.linalg.eigvalsh(matrix) > 0)


def _guess_wishart(mean: Natural) -> Natural:
    matrix = symmetric(mean[1], _size_of(mean[1]))
    half_df = _guess_half_df(mean[0], matrix)
    return half_df, doubled_triangle(-half_df * jnp.linalg.inv(matrix))


def _guess_inverse_wishart(mean: Natural) -> Natural:
    half_df, natural = _guess_wishart((-mean[0], mean[1]))
    return -half_df, natural


wishart = ExponentialFamily(
    name="Wishart",
    log_normalizer=lambda natural: _log_normalizer(*natural),
    statistics=lambda x: (jnp.linalg.slogdet(x)[1], triangle(x)),
    log_base=_log_base,
    to_natural=lambda usual: (0.5 * usual.df, doubled_triangle(-0.5 * jnp.linalg.inv(_gram(usual.scale_tril)))),
    to_usual=lambda natural: Wishart(2 * natural[0], jnp.linalg.cholesky(jnp.linalg.inv(_matrix_of(natural[1])))),
    guess=_guess_wishart,
    expected_log_base=lambda natural, mean: -0.5 * (_size_of(natural[1]) + 1) * mean[0],
    contains=lambda natural: _is_proper(*natural),
)

inverse_wishart = ExponentialFamily(
    name="inverse Wishart",
    log_normalizer=lambda natural: _log_normalizer(-natural[0], natural[1]),
    statistics=lambda x: (jnp.linalg.slogdet(x)[1], triangle(jnp.linalg.inv(x))),
    log_base=_log_base,
    to_natural=lambda usual: (-0.5 * usual.df, doubled_triangle(-0.5 * _gram(usual.scale_tril))),
    to_usual=lambda natural: InverseWishart(-2 * natural[0], jnp.linalg.cholesky(_matrix_of(natural[1]))),
    guess=_guess_inverse_wishart,
    expected_log_base=lambda natural, mean: -0.5 * (_size_of(natural[1]) + 1) * mean[0],
    contains=lambda natural: _is_proper(-natural[0], natural[1]),
)


def _rate_of(natural: Natural) -> jax.Array:
    return -natural[1] + 0.25 * natural[2] ** 2 / natural[3]


def _normal_gamma_log_normalizer(natural: Natural) -> jax.Array:
    of_mean = 0.5 * math.log(2 * math.pi) - 0.5 * jnp.log(-2 * natural[3])
    return gammaln(natural[0]) - natural[0] * jnp.log(_rate_of(natural)) + of_mean


def _normal_gamma_to_natural(usual: NormalGamma) -> Natural:
    return (
        usual.concentration,
        -usual.rate - 0.5 * usual.count * usual.loc**2,
        usual.count * usual.loc,
        -0.5 * usual.count,
    )


def _normal_gamma_to_usual(natural: Natural) -> NormalGamma:
    return NormalGamma(-0.5 * natural[2] / natural[3], -2 * natural[3], natural[0], _rate_of(natural))


def _guess_normal_gamma(mean: Natural) -> Natural:
    mean_log, mean_precision, mean_product, mean_square = mean
    concentration = concentration_of_log_gap(jnp.log(mean_precision) - mean_log)
    loc = mean_product / mean_precision
    count = 1 / (mean_square - mean_product * loc)
    return _normal_gamma_to_natural(NormalGamma(loc, count, concentration, concentration / mean_precision))


normal_gamma = ExponentialFamily(
    name="normal-gamma",
    log_normalizer=_normal_gamma_log_normalizer,
    statistics=lambda x: (jnp.log(x[1]), x[1], x[1] * x[0], x[1] * x[0] ** 2),
    log_base=lambda x: -0.5 * jnp.log(x[1]),
    to_natural=_normal_gamma_to_natural,
    to_usual=_normal_gamma_to_usual,
    guess=_guess_normal_gamma,
    expected_log_base=lambda natural, mean: -0.5 * mean[0],
    contains=lambda natural: (natural[0] > 0) & (natural[3] < 0) & (_rate_of(natural) > 0),
)


def _niw_split(natural: Natural) -> tuple[jax.Array, jax.Array]:
    """The mean, and what is left of the second natural parameter without it."""
    loc = -0.5 * natural[2] / natural[3]
    return loc, natural[1] - doubled_triangle(natural[3] * loc[:, None] * loc[None])


def _niw_log_normalizer(natural: Natural) -> jax.Array:
    _, own = _niw_split(natural)
    return _log_normalizer(-natural[0], own) - 0.5 * natural[2].size * jnp.log(-2 * natural[3])


def _niw_to_natural(usual: NormalInverseWishart) -> Natural:
    square = _gram(usual.scale_tril) + usual.count * usual.loc[:, None] * usual.loc[None]
    return -0.5 * usual.df, doubled_triangle(-0.5 * square), usual.count * usual.loc, -0.5 * usual.count


def _niw_to_usual(natural: Natural) -> NormalInverseWishart:
    loc, own = _niw_split(natural)
    return NormalInverseWishart(loc, -2 * natural[3], -2 * natural[0], jnp.linalg.cholesky(_matrix_of(own)))


def _guess_niw(mean: Natural) -> Natural:
    precision = symmetric(mean[1], mean[2].size)
    loc = jnp.linalg.solve(precision, mean[2])
    count = loc.size / (mean[3] - jnp.vdot(loc, mean[2]))
    inverse = _guess_inverse_wishart((mean[0], mean[1]))
    own = jnp.linalg.cholesky(_matrix_of(inverse[1]))
    return _niw_to_natural(NormalInverseWishart(loc, count, -2 * inverse[0], own))


def _niw_statistics(x: tuple[jax.Array, jax.Array]) -> Natural:
    inverse = jnp.linalg.inv(x[1])
    weighted = product(inverse, x[0])
    return jnp.linalg.slogdet(x[1])[1], triangle(inverse), weighted, jnp.vdot(x[0], weighted)


normal_inverse_wishart = ExponentialFamily(
    name="normal-inverse-Wishart",
    log_normalizer=_niw_log_normalizer,
    statistics=_niw_statistics,
    log_base=lambda x: _log_base(x[1]) - 0.5 * jnp.linalg.slogdet(x[1])[1] - 0.5 * x[0].size * math.log(2 * math.pi),
    to_natural=_niw_to_natural,
    to_usual=_niw_to_usual,
    guess=_guess_niw,
    expected_log_base=lambda natural, mean: (
        -0.5 * (natural[2].size + 2) * mean[0] - 0.5 * natural[2].size * math.log(2 * math.pi)
    ),
    contains=lambda natural: (natural[3] < 0) & _is_proper(-natural[0], _niw_split(natural)[1]),
)
