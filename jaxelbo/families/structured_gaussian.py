"""The structured Gaussian: a sparse Cholesky factor of the precision, as regressions of entries on their parents."""

import functools
import itertools
import math
from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxelbo import flattening, structures
from jaxelbo.families import flat_latents, gaussian
from jaxelbo.types import Family, Key, Latent, Params

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def structured(latent_like: Latent, structure: structures.Structure, *, initial_scale: float = 0.1) -> Family:
    """The Gaussian in which each entry is a regression on its parents, over any pytree of floating leaves.

    In units of scales s = exp(log_scale), u_i = (z_i - loc_i) / s_i, entry i is

        u_i = sum over its parents j of weight_ij u_j + noise_i,

    so the precision matrix is S^-1 (I - W)' (I - W) S^-1, with W sparse: a Cholesky factor with the diagonal apart. In
    these units weights do not change where latents are measured otherwise, and gradients in them stay of order one;
    s_i is the standard deviation given the parents. Params are ``{"loc": [D], "log_scale": [D], "weights": [D, K]}``
    on the flat latent (all leaves, ravelled and joined in the order of ``jax.tree.leaves``), K the largest number of
    parents; the columns of row i are the parents of i in the order of ``structure.parents[i]``, and those beyond are
    ignored. Density, entropy and draws take time and memory of order D K; draws go through the graph level by level,
    in a loop of at most twice as many steps as there are levels. Standard deviations are exact; with K parents at
    most after `structures.joined`, they take time of order D K^2, and memory of order D K.

    Args:
      latent_like: a latent, or its shapes (``jax.ShapeDtypeStruct``); also the default start.
      structure: which entries depend on which: `structures.blocks`, `structures.chain`, `structures.from_log_joint` or
        one's own.
      initial_scale: standard deviation of every entry after ``init``; positive.

    Returns:
      The `Family`. Its ``init`` ignores the key and starts with independent entries.

    Raises:
      TypeError: a leaf that is not floating-point, by its path; no `Structure`.
      ValueError: an empty pytree, a structure of another number of entries or that is no graph without cycles, or a
        scale that is not positive.

    References:
      Tan, Nott (2018), *Gaussian variational approximation with sparse precision matrices*; Rue, Held (2005),
      *Gaussian Markov Random Fields*; Takahashi, Fagan, Chen (1973), *Formation of a Sparse Bus Impedance Matrix and
      Its Application to Short Circuit Study* (standard deviations).

    >>> import jax
    >>> from jaxelbo import structures
    >>> like = {"level": jax.ShapeDtypeStruct((100,), "float32")}
    >>> family = structured(like, structures.chain(like))
    >>> jax.tree.map(jax.numpy.shape, family.init(jax.random.key(0)))
    {'loc': (100,), 'log_scale': (100,), 'weights': (100, 1)}
    """
    layout = flattening.layout_of(latent_like)
    gaussian.check_initial_scale(initial_scale)
    levels, size = structures.levels(structure), layout.size
    if len(structure.parents) != size:
        raise ValueError(f"structure must have {size} entries for this latent, got {len(structure.parents)}.")
    num_parents = max(map(len, structure.parents))
    plan = _plan_of(levels, _table(size, num_parents, structure.parents, map(range, map(len, structure.parents))))

    def init(key: Key, start: Latent | None = None) -> Params:
        del key
        return {
            "loc": gaussian.initial_location(layout, latent_like, start),
            "log_scale": gaussian.initial_log_scale(layout, initial_scale),
            "weights": jnp.zeros(plan.parents.shape, layout.dtype),
        }

    def weights(params: Params) -> jax.Array:
        return jnp.where(plan.parents < size, params["weights"], 0)

    def draw(params: Params, key: Key) -> tuple[jax.Array, jax.Array]:
        noise = jax.random.normal(key, (size,), layout.dtype)
        centred = _through(plan, weights(params), noise)
        return params["loc"] + jnp.exp(params["log_scale"]) * centred, log_density_of_noise(params, noise)

    def log_density(params: Params, flat: jax.Array) -> jax.Array:
        centred = (flat - params["loc"]) * jnp.exp(-params["log_scale"])
        return log_density_of_noise(params, centred - _regression(plan, weights(params), centred))

    def log_density_of_noise(params: Params, noise: jax.Array) -> jax.Array:
        return -0.5 * jnp.sum(noise**2) - jnp.sum(params["log_scale"]) - size * _HALF_LOG_2PI

    def entropy(params: Params) -> jax.Array:
        return jnp.sum(params["log_scale"]) + size * (_HALF_LOG_2PI + 0.5)

    coloured = functools.cache(lambda: _coloured(structure))  # not before it is asked for

    def moments(params: Params) -> tuple[jax.Array, jax.Array]:
        return params["loc"], jnp.exp(params["log_scale"]) * _inflation(params["weights"], *coloured())

    return flat_latents.reparameterised("structured", layout, init, draw, log_density, entropy=entropy, moments=moments)


