"""KL beside NumPyro and TensorFlow Probability, and entropies beside SciPy, where a library is there and has them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from jaxelbo import distributions as d
from jaxelbo import divergences, exponential, gaussians
from jaxelbo.distributions import domains, lines
from tests import distribution_oracles as oracles
from tests.matrix import quick_jit

NUM_POINTS = 3
PAIRS = sorted(d.CLOSED_FORMS, key=lambda pair: (pair[0].__name__, pair[1].__name__))
WISHARTS = (d.Wishart, d.InverseWishart, d.NormalInverseWishart)


def random_record(kind, setting, rng):
    """One of the examples, moved inside its domain."""
    moved = {}
    for field, value in oracles.record(kind, setting)._asdict().items():
        words, noise = domains.DOMAINS[kind][field].words, rng.standard_normal(np.shape(value))
        if field == "total_count":
            moved[field] = value
        elif field == "df" and kind in WISHARTS:
            moved[field] = value + np.exp(noise)
        elif words.startswith("positive"):
            moved[field] = value * np.exp(0.4 * noise)
        elif words.startswith("lower"):
            moved[field] = value * np.exp(0.2 * noise)
        else:
            moved[field] = value + 0.3 * noise
            moved[field] = moved[field] / np.linalg.norm(moved[field]) if words == "a unit vector" else moved[field]
    return kind(*(jnp.asarray(leaf) for leaf in moved.values()))


def pair_at(kinds, seed):
    """Of one support."""
    rng = np.random.default_rng(seed)
    q, p = (random_record(kind, setting, rng) for setting, kind in enumerate(kinds))
    if kinds == (d.Pareto, d.Pareto):
        p = p._replace(minimum=0.7 * q.minimum)
    if kinds == (d.Uniform, d.Uniform):
        p = p._replace(low=q.low - 0.3, high=q.high + 0.2)
    return q, p


def as_numpyro(record, dist):
    """None where NumPyro's registry of KL has nothing of the kind."""
    make = {
        d.Normal: lambda: dist.Normal(*record),
        d.Beta: lambda: dist.Beta(*record),
        d.Dirichlet: lambda: dist.Dirichlet(*record),
        d.Gamma: lambda: dist.Gamma(*record),
        d.ChiSquared: lambda: dist.Chi2(*record),
        d.Weibull: lambda: dist.Weibull(record.scale, record.shape),
        d.Categorical: lambda: dist.CategoricalProbs(jax.nn.softmax(record.logits)),
        d.Dense: lambda: dist.MultivariateNormal(record.loc, jnp.asarray(oracles.covariance(record))),
        d.Diagonal: lambda: dist.MultivariateNormal(record.loc, jnp.asarray(oracles.covariance(record))),
        d.LowRank: lambda: dist.MultivariateNormal(record.loc, jnp.asarray(oracles.covariance(record))),
    }.get(type(record))
    return None if make is None else make()


def as_tfp(record, tfd):
    """None where TensorFlow Probability has nothing of the kind."""
    make = {
        d.Normal: lambda: tfd.Normal(*record),
        d.LogNormal: lambda: tfd.LogNormal(*record),
        d.InverseGaussian: lambda: tfd.InverseGaussian(*record),
        d.Gamma: lambda: tfd.Gamma(record.concentration, record.rate),
        d.InverseGamma: lambda: tfd.InverseGamma(record.concentration, record.scale),
        d.ChiSquared: lambda: tfd.Chi2(record.df),
        d.Exponential: lambda: tfd.Exponential(record.rate),
        d.Beta: lambda: tfd.Beta(record.concentration1, record.concentration0),
        d.Dirichlet: lambda: tfd.Dirichlet(record.concentration),
        d.Bernoulli: lambda: tfd.Bernoulli(logits=record.logits),
        d.Categorical: lambda: tfd.Categorical(logits=record.logits),
        d.Binomial: lambda: tfd.Binomial(record.total_count, logits=record.logits),
        d.Multinomial: lambda: tfd.Multinomial(record.total_count, logits=record.logits),
        d.Poisson: lambda: tfd.Poisson(record.rate),
        d.Geometric: lambda: tfd.Geometric(logits=record.logits),
        # There it counts successes before so many failures.
        d.NegativeBinomial: lambda: tfd.NegativeBinomial(record.total_count, logits=-record.logits),
        d.Laplace: lambda: tfd.Laplace(*record),
        d.Pareto: lambda: tfd.Pareto(record.concentration, record.minimum),
        d.Weibull: lambda: tfd.Weibull(record.shape, record.scale),
        d.HalfNormal: lambda: tfd.HalfNormal(record.scale),
        d.Uniform: lambda: tfd.Uniform(*record),
        d.Gumbel: lambda: tfd.Gumbel(*record),
        d.Cauchy: lambda: tfd.Cauchy(*record),
        d.StudentT: lambda: tfd.StudentT(*record),
        d.VonMises: lambda: tfd.VonMises(*record),
        d.VonMisesFisher: lambda: tfd.VonMisesFisher(*record),
        d.Wishart: lambda: tfd.WishartTriL(record.df, record.scale_tril),
        d.Diagonal: lambda: tfd.MultivariateNormalDiag(record.loc, jnp.exp(record.log_scale)),
        d.Dense: lambda: tfd.MultivariateNormalTriL(
            record.loc, jnp.linalg.cholesky(jnp.asarray(oracles.covariance(record)))
        ),
    }.get(type(record))
    return None if make is None else make()


