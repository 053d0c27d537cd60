"""Every valid triple of family, bound and estimator whose draws are the family's own: its exact mean gradient.

All S-tuples of draws are put through the estimator, so that nothing is left to chance: the mean gradient equals the
gradient of E[bound(log_weights)], in variational and model parameters, to rounding.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxelbo import bounds, checks, estimators, validity
from tests import matrix

OWN_BASELINE = 0.7


def with_state(estimator, mean, variance):
    """A stateful estimator at a state of its past, as a plain one."""

    def at_state(*arguments):
        return estimator(*arguments, estimators.RunningMoments(jnp.asarray(mean), jnp.asarray(variance)))[0]

    return at_state


DRAWING = {
    "leave_one_out": estimators.leave_one_out,
    "pathwise": estimators.pathwise,
    "sticking_the_landing": estimators.sticking_the_landing,
    "doubly_reparameterised": estimators.doubly_reparameterised,
    "closed_form_entropy": estimators.closed_form_entropy,
    "score_function": estimators.score_function,
    "with_baseline": estimators.with_baseline(OWN_BASELINE),
    "learned_baseline": estimators.learned_baseline(lambda b: b, np.asarray(OWN_BASELINE)),
    "moving_average": with_state(estimators.moving_average, -0.8, 2.0),
    "nvil": with_state(estimators.nvil(lambda b: b, np.asarray(OWN_BASELINE)), -0.8, 0.5),
    "reward_to_go": None,  # made with the problem's own decomposition
    "rao_blackwellised": None,
}


def triples():
    """All that the table declares unbiased, with the number of samples; slow ones are marked."""
    for kind, traits in validity.KINDS.items():
        for name in DRAWING:
            for bound_name in matrix.BOUNDS:
                bound = bounds.mean if bound_name == "mean" else validity.BOUNDS.get(bound_name, matrix.BOUNDS["own"])
                if validity.refusal(name, traits, bound, 2):
                    continue
                all_bounds = (kind, name) in (
                    ("Bernoulli", "leave_one_out"), ("Gaussian, mean field", "doubly_reparameterised")
                )  # fmt: skip
                all_names = kind in ("Bernoulli", "Gaussian, mean field") or (
                    name in ("leave_one_out", "reward_to_go") and not kind.startswith("joint")
                )
                many = bound_name == "importance_weighted" and name in ("leave_one_out", "pathwise", "with_baseline")
                fast = all_bounds or (all_names and (bound_name == "mean" or many))
                marks = () if fast else pytest.mark.matrix
                yield pytest.param(kind, name, bound_name, 2, marks=marks, id=f"{kind}-{bound_name}-{name}")
    for bound_name in matrix.BOUNDS:  # with two draws, the mean of the others is just the other
        marks = () if bound_name in ("mean", "importance_weighted") else pytest.mark.matrix
        case = "categorical, one index", "leave_one_out", bound_name, 3
        yield pytest.param(*case, marks=marks, id=f"three draws-{bound_name}")


def estimator_of(kind, name, theta):
    if name == "reward_to_go":
        whole = lambda theta, z: matrix.make_problem(kind).log_joint(theta, z)[None]
        return estimators.reward_to_go(functools.partial(matrix.STEP_TERMS.get(kind, whole), theta))
    if name == "rao_blackwellised":
        everything = functools.partial(matrix.repeated, kind)
        return estimators.rao_blackwellised(functools.partial(matrix.LOCAL_TERMS.get(kind, everything), theta))
    return DRAWING[name]


@functools.lru_cache
def exact_gradient(kind, bound_name, num_samples, theta=0.6):
    problem, bound = matrix.make_problem(kind), matrix.BOUNDS[bound_name]
    value = lambda params, theta: problem.exact(params, theta, bound, num_samples)
    return matrix.quick_jit(jax.grad(value, argnums=(0, 1)))(problem.params, theta)


@pytest.mark.parametrize(("kind", "name", "bound_name", "num_samples"), list(triples()))
def test_mean_gradient_is_exact(kind, name, bound_name, num_samples, monkeypatch):
    with jax.enable_x64(True):
        problem = matrix.make_problem(kind)
        bound = matrix.BOUNDS[bound_name]
        theta = jnp.asarray(0.6)

        def estimate(params, atoms, log_joint, family, theta=None):
            return estimator_of(kind, name, theta)(params, atoms, log_joint, family, bound, num_samples)

        def value(params, theta):
            mean = problem.expectation(monkeypatch, functools.partial(estimate, theta=theta), num_samples)
            return mean(params, theta)

        expected = exact_gradient(kind, bound_name, num_samples)
        mean = matrix.quick_jit(jax.grad(value, argnums=(0, 1)))(problem.params, theta)
        tolerance = (
            1e-6 if kind.startswith(("Gaussian", "conditional", "joint")) else 1e-12
        )  # of quadrature, of rounding
        for path, leaf, like in zip(
            checks.leaf_names(expected), jax.tree.leaves(mean), jax.tree.leaves(expected), strict=True
        ):
            assert np.max(np.abs(like)) > 0.01 or path.endswith("unit_tril']"), (path, "nothing to estimate")
            np.testing.assert_allclose(leaf, like, rtol=tolerance, atol=tolerance, err_msg=path)


@pytest.mark.parametrize(("name", "bound_name"), [
    ("wake_phase", "mean"), ("wake_phase", "importance_weighted"), ("reweighted_wake_phase", "importance_weighted"),
])  # fmt: skip
def test_wake_phases_teach_the_model(name, bound_name, monkeypatch):
    """The model's mean gradient is exact; q's is zero in the one, and in the other that of its weighted log q."""
    with jax.enable_x64(True):
        problem, bound = matrix.make_problem("Bernoulli"), matrix.BOUNDS[bound_name]
        estimator, theta = getattr(estimators, name), jnp.asarray(0.6)

        def estimate(params, atoms, log_joint, family):
            return estimator(params, atoms, log_joint, family, bound, 2)

        mean = problem.expectation(monkeypatch, estimate, 2)
        of_params, of_model = matrix.quick_jit(jax.grad(mean, argnums=(0, 1)))(problem.params, theta)
        np.testing.assert_allclose(of_model, exact_gradient("Bernoulli", bound_name, 2)[1], rtol=1e-12)
        if name == "wake_phase":
            assert np.all(of_params["logits"] == 0)
            return
        latents, log_q = problem.family.configurations(problem.params, jax.random.key(0))
        log_w = np.asarray(jax.vmap(functools.partial(problem.log_joint, theta))(latents) - log_q)
        q, bits = np.exp(log_q), np.asarray(latents)
        scores = bits - 1 / (1 + np.exp(-np.asarray(problem.params["logits"])))
        naive = 0.0
        for i in range(8):
            for j in range(8):
                weight = np.exp([log_w[i], log_w[j]]) / np.sum(np.exp([log_w[i], log_w[j]]))
                naive = naive + q[i] * q[j] * (weight[0] * scores[i] + weight[1] * scores[j])
        np.testing.assert_allclose(of_params["logits"], naive, rtol=1e-10)
