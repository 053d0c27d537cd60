"""One file that holds a pytree, written so that a kill at any time leaves the old file or the new one.

Floor 1. Arrays in NumPy's own format, with the structure and a description of the configuration beside them.
"""

import contextlib
import hashlib
import os
import pathlib
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxelbo import checks
from jaxelbo.types import PyTree

# Writing takes at most a twentieth of the time, and a small state is not written more often than once a second.
_SECONDS_BETWEEN = 1.0
_TIMES_BETWEEN = 20.0


def save(path: str | pathlib.Path, tree: PyTree, configuration: str) -> None:
    """Writes a pytree of arrays and random keys to one file, whole or not at all.

    Args:
      path: the file; a file there is replaced when the new one is complete.
      tree: leaves are arrays, numbers or random keys, typed or raw.
      configuration: what must be the same when it is read again, in words; parts are set apart by "; ".

    Raises:
      TypeError: a leaf that is no array.
      OSError: the file cannot be written; a file that was there stays as it was.

    References:
      The POSIX function ``rename``, which is atomic.

    >>> import jax, pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "state.npz"
    >>> save(path, {"x": jax.numpy.arange(3.0), "key": jax.random.key(0)}, "a run")
    >>> load(path, {"x": jax.numpy.zeros(3), "key": jax.random.key(1)}, "a run")["x"]
    Array([0., 1., 2.], dtype=float32)
    """
    _write(pathlib.Path(path), _content(tree, configuration))


