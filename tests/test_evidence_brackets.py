"""The bracket on the log evidence: enumeration, closed forms and quadrature."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

import jaxelbo
from jaxelbo import bijectors, bound_estimates, bounds, families
from tests.matrix import quick_jit

SMALL = {"num_samples": 200, "num_chains": 16, "num_temperatures": 4, "num_transitions": 4, "num_leapfrog": 2}
LOG_Z = 2.5


def log_joint(z):
    """N(0.3, 0.8^2) in two entries, times exp(2.5)."""
    return LOG_Z + jnp.sum(jax.scipy.stats.norm.logpdf(z, 0.3, 0.8))


def gaussian_q(loc, scale):
    family = families.mean_field(jnp.zeros(2))
    return {"loc": jnp.full(2, loc), "log_scale": jnp.log(jnp.full(2, scale))}, family


def brackets(params, family, target, number, **sizes):
    run = functools.partial(jaxelbo.evidence, log_joint=target, family=family, **sizes)
    return quick_jit(jax.vmap(run, (None, 0)))(params, jax.random.split(jax.random.key(0), number))


@pytest.mark.slow
@pytest.mark.parametrize("loc, scale", [(0.3, 0.8), (0.0, 1.5), (0.5, 0.6), (-0.5, 1.0)])
def test_a_gaussian_evidence_lies_between(float64, loc, scale):
    """Over 60 keys: both ends in the mean on their sides, seldom off by 3 standard errors, and order of the bounds."""
    params, family = gaussian_q(loc, scale)
    found = jax.tree.map(
        np.asarray, brackets(params, family, log_joint, 60, **SMALL | {"num_transitions": 10, "num_chains": 64})
    )
    lower, upper = found.lower, found.upper
    for excess in (lower.value - LOG_Z, LOG_Z - upper.value):
        assert excess.mean() < 3 * excess.std() / np.sqrt(60) + 1e-9
    assert np.mean(lower.value - 3 * lower.standard_error > LOG_Z + 1e-9) <= 1 / 30
    assert np.mean(upper.value + 3 * upper.standard_error < LOG_Z - 1e-9) <= 1 / 30
    low, high = found.lower_bounds, found.upper_bounds
    kl = 2 * (np.log(0.8 / scale) + (scale**2 + (loc - 0.3) ** 2) / (2 * 0.64) - 0.5)
    elbos = low.elbo.value
    assert abs(elbos.mean() - (LOG_Z - kl)) < 4 * elbos.std() / np.sqrt(60) + 1e-9
    np.testing.assert_allclose(low.importance_weighted.value[:, 0], elbos, atol=1e-9)
    assert np.all(np.diff(low.importance_weighted.value.mean(0)[:10]) > -1e-9)
    mean_error = np.sqrt(np.mean(low.elbo.standard_error**2))
    assert np.isclose(mean_error, elbos.std(), rtol=0.35) or mean_error < 1e-9
    weighted = low.importance_weighted.value[:, -1]
    for value in (low.thermodynamic.value, elbos):
        assert np.all(value <= weighted + 1e-9)
    for value in (high.thermodynamic.value, high.chi.value):
        assert np.all(value >= weighted - 1e-9)
    assert np.all(low.annealing_one_chain.value <= low.annealing.value + 1e-9)
    assert np.all(high.annealing_one_chain.value >= high.annealing.value - 1e-9)
    np.testing.assert_allclose(found.gap, upper.value - lower.value)


@pytest.mark.slow
def test_a_skewed_evidence_lies_between(float64):
    """exp(3 z - exp(z)) has evidence Gamma(3) on the line; q is its Laplace approximation. 20 keys, and supports."""
    family = families.mean_field(0.0)
    params = {"loc": jnp.full(1, np.log(3.0)), "log_scale": jnp.full(1, -0.5 * np.log(3.0))}
    sizes = SMALL | {"num_samples": 400, "num_temperatures": 10, "num_transitions": 10}
    found = jax.tree.map(np.asarray, brackets(params, family, lambda z: 3 * z - jnp.exp(z), 20, **sizes))
    truth = scipy.special.gammaln(3.0)
    assert np.mean(found.lower.value - 3 * found.lower.standard_error > truth) <= 0.05
    assert np.mean(found.upper.value + 3 * found.upper.standard_error < truth) <= 0.05
    assert np.median(np.abs(found.gap)) < 0.1
    on_support = families.constrained(families.mean_field, {"a": 1.0}, {"a": bijectors.positive})
    target = lambda z: 2 * jnp.log(z["a"]) - z["a"]
    # Params are of the unconstrained latent, and so the same.
    bracket = jax.tree.map(lambda leaf: leaf[0], brackets(params, on_support, target, 1, **sizes | {"num_chains": 64}))
    assert abs(float(bracket.lower.value) - truth) < 4 * float(bracket.lower.standard_error)
    assert abs(float(bracket.lower.value) - truth) < 0.2


def test_every_number_of_draws_against_enumeration(float64):
    """The mean over orders of the draws is the mean over all subsets of size k; its ends are exact on each order."""
    log_weights = np.array([0.3, -1.2, 2.0, 0.1, -0.4])
    exact = [
        np.mean([scipy.special.logsumexp(chosen) - np.log(k) for chosen in itertools.combinations(log_weights, k)])
        for k in range(1, 6)
    ]
    orders = jnp.asarray(list(itertools.permutations(log_weights)))
    values = np.asarray(jax.vmap(bound_estimates.importance_weighted_bounds)(orders).value)
    np.testing.assert_allclose(values.mean(0), exact, rtol=1e-12)
    np.testing.assert_allclose(values[:, [0, -1]], np.broadcast_to([exact[0], exact[-1]], (120, 2)), rtol=1e-12)


def test_standard_errors_of_every_number_of_draws(float64):
    """Against the spread over 400 sets of 256 draws; those of few draws may be too large, by a third at most."""
    log_weights = 0.5 * jax.random.normal(jax.random.key(0), (400, 256))
    found = quick_jit(jax.vmap(bound_estimates.importance_weighted_bounds))(log_weights)
    ratios = np.sqrt(np.mean(np.asarray(found.standard_error) ** 2, axis=0)) / np.std(found.value, axis=0)
    assert np.all((ratios > 0.85) & (ratios < 1.35)), ratios[[0, 1, 7, 8, -1]]
    left_out = quick_jit(jax.vmap(functools.partial(bound_estimates.left_out, functools.partial(bounds.chi, n=2))))
    found = left_out(log_weights)
    assert 0.8 < np.sqrt(np.mean(np.asarray(found.standard_error) ** 2)) / np.std(found.value) < 1.25


def test_flags_of_a_narrow_and_of_a_wide_q(float64):
    """Squared weights of a q half as wide have no mean; a q that is wide enough has bounded weights."""
    sizes = SMALL | {"num_samples": 2000}
    narrow = brackets(*gaussian_q(0.3, 0.35), log_joint, 10, **sizes)
    wide = brackets(*gaussian_q(0.3, 0.9), log_joint, 10, **sizes)
    assert np.mean(narrow.unreliable.chi) >= 0.8 and np.mean(narrow.is_upper_unreliable) >= 0.8
    assert not np.any(wide.unreliable.chi) and np.mean(wide.is_upper_unreliable) <= 0.1
    assert not np.any(wide.unreliable.not_finite)


def test_no_density_and_too_much(float64):
    """A NaN and a zero of the log joint are weights of zero; +inf, and zeros alone, are flagged."""
    params, family = gaussian_q(0.3, 0.8)
    half = lambda z, value: jnp.where(z[0] > 0.3, log_joint(z), value)
    for value in (jnp.nan, -jnp.inf):
        found = brackets(params, family, functools.partial(half, value=value), 5, **SMALL)
        assert not np.any(found.unreliable.not_finite)
        assert abs(float(jnp.mean(found.lower.value)) - (LOG_Z - np.log(2))) < 0.3
        assert np.all(np.isneginf(found.lower_bounds.elbo.value))
        assert np.all(np.isinf(found.lower_bounds.elbo.standard_error))
    for target in (functools.partial(half, value=jnp.inf), lambda z: log_joint(z) - jnp.inf):
        found = brackets(params, family, target, 2, **SMALL)
        assert np.all(found.unreliable.not_finite) and np.all(found.is_upper_unreliable)


def test_eager_jit_and_vmap_are_one(float64):
    params, family = gaussian_q(0.0, 1.0)
    run = functools.partial(jaxelbo.evidence, log_joint=log_joint, family=family, **SMALL)
    keys = jax.random.split(jax.random.key(0), 2)
    compiled = [quick_jit(run)(params, key) for key in keys]
    batched = quick_jit(jax.vmap(run, (None, 0)))(params, keys)
    leaves = zip(*map(jax.tree.leaves, (run(params, keys[0]), *compiled, batched)), strict=True)
    for eager, one, other, both in leaves:
        np.testing.assert_allclose(eager, one, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose([one, other], both, rtol=1e-9, atol=1e-9)


def test_single_precision():
    """Dtype follows the parameters, and a log joint of large numbers keeps the bracket."""
    params, family = gaussian_q(0.0, 1.0)
    found = brackets(params, family, lambda z: log_joint(z) - 2000, 4, **SMALL | {"num_chains": 64})
    assert all(leaf.dtype in ("float32", "int32", "bool") for leaf in jax.tree.leaves(found))
    for end in (found.lower, found.upper):
        error = float(jnp.sqrt(jnp.mean(end.standard_error**2)))
        assert abs(float(jnp.mean(end.value)) - (LOG_Z - 2000)) < 4 * error / 2 + 1e-3 < 0.3


def test_gradients_are_counted(float64):
    params, family = gaussian_q(0.0, 1.0)
    calls = []

    @jax.custom_jvp
    def counted(z):
        return log_joint(z)

    @counted.defjvp
    def _(primals, tangents):
        jax.debug.callback(lambda _: calls.append(None), primals[0][0])
        return jax.jvp(log_joint, primals, tangents)

    found = quick_jit(functools.partial(jaxelbo.evidence, log_joint=counted, family=family, **SMALL))(
        params, jax.random.key(0)
    )
    jax.block_until_ready(found)
    jax.effects_barrier()
    assert len(calls) == int(found.num_gradients)
    assert int(found.num_evaluations) == 2 * SMALL["num_samples"]


def test_mistakes_are_answered_by_name():
    params, family = gaussian_q(0.0, 1.0)
    key = jax.random.key(0)
    for name, least in (("num_samples", 100), ("num_chains", 16), ("num_temperatures", 2), ("num_leapfrog", 1)):
        with pytest.raises(ValueError, match=f"{name} must be at least {least}"):
            jaxelbo.evidence(params, key, log_joint, family, **SMALL | {name: 0})
    for other in (families.bernoulli(jnp.zeros(2)), families.point_mass(jnp.zeros(2))):
        with pytest.raises(ValueError, match=r"needs a family with a density .* has not; see lower_bound"):
            jaxelbo.evidence(other.init(key), key, log_joint, other, **SMALL)
    with pytest.raises(ValueError, match="log_joint must return a scalar"):
        jaxelbo.evidence(params, key, lambda z: z, family, **SMALL)
    with pytest.raises(TypeError, match="log_joint must be a function"):
        jaxelbo.evidence(params, key, 3.0, family, **SMALL)
    with pytest.raises(ValueError, match="params"):
        jaxelbo.evidence({"loc": params["loc"]}, key, log_joint, family, **SMALL)
