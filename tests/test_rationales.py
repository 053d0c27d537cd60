"""Rationales: the prior and the objectives by listing all masks, both generators, readers of texts, word vectors."""

import functools
import gzip
import itertools
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxelbo import bounds, estimators
from jaxelbo.attention import rationale_bounds, rationale_masks, rationales, text_files, word_vectors
from jaxelbo.attention.rationale_generators import EVERY_WORD, INDEPENDENT, RECURRENT, Shape
from jaxelbo.attention.rationale_masks import Penalty
from tests.matrix import quick_jit

SHAPE = Shape(length=5, num_features=3, num_units=4)
WORDS, KEY = jnp.array([2, 5, 3, 4, 0]), jax.random.key(1)
VECTORS = jax.random.normal(jax.random.key(2), (6, 7))
PENALTY = Penalty(0.9, 0.3)
MASKS = jnp.array([[*bits, 0] for bits in itertools.product([0.0, 1.0], repeat=4)])  # the last is padding
each_generator = pytest.mark.parametrize("generator", [INDEPENDENT, RECURRENT], ids=["independent", "recurrent"])


def params_of(generator):
    params = rationales.init(jax.random.key(0), SHAPE, generator, num_words=6, num_dimensions=7)
    return jax.tree.map(lambda leaf: 3 * leaf, params)


def listed(params, generator):
    """log p(z|x) and log p(y=1|z, x) of every mask."""
    known = rationales.features(params, VECTORS, WORDS)
    policy = generator.policy(params["select"], known, WORDS > 0)
    log_policy = jax.vmap(generator.family(SHAPE).log_prob, (None, 0))(policy, MASKS)
    return log_policy, jax.vmap(lambda mask: rationales.log_classes(params, known, mask)[1])(MASKS)


def test_prior_adds_to_one():
    """And is the penalty up to a constant."""
    is_word = WORDS > 0
    log_prior = np.asarray(jax.vmap(lambda mask: rationale_masks.log_prior(mask, is_word, PENALTY))(MASKS))
    np.testing.assert_allclose(np.exp(log_prior).sum(), 1, rtol=1e-5)
    bits = np.asarray(MASKS)[:, :4]
    omega = 0.9 * bits.sum(1) + 0.3 * np.abs(np.diff(bits, axis=1)).sum(1)
    np.testing.assert_allclose(log_prior - log_prior[0], -omega, atol=1e-5)


@each_generator
def test_policy_adds_to_one_and_leaves_padding(generator):
    params = params_of(generator)
    log_policy, _ = quick_jit(functools.partial(listed, generator=generator))(params)
    np.testing.assert_allclose(np.exp(log_policy).sum(), 1, rtol=1e-5)
    known = rationales.features(params, VECTORS, WORDS)
    policy = generator.policy(params["select"], known, WORDS > 0)
    mode = np.asarray(generator.mode(policy))
    assert set(mode) <= {0.0, 1.0} and mode[-1] == 0
    if generator is INDEPENDENT:  # for independent words the greedy mask is the likeliest
        np.testing.assert_array_equal(mode, MASKS[np.argmax(log_policy)])


