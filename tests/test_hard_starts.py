"""`infer` from where a climb is easily led astray: saddles, steps that go too far, weights that are all alike."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import jaxelbo

KEY = jax.random.key(0)


def test_from_the_saddle_between_like_components(float64):
    """From zero both components of a mixture are one, and the gradient leaves that line nowhere."""
    data = jnp.asarray(np.random.default_rng(0).normal(np.where(np.arange(200) < 60, -4.0, 3.0), 1.0))
    log_joint = lambda z: jnp.sum(
        jax.nn.logsumexp(-0.5 * (data[:, None] - z["means"][None]) ** 2, axis=1)
    ) - 0.5 * jnp.sum(z["means"] ** 2) / 100  # fmt: skip
    result = jaxelbo.infer(log_joint, {"means": jnp.zeros(2)}, KEY)
    assert str(result.status) == "converged"
    means = np.sort(result.family.location_and_scale(result.params)[0]["means"])
    np.testing.assert_allclose(means, [data[:60].mean(), data[60:].mean()], atol=0.05)


@pytest.mark.parametrize("scale", [1.0, 1e3, 1e5, 1e7])
def test_a_regression_in_any_unit(scale, float64):
    """Residuals of 1e7 need a log standard deviation of 16, and from zero the first step goes far beyond."""
    rng = np.random.default_rng(0)
    x = rng.normal(67.0, 4.0, 1_000)
    y = scale * (0.06 * (x - 50) + rng.normal(size=1_000))
    design = np.stack([np.ones_like(x), x], axis=1)
    coefficients, squares = np.linalg.lstsq(design, y)[:2]

    def log_joint(z):
        residuals = y - z["intercept"] - z["slope"] * x
        return -0.5 * jnp.sum(residuals**2) * jnp.exp(-2 * z["log_sd"]) - len(x) * z["log_sd"]

    result = jaxelbo.infer(log_joint, {"intercept": 0.0, "log_sd": 0.0, "slope": 0.0}, KEY)
    assert str(result.status) == "converged"
    location, sd = result.family.location_and_scale(result.params)
    errors = np.sqrt(np.diag(np.linalg.inv(design.T @ design)) * squares / len(x))
    assert abs(location["log_sd"] - 0.5 * np.log(squares[0] / len(x))) < 0.1 * sd["log_sd"]
    assert abs(location["slope"] - coefficients[1]) < 0.1 * errors[1]
    np.testing.assert_allclose(sd["slope"], errors[1], rtol=0.05)


def test_a_slope_without_curvature(float64):
    """One entry whose log density soon has no curvature left must not drag the others along."""
    log_joint = lambda z: -0.5 * jnp.sum((z[:2] - 30.0) ** 2 * jnp.array([1.0, 50.0])) + 10 * z[2] - 12 * jnp.exp(z[2])
    for start in (-60.0, -20.0, 0.0):
        result = jaxelbo.infer(log_joint, jnp.array([0.0, 0.0, start]), KEY)
        assert str(result.status) == "converged", start
        np.testing.assert_allclose(result.params["loc"][:2], 30.0, atol=0.05)
        # The best Gaussian of a log gamma has E exp(z) = 10 / 12 and precision 10.
        np.testing.assert_allclose(result.params["loc"][2], np.log(10 / 12) - 0.05, atol=0.02)


def test_weights_that_are_all_alike_are_no_poor_fit(float64):
    """Pareto k of weights 1 +- 0.01 says nothing."""
    log_joint = lambda z: 1e4 * z - 1e4 * jnp.exp(z)
    statuses = {str(jaxelbo.infer(log_joint, 0.0, jax.random.key(seed)).status) for seed in range(10)}
    assert statuses == {"converged"}


def test_a_gradient_that_is_not_a_number_is_named(float64):
    log_joint = lambda z: -0.5 * jnp.sum(z**2) - jnp.sqrt(jnp.abs(z[0]) * 0.0)
    assert str(jaxelbo.infer(log_joint, jnp.zeros(2), KEY).status) == "not finite"


def test_heavy_tails_are_still_a_poor_fit(float64):
    """A Gaussian for a Cauchy: weights are unlike."""
    log_joint = lambda z: -jnp.log1p(z**2)
    result = jaxelbo.infer(log_joint, 0.0, KEY)
    assert str(result.status) == "poor fit"
    normals = [stats.norm(0, scale) for scale in (1.5, 2.0, 2.5, 3.0)]
    best = max(normal.entropy() - normal.expect(lambda z: np.log1p(z**2)) for normal in normals)
    assert result.elbo > best - 0.05
