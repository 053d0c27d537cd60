"""Limited-memory BFGS against a quadratic whose Newton step is known, and on draws that stay where q is skewed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxelbo import gaussian_moves, quasi_newton, quasi_random
from jaxelbo.algorithms import fixed_draw_ascent
from tests import gaussian_problems as problems

pytestmark = pytest.mark.usefixtures("float64")


def test_newton_step_of_a_quadratic():
    """After a step along each axis of a quadratic the direction is the Newton step, whatever the preconditioner."""
    precision = np.diag([1.0, 30.0, 0.2])
    memory = quasi_newton.empty(3, 3, jnp.float64)
    for axis in np.eye(3):
        memory = quasi_newton.remember(memory, jnp.asarray(axis), jnp.asarray(precision @ axis), jnp.asarray(True))
    gradient = jnp.array([1.0, -2.0, 3.0])
    found = quasi_newton.ascent(memory, gradient, lambda vector: 7.0 * vector)
    np.testing.assert_allclose(found, np.linalg.solve(precision, gradient), rtol=1e-10)


def test_without_memory_the_preconditioner_is_all():
    memory = quasi_newton.empty(4, 2, jnp.float64)
    np.testing.assert_array_equal(quasi_newton.ascent(memory, jnp.ones(2), lambda vector: 2 * vector), [2.0, 2.0])
    against = jnp.array([1.0, 0.0])  # a step along which the gradient rose says nothing of a maximum
    kept = quasi_newton.remember(memory, against, -against, jnp.asarray(True))
    np.testing.assert_array_equal(kept.steps, 0)
    full = quasi_newton.remember(memory, against, against, jnp.asarray(True))
    np.testing.assert_array_equal(quasi_newton.forget(full, jnp.asarray(True)).steps, 0)


def test_memory_saves_steps():
    """On heavily skewed, mixed entries the ascent has arrived where natural gradients on the same draws still climb.

    Each is compared with its own end: steps turn the draws, by which the optima differ.
    """
    shapes, mixing = np.array([0.1, 0.2, 0.3, 0.5]), problems.mixing_matrix(4, 4.0)
    log_joint = lambda latent: jnp.sum(shapes * (mixing @ latent) - jnp.exp(mixing @ latent))
    place = gaussian_moves.Place(jnp.zeros(4), jnp.eye(4), jnp.zeros(()))
    noise = quasi_random.balanced_normals(jax.random.key(0), 64, 4, jnp.float64)

    def left_to_climb(memory_length):
        at, objectives = fixed_draw_ascent.start(place, memory_length), []
        step = jax.jit(lambda at: fixed_draw_ascent.improve(log_joint, at, noise, None))
        for _ in range(80):
            at, info = step(at)
            objectives.append(float(info.objective))
        return objectives[-1] - objectives[25]

    assert left_to_climb(8) < 1e-5
    assert left_to_climb(0) > 1e-3
