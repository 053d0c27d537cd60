"""Estimators that draw noise of their own, against the exact gradient.

Where that noise is discrete (sets drawn without replacement) its expectation is listed; elsewhere by Monte Carlo, in 4
standard errors at a number of replicates that shows a bias of 2% of the gradient.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxelbo import bounds, checks, estimators, families, validity
from tests import matrix

THETA = 0.6


def exact_gradient(problem, bound=bounds.mean, num_samples=1):
    value = lambda params, theta: problem.exact(params, theta, bound, num_samples)
    return jax.jit(jax.grad(value, argnums=(0, 1)))(problem.params, THETA)


def sampled_gradients(problem, estimator, num_replicates, bound=bounds.mean, num_samples=2, seed=0):
    def value(params, theta, key):
        log_joint = functools.partial(problem.log_joint, theta)
        return estimator(params, key, log_joint, problem.family, bound, num_samples)

    keys = jax.random.split(jax.random.key(seed), num_replicates)
    return jax.jit(jax.vmap(jax.grad(value, argnums=(0, 1)), (None, None, 0)))(problem.params, THETA, keys)


def along_and_errors(samples, exact):
    """For each leaf: its path, the mean along the exact gradient over its size, and the standard error of that."""
    for path, leaf, draws in zip(
        checks.leaf_names(exact), jax.tree.leaves(exact), jax.tree.leaves(samples), strict=True
    ):
        leaf, draws = np.asarray(leaf), np.asarray(draws)
        size = np.sum(leaf**2)
        assert size > 1e-4, (path, "nothing to estimate")
        ratios = np.sum((draws * leaf[None]).reshape(len(draws), -1), axis=1) / size
        yield path, ratios.mean(), ratios.std() / np.sqrt(len(ratios))
        errors = draws.std(axis=0) / np.sqrt(len(draws))
        # Less the leaf before the mean: NumPy's sum of 250,000 equal numbers along a first axis is off by 1e-12.
        assert np.all(np.abs((draws - leaf).mean(axis=0)) <= 4.5 * errors + 1e-12), path


def assert_unbiased(samples, exact):
    for path, mean, error in along_and_errors(samples, exact):
        assert 4 * error < 0.02, (path, error, "this test could not see a bias of 2%")
        assert abs(mean - 1) <= 4 * error + 1e-12, (path, mean, error)


def linear(weights, latent):
    return sum(jnp.sum(jnp.sin(leaf + weights)) for leaf in jax.tree.leaves(latent))


NOISY = {
    "rebar": estimators.rebar(0.7, 0.9),
    "relax": estimators.relax(linear, np.asarray(0.3)),
    "arm": estimators.arm,
    "disarm": estimators.disarm,
    "measure_valued": estimators.measure_valued,
    "enumeration": estimators.enumeration,
    "without_replacement": estimators.without_replacement,
}
REPLICATES = {
    "Bernoulli": 200_000, "Gaussian, mean field": 400_000, "Gaussian, detached": 400_000,
    "independent, of one-hot": 600_000, "joint, continuous and Bernoulli": 600_000,
}  # fmt: skip


RELAXING = ("rebar", "relax", "arm", "disarm", "measure_valued")


def noisy_cases():
    for kind, traits in validity.KINDS.items():
        for name in NOISY:
            if not validity.refusal(name, traits, bounds.mean, 2) and kind in matrix.MAKE:
                fast = kind in ("Bernoulli", "Gaussian, mean field") and name in RELAXING
                yield pytest.param(kind, name, marks=() if fast else pytest.mark.matrix, id=f"{kind}-{name}")


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), list(noisy_cases()))
def test_unbiased_with_own_noise(kind, name):
    with jax.enable_x64(True):
        problem = matrix.make_problem(kind)
        if kind.startswith("Gaussian"):  # where the gradient in log_scale is not small beside its noise
            problem = problem._replace(params=problem.params | {"log_scale": jnp.array([0.6])})
        num_samples = 5 if (kind, name) == ("sequential, of Bernoulli", "without_replacement") else 2
        samples = sampled_gradients(problem, NOISY[name], REPLICATES.get(kind, 250_000), num_samples=num_samples)
        assert_unbiased(samples, exact_gradient(problem))


@pytest.mark.slow
def test_unbiased_on_continuous_and_discrete_parts():
    """The default, by its own draws rather than by all atoms as in test_unbiasedness."""
    with jax.enable_x64(True):
        problem = matrix.make_problem("joint, continuous and Bernoulli")
        samples = sampled_gradients(problem, estimators.leave_one_out, 400_000)
        assert_unbiased(samples, exact_gradient(problem))


@pytest.mark.slow
def test_many_sample_bound_on_continuous_and_discrete_parts():
    """VIMCO through the bits, pathwise through the number, against 164^2 pairs of atoms."""
    with jax.enable_x64(True):
        problem, bound = matrix.make_problem("joint, continuous and Bernoulli"), bounds.importance_weighted
        samples = sampled_gradients(problem, estimators.leave_one_out, 1_300_000, bound)
        assert_unbiased(samples, exact_gradient(problem, bound, 2))


@pytest.mark.parametrize("kind", ["Bernoulli", "categorical, one index", "sequential, of Bernoulli"])
def test_enumeration_is_exact(kind):
    with jax.enable_x64(True):
        problem = matrix.make_problem(kind)
        ours = jax.tree.map(lambda leaf: leaf[0], sampled_gradients(problem, estimators.enumeration, 1, num_samples=1))
        for leaf, like in zip(jax.tree.leaves(ours), jax.tree.leaves(exact_gradient(problem)), strict=True):
            np.testing.assert_allclose(leaf, like, rtol=1e-12)


@pytest.mark.parametrize("num_samples", [2, 3])
@pytest.mark.parametrize("kind", ["categorical, one index", "categorical, one-hot"])
def test_without_replacement_is_unbiased_over_all_sets(kind, num_samples, monkeypatch):
    """Every ordered way of drawing without replacement, by the naive product of conditional probabilities."""
    with jax.enable_x64(True):
        problem = matrix.make_problem(kind)
        probabilities = np.asarray(problem.chances(problem.params))
        expected, total = exact_gradient(problem), 0.0
        mean = jax.tree.map(np.zeros_like, expected)
        gumbels = []
        monkeypatch.setattr(jax.random, "gumbel", lambda key, shape, dtype: gumbels[-1])

        def value(params, theta, gumbel):
            gumbels.append(gumbel)
            log_joint = functools.partial(problem.log_joint, theta)
            arguments = params, jax.random.key(0), log_joint, problem.family, bounds.mean, num_samples
            return estimators.without_replacement(*arguments)

        gradient = jax.jit(jax.grad(value, argnums=(0, 1)))
        for chosen in itertools.combinations(range(4), num_samples):
            chance = 0.0
            for order in itertools.permutations(chosen):
                left, step = 1.0, 1.0
                for index in order:
                    step, left = step * probabilities[index] / left, left - probabilities[index]
                chance += step
            noise = jnp.where(jnp.isin(jnp.arange(4), jnp.asarray(chosen)), 100.0, 0.0)
            mean = jax.tree.map(lambda m, g, c=chance: m + c * g, mean, gradient(problem.params, THETA, noise))
            total += chance
        assert abs(total - 1) < 1e-12
        for leaf, like in zip(jax.tree.leaves(mean), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(leaf, like, rtol=1e-10)


def test_gradients_flow_to_what_a_family_closes_over():
    """A number given a bit, its Gaussian made by a network that is not among params: the exact bound's gradient."""
    with jax.enable_x64(True):
        slab = families.mean_field(0.0)
        params = {"first": {"logits": jnp.array([0.4])}, "link": jnp.zeros(())}

        def value(weights, key):
            link_fn = lambda link, bit: {"loc": weights[:1] * bit, "log_scale": weights[1:]}
            bit = families.bernoulli(0.0)
            family = families.conditional(bit, slab, link_fn, lambda key: jnp.zeros(()))
            log_joint = lambda z: -0.5 * (z[1] - 1.0) ** 2 + z[0]
            return estimators.leave_one_out(params, key, log_joint, family, bounds.mean, 2)

        def exact(weights):
            p, scale = jax.nn.sigmoid(0.4), jnp.exp(weights[1])
            square = p * (weights[0] - 1) ** 2 + (1 - p)
            return -0.5 * (square + scale**2) + weights[1]

        weights = jnp.array([0.3, -0.6])
        slopes = jax.jit(jax.vmap(jax.grad(value), (None, 0)))(weights, jax.random.split(jax.random.key(0), 20_000))
        expected = jax.grad(exact)(weights)
        errors = np.asarray(slopes.std(0)) / np.sqrt(len(slopes))
        assert np.all(4 * errors < 0.05 * np.abs(expected))
        assert np.all(np.abs(slopes.mean(0) - expected) < 4 * errors)


@pytest.mark.parametrize(
    "logits",
    [[0.0, 1.0, -jnp.inf], [0.0, -88.0, -89.0], [0.0, -300.0, -400.0], [-jnp.inf, 0.0, -jnp.inf], [0.0, 1.0, 2.0]],
)
def test_whole_set_without_replacement_is_enumeration(logits, dtype):
    """Also where probabilities underflow, or are zero and the set must be filled up with what is never drawn."""
    family, params = families.categorical(3), {"logits": jnp.array(logits)}

    def of(params, estimator):
        arguments = jax.random.key(0), lambda z: jnp.array([1.0, 5.0, 2.0])[z], family, bounds.mean, 3
        return jax.value_and_grad(estimator)(params, *arguments)

    both = matrix.quick_jit(lambda p: (of(p, estimators.without_replacement), of(p, estimators.enumeration)))
    (value, gradient), (exact, exact_gradient) = both(params)
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(value, exact, rtol=tolerance)
    np.testing.assert_allclose(gradient["logits"], exact_gradient["logits"], rtol=tolerance, atol=tolerance)
