"""Mixtures and whitened families against SciPy's densities and quadrature, gradients included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import jaxelbo
from jaxelbo import estimators, families

KEY = jax.random.key(0)

pytestmark = pytest.mark.usefixtures("float64")

LOCS, LOG_SCALES, LOGITS = np.array([-1.5, 0.3, 2.0]), np.log([0.4, 1.0, 0.7]), np.array([0.2, -0.5, 0.6])


def make():
    """Three components on a line."""
    family = families.mixture(families.mean_field(0.0), 3)
    components = {"loc": jnp.asarray(LOCS)[:, None], "log_scale": jnp.asarray(LOG_SCALES)[:, None]}
    return family, {"logits": jnp.asarray(LOGITS), "components": components}


def density(logits, locs, log_scales, points):
    weights = np.exp(logits) / np.sum(np.exp(logits))
    return sum(
        w * scipy.stats.norm.pdf(points, m, np.exp(t)) for w, m, t in zip(weights, locs, log_scales, strict=True)
    )


def target(z):
    return -0.25 * z**4 + z - 0.3 * jnp.sin(3 * z)


GRID = np.linspace(-12, 12, 20_001)


def exact_bound(flat):
    q = density(*np.split(flat, 3)[::1], GRID)
    q = np.maximum(q, 1e-300)
    return np.trapezoid(q * (np.asarray(target(GRID)) - np.log(q)), GRID)


def exact_gradient():
    flat = np.concatenate([LOGITS, LOCS, LOG_SCALES])
    steps = 1e-5 * np.eye(len(flat))
    return np.array([(exact_bound(flat + step) - exact_bound(flat - step)) / 2e-5 for step in steps])


@pytest.mark.parametrize(
    ("estimator", "bar"),
    [(estimators.leave_one_out, 0.02), (estimators.enumeration, 0.015), (estimators.score_function, 0.06)],
    ids=["leave one out", "enumeration", "score function"],
)
def test_mean_gradient_is_that_of_the_bound(estimator, bar):
    """Implicit reparameterisation of the components and the score of the logits, against quadrature."""
    family, params = make()
    gradient = jax.grad(
        lambda params, key: jaxelbo.elbo(params, key, target, family, num_samples=4, estimator=estimator)
    )

    def flat(key):
        leaves = gradient(params, key)
        return jnp.concatenate(
            [leaves["logits"], leaves["components"]["loc"][:, 0], leaves["components"]["log_scale"][:, 0]]
        )

    gradients = np.asarray(jax.jit(jax.vmap(flat))(jax.random.split(KEY, 100_000)))
    error = gradients.std(axis=0) / np.sqrt(len(gradients))
    assert np.all(error < bar)  # what can be seen
    np.testing.assert_array_less(np.abs(gradients.mean(axis=0) - exact_gradient()), 4.5 * error)


def test_density_draws_and_moments():
    family, params = make()
    draws = np.asarray(jaxelbo.draws(params, KEY, family, num_samples=20_000))
    cdf = lambda z: sum(
        w * scipy.stats.norm.cdf(z, m, np.exp(t))
        for w, m, t in zip(np.exp(LOGITS) / np.exp(LOGITS).sum(), LOCS, LOG_SCALES, strict=True)
    )
    assert scipy.stats.kstest(draws, cdf).pvalue > 1e-3
    latent, log_q = family.sample_and_log_prob(params, KEY)
    np.testing.assert_allclose(log_q, np.log(density(LOGITS, LOCS, LOG_SCALES, float(latent))), rtol=1e-10)
    np.testing.assert_allclose(family.log_prob(params, latent), log_q, rtol=1e-10)
    mean, scale = family.location_and_scale(params)
    q = density(LOGITS, LOCS, LOG_SCALES, GRID)
    np.testing.assert_allclose(mean, np.trapezoid(q * GRID, GRID), rtol=1e-8)
    np.testing.assert_allclose(scale, np.sqrt(np.trapezoid(q * (GRID - mean) ** 2, GRID)), rtol=1e-8)


@pytest.mark.parametrize(
    "constructor", [families.full_rank, families.mean_field, lambda z: families.low_rank(z, rank=1)]
)
def test_one_component_is_the_family(constructor):
    """Density and pathwise gradient of a mixture of one."""
    single = constructor({"a": jnp.zeros(2), "b": 0.0})
    family, log_joint = families.mixture(single, 1), lambda z: -jnp.sum(z["a"] ** 4) + z["b"] * z["a"][0] - z["b"] ** 2
    params = single.init(KEY)
    params = jax.tree.map(lambda leaf: leaf + 0.3 * jax.random.normal(KEY, leaf.shape), params)
    stacked = {"logits": jnp.zeros(1), "components": jax.tree.map(lambda leaf: leaf[None], params)}
    latent, log_q = single.sample_and_log_prob(params, KEY)
    np.testing.assert_allclose(family.log_prob(stacked, latent), log_q, rtol=1e-9)
    one = jax.grad(lambda params: log_joint(single.sample(params, KEY)))(params)
    key = jax.random.split(KEY)[1]
    follow = jax.grad(lambda params: log_joint(family.sample(params, KEY)))(stacked)["components"]
    direct = jax.grad(lambda params: log_joint(single.sample(params, key)))(params)
    for name in one:
        np.testing.assert_allclose(follow[name][0], direct[name], rtol=1e-7, atol=1e-9)


def test_whitened_family():
    """Log densities by the change of variables, and a Gaussian base is a Gaussian."""
    gaussian = families.full_rank({"a": jnp.zeros(2), "b": 0.0})
    base = families.full_rank(jnp.zeros(3), initial_scale=1.0)
    family = families.whitened(base, gaussian)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) * 0.5), family.init(KEY))
    latent, log_q = family.sample_and_log_prob(params, KEY)
    np.testing.assert_allclose(family.log_prob(params, latent), log_q, rtol=1e-9)

    def root(params):
        return np.diag(np.exp(params["log_scale"])) @ (np.eye(3) + np.tril(params["unit_tril"], -1))

    outer, inner = root(params["gaussian"]), root(params["base"])
    mean = params["gaussian"]["loc"] + outer @ params["base"]["loc"]
    exact = scipy.stats.multivariate_normal(mean, outer @ inner @ inner.T @ outer.T)
    point = np.concatenate([latent["a"], [latent["b"]]])
    np.testing.assert_allclose(log_q, exact.logpdf(point), rtol=1e-9)
    np.testing.assert_allclose(family.entropy(params), exact.entropy(), rtol=1e-9)


def test_bad_input():
    with pytest.raises(ValueError, match="mixture needs a Gaussian family"):
        families.mixture(families.bernoulli(jnp.zeros(2)), 2)
    with pytest.raises(ValueError, match="num_components must be at least 1"):
        families.mixture(families.mean_field(0.0), 0)
    with pytest.raises(TypeError, match="family must be"):
        families.mixture(None, 2)
    gaussian = families.full_rank(jnp.zeros(3))
    with pytest.raises(ValueError, match=r"family must be of a vector \[3\]"):
        families.whitened(families.mean_field(jnp.zeros(2)), gaussian)
    with pytest.raises(ValueError, match="gaussian must be a Gaussian family"):
        families.whitened(families.mean_field(jnp.zeros(3)), families.bernoulli(jnp.zeros(3)))