class _Plan(NamedTuple):
    """Tables of the graph. Entries have slots, R rows of a width, in which parents stand in earlier rows.

    Attributes:
      parents: entries, ``[D, K]``; D where there is none.
      slots: of the entries, ``[D]``.
      entries: of the slots, ``[R, width]``; D where a slot is empty.
      parent_slots: of the slots, ``[R, width, K]``; R width where there is none.
    """

    parents: np.ndarray
    slots: np.ndarray
    entries: np.ndarray
    parent_slots: np.ndarray


def _plan_of(levels: tuple[tuple[int, ...], ...], parents: np.ndarray) -> _Plan:
    # Rows as wide as the mean level: at most twice as many as levels, at most four times as many slots as entries.
    size = len(parents)
    width = -(-size // len(levels))
    rows = [level[first : first + width] for level in levels for first in range(0, len(level), width)]
    entries = np.full((len(rows), width), size, np.int32)
    for row, members in zip(entries, rows, strict=True):
        row[: len(members)] = members
    slots = np.zeros(size + 1, np.int32)
    slots[entries.ravel()] = np.arange(entries.size)
    slots[size] = entries.size
    padded = np.concatenate([parents, np.full((1, parents.shape[1]), size, np.int32)])
    return _Plan(parents, slots[:size], entries, slots[padded[entries]])


def _table(fill: int, width: int, values: Iterable[Iterable[int]], columns: Iterable[Iterable[int]]) -> np.ndarray:
    """Row by row, values in these columns and ``fill`` in the others."""
    rows = []
    for row_values, row_columns in zip(values, columns, strict=True):
        rows.append(np.full(width, fill, np.int32))
        rows[-1][list(row_columns)] = list(row_values)
    return np.stack(rows)


def _regression(plan: _Plan, weights: jax.Array, centred: jax.Array) -> jax.Array:
    """What the parents say of each entry, W u ``[D]``."""
    return jnp.sum(weights * _take(centred, plan.parents), axis=-1)


def _through(plan: _Plan, weights: jax.Array, noise: jax.Array) -> jax.Array:
    """(I - W)^-1 noise. The gradient is one solve with the transpose, instead of that of each step of a loop."""
    return jax.lax.custom_linear_solve(
        lambda centred: centred - _regression(plan, weights, centred),
        noise,
        lambda _, values: _down(plan, weights, values),
        lambda _, values: _up(plan, weights, values),
    )


def _rows(plan: _Plan, weights: jax.Array) -> tuple[jax.Array, ...]:
    """What a loop over the rows reads: where each begins, its parents and its weights."""
    num_rows, width = plan.entries.shape
    return jnp.arange(num_rows) * width, jnp.asarray(plan.parent_slots), _take(weights, plan.entries)


def _down(plan: _Plan, weights: jax.Array, values: jax.Array) -> jax.Array:
    def step(found: jax.Array, row: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        first, parents, row_weights, row_values = row
        row_values += jnp.sum(row_weights * _take(found, parents), axis=-1)
        return jax.lax.dynamic_update_slice(found, row_values, (first,)), None

    of_rows = _take(values, plan.entries)
    start = jnp.zeros_like(of_rows.ravel())
    found, _ = jax.lax.scan(step, start, (*_rows(plan, weights), of_rows))
    return found[plan.slots]


def _up(plan: _Plan, weights: jax.Array, values: jax.Array) -> jax.Array:
    def step(found: jax.Array, row: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        first, parents, row_weights = row
        of_row = jax.lax.dynamic_slice(found, (first,), (plan.entries.shape[1],))
        return found.at[parents].add(row_weights * of_row[:, None], mode="drop"), None

    start = _take(values, plan.entries).ravel()
    found, _ = jax.lax.scan(step, start, _rows(plan, weights), reverse=True)
    return found[plan.slots]


def _coloured(structure: structures.Structure) -> tuple[_Plan, np.ndarray, np.ndarray]:
    """The plan of the joined structure with one column a colour, the colours ``[D]``, and whence weights come.

    No entry has the colour of one of its parents; since parents are joined, they differ among each other, and one more
    colour than there are parents is enough. The columns of weights are ``[D, C]``; K where there is no weight.
    """
    joined, size = structures.joined(structure), len(structure.parents)
    num_colours = 1 + max(map(len, joined.parents))
    levels, colours = structures.levels(joined), [0] * size
    for entry in itertools.chain.from_iterable(levels):
        taken = {colours[parent] for parent in joined.parents[entry]}
        colours[entry] = next(colour for colour in range(num_colours) if colour not in taken)

    def columns(parents: tuple[tuple[int, ...], ...]) -> list[list[int]]:
        return [[colours[parent] for parent in entries] for entries in parents]

    table = _table(size, num_colours, joined.parents, columns(joined.parents))
    places = map(range, map(len, structure.parents))
    sources = _table(max(map(len, structure.parents)), num_colours, places, columns(structure.parents))
    return _plan_of(levels, table), np.array(colours), sources


def _inflation(weights: jax.Array, plan: _Plan, colours: np.ndarray, sources: np.ndarray) -> jax.Array:
    """Standard deviations in units of those given the parents, ``[D]``.

    Row i of the table of covariances ``[D, C]`` has those of u_i with its parents, by the parents' colours, and its
    variance. Those among the parents of an entry are in the rows of the parents, the later row of each two.
    """
    num_colours = plan.parents.shape[1]
    weights = jnp.take_along_axis(jnp.pad(weights, ((0, 0), (0, 1))), jnp.asarray(sources), axis=1)

    def step(found: jax.Array, row: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
        first, parents, row_weights, own = row
        rows = _take(found, parents)
        among = jnp.where(parents[:, :, None] >= parents[:, None, :], rows, jnp.swapaxes(rows, 1, 2))
        with_parents = jnp.sum(among * row_weights[:, None, :], axis=-1)
        variance = 1 + jnp.maximum(0, jnp.sum(row_weights * with_parents, axis=-1))  # rounding might fall below
        new = jnp.where(own, variance[:, None], with_parents)
        return jax.lax.dynamic_update_slice(found, new, (first, 0)), variance

    own = _take(jnp.asarray(colours), plan.entries)[:, :, None] == np.arange(num_colours)[None, None]
    start = jnp.zeros((plan.entries.size, num_colours), weights.dtype)
    _, variances = jax.lax.scan(step, start, (*_rows(plan, weights), own))
    return jnp.sqrt(variances.ravel()[plan.slots])


def _take(array: jax.Array, indices: jax.typing.ArrayLike) -> jax.Array:
    """Entries of the leading axis; zero where there is none."""
    return array.at[indices].get(mode="fill", fill_value=0)
