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


NUMBER = functools.partial(families.mean_field, 0.0)


def hierarchical_params(num_rows):
    local = {"amortised": jnp.array([0.4, 0.1, -0.3]), "each": jnp.linspace(-1.0, 1.0, 2 * num_rows).reshape(-1, 2)}
    return {"global": {"loc": jnp.array([0.3]), "log_scale": jnp.array([-0.7])}, "local": local}


def of_row(params, way, x, index):
    """The params of q(l_n): of an encoder, or a row of their own."""
    if way == "amortised":
        slope, shift, log_scale = params["local"]["amortised"]
        return {"loc": (slope * x + shift)[None], "log_scale": log_scale[None]}
    row = params["local"]["each"][index]
    return {"loc": row[:1], "log_scale": row[1:]}


def hierarchical_elbo(params, key, x, index, keys, *, way, num_rows):
    """g ~ N(0, 1), l_n ~ N(g, 1), x_n ~ N(l_n, 0.5): the bound of a batch, as the docstring says."""

    def log_likelihood(g, x, index, key):
        log_joint = lambda local: NORMAL(local, g) + NORMAL(x, local, 0.5)
        return jaxelbo.elbo(of_row(params, way, x, index), key, log_joint, NUMBER(), num_samples=2)

    log_joint = jaxelbo.log_joint_of_rows(NORMAL, log_likelihood, num_rows=num_rows)
    return jaxelbo.elbo(params["global"], key, lambda g: log_joint(g, x, index, keys), NUMBER(), num_samples=2)


def hierarchical_elbo_by_hand(params, x, *, way):
    """In closed form, each KL counted as often as its latent is there."""
    entropy = lambda log_scale: log_scale + 0.5 * jnp.log(2 * jnp.pi * jnp.e)
    expected = lambda mean, variance, scale: NORMAL(mean, 0.0, scale) - 0.5 * variance / scale**2
    loc, log_scale = params["global"]["loc"][0], params["global"]["log_scale"][0]
    total = expected(loc, jnp.exp(2 * log_scale), 1.0) + entropy(log_scale)
    for index, value in enumerate(x):
        local = of_row(params, way, value, index)
        mean, variance = local["loc"][0], jnp.exp(2 * local["log_scale"][0])
        total += expected(mean - loc, variance + jnp.exp(2 * log_scale), 1.0) + entropy(local["log_scale"][0])
        total += expected(value - mean, variance, 0.5)
    return total


@pytest.mark.parametrize("way", ["amortised", "each"])
def test_local_latents_beside_global_ones(way, float64):
    """The mean over batches is the whole draw by draw, and in the mean the closed form, gradients too."""
    x, index, params = jnp.linspace(-1.0, 2.0, 11), jnp.arange(11), hierarchical_params(11)
    elbo = functools.partial(hierarchical_elbo, way=way, num_rows=11)
    gradient = quick_jit(jax.value_and_grad(elbo))
    keys = jax.random.split(jax.random.key(1), 11)
    whole = gradient(params, KEY, x, index, keys)
    batches = [slice(0, 4), slice(4, 8), slice(8, 11)]
    parts = [gradient(params, KEY, x[rows], index[rows], keys[rows]) for rows in batches]
    shares = [4 / 11, 4 / 11, 3 / 11]
    mean = jax.tree.map(lambda *leaves: sum(s * leaf for s, leaf in zip(shares, leaves, strict=True)), *parts)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-12), mean, whole)

    def draw(key):
        key_rows, key_global, key_local = jax.random.split(key, 3)
        rows = jax.random.choice(key_rows, 11, (4,))
        return jax.value_and_grad(elbo)(params, key_global, x[rows], rows, jax.random.split(key_local, 4))

    draws = quick_jit(jax.vmap(draw))(jax.random.split(jax.random.key(2), 20_000))
    exact = jax.value_and_grad(functools.partial(hierarchical_elbo_by_hand, way=way))(params, x)
    assert abs(float(exact[0])) > 20  # a global KL counted with each row, or a local one once, would be far off
    for found, expected in zip(jax.tree.leaves(draws), jax.tree.leaves(exact), strict=True):
        error = np.std(found, axis=0) / np.sqrt(len(found))
        assert np.all(np.abs(np.mean(found, axis=0) - expected) < 4.5 * error + 1e-12)


