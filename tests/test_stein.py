"""Stein variational gradient descent against moments that are known, and its direction against a naive double loop."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxelbo
from jaxelbo import algorithms

KEY = jax.random.key(0)


def log_joint(latent):
    return -0.5 * (latent["a"] - 1) ** 2 / 4 - 0.5 * jnp.sum((latent["b"] + latent["a"]) ** 2)


def test_moments_of_a_gaussian():
    """Means of a and b are 1 and -1; their standard deviations 2 and sqrt 5, of which particles keep nearly all."""
    particles = {"a": jax.random.normal(KEY, (200,)), "b": jax.random.normal(jax.random.key(1), (200, 1))}
    algorithm = algorithms.stein_descent(log_joint, optax.adam(0.1))
    result = jaxelbo.run_algorithm(particles, KEY, algorithm, num_steps=600)
    a, b = np.asarray(result.params["a"]), np.asarray(result.params["b"])[:, 0]
    np.testing.assert_allclose([a.mean(), b.mean()], [1, -1], atol=0.05)
    np.testing.assert_allclose([a.std(), b.std()], [2, np.sqrt(5)], rtol=0.12)
    assert result.history.discrepancy[-1] < 0.02 * result.history.discrepancy[0]


def test_direction_by_a_double_loop():
    points = np.random.default_rng(0).normal(size=(5, 2))
    particles = {"a": jnp.asarray(points[:, 0]), "b": jnp.asarray(points[:, 1:])}
    with jax.enable_x64(True):
        particles = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), {"a": points[:, 0], "b": points[:, 1:]})
        algorithm = algorithms.stein_descent(log_joint, optax.sgd(1.0))
        state, info = algorithm.step(algorithm.init(particles, KEY), KEY)
        moved = np.column_stack([state.latents["a"], state.latents["b"]]) - points
        gradient = jax.grad(lambda z: log_joint({"a": z[0], "b": z[1:]}))
        scores = np.stack([gradient(jnp.asarray(point)) for point in points])
    squares = np.array([[np.sum((x - y) ** 2) for y in points] for x in points])
    width = np.median(squares) / np.log(6)
    direction, discrepancy = np.zeros((5, 2)), 0.0
    for i in range(5):
        for j in range(5):
            kernel, apart = np.exp(-squares[i, j] / width), points[i] - points[j]
            direction[i] += kernel * (scores[j] + 2 / width * apart) / 5
            of_pair = scores[i] @ scores[j] + 2 / width * apart @ (scores[i] - scores[j])
            discrepancy += kernel * (of_pair + 4 / width - 4 * squares[i, j] / width**2) / 25
    np.testing.assert_allclose(moved, direction, atol=1e-12)
    np.testing.assert_allclose(info.discrepancy, discrepancy, rtol=1e-10)


def test_bad_input():
    with pytest.raises(TypeError, match="optimizer must be an optax"):
        algorithms.stein_descent(log_joint, None)
    algorithm = algorithms.stein_descent(lambda z: -jnp.sum(z**2), optax.sgd(0.1))
    with pytest.raises(ValueError, match="must have a leading axis of at least 2 particles"):
        jaxelbo.run_algorithm(jnp.zeros(1), KEY, algorithm, num_steps=1)
    with pytest.raises(ValueError, match="log_joint must return a scalar"):
        vector = algorithms.stein_descent(lambda z: -(z**2), optax.sgd(0.1))
        jaxelbo.run_algorithm(jnp.zeros((4, 3)), KEY, vector, num_steps=1)
