import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import jaxelbo
from jaxelbo import divergences, families
from tests import oracles

PAIRS = list(itertools.product(oracles.FAMILIES, oracles.FAMILIES))
TERMS = {"k1": divergences.k1, "k2": divergences.k2, "k3": divergences.k3}


@pytest.mark.parametrize(("name_q", "name_p"), PAIRS)
@pytest.mark.parametrize("dim", [1, 5])
def test_closed_form_is_the_textbooks(name_q, name_p, dim, dtype):
    q, p = oracles.FAMILIES[name_q](jnp.zeros(dim)), oracles.FAMILIES[name_p](jnp.zeros(dim))
    params_q, params_p = oracles.random_params(q, 0, spread=0.7), oracles.random_params(p, 1, spread=0.7)
    expected = oracles.gaussian_kl(
        np.asarray(params_q["loc"], np.float64),
        oracles.covariance_of(params_q),
        np.asarray(params_p["loc"], np.float64),
        oracles.covariance_of(params_p),
    )
    value = jaxelbo.kl_divergence(params_q, params_p, q, p)
    assert value.dtype == dtype
    np.testing.assert_allclose(value, expected, rtol=1e-5 if dtype == "float32" else 1e-11)
    if dtype == "float64":
        kl = lambda params_q, params_p: jaxelbo.kl_divergence(params_q, params_p, q, p)
        check_grads(kl, (params_q, params_p), order=1, modes=["rev"], atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("name", oracles.FAMILIES)
def test_zero_where_equal_and_small_beside(name, dtype):
    family = oracles.FAMILIES[name](jnp.zeros(3))
    params = oracles.random_params(family, 2)
    assert abs(jaxelbo.kl_divergence(params, params, family, family)) < (1e-6 if dtype == "float32" else 1e-14)
    step = 1e-3
    beside = params | {"log_scale": params["log_scale"] + step}
    # Second order: 2 D (step)^2 / 2.
    np.testing.assert_allclose(jaxelbo.kl_divergence(beside, params, family, family), 3 * step**2, rtol=2e-3)


def test_a_large_batch_of_gradients_ends():
    """Two independent batched solves would deadlock XLA's CPU backend here."""
    family = jaxelbo.families.full_rank(jnp.zeros(8))
    params = jax.vmap(lambda key: jax.tree.map(
        lambda leaf: leaf + 0.1 * jax.random.normal(key, leaf.shape), family.init(key)
    ))(jax.random.split(jax.random.key(0), 20_000))  # fmt: skip
    kl = lambda q, p: jaxelbo.kl_divergence(q, p, family, family)
    backwards = jax.tree.map(lambda leaf: leaf[::-1], params)
    gradient = jax.jit(jax.vmap(jax.grad(kl, argnums=(0, 1))))(params, backwards)
    one = jax.grad(kl, argnums=(0, 1))(*jax.tree.map(lambda leaf: leaf[7], (params, backwards)))
    jax.tree.map(
        lambda batch, single: np.testing.assert_allclose(batch[7], single, rtol=1e-3, atol=1e-3), gradient, one
    )


def quadrature_case():
    """q = N(m, e^2s), p = N(0, 1) on 200 fixed nodes; log densities as functions of (m, s)."""
    nodes, weights = oracles.hermite(120)
    theta = jnp.asarray([0.4, -0.3])
    log_q = lambda theta, z: -0.5 * ((z - theta[0]) / jnp.exp(theta[1])) ** 2 - theta[1]
    log_p = lambda z: -0.5 * z**2
    kl = lambda theta: -theta[1] + 0.5 * (jnp.exp(2 * theta[1]) + theta[0] ** 2 - 1)
    reverse = lambda theta: theta[1] + 0.5 * ((1 + theta[0] ** 2) * jnp.exp(-2 * theta[1]) - 1)
    return jnp.asarray(nodes), jnp.asarray(weights), theta, log_q, log_p, kl, reverse


def test_values_and_gradients_of_the_three_estimators():
    """The claims of their docstrings, as expectations by quadrature."""
    with jax.enable_x64(True):
        nodes, weights, theta, log_q, log_p, kl, reverse = quadrature_case()

        def expected(term, theta, draws_at):
            z = draws_at[0] + jnp.exp(draws_at[1]) * nodes
            return weights @ term(log_p(z) - log_q(theta, z))

        held_fixed = {name: jax.grad(lambda t, k=k: expected(k, t, theta))(theta) for name, k in TERMS.items()}
        through = {name: jax.grad(lambda t, k=k: expected(k, t, t))(theta) for name, k in TERMS.items()}
        values = {name: expected(k, theta, theta) for name, k in TERMS.items()}

        np.testing.assert_allclose(values["k1"], kl(theta), rtol=1e-10)
        np.testing.assert_allclose(values["k3"], kl(theta), rtol=1e-10)
        assert abs(values["k2"] - kl(theta)) > 0.01
        np.testing.assert_allclose(held_fixed["k1"], 0, atol=1e-10)
        np.testing.assert_allclose(held_fixed["k2"], jax.grad(kl)(theta), rtol=1e-10)
        np.testing.assert_allclose(held_fixed["k3"], jax.grad(reverse)(theta), rtol=1e-6)
        np.testing.assert_allclose(through["k1"], jax.grad(kl)(theta), rtol=1e-10)
        np.testing.assert_allclose(through["k3"], jax.grad(kl)(theta), rtol=1e-6)
        assert np.max(np.abs(through["k2"] - jax.grad(kl)(theta))) > 0.05


@pytest.mark.parametrize("term", TERMS.values(), ids=TERMS.keys())
def test_monte_carlo_estimates_its_estimand(term):
    with jax.enable_x64(True):
        q, p = jaxelbo.families.full_rank(jnp.zeros(2)), jaxelbo.families.mean_field(jnp.zeros(2))
        params_q = oracles.random_params(q, 3, spread=0.2)
        params_p = params_q | {"log_scale": params_q["log_scale"] - 0.3}
        params_p.pop("unit_tril")
        exact = jaxelbo.kl_divergence(params_q, params_p, q, p)
        value, error = jaxelbo.kl_monte_carlo(
            params_q, params_p, jax.random.key(0), q, p, num_samples=200_000, estimator=term
        )
        latents = jaxelbo.draws(params_q, jax.random.key(0), q, num_samples=200_000)
        ratio = jax.vmap(lambda z: p.log_prob(params_p, z) - q.log_prob(params_q, z))(latents)
        terms = np.asarray(term(ratio))
        np.testing.assert_allclose(value, terms.mean(), rtol=1e-8)
        np.testing.assert_allclose(error, terms.std(ddof=1) / np.sqrt(200_000), rtol=1e-8)
        if term is not divergences.k2:
            assert 4 * error < 0.03 * exact
            assert abs(value - exact) < 4 * error


def test_pairs_without_closed_form_name_the_next():
    family = jaxelbo.families.mean_field(0.0)
    other = family._replace(name="mine", distribution=None)
    params = family.init(jax.random.key(0))
    with pytest.raises(ValueError, match=r"KL\(mine \|\| mean_field\) has no closed form here; use kl_monte_carlo"):
        jaxelbo.kl_divergence(params, params, other, family)


def test_bad_input():
    q, p = jaxelbo.families.mean_field({"a": 0.0}), jaxelbo.families.mean_field({"b": 0.0})
    params, key = q.init(jax.random.key(0)), jax.random.key(0)
    with pytest.raises(ValueError, match=r"latent of family_q must have the structure that family_p asks for"):
        jaxelbo.kl_divergence(params, params, q, p)
    with pytest.raises(ValueError, match=r"params_p must have the structure that family full_rank asks for"):
        jaxelbo.kl_divergence(params, params, q, jaxelbo.families.full_rank({"a": 0.0}))
    with pytest.raises(TypeError, match=r"family_q must be a jaxelbo.Family, got float 1.0"):
        jaxelbo.kl_divergence(params, params, 1.0, p)
    with pytest.raises(ValueError, match=r"num_samples must be at least 2, got 1"):
        jaxelbo.kl_monte_carlo(params, params, key, q, q, num_samples=1)
    with pytest.raises(TypeError, match="key must be a JAX random key"):
        jaxelbo.kl_monte_carlo(params, params, 3, q, q, num_samples=4)
    with pytest.raises(
        ValueError, match="estimator must return a floating-point term for each of 4 samples, got an array of dtype"
    ):
        jaxelbo.kl_monte_carlo(params, params, key, q, q, num_samples=4, estimator=jnp.sum)


def test_categories_of_other_numbers():
    """Latents of one shape, supports that differ: refused in closed form, infinite by draws."""
    four, three = families.categorical(4), families.categorical(3)
    key = jax.random.key(0)
    arguments = four.init(key), three.init(key)
    with pytest.raises(ValueError, match=r"must be of one support, got a Categorical .* \(4,\) and \(3,\)"):
        jaxelbo.kl_divergence(*arguments, four, three)
    assert jaxelbo.kl_monte_carlo(*arguments, key, four, three, num_samples=100).value == jnp.inf
    assert three.log_prob(arguments[1], 7) == three.log_prob(arguments[1], -1) == -jnp.inf
