"""Pathfinder against inverse curvatures written out in NumPy, and many paths against a mixture that is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxelbo
from jaxelbo import algorithms, families, gaussians, quasi_newton
from jaxelbo.algorithms import pathfinder_paths

KEY = jax.random.key(0)

pytestmark = pytest.mark.usefixtures("float64")


def test_gaussian_has_the_inverse_curvature_of_bfgs():
    """The covariance after three remembered steps is the one that the textbook recursion gives, dense."""
    rng = np.random.default_rng(0)
    size, root = 7, rng.normal(size=(7, 7))
    precision, diagonal = root @ root.T + np.eye(7), rng.uniform(0.5, 2.0, 7)
    memory, inverse = quasi_newton.empty(5, size, jnp.float64), np.diag(diagonal)
    for step in rng.normal(size=(3, size)):
        fall = precision @ step
        memory = quasi_newton.remember(memory, jnp.asarray(step), jnp.asarray(fall), jnp.asarray(True))
        left = np.eye(size) - np.outer(step, fall) / (step @ fall)
        inverse = left @ inverse @ left.T + np.outer(step, step) / (step @ fall)
    point, gradient = rng.normal(size=(2, size))
    q = pathfinder_paths._gaussian(jnp.asarray(point), jnp.asarray(gradient), memory, jnp.asarray(diagonal))
    columns = jax.vmap(lambda noise: gaussians.transform(q, noise) - q.loc)(jnp.eye(size))
    np.testing.assert_allclose(columns.T @ columns, inverse, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(q.loc, point + inverse @ gradient, rtol=1e-8)
    ascent = quasi_newton.ascent(memory, jnp.asarray(gradient), lambda vector: diagonal * vector)
    np.testing.assert_allclose(ascent, inverse @ gradient, rtol=1e-8)


def test_a_gaussian_posterior_is_found():
    rng = np.random.default_rng(1)
    root, mean = rng.normal(size=(5, 5)), rng.normal(size=5)
    precision = root @ root.T + np.eye(5)
    log_joint = lambda z: -0.5 * (z - mean) @ (precision @ (z - mean))
    result = jaxelbo.run_algorithm(jnp.zeros(5), KEY, algorithms.pathfinder(log_joint), num_steps=60)
    log_evidence = 2.5 * np.log(2 * np.pi) - 0.5 * np.linalg.slogdet(precision)[1]
    family = families.low_rank(jnp.zeros(5), rank=5)
    elbo = jaxelbo.elbo(result.params, KEY, log_joint, family, num_samples=4_000)
    assert log_evidence - 0.3 < elbo < log_evidence + 0.05
    np.testing.assert_allclose(result.params["loc"], mean, atol=0.05)


def test_many_paths_see_both_modes():
    """Weights of the two modes, 0.3 and 0.7, from paths that each see one."""

    def log_joint(latent):
        of_each = jax.scipy.stats.norm.logpdf(latent["a"], jnp.array([-4.0, 4.0]), jnp.array([0.5, 1.0]))
        return jax.nn.logsumexp(of_each, b=jnp.array([0.3, 0.7])) + jax.scipy.stats.norm.logpdf(latent["b"])

    starts = {"a": jnp.linspace(-6, 6, 12), "b": jnp.linspace(-2, 2, 12)}
    result = jaxelbo.pathfinder_draws(log_joint, starts, KEY, num_samples=4_000, num_steps=40)
    assert abs(np.mean(result.latents["a"] < 0) - 0.3) < 0.04  # whatever the share of paths that end there
    assert result.pareto_k < 0.7
    assert result.elbos.shape == (12,)


def test_bad_input():
    with pytest.raises(TypeError, match="log_joint must be a function"):
        algorithms.pathfinder(None)
    with pytest.raises(ValueError, match="memory_length must be at least 1"):
        algorithms.pathfinder(lambda z: z, memory_length=0)
    for starts in (0.0, jnp.zeros((0, 2))):
        with pytest.raises(ValueError, match="latents must have a leading axis of at least one start"):
            jaxelbo.pathfinder_draws(lambda z: -jnp.sum(z**2), starts, KEY, num_samples=10)
    with pytest.raises(ValueError, match="latents"):
        starts = {"a": jnp.zeros(3), "b": jnp.zeros(2)}
        jaxelbo.pathfinder_draws(lambda z: -(z["a"] ** 2), starts, KEY, num_samples=10)
