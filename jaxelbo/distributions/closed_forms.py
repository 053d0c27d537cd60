"""The table of pairs whose KL divergence has a closed form, and of exponential families.

Floor 1.
"""

import itertools
from collections.abc import Callable
from typing import Any

import jax

from jaxelbo import finite, gaussians
from jaxelbo.distributions import (
    counts,
    directions,
    gammas,
    line_pairs,
    lines,
    low_ranks,
    matrices,
    normals,
    positive_pairs,
    proportions,
    scales,
)
from jaxelbo.exponential import ExponentialFamily

_GAUSSIANS = (gaussians.Diagonal, gaussians.Dense, gaussians.LowRank)
_GAMMAS = (gammas.Gamma, gammas.Exponential, gammas.ChiSquared)


def _kl_of_gammas(q: Any, p: Any) -> jax.Array:
    return gammas.kl_gamma(gammas.gamma_of(q), gammas.gamma_of(p))


CLOSED_FORMS: dict[tuple[type, type], Callable[[Any, Any], jax.Array]] = {
    **{
        pair: positive_pairs.kl_of_moments for pair in itertools.product(positive_pairs.SOURCES, positive_pairs.TARGETS)
    },
    **{pair: _kl_of_gammas for pair in itertools.product(_GAMMAS, _GAMMAS)},
    **{pair: gaussians.kl_divergence for pair in itertools.product(_GAUSSIANS, _GAUSSIANS)},
    (gaussians.LowRank, gaussians.LowRank): low_ranks.kl_low_ranks,
    (finite.Bernoulli, finite.Bernoulli): counts.kl_bernoulli,
    (finite.Categorical, finite.Categorical): counts.kl_categorical,
    (counts.Binomial, counts.Binomial): counts.kl_binomial,
    (counts.Multinomial, counts.Multinomial): counts.kl_multinomial,
    (counts.Poisson, counts.Poisson): counts.kl_poisson,
    (counts.Geometric, counts.Geometric): counts.kl_geometric,
    (counts.NegativeBinomial, counts.NegativeBinomial): counts.kl_negative_binomial,
    (gammas.Exponential, gammas.Exponential): gammas.kl_exponential,
    (gammas.ChiSquared, gammas.ChiSquared): gammas.kl_chi_squared,
    (gammas.InverseGamma, gammas.InverseGamma): gammas.kl_inverse_gamma,
    (proportions.Beta, proportions.Beta): proportions.kl_beta,
    (proportions.Dirichlet, proportions.Dirichlet): proportions.kl_dirichlet,
    (scales.Laplace, scales.Laplace): scales.kl_laplace,
    (scales.Pareto, scales.Pareto): scales.kl_pareto,
    (scales.Weibull, scales.Weibull): scales.kl_weibull,
    (scales.Rayleigh, scales.Rayleigh): scales.kl_rayleigh,
    (scales.HalfNormal, scales.HalfNormal): scales.kl_half_normal,
    (normals.Normal, normals.Normal): normals.kl_normal,
    (normals.LogNormal, normals.LogNormal): normals.kl_log_normal,
    (normals.InverseGaussian, normals.InverseGaussian): normals.kl_inverse_gaussian,
    (directions.VonMises, directions.VonMises): directions.kl_von_mises,
    (directions.VonMisesFisher, directions.VonMisesFisher): directions.kl_von_mises_fisher,
    (matrices.Wishart, matrices.Wishart): matrices.kl_wishart,
    (matrices.InverseWishart, matrices.InverseWishart): matrices.kl_inverse_wishart,
    (matrices.NormalGamma, matrices.NormalGamma): matrices.kl_normal_gamma,
    (matrices.NormalInverseWishart, matrices.NormalInverseWishart): matrices.kl_normal_inverse_wishart,
    (lines.Uniform, lines.Uniform): lines.kl_uniform,
    (lines.Gumbel, lines.Gumbel): lines.kl_gumbel,
    (lines.Cauchy, lines.Cauchy): lines.kl_cauchy,
    (lines.StudentT, normals.Normal): lines.kl_student_t_normal,
    (normals.Normal, lines.StudentT): lines.kl_normal_student_t_by_quadrature,
    (normals.Normal, scales.Laplace): line_pairs.kl_normal_laplace,
    (scales.Laplace, normals.Normal): line_pairs.kl_laplace_normal,
    (normals.Normal, lines.Gumbel): line_pairs.kl_normal_gumbel,
    (lines.Gumbel, normals.Normal): line_pairs.kl_gumbel_normal,
    (lines.Uniform, normals.Normal): line_pairs.kl_uniform_normal,
}
"""KL(q || p) in nats by the types of q and p; later rows replace those of the same pair above."""

