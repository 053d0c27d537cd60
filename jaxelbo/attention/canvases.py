"""Canvases made of digits: translated, cluttered, pairs, pairs to be added, and rows with a caption.

Attention. Plain NumPy, a whole set in one call, from a generator of the caller's; make new training canvases for every
epoch, and test canvases from test digits and a fixed seed. Where digits overlap the brighter pixel stays.
"""

from typing import NamedTuple

import numpy as np

from jaxelbo import checks
from jaxelbo.attention.digit_files import Digits


class Canvases(NamedTuple):
    """Images with what is on them.

    Attributes:
      images: ``[N, H, W]`` float32, between 0 and 1; square but for `captions`.
      labels: ``[N]`` or ``[N, T]`` int32: the digit, the digits from left to right, or their sum.
      corners: ``[N, digits, 2]`` int32: top left corner of each digit, down and across, in pixels.
    """

    images: np.ndarray
    labels: np.ndarray
    corners: np.ndarray


def translated(rng: np.random.Generator, digits: Digits, *, size: int) -> Canvases:
    """Each digit once, at a random place on an empty canvas.

    Args:
      rng: a NumPy generator, such as ``np.random.default_rng(0)``.
      digits: any set of N.
      size: side of the canvas in pixels, at least the digits'.

    Returns:
      N `Canvases`, in the order of the digits, labels ``[N]``.

    Raises:
      TypeError, ValueError: digits of another rank or range, a canvas smaller than a digit.

    References:
      Mnih, Heess, Graves, Kavukcuoglu (2014), *Recurrent Models of Visual Attention*.

    >>> import numpy as np
    >>> digits = Digits(np.ones((2, 3, 3), np.float32), np.array([4, 7], np.int32))
    >>> canvases = translated(np.random.default_rng(0), digits, size=6)
    >>> canvases.images.shape, canvases.images.sum(axis=(1, 2)), canvases.labels
    ((2, 6, 6), array([9., 9.], dtype=float32), array([4, 7], dtype=int32))
    """
    _check(rng, digits, size)
    images, corners = _empty(len(digits.images), size), _corners(rng, digits, size)
    _place(images, digits.images, corners)
    return Canvases(images, digits.labels, corners[:, None])


def cluttered(
    rng: np.random.Generator, digits: Digits, *, size: int, num_pieces: int = 4, piece_size: int = 8
) -> Canvases:
    """Each digit once at a random place, among pieces of other random digits.

    Args:
      rng: a NumPy generator.
      digits: any set of N; pieces are cut from the same set.
      size: side of the canvas in pixels.
      num_pieces: pieces a canvas, at least 0.
      piece_size: their side in pixels, at most the digits'.

    Returns:
      N `Canvases`, labels ``[N]``.

    Raises:
      TypeError, ValueError: as `translated`; pieces larger than a digit.

    References:
      Mnih, Heess, Graves, Kavukcuoglu (2014), *Recurrent Models of Visual Attention*.

    >>> import numpy as np
    >>> digits = Digits(np.ones((2, 3, 3), np.float32), np.array([4, 7], np.int32))
    >>> bool(cluttered(np.random.default_rng(0), digits, size=9, piece_size=2).images.sum() > 18)
    True
    """
    canvases = translated(rng, digits, size=size)
    num_pieces = checks.check_count(num_pieces, "num_pieces", minimum=0)
    piece_size = checks.check_count(piece_size, "piece_size")
    if piece_size > min(digits.images.shape[1:]):
        raise ValueError(f"piece_size must be at most the digits' sides {digits.images.shape[1:]}, got {piece_size}.")
    count = len(digits.images)
    span = np.arange(piece_size)
    for _ in range(num_pieces):
        source = rng.integers(count, size=count)
        down, across = rng.integers(np.array(digits.images.shape[1:])[:, None] - piece_size + 1, size=(2, count))
        pieces = digits.images[source[:, None, None], down[:, None, None] + span[:, None], across[:, None, None] + span]
        _place(canvases.images, pieces, rng.integers(size - piece_size + 1, size=(count, 2)))
    return canvases


