"""Where distributions have their mass: what is infinite is said to be, by SciPy's densities at draws; composites."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxelbo
from jaxelbo import bijectors, divergences, families
from jaxelbo import distributions as d
from jaxelbo.distributions import domains, sample_spaces
from tests import distribution_oracles as oracles

KEY = jax.random.key(0)
SCALARS = sorted(oracles.COUNTS | oracles.LINES | oracles.POSITIVE | {d.Beta}, key=lambda kind: kind.__name__)


def test_every_record_has_a_space():
    assert set(sample_spaces.SAMPLE_SPACES) == set(domains.DOMAINS)


@pytest.mark.parametrize("kind", SCALARS, ids=lambda kind: kind.__name__)
def test_infinite_is_what_scipy_says(kind):
    """Of all pairs of numbers, at both examples: q draws where p has no density, or is of the other kind."""
    for other in SCALARS:
        infinite = []
        for setting_q, setting_p in itertools.product((0, 1), repeat=2):
            q, p = (oracles.univariate(oracles.record(k, s)) for k, s in ((kind, setting_q), (other, setting_p)))
            draws = np.arange(60) if kind in oracles.COUNTS else q.rvs(20_000, random_state=0)
            # Where q has mass, as far as no density overflows.
            draws = draws[(q.pmf(draws) > 0) if kind in oracles.COUNTS else np.abs(draws) < 500]
            is_count, is_other_count = kind in oracles.COUNTS, other in oracles.COUNTS
            with np.errstate(divide="ignore"):
                log_p = (p.logpmf if is_other_count else p.logpdf)(draws)
            infinite.append(is_count != is_other_count or np.any(np.isneginf(log_p)))
        said = sample_spaces.why_infinite(oracles.record(kind, 0), oracles.record(other, 0))
        assert not said or all(infinite), other
        # What may be finite for some parameters is not refused; what never can be is.
        may_depend = {d.Pareto, d.Uniform} & {kind, other} or kind is other is d.Binomial
        assert said or may_depend or not any(infinite), other
        if (kind, other) in d.CLOSED_FORMS:
            assert not said


def test_infinite_is_said(float64):
    normal, gamma = oracles.record(d.Normal, 0), oracles.record(d.Gamma, 0)
    with pytest.raises(ValueError, match=r"KL\(Normal \|\| Gamma\) is infinite: q has mass on the real numbers, p on"):
        divergences.between(normal, gamma)
    with pytest.raises(ValueError, match="is infinite: q has mass on the counts, p on the real numbers"):
        divergences.between(oracles.record(d.Poisson, 0), normal)
    with pytest.raises(ValueError, match=r"KL\(Beta \|\| Normal\) has no closed form"):
        divergences.between(oracles.record(d.Beta, 0), normal)
    wide, narrow = families.mean_field(jnp.ones(2)), families.gamma(jnp.ones(2))
    params = wide.init(KEY), narrow.init(KEY)
    with pytest.raises(ValueError, match=r"KL\(mean_field \|\| gamma\) is infinite: q has mass on the real numbers"):
        jaxelbo.kl_divergence(*params, wide, narrow)
    with pytest.raises(ValueError, match="is infinite"):
        jax.jit(lambda params: jaxelbo.kl_monte_carlo(*params, KEY, wide, narrow, num_samples=8).value)(params)
    back = jaxelbo.kl_monte_carlo(*params[::-1], KEY, narrow, wide, num_samples=8)
    assert np.isfinite(back.value)


def test_composites(float64):
    """Products and copies part by part; what one transform made, as its base; another transform, no closed form."""
    gammas, normals = (tuple(oracles.record(kind, s) for s in (0, 1)) for kind in (d.Gamma, d.Normal))
    parts = [float(divergences.between(*pair)) for pair in (gammas, normals)]
    q, p = (d.Product((gammas[s], normals[s])) for s in (0, 1))
    np.testing.assert_allclose(divergences.between(q, p), sum(parts), rtol=1e-12)
    rows = [jax.tree.map(lambda *leaves: np.stack(leaves), gammas[s], gammas[1]) for s in (0, 1)]
    np.testing.assert_allclose(divergences.between(*map(d.Copies, rows)), parts[0], rtol=1e-12)
    moved = [d.Transformed(normal, bijectors.positive) for normal in normals]
    np.testing.assert_allclose(divergences.between(*moved), parts[1], rtol=1e-12)
    slopes = jax.jit(jax.grad(divergences.between))(*moved).base
    expected = jax.grad(divergences.between)(*normals)
    jax.tree.map(np.testing.assert_allclose, slopes, expected)
    with pytest.raises(ValueError, match=r"KL\(Transformed \|\| Transformed\) has no closed form"):
        divergences.between(moved[0], d.Transformed(normals[1], bijectors.positive_softplus))
    with pytest.raises(ValueError, match=r"q.parts\[1\].scale must be positive"):
        divergences.between(d.Product((gammas[0], normals[0]._replace(scale=np.array(-1.0)))), p)
    with pytest.raises(ValueError, match=r"p.base.scale must be positive"):
        divergences.between(moved[0], d.Transformed(normals[1]._replace(scale=np.array(0.0)), bijectors.positive))


def test_families_with_the_same_supports(float64):
    """Of log-normals by their Gaussians, against the closed form of log-normals; by draws, and under other supports."""
    support = {"a": bijectors.positive}
    make = lambda constructor, support: families.constrained(constructor, {"a": jnp.ones(2)}, support)
    q, p = make(families.mean_field, support), make(families.full_rank, support)
    params_q = q.init(KEY) | {"loc": jnp.array([0.3, -0.2])}
    params_p = p.init(KEY) | {"log_scale": jnp.zeros(2)}
    kl = jaxelbo.kl_divergence(params_q, params_p, q, p)
    of_one = lambda loc: divergences.between(
        d.LogNormal(loc, jnp.array(0.1)), d.LogNormal(jnp.array(0.0), jnp.array(1.0))
    )
    np.testing.assert_allclose(kl, sum(of_one(loc) for loc in params_q["loc"]), rtol=1e-10)
    estimate = jaxelbo.kl_monte_carlo(params_q, params_p, KEY, q, p, num_samples=4_000)
    assert abs(estimate.value - kl) < 4 * estimate.standard_error
    other = make(families.full_rank, {"a": bijectors.positive_softplus})
    with pytest.raises(ValueError, match="kl_monte_carlo"):
        jaxelbo.kl_divergence(params_q, params_p, q, other)
