"""Which entries of a latent a Gaussian lets depend on which: directed graphs on the flat vector, written or found.

Floor 1. A graph says of each entry which others it is drawn given. Host code on Python integers throughout.
"""

import collections
import itertools
import operator
from collections.abc import Collection, Hashable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxelbo import checks, flattening
from jaxelbo.types import Key, Latent, LogJoint, PyTree

SPREADS = (0.1, 1.0, 1.0)
"""Standard deviations of the points about ``latent_like`` at which interactions are looked for."""
COLUMNS_AT_ONCE = 128
"""Of the Hessian: many enough to be fast, few enough that D of them are never held."""


class Structure(NamedTuple):
    """A directed graph without cycles on the D entries of a flat latent. Static and hashable.

    Attributes:
      parents: of each entry, the entries that it is drawn given, in the order of the columns of its weights.
    """

    parents: tuple[tuple[int, ...], ...]


def blocks(latent_like: Latent, groups: PyTree = None) -> Structure:
    """Blocks of entries, any covariance within and none between.

    Args:
      latent_like: a latent, or its shapes.
      groups: hashable labels, a pytree like ``latent_like`` or a prefix of it; leaves of the same label are one block.
        ``None`` makes one block a leaf.

    Raises:
      TypeError, ValueError: leaves that are not floating-point, an empty pytree, or groups that are no prefix of it.

    >>> blocks({"a": 0.0, "b": 0.0, "c": 0.0}, {"a": "together", "b": "alone", "c": "together"}).parents
    ((), (), (0,))
    """
    layout = flattening.layout_of(latent_like)
    labels = range(len(layout.sizes)) if groups is None else _labels(groups, latent_like)
    members: dict[Hashable, list[int]] = collections.defaultdict(list)
    parents = []
    for label, entries in zip(labels, _entries_of_leaves(layout), strict=True):
        for entry in entries:
            parents.append(tuple(members[label]))
            members[label].append(entry)
    return Structure(tuple(parents))


def chain(latent_like: Latent) -> Structure:
    """A Gauss-Markov process: the entries at time t given each other and all those at time t - 1.

    Args:
      latent_like: a latent, or its shapes, leaves ``[T, ...]``.

    Raises:
      TypeError, ValueError: leaves that are not floating-point, an empty pytree, or leaves of another leading axis.

    >>> chain({"level": jax.numpy.zeros(3)}).parents
    ((), (0,), (1,))
    """
    layout = flattening.layout_of(latent_like)
    num_steps = next((shape[0] for shape in layout.shapes if shape), 1)
    checks.check_leading_axis(latent_like, num_steps, "latent_like", "steps")
    rows = [np.array(entries).reshape(num_steps, -1) for entries in _entries_of_leaves(layout)]
    steps = np.concatenate(rows, axis=1).tolist()
    parents: dict[int, tuple[int, ...]] = {}
    for before, now in zip([[], *steps[:-1]], steps, strict=True):
        parents |= {entry: (*before, *now[:place]) for place, entry in enumerate(now)}
    return Structure(tuple(parents[entry] for entry in range(layout.size)))


