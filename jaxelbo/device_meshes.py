"""One device or many: which devices there are, and where data and draws of q go.

Floor 1. User code stays as it is: rows of data are placed once, draws are spread where a mesh with an axis "samples" is
set, and the compiler puts in the sums across devices. The numbers depend on the number of devices by rounding alone.
"""

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxelbo import checks
from jaxelbo.types import Key, PyTree

DATA, SAMPLES = "data", "samples"
"""The names of the axes."""


def device_mesh(*, num_along_samples: int = 1) -> Mesh:
    """All devices of all processes, as ``[rows of data, draws of q]``.

    Args:
      num_along_samples: over how many devices the draws are spread; it must divide the number of devices.

    Returns:
      A ``jax.sharding.Mesh`` with axes ``"data"`` and ``"samples"``, to be given to `place_rows` and
      `place_everywhere`, and set by ``jax.set_mesh`` where draws are to be spread.

    Raises:
      TypeError, ValueError: naming the argument.

    >>> mesh = device_mesh()
    >>> mesh.axis_names, int(mesh.shape["samples"])
    (('data', 'samples'), 1)
    """
    num_along_samples = checks.check_count(num_along_samples, "num_along_samples")
    num_devices = len(jax.devices())
    if num_devices % num_along_samples:
        raise ValueError(f"num_along_samples must divide the {num_devices} devices, got {num_along_samples}.")
    shape = num_devices // num_along_samples, num_along_samples
    return jax.make_mesh(shape, (DATA, SAMPLES), axis_types=(AxisType.Auto, AxisType.Auto))


def place_rows(data: PyTree, mesh: Mesh) -> PyTree:
    """Arrays with their rows spread over the mesh's ``"data"`` axis.

    Where there are several processes, each gives rows of its own, as many as the others, and the result is all of them
    in the order of the processes.

    Args:
      data: a pytree of arrays ``[N, ...]``, such as what travels in ``data`` of `fit`.
      mesh: of `device_mesh`.

    Returns:
      The pytree, on the devices.

    Raises:
      TypeError, ValueError: naming the leaf: no mesh, an array without rows, or as many as the devices do not divide.

    >>> import jax.numpy as jnp
    >>> place_rows({"x": jnp.ones((4 * len(jax.devices()), 2))}, device_mesh())["x"].shape[1]
    2
    """
    _check_mesh(mesh)
    checks.check_arrays(data, "data")
    num_processes, num_devices = jax.process_count(), mesh.shape[DATA]
    sharding = NamedSharding(mesh, PartitionSpec(DATA))

    def place(name: str, leaf: jax.Array) -> jax.Array:
        if not np.ndim(leaf) or not np.shape(leaf)[0]:
            raise ValueError(f"{name} must have rows, got shape {np.shape(leaf)}.")
        rows = np.shape(leaf)[0] * num_processes
        if rows % num_devices:
            raise ValueError(
                f"{name} must have a number of rows that the {num_devices} devices divide, got {rows}; leave some out, "
                "or use fewer devices."
            )
        if num_processes == 1:
            return jax.device_put(leaf, sharding)
        return jax.make_array_from_process_local_data(sharding, np.asarray(leaf), (rows, *np.shape(leaf)[1:]))

    leaves, structure = jax.tree.flatten(data)
    return structure.unflatten(map(place, checks.leaf_names(data, "data"), leaves))


def place_everywhere(tree: PyTree, mesh: Mesh) -> PyTree:
    """The same pytree on every device, such as params and keys; each process must give the same.

    Args:
      tree: arrays, numbers or random keys, typed or raw.
      mesh: of `device_mesh`.

    Returns:
      The pytree, on the devices.

    Raises:
      TypeError, ValueError: naming the leaf.

    >>> import jax
    >>> place_everywhere({"key": jax.random.key(0)}, device_mesh())["key"].shape
    ()
    """
    _check_mesh(mesh)
    checks.check_arrays(tree, "tree")
    # As the output of a program: typed keys cannot be put on devices of other processes.
    return jax.jit(lambda tree: tree, out_shardings=NamedSharding(mesh, PartitionSpec()))(tree)


def spread(keys: Key) -> Key:
    """Keys ``[S]`` with their axis spread over ``"samples"`` of the mesh that is set, if it divides S."""
    mesh = jax.sharding.get_abstract_mesh()
    if SAMPLES not in mesh.axis_names or mesh.shape[SAMPLES] == 1 or keys.shape[0] % mesh.shape[SAMPLES]:
        return keys
    return jax.lax.with_sharding_constraint(keys, PartitionSpec(SAMPLES))


def _check_mesh(mesh: Mesh) -> None:
    if not isinstance(mesh, Mesh) or DATA not in mesh.axis_names:
        raise TypeError(f"mesh must be a mesh of device_mesh, with an axis {DATA!r}, got {checks.describe(mesh)}.")
