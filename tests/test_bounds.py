import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from jax.test_util import check_grads

from jaxelbo import bounds

LOG_WEIGHTS = hnp.arrays(np.float64, st.sampled_from([1, 2, 5, 30]), elements=st.floats(-50, 50))


def naive_renyi(log_weights, alpha):
    """In extended precision, by the definition."""
    x = np.asarray(log_weights, np.longdouble)
    if alpha == 1:
        return float(np.mean(x))
    t = np.longdouble(1) - np.longdouble(alpha)
    top = np.max(t * x)
    return float((top + np.log(np.mean(np.exp(t * x - top)))) / t)


@hypothesis.settings(deadline=None, max_examples=100)
@hypothesis.given(LOG_WEIGHTS, st.sampled_from([-3.0, -1.0, 0.0, 0.3, 0.5, 0.9, 0.99, 1.01, 2.0]))
def test_renyi_is_its_definition(log_weights, alpha):
    with jax.enable_x64(True):
        value = bounds.renyi(jnp.asarray(log_weights), alpha)
    np.testing.assert_allclose(value, naive_renyi(log_weights, alpha), rtol=1e-12, atol=1e-12)


def test_renyi_passes_smoothly_through_its_limits(dtype):
    rng = np.random.default_rng(0)
    log_weights = jnp.asarray(rng.normal(size=20) * 3, dtype)
    tolerance = 1e-12 if dtype == "float64" else 1e-6
    assert bounds.renyi(log_weights, 1.0) == bounds.mean(log_weights)
    np.testing.assert_allclose(bounds.renyi(log_weights, 0.0), bounds.importance_weighted(log_weights), rtol=tolerance)
    # The slope at alpha = 1 is minus half the variance; on both sides of the places where the formula changes.
    slope = jax.grad(bounds.renyi, argnums=1)
    np.testing.assert_allclose(slope(log_weights, 1.0), -np.var(log_weights) / 2, rtol=1e-5)
    spread = float(jnp.ptp(log_weights))
    for edge in (1e-3 / spread, 1 / spread):
        near = [float(jnp.asarray(1 - edge * factor, dtype)) for factor in (0.999, 1.001)]
        values = [float(bounds.renyi(log_weights, alpha)) for alpha in near]
        slopes = [float(slope(log_weights, alpha)) for alpha in near]
        expected = [naive_renyi(log_weights, alpha) for alpha in near]
        np.testing.assert_allclose(values, expected, rtol=tolerance, atol=tolerance)  # log-weights are of size 3
        np.testing.assert_allclose(slopes[0], slopes[1], rtol=2e-2 if dtype == "float32" else 3e-3)
    for alpha in (1 - 1e-7, 1 + 1e-7, 1 - 1e-4):
        alpha = float(jnp.asarray(alpha, dtype))
        expected = naive_renyi(log_weights, alpha)
        np.testing.assert_allclose(bounds.renyi(log_weights, alpha), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("alpha", [-1.0, 0.0, 0.5, 1.0, 1 - 1e-6, 2.0])
def test_gradients_are_finite_differences(alpha):
    with jax.enable_x64(True):
        log_weights = jnp.asarray(np.random.default_rng(1).normal(size=6) * 2)
        for bound in (bounds.mean, bounds.importance_weighted, functools.partial(bounds.renyi, alpha=alpha)):
            check_grads(bound, (log_weights,), order=2, modes=["fwd", "rev"], atol=1e-5, rtol=1e-5)
        if abs(alpha - 1) != 1e-6:
            check_grads(bounds.renyi, (log_weights, alpha), order=1, modes=["rev"], atol=1e-5, rtol=1e-5)


def test_renyi_weights_are_powers_of_the_normalised_weights():
    with jax.enable_x64(True):
        log_weights = jnp.asarray(np.random.default_rng(2).normal(size=7))
        for alpha in (-1.0, 0.0, 0.4):
            expected = np.exp((1 - alpha) * log_weights)
            np.testing.assert_allclose(
                jax.grad(bounds.renyi)(log_weights, alpha), expected / expected.sum(), rtol=1e-10
            )


@hypothesis.settings(deadline=None, max_examples=100)
@hypothesis.given(LOG_WEIGHTS)
def test_orderings_hold_on_every_draw(log_weights):
    with jax.enable_x64(True):
        x = jnp.asarray(log_weights)
        chain = [bounds.renyi(x, 3.0), bounds.renyi(x, 1.5), bounds.mean(x), bounds.renyi(x, 0.5)]
        chain += [bounds.importance_weighted(x), bounds.chi(x, 1.5), bounds.chi(x, 2.0), bounds.chi(x, 4.0), jnp.max(x)]
    chain = np.asarray(chain)
    assert np.all(np.diff(chain) >= -1e-12 * (1 + np.max(np.abs(log_weights)))), chain


def test_chi_is_renyi():
    x = jnp.asarray([0.1, 2.0, -1.0])
    assert bounds.chi(x, 2.5) == bounds.renyi(x, -1.5)


def test_zero_weights():
    x = jnp.asarray([0.0, -jnp.inf])
    assert bounds.mean(x) == -jnp.inf
    assert bounds.renyi(x, 1.0) == -jnp.inf
    assert bounds.renyi(x, 2.0) == -jnp.inf
    np.testing.assert_allclose(bounds.importance_weighted(x), np.log(0.5), rtol=1e-6)
    np.testing.assert_allclose(bounds.renyi(x, 0.5), 2 * np.log(0.5), rtol=1e-6)
    np.testing.assert_allclose(bounds.chi(x, 2.0), np.log(0.5) / 2, rtol=1e-6)
    np.testing.assert_allclose(jax.grad(bounds.importance_weighted)(x), [1.0, 0.0], atol=1e-7)
    np.testing.assert_allclose(jax.grad(bounds.renyi)(x, 0.5), [1.0, 0.0], atol=1e-7)
    everything = jnp.asarray([-jnp.inf, -jnp.inf])
    assert bounds.importance_weighted(everything) == -jnp.inf


def test_extremes():
    x = jnp.asarray([1e4, -1e4, 3.0])
    for bound in (bounds.importance_weighted, lambda x: bounds.renyi(x, 0.5), lambda x: bounds.chi(x, 2.0)):
        assert 9_900 < bound(x) <= 10_000
    assert jnp.isnan(bounds.renyi(jnp.asarray([jnp.nan, 0.0]), 0.5))


@pytest.mark.parametrize(
    ("argument", "error", "message"),
    [
        (1.0, TypeError, "log_weights must be a floating-point array, got float 1.0"),
        (jnp.arange(3), TypeError, "log_weights must be a floating-point array, got an array of dtype int32"),
        (jnp.zeros((2, 3)), ValueError, r"log_weights must have shape \[S\], got \(2, 3\)"),
        (jnp.zeros(0), ValueError, "at least one sample"),
    ],
)
def test_bad_log_weights(argument, error, message):
    for bound in (bounds.mean, bounds.importance_weighted, functools.partial(bounds.renyi, alpha=0.5)):
        with pytest.raises(error, match=message):
            bound(argument)


def test_gradients_with_zero_weights():
    x = jnp.asarray([0.0, 1.0, -jnp.inf])
    with_two = lambda alpha: 1 / (1 - alpha) * jnp.log((1 + jnp.exp(1 - alpha)) / 3)
    np.testing.assert_allclose(jax.grad(bounds.renyi, argnums=1)(x, 0.5), jax.grad(with_two)(0.5), rtol=1e-5)
    np.testing.assert_allclose(jnp.sum(jax.grad(bounds.renyi)(x, 0.5)), 1.0, rtol=1e-6)
    np.testing.assert_allclose(jnp.sum(jax.grad(bounds.chi)(x, 2.0)), 1.0, rtol=1e-6)


def test_bad_orders():
    with pytest.raises(ValueError, match=r"n must be a scalar, got shape \(2,\)"):
        bounds.chi(jnp.zeros(3), jnp.ones(2))
    with pytest.raises(TypeError, match="n must be a real number, got str '2'"):
        bounds.chi(jnp.zeros(3), "2")
    with pytest.raises(TypeError, match="alpha must be a real number, got NoneType"):
        bounds.renyi(jnp.zeros(3), None)
    with pytest.raises(TypeError, match="alpha must be a real number, got complex 1j"):
        bounds.renyi(jnp.zeros(3), 1j)
    with pytest.raises(TypeError, match="log_weights must be a floating-point array, got list"):
        bounds.chi([1.0, 2.0], 2)


def test_bad_alpha():
    with pytest.raises(ValueError, match=r"alpha must be a scalar, got shape \(2,\)"):
        bounds.renyi(jnp.zeros(3), jnp.zeros(2))


BETAS = np.array([0.0, 0.1, 0.4, 1.0])


@hypothesis.settings(deadline=None, max_examples=60)
@hypothesis.given(LOG_WEIGHTS)
def test_thermodynamic_sums_on_every_draw(log_weights):
    """Their definition in extended precision, and mean <= left <= log-mean-exp <= right."""
    with jax.enable_x64(True):
        log_weights = jnp.asarray(log_weights)
        left = float(bounds.thermodynamic_left(log_weights, BETAS))
        right = float(bounds.thermodynamic_right(log_weights, BETAS))
        mean, iw = float(bounds.mean(log_weights)), float(bounds.importance_weighted(log_weights))
    x = np.asarray(log_weights, np.longdouble)
    powers = [np.exp(beta * (x - x.max())) for beta in BETAS]
    means = np.array([float(np.sum(p * x) / np.sum(p)) for p in powers])
    np.testing.assert_allclose(left, np.diff(BETAS) @ means[:-1], rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(right, np.diff(BETAS) @ means[1:], rtol=1e-11, atol=1e-11)
    slack = 1e-9
    assert mean <= left + slack and left <= iw + slack and iw <= right + slack


def test_thermodynamic_sums_at_their_ends():
    log_weights = jnp.array([0.5, -1.0, 2.0])
    ends = np.array([0.0, 1.0])
    np.testing.assert_allclose(bounds.thermodynamic_left(log_weights, ends), bounds.mean(log_weights), rtol=1e-6)
    fine = np.linspace(0, 1, 2001)
    for bound in (bounds.thermodynamic_left, bounds.thermodynamic_right):
        np.testing.assert_allclose(bound(log_weights, fine), bounds.importance_weighted(log_weights), atol=1e-3)
    assert bounds.thermodynamic_left(log_weights.at[0].set(-jnp.inf), BETAS) == -jnp.inf
    value, slope = jax.value_and_grad(bounds.thermodynamic_right)(log_weights.at[0].set(-jnp.inf), BETAS)
    assert np.isfinite(value) and np.all(np.isfinite(slope)) and slope[0] == 0


def test_jackknife_is_its_definition():
    """S L_S - (S - 1) times the mean of L_(S-1) without each draw, in NumPy; also with a weight of zero."""
    with jax.enable_x64(True):
        for log_weights in (np.array([0.3, -2.0, 1.1, 0.4]), np.array([0.3, -np.inf, 1.1])):
            size = len(log_weights)
            log_mean_exp = lambda x: np.log(np.mean(np.exp(x)))
            without = np.mean([log_mean_exp(np.delete(log_weights, s)) for s in range(size)])
            expected = size * log_mean_exp(log_weights) - (size - 1) * without
            np.testing.assert_allclose(bounds.jackknife(jnp.asarray(log_weights)), expected, rtol=1e-12)
            assert np.all(np.isfinite(jax.grad(bounds.jackknife)(jnp.asarray(log_weights))))


def test_expectations_bracket_the_evidence():
    """On an enumerable model, exactly: L_1 <= L_2 <= ... <= log p, the jackknife nearer than the bound it debiases,
    and the population chi bound and right sum above log p."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(4)
        log_joint, log_q = rng.normal(size=5), jax.nn.log_softmax(jnp.asarray(rng.normal(size=5)))
        log_w, q = jnp.asarray(log_joint) - log_q, np.exp(log_q)
        evidence = float(jax.nn.logsumexp(jnp.asarray(log_joint)))

        def expectation(bound, size):
            tuples = np.stack(np.meshgrid(*[np.arange(5)] * size, indexing="ij"), -1).reshape(-1, size)
            return float(np.prod(q[tuples], axis=1) @ jax.vmap(bound)(log_w[tuples]))

        weighted = [expectation(bounds.importance_weighted, size) for size in range(1, 6)]
        assert all(np.diff(weighted) > 0) and weighted[-1] < evidence
        assert abs(weighted[0] - q @ log_w) < 1e-12
        left = [expectation(functools.partial(bounds.thermodynamic_left, betas=BETAS), size) for size in range(1, 5)]
        assert all(np.diff(left) > 0) and left[-1] < evidence
        for size in (3, 4):
            assert abs(expectation(bounds.jackknife, size) - evidence) < evidence - weighted[size - 1]
        for n in (1.5, 2, 3):
            assert np.log(q @ np.exp(n * log_w)) / n > evidence + 1e-6
        tempered = [q * np.exp(beta * log_w) for beta in BETAS[1:]]
        right = np.diff(BETAS) @ [t @ log_w / t.sum() for t in tempered]
        assert right > evidence + 1e-6
