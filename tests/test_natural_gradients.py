"""Algorithms for Gaussian families against optima in closed form; balanced draws against the moments of a Gaussian."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxelbo
from jaxelbo import algorithms, families, gaussian_moves, quasi_random
from tests import gaussian_problems as problems

KEY = jax.random.key(0)


pytestmark = pytest.mark.usefixtures("float64")


def test_balanced_draws():
    """Third moments vanish and second are exact; fourth are near 3; the draws of two keys differ."""
    noise = np.asarray(quasi_random.balanced_normals(KEY, 400, 5, jnp.float64))
    np.testing.assert_allclose(noise.T @ noise / 400, np.eye(5), atol=1e-12)
    np.testing.assert_allclose(np.einsum("si,sj,sk->ijk", noise, noise, noise), 0, atol=1e-9)
    np.testing.assert_allclose(np.mean(noise**4, axis=0), 3, rtol=0.15)
    assert not np.allclose(noise, quasi_random.balanced_normals(jax.random.key(1), 400, 5, jnp.float64))
    few = np.asarray(quasi_random.balanced_normals(KEY, 4, 50, jnp.float64))
    np.testing.assert_allclose(np.mean(few**2, axis=0), 1, rtol=1e-12)


def test_places_and_parameters_agree():
    root = problems.mixing_matrix(4, 1e3) * 2
    place = gaussian_moves.Place(jnp.arange(4.0), jnp.asarray(root), jnp.linalg.slogdet(root)[1])
    back = gaussian_moves.place_of(gaussian_moves.gaussian_of(place.loc, place.factor))
    np.testing.assert_allclose(back.factor @ back.factor.T, root @ root.T, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(back.log_det, place.log_det, atol=1e-9)


@pytest.mark.parametrize("algorithm", [algorithms.natural_gradient, algorithms.fixed_draws])
@pytest.mark.parametrize("constructor", [families.full_rank, families.mean_field])
def test_a_quadratic_in_a_few_steps(algorithm, constructor):
    """Full rank: one step, up to the bounds on it. Mean field: precisions from the diagonal at once."""
    root = problems.mixing_matrix(3, 3.0)
    precision, mean = np.linalg.inv(root @ root.T), np.array([1.0, -2.0, 0.5])
    family = constructor(jnp.zeros(3), initial_scale=1.0)
    chosen = algorithm(lambda z: -0.5 * (z - mean) @ (precision @ (z - mean)), family, num_samples=16)
    result = jaxelbo.run_algorithm(family.init(KEY), KEY, chosen, num_steps=40)
    found, factor = problems.mean_and_root(result.params)
    exact = precision if constructor is families.full_rank else np.diag(np.diag(precision))
    np.testing.assert_allclose(found, mean, atol=1e-3)
    np.testing.assert_allclose(np.linalg.inv(factor @ factor.T), exact, rtol=1e-6, atol=1e-6)
    assert result.history.monte_carlo_error[-1] < (1e-9 if constructor is families.full_rank else np.inf)


def test_fixed_draws_know_their_error():
    """The shortfall of the optimum on S draws, over replicates, is of the size that each expects, and falls with S."""
    elbo = problems.best_of_log_gammas()[2]
    family, shortfalls, expected = families.full_rank(jnp.zeros(4)), {}, {}

    def bound(place):  # E_q of the log density in closed form
        covariance = place.factor @ place.factor.T
        moments = jnp.exp(place.loc + 0.5 * jnp.diag(covariance))
        return (
            jnp.sum(problems.SHAPES * place.loc - problems.RATES * moments)
            + place.log_det
            + 2 * (1 + jnp.log(2 * jnp.pi))
        )

    for num_samples in (64, 512):
        algorithm = algorithms.fixed_draws(problems.log_gammas, family, num_samples=num_samples)

        def run(key, algorithm=algorithm):
            result = jaxelbo.run_algorithm(family.init(key), key, algorithm, num_steps=15)
            return elbo - bound(result.algorithm_state.ascent.place), result.history.monte_carlo_error[-1]

        found, errors = jax.jit(jax.vmap(run))(jax.random.split(KEY, 24))
        shortfalls[num_samples], expected[num_samples] = float(jnp.mean(found)), float(jnp.mean(errors))
        assert np.all(found > 0)
        assert 0.2 < shortfalls[num_samples] / expected[num_samples] < 1.5  # skewness adds curvature
    assert shortfalls[512] < 0.3 * shortfalls[64]


def test_laplace():
    """The mode of a log gamma is log(a / b), its curvature a."""
    family = families.full_rank({"z": jnp.zeros(4)})
    algorithm = algorithms.laplace(lambda latent: problems.log_gammas(latent["z"]), family)
    result = jaxelbo.run_algorithm(family.init(KEY), KEY, algorithm, num_steps=12)
    mean, root = problems.mean_and_root(result.params)
    np.testing.assert_allclose(mean, np.log(problems.SHAPES / problems.RATES), atol=1e-6)
    np.testing.assert_allclose(root @ root.T, np.diag(1 / problems.SHAPES), atol=1e-5)


def test_newton_leaves_a_saddle():
    """From beside the saddle of a double well, where the curvature has the wrong sign, into a well."""
    well = lambda latent: -((latent["x"] ** 2 - 1) ** 2) - latent["y"] ** 2
    result = jaxelbo.run_algorithm({"x": 1e-3, "y": 1.0}, KEY, algorithms.newton(well), num_steps=12)
    np.testing.assert_allclose([abs(result.params["x"]), result.params["y"]], [1, 0], atol=1e-6)


def test_bad_input():
    family, log_joint = families.full_rank(jnp.zeros(2)), lambda z: -jnp.sum(z**2)
    with pytest.raises(ValueError, match="num_samples must be even"):
        algorithms.fixed_draws(log_joint, family, num_samples=5)
    with pytest.raises(ValueError, match=r"family must be families\.full_rank"):
        algorithms.natural_gradient(log_joint, families.bernoulli(jnp.zeros(2)), num_samples=4)
    with pytest.raises(ValueError, match=r"laplace has a full covariance"):
        algorithms.laplace(log_joint, families.mean_field(jnp.zeros(2)))
    with pytest.raises(TypeError, match="log_joint must be a function"):
        algorithms.newton(None)
    with pytest.raises(ValueError, match="params must have the structure"):
        algorithm = algorithms.natural_gradient(log_joint, family, num_samples=4)
        jaxelbo.run_algorithm(jnp.zeros(2), KEY, algorithm, num_steps=1)
    with pytest.raises(ValueError, match="log_joint must return a scalar"):
        jaxelbo.run_algorithm(jnp.zeros(2), KEY, algorithms.newton(lambda z: -z), num_steps=1)
