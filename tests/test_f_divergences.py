import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxelbo
from jaxelbo import divergences, estimators, f_divergences, families
from tests import matrix

KEY = jax.random.key(0)
GENERATORS = {
    "k1": (divergences.k1, lambda q, p: q * np.log(q / p)),
    "k3": (divergences.k3, lambda q, p: q * np.log(q / p)),
    "forward_kl": (f_divergences.forward_kl, lambda q, p: p * np.log(p / q)),
    "squared_hellinger": (f_divergences.squared_hellinger, lambda q, p: 0.5 * (np.sqrt(q) - np.sqrt(p)) ** 2),
    "pearson": (f_divergences.pearson, lambda q, p: (p - q) ** 2 / q),
    "jensen_shannon": (
        f_divergences.jensen_shannon,
        lambda q, p: 0.5 * q * np.log(2 * q / (p + q)) + 0.5 * p * np.log(2 * p / (p + q)),
    ),
}


@pytest.mark.parametrize("name", GENERATORS)
def test_generators_are_their_divergences(name):
    """The sum of q f(p / q) over a finite support, against the textbook form in NumPy."""
    with jax.enable_x64(True):
        generator, textbook = GENERATORS[name]
        q, p = np.array([0.2, 0.5, 0.3]), np.array([0.4, 0.25, 0.35])
        ours = np.sum(q * np.asarray(generator(jnp.log(p / q))))
        np.testing.assert_allclose(ours, np.sum(textbook(q, p)), rtol=1e-12)
        assert generator(jnp.zeros(())) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in ("forward_kl", "k1") else pytest.mark.matrix) for n in GENERATORS]
)
@pytest.mark.parametrize(
    ("family", "estimator"),
    [
        ("categorical", estimators.leave_one_out),
        ("mean_field", estimators.pathwise),
        ("mean_field", estimators.doubly_reparameterised),
    ],
    ids=["discrete", "pathwise", "doubly reparameterised"],
)
def test_gradients_have_the_right_sign_and_size(name, family, estimator):
    """In both params, within 4 standard errors that would show 2%, for every divergence, reverse KL or not."""
    with jax.enable_x64(True):
        generator = GENERATORS[name][0]
        if family == "categorical":
            q = p = families.categorical(3)
            params_q, params_p = {"logits": jnp.array([0.8, -0.6, 0.2])}, {"logits": jnp.array([-0.3, 0.4, 0.5])}
            points = jnp.arange(3)
            weights = lambda params: jnp.exp(jax.vmap(q.log_prob, (None, 0))(params, points))
        else:
            q = p = families.mean_field(0.0)
            params_q = {"loc": jnp.array([0.5]), "log_scale": jnp.array([0.3])}
            params_p = {"loc": jnp.array([-0.1]), "log_scale": jnp.array([-0.2])}
            points = jnp.linspace(-12, 12, 2001)
            weights = lambda params: jnp.exp(jax.vmap(q.log_prob, (None, 0))(params, points)) * 0.012

        def exact(params_q, params_p):
            log_ratio = jax.vmap(p.log_prob, (None, 0))(params_p, points) - jax.vmap(q.log_prob, (None, 0))(
                params_q, points
            )
            return weights(params_q) @ generator(log_ratio)

        def value(params_q, params_p, key):
            return jaxelbo.f_divergences.f_divergence_monte_carlo(
                params_q, params_p, key, q, p, generator=generator, num_samples=2, estimator=estimator
            )

        expected = jax.grad(exact, argnums=(0, 1))(params_q, params_p)
        keys = jax.random.split(KEY, 300_000)
        samples = jax.jit(jax.vmap(jax.grad(value, argnums=(0, 1)), (None, None, 0)))(params_q, params_p, keys)
        for leaf, draws in zip(jax.tree.leaves(expected), jax.tree.leaves(samples), strict=True):
            size = jnp.sum(leaf**2)
            ratio = np.asarray(draws @ leaf / size)
            error = ratio.std() / np.sqrt(len(ratio))
            assert 4 * error < 0.03 and abs(ratio.mean() - 1) < 4 * error


def test_self_normalised_form_tends_to_the_divergence():
    """Over all pairs of draws its expectation has a bias of order 1/S; the limit is the divergence to the posterior."""
    with jax.enable_x64(True):
        problem = matrix.make_problem("Bernoulli")
        bound = functools.partial(f_divergences.f_divergence_self_normalised, generator=f_divergences.squared_hellinger)
        latents, log_q = problem.family.configurations(problem.params, KEY)
        log_p = jax.nn.log_softmax(jax.vmap(functools.partial(problem.log_joint, 0.6))(latents))
        exact = float(jnp.exp(log_q) @ f_divergences.squared_hellinger(log_p - log_q))
        expectation = matrix.quick_jit(problem.exact, static_argnums=(2, 3))
        errors = [float(expectation(problem.params, 0.6, bound, size)) - exact for size in (2, 4)]
        assert abs(errors[1]) < 0.75 * abs(errors[0])
        arguments = problem.params, KEY, functools.partial(problem.log_joint, 0.6), problem.family
        many = bound(jaxelbo.log_weights(*arguments, num_samples=100_000))
        np.testing.assert_allclose(many, exact, rtol=0.02)


def test_bad_input():
    family = families.bernoulli(0.0)
    params = family.init(KEY)
    call = functools.partial(f_divergences.f_divergence_monte_carlo, params, params, KEY, family, family, num_samples=2)
    with pytest.raises(ValueError, match=r"generator must return shape \(2,\)"):
        call(generator=jnp.sum)
    with pytest.raises(TypeError, match="generator must be a function"):
        call(generator=None)
    with pytest.raises(ValueError, match="num_samples of at least 2"):
        f_divergences.f_divergence_monte_carlo(
            params, params, KEY, family, family, generator=divergences.k1, num_samples=1
        )
    with pytest.raises(ValueError, match="S at least 2"):
        f_divergences.f_divergence_self_normalised(jnp.zeros(1), divergences.k1)
    with pytest.raises(ValueError, match=r"alone, got .*bound"):
        call(generator=divergences.k1, estimator=estimators.enumeration)


@pytest.mark.parametrize(
    ("generator", "at_zero"),
    [
        (f_divergences.forward_kl, 0.0), (f_divergences.squared_hellinger, 0.5), (f_divergences.pearson, 1.0),
        (f_divergences.jensen_shannon, 0.5 * math.log(2)),
    ],
)  # fmt: skip
def test_generators_where_p_is_zero(generator, at_zero):
    """f(0), with a derivative in the ratio that is finite or what calculus says."""
    np.testing.assert_allclose(generator(jnp.asarray(-jnp.inf)), at_zero, rtol=1e-6)
    assert jax.grad(generator)(jnp.asarray(-jnp.inf)) == 0  # in the log of the ratio


def test_jensen_shannon_at_large_ratios():
    np.testing.assert_allclose(
        f_divergences.jensen_shannon(jnp.asarray(80.0)), 0.5 * np.exp(80.0) * np.log(2), rtol=1e-5
    )
