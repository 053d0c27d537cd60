"""Where each distribution has its mass, and between which KL is infinite whatever their parameters.

Floor 1.
"""

from typing import Any

from jaxelbo import finite, gaussians
from jaxelbo.distributions import counts, directions, gammas, lines, matrices, normals, proportions, scales

REAL, POSITIVE, ABOVE = "the real numbers", "the positive numbers", "the numbers above its minimum"
INTERVAL, UNIT = "the interval from low to high", "the unit interval"
BITS, SOME_COUNTS, COUNTS = "zeros and ones", "the counts up to total_count", "the counts"

SAMPLE_SPACES: dict[type, tuple[str, str]] = {
    **dict.fromkeys((normals.Normal, scales.Laplace, lines.Gumbel, lines.Cauchy, lines.StudentT), ("number", REAL)),
    **dict.fromkeys((gammas.Gamma, gammas.InverseGamma, gammas.ChiSquared, gammas.Exponential), ("number", POSITIVE)),
    **dict.fromkeys((normals.LogNormal, normals.InverseGaussian, scales.Weibull), ("number", POSITIVE)),
    **dict.fromkeys((scales.Rayleigh, scales.HalfNormal), ("number", POSITIVE)),
    **dict.fromkeys((counts.Poisson, counts.Geometric, counts.NegativeBinomial), ("number", COUNTS)),
    **dict.fromkeys((gaussians.Diagonal, gaussians.Dense, gaussians.LowRank), ("vector", REAL)),
    scales.Pareto: ("number", ABOVE),
    lines.Uniform: ("number", INTERVAL),
    proportions.Beta: ("number", UNIT),
    counts.Binomial: ("number", SOME_COUNTS),
    finite.Bernoulli: ("vector", BITS),
    finite.Categorical: ("category", "K categories"),
    counts.Multinomial: ("vector", "the counts that sum to total_count"),
    proportions.Dirichlet: ("vector", "the simplex"),
    directions.VonMises: ("angle", "the circle"),
    directions.VonMisesFisher: ("vector", "the sphere"),
    matrices.Wishart: ("matrix", "the positive definite matrices"),
    matrices.InverseWishart: ("matrix", "the positive definite matrices"),
    matrices.NormalGamma: ("pair", "a real number and a positive one"),
    matrices.NormalInverseWishart: ("pair", "a real vector and a positive definite matrix"),
}
"""The kind of value, and the set that holds it; of vectors of independent numbers the set of each entry."""

_WITHIN = {
    POSITIVE: {REAL},
    ABOVE: {POSITIVE, REAL},
    INTERVAL: {REAL, POSITIVE, ABOVE, UNIT},
    UNIT: {REAL, POSITIVE, INTERVAL},
    BITS: {SOME_COUNTS, COUNTS},
    SOME_COUNTS: {COUNTS},
}
"""By a set, those that hold it, or may for some of their parameters."""


def why_infinite(q: Any, p: Any) -> str:
    """Why KL(q || p) is infinite whatever the parameters, in words by the records' types; "" where it need not be."""
    space_q, space_p = _sample_space(q), _sample_space(p)
    if space_q is None or space_p is None or space_q[0] != space_p[0]:
        return ""
    (_, set_q), (_, set_p) = space_q, space_p
    if set_q == set_p or set_p in _WITHIN.get(set_q, ()):
        return ""
    return f"is infinite: q has mass on {set_q}, p on {set_p} alone"


def _sample_space(record: Any) -> tuple[str, str] | None:
    if isinstance(record, finite.Copies):
        space = _sample_space(record.part)
        return ("vector", space[1]) if space is not None and space[0] == "number" else None
    return SAMPLE_SPACES.get(type(record))
