"""Linear response: exact for Gaussian posteriors, near for others, where mean field is far off."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxelbo
from jaxelbo import families
from tests import gaussian_problems as problems

KEY = jax.random.key(0)


pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.parametrize("constructor", [families.mean_field, families.full_rank])
def test_exact_for_a_gaussian(constructor):
    root = problems.mixing_matrix(3, 1e3)
    log_joint = lambda latent: -0.5 * jnp.sum(jnp.linalg.solve(root, jnp.append(latent["x"], latent["y"]) - 1) ** 2)
    latent_like = {"x": jnp.zeros(2), "y": 0.0}
    result = jaxelbo.infer(log_joint, latent_like, KEY, family=constructor)
    response = jax.jit(functools.partial(
        jaxelbo.linear_response, log_joint=log_joint, family=result.family, num_samples=8
    ))(result.params, KEY)  # fmt: skip
    np.testing.assert_allclose(response.covariance, root @ root.T, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(response.sd["y"], np.sqrt((root @ root.T)[2, 2]), rtol=1e-5)


def test_skewed_and_correlated():
    """A Poisson regression, against moments by quadrature: mean field is off by more than half."""
    covariate = np.linspace(2, 3, 12)
    counts = np.array([3, 2, 4, 3, 5, 4, 6, 4, 7, 5, 8, 7])

    def log_joint(z):
        return jnp.sum(counts * (z[0] + z[1] * covariate) - jnp.exp(z[0] + z[1] * covariate)) - jnp.sum(z**2) / 200

    result = jaxelbo.infer(log_joint, jnp.zeros(2), KEY, family=families.mean_field)
    evaluate = jax.jit(functools.partial(
        jaxelbo.linear_response, log_joint=log_joint, family=result.family, num_samples=2_000
    ))  # fmt: skip
    response = evaluate(result.params, jax.random.key(1))
    a, b = np.meshgrid(np.linspace(-8, 6, 800), np.linspace(-2.5, 4, 800), indexing="ij")
    values = np.asarray(jax.vmap(log_joint)(jnp.stack([a.ravel(), b.ravel()], 1))).reshape(a.shape)
    weights = np.exp(values - values.max())
    weights /= weights.sum()
    exact = [np.sqrt(np.sum(weights * axis**2) - np.sum(weights * axis) ** 2) for axis in (a, b)]
    mean_field = np.exp(np.asarray(result.params["log_scale"]))
    assert np.all(np.log(exact / mean_field) > 1)
    np.testing.assert_allclose(np.log(response.sd / np.array(exact)), 0, atol=0.1)


def test_bad_input():
    family = families.bernoulli(jnp.zeros(2))
    with pytest.raises(ValueError, match="linear_response needs"):
        jaxelbo.linear_response(family.init(KEY), KEY, jnp.sum, family, num_samples=2)
    gaussian = families.mean_field(jnp.zeros(2))
    with pytest.raises(ValueError, match="linear_response needs reparameterised draws"):
        detached = families.detached(gaussian)
        jaxelbo.linear_response(detached.init(KEY), KEY, jnp.sum, detached, num_samples=2)
    with pytest.raises(ValueError, match="log_joint must return a scalar"):
        jaxelbo.linear_response(gaussian.init(KEY), KEY, lambda z: z, gaussian, num_samples=2)
