"""`infer` and natural gradients where no matrix D x D is made, against posteriors of low rank that are known."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxelbo
from jaxelbo import algorithms, families

KEY = jax.random.key(0)

pytestmark = pytest.mark.usefixtures("float64")


def posterior(size, values, seed=0, decades=3):
    """A Gaussian whose precision is diagonal but for a few directions, unscaled; its evidence and mean."""
    rng = np.random.default_rng(seed)
    scales, axes = 10 ** rng.uniform(-decades, decades, size), np.linalg.qr(rng.normal(size=(size, len(values))))[0]
    mean, excess = rng.normal(size=size) * scales, np.asarray(values) - 1

    def log_joint(latent):
        standard = (jnp.concatenate([latent["a"], latent["b"]]) - mean) / scales
        return -0.5 * (standard @ standard + jnp.sum(excess * (axes.T @ standard) ** 2))

    like = {"a": jnp.zeros(10), "b": jnp.zeros(size - 10)}
    log_evidence = 0.5 * size * np.log(2 * np.pi) + np.sum(np.log(scales)) - 0.5 * np.sum(np.log(values))
    diagonal = (1 + (axes**2) @ excess) / scales**2
    return log_joint, like, log_evidence, (mean, scales, diagonal)


def flat(latent):
    return np.concatenate([latent["a"], latent["b"]])


@pytest.mark.parametrize("values", [np.logspace(1, 3, 8), np.logspace(-3, -1, 8)], ids=["stiff", "soft"])
def test_full_rank_gives_way_to_low_rank(values):
    log_joint, like, log_evidence, (mean, scales, _) = posterior(600, values)
    result = jaxelbo.infer(log_joint, like, KEY)
    assert result.family.name == "low_rank"
    assert str(result.status) == "converged"
    assert log_evidence - 0.3 < result.elbo < log_evidence + 4 * result.elbo_standard_error + 1e-3
    location, _ = result.family.location_and_scale(result.params)
    np.testing.assert_allclose((flat(location) - mean) / scales, 0, atol=0.2)
    assert result.num_gradients < 5_000


def test_mean_field_beyond_a_few_hundred_entries():
    """Precisions are the diagonal of the precision matrix although 8 directions are stiff."""
    log_joint, like, _, (mean, _, diagonal) = posterior(400, np.logspace(0.5, 2, 8))
    result = jaxelbo.infer(log_joint, like, KEY, family=families.mean_field)
    assert result.family.name == "mean_field"
    location, scale = result.family.location_and_scale(result.params)
    kl_of_scales = np.sum(np.log(flat(scale) * np.sqrt(diagonal)) ** 2)
    assert kl_of_scales < 0.2
    assert np.sum((flat(location) - mean) ** 2 * diagonal) < 0.2


def test_low_rank_of_few_entries():
    """Also below a few hundred entries, where it is asked for; rescaled entries change nothing."""
    log_joint, like, log_evidence, _ = posterior(40, [50.0, 0.05])
    family = functools.partial(families.low_rank, rank=2)
    result = jaxelbo.infer(log_joint, like, KEY, family=family)
    assert str(result.status) == "converged"
    assert abs(result.elbo - log_evidence) < 0.05
    assert jax.tree.map(jnp.shape, result.params)["directions"] == (40, 2)


def test_a_skewed_posterior():
    """600 log gammas: the bound of the best independent Gaussian in closed form, which low rank need not beat."""
    rng = np.random.default_rng(0)
    shapes, rates = rng.uniform(2, 20, 600), 10 ** rng.uniform(-3, 3, 600)
    log_joint = lambda z: jnp.sum(shapes * z - rates * jnp.exp(z))
    mean, sd = np.log(shapes / rates) - 0.5 / shapes, shapes**-0.5
    best = np.sum(shapes * mean - shapes + np.log(sd) + 0.5 * np.log(2 * np.pi) + 0.5)
    result = jaxelbo.infer(log_joint, jnp.zeros(600), KEY)
    assert abs(result.elbo - best) < 0.5 + 4 * result.elbo_standard_error
    assert str(result.status) in ("converged", "poor fit", "step limit")


def test_an_idle_latent_among_many_is_named():
    result = jaxelbo.infer(lambda z: -0.5 * jnp.sum(z["a"] ** 2), {"a": jnp.zeros(400), "b": 0.0}, KEY)
    assert str(result.status) == "flat direction along latent['b']"


def test_a_hundred_thousand_entries_compile_without_a_square():
    """Temporary memory is of the order of D times the directions; D x D would take 40 gigabytes."""
    size = 100_000
    with jax.enable_x64(False):
        run = jax.jit(lambda key: jaxelbo.infer(lambda z: -jnp.sum(z**2), jnp.zeros(size, jnp.float32), key))
        compiled = run.lower(jax.random.key(0)).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 1e9


@pytest.mark.parametrize("values", [[50.0, 10.0, 0.05], [0.02, 0.1, 4.0]])
def test_natural_gradient_of_low_rank_learns_its_directions(values):
    """From random directions to the exact posterior; each step 8 gradients and 3 Hessian-vector products."""
    log_joint, like, log_evidence, _ = posterior(60, values, decades=1)
    family = families.low_rank(like, rank=3, initial_scale=1.0)
    far = {"a": jnp.full(10, 1.0), "b": jnp.full(50, -1.0)}
    algorithm = algorithms.natural_gradient(log_joint, family, num_samples=8)
    params = family.init(KEY, far)
    result = jaxelbo.run_algorithm(params, KEY, algorithm, num_steps=200)
    elbo = jaxelbo.elbo(result.params, KEY, log_joint, family, num_samples=1_000)
    assert abs(elbo - log_evidence) < 0.01
    curvature = np.sort(np.exp(-2 * result.params["log_stretch"]))
    np.testing.assert_allclose(curvature, np.sort(values), rtol=0.02)


def test_bad_input():
    family = families.low_rank(jnp.zeros(4), rank=2)
    with pytest.raises(ValueError, match="num_samples must be a multiple of 4"):
        algorithms.natural_gradient(lambda z: -jnp.sum(z**2), family, num_samples=6)
    with pytest.raises(ValueError, match=r"family must be families\.full_rank or families\.mean_field of a latent"):
        algorithms.fixed_draws(lambda z: -jnp.sum(z**2), family, num_samples=8)
    with pytest.raises(ValueError, match="rank must be at most the number of latent entries, 4, got 5"):
        jaxelbo.infer(lambda z: -jnp.sum(z**2), jnp.zeros(4), KEY, family=functools.partial(families.low_rank, rank=5))