def from_log_joint(log_joint: LogJoint, latent_like: Latent, key: Key) -> Structure:
    """The structure of a model, found: a Gaussian of this structure can have any precision that the model asks for.

    Two entries interact where the Hessian of the log joint is not zero, or not finite, at one of three random points
    about ``latent_like``. Of that graph `from_graph` makes the structure: for a hierarchical model the globals first
    and each group's locals given them, for a state-space model a chain. It takes 3 D Hessian-vector products and runs
    on the host. Entries that meet in terms without curvature alone, such as abs(a - b), are not seen to interact.

    Args:
      log_joint: latent pytree -> scalar log p(x, z), in nats; twice differentiable.
      latent_like: a latent, or its shapes, which stand for zeros.
      key: one random key, for the points.

    Raises:
      TypeError, ValueError: naming the argument: leaves that are not floating-point, an empty pytree, a log joint that
        returns no scalar or that is finite at none of the points; traced arguments.

    >>> import jax, jax.numpy as jnp
    >>> log_joint = lambda z: -z["mean"] ** 2 - jnp.sum((z["groups"] - z["mean"]) ** 2)
    >>> from_log_joint(log_joint, {"groups": jnp.zeros(3), "mean": 0.0}, jax.random.key(0)).parents
    ((3,), (3,), (3,), ())
    """
    checks.check_callable(log_joint, "log_joint")
    checks.check_key(key)
    layout = flattening.layout_of(latent_like)
    centre = flattening.flatten(layout, flattening.values_of(latent_like), "latent_like")
    noise = jax.random.normal(key, (len(SPREADS), layout.size), layout.dtype)
    points = centre[None] + jnp.asarray(SPREADS, layout.dtype)[:, None] * noise

    def value(flat: jax.Array) -> jax.Array:
        return checks.check_scalar(log_joint(flattening.unflatten(layout, flat)), "log_joint")

    values = jax.jit(lambda points: jax.lax.map(value, points))(points)
    if not checks.is_known(values):
        raise ValueError("from_log_joint reads values; call it outside jit, vmap and grad.")
    points = points[np.isfinite(values)]
    if not len(points):
        raise ValueError(f"log_joint must be finite near latent_like, got none at {len(SPREADS)} random points.")

    @jax.jit
    def interactions(points: jax.Array, first: jax.Array) -> jax.Array:
        columns = first + jnp.arange(min(COLUMNS_AT_ONCE, layout.size))
        tangents = jax.nn.one_hot(columns, layout.size, dtype=layout.dtype)

        def at(point: jax.Array) -> jax.Array:
            product = jax.linearize(jax.grad(value), point)[1]
            return jax.vmap(product)(tangents) != 0  # which NaN is not either

        return jnp.any(jax.lax.map(at, points), axis=0)

    neighbours: list[list[int]] = [[] for _ in range(layout.size)]
    for first in range(0, layout.size, COLUMNS_AT_ONCE):
        piece = interactions(points, jnp.asarray(first))[: layout.size - first]
        for row, column in np.argwhere(piece).tolist():
            neighbours[first + row].append(column)
    return from_graph(neighbours)


def from_graph(neighbours: Sequence[Collection[int]]) -> Structure:
    """The structure of a Gaussian whose precision matrix may be other than zero between neighbours.

    Entries are eliminated one by one, that with the fewest neighbours first and of equal ones the one that has waited
    longest; its neighbours are its parents, and become neighbours of each other. So every set of parents is joined.

    Args:
      neighbours: of each of D entries; who names whom makes no difference.

    Raises:
      ValueError: a neighbour that is no entry.

    References:
      Rue, Held (2005), *Gaussian Markov Random Fields*; George, Liu (1989), *The Evolution of the Minimum Degree
      Ordering Algorithm*.

    >>> from_graph([{1, 2}, {2}, {3}, ()]).parents  # a triangle, and an entry that hangs on it
    ((1, 2), (2,), (), (2,))
    """
    graph: list[set[int]] = [set() for _ in neighbours]
    for entry, others in enumerate(neighbours):
        for other in others:
            _check_entry(other, len(graph), f"neighbours[{entry}]")
            if other != entry:
                graph[entry].add(other)
                graph[other].add(entry)
    waiting: dict[int, collections.OrderedDict[int, None]] = collections.defaultdict(collections.OrderedDict)
    for entry, others in enumerate(graph):
        waiting[len(others)][entry] = None
    parents: list[tuple[int, ...]] = [()] * len(graph)
    fewest = 0
    for remaining in range(len(graph) - 1, -1, -1):
        while not waiting[fewest]:
            fewest += 1
        entry, _ = waiting[fewest].popitem(last=False)
        parents[entry] = tuple(sorted(graph[entry]))
        for other in parents[entry]:
            del waiting[len(graph[other])][other]
            if len(parents[entry]) < remaining:  # else all that remain are joined already
                graph[other] |= graph[entry]
            graph[other] -= {entry, other}
            waiting[len(graph[other])][other] = None
        fewest = max(fewest - 1, 0)
    return Structure(tuple(parents))


