"""One glimpse on a grid, on real digits: the bound's identities, and every learning signal's exact mean gradient."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxelbo import bounds, checks, estimators, hard_attention, monte_carlo
from jaxelbo.attention import canvases, digit_files, learning_rules, one_glimpse
from jaxelbo.attention import one_glimpse_bounds as of_system
from tests.matrix import quick_jit

SHAPE = one_glimpse.Shape(image_size=24, grid=4, glimpse_size=8, context_pool=4, num_hidden=16)
CANVASES = canvases.translated(np.random.default_rng(0), digit_files.small_digits()[0], size=24)
PARAMS = jax.tree.map(lambda leaf: 3 * leaf, one_glimpse.init(jax.random.key(0), SHAPE))


def in_double_precision():
    cast = functools.partial(jax.tree.map, lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float64))
    return cast(PARAMS), jnp.asarray(CANVASES.images[3], jnp.float64), int(CANVASES.labels[3])


def test_the_identity_on_real_images():
    """log p(y|I) = F + KL(p(l|I) || p(l|y, I)), each term by itself and against NumPy's sums."""

    def sums(image, label):
        return (
            of_system.exact(PARAMS, image, label, SHAPE),
            one_glimpse.log_policy(PARAMS, image, SHAPE), one_glimpse.log_classes(PARAMS, image, SHAPE)[:, label],
        )  # fmt: skip

    exact, policies, likelihoods = quick_jit(jax.vmap(sums))(CANVASES.images[:200], CANVASES.labels[:200])
    np.testing.assert_allclose(exact.log_evidence, exact.bound + exact.gap, atol=1e-5)
    assert np.all(exact.gap > -1e-6) and np.all(exact.entropy <= np.log(16) + 1e-6)
    for index in range(200):
        policy, likelihood = (np.exp(np.asarray(logs[index], float)) for logs in (policies, likelihoods))
        np.testing.assert_allclose(exact.log_evidence[index], np.log(policy @ likelihood), rtol=1e-5)
        np.testing.assert_allclose(exact.bound[index], policy @ np.log(likelihood), rtol=1e-5)
        np.testing.assert_allclose(exact.entropy[index], -policy @ np.log(policy), rtol=1e-5)


def test_bounds_rise_to_the_evidence():
    """F <= L_2 <= L_4 <= log p on every one of ten real images, exactly."""
    with jax.enable_x64(True):
        params, _, _ = in_double_precision()

        @quick_jit
        def values(image, label):
            policy = one_glimpse.log_policy(params, image, SHAPE)
            likelihood = one_glimpse.log_classes(params, image, SHAPE)[:, label]
            of = functools.partial(hard_attention.exact_many_sample_bound, policy, policy, likelihood)
            exact = of_system.exact(params, image, label, SHAPE)
            return jnp.stack([exact.bound, of(2), of(4), exact.log_evidence])

        for index in range(10):
            rising = values(jnp.asarray(CANVASES.images[index], jnp.float64), CANVASES.labels[index])
            assert np.all(np.diff(rising) > 0), rising


def over_all_tuples(monkeypatch, estimator):
    """The estimator's expectation over every S-tuple of places in place of draws, itself an estimator."""
    monkeypatch.setattr(checks, "check_key", lambda key: None)  # places travel in its place
    monkeypatch.setattr(monte_carlo, "over_samples", lambda f, places, size, *rest: jax.vmap(f)(places, *rest))

    def expectation(params, key, log_joint, family, bound, num_samples):
        def sample(params, place):
            return jnp.ravel(place)[0]  # ravel: the traits are read at a whole tuple

        def sample_and_log_prob(params, place):
            return sample(params, place), family.log_prob(params, sample(params, place))

        fixed = family._replace(sample=sample, sample_and_log_prob=sample_and_log_prob)
        tuples = jnp.array(list(itertools.product(range(16), repeat=num_samples)))
        chances = jnp.prod(jax.nn.softmax(jax.lax.stop_gradient(params["logits"]))[tuples], axis=1)
        values = jax.vmap(lambda places: estimator(params, places, log_joint, fixed, bound, num_samples))(tuples)
        return chances @ values

    return expectation


