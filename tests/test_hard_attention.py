"""The identity log p(y) - F = KL(p(l) || p(l|y)) and its relatives, against sums in NumPy."""

import functools

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

from jaxelbo import bounds, estimators, families, hard_attention
from tests import matrix

KEY = jax.random.key(0)


def arrays(seed, size=5):
    rng = np.random.default_rng(seed)
    normalise = lambda x: x - np.log(np.sum(np.exp(x)))
    return normalise(rng.normal(size=size)), -rng.exponential(size=size), normalise(rng.normal(size=size))


@pytest.mark.parametrize("seed", range(3))
def test_terms_are_their_sums(seed):
    with jax.enable_x64(True):
        log_policy, log_likelihood, log_q = arrays(seed)
        policy, likelihood, q = np.exp(log_policy), np.exp(log_likelihood), np.exp(log_q)
        evidence = np.log(np.sum(policy * likelihood))
        posterior = policy * likelihood / np.exp(evidence)
        np.testing.assert_allclose(hard_attention.log_evidence(log_policy, log_likelihood), evidence, rtol=1e-12)
        np.testing.assert_allclose(np.exp(hard_attention.posterior(log_policy, log_likelihood)), posterior, rtol=1e-12)
        bound = hard_attention.exact_policy_bound(log_policy, log_likelihood)
        np.testing.assert_allclose(bound, np.sum(policy * log_likelihood), rtol=1e-12)
        kl = np.sum(policy * np.log(policy / posterior))
        np.testing.assert_allclose(evidence - bound, kl, rtol=1e-10)
        np.testing.assert_allclose(hard_attention.gap(log_policy, log_policy, log_likelihood), kl, rtol=1e-10)
        learned = hard_attention.exact_posterior_bound(log_q, log_policy, log_likelihood)
        np.testing.assert_allclose(evidence - learned, np.sum(q * np.log(q / posterior)), rtol=1e-10)
        np.testing.assert_allclose(
            hard_attention.gap(log_q, log_policy, log_likelihood), evidence - learned, rtol=1e-10
        )


@matrix.quick_jit
def bounds_of_all_sizes(*arrays):
    return [hard_attention.exact_many_sample_bound(*arrays, size) for size in range(1, 6)]


def test_many_sample_bounds_rise_to_the_evidence():
    """Exact expectations at S = 1, ..., 5, for the policy and for a learned q; both stay below log p(y)."""
    with jax.enable_x64(True):
        log_policy, log_likelihood, log_q = arrays(7)
        evidence = hard_attention.log_evidence(log_policy, log_likelihood)
        for proposal in (log_policy, log_q):
            values = [float(value) for value in bounds_of_all_sizes(proposal, log_policy, log_likelihood)]
            one = hard_attention.exact_posterior_bound(proposal, log_policy, log_likelihood)
            np.testing.assert_allclose(values[0], one, rtol=1e-12)
            assert all(np.diff(values) > 0) and values[-1] < evidence


@pytest.mark.slow
@pytest.mark.parametrize("bound_name", ["mean", "importance_weighted"])
def test_sampled_bound_and_gradient(bound_name):
    """The mean over 200,000 draws of value and gradient, in policy and likelihood, against listing all pairs."""
    with jax.enable_x64(True):
        bound, family = getattr(bounds, bound_name), families.categorical(5)
        log_policy, log_likelihood, _ = map(jnp.asarray, arrays(3))

        def exact(logits, log_likelihood):
            log_policy = jax.nn.log_softmax(logits)
            return hard_attention.exact_many_sample_bound(log_policy, log_policy, log_likelihood, 2, bound=bound)

        def value(logits, log_likelihood, key):
            return hard_attention.policy_bound(
                {"logits": logits}, key, lambda cell: log_likelihood[cell], family, bound=bound, num_samples=2
            )

        gradient = jax.jit(jax.vmap(jax.value_and_grad(value, argnums=(0, 1)), (None, None, 0)))
        values, slopes = gradient(log_policy, log_likelihood, jax.random.split(KEY, 200_000))
        expected, expected_slopes = matrix.quick_jit(jax.value_and_grad(exact, argnums=(0, 1)))(
            log_policy, log_likelihood
        )
        assert abs(values.mean() - expected) < 4 * values.std() / np.sqrt(len(values))
        for draws, leaf in zip(slopes, expected_slopes, strict=True):
            draws, leaf = np.asarray(draws), np.asarray(leaf)
            ratio = draws @ leaf / (leaf @ leaf)
            error = ratio.std() / np.sqrt(len(ratio))
            assert 4 * error < 0.03 and abs(ratio.mean() - 1) < 4 * error


