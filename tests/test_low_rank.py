"""The low-rank Gaussian against a dense one in NumPy, and at a size where D x D would not fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import jaxelbo
from jaxelbo import families

KEY = jax.random.key(0)


pytestmark = pytest.mark.usefixtures("float64")


def make():
    family = families.low_rank({"a": jnp.zeros(3), "b": jnp.zeros((2, 1))}, rank=2)
    rng = np.random.default_rng(0)
    params = {"loc": rng.normal(size=5), "log_scale": rng.normal(size=5), "directions": rng.normal(size=(5, 2))}
    params["log_stretch"] = np.array([-1.5, 0.8])
    return family, jax.tree.map(jnp.asarray, params), scipy.stats.multivariate_normal(params["loc"], covariance(params))


def covariance(params):
    """By QR with a positive diagonal, which is Gram and Schmidt's."""
    q, r = np.linalg.qr(params["directions"])
    axes = q * np.sign(np.diag(r))
    root = np.eye(5) + axes @ np.diag(np.exp(params["log_stretch"]) - 1) @ axes.T
    return np.diag(np.exp(params["log_scale"])) @ root @ root.T @ np.diag(np.exp(params["log_scale"]))


def flat(latent):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(latent)])


def test_density_entropy_and_spread():
    family, params, exact = make()
    latent, log_q = family.sample_and_log_prob(params, KEY)
    np.testing.assert_allclose(log_q, exact.logpdf(flat(latent)), rtol=1e-10)
    np.testing.assert_allclose(family.log_prob(params, latent), log_q, rtol=1e-10)
    np.testing.assert_allclose(family.entropy(params), exact.entropy(), rtol=1e-10)
    location, scale = family.location_and_scale(params)
    np.testing.assert_allclose(flat(location), exact.mean)
    np.testing.assert_allclose(flat(scale), np.sqrt(np.diag(exact.cov)))


def test_draws_have_its_covariance():
    family, params, exact = make()
    latents = jaxelbo.draws(params, KEY, family, num_samples=200_000)
    rows = np.concatenate([np.reshape(leaf, (200_000, -1)) for leaf in jax.tree.leaves(latents)], axis=1)
    whitened = np.linalg.solve(np.linalg.cholesky(exact.cov), (rows - exact.mean).T)
    np.testing.assert_allclose(whitened @ whitened.T / 200_000, np.eye(5), atol=0.02)  # 4.5 standard errors: 0.014


def test_gradient_of_the_entropy_term():
    """The mean gradient of log q through draws is the entropy's, by differences of SciPy's."""
    family, params, _ = make()
    gradient = jax.grad(family.entropy)(params)
    for name, shape in (("log_scale", (2,)), ("directions", (3, 1)), ("log_stretch", (0,))):
        moved = []
        for step in (1e-5, -1e-5):
            there = params | {name: params[name].at[shape].add(step)}
            moved.append(scipy.stats.multivariate_normal(np.zeros(5), covariance(there)).entropy())
        np.testing.assert_allclose(gradient[name][shape], (moved[0] - moved[1]) / 2e-5, rtol=1e-6, atol=1e-9)


def test_a_step_in_a_hundred_thousand_dimensions():
    """Temporary memory of a gradient of the bound is a few arrays [D, R], where D x D would take 40 gigabytes."""
    size, rank = 100_000, 10
    with jax.enable_x64(False):
        family = families.low_rank(jax.ShapeDtypeStruct((size,), "float32"), rank=rank)
        params = jax.eval_shape(family.init, KEY)
        loss = lambda params, key: jaxelbo.elbo(params, key, lambda z: -jnp.sum(z**2), family, num_samples=2)
        compiled = jax.jit(jax.grad(loss)).lower(params, jax.random.key(0)).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 12 * 4 * size * rank


def test_bad_input():
    with pytest.raises(ValueError, match="rank must be at least 1"):
        families.low_rank(jnp.zeros(3), rank=0)
    with pytest.raises(ValueError, match="rank must be at most the number of latent entries, 3, got 4"):
        families.low_rank(jnp.zeros(3), rank=4)
    with pytest.raises(TypeError, match="rank must be an integer"):
        families.low_rank(jnp.zeros(3), rank=1.5)
    with pytest.raises(ValueError, match="initial_scale must be positive"):
        families.low_rank(jnp.zeros(3), rank=1, initial_scale=0.0)
