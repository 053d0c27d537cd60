"""Every learning rule's mean gradient, over all pairs of paths of two binary steps, in policy and likelihood."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxelbo import bounds, estimators
from jaxelbo.attention import learning_rules
from jaxelbo.attention.learning_rules import Paths

PATHS = np.array(list(itertools.product((0, 1), repeat=2)))
PARAMS = {"first": np.array(0.3), "second": np.array([-0.4, 0.8]), "likelihood": np.array([-1.0, -2.5, -0.3, -4.0])}
BASELINE = {"weight": np.array([[0.7], [-0.2]]), "bias": np.array([-1.2])}
REWARDS = np.array([1.0, 0.0, 1.0, 0.0])


def log_probs(params, path):
    """Of each of the two steps; the second depends on the first."""
    logits = jnp.stack([params["first"], params["second"][path[0]]])
    return jnp.where(path == 1, jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits))


def paths_of(params, chosen):
    params, path = jax.tree.map(jnp.asarray, params), jnp.asarray(PATHS)[chosen]
    scores = jax.vmap(functools.partial(log_probs, params))(path)
    # What a baseline sees before each step: a constant, and the step before.
    features = jnp.stack([jnp.ones((len(chosen), 2)), jnp.stack([0 * path[:, 0], path[:, 0]], axis=1)], axis=2)
    rewards = jnp.broadcast_to(jnp.asarray(REWARDS)[chosen][:, None], scores.shape)
    return Paths(params["likelihood"][chosen], scores, rewards, features.astype(scores.dtype))


def chances(params):
    return jnp.exp(jax.vmap(lambda path: jnp.sum(log_probs(params, path)))(jnp.asarray(PATHS)))


def mean_gradient(rule, state=()):
    tuples = jnp.array(list(itertools.product(range(4), repeat=2)))

    def mean(params, baseline):
        weights = jax.lax.stop_gradient(jnp.prod(chances(params)[tuples], axis=1))
        values = jax.vmap(lambda chosen: rule(paths_of(params, chosen), baseline, state)[0])(tuples)
        return weights @ values

    return jax.jit(jax.value_and_grad(mean, argnums=(0, 1)))(*jax.tree.map(jnp.asarray, (PARAMS, BASELINE)))


def expected_bound(params, bound=bounds.mean):
    tuples = jnp.array(list(itertools.product(range(4), repeat=2)))
    return jnp.prod(chances(params)[tuples], axis=1) @ jax.vmap(bound)(params["likelihood"][tuples])


MOMENTS = estimators.RunningMoments(np.array(-2.0), np.array(1.0))
RULES = {
    "score function": (learning_rules.score_function, (), bounds.mean),
    "leave-one-out": (learning_rules.leave_one_out(bounds.mean), (), bounds.mean),
    "VIMCO": (learning_rules.leave_one_out(bounds.importance_weighted), (), bounds.importance_weighted),
    "learned baseline": (learning_rules.learned_baseline, (), bounds.mean),
    "moving average": (learning_rules.moving_average(), MOMENTS, bounds.mean),
}


@pytest.mark.parametrize("name", RULES)
def test_mean_gradient_is_that_of_the_bound(name):
    rule, state, bound = RULES[name]
    with jax.enable_x64(True):
        value, (of_params, of_baseline) = mean_gradient(rule, state)
        params = jax.tree.map(jnp.asarray, PARAMS)
        np.testing.assert_allclose(value, expected_bound(params, bound), rtol=1e-12)
        expected = jax.grad(functools.partial(expected_bound, bound=bound))(params)
        for leaf, like in zip(jax.tree.leaves(of_params), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(leaf, like, rtol=1e-10, atol=1e-13)
        assert np.any(of_baseline["weight"] != 0) == (name == "learned baseline")


@pytest.mark.parametrize("weight", [1.0, 0.3])
def test_reward_is_the_gradient_of_expected_accuracy(weight):
    """In the policy; in the likelihood it is that of F. The baseline learns the expected reward."""
    with jax.enable_x64(True):
        _, (of_params, of_baseline) = mean_gradient(learning_rules.reward(weight))
        params = jax.tree.map(jnp.asarray, PARAMS)
        accuracy = jax.grad(lambda params: weight * chances(params) @ jnp.asarray(REWARDS))(params)
        of_bound = jax.grad(expected_bound)(params)
        for name in ("first", "second"):
            np.testing.assert_allclose(of_params[name], accuracy[name], rtol=1e-10, atol=1e-13)
            assert np.max(np.abs(accuracy[name] - weight * of_bound[name])) > 0.01  # another objective
        np.testing.assert_allclose(of_params["likelihood"], of_bound["likelihood"], rtol=1e-10)
        assert np.all(of_baseline["bias"] != 0)


@pytest.mark.parametrize("bound", [bounds.mean, bounds.importance_weighted], ids=["F", "many samples"])
def test_equal_paths_teach_the_policy_nothing(bound):
    """Leave-one-out signals of equal log-likelihoods are zero, and no score with mean zero is added to them."""
    rule, params = learning_rules.leave_one_out(bound), jax.tree.map(jnp.asarray, PARAMS)
    params["likelihood"] = jnp.full(4, -1.5)
    slopes = jax.grad(lambda params: rule(paths_of(params, jnp.array([0, 3])), (), ())[0])(params)
    assert np.all(slopes["first"] == 0) and np.all(slopes["second"] == 0)
    np.testing.assert_allclose(slopes["likelihood"], [0.5, 0, 0, 0.5])


def test_moving_average_moves():
    paths = jax.tree.map(jnp.float32, paths_of(PARAMS, jnp.array([0, 1])))
    state = learning_rules.moving_average(0.9)(paths, (), estimators.running_moments())[1]
    np.testing.assert_allclose(state.mean, 0.1 * np.mean([-1.0, -2.5]), rtol=1e-6)
    np.testing.assert_allclose(state.variance, 0.9 + 0.1 * np.mean([1.0, 6.25]), rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: learning_rules.leave_one_out(bounds.mean)(paths_of(PARAMS, jnp.array([0])), (), ()), "two samples"),
        (lambda: learning_rules.leave_one_out(3), "bound must be a function"),
        (lambda: learning_rules.reward("x"), "weight must be a real number"),
        (lambda: learning_rules.moving_average("x"), "decay must be a real number"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()