def moving_average(*arguments):
    state = estimators.RunningMoments(jnp.asarray(-2.0), jnp.asarray(1.0))
    return estimators.moving_average(*arguments, state)[0]


SIGNALS = {
    "raw": estimators.score_function,
    "baseline of one's own": estimators.with_baseline(-2.0),
    "learned baseline": estimators.learned_baseline(lambda b: b, np.asarray(-1.5)),
    "moving average": moving_average,
    "leave-one-out": estimators.leave_one_out,
}


@pytest.mark.parametrize("bound", [bounds.mean, bounds.importance_weighted], ids=["F", "many samples"])
@pytest.mark.parametrize("signal", SIGNALS)
def test_mean_gradient_of_every_learning_signal(signal, bound, monkeypatch):
    """All 256 pairs of places through the estimator: the exact gradient, in both networks. With log-mean-exp,
    leave-one-out is VIMCO."""
    with jax.enable_x64(True):
        params, image, label = in_double_precision()

        def exact(params):
            policy = one_glimpse.log_policy(params, image, SHAPE)
            likelihood = one_glimpse.log_classes(params, image, SHAPE)[:, label]
            return hard_attention.exact_many_sample_bound(policy, policy, likelihood, 2, bound=bound)

        def mean(params):
            estimator = over_all_tuples(monkeypatch, SIGNALS[signal])
            arguments = params, jax.random.key(0), image, label
            return of_system.sampled_bound(*arguments, shape=SHAPE, num_samples=2, bound=bound, estimator=estimator)

        (value, ours), (expected_value, expected) = (quick_jit(jax.value_and_grad(f))(params) for f in (mean, exact))
        np.testing.assert_allclose(value, expected_value, rtol=1e-10)
        for leaf, like in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(leaf, like, rtol=1e-9, atol=1e-12)
        assert max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(expected["context"])) > 1e-3


def places_in_place_of_draws(monkeypatch):
    """The key of `objective` is then a tuple of places."""
    monkeypatch.setattr(checks, "check_key", lambda key: None)
    monkeypatch.setattr(jax.random, "categorical", lambda places, logits, shape: places)


@pytest.mark.parametrize("name", ["reward", "learned baseline", "VIMCO"])
def test_mean_gradient_of_learning_rules(name, monkeypatch):
    """All 256 pairs of places: F and the many-sample bound; the reward's is that of the expected accuracy."""
    rule, bound = {
        "reward": (learning_rules.reward(), bounds.mean),
        "learned baseline": (learning_rules.learned_baseline, bounds.mean),
        "VIMCO": (learning_rules.leave_one_out(bounds.importance_weighted), bounds.importance_weighted),
    }[name]
    with jax.enable_x64(True):
        params, image, label = in_double_precision()
        places_in_place_of_draws(monkeypatch)
        tuples = jnp.array(list(itertools.product(range(16), repeat=2)))

        def mean(params):
            chances = jnp.exp(jax.lax.stop_gradient(one_glimpse.log_policy(params, image, SHAPE)))
            value = lambda places: of_system.objective(
                params, places, image, label, shape=SHAPE, num_samples=2, rule=rule
            )[0]
            return jnp.prod(chances[tuples], axis=1) @ jax.vmap(value)(tuples)

        def exact(params):
            policy = one_glimpse.log_policy(params, image, SHAPE)
            log_classes = one_glimpse.log_classes(params, image, SHAPE)
            return hard_attention.exact_many_sample_bound(policy, policy, log_classes[:, label], 2, bound=bound)

        def accuracy(params):
            is_right = jnp.argmax(one_glimpse.log_classes(params, image, SHAPE), axis=1) == label
            return jnp.exp(one_glimpse.log_policy(params, image, SHAPE)) @ is_right.astype(float)

        ours, expected = (quick_jit(jax.grad(f))(params) for f in (mean, exact))
        if name == "reward":
            expected["context"] = quick_jit(jax.grad(accuracy))(params)["context"]
        for part in ("context", "classifier"):
            for leaf, like in zip(jax.tree.leaves(ours[part]), jax.tree.leaves(expected[part]), strict=True):
                np.testing.assert_allclose(leaf, like, rtol=1e-8, atol=1e-12)
        assert max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(expected["context"])) > 1e-4