def test_recurrent_mode_is_greedy():
    params, family = params_of(RECURRENT), RECURRENT.family(SHAPE)
    policy = RECURRENT.policy(params["select"], rationales.features(params, VECTORS, WORDS), WORDS > 0)
    mode = RECURRENT.mode(policy)
    scores = np.asarray(family.score_log_probs(policy, mode))
    assert np.all(np.exp(scores) >= 0.5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("generator", "objective", "estimator"),
    [
        (INDEPENDENT, "cost", estimators.leave_one_out), (RECURRENT, "cost", estimators.leave_one_out),
        (RECURRENT, "elbo", estimators.leave_one_out), (INDEPENDENT, "many-sample", estimators.leave_one_out),
        (INDEPENDENT, "cost", estimators.disarm), (INDEPENDENT, "cost", estimators.rebar(1.0, 0.5)),
    ],
    ids=["cost", "cost, recurrent", "elbo, recurrent", "many-sample", "cost, DisARM", "cost, REBAR"],
)  # fmt: skip
def test_value_and_gradient_by_listing(generator, objective, estimator):
    """The mean over 100,000 keys, within 4 standard errors that would show 3%; the orders of the bounds."""
    params = params_of(generator)
    options = {"shape": SHAPE, "generator": generator, "penalty": PENALTY, "estimator": estimator}
    log_priors = jax.vmap(lambda mask: rationale_masks.log_prior(mask, WORDS > 0, PENALTY))(MASKS)
    omegas = jax.vmap(lambda mask: rationale_masks.omega(mask, WORDS > 0, PENALTY))(MASKS)

    def exact(params):
        log_policy, log_likelihood = listed(params, generator)
        if objective == "cost":
            return jnp.exp(log_policy) @ (omegas - log_likelihood)
        log_weights = log_priors + log_likelihood - log_policy
        if objective == "elbo":
            return jnp.exp(log_policy) @ log_weights
        pairs = jnp.exp(log_policy[:, None] + log_policy[None])
        return jnp.sum(pairs * (jnp.logaddexp(log_weights[:, None], log_weights[None]) - jnp.log(2.0)))

    def value(params, key):
        arguments = params, key, VECTORS, WORDS, jnp.asarray(1)
        if objective == "cost":
            return rationale_bounds.expected_cost(*arguments, num_samples=2, **options)
        bound = bounds.mean if objective == "elbo" else bounds.importance_weighted
        return rationale_bounds.elbo(*arguments, num_samples=2, bound=bound, **options)

    expected_value, expected = quick_jit(jax.value_and_grad(exact))(params)
    keys = jax.random.split(KEY, 100_000)
    values, slopes = jax.jit(jax.vmap(jax.value_and_grad(value), (None, 0)))(params, keys)
    values = np.asarray(values, float)
    assert abs(values.mean() - expected_value) < 4 * values.std() / np.sqrt(len(values))
    if objective != "cost":
        _, log_likelihood = quick_jit(functools.partial(listed, generator=generator))(params)
        assert expected_value < jax.nn.logsumexp(log_priors + log_likelihood)
    for name in ("project", "select", "classify", "words"):
        leaves = zip(jax.tree.leaves(expected[name]), jax.tree.leaves(slopes[name]), strict=True)
        along, size = np.zeros(len(keys)), 0.0
        for leaf, draws in leaves:
            leaf, draws = np.asarray(leaf, float), np.asarray(draws, float)
            along = along + (draws * leaf[None]).reshape(len(keys), -1).sum(1)
            size = size + np.sum(leaf**2)
        ratio = along / size
        error = ratio.std() / np.sqrt(len(ratio))
        assert 4 * error < 0.03, (name, error)
        assert abs(ratio.mean() - 1) < 4 * error + 1e-5, (name, ratio.mean())


def test_relaxed_masks_point_the_way():
    """Gumbel-softmax is biased: the mean of 2,000 gradients of the generator is near the exact one in direction."""
    params, options = params_of(INDEPENDENT), {"shape": SHAPE, "generator": INDEPENDENT, "penalty": PENALTY}

    def exact(params):
        log_policy, log_likelihood = listed(params, INDEPENDENT)
        omegas = jax.vmap(lambda mask: rationale_masks.omega(mask, WORDS > 0, PENALTY))(MASKS)
        return jnp.exp(log_policy) @ (omegas - log_likelihood)

    def cost(params, key):
        arguments = params, key, VECTORS, WORDS, jnp.asarray(1)
        estimator = estimators.gumbel_softmax(0.5)
        return rationale_bounds.expected_cost(*arguments, num_samples=2, estimator=estimator, **options)

    slopes = quick_jit(jax.vmap(jax.grad(cost), (None, 0)))(params, jax.random.split(KEY, 2_000))["select"]
    flat = lambda tree: np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])
    ours = flat(jax.tree.map(lambda leaf: np.mean(leaf, axis=0), slopes))
    expected = flat(quick_jit(jax.grad(exact))(params)["select"])
    assert ours @ expected > 0.9 * np.linalg.norm(ours) * np.linalg.norm(expected)


