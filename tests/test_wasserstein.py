"""Forward-backward steps in the Wasserstein geometry against their closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import jaxelbo
from jaxelbo import algorithms, families
from tests import gaussian_problems as problems

KEY = jax.random.key(0)

pytestmark = pytest.mark.usefixtures("float64")


def test_one_step_on_a_quadratic():
    """Balanced draws make the step exact; its proximal part solves Sigma - h I = half of Sigma, geometrically."""
    root = problems.mixing_matrix(3, 3.0)
    precision, mean, step_size = np.linalg.inv(root @ root.T), np.array([1.0, -2.0, 0.5]), 0.05
    family = families.full_rank(jnp.zeros(3), initial_scale=0.7)
    log_joint = lambda z: -0.5 * (z - mean) @ (precision @ (z - mean))
    algorithm = algorithms.wasserstein_gradient(log_joint, family, num_samples=8, step_size=step_size)
    result = jaxelbo.run_algorithm(family.init(KEY), KEY, algorithm, num_steps=1)
    found, factor = problems.mean_and_root(result.params)
    np.testing.assert_allclose(found, step_size * precision @ mean, rtol=1e-9)
    carried = np.eye(3) - step_size * precision
    half = carried @ (0.49 * np.eye(3)) @ carried
    widened = scipy.linalg.sqrtm(half @ (half + 4 * step_size * np.eye(3)))
    np.testing.assert_allclose(factor @ factor.T, 0.5 * (half + 2 * step_size * np.eye(3) + widened.real), rtol=1e-8)


def test_it_ends_at_the_best_gaussian():
    mean, sd, _ = problems.best_of_log_gammas()
    family = families.full_rank(jnp.zeros(4))
    algorithm = algorithms.wasserstein_gradient(problems.log_gammas, family, num_samples=64, step_size=0.05)
    result = jaxelbo.run_algorithm(family.init(KEY), KEY, algorithm, num_steps=400)
    assert problems.kl_of_gaussians(problems.mean_and_root(result.params), (mean, np.diag(sd))) < 0.02


def test_bad_input():
    family, log_joint = families.full_rank(jnp.zeros(2)), lambda z: -jnp.sum(z**2)
    with pytest.raises(ValueError, match="step_size must be a positive number"):
        algorithms.wasserstein_gradient(log_joint, family, num_samples=4, step_size=0.0)
    with pytest.raises(ValueError, match="family must be full_rank"):
        algorithms.wasserstein_gradient(log_joint, families.mean_field(jnp.zeros(2)), num_samples=4, step_size=0.1)
    with pytest.raises(ValueError, match="num_samples must be even"):
        algorithms.wasserstein_gradient(log_joint, family, num_samples=3, step_size=0.1)
