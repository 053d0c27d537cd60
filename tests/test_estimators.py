import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxelbo
from jaxelbo import bounds, estimators
from tests import oracles

ESTIMATORS = {
    "pathwise": estimators.pathwise,
    "sticking_the_landing": estimators.sticking_the_landing,
    "closed_form_entropy": estimators.closed_form_entropy,
}
each_estimator = pytest.mark.parametrize("estimator", ESTIMATORS.values(), ids=ESTIMATORS.keys())


def exact_elbo(params, theta, precision, mean):
    """E_q of -(z - theta mean)' P (z - theta mean) / 2 plus q's entropy, in closed form."""
    scale = jnp.exp(params["log_scale"])
    unit = jnp.eye(len(scale))
    if "unit_tril" in params:
        unit = unit + jnp.tril(params["unit_tril"], -1)
    root = scale[:, None] * unit
    shift = params["loc"] - theta * mean
    return -0.5 * (shift @ precision @ shift + jnp.trace(precision @ root @ root.T)) + jnp.sum(params["log_scale"])


@pytest.mark.slow
@each_estimator
@pytest.mark.parametrize("name", oracles.FAMILIES)
def test_gradients_are_unbiased(estimator, name):
    """Every leaf, model parameters too, along the exact gradient: within 4 standard errors, which show a 2% bias."""
    with jax.enable_x64(True):
        family = oracles.FAMILIES[name](jnp.zeros(2))
        params = {"loc": jnp.asarray([1.5, -1.0]), "log_scale": jnp.asarray([-1.2, -1.0])}
        if name == "full_rank":
            params["unit_tril"] = jnp.asarray([[0.0, 0.0], [1.5, 0.0]])
        precision, mean = jnp.asarray([[2.0, 0.6], [0.6, 1.0]]), jnp.asarray([1.0, -2.0])

        def value(params, theta, key):
            log_joint = lambda z: -0.5 * (z - theta * mean) @ precision @ (z - theta * mean)
            return jaxelbo.elbo(params, key, log_joint, family, num_samples=2, estimator=estimator)

        arguments = params, jnp.asarray(0.3)
        exact = jax.grad(exact_elbo, argnums=(0, 1))(*arguments, precision, mean)
        gradient = jax.jit(jax.vmap(jax.grad(value, argnums=(0, 1)), (None, None, 0)))
        samples = gradient(*arguments, jax.random.split(jax.random.key(1), 400_000))
        names = jaxelbo.checks.leaf_names(exact)
        for path, leaf, draws in zip(names, jax.tree.leaves(exact), jax.tree.leaves(samples), strict=True):
            size = jnp.sqrt(jnp.sum(leaf**2))
            along = np.asarray(jnp.sum((draws * leaf[None]).reshape(len(draws), -1), axis=1) / size)
            standard_error = along.std() / np.sqrt(len(along))
            assert 4 * standard_error < 0.02 * size, (path, "this test could not see a bias of 2%")
            assert abs(along.mean() - size) < 4 * standard_error, path
            errors = np.asarray(draws.std(axis=0)) / np.sqrt(len(draws))
            assert np.all(np.abs(np.asarray(draws.mean(axis=0) - leaf)) <= 4.5 * errors + 1e-12), path


@pytest.mark.slow
def test_importance_weighted_gradient_is_unbiased():
    """Against the exact gradient of E[bound at S = 2], by two-dimensional quadrature."""
    with jax.enable_x64(True):
        family = jaxelbo.families.mean_field(jnp.zeros(1))
        params = {"loc": jnp.asarray([0.8]), "log_scale": jnp.asarray([-0.2])}
        log_joint = lambda z: -0.5 * z[0] ** 2
        nodes, weights = oracles.hermite(80)
        for bound in (bounds.importance_weighted, functools.partial(bounds.renyi, alpha=0.5)):

            def exact(params, bound=bound):
                points = params["loc"][None] + jnp.exp(params["log_scale"])[None] * jnp.asarray(nodes)[:, None]
                log_w = jax.vmap(lambda z: log_joint(z) - family.log_prob(params, z))(points)
                pairs = jnp.stack([jnp.repeat(log_w, 80), jnp.tile(log_w, 80)], 1)
                return jnp.asarray(np.outer(weights, weights).ravel()) @ jax.vmap(bound)(pairs)

            def value(params, key, bound=bound):
                return jaxelbo.lower_bound(params, key, log_joint, family, bound=bound, num_samples=2)

            samples = jax.vmap(jax.grad(value), (None, 0))(params, jax.random.split(jax.random.key(0), 400_000))
            for name, expected in jax.grad(exact)(params).items():
                draws = np.asarray(samples[name][:, 0])
                standard_error = draws.std() / np.sqrt(len(draws))
                assert 4 * standard_error < 0.02 * abs(float(expected[0]))
                assert abs(draws.mean() - float(expected[0])) < 4 * standard_error