def pairs(rng: np.random.Generator, digits: Digits, *, size: int, num_canvases: int) -> Canvases:
    """Two random digits a canvas that do not overlap; the label is both, from left to right.

    Args:
      rng: a NumPy generator.
      digits: any set.
      size: side of the canvas in pixels, at least twice the digits'.
      num_canvases: N, at least 1.

    Returns:
      N `Canvases`, labels ``[N, 2]`` and corners in the same order.

    Raises:
      TypeError, ValueError: as `translated`; a canvas too small for two digits side by side.

    References:
      Ba, Mnih, Kavukcuoglu (2015), *Multiple Object Recognition with Visual Attention*.

    >>> import numpy as np
    >>> digits = Digits(np.ones((2, 3, 3), np.float32), np.array([4, 7], np.int32))
    >>> pairs(np.random.default_rng(0), digits, size=9, num_canvases=5).images.sum(axis=(1, 2))
    array([18., 18., 18., 18., 18.], dtype=float32)
    """
    return rows(rng, digits, size=size, num_canvases=num_canvases, num_digits=2)


def additions(rng: np.random.Generator, digits: Digits, *, size: int, num_canvases: int) -> Canvases:
    """As `pairs`; the label is the sum of the two digits, 0 to 18, ``[N]``.

    Args:
      rng: a NumPy generator.
      digits: any set.
      size: side of the canvas in pixels, at least twice the digits'.
      num_canvases: N, at least 1.

    Returns:
      N `Canvases`.

    Raises:
      TypeError, ValueError: as `pairs`.

    References:
      Ba, Mnih, Kavukcuoglu (2015), *Multiple Object Recognition with Visual Attention*.

    >>> import numpy as np
    >>> digits = Digits(np.ones((1, 3, 3), np.float32), np.array([4], np.int32))
    >>> additions(np.random.default_rng(0), digits, size=9, num_canvases=2).labels
    array([8, 8], dtype=int32)
    """
    canvases = pairs(rng, digits, size=size, num_canvases=num_canvases)
    return canvases._replace(labels=canvases.labels.sum(axis=1).astype(np.int32))


def rows(rng: np.random.Generator, digits: Digits, *, size: int, num_canvases: int, num_digits: int) -> Canvases:
    """Random digits side by side, each at a random height, in columns that do not overlap.

    Args:
      rng: a NumPy generator.
      digits: any set.
      size: side of the canvas in pixels, at least ``num_digits`` times the digits' width.
      num_canvases: N, at least 1.
      num_digits: T, at least 1.

    Returns:
      N `Canvases`, labels ``[N, T]`` from left to right.

    Raises:
      TypeError, ValueError: as `translated`; a canvas too small for the digits side by side.

    References:
      Ba, Mnih, Kavukcuoglu (2015), *Multiple Object Recognition with Visual Attention*.

    >>> import numpy as np
    >>> digits = Digits(np.ones((2, 3, 3), np.float32), np.array([4, 7], np.int32))
    >>> rows(np.random.default_rng(0), digits, size=12, num_canvases=2, num_digits=3).labels.shape
    (2, 3)
    """
    _check(rng, digits, size)
    num_canvases = checks.check_count(num_canvases, "num_canvases")
    num_digits = checks.check_count(num_digits, "num_digits")
    height, width = digits.images.shape[1:]
    slack = size - num_digits * width
    if slack < 0:
        raise ValueError(
            f"size must be at least {num_digits * width} for {num_digits} digits of width {width}, got {size}."
        )
    chosen = rng.integers(len(digits.images), size=(num_canvases, num_digits))
    # Sorted places in the space that is left, each pushed on by the digits before it.
    across = np.sort(rng.integers(slack + 1, size=(num_canvases, num_digits)), axis=1) + width * np.arange(num_digits)
    down = rng.integers(size - height + 1, size=(num_canvases, num_digits))
    images, corners = _empty(num_canvases, size), np.stack([down, across], axis=2).astype(np.int32)
    for place in range(num_digits):
        _place(images, digits.images[chosen[:, place]], corners[:, place])
    return Canvases(images, digits.labels[chosen], corners)


