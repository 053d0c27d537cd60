"""Families that are no Gaussians: densities, draws, implicit gradients, entropies, divergences."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import special, stats

import jaxelbo
from jaxelbo import families
from tests.matrix import quick_jit

KEY = jax.random.key(0)
MEMBERS = {
    "gamma": (families.gamma, {"log_concentration": 0.4, "log_rate": -0.3}, lambda a, b: stats.gamma(a, scale=1 / b)),
    "beta": (families.beta, {"log_concentration1": 0.4, "log_concentration0": 0.9}, stats.beta),
    "log_normal": (
        families.log_normal,
        {"loc": 0.3, "log_scale": -0.5},
        lambda m, s: stats.lognorm(s, scale=np.exp(m)),
    ),
    "laplace": (families.laplace, {"loc": 0.3, "log_scale": -0.5}, stats.laplace),
    "student_t": (families.student_t, {"log_df": 1.2, "loc": 0.3, "log_scale": -0.5}, stats.t),
}
LATENT = {"gamma": 1.0, "beta": 0.5, "log_normal": 1.0, "laplace": 0.0, "student_t": 0.0}


def case(name, count=2):
    """The family of a vector, params that differ by entry, and SciPy's distributions of the entries."""
    make, values, scipy = MEMBERS[name]
    params = {key: value + 0.5 * jnp.arange(count) / count for key, value in values.items()}
    usual = [np.exp(params[key]) if key.startswith("log_") else np.asarray(params[key]) for key in values]
    return make(jnp.full(count, LATENT[name])), params, [scipy(*each) for each in zip(*usual, strict=True)]


@pytest.mark.parametrize("name", MEMBERS)
def test_density_draws_moments_and_entropy(name, float64):
    family, params, scipy = case(name)
    latents = jaxelbo.draws(params, KEY, family, num_samples=20_000)
    for column, one in zip(latents.T, scipy, strict=True):
        assert stats.kstest(np.asarray(column), one.cdf).pvalue > 1e-3
    few = latents[:50]
    expected = sum(one.logpdf(np.asarray(column)) for column, one in zip(few.T, scipy, strict=True))
    np.testing.assert_allclose(quick_jit(jax.vmap(family.log_prob, (None, 0)))(params, few), expected, rtol=1e-9)
    drawn, log_q = family.sample_and_log_prob(params, KEY)
    np.testing.assert_allclose(log_q, family.log_prob(params, drawn), rtol=1e-12)
    np.testing.assert_allclose(family.entropy(params), sum(one.entropy() for one in scipy), rtol=1e-8)
    location, scale = family.location_and_scale(params)
    np.testing.assert_allclose(location, [one.mean() for one in scipy], rtol=1e-9)
    np.testing.assert_allclose(scale, [one.std() for one in scipy], rtol=1e-9)


@pytest.mark.parametrize("name", MEMBERS)
def test_gradients_through_draws(name, float64):
    """Of E_q[log(1 + z^2) + z / 2] in every parameter, against quadrature and differences, within 4 standard errors."""
    family, params, _ = case(name, 1)
    value = lambda params, key: jnp.sum(jnp.log1p(family.sample(params, key) ** 2) + 0.5 * family.sample(params, key))
    gradients = quick_jit(jax.vmap(jax.grad(value), (None, 0)))(params, jax.random.split(KEY, 40_000))
    _, names, make = MEMBERS[name]
    quantiles = (np.arange(200_000) + 0.5) / 200_000

    def exact(params):
        usual = [np.exp(params[key][0]) if key.startswith("log_") else params[key][0] for key in names]
        z = make(*map(float, usual)).ppf(quantiles)
        return np.mean(np.log1p(z**2) + 0.5 * z)

    for key in params:
        ends = [exact(params | {key: np.asarray(params[key]) + sign * 1e-3}) for sign in (1, -1)]
        terms = gradients[key][:, 0]
        assert abs(terms.mean() - (ends[0] - ends[1]) / 2e-3) < 4 * terms.std() / 200 + 2e-4, key


@pytest.mark.parametrize("name", ["gamma", "beta", "log_normal", "laplace"])
def test_kl_is_in_closed_form(name, float64):
    family, params, _ = case(name)
    other = jax.tree.map(lambda leaf: leaf + 0.3, params)
    latents = jaxelbo.draws(params, KEY, family, num_samples=50_000)
    log_ratio = jax.vmap(lambda z: family.log_prob(params, z) - family.log_prob(other, z))(latents)
    kl = jaxelbo.kl_divergence(params, other, family, family)
    assert abs(kl - log_ratio.mean()) < 4 * log_ratio.std() / np.sqrt(50_000)
    if name == "gamma":
        with_log_normal = families.log_normal(jnp.ones(2))
        params_p = with_log_normal.init(KEY)
        assert jaxelbo.kl_divergence(params, params_p, family, with_log_normal) > 0


