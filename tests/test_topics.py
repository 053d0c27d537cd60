"""Latent Dirichlet allocation: exact evidences, enumeration of topics, scikit-learn, topics found again."""

import itertools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special
from sklearn import decomposition

from jaxelbo import conjugate
from jaxelbo import distributions as d
from tests.conjugate_oracles import KEY, ascend, assert_rises, dirichlet_evidence, elbo, fitted


def topic_model(num_topics, num_words, of_document=0.5, of_topic=0.3):
    proportions, topics = jnp.full(num_topics, of_document), jnp.full(num_words, of_topic)
    return conjugate.latent_dirichlet_allocation(d.Dirichlet(proportions), d.Dirichlet(topics))


def simulated(num_documents, length, seed=0):
    """Five topics of a row or column each of a 5 by 5 table of words (Griffiths and Steyvers), each document of few."""
    rng = np.random.default_rng(seed)
    table = np.eye(5)[:, :, None] * np.ones(5) / 5
    topics = np.concatenate([table.reshape(5, 25), table.transpose(0, 2, 1).reshape(5, 25)])
    proportions = rng.dirichlet(np.full(10, 0.2), num_documents)
    return np.array([rng.multinomial(length, row @ topics) for row in proportions]), topics


def test_with_one_topic_the_bound_is_the_evidence(float64):
    counts = np.random.default_rng(0).poisson(1.0, (6, 8))
    data = conjugate.padded_documents(counts)
    bound = fitted(topic_model(1, 8), *data, num_steps=1).history.bound[-1]
    np.testing.assert_allclose(bound, dirichlet_evidence(counts.sum(axis=0), np.full(8, 0.3)), rtol=1e-12)


def test_the_bound_is_below_the_evidence(float64):
    """Two documents of five words: all 2^10 choices of topics, proportions and topics integrated out of each."""
    words = np.array([[0, 0, 1, 1, 0], [2, 2, 2, 1, 2]])
    terms = []
    for chosen in itertools.product((0, 1), repeat=10):
        chosen = np.reshape(chosen, (2, 5))
        of_topics = np.stack([np.sum(chosen == k, axis=1) for k in (0, 1)], axis=1)
        of_documents = dirichlet_evidence(of_topics, np.full(2, 0.5))
        counts = np.zeros((2, 3))
        np.add.at(counts, (np.ravel(chosen), np.ravel(words)), 1)
        terms.append(of_documents + dirichlet_evidence(counts, np.full(3, 0.3)))
    evidence = special.logsumexp(terms)
    data = jnp.asarray(words), jnp.ones((2, 5))
    result = fitted(topic_model(2, 3), *data, num_steps=150)
    assert_rises(result.history.bound)
    assert 0 < evidence - result.history.bound[-1] < 3
    half = fitted(topic_model(2, 3), *data, num_steps=300, step_size=0.5)
    assert_rises(half.history.bound)
    np.testing.assert_allclose(half.history.bound[-1], result.history.bound[-1], rtol=1e-7)
    # Words one by one and counted are the same, and so is padding.
    counted = conjugate.padded_documents(np.array([[3, 2, 0], [0, 1, 4]]))
    np.testing.assert_allclose(elbo(result.params, topic_model(2, 3), *counted), result.history.bound[-1], rtol=1e-12)
    padded = tuple(np.pad(leaf, ((0, 0), (0, 3))) for leaf in counted)
    np.testing.assert_allclose(elbo(result.params, topic_model(2, 3), *padded), result.history.bound[-1], rtol=1e-12)
    # With the documents fitted inside, the bound is the same at an optimum.
    inside = conjugate.for_minibatches(topic_model(2, 3), num_rows=2, num_inner_steps=300)
    np.testing.assert_allclose(
        elbo({"topics": result.params["topics"]}, inside, *counted), result.history.bound[-1], rtol=1e-7
    )


