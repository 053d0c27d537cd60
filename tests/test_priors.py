"""The bound with a prior, and the sleep phase, against listing and quadrature."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxelbo
from jaxelbo import families
from tests import matrix

KEY = jax.random.key(0)


def assert_mean_gradient(value, arguments, expected, num_replicates=200_000):
    """Each leaf along the exact gradient, within 4 standard errors that would show 2%."""
    numbers = tuple(range(len(arguments)))
    keys = jax.random.split(KEY, num_replicates)
    gradient = jax.jit(jax.vmap(jax.grad(value, argnums=numbers), (*([None] * len(arguments)), 0)))
    for leaf, draws in zip(jax.tree.leaves(expected), jax.tree.leaves(gradient(*arguments, keys)), strict=True):
        leaf, draws = np.asarray(leaf), np.asarray(draws)
        ratio = np.sum((draws * leaf[None]).reshape(len(draws), -1), axis=1) / np.sum(leaf**2)
        error = ratio.std() / np.sqrt(len(ratio))
        assert 4 * error < 0.02 and abs(ratio.mean() - 1) < 4 * error + 1e-12, (ratio.mean(), error)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bernoulli", "sequential"])
def test_gradients_by_listing(kind):
    """q, prior, likelihood and weight; a closed-form divergence, and one by draws."""
    with jax.enable_x64(True):
        if kind == "bernoulli":
            family = families.bernoulli(jnp.zeros((3, 1)))
            params, prior = {"logits": jnp.array([0.3, -0.8, 0.5])}, {"logits": jnp.array([1.0, -0.2, -0.6])}
        else:
            family = matrix.chain_of_bits()
            params = {"bias": jnp.array([0.9]), "weight": jnp.array([1.2])}
            prior = {"bias": jnp.array([-0.6]), "weight": jnp.array([-0.5])}
        log_likelihood = lambda theta, z: matrix.sequence_terms(theta, z).sum() + 2.0 * theta

        def exact(params, prior, theta, weight):
            latents, log_q = family.configurations(params, KEY)
            log_p = jax.vmap(family.log_prob, (None, 0))(prior, latents)
            terms = jax.vmap(log_likelihood, (None, 0))(theta, latents)
            return jnp.exp(log_q) @ (terms - weight * (log_q - log_p))

        def value(params, prior, theta, weight, key):
            return jaxelbo.elbo_with_prior(
                params, key, lambda z: log_likelihood(theta, z), family, prior, family, num_samples=3, kl_weight=weight
            )

        arguments = params, prior, jnp.asarray(0.6), jnp.asarray(1.5)
        expected = matrix.quick_jit(jax.grad(exact, argnums=(0, 1, 2, 3)))(*arguments)
        assert_mean_gradient(value, arguments, expected)


def test_at_weight_one_it_is_the_elbo():
    """Where q and prior are Gaussian: exactly the closed-form bound for a Gaussian likelihood."""
    with jax.enable_x64(True):
        family = families.mean_field(jnp.zeros(2))
        params = {"loc": jnp.array([0.4, -1.0]), "log_scale": jnp.array([-0.3, 0.2])}
        prior = {"loc": jnp.zeros(2), "log_scale": jnp.zeros(2)}
        log_likelihood = lambda z: z @ jnp.array([1.0, 2.0])  # linear, so antithetic draws are exact
        draws = [
            float(jaxelbo.elbo_with_prior(params, k, log_likelihood, family, prior, family, num_samples=1))
            for k in jax.random.split(KEY, 3)
        ]
        kl = float(jaxelbo.kl_divergence(params, prior, family, family))
        for key, value in zip(jax.random.split(KEY, 3), draws, strict=True):
            np.testing.assert_allclose(value, log_likelihood(family.sample(params, key)) - kl, rtol=1e-12)
        s = np.exp(np.array([-0.3, 0.2]))
        np.testing.assert_allclose(kl, 0.5 * np.sum(s**2 + np.array([0.16, 1.0]) - 1 - 2 * np.log(s)), rtol=1e-12)


def test_bad_input():
    q, p = families.mean_field(0.0), families.bernoulli(0.0)
    params = q.init(KEY)
    with pytest.raises(ValueError, match="num_samples must be at least 2"):
        jaxelbo.elbo_with_prior(p.init(KEY), KEY, jnp.sum, p, p.init(KEY), p, num_samples=1)
    with pytest.raises(ValueError, match="kl_weight must be a scalar"):
        jaxelbo.elbo_with_prior(params, KEY, jnp.sum, q, params, q, num_samples=1, kl_weight=jnp.ones(2))
    with pytest.raises(ValueError, match="log_likelihood must return a scalar"):
        jaxelbo.elbo_with_prior(params, KEY, lambda z: z[None], q, params, q, num_samples=1)
    with pytest.raises(ValueError, match="the latent of family must have shape"):
        vector = families.mean_field(jnp.zeros(2))
        jaxelbo.elbo_with_prior(params, KEY, jnp.sum, q, vector.init(KEY), vector, num_samples=1)


def test_sleep_phase():
    """Its gradient is that of E_p(x)[-KL(p(z|x) || q)], by listing; the model gets none."""
    with jax.enable_x64(True):
        family = families.bernoulli(0.0)
        encode = lambda weights, x: {"logits": (weights[0] + weights[1] * x)[None]}

        def sample_joint(theta, key):
            key_z, key_x = jax.random.split(key)
            z = family.sample({"logits": theta[None]}, key_z)
            return z, jax.random.bernoulli(key_x, 0.2 + 0.6 * z).astype(float)

        def exact(weights):
            total = 0.0
            for z, p_z in ((0.0, 1 - jax.nn.sigmoid(0.4)), (1.0, jax.nn.sigmoid(0.4))):
                for x, p_x in ((0.0, 0.8 - 0.6 * z), (1.0, 0.2 + 0.6 * z)):
                    total += p_z * p_x * family.log_prob(encode(weights, x), jnp.asarray(z))
            return total

        def value(weights, key, theta=0.4):
            joint = lambda k: sample_joint(jnp.asarray(theta), k)
            return jaxelbo.sleep_phase(weights, key, encode, joint, family, num_samples=2)

        weights = jnp.array([0.3, -0.5])
        assert_mean_gradient(value, (weights,), (matrix.quick_jit(jax.grad(exact))(weights),), 100_000)
        assert jax.grad(lambda theta: value(weights, KEY, theta))(0.4) == 0
        with pytest.raises(TypeError, match=r"sample_joint must return a pair \(latent, x\)"):
            jaxelbo.sleep_phase(weights, KEY, encode, lambda k: 1.0, family, num_samples=2)
