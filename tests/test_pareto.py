"""Pareto smoothing against SciPy's generalised Pareto distribution and integrals that are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxelbo import pareto


@pytest.mark.parametrize("shape", [0.1, 0.5, 0.9])
def test_shape_of_a_pareto_tail(shape):
    """Weights that are generalised Pareto altogether have its shape in their tail; mean over replicates."""
    weights = scipy.stats.genpareto(shape).rvs((200, 4000), random_state=np.random.default_rng(0))
    with jax.enable_x64(True):
        estimates = np.asarray(jax.vmap(lambda row: pareto.smooth(jnp.log(row)).pareto_k)(weights))
    expected = (shape * 190 + 5) / 200  # the tail has 190 weights, the prior ten of shape 1/2
    assert abs(estimates.mean() - expected) < 4 * estimates.std() / np.sqrt(200) + 0.02


def test_smoothing_lowers_the_error_of_a_mean():
    """E_p[z] for p = N(0, 1) from draws of N(0.8, 0.7): mean squared error against that of raw weights."""
    with jax.enable_x64(True):
        z = 0.8 + 0.7 * jax.random.normal(jax.random.key(0), (400, 500))
        log_weights = jax.scipy.stats.norm.logpdf(z) - jax.scipy.stats.norm.logpdf(z, 0.8, 0.7)
        smoothed = jnp.exp(jax.vmap(pareto.smooth)(log_weights).log_weights)
        raw = jax.nn.softmax(log_weights, axis=1)
        np.testing.assert_allclose(jnp.sum(smoothed, axis=1), 1, rtol=1e-12)
        errors = [float(jnp.mean(jnp.sum(weights * z, axis=1) ** 2)) for weights in (smoothed, raw)]
    assert errors[0] < errors[1]


def test_order_and_body_are_kept():
    log_weights = jax.random.normal(jax.random.key(1), (500,)) * 3
    smoothed = pareto.smooth(log_weights).log_weights
    order = np.argsort(log_weights)
    assert np.all(np.diff(np.asarray(smoothed)[order]) >= -1e-5)
    body = order[:-68]  # the tail is min(S / 5, 3 sqrt(S)) = 68 weights
    differences = np.asarray(smoothed - log_weights)[body]
    np.testing.assert_allclose(differences, differences[0], atol=1e-4)


def test_zero_weights_and_unsound_ones():
    log_weights = jax.random.normal(jax.random.key(2), (200,))
    with_zeros = pareto.smooth(log_weights.at[:20].set(-jnp.inf))
    assert np.isfinite(with_zeros.pareto_k) and np.all(np.exp(with_zeros.log_weights[:20]) == 0)
    for bad in (jnp.inf, jnp.nan):
        assert np.isnan(pareto.smooth(log_weights.at[3].set(bad)).pareto_k)
    assert np.isnan(pareto.smooth(jnp.full(50, -jnp.inf)).pareto_k)
    assert np.isinf(pareto.smooth(jnp.zeros(50)).pareto_k)  # equal weights have no tail
    assert np.isinf(pareto.smooth(log_weights[:10]).pareto_k)
    with pytest.raises(ValueError, match="log_weights must have shape"):
        pareto.smooth(jnp.zeros((3, 4)))
    with pytest.raises(TypeError, match="must be a floating-point array"):
        pareto.smooth(jnp.arange(4))


def test_effective_sample_size():
    weights = np.array([0.5, 0.25, 0.25])
    np.testing.assert_allclose(pareto.effective_sample_size(jnp.log(weights) + 7), 1 / np.sum(weights**2), rtol=1e-5)


ARVIZ = {
    "normal": (lambda rng: rng.normal(size=1_000), 0.10924108565511441, -4.707607406372681, -5.354551155602184),
    "heavy": (
        lambda rng: 2 * rng.standard_t(2, size=1_000),
        4.553045767473069,
        -0.007578041874076291,
        -16.6870876271892,
    ),
    "light": (lambda rng: -rng.exponential(size=400), -0.8817796014730882, -5.294621902557197, -5.321951754233508),
    "long": (lambda rng: 2.5 * rng.normal(size=4_000), 0.8285833465126697, -1.949519347703334, -5.020398130601635),
    "few": (lambda rng: 1.5 * rng.normal(size=60), 0.5836697428207759, -1.5643632595382746, -4.378168816289039),
    "minus_inf": (
        lambda rng: np.where(np.arange(500) % 7 == 0, -np.inf, rng.normal(size=500)),
        0.2312500048368714,
        -3.8472014196655913,
        -4.958824839004164,
    ),
}
"""Log-weights, one after the other from one generator, and what ``arviz.psislw`` of ArviZ 0.23.4 makes of them: k, the
largest and the twentieth largest smoothed log-weight."""


def test_as_arviz_has_it(float64):
    """The tail's length included, without which the twentieth weight would be another."""
    rng = np.random.default_rng(7)
    for make, pareto_k, largest, twentieth in ARVIZ.values():
        smoothed = pareto.smooth(jnp.asarray(make(rng)))
        log_weights = np.sort(smoothed.log_weights)
        found = float(smoothed.pareto_k), log_weights[-1], log_weights[-20]
        np.testing.assert_allclose(found, (pareto_k, largest, twentieth), rtol=1e-11)
