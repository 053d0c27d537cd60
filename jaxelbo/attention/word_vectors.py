"""Word vectors from unlabelled texts: what stands near a word, factorised.

Attention. A few thousand labelled sentences do not show most words often enough to be learned; the words beside them
in any text of the kind do. Plain NumPy, once before the training.
"""

from collections.abc import Sequence

import numpy as np

from jaxelbo import checks
from jaxelbo.attention.text_files import Text


def word_vectors(
    texts: Sequence[Text],
    numbers: dict[str, int],
    *,
    num_dimensions: int = 100,
    window: int = 5,
    num_contexts: int = 3000,
) -> np.ndarray:
    """The leading directions of the positive pointwise mutual information between words and their neighbours.

    The information of word w with neighbour c is log p(w, c) / (p(w) p(c)) where positive, p(c) with the exponent 3/4
    that favours frequent neighbours less; neighbours at distance d count 1/d. Only the words of the texts are read.

    Args:
      texts: any number; labels and marks are not looked at.
      numbers: of `text_files.vocabulary`.
      num_dimensions: D, at least 1.
      window: words on either side that count as neighbours, at least 1.
      num_contexts: the most frequent words alone are neighbours; at least D.

    Returns:
      ``[V, D]`` float32, V two more than the words, rows of length 1; zero for padding, unknown words and words without
      neighbours.

    Raises:
      TypeError, ValueError: a count that is none, fewer neighbours than dimensions.

    References:
      Levy, Goldberg, Dagan (2015), *Improving Distributional Similarity with Lessons Learned from Word Embeddings*.

    >>> texts = [Text(tuple("a dull film . a dull play . a fine film .".split()), 0, np.zeros(12, bool))]
    >>> numbers = {word: number for number, word in enumerate(["a", "dull", "film", ".", "play", "fine"], 2)}
    >>> word_vectors(texts, numbers, num_dimensions=2, window=1).shape
    (8, 2)
    """
    num_dimensions = checks.check_count(num_dimensions, "num_dimensions")
    window, num_contexts = checks.check_count(window, "window"), checks.check_count(num_contexts, "num_contexts")
    size = len(numbers) + 2
    sentences = [np.array([numbers.get(word, 0) for word in text.words]) for text in texts]
    frequencies = np.bincount(np.concatenate([np.zeros(1, int), *sentences]), minlength=size)
    frequencies[:2] = 0
    contexts = np.argsort(-frequencies, kind="stable")[: min(num_contexts, len(numbers))]
    if num_dimensions > len(contexts):
        raise ValueError(f"num_dimensions must be at most the {len(contexts)} neighbours, got {num_dimensions}.")
    column = np.full(size, -1)
    column[contexts] = np.arange(len(contexts))

    counts = np.zeros(size * len(contexts), np.float32)
    for distance in range(1, window + 1):
        words = np.concatenate([np.r_[s[:-distance], s[distance:]] for s in sentences if len(s) > distance] or [[]])
        others = np.concatenate([np.r_[s[distance:], s[:-distance]] for s in sentences if len(s) > distance] or [[]])
        words, others = words.astype(int), column[others.astype(int)]
        cells = (words * len(contexts) + others)[(words > 1) & (others >= 0)]
        counts += (np.bincount(cells, minlength=counts.size) / distance).astype(np.float32)
    information = _positive_information(counts.reshape(size, len(contexts)))
    # The left singular vectors by way of the smaller of the two Gram matrices.
    squares, directions = np.linalg.eigh(information.T @ information)
    leading = np.argsort(-squares)[:num_dimensions]
    strengths = np.sqrt(np.maximum(squares[leading], 1e-12))
    vectors = information @ directions[:, leading] / np.sqrt(strengths)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def _positive_information(counts: np.ndarray) -> np.ndarray:
    of_words, of_contexts = counts.sum(axis=1, keepdims=True), counts.sum(axis=0, keepdims=True) ** 0.75
    expected = of_words * (of_contexts / max(of_contexts.sum(), 1e-12))
    ratios = np.divide(counts, expected, out=np.ones_like(counts), where=counts > 0)
    return np.maximum(np.log(ratios), 0)
