"""Show, Attend and Tell: its decoder step by step, and every rule's gradient against the sum over all cell paths."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxelbo import bounds, estimators
from jaxelbo.attention import canvases, digit_files, learning_rules, show_attend_tell
from tests.matrix import quick_jit

# Three cells in a row of three overlapping patches, words 0 to 3 and the end token 4.
SHAPE = show_attend_tell.Shape(
    height=4,
    width=8,
    patch_size=4,
    stride=2,
    part_size=2,
    num_channels=3,
    num_features=5,
    place_size=2,
    num_units=4,
    num_words=5,
)
PARAMS = jax.tree.map(lambda leaf: 2.5 * leaf, show_attend_tell.init(jax.random.key(0), SHAPE))
PARAMS["policy"]["both"]["weight"] *= 6  # a policy that is neither uniform nor sure
PARAMS["words"][1]["weight"] *= 4
PARAMS["baseline"]["bias"] -= 3  # near what it predicts
DIGITS = digit_files.small_digits()[0]
IMAGE = DIGITS.images[5][2:6]
CAPTION = np.array([2, 4, 4])  # one word, the end, and what does not count
KEY = jax.random.key(1)
PATHS = np.array(list(itertools.product(range(3), repeat=2)))  # cells of the two words that count
MOMENTS = estimators.RunningMoments(jnp.array(-3.0), jnp.array(1.0))
RULES = {
    "score function": (learning_rules.score_function, (), bounds.mean),
    "leave-one-out": (learning_rules.leave_one_out(bounds.mean), (), bounds.mean),
    "VIMCO": (learning_rules.leave_one_out(bounds.importance_weighted), (), bounds.importance_weighted),
    "learned baseline": (learning_rules.learned_baseline, (), bounds.mean),
    "moving average": (learning_rules.moving_average(), MOMENTS, bounds.mean),
}


def along(path):
    """Attention that takes the cells of a path, one after the other; it knows the step by its key."""
    keys = jax.random.key_data(jax.random.split(KEY, 2))

    def attend(key, log_policy):
        step = jnp.argmax(jnp.all(keys == jax.random.key_data(key)[None], axis=1))
        return jax.nn.one_hot(path[step], 3)

    return attend


def all_paths(params):
    """log p(s|a), log p(y|s, a) and the sum of the policies' entropies on each of the nine paths."""

    def of_one(path):
        told = show_attend_tell.tell(params, KEY, IMAGE, CAPTION[:2], shape=SHAPE, attend=along(path))
        score = sum(told.log_policy[step, path[step]] for step in range(2))
        log_likelihood = sum(told.log_words[step, word] for step, word in enumerate(CAPTION[:2]))
        return score, log_likelihood, -jnp.sum(jnp.exp(told.log_policy) * told.log_policy)

    return jax.vmap(of_one)(jnp.asarray(PATHS))


def expected_bound(params, bound=bounds.mean, num_samples=2, entropy_weight=0.0):
    scores, values, entropies = all_paths(params)
    tuples = jnp.array(list(itertools.product(range(9), repeat=num_samples)))
    chances = jnp.exp(jnp.sum(scores[tuples], axis=1))
    return chances @ jax.vmap(bound)((values + entropy_weight * entropies)[tuples])


def objective(params, key, rule, state=(), caption=CAPTION, num_samples=2, **options):
    return show_attend_tell.objective(
        params, key, IMAGE, caption, shape=SHAPE, num_samples=num_samples, rule=rule, state=state, **options
    )


