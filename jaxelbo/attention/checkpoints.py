"""One file that holds a pytree, written so that a kill at any time leaves the old file or the new one.

Attention. Arrays in NumPy's own format, with the structure and a description of the configuration beside them.
"""

import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxelbo import checks
from jaxelbo.types import PyTree


def save(path: str | pathlib.Path, tree: PyTree, configuration: str) -> None:
    """Writes a pytree of arrays and random keys to one file, whole or not at all.

    Args:
      path: the file; a file there is replaced when the new one is complete.
      tree: leaves are arrays, numbers or random keys, typed or raw.
      configuration: what must be the same when it is read again, in words.

    Raises:
      TypeError: a leaf that is no array.

    References:
      The POSIX function ``rename``, which is atomic.

    >>> import jax, pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "state.npz"
    >>> save(path, {"x": jax.numpy.arange(3.0), "key": jax.random.key(0)}, "a run")
    >>> load(path, {"x": jax.numpy.zeros(3), "key": jax.random.key(1)}, "a run")["x"]
    Array([0., 1., 2.], dtype=float32)
    """
    path = pathlib.Path(path)
    checks.check_arrays(tree, "tree")
    arrays: dict[str, Any] = {
        f"leaf {index}": np.asarray(_data(leaf)) for index, leaf in enumerate(jax.tree.leaves(tree))
    }
    arrays |= {"configuration": np.array(configuration), "structure": np.array(_structure(tree))}
    temporary = path.with_name(path.name + ".part")
    with temporary.open("wb") as file:
        np.savez(file, **arrays)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


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
        raise ValueError(f"{path} is a checkpoint of another configuration: {written}, and not {configuration}.")
    if structure != _structure(like):
        raise ValueError(f"{path} holds another structure: {structure}, and not {_structure(like)}.")
    leaves = [_like(content[f"leaf {index}"], leaf) for index, leaf in enumerate(jax.tree.leaves(like))]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _data(leaf: Any) -> Any:
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _like(array: np.ndarray, leaf: Any) -> jax.Array:
    data = jnp.asarray(array)
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf)) if _is_key(leaf) else data


def _structure(tree: PyTree) -> str:
    names = checks.leaf_names(tree)
    leaves = [jnp.asarray(_data(leaf)) for leaf in jax.tree.leaves(tree)]
    return "; ".join(f"{name} {leaf.dtype} {leaf.shape}" for name, leaf in zip(names, leaves, strict=True))
