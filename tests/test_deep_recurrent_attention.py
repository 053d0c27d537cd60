"""The deep recurrent attention model: its path step by step, its gradient against quadrature, its curriculum."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxelbo import bounds
from jaxelbo.attention import (
    deep_recurrent_attention,
    deep_recurrent_network,
    digit_files,
    glimpses,
    learning_rules,
    path_scores,
)
from tests.matrix import quick_jit

SHAPE = deep_recurrent_attention.Shape(
    image_size=8, glimpse_size=3, num_scales=2, num_glimpses=2, num_targets=3, policy_scale=0.3, context_pool=2,
    num_features=5, num_units=6, num_classes=4,
)  # fmt: skip
PARAMS = jax.tree.map(lambda leaf: 2 * leaf, deep_recurrent_attention.init(jax.random.key(0), SHAPE))
IMAGE = digit_files.small_digits()[0].images[5]
LABELS = jnp.array([3, 0, 2])
KEY = jax.random.key(1)


def test_a_path_step_by_step():
    """Everything again in NumPy, at the locations that were drawn."""
    path = quick_jit(lambda params: deep_recurrent_attention.sample_path(params, KEY, IMAGE, SHAPE))(PARAMS)
    levels = glimpses.pyramid(jnp.asarray(IMAGE), size=3, num_scales=2)
    dense = lambda params, x: x @ np.asarray(params["weight"]) + np.asarray(params["bias"])
    sigmoid = lambda x: 1 / (1 + np.exp(-x))
    relu = lambda x: np.maximum(x, 0)

    def lstm(params, hidden, cell, x):
        let_in, keep, let_out, candidate = np.split(dense(params, np.concatenate([x, hidden])), 4)
        cell = sigmoid(keep) * cell + sigmoid(let_in) * np.tanh(candidate)
        return sigmoid(let_out) * np.tanh(cell), cell

    context = IMAGE.reshape(4, 2, 4, 2).mean(axis=(1, 3)).ravel()
    first, second = PARAMS["context"]
    upper = np.split(np.tanh(dense(second, relu(dense(first, context)))), 2)
    lower = np.zeros(6), np.zeros(6)
    for step, location in enumerate(np.asarray(path.locations)):
        np.testing.assert_allclose(path.features[step], upper[0], atol=1e-5)
        mean = np.tanh(dense(PARAMS["policy"], upper[0]))
        density = -0.5 * ((location - mean) / 0.3) ** 2 - np.log(0.3) - 0.5 * np.log(2 * np.pi)
        np.testing.assert_allclose(path.log_probs[step], density.sum(), rtol=1e-4, atol=1e-4)
        patches = np.asarray(glimpses.hard_glimpse(levels, jnp.asarray(location), size=3)).ravel()
        what, where = relu(dense(PARAMS["glimpse"]["what"], patches)), relu(dense(PARAMS["glimpse"]["where"], location))
        lower = lstm(PARAMS["lower"], *lower, what * where)
        upper = lstm(PARAMS["upper"], *upper, lower[0])
        if step % 2 == 1:
            scores = dense(PARAMS["classes"], lower[0])
            log_classes = scores - np.log(np.exp(scores).sum())
            np.testing.assert_allclose(path.log_classes[step // 2], log_classes, atol=1e-4)


def test_labels_cannot_be_read_from_the_context():
    """At given locations the classes do not depend on context, upper memory or policy."""
    value = lambda params: jnp.sum(deep_recurrent_attention.sample_path(params, KEY, IMAGE, SHAPE).log_classes[:, 1])
    slopes = quick_jit(jax.grad(value))(PARAMS)
    for name in ("context", "upper", "policy"):
        assert all(np.all(leaf == 0) for leaf in jax.tree.leaves(slopes[name])), name
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(slopes["lower"]))


@pytest.mark.slow
@pytest.mark.parametrize("bound", [bounds.mean, bounds.importance_weighted], ids=["F", "many samples"])
def test_gradient_against_quadrature(bound):
    """One glimpse, one label: the bound is an integral, its gradient the mean of the rule's."""
    shape, num_keys = SHAPE._replace(num_glimpses=1, num_targets=1), 40_000
    label = LABELS[2:]  # the label whose likelihood depends most on the location
    params = PARAMS | {"classes": jax.tree.map(lambda leaf: 10 * leaf, PARAMS["classes"])}
    reach = jnp.linspace(-1.2, 1.2, 61)
    offsets = jnp.stack(jnp.meshgrid(reach, reach), axis=-1).reshape(-1, 2)

    def mean_location(params):
        first, second = params["context"]
        context = glimpses.pooled(jnp.asarray(IMAGE), 2).ravel()
        out = jax.nn.relu(context @ first["weight"] + first["bias"]) @ second["weight"] + second["bias"]
        return jnp.tanh(jnp.tanh(out[:6]) @ params["policy"]["weight"] + params["policy"]["bias"])

    @quick_jit
    @jax.grad
    def exact(params):
        mean = mean_location(params)
        held = jax.lax.stop_gradient(mean)
        log_chances = -0.5 * jnp.sum((offsets + (held - mean)[None]) ** 2, axis=1) / 0.3**2
        chances = jnp.exp(log_chances) / jnp.sum(jnp.exp(jax.lax.stop_gradient(log_chances)))
        run = lambda noise: deep_recurrent_network._run(params, IMAGE, noise, shape).log_classes[0, label[0]]
        values = jax.vmap(run)(offsets[:, None])
        if bound is bounds.mean:
            return chances @ values
        return chances @ (jnp.logaddexp(values[:, None], values[None]) - jnp.log(2.0)) @ chances

    @quick_jit
    @functools.partial(jax.vmap, in_axes=(None, 0))
    @jax.grad
    def sampled(params, key):
        options = {"shape": shape, "num_samples": 2, "rule": learning_rules.leave_one_out(bound)}
        return deep_recurrent_attention.objective(params, key, IMAGE, label, **options)[0]

    expected, samples = exact(params), sampled(params, jax.random.split(KEY, num_keys))
    for name in ("context", "policy", "classes", "glimpse", "lower"):
        along, size = np.zeros(num_keys), 0.0
        for draws, like in zip(jax.tree.leaves(samples[name]), jax.tree.leaves(expected[name]), strict=True):
            along += np.asarray(jnp.sum((draws * like[None]).reshape(num_keys, -1), axis=1))
            size += float(jnp.sum(like**2))
        ratio = along / size
        error = ratio.std() / np.sqrt(num_keys)
        assert error < 0.02 and abs(ratio.mean() - 1) < 4 * error + 0.01, (name, ratio.mean(), error)


