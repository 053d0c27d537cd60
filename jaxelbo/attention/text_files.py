"""Labelled texts with the words that humans marked: the sentiment treebank, and movie reviews with evidence.

Attention. Nothing is downloaded: all readers take a folder, and an error says what is missing and how to get it. Marks
are for scoring rationales alone; nothing here shows them to a model.
"""

import gzip
import json
import pathlib
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxelbo import checks

PADDING, UNKNOWN = 0, 1
"""Numbers of no word, and of a word outside of the vocabulary."""

_STAND_IN = (
    "For a trial without a download use attention.text_files.small_texts(), made of the breast-cancer measurements "
    "that come with scikit-learn."
)
_TREEBANK = (
    "It is a part of the Stanford Sentiment Treebank in the format of one tree a line, gzipped or not, from the "
    f"archive trainDevTestTrees_PTB.zip of its project page. {_STAND_IN}"
)
_REVIEWS = (
    "It is a part of the movie reviews of the ERASER benchmark: JSON lines, gzipped or not, with tokens, label (NEG or "
    f"POS) and evidence as token spans. {_STAND_IN}"
)
_LEAF = re.compile(r"\(([0-4]) ([^\s()]+)\)")


class Text(NamedTuple):
    """One labelled text.

    Attributes:
      words: in lower case.
      label: 0 negative, 1 positive.
      is_marked: whether humans marked a word, ``[words]`` bool.
    """

    words: tuple[str, ...]
    label: int
    is_marked: np.ndarray


class Encoded(NamedTuple):
    """Texts as arrays; words after ``length`` are cut off, but counted in ``lengths``.

    Attributes:
      words: ``[N, length]`` int32, numbers in the vocabulary, `PADDING` after the end.
      labels: ``[N]`` int32.
      lengths: words of the whole text, ``[N]`` int32.
      is_marked: ``[N, length]`` bool.
    """

    words: np.ndarray
    labels: np.ndarray
    lengths: np.ndarray
    is_marked: np.ndarray


def read_treebank(folder: str | pathlib.Path, part: str) -> list[Text]:
    """Sentences of the sentiment treebank with a polar label; marked are the words whose own label is not neutral.

    Args:
      folder: where ``train.txt``, ``dev.txt`` and ``test.txt`` are, gzipped or not.
      part: "train", "dev" or "test".

    Returns:
      One `Text` a sentence, neutral ones left out: 6,920, 872 and 1,821.

    Raises:
      FileNotFoundError: the file, how to get it, and what can stand in.
      ValueError: a line that is no tree, with its number.

    References:
      Socher, Perelygin, Wu, Chuang, Manning, Ng, Potts (2013), *Recursive Deep Models for Semantic Compositionality
      over a Sentiment Treebank*.

    >>> len(read_treebank("sst", "test"))  # doctest: +SKIP
    1821
    """
    texts = []
    for number, line in enumerate(_lines(folder, f"{part}.txt", _TREEBANK), 1):
        leaves = _LEAF.findall(line)
        label = line[1:2]
        if not leaves or label not in set("01234") or line.count("(") != line.count(")"):
            raise ValueError(f"line {number} of {part}.txt is no tree of the treebank: {line[:60]!r}.")
        if label != "2":
            marks = np.array([mark != "2" for mark, _ in leaves])
            texts.append(Text(tuple(word.lower() for _, word in leaves), int(label > "2"), marks))
    return texts


def read_reviews(folder: str | pathlib.Path, part: str) -> list[Text]:
    """Movie reviews with the spans that humans gave as evidence of the label.

    Args:
      folder: where ``train.jsonl``, ``val.jsonl`` and ``test.jsonl`` are, gzipped or not.
      part: "train", "val" or "test".

    Returns:
      One `Text` a review: 1,600, 200 and 199.

    Raises:
      FileNotFoundError: the file, how to get it, and what can stand in.
      ValueError: a line that is no review, with its number.

    References:
      DeYoung, Jain, Rajani, Lehman, Xiong, Socher, Wallace (2020), *ERASER: A Benchmark to Evaluate Rationalized NLP
      Models*.

    >>> len(read_reviews("eraser_movies", "test"))  # doctest: +SKIP
    199
    """
    texts = []
    for number, line in enumerate(_lines(folder, f"{part}.jsonl", _REVIEWS), 1):
        try:
            review = json.loads(line)
            if not isinstance(review["tokens"], list):
                raise TypeError
            words = tuple(str(word).lower() for word in review["tokens"])
            is_marked = np.zeros(len(words), bool)
            for begin, end in review["evidence"]:
                is_marked[begin:end] = True
            texts.append(Text(words, ("NEG", "POS").index(review["label"]), is_marked))
        except (KeyError, TypeError, ValueError):
            raise ValueError(f"line {number} of {part}.jsonl is no review with evidence: {line[:60]!r}.") from None
    return texts


