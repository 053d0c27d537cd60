"""Every public function of params and key: eager = jit, vmap = loop, one trace, both kinds of key, dtypes kept."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxelbo
from jaxelbo import bounds, divergences, estimators, families
from tests import oracles

LIKE = {"a": jnp.zeros(()), "b": jnp.zeros(2)}


def log_joint(z):
    return -0.5 * jnp.sum(z["b"] ** 2) - 0.5 * z["a"] ** 2 - 0.1 * z["a"] ** 4


def loss_fn(params, key, family):
    return -jaxelbo.elbo(params, key, log_joint, family, num_samples=2)


def table(family, other):
    """Name -> function of (params, key)."""
    optimizer = optax.sgd(0.01)
    other_params = other.init(jax.random.key(0))
    rows = {
        f"elbo, {estimator.__name__}": lambda params, key, estimator=estimator: jaxelbo.elbo(
            params, key, log_joint, family, num_samples=3, estimator=estimator
        )
        for estimator in (
            estimators.pathwise,
            estimators.sticking_the_landing,
            estimators.closed_form_entropy,
            estimators.doubly_reparameterised,
            estimators.leave_one_out,
        )
    }
    rows["elbo of one draw"] = lambda params, key: jaxelbo.elbo(params, key, log_joint, family, num_samples=1)
    rows["gradient"] = lambda params, key: jax.grad(jaxelbo.elbo)(params, key, log_joint, family, num_samples=3)
    rows["lower_bound"] = lambda params, key: jaxelbo.lower_bound(
        params, key, log_joint, family, bound=bounds.importance_weighted, num_samples=3
    )
    rows["upper_bound"] = lambda params, key: jaxelbo.upper_bound(
        params, key, log_joint, family, bound=functools.partial(bounds.chi, n=2), num_samples=3
    )
    rows["log_weights"] = lambda params, key: jaxelbo.log_weights(params, key, log_joint, family, num_samples=3)
    rows["kl_divergence"] = lambda params, key: jaxelbo.kl_divergence(params, other_params, family, other)
    for term in (divergences.k1, divergences.k2, divergences.k3):
        rows[f"kl_monte_carlo, {term.__name__}"] = lambda params, key, term=term: jaxelbo.kl_monte_carlo(
            params, other_params, key, family, other, num_samples=3, estimator=term
        )
    rows["draws"] = lambda params, key: jaxelbo.draws(params, key, family, num_samples=3)
    rows["summary"] = lambda params, key: jaxelbo.summary(jaxelbo.draws(params, key, family, num_samples=9))
    rows["fit"] = lambda params, key: jaxelbo.fit(
        params, key, functools.partial(loss_fn, family=family), optimizer, num_steps=3
    )
    rows["sample_and_log_prob"] = family.sample_and_log_prob
    rows["location_and_scale"] = lambda params, key: family.location_and_scale(params)
    return rows


NAMES = list(table(families.mean_field(LIKE), families.full_rank(LIKE)))


@pytest.mark.parametrize("make", oracles.FAMILIES.values(), ids=oracles.FAMILIES.keys())
@pytest.mark.parametrize("name", NAMES)
def test_transformations(name, make, dtype):
    like = jax.tree.map(lambda leaf: leaf.astype(dtype), LIKE)
    family = make(like)
    function = table(family, families.full_rank(like))[name]
    params = oracles.random_params(family, 0, spread=0.3)
    keys = jax.random.split(jax.random.key(1), 3)
    batch = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf + 0.1, leaf - 0.1]), params)
    tolerance = {"rtol": 2e-4, "atol": 1e-5} if dtype == "float32" else {"rtol": 1e-10, "atol": 1e-12}

    eager = function(params, keys[0])
    traces = []
    jitted = jax.jit(lambda params, key: (traces.append(1), function(params, key))[1])
    chex.assert_trees_all_close(jitted(params, keys[0]), eager, **tolerance)
    jitted(jax.tree.map(lambda leaf: leaf + 1, params), keys[1])
    assert len(traces) == 1

    mapped = jax.vmap(function)(batch, keys)
    for index in range(3):
        one = function(jax.tree.map(lambda leaf, index=index: leaf[index], batch), keys[index])
        chex.assert_trees_all_close(jax.tree.map(lambda leaf, index=index: leaf[index], mapped), one, **tolerance)

    raw = function(params, jax.random.key_data(keys[0]))
    numbers = [leaf for leaf in jax.tree.leaves(eager) if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)]
    chex.assert_trees_all_equal([np.asarray(leaf) for leaf in jax.tree.leaves(raw)], [np.asarray(n) for n in numbers])
    for leaf in numbers:
        assert leaf.dtype == (dtype if jnp.issubdtype(leaf.dtype, jnp.floating) else jnp.int32)


def test_first_line_a_user_tries():
    """jax.grad(elbo)(...) and jax.jit(elbo, static_argnames=...), as they stand."""
    family = families.mean_field(LIKE)
    params, key = oracles.random_params(family, 3), jax.random.key(1)
    gradient = jax.grad(jaxelbo.elbo)(params, key, log_joint, family, num_samples=8)
    compiled = jax.jit(jaxelbo.elbo, static_argnames=("log_joint", "family", "num_samples", "estimator"))
    value = compiled(params, key, log_joint, family, num_samples=8)
    np.testing.assert_allclose(value, jaxelbo.elbo(params, key, log_joint, family, num_samples=8), rtol=1e-6)
    step = 1e-2 / max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(gradient))
    for name in params:
        direction = jax.tree.map(jnp.zeros_like, params) | {name: gradient[name]}
        ahead, behind = (
            compiled(
                jax.tree.map(lambda p, d, s=s: p + s * d, params, direction), key, log_joint, family, num_samples=8
            )
            for s in (step, -step)
        )
        np.testing.assert_allclose((ahead - behind) / (2 * step), jnp.sum(gradient[name] ** 2), rtol=2e-2)