def test_baseline_loss_does_not_train_the_policy():
    """A baseline that reads the policy's own weights: both networks learn as if it read constants."""
    image, label, key = CANVASES.images[3], int(CANVASES.labels[3]), jax.random.key(1)

    def value(params, baseline, peeks):
        feature = jnp.sum((params if peeks else PARAMS)["context"][0]["weight"][0])
        estimator = estimators.learned_baseline(lambda b: b + feature, baseline)
        return of_system.sampled_bound(params, key, image, label, shape=SHAPE, num_samples=2, estimator=estimator)

    gradient = quick_jit(jax.grad(value, argnums=(0, 1)), static_argnums=2)
    peeking, blind = gradient(PARAMS, -2.0, True), gradient(PARAMS, -2.0, False)
    np.testing.assert_allclose(peeking[1], blind[1], rtol=1e-6)
    assert blind[1] != 0
    for leaf, like in zip(jax.tree.leaves(peeking[0]), jax.tree.leaves(blind[0]), strict=True):
        np.testing.assert_allclose(leaf, like, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("bound", [bounds.mean, bounds.importance_weighted], ids=["ELBO", "many samples"])
def test_bound_of_a_learned_posterior(bound, monkeypatch):
    """All 256 pairs of places: value and gradient in policy, classifier and q; below the evidence."""
    with jax.enable_x64(True):
        params, image, label = in_double_precision()
        label = jnp.asarray(label)

        def exact(params):
            policy = one_glimpse.log_policy(params, image, SHAPE)
            likelihood = one_glimpse.log_classes(params, image, SHAPE)[:, label]
            log_q = one_glimpse.log_posterior(params, image, label, SHAPE)
            return hard_attention.exact_many_sample_bound(log_q, policy, likelihood, 2, bound=bound)

        def mean(params):
            estimator = over_all_tuples(monkeypatch, estimators.leave_one_out)
            arguments = params, jax.random.key(0), image, label
            return of_system.posterior_bound(*arguments, shape=SHAPE, num_samples=2, bound=bound, estimator=estimator)

        (value, ours), (expected_value, expected) = (quick_jit(jax.value_and_grad(f))(params) for f in (mean, exact))
        np.testing.assert_allclose(value, expected_value, rtol=1e-10)
        for leaf, like in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(leaf, like, rtol=1e-8, atol=1e-12)
        assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(ours["posterior"][-1]["weight"]))
        assert value < of_system.exact(params, image, label, SHAPE).log_evidence


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: of_system.exact(PARAMS, jnp.zeros((24, 24)), 10, SHAPE), "label must be between 0 and 9, got 10"),
        (lambda: of_system.exact(PARAMS, jnp.zeros((24, 24)), 1.0, SHAPE), "label must be one integer"),
        (lambda: of_system.exact(PARAMS, jnp.zeros((24, 23)), 1, SHAPE), r"image must have shape \(24, 24\)"),
        (lambda: of_system.exact(PARAMS, jnp.zeros((24, 24), int), 1, SHAPE), "image .* must be a floating-point"),
        (
            lambda: one_glimpse.init(jax.random.key(0), SHAPE._replace(glimpse_size=25)),
            "shape.glimpse_size must be at most 24",
        ),
        (lambda: one_glimpse.init(jax.random.key(0), SHAPE._replace(grid=0)), "shape.grid must be at least 1"),
        (lambda: one_glimpse.init(jax.random.key(0), 24), "shape must be a one_glimpse.Shape"),
        (lambda: one_glimpse.log_posterior(PARAMS, jnp.zeros((24, 24)), 1, 24), "shape must be a one_glimpse.Shape"),
        (lambda: of_system.exact(PARAMS, jnp.full((24, 24), 255.0), 1, SHAPE), "image must lie between 0 and 1"),
        (lambda: of_system.exact(PARAMS, jnp.full((24, 24), jnp.nan), 1, SHAPE), "image must lie between 0 and 1"),
        (
            lambda: of_system.objective(
                PARAMS, jax.random.key(0), jnp.zeros((24, 24)), 1, shape=SHAPE, num_samples=2, rule="reward"
            ),
            "rule must be a function",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()
