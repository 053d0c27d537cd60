"""Latent Dirichlet allocation: documents are mixtures of topics, topics are distributions over words."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxelbo import checks, exponential
from jaxelbo.conjugate import models
from jaxelbo.conjugate.models import ConjugateModel, Means, Naturals
from jaxelbo.conjugate.observations import check_indices
from jaxelbo.distributions import Dirichlet, dirichlet
from jaxelbo.types import Key


def latent_dirichlet_allocation(proportions: Dirichlet, topics: Dirichlet) -> ConjugateModel:
    """N documents of words, each word of one of K topics: q(proportions) q(topics), each word's topic at its best.

    A word's factor at its best is proportional to exp(E[log proportion] + E[log probability]), which turns its terms
    into a log-sum-exp over topics. For many documents `for_minibatches`, with ten or more inner steps, fits the
    proportions of those that are seen.

    Args:
      proportions: prior of each document's proportions ``[K]`` of topics.
      topics: prior of each topic's probabilities ``[V]`` of words.

    Returns:
      The `ConjugateModel`, on data ``(words, counts)`` as `padded_documents` gives them; its factors are
      ``"proportions"``, N copies of a Dirichlet, local, and ``"topics"``, K copies of a Dirichlet.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Blei, Ng, Jordan (2003), *Latent Dirichlet Allocation*;
      Hoffman, Blei, Bach (2010), *Online Learning for Latent Dirichlet Allocation*.

    >>> import jax, jax.numpy as jnp, jaxelbo
    >>> data = padded_documents(np.array([[9, 8, 0, 0], [7, 9, 0, 0], [0, 0, 8, 8], [0, 0, 9, 7]]))
    >>> model = latent_dirichlet_allocation(Dirichlet(jnp.full(2, 0.1)), Dirichlet(jnp.full(4, 0.1)))
    >>> algorithm = jaxelbo.algorithms.coordinate_ascent(model.expected_log_joint, model.factors)
    >>> key = jax.random.key(0)
    >>> result = jaxelbo.run_algorithm(model.start(key, *data), key, algorithm, num_steps=100, data=data)
    >>> [round(float(count)) for count in jnp.sort(jnp.sum(result.params["topics"], axis=1))]  # words of each topic
    [32, 33]
    """
    of_document = models.natural_of(proportions, Dirichlet, dirichlet, "proportions")
    checks.check_floating(of_document, "proportions.concentration", ("K",))
    of_topic = models.natural_of(topics, Dirichlet, dirichlet, "topics")
    checks.check_floating(of_topic, "topics.concentration", ("V",))
    num_topics, num_words, dtype = of_document.size, of_topic.size, of_topic.dtype
    factors = {"proportions": exponential.copies(dirichlet), "topics": exponential.copies(dirichlet)}
    priors = {"topics": models.repeated(of_topic, num_topics)}

    def expected_log_joint(means: Means, words: Any, counts: Any) -> jax.Array:
        words, counts = check(words, counts)
        terms = means["topics"].T[words] + means["proportions"][:, None]
        of_words = jnp.sum(counts * jax.nn.logsumexp(terms, axis=2))
        of_documents = jnp.sum(means["proportions"] * of_document[None])
        of_documents -= len(words) * dirichlet.log_normalizer(of_document)
        return of_words + of_documents + shared_terms(means)

    def shared_terms(means: Means) -> jax.Array:
        return models.prior_terms(means, priors, factors)

    def local_start(words: Any, counts: Any) -> Naturals:
        words, counts = check(words, counts)
        shares = jnp.sum(counts, axis=1, keepdims=True) / num_topics
        return {"proportions": of_document[None] + jnp.broadcast_to(shares, (len(words), num_topics))}

    def start(key: Key, words: Any, counts: Any) -> Naturals:
        checks.check_key(key)
        return jax.jit(start_from)(key, *check(words, counts))

    def start_from(key: Key, words: jax.Array, counts: jax.Array) -> Naturals:
        # Topics by chance, as they must not be equal.
        shares = jax.random.gamma(key, 100.0, (num_topics, num_words), dtype) / 100
        per_word = jnp.sum(counts) / (num_topics * num_words)
        return local_start(words, counts) | {"topics": of_topic[None] + per_word * shares}

    def check(words: Any, counts: Any) -> tuple[jax.Array, jax.Array]:
        check_indices(words, "words", ("N", "L"), num_words)
        checks.check_real_array(counts, "counts")
        if jnp.shape(counts) != words.shape:
            raise ValueError(f"counts must have shape {words.shape} as words has, got {jnp.shape(counts)}.")
        if checks.is_known(counts):
            _check_counts(np.asarray(counts))
        return jnp.asarray(words), jnp.asarray(counts, dtype)

    return ConjugateModel(expected_log_joint, shared_terms, factors, ("proportions",), local_start, start)


def padded_documents(counts: np.ndarray | jax.Array) -> tuple[np.ndarray, np.ndarray]:
    """Documents as lists of the words they have, all as long as the longest; those at the end are counted 0 times.

    Args:
      counts: ``[N, V]``, how often each document has each word.

    Returns:
      ``words [N, L]`` int32 and ``counts [N, L]`` float32, NumPy arrays, L the most different words in a document.

    Raises:
      TypeError, ValueError: naming the argument.

    >>> words, times = padded_documents(np.array([[0, 2, 1], [0, 0, 3]]))
    >>> words.tolist(), times.tolist()
    ([[1, 2], [2, 0]], [[2.0, 1.0], [3.0, 0.0]])
    """
    checks.check_real_array(counts, "counts")
    if np.ndim(counts) != 2 or np.size(counts) == 0:
        raise ValueError(f"counts must have shape [N, V] and not be empty, got shape {np.shape(counts)}.")
    table = np.asarray(counts)
    _check_counts(table)
    longest = max(1, np.max(np.sum(table > 0, axis=1)))
    words = np.argsort(table == 0, axis=1, kind="stable")[:, :longest]  # those that it has first, in order
    times = np.take_along_axis(table, words, axis=1)
    return np.where(times > 0, words, 0).astype(np.int32), times.astype(np.float32)


def _check_counts(counts: np.ndarray) -> None:
    if not np.all(np.isfinite(counts)) or np.min(counts) < 0:
        raise ValueError("counts must be finite and not negative, got NaN, infinity or negative numbers in it.")
