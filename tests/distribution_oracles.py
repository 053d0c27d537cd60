"""SciPy's distributions for the records of `jaxelbo.distributions`, and sums over them by none of our formulas."""

import numpy as np
import pytest
from scipy import special, stats

from jaxelbo import distributions as d
from jaxelbo.distributions import positive_pairs

EXAMPLES = {
    d.Normal: [(0.3, 0.8), (-0.4, 1.7)],
    d.LogNormal: [(0.3, 0.5), (-0.2, 0.9)],
    d.InverseGaussian: [(1.3, 2.0), (0.7, 3.5)],
    d.Gamma: [(2.5, 1.4), (0.8, 0.6)],
    d.InverseGamma: [(4.5, 1.4), (2.8, 2.6)],
    d.ChiSquared: [(5.0,), (2.4,)],
    d.Exponential: [(1.7,), (0.6,)],
    d.Beta: [(2.5, 1.2), (0.7, 3.0)],
    d.Dirichlet: [([0.6, 2.5, 1.2],), ([4.0, 0.7, 3.0],)],
    d.Bernoulli: [([0.4, -1.0],), ([-0.6, 0.3],)],
    d.Categorical: [([0.4, -1.0, 0.2],), ([-0.6, 0.3, 1.0],)],
    d.Binomial: [(7.0, 0.4), (7.0, -0.9)],
    d.Multinomial: [(4.0, [0.4, -1.0, 0.2]), (4.0, [-0.6, 0.3, 1.0])],
    d.Poisson: [(3.2,), (1.1,)],
    d.Geometric: [(-0.4,), (0.9,)],
    d.NegativeBinomial: [(2.5, -0.4), (2.5, 0.9)],
    d.Laplace: [(0.3, 0.8), (-0.4, 1.7)],
    d.Pareto: [(1.5, 4.5), (1.2, 2.0)],
    d.Weibull: [(1.6, 0.8), (0.9, 1.7)],
    d.Rayleigh: [(0.8,), (1.7,)],
    d.HalfNormal: [(0.8,), (1.7,)],
    d.Uniform: [(-0.3, 0.8), (-0.4, 1.7)],
    d.Gumbel: [(0.3, 0.8), (-0.4, 1.7)],
    d.Cauchy: [(0.3, 0.8), (-0.4, 1.7)],
    d.StudentT: [(5.0, 0.3, 0.8), (3.0, -0.4, 1.7)],
    d.VonMises: [(0.3, 1.8), (-0.9, 0.7)],
    d.VonMisesFisher: [([0.6, 0.0, 0.8, 0.0], 1.8), ([0.0, 1.0, 0.0, 0.0], 3.1)],
    d.Wishart: [(5.5, [[0.7, 0.0], [0.3, 1.1]]), (4.2, [[1.2, 0.0], [-0.5, 0.8]])],
    d.InverseWishart: [(5.5, [[0.7, 0.0], [0.3, 1.1]]), (4.2, [[1.2, 0.0], [-0.5, 0.8]])],
    d.NormalGamma: [(0.3, 1.8, 2.5, 1.4), (-0.4, 0.7, 1.8, 0.6)],
    d.NormalInverseWishart: [
        ([0.3, -0.2], 1.8, 5.5, [[0.7, 0.0], [0.3, 1.1]]),
        ([0.0, 0.4], 0.7, 4.2, [[1.2, 0.0], [-0.5, 0.8]]),
    ],
    d.Diagonal: [([0.3, -0.2], [0.1, -0.4]), ([0.0, 0.4], [0.5, 0.2])],
    d.Dense: [
        ([0.3, -0.2], [0.1, -0.4], [[0.0, 0.0], [0.8, 0.0]]),
        ([0.0, 0.4], [0.5, 0.2], [[0.0, 0.0], [-0.6, 0.0]]),
    ],
    d.LowRank: [([0.3, -0.2], [0.1, -0.4], [[0.8], [0.3]], [0.7]), ([0.0, 0.4], [0.5, 0.2], [[-0.6], [0.9]], [-0.5])],
}
"""Two settings of each record, in the order of its fields."""

PAIRS = sorted(d.CLOSED_FORMS, key=lambda pair: (pair[0].__name__, pair[1].__name__))


