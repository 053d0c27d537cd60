"""Bounds on the errors of moments: against Gaussians whose errors and divergences are known, and real draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxelbo
from jaxelbo import error_bounds, families

NORMAL = jax.scipy.stats.norm.logpdf
KEY = jax.random.key(0)


def of_gaussians(mean, sd, num_samples=200_000):
    """q = N(0, 1) against p = N(mean, sd) times e^3."""
    draws = jax.random.normal(KEY, (num_samples,))
    return error_bounds.moment_bounds(3.0 + NORMAL(draws, mean, sd) - NORMAL(draws), draws)


def exact_divergence(mean, sd):
    """2 (chi bound - ELBO) of the population: D_2(p || q) + 2 KL(q || p)."""
    precision = 2 / sd**2 - 1
    assert precision > 0
    log_mean_square = (
        -2 * np.log(sd) - 0.5 * np.log(precision) - mean**2 / sd**2 + 0.5 * (2 * mean / sd**2) ** 2 / precision
    )
    return log_mean_square + 2 * (np.log(sd) + (1 + mean**2) / (2 * sd**2) - 0.5)


@pytest.mark.parametrize("mean", [0.0, 0.05, -0.2, 0.5, 1.5])
@pytest.mark.parametrize("sd", [0.5, 0.9, 1.0, 1.1])
def test_they_bound_the_errors_of_gaussians(mean, sd):
    found = of_gaussians(mean, sd)
    expected = exact_divergence(mean, sd)
    if expected < 0.5:
        np.testing.assert_allclose(found.renyi_divergence, expected, rtol=0.1, atol=1e-5)
    slack = 1e-3  # of the draws' own mean and standard deviation
    assert abs(mean) <= found.mean_error + slack
    assert abs(sd - 1) <= found.sd_error + slack
    assert np.hypot(mean, sd - 1) <= found.wasserstein + slack  # the distance of two Gaussians on a line
    assert found.sd_error <= found.wasserstein
    assert bool(found.is_vacuous) == (np.expm1(found.renyi_divergence) > 1)


def test_they_are_near_where_q_is():
    """Of use, that is: within twice a small shift, where the bounds by transport are 2.5 times a square root of it."""
    found = of_gaussians(0.1, 1.0)
    assert 0.1 < found.mean_error < 0.2 and found.sd_error < 0.2 and not found.is_vacuous and not found.is_unreliable
    assert found.wasserstein > 0.9


def test_heavy_weights_are_flagged():
    assert of_gaussians(0.0, 1.6).is_unreliable  # E_q[w^2] is infinite
    assert not of_gaussians(0.0, 1.05).is_unreliable


def test_exact_fits_and_points_have_no_error():
    draws = jnp.stack([jax.random.normal(KEY, (1_000,)), jnp.full(1_000, 2.0)], axis=1)
    for weights in (jnp.full(1_000, 7.0), jnp.full(1_000, -90.0).at[0].set(80.0)):
        found = error_bounds.moment_bounds(weights, {"z": draws})
        assert found.mean_error["z"][1] == found.sd_error["z"][1] == found.wasserstein["z"][1] == 0
    exact = error_bounds.moment_bounds(jnp.full(1_000, 7.0), draws)
    assert np.all(np.asarray(exact.mean_error) < 1e-3) and exact.renyi_divergence < 1e-5


@pytest.mark.parametrize("draws", [jax.random.normal(KEY, (1_000,)), jnp.arange(1_000) % 2.0], ids=["normal", "coin"])
def test_zero_weights_make_them_infinite_and_vacuous(draws):
    for weights in (jnp.where(jnp.arange(1_000) < 500, jnp.log(2.0), -jnp.inf), jnp.full(1_000, -jnp.inf)):
        found = error_bounds.moment_bounds(weights, draws)
        assert found.mean_error == found.sd_error == found.wasserstein == np.inf and found.is_vacuous


@pytest.mark.parametrize("constant", [-1e6, -1e5, 1e5])
def test_a_large_evidence_takes_no_digits(constant):
    """In float32, where a log-weight of 1e6 has steps of 0.06; shifts of 0.1 are seen all the same."""
    draws = jax.random.normal(KEY, (20_000,))
    found = error_bounds.moment_bounds(constant + (NORMAL(draws, 0.1) - NORMAL(draws)), draws)
    assert 0.1 < found.mean_error < 0.2


@pytest.mark.parametrize("unit", [1e-15, 1e-6, 1e6, 1e15])
def test_they_do_not_depend_on_units(unit):
    draws = jax.random.normal(KEY, (20_000,))
    weights = NORMAL(draws, 0.1, 1.05) - NORMAL(draws)
    one, other = (error_bounds.moment_bounds(weights, draws * scale) for scale in (1.0, unit))
    for name in ("mean_error", "sd_error", "wasserstein"):
        np.testing.assert_allclose(getattr(other, name) / unit, getattr(one, name), rtol=1e-3)


def test_in_a_diagnosis_they_do_not_depend_on_units():
    """A fit with a known error: its mean is 0.1 standard deviations off, in units of a million; under jit too."""
    unit = {"a": 1e6, "b": 1.0}
    family = families.mean_field({"a": 0.0, "b": 0.0})
    params = {"loc": jnp.array([0.1e6, 0.0]), "log_scale": jnp.log(jnp.array([1e6, 1.0]))}
    log_joint = lambda z: NORMAL(z["a"] / 1e6) + NORMAL(z["b"], 0.0, 1.05)
    run = lambda params: jaxelbo.diagnose(params, KEY, log_joint, family, num_samples=20_000).moment_bounds
    for found in (run(params), jax.jit(run)(params)):
        assert not found.is_vacuous and not found.is_unreliable
        for name, scale in unit.items():
            assert 0.1 < found.mean_error[name] / scale < 0.3
            assert 0.05 < found.sd_error[name] / scale < 0.3


def test_bad_input():
    with pytest.raises(ValueError, match="log_weights"):
        error_bounds.moment_bounds(jnp.zeros((3, 2)), jnp.zeros(3))
    with pytest.raises(ValueError, match="latents must have a leading axis of 3 draws"):
        error_bounds.moment_bounds(jnp.zeros(3), jnp.zeros(4))
    with pytest.raises(TypeError, match="latents must be floating-point"):
        error_bounds.moment_bounds(jnp.zeros(3), jnp.zeros(3, int))
