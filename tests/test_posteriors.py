import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxelbo
from tests import oracles


@pytest.mark.parametrize("make", oracles.FAMILIES.values(), ids=oracles.FAMILIES.keys())
def test_summary_of_draws_is_the_familys(make):
    """Means, deviations and 80% intervals of 40,000 draws, each within 5 standard errors (0.025 sd)."""
    family = make({"a": 0.0, "b": jnp.zeros(2)})
    params = oracles.random_params(family, 0)
    latents = jaxelbo.draws(params, jax.random.key(1), family, num_samples=40_000)
    assert jax.tree.map(jnp.shape, latents) == {"a": (40_000,), "b": (40_000, 2)}
    result = jaxelbo.summary(latents, probability=0.8)
    flat = lambda tree: np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])
    sd = np.sqrt(np.diag(oracles.covariance_of(params)))
    loc = np.asarray(params["loc"])
    np.testing.assert_array_less(np.abs(flat(result.mean) - loc) / sd, 5 / 200)
    np.testing.assert_array_less(np.abs(flat(result.sd) / sd - 1), 5 / 280)
    for end, quantile in ((result.lower, -1.2816), (result.upper, 1.2816)):
        np.testing.assert_array_less(np.abs((flat(end) - loc) / sd - quantile), 5 * 1.7 / 200)


def test_summary_is_numpys(dtype):
    draws = np.random.default_rng(0).normal(size=(50, 2)).astype(dtype)
    result = jaxelbo.summary({"a": jnp.asarray(draws)}, probability=0.5)
    np.testing.assert_allclose(result.mean["a"], draws.mean(0), rtol=1e-5)
    np.testing.assert_allclose(result.sd["a"], draws.std(0, ddof=1), rtol=1e-5)
    np.testing.assert_allclose(result.lower["a"], np.quantile(draws, 0.25, axis=0), rtol=1e-5)
    np.testing.assert_allclose(result.upper["a"], np.quantile(draws, 0.75, axis=0), rtol=1e-5)


@pytest.mark.parametrize(
    ("latents", "options", "error", "message"),
    [
        ({"a": jnp.zeros(())}, {}, ValueError, r"latents\['a'\] must have a leading axis of at least 2 draws"),
        ({"a": jnp.zeros(1)}, {}, ValueError, r"latents\['a'\] must have a leading axis of at least 2 draws.* got 1"),
        ((jnp.zeros(3), jnp.zeros(4)), {}, ValueError, r"latents\[1\] must have a leading axis .* got 4"),
        ({"a": jnp.arange(3)}, {}, TypeError, r"latents\['a'\] must be floating-point, got dtype int32"),
        ({}, {}, ValueError, "latents must have at least one leaf"),
        (jnp.zeros(3), {"probability": 1.0}, ValueError, "probability must be a number strictly between 0 and 1"),
        (jnp.zeros(3), {"probability": "x"}, ValueError, "probability must be a number strictly between 0 and 1"),
    ],
)
def test_bad_input(latents, options, error, message):
    with pytest.raises(error, match=message):
        jaxelbo.summary(latents, **options)


def test_bad_draws():
    family = jaxelbo.families.mean_field(0.0)
    params = family.init(jax.random.key(0))
    with pytest.raises(ValueError, match="num_samples must be at least 1"):
        jaxelbo.draws(params, jax.random.key(0), family, num_samples=0)
    with pytest.raises(ValueError, match="params must have the structure"):
        jaxelbo.draws({}, jax.random.key(0), family, num_samples=1)
    with pytest.raises(TypeError, match="key must be"):
        jaxelbo.draws(params, "key", family, num_samples=1)