def test_rows_in_bfloat16():
    """100,000 rows; latent and rows reach the likelihood rounded, and what comes back is near and of float32."""
    rng = np.random.default_rng(0)
    design = jnp.asarray(rng.normal(size=(100_000, 3)), jnp.float32)
    y = jnp.asarray(design @ jnp.array([1.0, -2.0, 0.5]) + 0.3 * rng.normal(size=100_000), jnp.float32)
    point = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), POINT)
    seen = []

    def watched(z, row, y):
        seen.append({leaf.dtype for leaf in jax.tree.leaves((z, row, y))})
        return log_likelihood(z, row, y)

    def of(**options):
        log_joint = jaxelbo.log_joint_of_rows(log_prior, watched, num_rows=100_000, **options)
        return jax.jit(jax.value_and_grad(lambda z: log_joint(z, design, y)))(point)

    (exact, exact_gradient), (value, gradient) = of(), of(compute_dtype=jnp.bfloat16)
    assert seen[0] == {jnp.dtype("float32")} and all(dtypes == {jnp.dtype("bfloat16")} for dtypes in seen[1:])
    assert value.dtype == jnp.float32 and abs(value / exact - 1) < 5e-3
    for ours, expected in zip(jax.tree.leaves(gradient), jax.tree.leaves(exact_gradient), strict=True):
        assert ours.dtype == jnp.float32
        np.testing.assert_allclose(ours, expected, rtol=0.02, atol=0.005 * np.max(np.abs(expected)))
    in_pieces = lambda z: jaxelbo.sum_over_rows(
        log_likelihood, z, design, y, rows_at_once=1_000, compute_dtype=jnp.bfloat16
    )
    np.testing.assert_allclose(jax.jit(in_pieces)(point), exact - log_prior(point), rtol=5e-3)


def test_sums_of_bfloat16_terms_are_exact():
    """Of 100,001 ones, where a sum in bfloat16 can be nothing between 99,840 and 100,352."""
    ones, product = jnp.ones(100_001), lambda z, x: z * x
    log_joint = jaxelbo.log_joint_of_rows(jnp.zeros_like, product, num_rows=100_001, compute_dtype=jnp.bfloat16)
    in_pieces = functools.partial(jaxelbo.sum_over_rows, product, compute_dtype=jnp.bfloat16, rows_at_once=1_000)
    assert log_joint(1.0, ones) == in_pieces(1.0, ones) == 100_001
    assert int(jnp.sum(ones.astype(jnp.bfloat16))) != 100_001
    for total in (lambda z: log_joint(z, ones), lambda z: in_pieces(z, ones)):
        assert jax.jit(jax.grad(total))(1.0) == 100_001


def test_a_bound_in_mixed_precision_is_float32_and_near():
    """Integers among the rows stay as they are; the fit ends where that of float32 does."""
    rng = np.random.default_rng(1)
    group = jnp.asarray(rng.integers(0, 3, 300))
    y = jnp.asarray(rng.normal(size=300) + np.array([0.0, 1.0, -2.0])[group], jnp.float32)
    family = families.mean_field(jnp.zeros(3, jnp.float32))
    ends = []
    for dtype in (None, jnp.bfloat16):
        log_joint = jaxelbo.log_joint_of_rows(
            lambda z: jnp.sum(NORMAL(z)), lambda z, group, y: NORMAL(y, z[group]), num_rows=300, compute_dtype=dtype
        )
        loss_fn = lambda params, key, log_joint=log_joint: (
            -jaxelbo.elbo(params, key, lambda z: log_joint(z, group, y), family, num_samples=16)
        )
        result = jaxelbo.fit(family.init(KEY), KEY, loss_fn, optax.adam(0.03), num_steps=600)
        assert result.history.loss.dtype == jnp.float32
        ends.append(result.params)
    sd = np.exp(ends[0]["log_scale"])
    assert np.all(np.abs(ends[1]["loc"] - ends[0]["loc"]) < 0.3 * sd)
    assert np.all(np.abs(ends[1]["log_scale"] - ends[0]["log_scale"]) < 0.15)


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
    for dtype in (jnp.int32, jnp.float16):
        with pytest.raises(TypeError, match="compute_dtype must be bfloat16, float32 or float64, got "):
            jaxelbo.log_joint_of_rows(log_prior, log_likelihood, num_rows=10, compute_dtype=dtype)
    with pytest.raises(TypeError, match="compute_dtype must be bfloat16, float32 or float64, got str 'rows'"):
        jaxelbo.sum_over_rows(log_likelihood, POINT, design, y, rows_at_once=3, compute_dtype="rows")
