"""The structured Gaussian against dense ones in NumPy and SciPy, and at a size where D x D would not fit."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from jax.test_util import check_grads
from scipy import stats

import jaxelbo
from jaxelbo import families, structures
from tests.matrix import quick_jit

KEY = jax.random.key(0)
GRAPHS = {
    "independent": ((),) * 6,
    "full": tuple(tuple(range(entry)) for entry in range(6)),
    "blocks": structures.blocks((jnp.zeros(2), jnp.zeros(3), 0.0)).parents,
    "chain": structures.chain((jnp.zeros(3), jnp.zeros(3))).parents,
    "arrow": ((4, 5),) * 4 + ((5,), ()),
    "two causes of one effect": ((), (), (0, 1), (), (3, 2), (1,)),
    "any order": ((3,), (), (5, 0), (1,), (1, 3), (4, 0)),
}
on_graphs = pytest.mark.parametrize("parents", GRAPHS.values(), ids=GRAPHS.keys())


def make(parents, dtype="float64", seed=0):
    """A family of two leaves, params and the dense normal."""
    family = families.structured(
        {"a": jnp.zeros(2), "b": jnp.zeros((len(parents) - 2, 1))}, structures.Structure(parents)
    )
    rng, shapes = np.random.default_rng(seed), jax.eval_shape(family.init, KEY)
    params = {name: 0.7 * rng.normal(size=shape.shape) for name, shape in sorted(shapes.items())}
    normal = stats.multivariate_normal(params["loc"], covariance(params, parents))
    return family, {name: jnp.asarray(value, dtype) for name, value in params.items()}, normal


def covariance(params, parents, xp=np):
    """Entry by entry as regressions: (I - W)^-1 between the scales."""
    rows = [entry for entry, others in enumerate(parents) for _ in others]
    columns = [other for others in parents for other in others]
    places = [place for others in parents for place in range(len(others))]
    matrix = np.zeros((len(rows), len(parents), len(parents)))
    matrix[np.arange(len(rows)), rows, columns] = 1
    weights = xp.tensordot(params["weights"][rows, places], matrix, 1) if rows else np.zeros((len(parents),) * 2)
    root = xp.exp(params["log_scale"])[:, None] * xp.linalg.inv(np.eye(len(parents)) - weights)
    return root @ root.T


def flat(latent):
    return np.concatenate([np.ravel(np.asarray(leaf, np.float64)) for leaf in jax.tree.leaves(latent)])


@on_graphs
def test_density_entropy_and_spread(parents, dtype):
    family, params, exact = make(parents, dtype)
    tolerance = 1e-10 if dtype == "float64" else 2e-5
    latent, log_q = quick_jit(family.sample_and_log_prob)(params, KEY)
    np.testing.assert_allclose(log_q, exact.logpdf(flat(latent)), rtol=tolerance)
    np.testing.assert_allclose(family.log_prob(params, latent), log_q, rtol=tolerance)
    np.testing.assert_allclose(family.entropy(params), exact.entropy(), rtol=tolerance)
    np.testing.assert_array_equal(flat(quick_jit(family.sample)(params, KEY)), flat(latent))
    location, scale = quick_jit(family.location_and_scale)(params)
    np.testing.assert_allclose(flat(location), exact.mean, rtol=tolerance)
    np.testing.assert_allclose(flat(scale), np.sqrt(np.diag(exact.cov)), rtol=tolerance)
    assert log_q.dtype == family.log_prob(params, latent).dtype == family.entropy(params).dtype == dtype
    assert latent["a"].dtype == location["a"].dtype == scale["a"].dtype == dtype
    assert family.score_log_probs(params, latent).shape == (0,)


@on_graphs
def test_draws_have_the_distribution(parents):
    """Kolmogorov-Smirnov on three projections; 10,000 draws would show a shift of 0.03 sd."""
    family, params, exact = make(parents, "float32", seed=1)
    rows = jax.jit(jax.vmap(family.sample, (None, 0)))(params, jax.random.split(KEY, 10_000))
    rows = np.concatenate([np.reshape(leaf, (10_000, -1)) for leaf in jax.tree.leaves(rows)], axis=1)
    for direction in np.random.default_rng(5).normal(size=(3, 6)):
        sd = np.sqrt(direction @ exact.cov @ direction)
        assert stats.kstest((rows - exact.mean) @ direction / sd, "norm").pvalue > 1e-3


@pytest.mark.slow
def test_gradients_are_finite_differences(float64):
    family, params, _ = make(GRAPHS["any order"], seed=2)
    point = {"a": jnp.array([0.3, -1.0]), "b": jnp.array([[2.0], [0.1], [0.4], [-0.7]])}
    draw = jax.jit(lambda params: family.sample_and_log_prob(params, KEY))
    check_grads(draw, (params,), order=2, modes=["rev"], atol=1e-5, rtol=1e-5)
    check_grads(jax.jit(family.log_prob), (params, point), order=1, modes=["rev"], atol=1e-6, rtol=1e-6)
    check_grads(jax.jit(family.location_and_scale), (params,), order=1, modes=["rev"], atol=1e-6, rtol=1e-6)


def test_batches_of_params_and_keys():
    family = make(GRAPHS["any order"], "float32")[0]
    rows = [make(GRAPHS["any order"], "float32", seed)[1] for seed in range(3)]
    many = jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows)
    keys = jax.random.split(KEY, 3)
    both = lambda params, key: (family.sample_and_log_prob(params, key), family.location_and_scale(params))
    together, one = quick_jit(jax.vmap(both))(many, keys), quick_jit(both)
    for index, params in enumerate(rows):
        for got, want in zip(jax.tree.leaves(together), jax.tree.leaves(one(params, keys[index])), strict=True):
            np.testing.assert_allclose(got[index], want, rtol=1e-5, atol=1e-6)


def test_columns_beyond_the_parents_are_ignored():
    family, params, exact = make(GRAPHS["any order"], "float32")
    beyond = np.array([[len(parents) <= place for place in range(2)] for parents in GRAPHS["any order"]])
    spoilt = params | {"weights": jnp.where(beyond, jnp.nan, params["weights"])}
    loss = lambda params: sum(
        jnp.sum(leaf)
        for leaf in jax.tree.leaves((family.sample_and_log_prob(params, KEY), family.location_and_scale(params)))
    )
    compiled = quick_jit(jax.value_and_grad(loss))
    value, gradient = compiled(spoilt)
    np.testing.assert_allclose(value, compiled(params)[0], rtol=1e-6)
    assert np.all(np.asarray(gradient["weights"])[beyond] == 0)
    assert np.all(np.isfinite(gradient["weights"]))
    assert np.all(np.asarray(gradient["weights"])[~beyond] != 0)
    np.testing.assert_allclose(
        family.log_prob(spoilt, {"a": jnp.zeros(2), "b": jnp.zeros((4, 1))}), exact.logpdf(np.zeros(6)), rtol=1e-5
    )


@pytest.mark.parametrize("log_scales", [(-40.0,) * 6, (40.0,) * 6, (40.0, -40.0, 40.0, -40.0, 40.0, -40.0)])
def test_float32_extremes(log_scales):
    """Units of the latents change no correlation and no gradient in the weights."""
    family, params, _ = make(GRAPHS["any order"], "float32")
    plain, moved = params | {"log_scale": jnp.zeros(6)}, params | {"log_scale": jnp.array(log_scales)}
    moved["loc"] = plain["loc"] = jnp.zeros(6)  # else float32 itself loses what is 40 below a mean
    latent, log_q = family.sample_and_log_prob(moved, KEY)
    np.testing.assert_allclose(family.log_prob(moved, latent), log_q, rtol=1e-5, atol=1e-4)
    sds = flat(family.location_and_scale(plain)[1]), flat(family.location_and_scale(moved)[1])
    np.testing.assert_allclose(sds[1], sds[0] * np.exp(log_scales), rtol=1e-4)
    gradients = [
        jax.grad(family.log_prob)(here, family.sample(here, jax.random.key(1)))["weights"] for here in (plain, moved)
    ]
    np.testing.assert_allclose(gradients[1], gradients[0], rtol=1e-3, atol=1e-4)


def sparse_precision(rng, size):
    edges = np.triu(rng.random((size, size)) < 0.2, 1) * rng.normal(size=(size, size))
    edges = edges + edges.T
    precision = edges + np.diag(0.3 + np.sum(np.abs(edges), axis=1))
    scales = np.exp(2 * rng.normal(size=size))
    return scales[:, None] * precision * scales


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_reaches_a_gaussian_posterior_on_the_structure_found(seed, float64):
    rng = np.random.default_rng(seed)
    precision, mean = sparse_precision(rng, 10), rng.normal(size=10)
    log_joint = lambda z: -0.5 * (z - mean) @ precision @ (z - mean)
    structure = structures.from_log_joint(log_joint, jnp.zeros(10), KEY)
    assert sum(map(len, structure.parents)) < 35  # of 45
    reached(structure, mean, precision)


def test_reaches_any_gaussian_with_one_block(float64):
    root = np.random.default_rng(4).normal(size=(5, 7))
    reached(structures.blocks(jnp.zeros(5)), np.arange(5.0), root @ root.T)


def reached(structure, mean, precision):
    """Maximises the bound, written out with dense matrices; at its optimum q is the posterior."""
    family = families.structured(jnp.zeros(len(mean)), structure, initial_scale=0.1)
    params = family.init(KEY)
    weights, unravel = jax.flatten_util.ravel_pytree(params)
    log_evidence = 0.5 * (len(mean) * np.log(2 * np.pi) - np.linalg.slogdet(precision)[1])

    def divergence(weights):
        params = unravel(weights)
        shift = params["loc"] - mean
        quadratic = jnp.sum(precision * covariance(params, structure.parents, jnp)) + shift @ precision @ shift
        return log_evidence + 0.5 * quadratic - family.entropy(params)

    options = {"maxiter": 5_000, "maxfun": 10_000, "ftol": 0.0, "gtol": 1e-9, "maxcor": 60}
    value_and_grad = jax.jit(jax.value_and_grad(divergence))
    found = scipy.optimize.minimize(value_and_grad, np.asarray(weights), jac=True, method="L-BFGS-B", options=options)
    assert abs(found.fun) < 1e-8
    location, scale = family.location_and_scale(unravel(found.x))
    np.testing.assert_allclose(location, mean, atol=1e-3)
    np.testing.assert_allclose(scale, np.sqrt(np.diag(np.linalg.inv(precision))), rtol=1e-3)


@pytest.mark.slow
def test_gradient_of_the_bound_is_unbiased():
    """In the mean over 400,000 draws the gradient is that of the bound in closed form; 5 standard errors."""
    parents = GRAPHS["any order"]
    family, params, _ = make(parents, "float32")
    precision = np.eye(6) + 0.1 * np.ones((6, 6))
    log_joint = lambda z: (
        -0.5 * jnp.sum(z["a"] ** 2) - 0.5 * jnp.sum(z["b"] ** 2) - 0.05 * (jnp.sum(z["a"]) + jnp.sum(z["b"])) ** 2
    )
    loss = lambda params, key: jaxelbo.elbo(params, key, log_joint, family, num_samples=4_000)
    gradients = jax.jit(lambda keys: jax.lax.map(lambda key: jax.grad(loss)(params, key), keys))(
        jax.random.split(KEY, 100)
    )
    with jax.enable_x64(True):
        exact = lambda params: (
            family.entropy(params)
            - 0.5 * (jnp.sum(precision * covariance(params, parents, jnp)) + params["loc"] @ precision @ params["loc"])
        )
        expected = jax.grad(exact)(jax.tree.map(lambda leaf: leaf.astype("float64"), params))
    for name in params:
        found, error = np.mean(gradients[name], axis=0), np.std(gradients[name], axis=0) / 10
        assert np.all(np.abs(np.asarray(found) - np.asarray(expected[name])) < 5 * np.asarray(error) + 1e-5)
        assert np.max(error) < 0.02 * np.max(np.abs(expected[name]))  # a bias of a tenth would be seen


@pytest.mark.slow
@pytest.mark.parametrize("name", ["chain", "arrow"])
def test_a_step_in_twenty_thousand_dimensions(name):
    """A gradient of the bound holds a few arrays [S, D], where D x D takes 1.6 gigabytes; it takes milliseconds."""
    size, num_samples = 20_000, 2
    like = jax.ShapeDtypeStruct((size,), "float32")
    arrow = structures.Structure(((), (0,), (0, 1), *[(0, 1, 2)] * (size - 3)))
    family = families.structured(like, structures.chain(like) if name == "chain" else arrow)
    weight = 0.9 if name == "chain" else 0.5
    params = family.init(KEY) | {"weights": jnp.full_like(family.init(KEY)["weights"], weight)}
    num_parents = params["weights"].shape[1]
    loss = lambda params, key: jaxelbo.elbo(params, key, lambda z: -jnp.sum(z**2), family, num_samples=num_samples)
    compiled = jax.jit(jax.grad(loss)).lower(params, KEY).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 12 * num_samples * 4 * size * (1 + num_parents)
    start = time.perf_counter()
    gradient = jax.block_until_ready(compiled(params, KEY))
    assert time.perf_counter() - start < 2
    assert all(np.all(np.isfinite(leaf)) for leaf in gradient.values())

    spread = jax.jit(family.location_and_scale).lower(params).compile()
    assert spread.memory_analysis().temp_size_in_bytes < 12 * 4 * size * (1 + num_parents) ** 2
    last = {"chain": 1 / (1 - 0.9**2), "arrow": 1 + 0.5**2 * (2.25**2 + 1.5**2 + 1)}[name]  # its variance
    np.testing.assert_allclose(spread(params)[1][-1], 0.1 * np.sqrt(last), rtol=1e-5)
    latent, log_q = jax.jit(family.sample_and_log_prob)(params, KEY)
    np.testing.assert_allclose(family.log_prob(params, latent), log_q, rtol=1e-5)


def test_init_starts_where_it_is_told():
    like = {"a": 0.5, "b": jax.ShapeDtypeStruct((2,), "float32")}
    family = families.structured(like, structures.blocks(like, 0), initial_scale=0.5)
    np.testing.assert_allclose(family.init(KEY)["loc"], [0.5, 0.0, 0.0])
    params = family.init(KEY, start={"a": 3.0, "b": np.array([1.0, 2.0])})
    np.testing.assert_allclose(params["loc"], [3.0, 1.0, 2.0])
    np.testing.assert_allclose(flat(family.location_and_scale(params)[1]), 0.5)
    assert params["weights"].shape == (3, 2)


def test_one_entry_and_mixed_dtypes():
    family = families.structured(0.0, structures.blocks(0.0))
    latent, log_q = family.sample_and_log_prob(family.init(KEY), KEY)
    np.testing.assert_allclose(log_q, stats.norm.logpdf(latent, 0.0, 0.1), rtol=1e-6)
    like = {"x": jnp.zeros(2, jnp.bfloat16), "y": jnp.zeros(1)}
    family = families.structured(like, structures.blocks(like, "all"))
    assert family.sample(family.init(KEY), KEY)["x"].dtype == jnp.bfloat16


def test_bad_input():
    like = {"a": 0.0, "b": jnp.zeros(2)}
    with pytest.raises(ValueError, match="structure must have 3 entries for this latent, got 2"):
        families.structured(like, structures.chain(jnp.zeros(2)))
    with pytest.raises(ValueError, match="structure must have 3 entries for this latent, got 0"):
        families.structured(like, structures.Structure(()))
    with pytest.raises(ValueError, match="structure must have no cycle"):
        families.structured(like, structures.Structure(((2,), (0,), (1,))))
    with pytest.raises(ValueError, match=r"structure.parents\[2\] must hold entries from 0 to 2, got 3"):
        families.structured(like, structures.Structure(((), (), (3,))))
    with pytest.raises(TypeError, match=r"structure must be a structures.Structure, got function"):
        families.structured(like, structures.chain)
    with pytest.raises(ValueError, match="initial_scale must be positive"):
        families.structured(like, structures.blocks(like), initial_scale=0.0)
    with pytest.raises(ValueError, match="at least one leaf"):
        families.structured({}, structures.blocks(like))
    with pytest.raises(TypeError, match=r"latent_like must be floating-point"):
        families.structured(jnp.arange(3), structures.blocks(like))
    with pytest.raises(ValueError, match=r"start\['b'\] must have shape"):
        families.structured(like, structures.blocks(like)).init(KEY, start={"a": 0.0, "b": jnp.zeros(3)})