def test_gradient_is_silent_where_all_cells_are_alike():
    """A likelihood that does not depend on the cell: no draw moves the policy, under mean and many-sample bounds."""
    family, params = families.categorical(4), {"logits": jnp.array([0.3, -1.0, 0.8, 0.0])}
    for bound in (bounds.mean, bounds.importance_weighted):
        value = functools.partial(
            hard_attention.policy_bound, log_likelihood=lambda cell: -1.3 + 0.0 * cell, family=family,
            bound=bound, num_samples=4,
        )  # fmt: skip
        gradient = matrix.quick_jit(jax.vmap(jax.grad(value), (None, 0)))
        slopes = gradient(params, jax.random.split(KEY, 100))["logits"]
        assert jnp.max(jnp.abs(slopes)) < 1e-6


def test_enumeration_is_the_exact_bound():
    family, (log_policy, log_likelihood, _) = families.categorical(5), arrays(1)
    table = jnp.asarray(log_likelihood, jnp.float32)
    arguments = {"logits": jnp.asarray(log_policy, jnp.float32)}, KEY, lambda cell: table[cell], family
    value = hard_attention.policy_bound(*arguments, num_samples=1, estimator=estimators.enumeration)
    np.testing.assert_allclose(value, np.sum(np.exp(log_policy) * log_likelihood), rtol=1e-5)


def test_cells_of_probability_zero():
    log_policy, log_likelihood = jnp.log(jnp.array([0.5, 0.5, 0.0])), jnp.array([-1.0, -3.0, -jnp.inf])
    for function in (hard_attention.exact_policy_bound, hard_attention.log_evidence):
        value, slopes = jax.value_and_grad(function, argnums=1)(log_policy, log_likelihood)
        assert np.isfinite(value) and np.all(np.isfinite(slopes))
    np.testing.assert_allclose(hard_attention.exact_policy_bound(log_policy, log_likelihood), -2.0)


def test_bad_input():
    with pytest.raises(ValueError, match=r"must have one shape \[M\], M at least 1, got \(3,\), \(2,\)"):
        hard_attention.log_evidence(jnp.zeros(3), jnp.zeros(2))
    with pytest.raises(ValueError, match="vmap over data"):
        hard_attention.exact_policy_bound(jnp.zeros((2, 3)), jnp.zeros((2, 3)))
    with pytest.raises(TypeError, match="must be floating-point"):
        hard_attention.posterior(jnp.zeros(3), jnp.zeros(3, int))
    with pytest.raises(ValueError, match="make 1,048,576 tuples, more than the limit of 65,536"):
        hard_attention.exact_many_sample_bound(*[jnp.zeros(4)] * 3, num_samples=10)
    with pytest.raises(TypeError, match="log_likelihood must be a function"):
        family = families.categorical(2)
        hard_attention.policy_bound(family.init(KEY), KEY, None, family, num_samples=2)


def test_many_sample_bound_beside_cells_that_are_never_drawn():
    """As without the cell; the gradient too."""

    def bound(logits, log_likelihood):
        log_policy = jax.nn.log_softmax(logits)
        return hard_attention.exact_many_sample_bound(log_policy, log_policy, log_likelihood, 3)

    masked, alone = jnp.array([0.3, -0.2, -jnp.inf]), jnp.array([0.3, -0.2])
    log_likelihood = jnp.array([-1.0, -2.5, -0.1])
    value, gradient = matrix.quick_jit(jax.value_and_grad(bound))(masked, log_likelihood)
    expected, expected_gradient = matrix.quick_jit(jax.value_and_grad(bound))(alone, log_likelihood[:2])
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(gradient, jnp.append(expected_gradient, 0.0), rtol=1e-5)


