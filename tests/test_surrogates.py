import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxelbo import bounds, custom_gradients, surrogates
from tests import matrix

numbers = st.lists(st.floats(-20, 20, width=32), min_size=4, max_size=4)


@jax.jit
def vimco_signals(log_weights):
    others = surrogates.mean_of_others(log_weights)
    return surrogates.learning_signals(bounds.importance_weighted, log_weights, others)


def geometric_mean_of_others(log_weights):
    """As VIMCO's authors have it, in NumPy."""
    return np.array([np.mean(np.delete(log_weights, s)) for s in range(len(log_weights))])


@settings(max_examples=20, deadline=None)
@given(numbers)
def test_signals_of_the_mean_are_leave_one_out(values):
    with jax.enable_x64(True):
        log_weights = np.array(values)
        signals = surrogates.learning_signals(
            bounds.mean, jnp.asarray(log_weights), surrogates.mean_of_others(jnp.asarray(log_weights))
        )
        naive = (log_weights - geometric_mean_of_others(log_weights)) / len(values)
        np.testing.assert_allclose(signals, naive, atol=1e-10)


@settings(max_examples=20, deadline=None)
@given(numbers)
def test_signals_of_log_mean_exp_are_vimco(values):
    """Multi-sample signal L - L without me, by naive NumPy."""
    with jax.enable_x64(True):
        log_weights, size = np.array(values), len(values)
        signals = vimco_signals(jnp.asarray(log_weights))
        log_mean_exp = lambda w: np.log(np.mean(np.exp(w)))
        for s, other in enumerate(geometric_mean_of_others(log_weights)):
            without = log_weights.copy()
            without[s] = other
            vimco = log_mean_exp(log_weights) - log_mean_exp(without)
            np.testing.assert_allclose(signals[s], vimco, atol=1e-10)
        assert size == len(signals)


def test_special_case_of_the_mean_is_the_general_form():
    """The mean has code of its own; a bound that is the mean without being bounds.mean goes the general way."""
    log_weights = jnp.array([3.0, 1.0, -2.0])
    general = surrogates.learning_signals(lambda w: jnp.mean(w), log_weights, jnp.array([0.5, 1.0, 2.0]))
    special = surrogates.learning_signals(bounds.mean, log_weights, jnp.array([0.5, 1.0, 2.0]))
    np.testing.assert_allclose(general, special, rtol=1e-5)
    np.testing.assert_allclose(
        surrogates.path_scales(lambda w: jnp.mean(w), log_weights), surrogates.path_scales(bounds.mean, log_weights)
    )


@pytest.mark.parametrize("name", matrix.BOUNDS)
def test_value_is_the_bound_bit_for_bit(name):
    bound = matrix.BOUNDS[name]
    rng = np.random.default_rng(0)
    log_weights, scores = jnp.asarray(rng.normal(size=4), "float32"), jnp.asarray(rng.normal(size=(4, 3)), "float32")
    expected = bound(log_weights)
    for value in (
        surrogates.leave_one_out(bound, log_weights, scores),
        surrogates.score_function(bound, log_weights, scores, -1e6),
        surrogates.weighted_scores(bound, log_weights, scores, jnp.full((4, 3), jnp.inf)),
    ):
        assert value == expected


@pytest.mark.parametrize("name", matrix.BOUNDS)
def test_path_scales_are_their_definition(name):
    """(b - h) / b with b and h by finite differences of the bound."""
    with jax.enable_x64(True):
        bound, log_weights = matrix.BOUNDS[name], jnp.array([0.4, -0.7, 1.1])
        step = 1e-4
        scales = matrix.quick_jit(functools.partial(surrogates.path_scales, bound))(log_weights)
        moved = log_weights[None] + step * jnp.concatenate([jnp.eye(3), -jnp.eye(3), jnp.zeros((1, 3))])
        values = np.asarray(matrix.quick_jit(jax.vmap(bound))(moved))
        for s, scale in enumerate(np.asarray(scales)):
            ahead, here, behind = values[s], values[6], values[3 + s]
            slope, curvature = (ahead - behind) / (2 * step), (ahead - 2 * here + behind) / step**2
            np.testing.assert_allclose(scale, (slope - curvature) / slope, rtol=1e-5, atol=1e-5)


def test_weights_of_zero():
    """An impossible configuration has log-weight -inf; the many-sample signals stay numbers."""
    log_weights = jnp.array([-jnp.inf, 0.5, 1.0])
    np.testing.assert_array_equal(surrogates.mean_of_others(log_weights), [0.75, -np.inf, -np.inf])
    signals = surrogates.learning_signals(
        bounds.importance_weighted, log_weights, surrogates.mean_of_others(log_weights)
    )
    assert np.all(np.isfinite(signals))
    assert np.all(np.isfinite(surrogates.path_scales(bounds.importance_weighted, log_weights)))


def test_scale_gradient_leaves_integers_alone():
    tree = {"index": jnp.arange(3), "number": jnp.ones(3)}
    value = lambda x: jnp.sum(custom_gradients.scale_gradient(tree | {"number": x}, 2.0)["number"] ** 2)
    np.testing.assert_allclose(jax.grad(value)(jnp.ones(3)), 4.0)


