"""Simulation-based calibration of fits that are known to be right, narrow, wide, shifted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import jaxelbo
from jaxelbo import calibrations, families
from tests.matrix import quick_jit

KEY = jax.random.key(0)
DESIGN = np.array([[1.0, 0.9], [0.9, 1.0], [1.0, 1.1], [0.8, 1.0]])
"""Two nearly equal columns: the posterior of their weights is correlated."""


def prior_fn(key):
    return {"weights": jax.random.normal(key, (2,))}


def simulate_fn(latent, key):
    return jnp.asarray(DESIGN) @ latent["weights"] + 0.5 * jax.random.normal(key, (4,))


def posterior(data):
    """Mean and covariance."""
    precision = np.eye(2) + DESIGN.T @ DESIGN / 0.25
    covariance = np.linalg.inv(precision)
    return jnp.asarray(covariance) @ (jnp.asarray(DESIGN.T) @ data / 0.25), covariance


def drawing(scale=1.0, moved=0.0, num_draws=199):
    def fit_fn(data, key):
        mean, covariance = posterior(data)
        root = jnp.asarray(np.linalg.cholesky(covariance))
        spread = jnp.asarray(np.sqrt(np.diag(covariance)))
        noise = jax.random.normal(key, (num_draws, 2))
        return {"weights": (mean + moved * spread)[None] + scale * noise @ root.T}

    return fit_fn


def calibration(fit_fn, seed=0, **options):
    options = {"num_simulations": 400} | options
    run = lambda key: jaxelbo.simulation_based_calibration(key, prior_fn, simulate_fn, fit_fn, **options)
    return quick_jit(run)(jax.random.key(seed))


def test_exact_fits_are_uniform(float64):
    """Over three seeds."""
    for seed in range(3):
        found = calibration(drawing(), seed)
        assert found.p_value > 0.01 and np.all(found.symmetric["weights"] > 0.01) and found.num_not_finite == 0


@pytest.mark.parametrize(("scale", "moved"), [(0.7, 0.0), (1.5, 0.0), (1.0, 0.3), (1.0, -0.3)])
def test_wrong_fits_are_found(scale, moved, float64):
    """A wrong width is symmetric, a shift is not."""
    found = calibration(drawing(scale, moved))
    assert found.p_value < 0.01
    is_symmetric = np.asarray(found.symmetric["weights"]) > 1e-3
    assert np.all(is_symmetric) if not moved else not np.any(is_symmetric)
    away = np.abs(np.asarray(found.positions["weights"]) - 0.5).mean()
    assert scale == 1.0 or (away > 0.26) == (scale < 1)


@pytest.mark.slow
def test_infer_in_full_and_by_mean_field(float64):
    """Full rank is exact for this model; mean field is too narrow for a correlated posterior, and rejected."""

    def fitting(constructor):
        def fit_fn(data, key):
            def log_joint(z):
                residuals = data - jnp.asarray(DESIGN) @ z["weights"]
                return -0.5 * jnp.sum(z["weights"] ** 2) - 0.5 * jnp.sum(residuals**2) / 0.25

            result = jaxelbo.infer(log_joint, {"weights": jnp.zeros(2)}, key, family=constructor)
            return jaxelbo.draws(result.params, jax.random.fold_in(key, 1), result.family, num_samples=99)

        return fit_fn

    for seed in range(3):
        assert calibration(fitting(families.full_rank), seed, num_simulations=200, num_at_once=50).p_value > 0.01
    assert calibration(fitting(families.mean_field), num_simulations=200, num_at_once=50).p_value < 1e-6


def test_p_values_are_uniform_and_known(float64):
    """Kolmogorov's beside SciPy's; both uniform where the hypothesis holds."""
    rng = np.random.default_rng(0)
    positions = jnp.asarray(rng.uniform(size=(2_000, 300)))
    uniform = np.asarray(jax.jit(jax.vmap(calibrations._p_of_uniform))(positions))
    for row in range(0, 2_000, 200):
        np.testing.assert_allclose(uniform[row], stats.kstest(np.asarray(positions[row]), "uniform").pvalue, atol=0.01)
    assert stats.kstest(uniform, "uniform").pvalue > 1e-3
    # The walk has steps, so its p-values do: no fewer than they say are small, but for a fifth.
    symmetric = np.asarray(jax.jit(jax.vmap(calibrations._p_of_symmetric))(positions))
    for level in (0.01, 0.05, 0.2):
        assert 0.6 * level - 0.005 < np.mean(symmetric < level) < level + 3 * np.sqrt(level / 2_000)


def test_ties_and_what_is_not_finite(float64):
    """All draws equal to the truth say nothing: uniform. NaN draws are counted."""
    same = lambda key, shape=(): jnp.zeros(shape)
    found = jaxelbo.simulation_based_calibration(
        KEY, same, lambda z, key: z, lambda data, key: jnp.zeros(9), num_simulations=400
    )
    assert stats.kstest(np.asarray(found.positions), "uniform").pvalue > 1e-3
    spoiled = lambda data, key: drawing()(data, key)["weights"] * jnp.where(data[0] > 0, 1, jnp.nan)
    found = calibration(lambda data, key: {"weights": spoiled(data, key)})
    assert 150 < found.num_not_finite < 250


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"num_simulations": 5}, ValueError, "num_simulations must be at least 10"),
        ({"num_at_once": 0}, ValueError, "num_at_once must be at least 1"),
        ({"prior_fn": 3}, TypeError, "prior_fn must be"),
        ({"prior_fn": lambda key: 3}, TypeError, "the latent of prior_fn"),
        ({"fit_fn": lambda data, key: jnp.zeros(9)}, ValueError, "fit_fn must return draws with the structure"),
        ({"fit_fn": lambda data, key: {"weights": jnp.zeros(2)}}, ValueError, r"must have shape \[L, \*\(2,\)\]"),
    ],
)
def test_bad_input(change, error, message):
    options = {"prior_fn": prior_fn, "simulate_fn": simulate_fn, "fit_fn": drawing(), "num_simulations": 20} | change
    with pytest.raises(error, match=message):
        jaxelbo.simulation_based_calibration(KEY, **options)
