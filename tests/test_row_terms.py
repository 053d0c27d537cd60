"""Sums over rows: the mean over batches is the whole, pieces are the plain sum, in the memory of a piece."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxelbo
from jaxelbo import families
from tests.matrix import quick_jit

KEY = jax.random.key(0)
NORMAL = jax.scipy.stats.norm.logpdf


def data(num_rows=23):
    rng = np.random.default_rng(0)
    design = rng.normal(size=(num_rows, 3))
    return jnp.asarray(design), jnp.asarray(design @ [1.0, -2.0, 0.5] + 0.3 * rng.normal(size=num_rows))


def log_prior(z):
    return jnp.sum(NORMAL(z["w"])) + NORMAL(z["log_sd"])


def log_likelihood(z, row, y):
    return NORMAL(y, row @ z["w"], jnp.exp(z["log_sd"]))


def by_hand(z, design, y):
    return log_prior(z) + jnp.sum(NORMAL(y, design @ z["w"], jnp.exp(z["log_sd"])))


POINT = {"w": jnp.array([0.4, 0.1, -0.3]), "log_sd": jnp.array(0.2)}


def test_mean_over_the_batches_is_the_whole(float64):
    """Of the ELBO and its gradient, with a shorter last batch counted by its rows; and over random rows."""
    design, y = data()
    log_joint = jaxelbo.log_joint_of_rows(log_prior, log_likelihood, num_rows=23)
    point = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), POINT)
    np.testing.assert_allclose(log_joint(point, design, y), by_hand(point, design, y), rtol=1e-12)
    family = families.mean_field(point)
    params = family.init(KEY)

    def elbo(params, design, y):
        return jaxelbo.elbo(params, KEY, lambda z: log_joint(z, design, y), family, num_samples=4)

    whole = quick_jit(jax.value_and_grad(elbo))(params, design, y)
    batches = [(slice(start, min(start + 5, 23))) for start in range(0, 23, 5)]
    parts = [jax.value_and_grad(elbo)(params, design[rows], y[rows]) for rows in batches]
    shares = [len(y[rows]) / 23 for rows in batches]
    assert len(y[batches[-1]]) == 3
    mean = jax.tree.map(lambda *leaves: sum(s * leaf for s, leaf in zip(shares, leaves, strict=True)), *parts)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-11), mean, whole)


def test_a_fit_on_minibatches_reaches_the_posterior(float64):
    design, y = data(200)
    log_joint = jaxelbo.log_joint_of_rows(
        lambda z: jnp.sum(NORMAL(z)), lambda z, row, y: NORMAL(y, row @ z, 0.3), num_rows=200
    )
    family = families.full_rank(jnp.zeros(3))

    def loss(params, key, design, y):
        return -jaxelbo.elbo(params, key, lambda z: log_joint(z, design, y), family, num_samples=8)

    optimizer = optax.adam(optax.cosine_decay_schedule(0.02, 1_500))
    options = {"num_steps": 1_500, "data": (design, y), "batch_size": 20}
    result = jaxelbo.fit(family.init(KEY), KEY, loss, optimizer, **options)
    covariance = np.linalg.inv(np.eye(3) + design.T @ design / 0.09)
    mean = covariance @ (design.T @ y) / 0.09
    assert np.all(np.abs(result.params["loc"] - mean) < 0.3 * np.sqrt(np.diag(covariance)))


@pytest.mark.parametrize("rows_at_once", [1, 5, 23, 100])
def test_pieces_are_the_plain_sum(rows_at_once, float64):
    design, y = data()
    point = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), POINT)
    in_pieces = lambda z: jaxelbo.sum_over_rows(log_likelihood, z, design, y, rows_at_once=rows_at_once)
    plain = lambda z: by_hand(z, design, y) - log_prior(z)
    ours, expected = quick_jit(jax.value_and_grad(in_pieces))(point), jax.value_and_grad(plain)(point)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-11), ours, expected)


def test_memory_is_that_of_a_piece():
    """A network on 4,096 rows: value and gradient in a tenth of the plain sum's memory."""
    x = jax.ShapeDtypeStruct((4_096, 64), "float32")
    weights = [jax.ShapeDtypeStruct((64, 64), "float32")] * 6

    def term(weights, row):
        for weight in weights:
            row = jnp.tanh(row @ weight)
        return jnp.sum(row)

    plain = lambda weights, x: jnp.sum(jax.vmap(lambda row: term(weights, row))(x))
    pieces = lambda weights, x: jaxelbo.sum_over_rows(term, weights, x, rows_at_once=64)
    sizes = [
        jax.jit(jax.value_and_grad(function)).lower(weights, x).compile().memory_analysis().temp_size_in_bytes
        for function in (pieces, plain)
    ]
    assert sizes[0] < sizes[1] / 10


def test_bad_input(float64):
    design, y = data()
    log_joint = jaxelbo.log_joint_of_rows(log_prior, log_likelihood, num_rows=10)
    with pytest.raises(ValueError, match="batch must have at most num_rows = 10 rows, got 23"):
        log_joint(POINT, design, y)
    with pytest.raises(ValueError, match="batch must have a leading axis of at least one row"):
        log_joint(POINT, design[:0], y[:0])
    with pytest.raises(ValueError, match=r"batch.*rows"):
        log_joint(POINT, design[:3], y[:4])
    with pytest.raises(ValueError, match="log_likelihood must"):
        jaxelbo.log_joint_of_rows(log_prior, lambda z, row, y: row, num_rows=10)(POINT, design[:3], y[:3])
    with pytest.raises(ValueError, match="num_rows must be at least 1"):
        jaxelbo.log_joint_of_rows(log_prior, log_likelihood, num_rows=0)
    with pytest.raises(ValueError, match="rows_at_once must be at least 1"):
        jaxelbo.sum_over_rows(log_likelihood, POINT, design, y, rows_at_once=0)
    with pytest.raises(ValueError, match="data must hold at least one array"):
        jaxelbo.sum_over_rows(log_likelihood, POINT, rows_at_once=3)