def kl_of_peer(q, p, convert, kl_divergence):
    """KL(q || p) by another library; None where it has no such pair."""
    ours = [convert(record) for record in (q, p)]
    if None in ours:
        return None
    try:
        return float(jnp.sum(jnp.asarray(kl_divergence(*ours))))
    except (NotImplementedError, TypeError):
        return None


def check_all(convert, kl_divergence):
    """Compares every pair in common at random points; the pairs that were."""
    found = set()
    for index, kinds in enumerate(PAIRS):
        kl = None
        for point in range(NUM_POINTS):
            q, p = pair_at(kinds, (index, point))
            expected = kl_of_peer(q, p, convert, kl_divergence)
            if expected is None:
                break
            kl = quick_jit(divergences._between) if kl is None else kl
            found.add(kinds)
            np.testing.assert_allclose(kl(q, p), expected, rtol=1e-6, err_msg=str(kinds))
    return found


@pytest.mark.slow
def test_kl_beside_numpyro(float64):
    numpyro = pytest.importorskip("numpyro")
    found = check_all(lambda record: as_numpyro(record, numpyro.distributions), numpyro.distributions.kl_divergence)
    same = {(kind, kind) for kind in (d.Normal, d.Beta, d.Dirichlet, d.Gamma, d.ChiSquared, d.Categorical)}
    gaussian = set(itertools.product((d.Diagonal, d.Dense, d.LowRank), repeat=2))
    mixed = {(d.Gamma, d.ChiSquared), (d.ChiSquared, d.Gamma), (d.Weibull, d.Gamma), (d.Weibull, d.ChiSquared)}
    assert found == same | gaussian | mixed


@pytest.mark.slow
def test_kl_beside_tensorflow_probability(float64):
    tfp = pytest.importorskip("tensorflow_probability.substrates.jax")
    found = check_all(lambda record: as_tfp(record, tfp.distributions), tfp.distributions.kl_divergence)
    assert {(d.Normal, d.Normal), (d.Gamma, d.Gamma), (d.Beta, d.Beta), (d.Laplace, d.Laplace)} < found


def inverse_wishart_entropy(df, scale):
    """By SciPy's of the inverse; its own, in 1.17, is not minus the mean of its log density: (D + 1) log(2) / 2 off."""
    size, inverse = len(scale), np.linalg.inv(scale)
    mean_log_det = (
        np.sum(special.digamma(0.5 * (df - np.arange(size)))) + size * np.log(2) + np.linalg.slogdet(inverse)[1]
    )
    return stats.wishart(df, inverse).entropy() - (size + 1) * mean_log_det


def scipy_entropy(record):
    """Of those that are no scalars, whose entropies test_distributions compares."""
    return {
        d.Bernoulli: lambda: np.sum(stats.bernoulli(special.expit(record.logits)).entropy()),
        d.Categorical: lambda: stats.entropy(special.softmax(record.logits)),
        d.Dirichlet: lambda: stats.dirichlet(record.concentration).entropy(),
        d.VonMisesFisher: lambda: stats.vonmises_fisher(record.loc, float(record.concentration)).entropy(),
        d.Wishart: lambda: stats.wishart(float(record.df), oracles.matrix(record.scale_tril)).entropy(),
        d.InverseWishart: lambda: inverse_wishart_entropy(float(record.df), oracles.matrix(record.scale_tril)),
        d.Diagonal: lambda: stats.multivariate_normal(record.loc, oracles.covariance(record)).entropy(),
        d.Dense: lambda: stats.multivariate_normal(record.loc, oracles.covariance(record)).entropy(),
    }[type(record)]()


@pytest.mark.parametrize(
    "kind",
    [d.Bernoulli, d.Categorical, d.Dirichlet, d.VonMisesFisher, d.Wishart, d.InverseWishart, d.Diagonal, d.Dense],
    ids=lambda kind: kind.__name__,
)
def test_entropy_beside_scipy(kind, float64):
    for seed in range(NUM_POINTS):
        record = random_record(kind, seed % 2, np.random.default_rng(seed))
        family = d.EXPONENTIAL_FAMILIES[kind](record)
        entropy = exponential.entropy(family.to_natural(record), family)
        np.testing.assert_allclose(entropy, scipy_entropy(jax.tree.map(np.asarray, record)), rtol=1e-8)


def test_other_entropies_beside_scipy(float64):
    """Of records that belong to no exponential family."""
    for seed in range(NUM_POINTS):
        rng = np.random.default_rng(seed)
        student_t, low_rank = (random_record(kind, seed % 2, rng) for kind in (d.StudentT, d.LowRank))
        np.testing.assert_allclose(lines.entropy_student_t(student_t), stats.t(*student_t).entropy(), rtol=1e-8)
        expected = stats.multivariate_normal(low_rank.loc, oracles.covariance(low_rank)).entropy()
        np.testing.assert_allclose(gaussians.entropy(low_rank), expected, rtol=1e-8)
