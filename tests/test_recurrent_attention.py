"""The recurrent attention model: its path step by step, and its gradient against quadrature."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxelbo import bounds
from jaxelbo.attention import digit_files, glimpses, layers, learning_rules, recurrent_attention, recurrent_network
from tests.matrix import quick_jit

SHAPE = recurrent_attention.Shape(
    image_size=8, glimpse_size=3, num_scales=2, num_glimpses=3, num_features=7, num_units=9, policy_scale=0.3
)
PARAMS = jax.tree.map(lambda leaf: 2 * leaf, recurrent_attention.init(jax.random.key(0), SHAPE))
IMAGE = digit_files.small_digits()[0].images[5]
KEY = jax.random.key(1)


def test_a_path_step_by_step():
    """Everything again in NumPy, at the locations that were drawn."""
    path = recurrent_attention.sample_path(PARAMS, KEY, IMAGE, SHAPE)
    levels = glimpses.pyramid(jnp.asarray(IMAGE), size=3, num_scales=2)
    dense = lambda params, x: x @ np.asarray(params["weight"]) + np.asarray(params["bias"])
    relu = lambda x: np.maximum(x, 0)
    hidden = np.zeros(9)
    for step, location in enumerate(np.asarray(path.locations)):
        np.testing.assert_allclose(path.features[step], hidden, atol=1e-5)
        first, second = PARAMS["policy"]
        mean = np.tanh(dense(second, relu(dense(first, hidden))))
        expected = stats.norm.logpdf(location, mean, 0.3).sum()
        np.testing.assert_allclose(path.log_probs[step], expected, rtol=1e-4)
        what = np.asarray(glimpses.hard_glimpse(levels, jnp.asarray(location), size=3)).ravel()
        parts = [dense(PARAMS["glimpse"]["what"], what), dense(PARAMS["glimpse"]["where"], location)]
        both = relu(dense(PARAMS["glimpse"]["both"], relu(np.concatenate(parts))))
        hidden = relu(dense(PARAMS["core"], np.concatenate([hidden, both])))
    scores = dense(PARAMS["classes"], hidden)
    np.testing.assert_allclose(path.log_classes, scores - np.log(np.sum(np.exp(scores))), atol=1e-4)


def test_draws_are_around_the_mean_path():
    """First locations of 4,000 paths: mean and standard deviation of the policy, to 4 standard errors."""
    keys = jax.random.split(KEY, 4_000)
    sample = lambda key: recurrent_attention.sample_path(PARAMS, key, IMAGE, SHAPE).locations[0]
    first = np.asarray(quick_jit(jax.vmap(sample))(keys))
    mean = np.asarray(recurrent_attention.mean_path(PARAMS, IMAGE, SHAPE).locations[0])
    assert np.all(np.abs(first.mean(axis=0) - mean) < 4 * 0.3 / np.sqrt(4_000))
    assert np.all(np.abs(first.std(axis=0) / 0.3 - 1) < 4 / np.sqrt(8_000))


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["score function", "leave-one-out", "learned baseline"])
def test_gradient_against_quadrature(rule):
    """One glimpse: F is an integral over the plane, its gradient the mean of what the rule gives, policy and all."""
    shape, label, num_keys = SHAPE._replace(num_glimpses=1), 3, 100_000
    rules = {
        "score function": learning_rules.score_function,
        "leave-one-out": learning_rules.leave_one_out(bounds.mean),
        "learned baseline": learning_rules.learned_baseline,
    }
    offsets = jnp.stack(jnp.meshgrid(*[jnp.linspace(-1.5, 1.5, 301)] * 2), axis=-1).reshape(-1, 2)

    @quick_jit
    @jax.grad
    def exact(params):
        mean = recurrent_attention.mean_path(params, IMAGE, shape).locations[0]
        held = jax.lax.stop_gradient(mean)
        policy = params["policy"]
        mean = jnp.tanh(policy[1]["bias"] + jax.nn.relu(policy[0]["bias"]) @ policy[1]["weight"])
        log_weights = -0.5 * jnp.sum((offsets + (held - mean)[None]) ** 2, axis=1) / 0.3**2
        noise = (offsets + jax.lax.stop_gradient(held - mean)[None])[:, None]
        run = lambda noise: recurrent_network._run(params, IMAGE, noise, shape).log_classes[label]
        return jnp.exp(log_weights) / jnp.sum(jnp.exp(jax.lax.stop_gradient(log_weights))) @ jax.vmap(run)(noise)

    @quick_jit
    @functools.partial(jax.vmap, in_axes=(None, 0))
    @jax.grad
    def sampled(params, key):
        options = {"shape": shape, "num_samples": 2, "rule": rules[rule]}
        return recurrent_attention.objective(params, key, IMAGE, label, **options)[0]

    expected = exact(PARAMS)
    samples = sampled(PARAMS, jax.random.split(KEY, num_keys))
    for name in ("policy", "classes", "glimpse"):
        for draws, like in zip(jax.tree.leaves(samples[name]), jax.tree.leaves(expected[name]), strict=True):
            size = float(jnp.sum(like**2))
            if size < 1e-8:
                continue  # the weights on a state that is zero
            along = np.asarray(jnp.sum((draws * like[None]).reshape(num_keys, -1), axis=1)) / size
            error = along.std() / np.sqrt(num_keys)
            assert error < 0.1 and abs(along.mean() - 1) < 4 * error + 0.01, (name, along.mean(), error)


@pytest.mark.slow
@pytest.mark.parametrize("bound", [bounds.mean, bounds.importance_weighted], ids=["one sample", "two samples"])
def test_bound_by_a_learned_posterior_against_quadrature(bound):
    """One glimpse: value and gradient of E_q[bound of log p(y, l) - log q(l|y)], policy, q and classifier."""
    shape, label, num_keys = SHAPE._replace(num_glimpses=1), 3, 40_000
    first, second = PARAMS["posterior"]
    second = {"weight": 0.2 * jax.random.normal(KEY, second["weight"].shape), "bias": second["bias"] + 0.1}
    params = PARAMS | {"posterior": [first, second]}
    reach = jnp.linspace(-1.2, 1.2, 61)
    offsets = jnp.stack(jnp.meshgrid(reach, reach), axis=-1).reshape(-1, 2)
    density = lambda location, mean: jnp.sum(jax.scipy.stats.norm.logpdf(location, mean, 0.3), axis=-1)

    @quick_jit
    @jax.value_and_grad
    def exact(params):
        start = jnp.zeros(9)
        towards = layers.correction(params["policy"], start)  # two dense layers too
        by_label = layers.correction(params["posterior"], jnp.concatenate([start, jnp.eye(10)[label]]))
        policy, proposal = jnp.tanh(towards), jnp.tanh(towards + by_label)
        places = jax.lax.stop_gradient(proposal)[None] + offsets
        run = lambda noise: recurrent_network._run(params, IMAGE, noise, shape).log_classes[label]
        log_likelihoods = jax.vmap(run)((places - jax.lax.stop_gradient(policy)[None])[:, None])
        log_q = density(places, proposal[None])
        weights = log_likelihoods + density(places, policy[None]) - log_q
        chances = jnp.exp(log_q) / jnp.sum(jnp.exp(jax.lax.stop_gradient(log_q)))
        if bound is bounds.mean:
            return chances @ weights
        return chances @ (jnp.logaddexp(weights[:, None], weights[None]) - jnp.log(2.0)) @ chances

    @quick_jit
    @functools.partial(jax.vmap, in_axes=(None, 0))
    @jax.value_and_grad
    def sampled(params, key):
        options = {"shape": shape, "num_samples": 2, "rule": learning_rules.leave_one_out(bound)}
        return recurrent_attention.posterior_objective(params, key, IMAGE, label, **options)[0]

    value, expected = exact(params)
    values, ratios = [], {"policy": [], "posterior": [], "classes": [], "glimpse": []}
    for key in jax.random.split(KEY, 3):
        drawn, samples = sampled(params, jax.random.split(key, num_keys))
        values.append(np.asarray(drawn))
        for name, ratio in ratios.items():
            pairs = list(zip(jax.tree.leaves(samples[name]), jax.tree.leaves(expected[name]), strict=True))
            along = sum(jnp.sum((draws * like[None]).reshape(num_keys, -1), axis=1) for draws, like in pairs)
            ratio.append(np.asarray(along) / sum(float(jnp.sum(like**2)) for _, like in pairs))
    values = np.concatenate(values)
    assert abs(values.mean() - value) < 4 * values.std() / np.sqrt(values.size) + 1e-3
    for name, ratio in ratios.items():
        ratio = np.concatenate(ratio)
        error = ratio.std() / np.sqrt(ratio.size)
        assert error < 0.02 and abs(ratio.mean() - 1) < 4 * error + 0.01, (name, ratio.mean(), error)


def test_the_label_does_not_train_the_policy_through_the_glimpse():
    """Locations are stopped: what log p(y|l, I) says of the policy, it says by the score alone."""

    def value(params):
        return recurrent_attention.sample_path(params, KEY, IMAGE, SHAPE).log_classes[3]

    assert all(np.all(leaf == 0) for leaf in jax.tree.leaves(jax.grad(value)(PARAMS)["policy"]))


def test_baseline_loss_trains_the_baseline_alone():
    """Its share of the gradient, by the difference of two that differ in it only through what the baseline sees."""
    paths = learning_rules.Paths(jnp.array([-1.0]), jnp.zeros((1, 3)), jnp.ones((1, 3)), jnp.ones((1, 3, 9)))

    def value(features, baseline):
        return learning_rules.reward()(paths._replace(features=features), baseline, ())[0]

    of_features, of_baseline = jax.grad(value, argnums=(0, 1))(paths.features, PARAMS["baseline"])
    assert np.all(of_features == 0) and np.all(of_baseline["weight"] != 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: recurrent_attention.init(KEY, SHAPE._replace(num_glimpses=0)),
            "shape.num_glimpses must be at least 1",
        ),
        (lambda: recurrent_attention.init(KEY, SHAPE._replace(glimpse_size=9)), "shape.glimpse_size must be at most 8"),
        (lambda: recurrent_attention.init(KEY, SHAPE._replace(policy_scale=0.0)), "policy_scale must be positive"),
        (lambda: recurrent_attention.init(KEY, 8), "must be a recurrent_attention.Shape"),
        (lambda: recurrent_attention.mean_path(PARAMS, IMAGE[:, :7], SHAPE), r"image must have shape \(8, 8\)"),
        (lambda: recurrent_attention.mean_path(PARAMS, IMAGE.astype(int), SHAPE), "floating-point"),
        (lambda: recurrent_attention.mean_path(PARAMS, 255 * IMAGE, SHAPE), "image must lie between 0 and 1"),
        (lambda: recurrent_attention.sample_path(PARAMS, KEY, IMAGE, 8), "must be a recurrent_attention.Shape"),
        (
            lambda: recurrent_attention.posterior_objective(
                PARAMS, KEY, IMAGE, 3, shape=SHAPE, num_samples=1, rule="reward"
            ),
            "rule must be a function",
        ),
        (
            lambda: recurrent_attention.objective(
                PARAMS, KEY, IMAGE, 10, shape=SHAPE, num_samples=1, rule=learning_rules.score_function
            ),
            "label must be between 0 and 9",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()