def levels(structure: Structure) -> tuple[tuple[int, ...], ...]:
    """The entries in the order of drawing: those of one level are given those of earlier levels alone.

    Raises:
      TypeError, ValueError: no `Structure`, a parent that is no entry or stands twice, or a cycle.

    >>> levels(Structure(((), (0,), (0,), (1, 2))))
    ((0,), (1, 2), (3,))
    """
    _check_parents(structure)
    missing = [len(parents) for parents in structure.parents]
    children: list[list[int]] = [[] for _ in missing]
    for entry, parents in enumerate(structure.parents):
        for parent in parents:
            children[parent].append(entry)
    found, level = [], [entry for entry, count in enumerate(missing) if count == 0]
    while level:
        found.append(tuple(level))
        for child in itertools.chain.from_iterable(children[entry] for entry in level):
            missing[child] -= 1
        level = sorted({child for entry in level for child in children[entry] if missing[child] == 0})
    if any(missing):
        raise ValueError(f"structure must have no cycle, got one through entry {_on_cycle(structure, missing)}.")
    return tuple(found)


def joined(structure: Structure) -> Structure:
    """The structure with the fewest more parents, in the order of `levels`, with which all sets of parents are joined.

    Raises:
      TypeError, ValueError: as `levels`.

    >>> joined(Structure(((), (), (0, 1)))).parents  # two causes of one effect
    ((), (0,), (0, 1))
    """
    order = list(itertools.chain.from_iterable(levels(structure)))
    place = {entry: index for index, entry in enumerate(order)}
    parents = [set(entries) for entries in structure.parents]
    for entry in reversed(order):
        if parents[entry]:
            last = max(parents[entry], key=place.__getitem__)
            parents[last] |= parents[entry] - {last}
    return Structure(tuple(tuple(sorted(entries, key=place.__getitem__)) for entries in parents))


def _labels(groups: PyTree, latent_like: Latent) -> list[Hashable]:
    try:
        labels = jax.tree.leaves(jax.tree.broadcast(groups, latent_like))
    except ValueError:
        expected = checks.leaf_names(latent_like)
        raise ValueError(
            f"groups must be a prefix of latent_like, with leaves {expected}, got leaves {checks.leaf_names(groups)}."
        ) from None
    for label in labels:
        if not isinstance(label, Hashable):
            raise TypeError(f"groups must hold hashable labels, got {checks.describe(label)}.")
    return labels


def _entries_of_leaves(layout: flattening.Layout) -> list[range]:
    ends = list(itertools.accumulate(layout.sizes))
    return [range(end - size, end) for end, size in zip(ends, layout.sizes, strict=True)]


def _check_entry(entry: int, size: int, name: str) -> None:
    try:
        index = operator.index(entry)
    except TypeError:
        raise TypeError(f"{name} must hold integers, got {checks.describe(entry)}.") from None
    if not 0 <= index < size:
        raise ValueError(f"{name} must hold entries from 0 to {size - 1}, got {index}.")


def _check_parents(structure: Structure) -> None:
    if not isinstance(structure, Structure):
        raise TypeError(f"structure must be a structures.Structure, got {checks.describe(structure)}.")
    for entry, parents in enumerate(structure.parents):
        for parent in parents:
            _check_entry(parent, len(structure.parents), f"structure.parents[{entry}]")
        if len(set(parents)) < len(parents):
            raise ValueError(f"structure.parents[{entry}] must not hold an entry twice, got {parents}.")


def _on_cycle(structure: Structure, missing: Sequence[int]) -> int:
    """Up from parent to parent among those that wait for one, until one comes a second time."""
    entry, seen = next(entry for entry, count in enumerate(missing) if count), set()
    while entry not in seen:
        seen.add(entry)
        entry = next(parent for parent in structure.parents[entry] if missing[parent])
    return entry
