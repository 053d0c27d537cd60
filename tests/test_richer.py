"""`infer` that goes on with a richer family, where the evidence is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxelbo
from jaxelbo import families

KEY = jax.random.key(0)

pytestmark = pytest.mark.usefixtures("float64")


def mixture(noise):
    return families.mixture(families.full_rank(noise, initial_scale=1.0), 4)


def banana(latent):
    """A standard normal and one around its square: log evidence log(2 pi / 2)."""
    return -0.5 * latent["x"] ** 2 - 2.0 * (latent["y"] - latent["x"] ** 2) ** 2


def test_a_mixture_gains_where_a_gaussian_is_poor():
    result = jaxelbo.infer(banana, {"x": 0.1, "y": 0.0}, KEY, richer=mixture)
    richer, log_evidence = result.richer, np.log(np.pi)
    assert log_evidence - 0.35 < richer.elbo < log_evidence + 4 * richer.elbo_standard_error
    assert richer.gain > 0.25 + 4 * richer.gain_standard_error
    np.testing.assert_allclose(richer.gain, richer.elbo - result.elbo, rtol=1e-12)
    assert richer.effective_sample_size > result.effective_sample_size
    latents = jaxelbo.draws(richer.params, KEY, richer.family, num_samples=20_000)
    # The Gaussian cannot bend: where x is far from 0, y lies on the parabola under the mixture alone.
    far = np.abs(latents["x"]) > 1
    assert np.mean(latents["y"][far] > 0.5) > 0.9
    assert jaxelbo.draws(result.params, KEY, result.family, num_samples=20_000)["y"].mean() < latents["y"].mean()
    assert jaxelbo.infer(banana, {"x": 0.1, "y": 0.0}, KEY).richer is None


def test_nothing_is_gained_on_a_gaussian_and_units_do_not_matter():
    scales = np.array([1e4, 1e-4])
    log_joint = lambda z: -0.5 * jnp.sum((z / scales - 1) ** 2)
    result = jaxelbo.infer(log_joint, jnp.zeros(2), KEY, richer=mixture)
    assert -0.05 < result.richer.gain < 0.01


def test_in_jit_and_vmap():
    def of_one(width, key):
        return jaxelbo.infer(lambda z: -0.5 * jnp.sum((z / width) ** 2), jnp.zeros(2), key, richer=mixture).richer.gain

    gains = jax.jit(jax.vmap(of_one))(jnp.array([1.0, 10.0]), jax.random.split(KEY))
    assert np.all(np.abs(gains) < 0.05)


def test_bad_input():
    log_joint = lambda z: -jnp.sum(z**2)
    with pytest.raises(TypeError, match="richer must be a function"):
        jaxelbo.infer(log_joint, jnp.zeros(2), KEY, richer=3)
    with pytest.raises(TypeError, match="richer must be"):
        jaxelbo.infer(log_joint, jnp.zeros(2), KEY, richer=lambda noise: noise)
    with pytest.raises(ValueError, match=r"family must be of a vector \[2\]"):
        jaxelbo.infer(log_joint, jnp.zeros(2), KEY, richer=lambda noise: families.mean_field(jnp.zeros(3)))