def is_rest(pair):
    """Whether a test of this pair waits for `make test-all`: three in four of the pairs of positive numbers."""
    if pair[0] is pair[1] or pair[0] not in positive_pairs.SOURCES or pair[1] not in positive_pairs.TARGETS:
        return False
    return (positive_pairs.SOURCES.index(pair[0]) + positive_pairs.TARGETS.index(pair[1])) % 4 != 1


def marked(pair):
    """A pair as a parameter."""
    name = "-".join(kind.__name__ for kind in pair)
    return pytest.param(pair, id=name, marks=[pytest.mark.matrix if is_rest(pair) else pytest.mark.slow])


COUNTS = {d.Binomial, d.Poisson, d.Geometric, d.NegativeBinomial}
LINES = {d.Normal, d.Laplace, d.Gumbel, d.Cauchy, d.StudentT, d.Uniform}
POSITIVE = {
    d.LogNormal, d.InverseGaussian, d.Gamma, d.InverseGamma, d.ChiSquared, d.Exponential, d.Pareto, d.Weibull,
    d.Rayleigh, d.HalfNormal,
}  # fmt: skip


def record(kind, setting, dtype=np.float64):
    return kind(*(np.asarray(value, dtype) for value in EXAMPLES[kind][setting]))


def univariate(record):
    """SciPy's frozen distribution of a scalar."""
    v = [float(x) for x in record]
    return {
        d.Normal: lambda: stats.norm(*v),
        d.LogNormal: lambda: stats.lognorm(v[1], scale=np.exp(v[0])),
        d.InverseGaussian: lambda: stats.invgauss(v[0] / v[1], scale=v[1]),
        d.Gamma: lambda: stats.gamma(v[0], scale=1 / v[1]),
        d.InverseGamma: lambda: stats.invgamma(v[0], scale=v[1]),
        d.ChiSquared: lambda: stats.chi2(v[0]),
        d.Exponential: lambda: stats.expon(scale=1 / v[0]),
        d.Beta: lambda: stats.beta(*v),
        d.Binomial: lambda: stats.binom(int(v[0]), special.expit(v[1])),
        d.Poisson: lambda: stats.poisson(v[0]),
        d.Geometric: lambda: stats.geom(special.expit(v[0]), loc=-1),
        d.NegativeBinomial: lambda: stats.nbinom(v[0], special.expit(v[1])),
        d.Laplace: lambda: stats.laplace(*v),
        d.Pareto: lambda: stats.pareto(v[1], scale=v[0]),
        d.Weibull: lambda: stats.weibull_min(v[0], scale=v[1]),
        d.Rayleigh: lambda: stats.rayleigh(scale=v[0]),
        d.HalfNormal: lambda: stats.halfnorm(scale=v[0]),
        d.Uniform: lambda: stats.uniform(v[0], v[1] - v[0]),
        d.Gumbel: lambda: stats.gumbel_r(*v),
        d.Cauchy: lambda: stats.cauchy(*v),
        d.StudentT: lambda: stats.t(*v),
        d.VonMises: lambda: stats.vonmises(v[1], loc=v[0]),
    }[type(record)]()


def grid(record):
    """Points and weights of a rule that sums smooth functions on the support of a scalar."""
    kind = type(record)
    if kind in COUNTS:
        return np.arange(8 if kind is d.Binomial else 4000), 1.0
    t, step = np.linspace(-36, 36, 400_001, retstep=True)
    if kind is d.VonMises:
        points = np.linspace(-np.pi, np.pi, 100_001)[1:]
        return points, 2 * np.pi / len(points)
    if kind is d.Uniform:
        width = (record.high - record.low) / 100_000
        return record.low + width * (np.arange(100_000) + 0.5), width
    if kind is d.Beta:
        return special.expit(t), step * special.expit(t) * special.expit(-t)
    if kind is d.Pareto:
        return float(record.minimum) * (1 + np.exp(t)), step * float(record.minimum) * np.exp(t)
    if kind in POSITIVE:
        return np.exp(t), step * np.exp(t)
    return float(record.loc) + np.sinh(t), step * np.cosh(t)


def mean(record, function):
    """E[function(x)] of a scalar x under SciPy's density."""
    points, weights = grid(record)
    scipy = univariate(record)
    log_q = scipy.logpmf(points) if type(record) in COUNTS else scipy.logpdf(points)
    is_there = log_q > -700
    return np.sum((weights * np.exp(log_q) * np.ones(len(points)))[is_there] * function(points[is_there]))