def test_rewards_and_the_curriculum():
    """Steps are paid the labels read right so far; a path counts up to its first mistake."""
    labels = jnp.array([2, 2, 0])  # some paths miss the first, some the second, some the third
    seen = []

    def rule(paths, baseline, state):
        seen.append(paths)
        return jnp.sum(paths.log_likelihoods), state

    options = {"shape": SHAPE, "num_samples": 40, "rule": rule}
    arguments = PARAMS, KEY, IMAGE, labels
    deep_recurrent_attention.objective(*arguments, **options)
    deep_recurrent_attention.curriculum_objective(*arguments, **options)
    whole, cut = seen
    drawn = jax.vmap(lambda key: deep_recurrent_attention.sample_path(PARAMS, key, IMAGE, SHAPE))(
        jax.random.split(KEY, 40)
    )
    log_classes = np.asarray(drawn.log_classes)
    is_right = log_classes.argmax(-1) == np.asarray(labels)
    of_labels = np.take_along_axis(log_classes, np.asarray(labels)[None, :, None], axis=2)[..., 0]
    np.testing.assert_array_equal(whole.rewards, np.repeat(is_right.cumsum(1), 2, axis=1))
    np.testing.assert_allclose(whole.log_likelihoods, of_labels.sum(1), rtol=1e-5)
    for s in range(40):
        counts = 3 if is_right[s].all() else int(np.argmin(is_right[s])) + 1
        np.testing.assert_allclose(cut.log_likelihoods[s], of_labels[s, :counts].sum(), rtol=1e-5)
        np.testing.assert_allclose(cut.score_log_probs[s, : 2 * counts], drawn.log_probs[s, : 2 * counts], rtol=1e-5)
        assert np.all(cut.score_log_probs[s, 2 * counts :] == 0) and np.all(cut.rewards[s, 2 * counts :] == 0)
    stops = np.where(is_right.all(1), 3, is_right.argmin(1))
    assert set(stops.tolist()) >= {0, 1, 2} and np.any(is_right[:, 1])  # paths end at each of the targets


def test_scores_of_paths():
    """An image is right if all its labels are; averaging is by label."""
    log_classes = np.log([[[0.9, 0.1], [0.6, 0.4]], [[0.2, 0.8], [0.9, 0.1]]])  # [S, T, labels]
    where = jnp.array([[[0.0, 0.0]], [[0.6, 0.8]]])
    labels = jnp.array([0, 0])
    scores = path_scores.score_paths(
        jnp.asarray(log_classes), where, jnp.asarray(log_classes[1]), where[0], labels, 0.1
    )
    assert scores.one_path == 0.5 and scores.mean_path == 1 and scores.averaged == 0
    values = log_classes[:, :, 0].sum(1)
    np.testing.assert_allclose(scores.bound, values.mean(), rtol=1e-6)
    np.testing.assert_allclose(scores.many_sample_bound, np.log(np.exp(values).mean()), rtol=1e-6)
    np.testing.assert_allclose(scores.spread, np.sqrt(0.5), rtol=1e-6)
    np.testing.assert_allclose(scores.entropy, 2 * stats.norm(scale=0.1).entropy(), rtol=1e-6)  # one place, two numbers


@pytest.mark.parametrize(
    ("change", "labels", "message"),
    [
        ({"num_glimpses": 0}, LABELS, r"shape\.num_glimpses must be at least 1"),
        ({"glimpse_size": 9}, LABELS, r"shape\.glimpse_size must be at most 8"),
        ({"policy_scale": 0.0}, LABELS, "policy_scale must be positive"),
        ({}, LABELS[:2], r"labels must have shape \(3,\), got \(2,\)"),
        ({}, jnp.array([0, 1, 4]), "labels must be between 0 and 3"),
        ({}, jnp.array([0.0, 1.0, 2.0]), r"labels must be integers \[3\]"),
    ],
)
def test_bad_input(change, labels, message):
    options = {"shape": SHAPE._replace(**change), "num_samples": 2, "rule": learning_rules.reward()}
    with pytest.raises((TypeError, ValueError), match=message):
        deep_recurrent_attention.objective(PARAMS, KEY, IMAGE, labels, **options)