@pytest.mark.parametrize("name", MEMBERS)
def test_starts_and_pytrees(name, dtype):
    make, _, _ = MEMBERS[name]
    value = {"gamma": 3.0, "beta": 0.2, "log_normal": 3.0}.get(name, -3.0)
    family = make({"a": value, "b": jax.ShapeDtypeStruct((2,), dtype)}, initial_scale=0.3)
    params = family.init(KEY)
    location, scale = family.location_and_scale(params)
    np.testing.assert_allclose(location["a"], value, rtol=1e-5)
    spread = {"gamma": 0.9, "log_normal": 0.9, "beta": 0.3 * 0.4}.get(name, 0.3)
    np.testing.assert_allclose(scale["a"], spread, rtol=1e-4)
    assert location["b"].shape == (2,) and location["b"].dtype == dtype
    elbo = jaxelbo.elbo(params, KEY, lambda z: -(z["a"] ** 2) - jnp.sum(z["b"] ** 2), family, num_samples=4)
    assert np.isfinite(elbo) and elbo.dtype == dtype


@pytest.mark.parametrize("name", ["gamma", "beta"])
def test_small_concentrations_in_float32(name):
    """Draws that round to an edge stay inside, with finite densities and gradients."""
    family, params, _ = case(name)
    params = {key: jnp.full(2, -6.0) for key in params}
    latents = jaxelbo.draws(params, KEY, family, num_samples=2_000)
    assert np.all(latents > 0) and (name == "gamma" or np.all(latents < 1))
    loss = lambda params, key: family.sample_and_log_prob(params, key)[1]
    gradients = jax.vmap(jax.grad(loss), (None, 0))(params, jax.random.split(KEY, 200))
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradients))


def test_dirichlet(float64):
    family = families.dirichlet(jnp.array([0.2, 0.5, 0.3]))
    params = {"log_concentration": jnp.log(jnp.array([0.8, 2.0, 1.3]))}
    scipy = stats.dirichlet([0.8, 2.0, 1.3])
    latents = jaxelbo.draws(params, KEY, family, num_samples=20_000)
    for index, a in enumerate((0.8, 2.0, 1.3)):
        assert stats.kstest(np.asarray(latents[:, index]), stats.beta(a, 4.1 - a).cdf).pvalue > 1e-3
    log_prob = jax.vmap(family.log_prob, (None, 0))(params, latents[:20])
    exact = np.asarray(latents[:20])
    np.testing.assert_allclose(log_prob, [scipy.logpdf(row / row.sum()) for row in exact], rtol=1e-7)
    np.testing.assert_allclose(family.entropy(params), scipy.entropy(), rtol=1e-9)
    location, scale = family.location_and_scale(family.init(KEY))
    np.testing.assert_allclose(location, [0.2, 0.5, 0.3], rtol=1e-9)
    np.testing.assert_allclose(scale, 0.1 * np.sqrt([0.16, 0.25, 0.21]), rtol=1e-9)
    # d E[log z_0] / d log a, exactly a (trigamma terms), by the implicit gradient of draws.
    value = lambda params, key: jnp.log(family.sample(params, key)[0])
    gradients = quick_jit(jax.vmap(jax.grad(value), (None, 0)))(params, jax.random.split(KEY, 40_000))
    a = np.array([0.8, 2.0, 1.3])
    expected = a * (special.polygamma(1, a) * [1, 0, 0] - special.polygamma(1, 4.1))
    terms = gradients["log_concentration"]
    assert np.all(np.abs(terms.mean(axis=0) - expected) < 4 * terms.std(axis=0) / 200)


def test_point_mass_finds_the_mode(float64):
    log_joint = lambda z: -jnp.cosh(z["a"] - 1.5)
    family = families.point_mass({"a": 0.0})
    loss = lambda params, key: -jaxelbo.elbo(params, key, log_joint, family, num_samples=1)
    fitted = jaxelbo.fit(family.init(KEY), KEY, loss, optax.adam(0.1), num_steps=300)
    np.testing.assert_allclose(family.location_and_scale(fitted.params)[0]["a"], 1.5, atol=1e-3)
    assert family.log_prob(fitted.params, {"a": jnp.asarray(7.0)}) == -np.inf


def test_the_exact_family_reaches_the_evidence(float64):
    """A gamma q on a gamma posterior: the bound is the evidence, whatever the draws."""
    family = families.gamma(jnp.ones(()))
    params = {"log_concentration": jnp.log(jnp.array([16.0])), "log_rate": jnp.log(jnp.array([6.0]))}
    log_joint = lambda rate: 15 * jnp.log(rate) - 6 * rate
    elbos = jax.vmap(lambda key: jaxelbo.elbo(params, key, log_joint, family, num_samples=1))(jax.random.split(KEY, 20))
    np.testing.assert_allclose(elbos, special.gammaln(16) - 16 * np.log(6), rtol=1e-10)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: families.gamma({"a": -1.0}).init(KEY), "The start of families.gamma must be positive"),
        (lambda: families.beta({"a": 1.5}).init(KEY), "The start of families.beta must be between 0 and 1"),
        (lambda: families.beta(0.5, initial_scale=1.0), "initial_scale must be below 1"),
        (lambda: families.gamma({"a": 1}), "latent_like"),
        (lambda: families.dirichlet(jnp.ones((2, 2))), "one vector of proportions"),
        (lambda: families.dirichlet(jnp.ones(1)), "at least 2 proportions"),
        (lambda: families.dirichlet(jnp.ones(3)).init(KEY), "must be positive and sum to one"),
        (lambda: families.student_t({}), "latent_like"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()
