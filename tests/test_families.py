import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy import stats

from jaxelbo import families
from tests import oracles


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Latent:
    mean: jax.Array
    rest: dict


class Pair(NamedTuple):
    first: jax.Array
    second: jax.Array


LATENTS = {
    "scalar": 0.5,
    "vector": np.arange(3.0, dtype=np.float32),
    "nested": {"b": {"c": jnp.ones((2, 2))}, "a": 1.0},
    "tuple": (1.0, Pair(jnp.zeros(2), jnp.ones(()))),
    "dataclass": Latent(jnp.zeros(2), {"x": 1.0}),
    "shapes": {"x": jax.ShapeDtypeStruct((2,), "float32"), "y": 3.0},
    "half": {"x": jnp.zeros(2, jnp.bfloat16), "y": jnp.zeros(1)},
}
make_families = pytest.mark.parametrize("make", oracles.FAMILIES.values(), ids=oracles.FAMILIES.keys())


def flat(latent):
    return np.concatenate([np.ravel(np.asarray(leaf, np.float64)) for leaf in jax.tree.leaves(latent)])


@make_families
@pytest.mark.parametrize("like", LATENTS.values(), ids=LATENTS.keys())
def test_any_pytree(make, like):
    family = make(like)
    params = family.init(jax.random.key(0))
    latent, log_prob = family.sample_and_log_prob(params, jax.random.key(1))
    expected = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), jnp.result_type(leaf)), like)
    described = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), latent)
    assert described == expected
    assert jax.tree.structure(family.sample(params, jax.random.key(1))) == jax.tree.structure(expected)
    if "bfloat16" not in str(described):
        np.testing.assert_allclose(log_prob, family.log_prob(params, latent), rtol=1e-4)
    location, scale = family.location_and_scale(params)
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape) if isinstance(leaf, jax.ShapeDtypeStruct) else leaf, like)
    np.testing.assert_allclose(flat(location), flat(zeros))
    np.testing.assert_allclose(flat(scale), 0.1, rtol=5e-3)


@make_families
def test_init_starts_where_it_is_told(make):
    like = {"a": 0.0, "b": jnp.zeros(2)}
    family = make(like, initial_scale=0.5)
    params = family.init(jax.random.key(0), start={"a": 3.0, "b": np.array([1.0, 2.0])})
    np.testing.assert_allclose(params["loc"], [3.0, 1.0, 2.0])
    np.testing.assert_allclose(oracles.covariance_of(params), 0.25 * np.eye(3), rtol=1e-6)


@make_families
def test_density_and_entropy_are_scipys(make, dtype):
    family = make(jnp.zeros(4))
    params = oracles.random_params(family, 0)
    point = jnp.asarray(np.random.default_rng(1).normal(size=4), dtype)
    normal = stats.multivariate_normal(np.asarray(params["loc"], np.float64), oracles.covariance_of(params))
    tolerance = 1e-12 if dtype == "float64" else 1e-5
    np.testing.assert_allclose(family.log_prob(params, point), normal.logpdf(np.asarray(point)), rtol=tolerance)
    np.testing.assert_allclose(family.entropy(params), normal.entropy(), rtol=tolerance)
    np.testing.assert_allclose(family.location_and_scale(params)[1], np.sqrt(np.diag(normal.cov)), rtol=tolerance)
    latent, log_prob = family.sample_and_log_prob(params, jax.random.key(2))
    np.testing.assert_allclose(log_prob, normal.logpdf(np.asarray(latent)), rtol=10 * tolerance)
    assert log_prob.dtype == family.log_prob(params, latent).dtype == family.entropy(params).dtype == dtype
    assert family.score_log_probs(params, latent).shape == (0,)


@make_families
def test_draws_have_the_distribution(make):
    """Kolmogorov-Smirnov on three projections; 10,000 draws would show a shift of 0.03 sd."""
    family = make(jnp.zeros(3))
    params = oracles.random_params(family, 3)
    draws = jax.vmap(family.sample, (None, 0))(params, jax.random.split(jax.random.key(4), 10_000))
    covariance = oracles.covariance_of(params)
    for direction in np.random.default_rng(5).normal(size=(3, 3)):
        sd = np.sqrt(direction @ covariance @ direction)
        standard = (np.asarray(draws) - np.asarray(params["loc"])) @ direction / sd
        assert stats.kstest(standard, "norm").pvalue > 1e-3