def kl_of_scalars(q, p):
    of_q, of_p = univariate(q), univariate(p)
    name = "logpmf" if type(q) in COUNTS else "logpdf"
    return mean(q, lambda x: getattr(of_q, name)(x) - getattr(of_p, name)(x))


def matrix(root):
    return np.asarray(root) @ np.asarray(root).T


def draw_and_log_prob(record, size, seed):
    """Draws of SciPy's and a function of draws to log densities."""
    rng, kind = np.random.default_rng(seed), type(record)
    if kind is d.Dirichlet:
        scipy = stats.dirichlet(record.concentration)
        return scipy.rvs(size, random_state=rng), lambda x: scipy.logpdf(x.T)
    if kind is d.VonMisesFisher:
        scipy = stats.vonmises_fisher(record.loc, float(record.concentration))
        return scipy.rvs(size, random_state=rng), scipy.logpdf
    if kind is d.Wishart:
        scipy = stats.wishart(float(record.df), matrix(record.scale_tril))
    if kind is d.InverseWishart:
        scipy = stats.invwishart(float(record.df), matrix(record.scale_tril))
    if kind in (d.Wishart, d.InverseWishart):
        return scipy.rvs(size, random_state=rng), lambda x: wishart_log_prob(record, x)
    if kind is d.NormalGamma:
        loc, count, shape, rate = map(float, record)
        precision = rng.gamma(shape, 1 / rate, size)
        x = loc + rng.standard_normal(size) / np.sqrt(count * precision)
        log_prob = lambda both: (
            stats.gamma(shape, scale=1 / rate).logpdf(both[1])
            + stats.norm(loc, 1 / np.sqrt(count * both[1])).logpdf(both[0])
        )
        return (x, precision), log_prob
    if kind is d.NormalInverseWishart:
        loc, count, df = np.asarray(record.loc), float(record.count), float(record.df)
        prior = d.InverseWishart(record.df, record.scale_tril)
        scipy = stats.invwishart(df, matrix(record.scale_tril))
        spread = scipy.rvs(size, random_state=rng)
        x = loc + (np.linalg.cholesky(spread / count) @ rng.standard_normal((size, 2, 1)))[..., 0]

        def log_prob(both):
            x, spread = both
            gap = x - loc
            square = np.einsum("ni,nij,nj->n", gap, np.linalg.inv(spread), gap) * count
            log_normal = -0.5 * (square + np.linalg.slogdet(spread / count)[1] + 2 * np.log(2 * np.pi))
            return wishart_log_prob(prior, spread) + log_normal

        return (x, spread), log_prob
    scipy = stats.multivariate_normal(np.asarray(record.loc), covariance(record))
    return scipy.rvs(size, random_state=rng), scipy.logpdf


def wishart_log_prob(record, draws):
    """Of many matrices at once, which SciPy's own takes one by one; checked against SciPy's at a few."""
    parameter, df, size = matrix(record.scale_tril), float(record.df), len(record.scale_tril)
    log_det, own_log_det = np.linalg.slogdet(draws)[1], np.linalg.slogdet(parameter)[1]
    constant = special.multigammaln(df / 2, size) + 0.5 * df * size * np.log(2)
    if isinstance(record, d.Wishart):
        traces, scipy = np.einsum("ij,nji->n", np.linalg.inv(parameter), draws), stats.wishart(df, parameter)
        found = 0.5 * ((df - size - 1) * log_det - traces - df * own_log_det) - constant
    else:
        traces, scipy = np.einsum("ij,nji->n", parameter, np.linalg.inv(draws)), stats.invwishart(df, parameter)
        found = 0.5 * (-(df + size + 1) * log_det - traces + df * own_log_det) - constant
    np.testing.assert_allclose(found[:5], scipy.logpdf(np.moveaxis(draws[:5], 0, -1)), rtol=1e-8)
    return found


def covariance(record):
    """Of the Gaussian records, from their docstrings."""
    scales = np.exp(np.asarray(record.log_scale))
    root = np.eye(len(scales))
    if isinstance(record, d.Dense):
        root = root + np.tril(record.unit_tril, -1)
    if isinstance(record, d.LowRank):
        axes = np.linalg.qr(np.asarray(record.directions))[0]
        root = root + axes @ np.diag(np.expm1(record.log_stretch)) @ axes.T
    return matrix(scales[:, None] * root)
