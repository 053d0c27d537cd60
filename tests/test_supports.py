"""Supports of latents: in families, in `infer`, and what is refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

import jaxelbo
from jaxelbo import bijectors, families, supports

KEY = jax.random.key(0)


def test_a_normal_behind_exp_is_log_normal(float64):
    family = families.constrained(families.mean_field, {"a": 1.0, "b": -2.0}, {"a": bijectors.positive})
    params = {"loc": jnp.array([0.3, -1.0]), "log_scale": jnp.log(jnp.array([0.5, 2.0]))}
    latent = {"a": jnp.asarray(1.7), "b": jnp.asarray(0.4)}
    expected = stats.lognorm(0.5, scale=np.exp(0.3)).logpdf(1.7) + stats.norm(-1.0, 2.0).logpdf(0.4)
    np.testing.assert_allclose(family.log_prob(params, latent), expected, rtol=1e-10)
    drawn, log_q = family.sample_and_log_prob(params, KEY)
    np.testing.assert_allclose(log_q, family.log_prob(params, drawn), rtol=1e-10)
    np.testing.assert_allclose(family.sample(params, KEY)["a"], drawn["a"])
    start = family.init(KEY, {"a": jnp.asarray(3.0), "b": jnp.asarray(5.0)})
    np.testing.assert_allclose(start["loc"], [np.log(3.0), 5.0], rtol=1e-12)


def test_density_on_the_simplex_is_normalised(float64):
    """Over the first two of three proportions, for a correlated Gaussian behind it."""
    family = families.constrained(families.full_rank, jnp.full(3, 1 / 3), bijectors.simplex)
    params = family.init(KEY) | {"unit_tril": jnp.array([[0.0, 0.0], [0.7, 0.0]]), "log_scale": jnp.zeros(2)}
    density = jax.jit(lambda a, b: jnp.exp(family.log_prob(params, jnp.stack([a, b, 1 - a - b]))))
    total, _ = integrate.dblquad(lambda b, a: float(density(a, b)), 1e-9, 1, 1e-9, lambda a: 1 - a - 1e-9, epsabs=1e-5)
    np.testing.assert_allclose(total, 1, atol=1e-3)


def gamma_poisson(counts, z):
    """A Gamma(2, 1) prior on a rate, Poisson counts; the posterior is Gamma(2 + sum, 1 + n)."""
    return (1 + jnp.sum(counts)) * jnp.log(z["rate"]) - (1 + counts.size) * z["rate"] - 0.5 * z["other"] ** 2


def test_infer_on_the_users_scale(float64):
    """The same fit as with the Jacobian written by hand, draws on the user's scale, the known posterior."""
    counts = jnp.array([3.0, 1.0, 4.0, 1.0, 5.0])
    log_joint = functools.partial(gamma_poisson, counts)
    start = {"rate": 1.0, "other": 0.0}
    result = jaxelbo.infer(log_joint, start, KEY, support={"rate": bijectors.positive})
    by_hand = jaxelbo.infer(
        lambda z: log_joint({"rate": jnp.exp(z["rate"]), "other": z["other"]}) + z["rate"],
        {"rate": 0.0, "other": 0.0},
        KEY,
    )
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-10), result.params, by_hand.params)
    assert str(result.status) == "converged"
    # What the best log-normal gives for the gamma posterior: its moments are near.
    latents = jaxelbo.draws(result.params, jax.random.key(1), result.family, num_samples=40_000)
    posterior = stats.gamma(16, scale=1 / 6)
    np.testing.assert_allclose(latents["rate"].mean(), posterior.mean(), rtol=0.02)
    np.testing.assert_allclose(latents["rate"].std(), posterior.std(), rtol=0.03)
    # Importance weights by the family's own density are those of the fit.
    weights = jax.vmap(lambda z: log_joint(z) - result.family.log_prob(result.params, z))(latents)
    assert abs(weights.mean() - result.elbo) < 5 * np.hypot(weights.std() / 200, result.elbo_standard_error)