@pytest.mark.usefixtures("exact_products")
def test_scores_of_one_text():
    """Errors of the greedy mask, of drawn masks, and of their average, by the masks that were drawn."""
    params = params_of(INDEPENDENT)
    options = {"shape": SHAPE, "generator": INDEPENDENT, "num_samples": 30}
    known = rationales.features(params, VECTORS, WORDS)
    policy = INDEPENDENT.policy(params["select"], known, WORDS > 0)
    masks = jax.vmap(INDEPENDENT.family(SHAPE).sample, (None, 0))(policy, jax.random.split(KEY, 30))
    log_classes = np.stack([rationales.log_classes(params, known, mask) for mask in masks])
    seen = []
    for label in (0, 1):
        scores = rationales.evaluate(params, KEY, VECTORS, WORDS, jnp.asarray(label), **options)
        np.testing.assert_allclose(scores.one_path, np.mean(log_classes.argmax(axis=1) != label), rtol=1e-6)
        assert scores.averaged == (np.exp(log_classes).mean(axis=0).argmax() != label)
        np.testing.assert_allclose(scores.num_drawn, np.sum(masks) / 30, rtol=1e-6)
        np.testing.assert_allclose(scores.bound, log_classes[:, label].mean(), rtol=1e-5)
        seen.append(float(scores.one_path))
    assert 0 < seen[0] < 1 and abs(sum(seen) - 1) < 1e-6


def test_every_word_is_the_encoder_alone():
    params = params_of(EVERY_WORD)
    options = {"shape": SHAPE, "generator": EVERY_WORD}
    scores = rationales.evaluate(params, KEY, VECTORS, WORDS, jnp.asarray(1), num_samples=3, **options)
    np.testing.assert_array_equal(scores.mask, [1, 1, 1, 1, 0])
    assert scores.error == scores.all_words_error and scores.entropy < 1e-5 and scores.num_kept == 4
    np.testing.assert_allclose(scores.bound, scores.many_sample_bound, rtol=1e-5)


def test_dropout_keeps_the_mean_and_stops_at_nothing():
    x = jnp.ones((50, 40))
    dropped = rationales._drop(KEY, x, x.shape, 0.25)
    assert set(np.unique(dropped.round(4))) == {0.0, np.float32(1.3333)}
    assert abs(float(dropped.mean()) - 1) < 0.06
    assert rationales._drop(KEY, x, x.shape, 0.0) is x


def test_bad_input():
    params, options = params_of(INDEPENDENT), {"shape": SHAPE, "generator": INDEPENDENT}
    cost = functools.partial(rationale_bounds.expected_cost, penalty=PENALTY, num_samples=2, **options)
    with pytest.raises(ValueError, match="label must be between 0 and 1, got 2"):
        cost(params, KEY, VECTORS, WORDS, jnp.asarray(2))
    with pytest.raises(ValueError, match=r"words must have shape \(5,\)"):
        cost(params, KEY, VECTORS, WORDS[:3], jnp.asarray(1))
    with pytest.raises(TypeError, match="words must be integers"):
        cost(params, KEY, VECTORS, WORDS.astype(float), jnp.asarray(1))
    with pytest.raises(ValueError, match="vectors must have 6 rows"):
        cost(params, KEY, VECTORS[:4], WORDS, jnp.asarray(1))
    with pytest.raises(TypeError, match=r"penalty must be a rationale_masks\.Penalty"):
        not_one: Any = 0.3
        rationale_bounds.expected_cost(
            params, KEY, VECTORS, WORDS, jnp.asarray(1), penalty=not_one, num_samples=2, **options
        )
    with pytest.raises(ValueError, match=r"shape\.num_units"):
        rationales.init(KEY, SHAPE._replace(num_units=0), INDEPENDENT, num_words=6, num_dimensions=7)
    for rate in (1.0, -0.1, float("nan")):
        with pytest.raises(ValueError, match="word_dropout must be at least 0 and below 1"):
            cost(params, KEY, VECTORS, WORDS, jnp.asarray(1), word_dropout=rate)
    with pytest.raises(ValueError, match=r"is_word must be bool \(5,\)"):
        rationale_masks.omega(jnp.zeros(5), jnp.ones(4, bool), PENALTY)


TREES = "(3 (2 A) (4 (3 Fine) (2 film)))\n(2 (2 It) (2 is))\n(0 (1 Dull) (2 .))\n"