def test_regression_trains_the_prediction_alone():
    loss = lambda prediction, target: surrogates.regression(prediction, target)
    slopes = jax.grad(loss, argnums=(0, 1))(jnp.array([1.0, 2.0]), jnp.array([3.0, 5.0]))
    np.testing.assert_allclose(slopes[0], [1.0, 1.5])
    np.testing.assert_allclose(slopes[1], 0.0)
    assert loss(jnp.array([1.0, 2.0]), jnp.array([3.0, 5.0])) == 0


def test_own_scan():
    """A recurrent policy written by hand: the gradient in expectation is that of enumeration."""
    with jax.enable_x64(True):
        terms = functools.partial(matrix.sequence_terms, 0.6)
        paths = jnp.stack(jnp.meshgrid(*[jnp.arange(2.0)] * 3), -1).reshape(-1, 3, 1)

        def run(params, path):
            def step(carry, z):
                carry, step_params = matrix.step_fn(params, *carry)
                log_prob = z * step_params["logits"] - jax.nn.softplus(step_params["logits"])
                return (carry, z), log_prob[0]

            return jax.lax.scan(step, (jnp.zeros(()), jnp.zeros(1)), path)[1]

        def exact(params):
            scores = jax.vmap(run, (None, 0))(params, paths).sum(1)
            return jnp.exp(scores) @ (jax.vmap(lambda z: jnp.sum(terms(z)))(paths) - scores)

        def mean_surrogate(params):
            scores = jax.vmap(run, (None, 0))(params, paths)  # [8, 3]
            values = jax.vmap(lambda z: jnp.sum(terms(z)))(paths) - scores.sum(1)
            pairs = jnp.stack(jnp.meshgrid(jnp.arange(8), jnp.arange(8)), -1).reshape(-1, 2)
            chances = jax.lax.stop_gradient(jnp.exp(scores.sum(1)))
            each = jax.vmap(lambda pair: surrogates.leave_one_out(bounds.mean, values[pair], scores[pair]))(pairs)
            return (chances[pairs[:, 0]] * chances[pairs[:, 1]]) @ each

        params = {"bias": jnp.array([-0.2]), "weight": jnp.array([0.7])}
        mean = matrix.quick_jit(jax.grad(mean_surrogate))(params)
        for name, leaf in matrix.quick_jit(jax.grad(exact))(params).items():
            np.testing.assert_allclose(mean[name], leaf, rtol=1e-10)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda w, s: surrogates.leave_one_out(bounds.mean, w[:1], s[:1]), "at least two samples, got 1"),
        (lambda w, s: surrogates.leave_one_out(bounds.mean, w, s[:2]), "a row for each of 3 samples"),
        (lambda w, s: surrogates.leave_one_out(bounds.mean, w, s[:, 0]), r"score_log_probs must have shape \[S, P\]"),
        (lambda w, s: surrogates.leave_one_out(bounds.mean, s, s), r"log_weights must have shape \[S\]"),
        (lambda w, s: surrogates.score_function(bounds.mean, w, s, s), r"a baseline must be a scalar or have shape"),
        (
            lambda w, s: surrogates.weighted_scores(bounds.mean, w, s, w),
            r"signals must have shape \(3, 2\) or \(3, 1\)",
        ),
        (lambda w, s: surrogates.leave_one_out(lambda v: v, w, s), "bound must return a scalar"),
        (lambda w, s: surrogates.leave_one_out(bounds.mean, w.astype(int), s), "floating-point"),
    ],
)
def test_bad_arrays(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call(jnp.zeros(3), jnp.zeros((3, 2)))


def test_mean_of_others_keeps_its_digits():
    """One value that would swallow the others, and is not to be seen in the mean of them."""
    np.testing.assert_array_equal(surrogates.mean_of_others(jnp.array([-1e9, 1.0, 2.0, 3.0]))[0], 2.0)
    np.testing.assert_array_equal(
        surrogates.mean_of_others(jnp.array([-jnp.inf, 1.0, 2.0])), jnp.array([1.5, -jnp.inf, -jnp.inf])
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: surrogates.add_scores(jnp.zeros(()), jnp.zeros((2, 2)), jnp.zeros(2)), "signals must have shape"),
        (
            lambda: surrogates.add_scores(jnp.zeros(2), jnp.zeros((2, 2)), jnp.zeros((2, 2))),
            "value must return a scalar",
        ),
        (
            lambda: surrogates.regression(jnp.zeros((3, 1)), jnp.zeros(3)),
            "predictions must be a scalar or have the shape",
        ),
        (lambda: surrogates.path_scales(bounds.mean, jnp.zeros((3, 2))), r"log_weights must have shape \[S\]"),
        (lambda: surrogates.learning_signals(bounds.mean, [0.0, 1.0], 0.0), r"log_weights \[S\] must be a floating"),
        (lambda: surrogates.learning_signals(bounds.mean, jnp.zeros(2), 1j), "a baseline must be an array or a number"),
        (lambda: surrogates.learning_signals(None, jnp.zeros(2), 0.0), "bound must be a function"),
        (lambda: surrogates.learning_signals(bounds.renyi, jnp.zeros(2), 0.0), "bound must take log_weights alone"),
        (lambda: surrogates.mean_of_others(jnp.zeros(())), r"values must have shape \[S, ...\]"),
        (lambda: surrogates.mean_of_others(jnp.zeros(0)), "at least two samples, got 0"),
    ],
)
def test_shapes_are_not_broadcast(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()