def test_infer_in_jit_and_vmap(float64):
    """Data sets by vmap, each its own posterior."""
    data = jnp.array([[3.0, 1.0, 4.0], [1.0, 0.0, 2.0]])
    start = {"rate": jax.ShapeDtypeStruct((), "float64"), "other": jax.ShapeDtypeStruct((), "float64")}
    run = lambda counts: jaxelbo.infer(
        functools.partial(gamma_poisson, counts), start, KEY, support={"rate": bijectors.positive}
    )
    together = jax.jit(jax.vmap(run))(data)
    from_values = jax.jit(
        lambda counts: jaxelbo.infer(
            functools.partial(gamma_poisson, counts),
            {"rate": 1.0, "other": 0.0},
            KEY,
            support={"rate": bijectors.positive},
        )
    )(data[0])
    np.testing.assert_allclose(from_values.elbo, together.elbo[0], rtol=1e-8)
    for index in range(2):
        np.testing.assert_allclose(together.elbo[index], run(data[index]).elbo, rtol=1e-8)


def test_second_call_compiles_nothing_and_families_are_one():
    counts = jnp.array([3.0, 1.0])
    log_joint = functools.partial(gamma_poisson, counts)
    run = lambda key: jaxelbo.infer(log_joint, {"rate": 1.0, "other": 0.0}, key, support={"rate": bijectors.positive})
    first = run(KEY)
    assert run(jax.random.key(1)).family is first.family


def test_richer_families_are_on_the_users_scale(float64):
    mixture = lambda noise: families.mixture(families.full_rank(noise, initial_scale=1.0), 2)
    log_joint = functools.partial(gamma_poisson, jnp.array([3.0, 1.0]))
    result = jaxelbo.infer(
        log_joint, {"rate": 1.0, "other": 0.0}, KEY, support={"rate": bijectors.positive}, richer=mixture
    )
    latents = jaxelbo.draws(result.richer.params, KEY, result.richer.family, num_samples=100)
    assert np.all(latents["rate"] > 0)


def test_structures_of_supports(float64):
    latent = {"a": (1.0, jnp.ones(3)), "b": {"c": jnp.eye(2), "d": -1.0}}
    whole = supports.constraint_of({"x": 1.0, "y": jnp.ones(2)}, bijectors.positive)
    assert [bijector.name for bijector in whole.bijectors] == ["positive", "positive"]
    deep = supports.constraint_of(latent, {"a": (bijectors.positive, None), "b": {"c": bijectors.positive_definite}})
    assert [bijector.name for bijector in deep.bijectors] == ["positive", "real", "positive_definite", "real"]
    free = supports.unconstrained_like(deep, latent)
    back = supports.constrain(deep, free)
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-12), back, jax.tree.map(jnp.asarray, latent))
    assert free["b"]["c"].shape == (3,)


@pytest.mark.parametrize(
    ("latent", "support", "error", "message"),
    [
        ({"a": 1.0}, {"b": bijectors.positive}, ValueError, r"support names 'b', which latent_like does not have"),
        ({"a": 1.0}, "positive", TypeError, "support of latent_like must be a jaxelbo.bijectors.Bijector"),
        ({"a": 1.0}, {"a": "positive"}, TypeError, r"support of latent_like\['a'\] must be"),
        ((1.0, 2.0), (bijectors.positive,), ValueError, "support of latent_like must have 2 entries, got 1"),
        ({"a": -1.0}, {"a": bijectors.positive}, ValueError, r"latent_like\['a'\] must lie in its support, positive"),
        ({"a": 1.0}, {"a": bijectors.simplex}, ValueError, r"support of latent_like\['a'\]"),
        ({"a": jnp.zeros(3)}, {"a": bijectors.simplex}, ValueError, r"latent_like\['a'\] must lie in its support"),
        ({"a": np.nan}, {"a": bijectors.unit_interval}, ValueError, r"latent_like\['a'\] must lie in its support"),
    ],
)
def test_bad_supports(latent, support, error, message):
    with pytest.raises(error, match=message):
        jaxelbo.infer(lambda z: -jnp.sum(z["a"] ** 2), latent, KEY, support=support)
    with pytest.raises(error, match=message):
        families.constrained(families.mean_field, latent, support)
