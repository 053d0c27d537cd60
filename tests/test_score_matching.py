"""Batch and match, Gaussian score matching: Gaussians are fixed points and are reached, in any coordinates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxelbo
from jaxelbo import algorithms, families, quasi_random
from tests import gaussian_problems as problems

KEY = jax.random.key(0)
MEAN, ROOT = np.array([1.0, -2.0, 0.5]), problems.mixing_matrix(3, 30.0)
METHODS = {
    "batch_and_match": lambda log_joint, family: algorithms.batch_and_match(
        log_joint, family, num_samples=16, step_size=50.0
    ),
    "gaussian_score_matching": lambda log_joint, family: algorithms.gaussian_score_matching(
        log_joint, family, num_samples=2
    ),
}


pytestmark = pytest.mark.usefixtures("float64")


def gaussian(z):
    return -0.5 * jnp.sum(jnp.linalg.solve(ROOT, z - MEAN) ** 2)


@pytest.mark.parametrize(("name", "num_steps"), [("batch_and_match", 12), ("gaussian_score_matching", 300)])
def test_reaches_a_gaussian(name, num_steps):
    family = families.full_rank(jnp.zeros(3), initial_scale=1.0)
    algorithm = METHODS[name](gaussian, family)
    result = jaxelbo.run_algorithm(family.init(KEY), KEY, algorithm, num_steps=num_steps)
    assert problems.kl_of_gaussians(problems.mean_and_root(result.params), (MEAN, ROOT)) < 1e-3
    assert result.history.score_distance[-1] < 1e-3 * result.history.score_distance[0]


@pytest.mark.parametrize("name", METHODS)
def test_the_posterior_stays(name):
    """At q = p every draw has the right score already, and no step moves."""
    family = families.full_rank(jnp.zeros(3))
    unit = np.tril(np.linalg.qr(ROOT.T)[1].T)
    unit = unit * np.sign(np.diag(unit))[None]
    scales = np.diag(unit)
    params = {"loc": jnp.asarray(MEAN), "log_scale": jnp.log(scales), "unit_tril": jnp.tril(unit / scales[:, None], -1)}
    result = jaxelbo.run_algorithm(params, KEY, METHODS[name](gaussian, family), num_steps=3)
    assert problems.kl_of_gaussians(problems.mean_and_root(result.params), (MEAN, ROOT)) < 1e-12


@pytest.mark.parametrize("name", METHODS)
def test_affine_equivariance(name):
    """The same draws in other coordinates, where the first q is the mapped one."""
    matrix = np.tril(problems.mixing_matrix(4, 1e3))
    matrix *= np.sign(np.diag(matrix))[None]
    family = families.full_rank(jnp.zeros(4), initial_scale=1.0)
    plain, mapped = (METHODS[name](f, family) for f in (problems.log_gammas, lambda z: problems.log_gammas(matrix @ z)))
    start, inverse = family.init(KEY), np.linalg.inv(matrix)
    scales = np.diag(inverse)
    there = start | {"log_scale": jnp.log(scales), "unit_tril": jnp.tril(inverse / scales[:, None], -1)}
    q = problems.mean_and_root(jaxelbo.run_algorithm(start, KEY, plain, num_steps=10).params)
    mean, root = problems.mean_and_root(jaxelbo.run_algorithm(there, KEY, mapped, num_steps=10).params)
    assert problems.kl_of_gaussians((matrix @ mean, matrix @ root), q) < 1e-9


def test_one_step_against_the_paper():
    """Batch and match by the paper's formula, in the coordinates of z and with a general square root."""
    family = families.full_rank(jnp.zeros(3), initial_scale=1.0)
    start, step_size, num_samples = family.init(KEY), 3.0, 16
    algorithm = algorithms.batch_and_match(problems_of_three, family, num_samples=num_samples, step_size=step_size)
    state, _ = algorithm.step(algorithm.init(start, KEY), KEY)
    draws = np.asarray(quasi_random.balanced_normals(KEY, num_samples, 3, jnp.float64))
    scores = np.asarray(jax.vmap(jax.grad(problems_of_three))(draws))
    z_bar, g_bar = draws.mean(0), scores.mean(0)
    c = (draws - z_bar).T @ (draws - z_bar) / num_samples
    gamma = (scores - g_bar).T @ (scores - g_bar) / num_samples
    share = step_size / (1 + step_size)
    u = step_size * gamma + share * np.outer(g_bar, g_bar)
    v = np.eye(3) + step_size * c + share * np.outer(-z_bar, -z_bar)
    values, vectors = np.linalg.eig(np.eye(3) + 4 * u @ v)
    covariance = 2 * v @ np.linalg.inv(np.eye(3) + (vectors * np.sqrt(values)) @ np.linalg.inv(vectors))
    mean = share * (covariance @ g_bar + z_bar)
    found, root = problems.mean_and_root(algorithm.params(state))
    np.testing.assert_allclose(found, mean, atol=1e-10)
    np.testing.assert_allclose(root @ root.T, covariance, atol=1e-10)


def problems_of_three(z):
    return jnp.sum(problems.SHAPES[:3] * z - problems.RATES[:3] * jnp.exp(z)) - 0.1 * z[0] * z[1]


def test_bad_input():
    family = families.full_rank(jnp.zeros(3))
    with pytest.raises(ValueError, match="step_size must be a positive number"):
        algorithms.batch_and_match(gaussian, family, num_samples=4, step_size=0.0)
    with pytest.raises(ValueError, match="family must be full_rank, got mean_field"):
        algorithms.gaussian_score_matching(gaussian, families.mean_field(jnp.zeros(3)), num_samples=2)
    with pytest.raises(ValueError, match="num_samples must be even"):
        algorithms.gaussian_score_matching(gaussian, family, num_samples=3)