@pytest.mark.slow
def test_topics_are_found_and_scikit_learn_is_reached(float64):
    """The same priors and the same start, both scored by our bound: no lower than scikit-learn, every topic found.

    Both are at the mercy of the start: from others, ours or theirs ends with two topics in one.
    """
    counts, topics = simulated(200, 100)
    words, times = conjugate.padded_documents(counts)
    data = jnp.asarray(words), jnp.asarray(times, float)
    drawn = np.random.RandomState(2).gamma(100.0, 0.01, (10, 25))  # as scikit-learn starts
    inside = conjugate.for_minibatches(topic_model(10, 25, 0.2, 0.1), num_rows=200, num_inner_steps=30)
    result = ascend(inside, {"topics": jnp.asarray(drawn)}, *data, num_steps=150)
    peer = decomposition.LatentDirichletAllocation(
        10,
        doc_topic_prior=0.2,
        topic_word_prior=0.1,
        max_iter=150,
        mean_change_tol=1e-6,
        max_doc_update_iter=100,
        random_state=2,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = elbo({"topics": jnp.asarray(peer.fit(counts).components_)}, inside, *data)
    assert result.history.bound[-1] > theirs - 1e-6 * abs(theirs)
    fits = np.asarray(result.params["topics"])
    fits = fits / fits.sum(axis=1, keepdims=True)
    gaps = 0.5 * np.abs(fits[None] - topics[:, None]).sum(axis=2)  # total variation
    assert np.all(np.min(gaps, axis=1) < 0.1)
    # From there, with the documents as a factor of their own, the bound still rises at every step.
    whole = topic_model(10, 25, 0.2, 0.1)
    start = whole.local_start(*data) | result.params
    assert_rises(ascend(whole, start, *data, num_steps=50).history.bound)


@pytest.mark.slow
def test_minibatches_of_documents(float64):
    """A tenth of the documents at a time comes within half a per cent of the bound of all of them."""
    counts, _ = simulated(300, 80, seed=1)
    words, times = conjugate.padded_documents(counts)
    data = jnp.asarray(words), jnp.asarray(times, float)
    inside = conjugate.for_minibatches(topic_model(10, 25, 0.2, 0.1), num_rows=300, num_inner_steps=20)
    start = inside.start(KEY, *data)
    full = ascend(inside, start, *data, num_steps=100).history.bound
    slow = lambda count: (count + 5.0) ** -0.6
    after = ascend(inside, start, *data, num_steps=400, batch_size=30, step_size=slow)
    assert elbo(after.params, inside, *data) > full[-1] - 0.005 * abs(full[-1]) > full[0]


def test_bad_input():
    model = topic_model(2, 4)
    words, counts = np.array([[0, 1], [2, 3]]), np.ones((2, 2))
    with pytest.raises(ValueError, match="counts must be finite and not negative"):
        model.start(KEY, words, -counts)
    with pytest.raises(ValueError, match="counts must be finite and not negative"):
        model.start(KEY, words, counts * np.nan)
    with pytest.raises(ValueError, match=r"counts must have shape \(2, 2\) as words has"):
        model.start(KEY, words, counts[:1])
    with pytest.raises(ValueError, match="words must lie between 0 and 3, got 0 to 4"):
        model.start(KEY, words + np.array([[0, 0], [0, 1]]), counts)
    with pytest.raises(TypeError, match=r"words \[N, L\] must be integers"):
        model.start(KEY, counts, counts)
    with pytest.raises(ValueError, match="words must have shape"):
        model.start(KEY, words[:0], counts[:0])
    with pytest.raises(ValueError, match=r"proportions\.concentration must not be empty"):
        topic_model(0, 4)
    with pytest.raises(ValueError, match="topics must be a proper Dirichlet"):
        topic_model(2, 4, of_topic=0.0)
    with pytest.raises(TypeError, match=r"topics must be a distributions\.Dirichlet"):
        conjugate.latent_dirichlet_allocation(d.Dirichlet(jnp.ones(2)), jnp.ones(3))
    with pytest.raises(ValueError, match=r"counts must have shape \[N, V\]"):
        conjugate.padded_documents(np.ones(3))
    with pytest.raises(ValueError, match="counts must be finite and not negative"):
        conjugate.padded_documents(np.array([[1, -1]]))
    with pytest.raises(ValueError, match="num_inner_steps must be at least 1"):
        conjugate.for_minibatches(model, num_rows=2, num_inner_steps=0)
    assert jax.tree.leaves(model.start(KEY, words, counts))[0].dtype == jnp.float32