def captions(
    rng: np.random.Generator,
    digits: Digits,
    *,
    height: int,
    width: int,
    num_canvases: int,
    max_digits: int = 4,
    end_token: int = 10,
) -> Canvases:
    """As `rows` on a rectangle, with two to ``max_digits`` digits a canvas; the label is a caption.

    A caption is the digits from left to right, then the end token until it is full.

    Args:
      rng: a NumPy generator.
      digits: any set.
      height: of the canvas in pixels, at least the digits'.
      width: of the canvas in pixels, at least ``max_digits`` times the digits'.
      num_canvases: N, at least 1.
      max_digits: T, at least 2; every number of digits from 2 on is equally frequent.
      end_token: above all labels.

    Returns:
      N `Canvases`, labels ``[N, T + 1]``; corners ``[N, T, 2]`` are -1 for digits that a canvas lacks.

    Raises:
      TypeError, ValueError: as `rows`; an end token that is a label.

    References:
      Xu, Ba, Kiros, Cho, Courville, Salakhudinov, Zemel, Bengio (2015), *Show, Attend and Tell*.

    >>> import numpy as np
    >>> digits = Digits(np.ones((10, 3, 3), np.float32), np.arange(10, dtype=np.int32))
    >>> canvases = captions(np.random.default_rng(1), digits, height=5, width=12, num_canvases=2)
    >>> canvases.images.sum(axis=(1, 2)) / 9, canvases.labels
    (array([3., 3.], dtype=float32), array([[ 7,  9,  0, 10, 10],
           [ 8,  9,  2, 10, 10]], dtype=int32))
    """
    _check(rng, digits, min(checks.check_count(height, "height"), checks.check_count(width, "width")), "height, width")
    num_canvases = checks.check_count(num_canvases, "num_canvases")
    max_digits = checks.check_count(max_digits, "max_digits", minimum=2)
    digit_height, digit_width = digits.images.shape[1:]
    if width < max_digits * digit_width:
        raise ValueError(
            f"width must be at least {max_digits * digit_width} for {max_digits} digits of width {digit_width}, "
            f"got {width}."
        )
    if checks.check_count(end_token, "end_token") <= digits.labels.max():
        raise ValueError(f"end_token must be above the labels, at least {digits.labels.max() + 1}, got {end_token}.")
    place = np.arange(max_digits)
    counts = rng.integers(2, max_digits + 1, size=(num_canvases, 1))
    chosen = rng.integers(len(digits.images), size=(num_canvases, max_digits))
    slack = rng.integers(width - counts * digit_width + 1, size=(num_canvases, max_digits))
    across = np.sort(np.where(place < counts, slack, width), axis=1) + digit_width * place
    down = rng.integers(height - digit_height + 1, size=(num_canvases, max_digits))
    corners = np.where((place < counts)[:, :, None], np.stack([down, across], axis=2), -1).astype(np.int32)
    images = np.zeros((num_canvases, height, width), np.float32)
    for digit in place:
        has = np.flatnonzero(digit < counts[:, 0])
        _place(images, digits.images[chosen[has, digit]], corners[has, digit], has)
    labels = np.full((num_canvases, max_digits + 1), end_token, np.int32)
    labels[:, :-1] = np.where(place < counts, digits.labels[chosen], labels[:, :-1])
    return Canvases(images, labels, corners)


def _empty(count: int, size: int) -> np.ndarray:
    return np.zeros((count, size, size), np.float32)


def _corners(rng: np.random.Generator, digits: Digits, size: int) -> np.ndarray:
    room = size - np.array(digits.images.shape[1:]) + 1
    return rng.integers(room, size=(len(digits.images), 2)).astype(np.int32)


def _place(images: np.ndarray, patches: np.ndarray, corners: np.ndarray, index: np.ndarray | None = None) -> None:
    """Writes each patch into its image, or into those of the index, where it is brighter."""
    index = (np.arange(len(images)) if index is None else index)[:, None, None]
    rows = corners[:, 0, None, None] + np.arange(patches.shape[1])[:, None]
    columns = corners[:, 1, None, None] + np.arange(patches.shape[2])
    images[index, rows, columns] = np.maximum(images[index, rows, columns], patches)


def _check(rng: np.random.Generator, digits: Digits, size: int, name: str = "size") -> None:
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng must be a numpy.random.Generator, got {checks.describe(rng)}.")
    if not isinstance(digits, Digits):
        raise TypeError(f"digits must be a digit_files.Digits, got {checks.describe(digits)}.")
    images, labels = np.asarray(digits.images), np.asarray(digits.labels)
    if images.ndim != 3 or not np.issubdtype(images.dtype, np.floating):
        raise TypeError(f"images must be floating-point [N, H, W], got {checks.describe(images)}.")
    if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(f"labels must be integers [{len(images)}], got {checks.describe(labels)}.")
    if len(images) == 0:
        raise ValueError("images must hold at least one image, got none.")
    checks.check_unit_interval(images, "images")
    if labels.min() < 0:
        raise ValueError(f"labels must be at least 0, got {labels.min()}.")
    if checks.check_count(size, name) < max(images.shape[1:]):
        raise ValueError(f"{name} must be at least the digits' sides {images.shape[1:]}, got {size}.")