@pytest.mark.parametrize("attend", [show_attend_tell.drawn_cell, show_attend_tell.all_cells])
def test_a_telling_step_by_step(attend):
    """Everything again in NumPy, at the cells that were drawn."""
    told = show_attend_tell.tell(PARAMS, KEY, IMAGE, CAPTION, shape=SHAPE, attend=attend)
    dense = lambda params, x: np.asarray(x) @ np.asarray(params["weight"]) + np.asarray(params["bias"])
    relu = lambda x: np.maximum(x, 0)
    sigmoid = lambda x: 1 / (1 + np.exp(-x))
    normalised = lambda x: x - np.log(np.sum(np.exp(x)))
    cells = []
    for cell in range(3):
        parts = [
            relu(dense(PARAMS["annotation"][0], IMAGE[down : down + 2, across : across + 2].ravel()))
            for down in (0, 2)
            for across in (2 * cell, 2 * cell + 2)
        ]
        where = np.asarray(PARAMS["places"][cell])
        cells.append(np.concatenate([relu(dense(PARAMS["annotation"][1], np.concatenate(parts))), where]))
    cells = np.stack(cells)
    hidden, memory = np.split(np.tanh(dense(PARAMS["start"], cells.mean(axis=0))), 2)
    policy = PARAMS["policy"]
    last = np.asarray(PARAMS["vocabulary"])[5]
    for step, word in enumerate(CAPTION):
        np.testing.assert_allclose(told.features[step], hidden, atol=1e-5)
        energy = np.tanh(dense(policy["cell"], cells) + dense(policy["state"], hidden))
        log_policy = normalised(dense(policy["both"], energy)[:, 0])
        np.testing.assert_allclose(told.log_policy[step], log_policy, atol=1e-4)
        weights = np.asarray(told.weights[step])
        if attend is show_attend_tell.all_cells:
            np.testing.assert_allclose(weights, np.exp(log_policy), atol=1e-5)
        else:
            assert sorted(weights) == [0, 0, 1]
        context = weights @ cells
        gates = dense(PARAMS["decoder"], np.concatenate([context, last, hidden]))
        let_in, keep, let_out, candidate = np.split(gates, 4)
        memory = sigmoid(keep) * memory + sigmoid(let_in) * np.tanh(candidate)
        hidden = sigmoid(let_out) * np.tanh(memory)
        mixed = relu(dense(PARAMS["words"][0], np.concatenate([hidden, context, last])))
        np.testing.assert_allclose(told.log_words[step], normalised(dense(PARAMS["words"][1], mixed)), atol=1e-4)
        last = np.asarray(PARAMS["vocabulary"])[word]


def test_the_bound_is_below_the_evidence_and_many_samples_between():
    scores, values, _ = quick_jit(all_paths)(PARAMS)
    np.testing.assert_allclose(jnp.sum(jnp.exp(scores)), 1, rtol=1e-5)
    evidence = float(jax.nn.logsumexp(scores + values))
    chances, values = np.exp(np.asarray(scores)), np.asarray(values)
    means = []
    for num in (1, 2, 3):  # over all draws of so many paths
        tuples = np.array(list(itertools.product(range(9), repeat=num)))
        means.append(chances[tuples].prod(axis=1) @ np.log(np.exp(values[tuples]).mean(axis=1)))
    assert means[0] < means[1] - 0.01 < means[2] - 0.01 < evidence - 0.02


@pytest.mark.parametrize(
    ("name", "entropy_weight"), [*((name, 0.0) for name in RULES), ("leave-one-out", 0.5), ("VIMCO", 0.5)]
)
def test_mean_gradient_against_enumeration(name, entropy_weight):
    """Many pairs of paths, in the direction of the exact gradient of each part: a bias of 12 % would show, 4 s.e."""
    rule, state, bound = RULES[name]
    num_keys = 20_000 if name != "score function" else 60_000
    sampled = lambda params, key: objective(params, key, rule, state, CAPTION[:2], entropy_weight=entropy_weight)[0]
    expected = lambda params: expected_bound(params, bound, entropy_weight=entropy_weight)
    parts = "policy", "words", "decoder", "annotation", "places", "start"
    check_mean_gradient(PARAMS, sampled, expected, parts, num_keys)


def check_mean_gradient(params, sampled, expected, parts, num_keys):
    """Mean value and mean gradient of ``sampled(params, key)`` against ``expected(params)``."""
    run = quick_jit(jax.vmap(jax.value_and_grad(sampled), (None, 0)))
    values, slopes = run(params, jax.random.split(KEY, num_keys))
    value, slope = quick_jit(jax.value_and_grad(expected))(params)
    assert abs(np.mean(values) - value) < 4 * np.std(values) / np.sqrt(num_keys)
    for part in parts:
        size = sum(float(jnp.sum(leaf**2)) for leaf in jax.tree.leaves(slope[part]))
        products = [
            np.sum((np.asarray(draws) * np.asarray(like)).reshape(num_keys, -1), axis=1)
            for draws, like in zip(jax.tree.leaves(slopes[part]), jax.tree.leaves(slope[part]), strict=True)
        ]
        along_it = sum(products) / size
        error = along_it.std() / np.sqrt(num_keys)
        assert error < 0.03 and abs(along_it.mean() - 1) < 4 * error, (part, along_it.mean(), error)


