"""Canvases hold their digits where they say, and nothing that they should not."""

import numpy as np
import pytest

from jaxelbo.attention import canvases, digit_files

DIGITS = digit_files.small_digits()[0]


def rng(seed=0):
    return np.random.default_rng(seed)


def cut(made, index, digit=0):
    down, across = made.corners[index, digit]
    return made.images[index, down : down + 8, across : across + 8]


def test_translated_digits_are_where_they_say():
    made = canvases.translated(rng(), DIGITS, size=20)
    for index in range(50):
        np.testing.assert_array_equal(cut(made, index), DIGITS.images[index])
        assert np.isclose(made.images[index].sum(), DIGITS.images[index].sum())
    assert made.corners.min() == 0 and made.corners.max() == 12  # every place is used
    np.testing.assert_array_equal(made.labels, DIGITS.labels)


def test_clutter_adds_pieces_of_other_digits():
    plain = canvases.translated(rng(), DIGITS, size=30)
    made = canvases.cluttered(rng(), DIGITS, size=30, num_pieces=4, piece_size=3)
    assert np.all(made.images >= plain.images) and made.images.max() <= 1
    added = np.sum(made.images > plain.images, axis=(1, 2))
    assert added.max() <= 36 and 5 < added.mean() < 36
    np.testing.assert_array_equal(
        canvases.cluttered(rng(), DIGITS, size=30, num_pieces=0, piece_size=3).images, plain.images
    )


@pytest.mark.parametrize(("num_digits", "size"), [(2, 20), (2, 16), (3, 24), (4, 40)])
def test_digits_side_by_side(num_digits, size):
    made = canvases.rows(rng(), DIGITS, size=size, num_canvases=200, num_digits=num_digits)
    gaps = np.diff(made.corners[:, :, 1], axis=1)
    assert gaps.min() >= 8  # from left to right, and none over another
    for index in range(20):
        for digit in range(num_digits):
            same = DIGITS.images[DIGITS.labels == made.labels[index, digit]]
            assert np.any(np.all(same == cut(made, index, digit), axis=(1, 2)))


def test_pieces_of_digits_that_are_not_square():
    """Pieces come from everywhere: each column of a wide digit is seen in the clutter."""
    wide = digit_files.Digits(np.tile(np.arange(1, 7) / 6, (50, 3, 1)).astype(np.float32), np.zeros(50, np.int32))
    made = canvases.cluttered(rng(), wide, size=9, num_pieces=1, piece_size=1)
    plain = canvases.translated(rng(), wide, size=9)
    added = made.images[made.images > plain.images]
    assert len(np.unique(np.round(6 * added))) == 6


def test_additions_are_sums_of_pairs():
    sums = canvases.additions(rng(3), DIGITS, size=20, num_canvases=100)
    both = canvases.pairs(rng(3), DIGITS, size=20, num_canvases=100)
    np.testing.assert_array_equal(sums.images, both.images)
    np.testing.assert_array_equal(sums.labels, both.labels.sum(axis=1))
    assert sums.labels.dtype == np.int32


def test_a_seed_makes_the_same_canvases():
    first, again, other = (canvases.cluttered(rng(s), DIGITS, size=20, piece_size=4).images for s in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: canvases.translated(0, DIGITS, size=20), "rng must be a numpy.random.Generator"),
        (
            lambda: canvases.translated(rng(), DIGITS, size=7),
            r"size must be at least the digits' sides \(8, 8\), got 7",
        ),
        (lambda: canvases.translated(rng(), DIGITS._replace(images=DIGITS.images[0]), size=9), r"\[N, H, W\]"),
        (lambda: canvases.translated(rng(), DIGITS._replace(labels=DIGITS.labels[:5]), size=9), r"integers \[1500\]"),
        (lambda: canvases.translated(rng(), DIGITS._replace(images=DIGITS.images * 16), size=9), "between 0 and 1"),
        (lambda: canvases.translated(rng(), DIGITS._replace(images=DIGITS.images * np.nan), size=9), "between 0 and 1"),
        (lambda: canvases.translated(rng(), DIGITS._replace(labels=DIGITS.labels - 5), size=9), "labels must be at"),
        (lambda: canvases.translated(rng(), tuple(DIGITS), size=9), r"digits must be a digit_files\.Digits"),
        (
            lambda: canvases.translated(rng(), digit_files.Digits(*(a[:0] for a in DIGITS)), size=9),
            "at least one image",
        ),
        (lambda: canvases.cluttered(rng(), DIGITS, size=20, piece_size=9), "piece_size must be at most"),
        (
            lambda: canvases.cluttered(rng(), DIGITS, size=20, num_pieces=-1, piece_size=2),
            "num_pieces must be at least 0",
        ),
        (lambda: canvases.pairs(rng(), DIGITS, size=15, num_canvases=2), "size must be at least 16 for 2 digits"),
        (lambda: canvases.pairs(rng(), DIGITS, size=20, num_canvases=0), "num_canvases must be at least 1"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()