@make_families
def test_gradients_are_finite_differences(make):
    with jax.enable_x64(True):
        family = make(jnp.zeros(3))
        params = oracles.random_params(family, 6)
        key, point = jax.random.key(7), jnp.asarray([0.3, -1.0, 2.0])
        check_grads(family.log_prob, (params, point), order=2, modes=["rev"], atol=1e-4, rtol=1e-4)
        check_grads(
            lambda p: family.sample_and_log_prob(p, key), (params,), order=1, modes=["rev"], atol=1e-6, rtol=1e-6
        )
        check_grads(family.entropy, (params,), order=1, modes=["rev"], atol=1e-6, rtol=1e-6)


@make_families
def test_float32_extremes(make):
    family = make(jnp.zeros(2))
    params = family.init(jax.random.key(0))
    for log_scale in (-40.0, 40.0):
        moved = params | {"log_scale": jnp.full(2, log_scale)}
        latent, log_prob = family.sample_and_log_prob(moved, jax.random.key(1))
        np.testing.assert_allclose(family.log_prob(moved, latent), log_prob, rtol=1e-5)
        np.testing.assert_allclose(family.entropy(moved), 2 * (log_scale + 0.5 * np.log(2 * np.pi * np.e)), rtol=1e-6)
        assert all(jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(jax.grad(family.log_prob)(moved, latent)))


def test_full_rank_ignores_what_is_above_the_diagonal():
    family = families.full_rank(jnp.zeros(3))
    params = oracles.random_params(family, 8)
    changed = params | {"unit_tril": jnp.tril(params["unit_tril"], -1) + 7 * jnp.triu(jnp.ones((3, 3)))}
    point = jnp.asarray([0.1, 0.2, 0.3])
    assert family.log_prob(params, point) == family.log_prob(changed, point)
    assert jnp.all(family.sample(params, jax.random.key(0)) == family.sample(changed, jax.random.key(0)))
    gradient = jax.grad(family.log_prob)(params, point)["unit_tril"]
    assert jnp.all(jnp.triu(gradient) == 0)


@make_families
@pytest.mark.parametrize(
    ("like", "error", "message"),
    [
        ({"a": 1}, TypeError, r"latent_like\['a'\] must be floating-point, got dtype int32; write 0.0 for 0"),
        ({"a": jnp.zeros(2, jnp.int8)}, TypeError, r"latent_like\['a'\] must be floating-point, got dtype int8"),
        ((0.0, True), TypeError, r"latent_like\[1\] must be floating-point, got dtype bool"),
        ({"a": "x"}, TypeError, r"latent_like\['a'\] must be a floating-point array or shape, got str 'x'"),
        ({"a": 1j}, TypeError, r"latent_like\['a'\] must be floating-point, got dtype complex64"),
        ({}, ValueError, "latent_like must have at least one leaf, got an empty pytree"),
        (None, ValueError, "latent_like must have at least one leaf"),
        (jnp.zeros((0,)), ValueError, "at least one number"),
    ],
)
def test_bad_latents(make, like, error, message):
    with pytest.raises(error, match=message):
        make(like)


@make_families
def test_bad_starts(make):
    family = make({"a": 0.0, "b": jnp.zeros(2)})
    key = jax.random.key(0)
    with pytest.raises(
        ValueError, match=r"start must have the structure .* expected leaves \[\"\['a'\]\", \"\['b'\]\"\]"
    ):
        family.init(key, start={"a": 0.0})
    with pytest.raises(ValueError, match=r"start\['b'\] must have shape \(2,\)"):
        family.init(key, start={"a": 0.0, "b": jnp.zeros(3)})
    with pytest.raises(ValueError, match="initial_scale must be positive"):
        make(0.0, initial_scale=-1.0)
    with pytest.raises(TypeError, match="initial_scale must be a number, got"):
        make(0.0, initial_scale="wide")