def all_proposed(params):
    """log q(s|y, a) and the log-weight log p(y, s|a) - log q(s|y, a) of each of the nine paths."""

    def of_one(path):
        told = show_attend_tell.propose(params, KEY, IMAGE, CAPTION[:2], shape=SHAPE, attend=along(path))
        log_q, log_p = (
            sum(log_probs[step, path[step]] for step in range(2)) for log_probs in (told.log_proposal, told.log_policy)
        )
        return log_q, log_p + sum(told.log_words[step, word] for step, word in enumerate(CAPTION[:2])) - log_q

    return jax.vmap(of_one)(jnp.asarray(PATHS))


def test_proposals_know_the_word():
    """q is the policy where the correction is zero, and another where it is not; the evidence is the same sum."""
    params = PARAMS | {"posterior": {"weight": 2 * jnp.eye(4), "bias": jnp.ones(4)}}
    (log_q, weights), (scores, values, _) = (quick_jit(of)(params) for of in (all_proposed, all_paths))
    np.testing.assert_allclose(jnp.sum(jnp.exp(log_q)), 1, rtol=1e-5)
    assert np.max(np.abs(log_q - scores)) > 0.1
    np.testing.assert_allclose(jax.nn.logsumexp(log_q + weights), jax.nn.logsumexp(scores + values), rtol=1e-5)
    np.testing.assert_allclose(quick_jit(all_proposed)(PARAMS)[0], scores, rtol=1e-5)


@pytest.mark.parametrize("name", ["leave-one-out", "VIMCO"])
def test_mean_gradient_of_a_learned_posterior_against_enumeration(name):
    """As above, q's own parameters among the parts."""
    rule, state, bound = RULES[name]
    params = PARAMS | {"posterior": {"weight": 2 * jnp.eye(4), "bias": jnp.ones(4)}}

    def expected(params):
        log_q, weights = all_proposed(params)
        tuples = jnp.array(list(itertools.product(range(9), repeat=2)))
        return jnp.exp(jnp.sum(log_q[tuples], axis=1)) @ jax.vmap(bound)(weights[tuples])

    def sampled(params, key):
        options = {"shape": SHAPE, "num_samples": 2, "rule": rule, "state": state}
        return show_attend_tell.posterior_objective(params, key, IMAGE, CAPTION[:2], **options)[0]

    check_mean_gradient(params, sampled, expected, ("posterior", "policy", "words", "decoder", "vocabulary"), 40_000)


def test_relaxed_cells():
    """Weights on the simplex; at a low temperature the value is that of drawn cells; gradient against differences."""
    keys = jax.random.split(KEY, 4_000)
    weights = jax.vmap(lambda key: show_attend_tell.relaxed_cell(0.5)(key, jnp.log(jnp.array([0.2, 0.3, 0.5]))))(keys)
    np.testing.assert_allclose(jnp.sum(weights, axis=1), 1, rtol=1e-5)
    largest = np.bincount(np.argmax(weights, axis=1), minlength=3) / 4_000
    assert np.all(np.abs(largest - [0.2, 0.3, 0.5]) < 4 * np.sqrt(0.25 / 4_000))
    relaxed = functools.partial(
        show_attend_tell.relaxed_objective, image=IMAGE, caption=CAPTION, shape=SHAPE, num_samples=1
    )
    values = quick_jit(jax.vmap(lambda key: relaxed(PARAMS, key, temperature=0.001)))(keys)
    exact = quick_jit(expected_bound)(PARAMS)
    assert abs(values.mean() - exact) < 4 * values.std() / np.sqrt(4_000) + 1e-3
    with jax.enable_x64(True):
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), PARAMS)
        moved = lambda size: params | {"policy": jax.tree.map(lambda leaf: leaf * (1 + size), params["policy"])}
        value = lambda size: relaxed(moved(size), KEY, image=IMAGE.astype(np.float64), temperature=0.7)
        run, slope = quick_jit(value), quick_jit(jax.grad(value))(0.0)
        np.testing.assert_allclose(slope, (run(1e-5) - run(-1e-5)) / 2e-5, rtol=1e-6)
        assert abs(slope) > 1e-3