@pytest.mark.parametrize("is_zipped", [False, True])
def test_treebank(tmp_path, is_zipped):
    if is_zipped:
        (tmp_path / "dev.txt.gz").write_bytes(gzip.compress(TREES.encode()))
    else:
        (tmp_path / "dev.txt").write_text(TREES)
    first, second = text_files.read_treebank(tmp_path, "dev")
    assert first.words == ("a", "fine", "film") and first.label == 1 and list(first.is_marked) == [False, True, False]
    assert second.words == ("dull", ".") and second.label == 0 and list(second.is_marked) == [True, False]


def test_reviews(tmp_path):
    review = {"tokens": ["What", "a", "mess"], "label": "NEG", "evidence": [[1, 3]]}
    (tmp_path / "val.jsonl").write_text(json.dumps(review) + "\n")
    (text,) = text_files.read_reviews(tmp_path, "val")
    assert text.words == ("what", "a", "mess") and text.label == 0 and list(text.is_marked) == [False, True, True]


def test_unreadable_texts(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"train\.txt .*is not in the folder .*small_texts\(\)"):
        text_files.read_treebank(tmp_path, "train")
    with pytest.raises(FileNotFoundError, match=r"train\.jsonl .*ERASER .*small_texts\(\)"):
        text_files.read_reviews(tmp_path, "train")
    (tmp_path / "test.txt").write_text(TREES + "no tree\n")
    with pytest.raises(ValueError, match=r"line 4 of test\.txt is no tree"):
        text_files.read_treebank(tmp_path, "test")
    (tmp_path / "test.jsonl").write_text('{"tokens": ["a"], "label": "NEG"}\n')
    with pytest.raises(ValueError, match=r"line 1 of test\.jsonl is no review"):
        text_files.read_reviews(tmp_path, "test")
    whole = gzip.compress(TREES.encode())
    for spoiled in (whole[:20], whole[:15] + b"spoiled" + whole[22:]):
        (tmp_path / "dev.txt.gz").write_bytes(spoiled)
        with pytest.raises(ValueError, match="truncated or unreadable"):
            text_files.read_treebank(tmp_path, "dev")
    (tmp_path / "test.txt").write_text("")
    with pytest.raises(ValueError, match="is empty"):
        text_files.read_treebank(tmp_path, "test")
    (tmp_path / "test.txt").write_text("(9 (2 A) (2 film))\n")
    with pytest.raises(ValueError, match=r"line 1 of test\.txt is no tree"):
        text_files.read_treebank(tmp_path, "test")
    (tmp_path / "val.jsonl").write_text('{"tokens": "abc", "label": "NEG", "evidence": []}\n')
    with pytest.raises(ValueError, match=r"line 1 of val\.jsonl is no review"):
        text_files.read_reviews(tmp_path, "val")


def test_encoding():
    texts = [text_files.Text(("a", "b", "a", "c"), 1, np.array([True, False, False, True]))]
    numbers = text_files.vocabulary(texts, min_count=2)
    assert numbers == {"a": 2}
    encoded = text_files.encode(texts, numbers, length=3)
    np.testing.assert_array_equal(encoded.words, [[2, 1, 2]])
    np.testing.assert_array_equal(encoded.is_marked, [[True, False, False]])
    assert encoded.lengths == [4] and encoded.labels == [1]
    with pytest.raises(ValueError, match="at least one word"):
        text_files.vocabulary([])


def test_words_with_the_same_neighbours_have_the_same_vector():
    sentences = ["a dull film .", "a fine film .", "we saw it .", "we liked it ."] * 3
    texts = [text_files.Text(tuple(s.split()), 0, np.zeros(4, bool)) for s in sentences]
    numbers = text_files.vocabulary(texts)
    vectors = word_vectors.word_vectors(texts, numbers, num_dimensions=3, window=2)
    alike = lambda a, b: float(vectors[numbers[a]] @ vectors[numbers[b]])
    assert alike("dull", "fine") > 0.99 and alike("saw", "liked") > 0.99
    assert alike("dull", "saw") < 0.5
    np.testing.assert_array_equal(vectors[:2], 0)
    with pytest.raises(ValueError, match="num_dimensions must be at most"):
        word_vectors.word_vectors(texts, numbers, num_dimensions=100)
