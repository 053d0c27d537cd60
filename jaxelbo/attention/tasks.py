"""The tasks of the literature, from digits: what is shown in each epoch, and what is tested.

Attention. Images travel as bytes, a quarter of their size as numbers; `as_numbers` turns a batch of them into numbers.
"""

import functools
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxelbo import checks
from jaxelbo.attention import canvases, digit_files
from jaxelbo.attention.canvases import Canvases
from jaxelbo.attention.digit_files import Digits

TEST_SEED = 20_141_224
"""Of the test canvases, the same for everybody."""


class Task(NamedTuple):
    """One task.

    Attributes:
      image_size: side of the images in pixels.
      num_images: N, in each epoch.
      epoch: ``(seed, epoch) -> (images [N, H, W] uint8, labels)``, to train on.
      test_images: ``[N, H, W]`` uint8, made of test digits alone.
      test_labels: theirs.
    """

    image_size: int
    num_images: int
    epoch: Callable[[int, int], tuple[np.ndarray, np.ndarray]]
    test_images: np.ndarray
    test_labels: np.ndarray


def read_digits(folder: str | pathlib.Path) -> tuple[Digits, Digits]:
    """Training and test digits: MNIST from its folder, or scikit-learn's small ones for the word "small".

    Args:
      folder: where MNIST's files are, or "small".

    Returns:
      Training digits, test digits.

    Raises:
      FileNotFoundError, ValueError: as `digit_files.read_mnist`.

    References:
      LeCun, Bottou, Bengio, Haffner (1998), *Gradient-Based Learning Applied to Document Recognition*.

    >>> len(read_digits("small")[0].labels)
    1500
    """
    if str(folder) == "small":
        return digit_files.small_digits()
    return digit_files.read_mnist(folder, train=True), digit_files.read_mnist(folder, train=False)


def of_canvases(make: Callable[[np.random.Generator, Digits], Canvases], train: Digits, test: Digits) -> Task:
    """A task of canvases: new ones in every epoch, those of the test from test digits and a fixed seed.

    Args:
      make: ``(rng, digits) -> Canvases``, such as ``functools.partial(canvases.cluttered, size=60)``.
      train: digits to train on.
      test: digits to test on.

    Returns:
      The `Task`.

    References:
      Mnih, Heess, Graves, Kavukcuoglu (2014), *Recurrent Models of Visual Attention*.

    >>> import functools
    >>> from jaxelbo.attention import canvases
    >>> task = of_canvases(functools.partial(canvases.translated, size=24), *read_digits("small"))
    >>> task.image_size, task.epoch(0, 0)[0].shape, task.test_images.shape
    (24, (1500, 24, 24), (297, 24, 24))
    """

    def epoch(seed: int, number: int) -> tuple[np.ndarray, np.ndarray]:
        made = make(np.random.default_rng([seed, number]), train)
        return as_bytes(made.images), made.labels

    made = make(np.random.default_rng(TEST_SEED), test)
    return Task(made.images.shape[1], len(train.images), epoch, as_bytes(made.images), made.labels)


def of_digits(train: Digits, test: Digits) -> Task:
    """The digits themselves, the same in every epoch.

    Args:
      train: digits to train on.
      test: digits to test on.

    Returns:
      The `Task`.

    References:
      LeCun, Bottou, Bengio, Haffner (1998), *Gradient-Based Learning Applied to Document Recognition*.

    >>> of_digits(*read_digits("small")).image_size
    8
    """
    shown = as_bytes(train.images), train.labels
    return Task(
        train.images.shape[1], len(train.images), lambda seed, number: shown, as_bytes(test.images), test.labels
    )


def as_bytes(images: np.ndarray) -> np.ndarray:
    """Numbers between 0 and 1 as bytes, 0 to 255.

    >>> as_bytes(np.array([0.0, 1.0]))
    array([  0, 255], dtype=uint8)
    """
    checks.check_unit_interval(images, "images")
    made = np.empty(images.shape, np.uint8)
    for start in range(0, len(images), 500):  # little enough at a time for the cache: twenty times as fast
        made[start : start + 500] = np.rint(255 * images[start : start + 500])
    return made


def as_numbers(images: jax.Array) -> jax.Array:
    """Bytes as float32 between 0 and 1.

    >>> as_numbers(jnp.array([0, 255], jnp.uint8))
    Array([0., 1.], dtype=float32)
    """
    return images.astype(jnp.float32) / 255


NAMED = {
    "digits": of_digits,
    "translated": functools.partial(of_canvases, functools.partial(canvases.translated, size=60)),
    "cluttered": functools.partial(of_canvases, functools.partial(canvases.cluttered, size=60)),
    "cluttered-100": functools.partial(of_canvases, functools.partial(canvases.cluttered, size=100)),
}
"""Name of a task -> ``(training digits, test digits) -> Task``: those with one label of the first table of RAM."""