def small_texts() -> tuple[list[Text], list[Text], list[Text]]:
    """The breast-cancer measurements of scikit-learn as texts of 30 words, such as "mean-radius-high"; none is marked.

    Returns:
      369 texts to train, 100 to select with and 100 to test; label 1 is benign.

    Raises:
      ImportError: scikit-learn is not installed.

    References:
      Street, Wolberg, Mangasarian (1993), *Nuclear Feature Extraction for Breast Tumor Diagnosis*.

    >>> [len(texts) for texts in small_texts()], small_texts()[0][0].words[0]
    ([369, 100, 100], 'mean-radius-high')
    """
    try:
        from sklearn import datasets
    except ImportError:
        raise ImportError("small_texts reads them from scikit-learn: pip install scikit-learn.") from None
    table: Any = datasets.load_breast_cancer()
    names = [name.replace(" ", "-") for name in table["feature_names"]]
    thirds = np.quantile(table["data"][:369], [1 / 3, 2 / 3], axis=0)
    levels = (table["data"][:, None] > thirds[None]).sum(axis=1)
    texts = [
        Text(
            tuple(f"{name}-{('low', 'middle', 'high')[level]}" for name, level in zip(names, row, strict=True)),
            int(label),
            np.zeros(len(names), bool),
        )
        for row, label in zip(levels, table["target"], strict=True)
    ]
    return texts[:369], texts[369:469], texts[469:]


def vocabulary(texts: Sequence[Text], *, min_count: int = 1) -> dict[str, int]:
    """Numbers of the words, 2 onwards, from the most frequent to the rarest.

    Args:
      texts: those to train on.
      min_count: words that are rarer than this are left out.

    Returns:
      word -> number.

    Raises:
      TypeError, ValueError: a count that is none, no texts.

    References:
      Lei, Barzilay, Jaakkola (2016), *Rationalizing Neural Predictions*.

    >>> vocabulary([Text(("good", "good", "film"), 1, np.zeros(3, bool))])
    {'good': 2, 'film': 3}
    """
    min_count = checks.check_count(min_count, "min_count")
    counts = Counter(word for text in texts for word in text.words)
    if not counts:
        raise ValueError("texts must hold at least one word.")
    ordered = sorted(counts, key=lambda word: (-counts[word], word))
    return {word: number for number, word in enumerate(ordered, 2) if counts[word] >= min_count}


def encode(texts: Sequence[Text], numbers: dict[str, int], *, length: int) -> Encoded:
    """Texts as arrays of one length.

    Args:
      texts: any number.
      numbers: of `vocabulary`.
      length: words that are seen of each text; the rest is cut off.

    Returns:
      `Encoded`.

    Raises:
      TypeError, ValueError: a length that is none.

    References:
      Lei, Barzilay, Jaakkola (2016), *Rationalizing Neural Predictions*.

    >>> text = Text(("good", "film"), 1, np.array([True, False]))
    >>> encode([text], {"good": 2}, length=3).words
    array([[2, 1, 0]], dtype=int32)
    """
    length = checks.check_count(length, "length")
    words, is_marked = np.full((len(texts), length), PADDING, np.int32), np.zeros((len(texts), length), bool)
    for row, text in enumerate(texts):
        seen = [numbers.get(word, UNKNOWN) for word in text.words[:length]]
        words[row, : len(seen)], is_marked[row, : len(seen)] = seen, text.is_marked[:length]
    labels, lengths = [text.label for text in texts], [len(text.words) for text in texts]
    return Encoded(words, np.array(labels, np.int32), np.array(lengths, np.int32), is_marked)


def _lines(folder: str | pathlib.Path, name: str, how_to: str) -> list[str]:
    candidates = [pathlib.Path(folder) / name, pathlib.Path(folder) / f"{name}.gz"]
    path = next((path for path in candidates if path.is_file()), None)
    if path is None:
        raise FileNotFoundError(f"{name} (or {name}.gz) is not in the folder {folder}. {how_to}")
    content = path.read_bytes()
    try:
        content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
        lines = [line for line in content.decode().splitlines() if line.strip()]
    except (EOFError, OSError, UnicodeDecodeError, zlib.error) as error:
        raise ValueError(f"{path} is truncated or unreadable: {error}.") from None
    if not lines:
        raise ValueError(f"{path} is empty. {how_to}")
    return lines