@pytest.mark.parametrize("estimator", [estimators.reward_to_go(lambda z: z), estimators.rao_blackwellised(lambda z: z)])
def test_policy_bound_refuses_terms_of_its_own(estimator):
    family = families.bernoulli(jnp.zeros(2))
    arguments = family.init(jax.random.key(0)), jax.random.key(1), jnp.sum, family
    with pytest.raises(ValueError, match=r"cancels the policy's log-probability .*use estimators.leave_one_out"):
        hard_attention.policy_bound(*arguments, num_samples=2, estimator=estimator)


OF_BITS = {
    "score function": estimators.score_function, "baseline": estimators.with_baseline(-1.0),
    "leave-one-out": estimators.leave_one_out, "enumeration": estimators.enumeration,
    "ARM": estimators.arm, "DisARM": estimators.disarm, "measure-valued": estimators.measure_valued,
    "REBAR": estimators.rebar(0.7, 0.8),
    "RELAX": estimators.relax(lambda w, z: w @ z**2, jnp.array([0.5, -1.0]), 0.7),
}  # fmt: skip
OF_COORDINATES = {
    "pathwise": estimators.pathwise, "sticking the landing": estimators.sticking_the_landing,
    "closed-form entropy": estimators.closed_form_entropy, "measure-valued": estimators.measure_valued,
    "leave-one-out": estimators.leave_one_out, "doubly reparameterised": estimators.doubly_reparameterised,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "name"), [*(("bits", name) for name in OF_BITS), *(("coordinates", name) for name in OF_COORDINATES)]
)
def test_policy_bound_under_every_estimator(kind, name):
    """The policy's own log-probability cancels, whatever an estimator makes of it: 20,000 gradients, 4 s.e."""
    if kind == "bits":
        family, estimator = families.bernoulli(jnp.zeros(2)), OF_BITS[name]
        params, weight = {"logits": jnp.array([0.4, -0.7])}, jnp.asarray(2.0)
        log_likelihood = lambda weight, z: -weight * (z[0] - 0.8 * z[1] - 0.3) ** 2
        cells = jnp.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])

        def exact(params, weight):
            log_policy = jax.vmap(family.log_prob, (None, 0))(params, cells)
            return jnp.exp(log_policy) @ jax.vmap(log_likelihood, (None, 0))(weight, cells)
    else:
        family, estimator = families.mean_field(jnp.zeros(2)), OF_COORDINATES[name]
        params = {"loc": jnp.array([1.0, -0.5]), "log_scale": jnp.array([-0.3, 0.2])}
        weight, log_likelihood = jnp.asarray(0.7), lambda weight, z: -weight * jnp.sum((z - 0.2) ** 2)

        def exact(params, weight):
            return -weight * jnp.sum((params["loc"] - 0.2) ** 2 + jnp.exp(2 * params["log_scale"]))

    def value(params, weight, key):
        target = functools.partial(log_likelihood, weight)
        return hard_attention.policy_bound(params, key, target, family, num_samples=2, estimator=estimator)

    flat = lambda tree: np.asarray(jax.flatten_util.ravel_pytree(tree)[0], float)
    expected = flat(matrix.quick_jit(jax.grad(exact, argnums=(0, 1)))(params, weight))
    gradient = matrix.quick_jit(jax.vmap(jax.grad(value, argnums=(0, 1)), (None, None, 0)))
    slopes = jax.tree.leaves(gradient(params, weight, jax.random.split(KEY, 20_000)))
    draws = np.concatenate([np.asarray(leaf, float).reshape(20_000, -1) for leaf in slopes], axis=1)
    error = draws.std(axis=0) / np.sqrt(20_000)
    assert np.all(np.abs(draws.mean(axis=0) - expected) < 4 * error + 1e-5), (draws.mean(axis=0), expected, error)
    assert np.linalg.norm(4 * error) < 0.1 * np.linalg.norm(expected)
