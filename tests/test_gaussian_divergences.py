"""Renyi, Bhattacharyya, Wasserstein and Fisher divergences of Gaussians, and bounds of KL of mixtures."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import linalg, special, stats

from jaxelbo import distributions as d
from jaxelbo import divergences, gaussian_divergences, gaussians, mixture_divergences
from jaxelbo.mixture_divergences import Mixture
from tests import distribution_oracles as oracles
from tests.matrix import quick_jit

FORMS = (d.Diagonal, d.Dense, d.LowRank)
PAIRS = list(itertools.product(FORMS, FORMS))
renyi = quick_jit(gaussian_divergences.renyi_divergence)
wasserstein, fisher = map(quick_jit, (gaussian_divergences.squared_wasserstein, gaussian_divergences.fisher_divergence))
kl_bounds = quick_jit(mixture_divergences.kl_bounds)
kl_between = quick_jit(divergences.between)
names = lambda pair: "-".join(kind.__name__ for kind in pair)
GRID = np.stack(np.meshgrid(*[np.linspace(-30, 30, 1_201)] * 2, indexing="ij"), axis=-1)
CELL = (60 / 1_200) ** 2


def density(record):
    return stats.multivariate_normal(np.asarray(record.loc), oracles.covariance(record))


@pytest.mark.parametrize("pair", PAIRS, ids=names)
def test_renyi_by_quadrature(pair, float64):
    q, p = oracles.record(pair[0], 0), oracles.record(pair[1], 1)
    log_q, log_p = density(q).logpdf(GRID), density(p).logpdf(GRID)
    for alpha in (0.3, 0.5, 1.3):
        expected = np.log(np.sum(np.exp(alpha * log_q + (1 - alpha) * log_p)) * CELL) / (alpha - 1)
        np.testing.assert_allclose(renyi(q, p, alpha), expected, rtol=1e-6)
    expected = -np.log(np.sum(np.exp(0.5 * (log_q + log_p))) * CELL)
    np.testing.assert_allclose(gaussian_divergences.bhattacharyya_distance(q, p), expected, rtol=1e-6)
    # Through alpha = 1 it is KL, and smooth.
    kl = kl_between(q, p)
    np.testing.assert_allclose(renyi(q, p, 1.0), kl, rtol=1e-10)
    sides = [renyi(q, p, 1 + sign * 1e-6) for sign in (1, -1)]
    np.testing.assert_allclose(np.mean(sides), kl, rtol=1e-9)
    assert sides[0] > kl > sides[1]
    slope = quick_jit(jax.grad(gaussian_divergences.renyi_divergence, argnums=2))(q, p, 1.0)
    np.testing.assert_allclose(slope, (sides[0] - sides[1]) / 2e-6, rtol=1e-5)


def test_renyi_is_infinite_where_p_is_too_narrow(float64):
    wide, narrow = d.Normal(np.array(0.0), np.array(2.0)), d.Normal(np.array(0.0), np.array(1.0))
    assert gaussian_divergences.renyi_divergence(wide, narrow, 1.5) == np.inf
    assert np.isfinite(gaussian_divergences.renyi_divergence(wide, narrow, 1.3))


@pytest.mark.parametrize("pair", PAIRS, ids=names)
def test_wasserstein_and_fisher(pair, float64):
    """By SciPy's matrix root, and by quadrature of the scores; gradients against differences."""
    q, p = oracles.record(pair[0], 0), oracles.record(pair[1], 1)
    cov_q, cov_p = oracles.covariance(q), oracles.covariance(p)
    root = linalg.sqrtm(cov_p)
    expected = np.sum((q.loc - p.loc) ** 2) + np.trace(cov_q + cov_p - 2 * np.real(linalg.sqrtm(root @ cov_q @ root)))
    np.testing.assert_allclose(wasserstein(q, p), expected, rtol=1e-9)
    assert wasserstein(q, q) < 1e-25
    scores = [-(GRID - np.asarray(x.loc)) @ np.linalg.inv(oracles.covariance(x)) for x in (q, p)]
    expected = np.sum(density(q).pdf(GRID) * np.sum((scores[0] - scores[1]) ** 2, axis=-1)) * CELL
    np.testing.assert_allclose(fisher(q, p), expected, rtol=1e-6)
    for function in (gaussian_divergences.squared_wasserstein, gaussian_divergences.fisher_divergence):
        slope = quick_jit(jax.grad(function))(q, p).log_scale[0]
        run = wasserstein if function is gaussian_divergences.squared_wasserstein else fisher
        step = np.array([1e-5, 0.0])
        ends = [run(q._replace(log_scale=q.log_scale + sign * step), p) for sign in (1, -1)]
        np.testing.assert_allclose(slope, (ends[0] - ends[1]) / 2e-5, rtol=1e-6)


