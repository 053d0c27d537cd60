"""Products alone against NumPy's dense linear algebra."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxelbo
from jaxelbo import algorithms, krylov, low_rank_curvature

KEY = jax.random.key(0)

pytestmark = pytest.mark.usefixtures("float64")


def spectrum(size, values, seed=0):
    """A matrix of these eigenvalues, the rest 1, and the eigenvectors."""
    axes = np.linalg.qr(np.random.default_rng(seed).normal(size=(size, len(values))))[0]
    return np.eye(size) + axes @ np.diag(np.asarray(values) - 1) @ axes.T, axes


def test_extreme_eigenvalues():
    matrix, axes = spectrum(60, [1e-3, 0.1, 30.0, 500.0])
    values, vectors = krylov.lanczos(lambda vector: matrix @ vector, KEY, 60, 12, jnp.float64)
    values, vectors = np.asarray(values), np.asarray(vectors)
    np.testing.assert_allclose(values[[0, 1, -2, -1]], [1e-3, 0.1, 30.0, 500.0], rtol=1e-8)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(12), atol=1e-10)
    np.testing.assert_allclose(np.abs(axes.T @ vectors[:, [0, 1, -2, -1]]), np.eye(4), atol=1e-6)


def test_a_multiple_of_the_identity_has_no_spurious_eigenvalues():
    values, vectors = krylov.lanczos(lambda vector: 3 * vector, KEY, 20, 8, jnp.float64)
    np.testing.assert_allclose(values, 3, rtol=1e-12)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(8), atol=1e-10)


def test_newton_step():
    matrix, _ = spectrum(40, [0.01, 7.0, 300.0])
    right = np.random.default_rng(1).normal(size=40)
    solution, count = krylov.newton_step(lambda vector: matrix @ vector, jnp.asarray(right), jnp.ones(40), 30, 1e-10)
    np.testing.assert_allclose(solution, np.linalg.solve(matrix, right), rtol=1e-6)
    assert count <= 6  # as many as there are different eigenvalues, and rounding
    indefinite = np.diag([-1.0, 2.0])
    leads_up, _ = krylov.newton_step(lambda vector: indefinite @ vector, jnp.array([1.0, 0.0]), jnp.ones(2), 30, 1e-10)
    np.testing.assert_allclose(leads_up, [1.0, 0.0])  # along what curves up, as far as the gradient


def test_diagonal():
    matrix, _ = spectrum(50, [5.0, 20.0])
    exact = krylov.diagonal(lambda vector: matrix @ vector, KEY, 50, 50, jnp.float64)
    np.testing.assert_allclose(exact, np.diag(matrix), rtol=1e-10)
    many = jax.vmap(lambda key: krylov.diagonal(lambda vector: matrix @ vector, key, 8, 50, jnp.float64))
    estimates = np.asarray(many(jax.random.split(KEY, 4_000)))
    error = estimates.std(axis=0) / np.sqrt(4_000)
    np.testing.assert_array_less(np.abs(estimates.mean(axis=0) - np.diag(matrix)), 4.5 * error + 1e-12)


@pytest.mark.parametrize("values", [[200.0, 40.0, 9.0], [0.01, 0.05, 0.2], [0.02, 60.0, 10.0]])
def test_curvature_of_a_diagonal_and_a_few_directions(values):
    """Where it is exactly that, under scales over six orders, the view is exact: KL to the truth is nothing."""
    size = 80
    matrix, _ = spectrum(size, values)
    scales = 10 ** np.random.default_rng(2).uniform(-3, 3, size)
    precision = matrix / np.outer(scales, scales)
    start = 1 / np.sqrt(np.diag(precision))
    view = low_rank_curvature.view(lambda vector: precision @ vector, jnp.asarray(start), KEY, rank=3, num_looks=8)
    root = np.diag(view.scale) @ (np.eye(size) + view.axes @ np.diag(np.expm1(view.log_stretch)) @ view.axes.T)
    inner = root.T @ precision @ root
    kl = 0.5 * (np.trace(inner) - size - np.linalg.slogdet(inner)[1])
    assert kl < 1e-3


def test_newton_cg_climbs_an_unscaled_regression():
    """Columns of scales from 0.01 to 100, many entries; the mode by dense linear algebra."""
    rng = np.random.default_rng(0)
    design = rng.normal(size=(300, 60)) * 10 ** rng.uniform(-2, 2, 60)
    response = design @ (rng.normal(size=60) / np.abs(design).mean(axis=0)) + rng.normal(size=300)
    mode = np.linalg.solve(design.T @ design, design.T @ response)
    log_joint = lambda z: -0.5 * jnp.sum((response - design @ z) ** 2)
    result = jaxelbo.run_algorithm(jnp.zeros(60), KEY, algorithms.newton_cg(log_joint), num_steps=12)
    off = np.asarray(result.params) - mode
    assert 0.5 * off @ (design.T @ design) @ off < 1e-3
    assert result.algorithm_state.climb.num_products < 12 * 73