def paths_of(caption, num_samples):
    """What the objective hands to a rule."""
    show = lambda paths, baseline, state: (jnp.mean(paths.log_likelihoods), paths)
    return quick_jit(lambda: objective(PARAMS, KEY, show, (), caption, num_samples)[1])()


def test_baseline_loss_trains_the_baseline_alone():
    paths = paths_of(CAPTION, 2)
    value = lambda features, baseline: learning_rules.learned_baseline(paths._replace(features=features), baseline, ())[
        0
    ]
    of_features, of_baseline = jax.grad(value, argnums=(0, 1))(paths.features, PARAMS["baseline"])
    assert np.all(of_features == 0) and np.all(of_baseline["weight"] != 0)
    assert np.all(paths.features[:, 2] == 0) and np.all(paths.score_log_probs[:, 2] == 0)  # after the end


def test_rewards_are_the_right_words_to_come():
    caption = np.array([2, 1, 4, 4])
    tell = lambda key: show_attend_tell.tell(
        PARAMS, key, IMAGE, caption, shape=SHAPE, attend=show_attend_tell.drawn_cell
    )
    told = quick_jit(jax.vmap(tell))(jax.random.split(KEY, 8))
    is_right = np.argmax(told.log_words, axis=2)[:, :3] == caption[None, :3]
    assert 0 < is_right.mean() < 1
    expected = np.stack([is_right[:, step:].sum(axis=1) for step in range(3)] + [np.zeros(8)], axis=1)
    np.testing.assert_array_equal(paths_of(caption, 8).rewards, expected)


@pytest.mark.parametrize("name", ["VIMCO", "learned baseline"])
def test_what_stands_after_the_end_does_not_count(name):
    rule, state, _ = RULES[name]
    of_caption = quick_jit(jax.value_and_grad(lambda params, caption: objective(params, KEY, rule, state, caption)[0]))
    (value, slope), (other, other_slope) = (of_caption(PARAMS, np.array(c)) for c in ([2, 4, 4, 4], [2, 4, 0, 3]))
    assert value == other
    jax.tree.map(np.testing.assert_array_equal, slope, other_slope)
    assert np.any(slope["policy"]["both"]["weight"] != 0)


@pytest.mark.usefixtures("exact_products")
def test_a_sure_policy_makes_hard_and_soft_attention_one():
    sure = PARAMS | {"policy": PARAMS["policy"] | {"both": jax.tree.map(lambda x: 1e4 * x, PARAMS["policy"]["both"])}}
    hard = objective(sure, KEY, learning_rules.score_function)[0]
    soft = functools.partial(show_attend_tell.soft_objective, image=IMAGE, caption=CAPTION, shape=SHAPE)
    np.testing.assert_allclose(hard, soft(sure), rtol=1e-5)
    assert abs(objective(PARAMS, KEY, learning_rules.score_function)[0] - soft(PARAMS)) > 0.01


def test_soft_gradient_against_differences():
    """With entropies beside, in float64."""
    with jax.enable_x64(True):
        # Away from biases of zero, where empty parts of the image stand on the kink of a rectifier.
        wave = lambda leaf: 0.1 * jnp.sin(jnp.arange(1.0, leaf.size + 1)).reshape(leaf.shape)
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64) + wave(leaf), PARAMS)
        direction = jax.tree.map(lambda leaf: jnp.cos(jnp.arange(leaf.size).reshape(leaf.shape) * 1.7), params)
        image = IMAGE.astype(np.float64)

        def value(size):
            moved = jax.tree.map(lambda leaf, step: leaf + size * step, params, direction)
            return show_attend_tell.soft_objective(moved, image, CAPTION, shape=SHAPE, entropy_weight=0.3)

        run, slope = quick_jit(value), quick_jit(jax.grad(value))(0.0)
        np.testing.assert_allclose(slope, (run(1e-5) - run(-1e-5)) / 2e-5, rtol=1e-6)
        entropy = run(0.0) - show_attend_tell.soft_objective(params, image, CAPTION, shape=SHAPE)
        told = show_attend_tell.tell(params, KEY, image, CAPTION, shape=SHAPE, attend=show_attend_tell.all_cells)
        expected = -np.sum(np.exp(told.log_policy[:2]) * told.log_policy[:2])
        np.testing.assert_allclose(entropy, 0.3 * expected, rtol=1e-10)