def mixture(kind, seed, count):
    rng = np.random.default_rng(seed)
    params = [rng.normal(size=(count, 2)) * 2, rng.normal(size=(count, 2)) * 0.3]
    if kind is d.Dense:
        params.append(np.tril(rng.normal(size=(count, 2, 2)), -1))
    return Mixture(jnp.asarray(rng.normal(size=count)), kind(*map(jnp.asarray, params)))


def log_density(mixture):
    weights = np.exp(mixture.logits) / np.exp(mixture.logits).sum()
    parts = [type(mixture.components)(*part) for part in zip(*mixture.components, strict=True)]
    terms = [np.log(weight) + density(part).logpdf(GRID) for weight, part in zip(weights, parts, strict=True)]
    return special.logsumexp(terms, axis=0)


@pytest.mark.parametrize(("kind_q", "kind_p"), list(itertools.product((d.Diagonal, d.Dense), repeat=2)))
@pytest.mark.parametrize("seed", range(4))
def test_bounds_of_mixtures(kind_q, kind_p, seed, float64):
    q, p = mixture(kind_q, seed, 3), mixture(kind_p, seed + 10, 2)
    log_q, log_p = log_density(q), log_density(p)
    kl = np.sum(np.exp(log_q) * (log_q - log_p)) * CELL
    bounds = kl_bounds(q, p)
    assert bounds.lower <= kl + 1e-8 and kl <= bounds.upper + 1e-8
    assert bounds.upper - bounds.lower < kl + 3.5
    slopes = quick_jit(jax.grad(lambda q, p: sum(mixture_divergences.kl_bounds(q, p)), argnums=(0, 1)))(q, p)
    for side in (0, 1):
        ends = []
        for sign in (1, -1):
            both = [q, p]
            both[side] = both[side]._replace(logits=both[side].logits.at[0].add(sign * 1e-5))
            ends.append(sum(kl_bounds(*both)))
        np.testing.assert_allclose(slopes[side].logits[0], (ends[0] - ends[1]) / 2e-5, rtol=1e-4, atol=1e-7)


def test_one_component_each_is_exact_from_above(float64):
    q, p = mixture(d.Dense, 0, 1), mixture(d.Dense, 1, 1)
    one = lambda mixture: jax.tree.map(lambda leaf: leaf[0], mixture.components)
    kl = gaussians.kl_divergence(one(q), one(p))
    np.testing.assert_allclose(kl_bounds(q, p).upper, kl, rtol=1e-10)
    assert kl_bounds(q, q).upper < 1e-10


def test_bad_input(float64):
    q, p = oracles.record(d.Dense, 0), oracles.record(d.Gamma, 0)
    with pytest.raises(TypeError, match="p must be a Gaussian, got Gamma"):
        gaussian_divergences.renyi_divergence(q, p, 0.5)
    with pytest.raises(ValueError, match="q and p must be of one vector"):
        gaussian_divergences.squared_wasserstein(q, d.Diagonal(np.zeros(3), np.zeros(3)))
    with pytest.raises(TypeError, match="q must be a Mixture"):
        mixture_divergences.kl_bounds(q, q)
    good = mixture(d.Diagonal, 0, 2)
    with pytest.raises(ValueError, match="components"):
        mixture_divergences.kl_bounds(good._replace(logits=jnp.zeros(3)), good)
