"""What a family closes over gets the gradient that its params would: no estimator may tell the two apart.

An oracle without numbers: a family whose logits (or locations) are params plus a vector that it closes over has one
gradient in both, draw by draw.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxelbo import bounds, estimators, families, validity
from tests.matrix import quick_jit
from tests.test_validity import NUM_SCORES, estimator_named

KEY = jax.random.key(3)
FAMILIES = {"loc": families.mean_field, "logits": families.bernoulli}
FUNCTIONS = (
    "sample", "log_prob", "sample_and_log_prob", "score_log_probs", "entropy", "configurations", "relax",
    "location_and_scale", "distribution",
)  # fmt: skip


def closing_over(family, leaf, shift):
    """The family at params shifted by a vector that is not among them."""

    def at_shifted(function, params, *arguments):
        return function(params | {leaf: params[leaf] + shift}, *arguments)

    functions = {name: getattr(family, name) for name in FUNCTIONS if getattr(family, name)}
    return family._replace(**{name: functools.partial(at_shifted, f) for name, f in functions.items()})


def log_joint(z):
    return -0.5 * jnp.sum((z - 0.3) ** 2) + 0.2 * jnp.sum(z) ** 3


def cases():
    for leaf, make in FAMILIES.items():
        family = make(jnp.zeros(2))
        traits = validity.traits_of(family.init(KEY), KEY, family)
        for name in validity.RULES:
            for bound in (bounds.mean, bounds.importance_weighted):
                if not validity.refusal(name, traits, bound, 3):
                    # The first bound finds what a closure loses; the second passes through the same functions.
                    marks = [pytest.mark.matrix] * (bound is not bounds.mean and name != "doubly_reparameterised")
                    yield pytest.param(leaf, name, bound, id=f"{leaf}-{name}-{bound.__name__}", marks=marks)


@pytest.mark.parametrize(("leaf", "name", "bound"), list(cases()))
def test_gradient_is_that_of_params(leaf, name, bound):
    with jax.enable_x64(True):
        family = FAMILIES[leaf](jnp.zeros(2))
        params = jax.tree.map(lambda leaf: leaf + 0.3, family.init(KEY))
        NUM_SCORES.append(2)
        estimator = estimator_named(name)

        @quick_jit
        @functools.partial(jax.grad, argnums=(0, 1))
        def gradients(params, shift):
            return estimator(params, KEY, log_joint, closing_over(family, leaf, shift), bound, 3)

        of_params, of_closure = gradients(params, jnp.zeros(2))
        np.testing.assert_allclose(of_closure, of_params[leaf], rtol=1e-12, atol=1e-12)
        assert name == "wake_phase" or np.any(of_closure != 0)


@pytest.mark.parametrize("make", [estimators.learned_baseline, estimators.nvil])
def test_a_baseline_trains_nothing_that_it_closes_over(make):
    family = families.bernoulli(jnp.zeros(2))
    params = family.init(KEY)

    def value(params, baseline, peek):
        estimator = make(lambda b: b + peek * jnp.sum(params["logits"]), baseline)
        state = () if make is estimators.learned_baseline else (estimators.running_moments(),)
        result = estimator(params, KEY, log_joint, family, bounds.mean, 2, *state)
        return result[0] if state else result

    gradient = jax.grad(value, argnums=(0, 1))
    for ours, like in zip(
        jax.tree.leaves(gradient(params, 0.5, 1.0)), jax.tree.leaves(gradient(params, 0.5, 0.0)), strict=True
    ):
        np.testing.assert_array_equal(ours, like)
    assert gradient(params, 0.5, 1.0)[1] != 0