def mixed(params, key, state, soft_probability):
    images, captions = jnp.stack([IMAGE, 1 - IMAGE]), jnp.array([[2, 4, 4], [1, 3, 4]])
    hard = functools.partial(
        show_attend_tell.objective, shape=SHAPE, num_samples=2, rule=learning_rules.moving_average()
    )
    soft = functools.partial(show_attend_tell.soft_objective, shape=SHAPE)
    options = {"hard": hard, "soft": soft, "soft_probability": soft_probability}
    value, state = show_attend_tell.mixed_objective(params, key, images, captions, state, **options)
    expected = jax.vmap(lambda image, caption: soft(params, image, caption))(images, captions)
    return value, (state, jnp.mean(expected))


@pytest.mark.usefixtures("exact_products")
def test_soft_steps_are_soft_attention():
    """Value and gradient; no score term, and the rule's state stays."""
    (value, (state, soft)), slope = quick_jit(jax.value_and_grad(mixed, has_aux=True))(PARAMS, KEY, MOMENTS, 1.0)
    np.testing.assert_allclose(value, soft, rtol=1e-6)
    assert state.mean == MOMENTS.mean

    @quick_jit
    @jax.grad
    def of_soft(params):
        values = [
            show_attend_tell.soft_objective(params, image, caption, shape=SHAPE)
            for image, caption in ((IMAGE, np.array([2, 4, 4])), (1 - IMAGE, np.array([1, 3, 4])))
        ]
        return sum(values) / 2

    expected = of_soft(PARAMS)
    for leaf, like in zip(jax.tree.leaves(slope), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(leaf, like, rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("exact_products")
def test_one_coin_for_the_whole_minibatch():
    """400 keys: soft steps as often as asked, to 4 standard errors; all other values are those of draws."""
    run = quick_jit(jax.vmap(lambda key: mixed(PARAMS, key, MOMENTS, 0.3)))
    values, (states, soft) = run(jax.random.split(KEY, 400))
    is_soft = np.asarray(states.mean == MOMENTS.mean)
    assert abs(is_soft.mean() - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 400)
    np.testing.assert_allclose(values[is_soft], soft[is_soft], rtol=1e-5)
    assert np.mean(np.abs(values - soft)[~is_soft] > 1e-4) > 0.99
    # decay 0.9: the state moves by a tenth of the way to the mean over images and paths
    np.testing.assert_allclose(states.mean[~is_soft], 0.9 * -3.0 + 0.1 * values[~is_soft], rtol=1e-5)


@pytest.mark.parametrize("attend", [show_attend_tell.likeliest_cell, show_attend_tell.all_cells])
def test_scores_of_one_image(attend):
    caption = np.array([3, 1, 4])
    options = {"shape": SHAPE, "attend": attend}
    evaluate = quick_jit(
        lambda image, corners: show_attend_tell.evaluate(
            PARAMS, KEY, image, caption, corners, num_samples=50, digit_size=3, **options
        )
    )
    read = quick_jit(lambda image: show_attend_tell.read(PARAMS, KEY, image, num_words=3, **options))
    tell = quick_jit(lambda image: show_attend_tell.tell(PARAMS, KEY, image, caption, **options))
    seen = set()
    for index, image in enumerate(DIGITS.images[:8, 2:6]):
        left = (2, 4) if index % 2 else (4, 0)
        corners = np.stack([np.zeros(2, int), left], axis=1)
        scores, reading, told = evaluate(image, corners), read(image), tell(image)
        assert scores.sequence_error == np.any(reading.words != caption)
        centres = 2.0 + 2 * np.argmax(reading.weights, axis=1)[:2]  # across; all are at 2 down
        expected = np.mean([low <= centre < low + 3 for centre, low in zip(centres, left, strict=True)])
        seen.add(expected)
        np.testing.assert_allclose(scores.on_target, expected, rtol=1e-6)
        expected = sum(told.log_words[step, word] for step, word in enumerate(caption))
        np.testing.assert_allclose(scores.log_likelihood, expected, rtol=1e-5)
        assert scores.bound < scores.many_sample_bound < 0 and 0 < scores.entropy < np.log(3)
    assert len(seen) > 1  # on target and off it


def test_reading_goes_on_from_what_was_read():
    reading = show_attend_tell.read(
        PARAMS, KEY, IMAGE, shape=SHAPE, num_words=4, attend=show_attend_tell.likeliest_cell
    )
    told = show_attend_tell.tell(PARAMS, KEY, IMAGE, reading.words, shape=SHAPE, attend=show_attend_tell.likeliest_cell)
    np.testing.assert_array_equal(reading.words, np.argmax(told.log_words, axis=1))
    np.testing.assert_allclose(reading.log_words, told.log_words, atol=1e-6)


def test_canvases_with_captions():
    made = canvases.captions(np.random.default_rng(0), DIGITS, height=12, width=34, num_canvases=600)
    counts = np.sum(made.labels != 10, axis=1)
    assert made.images.shape == (600, 12, 34) and made.labels.shape == (600, 5)
    assert np.all(np.abs(np.bincount(counts, minlength=6)[2:5] - 200) < 4 * np.sqrt(600 * 2 / 9))
    for image, label, corners, count in zip(*made, counts, strict=True):
        assert np.all(label[count:] == 10) and np.all(corners[count:] == -1) and np.all(label[:count] < 10)
        assert np.all(np.diff(corners[:count, 1]) >= 8) and corners[:count].min() >= 0
        rest = image.copy()
        for digit, (down, across) in zip(label, corners[:count], strict=False):
            same = DIGITS.images[DIGITS.labels == digit]
            patch = image[down : down + 8, across : across + 8]
            assert np.any(np.all(same == patch, axis=(1, 2)))
            rest[down : down + 8, across : across + 8] = 0
        assert np.all(rest == 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: show_attend_tell.init(KEY, SHAPE._replace(num_words=0)), "shape.num_words must be at least 1"),
        (lambda: show_attend_tell.init(KEY, SHAPE._replace(patch_size=6)), "shape.patch_size must be at most 4"),
        (lambda: show_attend_tell.init(KEY, SHAPE._replace(part_size=3)), "shape.part_size must be the patch's 4 less"),
        (lambda: show_attend_tell.init(KEY, 8), "shape must be a caption_network.Shape"),
        (
            lambda: show_attend_tell.soft_objective(PARAMS, IMAGE[None], CAPTION, shape=SHAPE),
            r"image must have shape \[H, W\]",
        ),
        (
            lambda: show_attend_tell.soft_objective(PARAMS, IMAGE[:3], CAPTION, shape=SHAPE),
            r"image must have shape \(4, 8\), got \(3, 8\)",
        ),
        (
            lambda: show_attend_tell.soft_objective(PARAMS, IMAGE, CAPTION[None], shape=SHAPE),
            r"caption \[T\] must be an array of integers",
        ),
        (
            lambda: show_attend_tell.soft_objective(PARAMS, IMAGE, CAPTION + 1, shape=SHAPE),
            "caption must hold words between 0 and 4",
        ),
        (lambda: objective(PARAMS, KEY, learning_rules.score_function, num_samples=0), "num_samples must be at least"),
        (
            lambda: objective(PARAMS, KEY, learning_rules.score_function, entropy_weight="x"),
            "entropy_weight must be a real number",
        ),
        (lambda: mixed(PARAMS, KEY, MOMENTS, 1.5), "soft_probability must be between 0 and 1"),
        (
            lambda: show_attend_tell.read(
                PARAMS, KEY, IMAGE, shape=SHAPE, num_words=0, attend=show_attend_tell.all_cells
            ),
            "num_words must be at least 1",
        ),
        (
            lambda: show_attend_tell.tell(PARAMS, KEY, IMAGE, CAPTION, shape=SHAPE, attend="soft"),
            "attend must be a function",
        ),
        (
            lambda: show_attend_tell.evaluate(
                PARAMS, KEY, IMAGE, CAPTION, np.zeros((4, 2)),
                shape=SHAPE, num_samples=1, attend=show_attend_tell.all_cells, digit_size=3,
            ),
            r"corners must have shape \[D, 2\]",
        ),
        (
            lambda: canvases.captions(np.random.default_rng(0), DIGITS, height=8, width=31, num_canvases=1),
            "width must be at least 32 for 4 digits",
        ),
        (
            lambda: canvases.captions(np.random.default_rng(0), DIGITS, height=7, width=40, num_canvases=1),
            "height, width must be at least the digits' sides",
        ),
        (
            lambda: canvases.captions(
                np.random.default_rng(0), DIGITS, height=8, width=40, num_canvases=1, end_token=9
            ),
            "end_token must be above the labels, at least 10",
        ),
    ],
)  # fmt: skip
def test_bad_input(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()