def load(path: str | pathlib.Path, like: PyTree, configuration: str) -> PyTree:
    """Reads what `save` wrote, bit for bit.

    Args:
      path: the file.
      like: a pytree of the same structure, shapes and dtypes, such as the start of the run.
      configuration: the same as when it was written.

    Returns:
      The pytree.

    Raises:
      FileNotFoundError: no such file.
      ValueError: a file that is no checkpoint or is truncated, or one of another configuration or structure.

    References:
      The POSIX function ``rename``, which is atomic.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "state.npz"
    >>> save(path, [1.0], "a run")
    >>> load(path, [0.0], "another run")
    Traceback (most recent call last):
    ...
    ValueError: ... is a checkpoint of another configuration: a run, and not another run.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}.")
    try:
        with np.load(path, allow_pickle=False) as file:
            content = {name: file[name] for name in file.files}
        written, structure = str(content["configuration"]), str(content["structure"])
    except Exception as error:  # whatever NumPy and zip raise on spoiled files
        raise ValueError(f"{path} is no checkpoint, or a truncated one: {error}.") from None
    if written != configuration:
        difference = _difference(written, configuration)
        raise ValueError(f"{path} is a checkpoint of another configuration: {difference}.")
    if structure != _structure(like):
        raise ValueError(f"{path} holds another structure: {_difference(structure, _structure(like))}.")
    leaves = [_like(content[f"leaf {index}"], leaf) for index, leaf in enumerate(jax.tree.leaves(like))]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


@contextlib.contextmanager
def written_behind(path: str | pathlib.Path, configuration: str) -> Iterator[Callable[[PyTree], None]]:
    """A function to hand a pytree to again and again; now and then it is written, while the caller goes on.

    The tree is copied to the host before the function returns; a thread writes it, of several processes that of the
    first. One write at a time, at most one a second, and so that all of them take at most a twentieth of the time; what
    was handed over last is written at the end in any case. A write that fails warns and is tried again with a later
    tree.

    Args:
      path: the file.
      configuration: as for `save`.

    Yields:
      The function.

    Raises:
      ValueError: the file cannot be written, such as one in a folder that does not exist; before anything is handed
        over.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "state.npz"
    >>> with written_behind(path, "a run") as offer:
    ...     for step in range(5):
    ...         offer({"step": step})
    >>> int(load(path, {"step": 0}, "a run")["step"])
    4
    """
    path = pathlib.Path(path)
    if jax.process_index():  # all hold the same; the first writes it
        yield lambda tree: None
        return
    _check_writable(path)
    offered = written = pending = None
    due = time.monotonic() + _SECONDS_BETWEEN

    def finish() -> None:
        """Waits for the write in flight, if there is one, and says what came of it."""
        nonlocal pending, written, due
        if pending is None:
            return
        (tree, future), pending = pending, None
        try:
            due = time.monotonic() + max(_SECONDS_BETWEEN, _TIMES_BETWEEN * future.result())
            written = tree
        except OSError as error:
            due = time.monotonic() + _SECONDS_BETWEEN
            warnings.warn(f"checkpoint {path} was not written: {error}. The run goes on.", RuntimeWarning, stacklevel=2)

    with futures.ThreadPoolExecutor(1) as pool:

        def begin(tree: PyTree) -> None:
            nonlocal pending
            pending = tree, pool.submit(_write, path, _content(tree, configuration))

        def offer(tree: PyTree) -> None:
            nonlocal offered
            offered = tree
            if pending is not None and pending[1].done():
                finish()
            if pending is None and time.monotonic() >= due:
                begin(tree)

        try:
            yield offer
        finally:
            finish()
            if written is not offered:
                begin(offered)
                finish()


def digest(tree: PyTree) -> str:
    """Twelve hexadecimal digits that tell apart pytrees of other structure, shapes, dtypes or values.

    They are the same on whatever devices the leaves lie.

    >>> digest([1.0, 2.0]) == digest([1.0, 2.5])
    False
    """
    state = hashlib.sha256(_structure(tree).encode())
    for leaf in jax.tree.leaves(tree):
        state.update(repr(_checksums(_data(leaf))).encode())
    return state.hexdigest()[:12]


def _checksums(leaf: Any) -> tuple[int, int]:
    """Two sums of mixed bits. A sum may be taken in parts, so no process needs to hold what lies on the others."""
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        words = leaf.astype(jnp.uint8) if leaf.dtype == bool else leaf
        if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
            words = jnp.stack([leaf.real, leaf.imag], axis=-1)
        size = words.dtype.itemsize
        if size > 4 or not jnp.issubdtype(words.dtype, jnp.unsignedinteger):
            words = jax.lax.bitcast_convert_type(words, jnp.uint32 if size >= 4 else jnp.dtype(f"uint{8 * size}"))
        sums = jax.jit(_mixed_sums, static_argnums=1)(words.astype(jnp.uint32), jnp)
        return int(sums[0]), int(sums[1])
    array = np.ascontiguousarray(leaf, checks.canonical_dtype(leaf))
    words = array.reshape(-1).view(np.dtype(f"uint{8 * min(4, array.dtype.itemsize)}"))
    sums = _mixed_sums(words.astype(np.uint32), np)
    return int(sums[0]), int(sums[1])


def _mixed_sums(words: Any, xp: Any) -> tuple[Any, Any]:
    """Over all entries, each mixed with its place by the finaliser of MurmurHash3, modulo 2^32."""
    place = xp.arange(words.size, dtype=np.uint32).reshape(words.shape)
    mixed = words ^ (place * np.uint32(0x9E3779B1) + np.uint32(1))
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        mixed = (mixed ^ (mixed >> np.uint32(shift))) * np.uint32(factor)
    mixed = mixed ^ (mixed >> np.uint32(16))
    weights = 2 * place + np.uint32(1)
    return xp.sum(mixed, dtype=np.uint32), xp.sum(mixed * weights, dtype=np.uint32)


def _content(tree: PyTree, configuration: str) -> dict[str, np.ndarray]:
    """What stands in the file; copies of all that the caller could change afterwards."""
    checks.check_arrays(tree, "tree")
    leaves = [_data(leaf) for leaf in jax.tree.leaves(tree)]
    for name, leaf in zip(checks.leaf_names(tree, "tree"), leaves, strict=True):
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable and not leaf.is_fully_replicated:
            raise ValueError(f"{name} must lie whole on every process to be written, got {leaf.sharding}.")
    leaves = [np.array(leaf) if isinstance(leaf, np.ndarray) else np.asarray(leaf) for leaf in leaves]
    content = {f"leaf {index}": leaf for index, leaf in enumerate(leaves)}
    return content | {"configuration": np.array(configuration), "structure": np.array(_structure(tree))}


def _write(path: pathlib.Path, content: dict[str, Any]) -> float:
    """Writes and returns the seconds that it took."""
    begin, temporary = time.monotonic(), _temporary(path)
    try:
        with temporary.open("wb") as file:
            np.savez(file, **content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()  # a part of a file would keep a full disk full
        raise
    return time.monotonic() - begin


def _check_writable(path: pathlib.Path) -> None:
    try:
        if path.is_dir():
            raise IsADirectoryError("it is a folder")
        _temporary(path).open("wb").close()
        _temporary(path).unlink()
    except OSError as error:
        raise ValueError(f"checkpoint must be a file that can be written, got {path}: {error}.") from None


def _temporary(path: pathlib.Path) -> pathlib.Path:
    return path.with_name(path.name + ".part")


def _difference(one: str, other: str) -> str:
    """The parts in which two descriptions differ."""
    of_one, of_other = one.split("; "), other.split("; ")
    only_one, only_other = ([part for part in a if part not in b] for a, b in ((of_one, of_other), (of_other, of_one)))
    return f"{'; '.join(only_one) or one}, and not {'; '.join(only_other) or other}"


def _data(leaf: Any) -> Any:
    return jax.random.key_data(leaf) if checks.is_typed_key(leaf) else leaf


def _like(array: np.ndarray, leaf: Any) -> jax.Array:
    if checks.is_typed_key(leaf):
        return jax.random.wrap_key_data(jnp.asarray(array), impl=jax.random.key_impl(leaf))
    if array.dtype.kind == "V":  # NumPy's format keeps the bits of bfloat16 and its like, not the name
        array = array.view(checks.canonical_dtype(leaf))
    if getattr(leaf, "weak_type", False):  # a number that takes the dtype of what it meets must go on doing so
        return leaf.at[...].set(array)
    return jnp.asarray(array)


def _structure(tree: PyTree) -> str:
    leaves = zip(checks.leaf_names(tree), jax.tree.leaves(tree), strict=True)
    return "; ".join(f"{name} {checks.canonical_dtype(leaf)} {jnp.shape(leaf)}" for name, leaf in leaves)