@pytest.mark.parametrize("name", oracles.FAMILIES)
def test_sticking_the_landing_has_no_variance_at_the_posterior(name, dtype):
    family = oracles.FAMILIES[name](jnp.zeros(4))
    params = oracles.random_params(family, 2, spread=0.5)
    fixed = jax.tree.map(jnp.asarray, params)
    log_joint = lambda z: family.log_prob(fixed, z) + 1.7
    keys = jax.random.split(jax.random.key(3), 1_000)

    def gradients(estimator):
        value = lambda params, key: jaxelbo.elbo(params, key, log_joint, family, num_samples=1, estimator=estimator)
        return jax.jit(jax.vmap(jax.grad(value), (None, 0)))(params, keys)

    plain, landed = gradients(estimators.pathwise), gradients(estimators.sticking_the_landing)
    limit = 1e-4 if dtype == "float32" else 1e-10
    for leaf, path in zip(params, params, strict=True):
        sd = np.asarray(plain[leaf], np.float64).std(axis=0)
        sd = np.max(sd) if leaf == "unit_tril" else sd  # the entries above the diagonal are not read
        assert np.all(sd > 0.1), path
        assert np.max(np.abs(landed[leaf]) / sd) < limit, path


def test_closed_form_entropy_is_its_two_terms(dtype):
    family = jaxelbo.families.full_rank(jnp.zeros(3))
    params, key = oracles.random_params(family, 4), jax.random.key(5)
    log_joint = lambda z: -jnp.sum(z**4)
    draws = jaxelbo.draws(params, key, family, num_samples=5)
    expected = np.mean([-np.sum(np.asarray(z, np.float64) ** 4) for z in draws]) + float(family.entropy(params))
    value = jaxelbo.elbo(params, key, log_joint, family, num_samples=5, estimator=estimators.closed_form_entropy)
    np.testing.assert_allclose(value, expected, rtol=1e-6 if dtype == "float32" else 1e-13)


def test_pathwise_gradient_needs_no_linear_solve():
    """The default step makes no LAPACK call; the path derivative makes one and shows that the count can see it."""
    family = jaxelbo.families.full_rank(jnp.zeros(5))
    params = family.init(jax.random.key(0))

    def calls(estimator):
        value = lambda params, key: jaxelbo.elbo(params, key, jnp.sum, family, num_samples=4, estimator=estimator)
        text = jax.jit(jax.grad(value)).lower(params, jax.random.key(1)).as_text()
        return text.count("triangular_solve") + text.count("custom_call")

    assert calls(estimators.pathwise) == calls(estimators.closed_form_entropy) == 0
    assert calls(estimators.sticking_the_landing) > 0


@each_estimator
def test_estimators_check_the_log_joint(estimator):
    family = jaxelbo.families.mean_field(0.0)
    params, key = family.init(jax.random.key(0)), jax.random.key(1)
    with pytest.raises(ValueError, match=r"log_joint must return a scalar, got shape \(1,\)"):
        estimator(params, key, lambda z: z[None], family, bounds.mean, 3)


@pytest.mark.parametrize("name", oracles.FAMILIES)
def test_sticking_the_landing_has_the_bounds_value(name):
    """To the last bit, where z - loc has lost half its digits too."""
    family = oracles.FAMILIES[name](jnp.full(3, 1e4), initial_scale=1e-2)
    params, key = family.init(jax.random.key(0)), jax.random.key(1)
    value = lambda estimator: jaxelbo.elbo(params, key, jnp.sum, family, num_samples=5, estimator=estimator)
    assert value(estimators.sticking_the_landing) == value(estimators.pathwise)