EXPONENTIAL_FAMILIES: dict[type, Callable[[Any], ExponentialFamily]] = {
    normals.Normal: lambda usual: normals.normal,
    gaussians.Diagonal: lambda usual: normals.diagonal_normal,
    gaussians.Dense: lambda usual: normals.multivariate_normal,
    normals.LogNormal: lambda usual: normals.log_normal,
    normals.InverseGaussian: lambda usual: normals.inverse_gaussian,
    gammas.Gamma: lambda usual: gammas.gamma,
    gammas.InverseGamma: lambda usual: gammas.inverse_gamma,
    gammas.ChiSquared: lambda usual: gammas.chi_squared,
    gammas.Exponential: lambda usual: gammas.exponential,
    proportions.Beta: lambda usual: proportions.beta,
    proportions.Dirichlet: lambda usual: proportions.dirichlet,
    finite.Bernoulli: lambda usual: counts.bernoulli,
    finite.Categorical: lambda usual: counts.categorical(usual.logits.size),
    counts.Binomial: lambda usual: counts.binomial(usual.total_count),
    counts.Multinomial: lambda usual: counts.multinomial(usual.total_count, usual.logits.size),
    counts.Poisson: lambda usual: counts.poisson,
    counts.Geometric: lambda usual: counts.geometric,
    counts.NegativeBinomial: lambda usual: counts.negative_binomial(usual.total_count),
    scales.Laplace: lambda usual: scales.laplace(usual.loc),
    scales.Pareto: lambda usual: scales.pareto(usual.minimum),
    scales.Weibull: lambda usual: scales.weibull(usual.shape),
    scales.Rayleigh: lambda usual: scales.rayleigh,
    directions.VonMises: lambda usual: directions.von_mises,
    directions.VonMisesFisher: lambda usual: directions.von_mises_fisher,
    matrices.Wishart: lambda usual: matrices.wishart,
    matrices.InverseWishart: lambda usual: matrices.inverse_wishart,
    matrices.NormalGamma: lambda usual: matrices.normal_gamma,
    matrices.NormalInverseWishart: lambda usual: matrices.normal_inverse_wishart,
}
"""The exponential family that a record is a member of, with the record's own known constants."""


def markdown() -> str:
    """What DISTRIBUTIONS.md holds: every pair, by q, and every exponential family."""
    rows = [
        "# Distributions",
        "",
        f"`jaxelbo.divergences.between(q, p)` is KL(q || p) in closed form for these {len(CLOSED_FORMS)} pairs of",
        "records of `jaxelbo.distributions` (of a normal and a Student-t by quadrature). Those marked * belong to an",
        "exponential family there. Written by `distributions.closed_forms.markdown` from the table in code.",
        "",
        "| q | p |",
        "|---|---|",
    ]
    kinds = sorted({q for q, _ in CLOSED_FORMS}, key=lambda kind: kind.__name__)
    for kind in kinds:
        targets = sorted(p.__name__ for q, p in CLOSED_FORMS if q is kind)
        mark = "*" if kind in EXPONENTIAL_FAMILIES else ""
        rows.append(f"| {kind.__name__}{mark} | {', '.join(targets)} |")
    return "\n".join(rows) + "\n"
