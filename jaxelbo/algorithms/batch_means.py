"""Means and spreads of a stream of iterates in memory for a few of them: are they stationary, how exact is their mean?

Sixteen batches of equal length hold all iterates since the start. When they are full, neighbours are joined and later
batches are twice as long, so the memory does not grow and the oldest half can be left out at any time. Iterates are
flat, ``[D]``.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

NUM_BATCHES, FIRST_LENGTH = 16, 25
ROUNDING = 8.0
"""Standard deviations of so many units of rounding are none."""
WINDOWS = (8, 10, 12, 14, 16)
"""Numbers of last batches that are looked at; the first look is behind 200 iterates."""


class BatchMeans(NamedTuple):
    """Means and sums of squared differences from them.

    Attributes:
      means, squares: of the batches, ``[16, D]``, of which the first ``num_full`` count.
      num_full: how many are full, int32.
      length: iterates of a batch, int32.
      mean, square: of the batch that is being filled, ``[D]``.
      count: how many iterates it has, int32.
    """

    means: jax.Array
    squares: jax.Array
    num_full: jax.Array
    length: jax.Array
    mean: jax.Array
    square: jax.Array
    count: jax.Array


class Window(NamedTuple):
    """The last batches over which iterates look most stationary.

    Attributes:
      mean: of the iterates, ``[D]``.
      r_hat: the largest split R-hat of an entry; infinite where there are too few batches.
      effective_size: the least number of independent iterates that would give as exact a mean, of an entry.
      size: how many of the last batches are in the window, int32.
    """

    mean: jax.Array
    r_hat: jax.Array
    effective_size: jax.Array
    size: jax.Array


def empty(flat: jax.Array) -> BatchMeans:
    """No iterate yet."""
    zero, one = jnp.zeros((), jnp.int32), jnp.zeros_like(flat)
    many = jnp.zeros((NUM_BATCHES, flat.size), flat.dtype)
    return BatchMeans(many, many, zero, zero + FIRST_LENGTH, one, one, zero)


def add(batches: BatchMeans, flat: jax.Array) -> BatchMeans:
    """One more iterate; ``count`` is zero behind the last of a batch."""
    # Loops of no or one turn, where a `cond` would copy all batches in each step.
    is_full = jnp.where(batches.num_full == NUM_BATCHES, 1, 0)
    batches = jax.lax.fori_loop(0, is_full, lambda _, now: _join(now), batches)
    count = batches.count + 1
    mean = batches.mean + (flat - batches.mean) / count.astype(flat.dtype)
    square = batches.square + (flat - batches.mean) * (flat - mean)
    batches = batches._replace(mean=mean, square=square, count=count)
    return jax.lax.fori_loop(0, jnp.where(count == batches.length, 1, 0), lambda _, now: _close(now), batches)


def best_window(batches: BatchMeans) -> Window:
    """Of windows of 8 to 16 batches the one with the least R-hat."""
    means, squares = _in_order(batches)
    windows = [_window(means[-size:], squares[-size:], batches.length) for size in WINDOWS]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *windows)
    r_hat = jnp.where(stacked.size <= batches.num_full, stacked.r_hat, jnp.inf)
    best = jnp.argmin(r_hat)
    return jax.tree.map(lambda leaf: leaf[best], stacked._replace(r_hat=r_hat))


def error_of_mean(
    batches: BatchMeans, window: Window, divergence_fn: Callable[[jax.Array, jax.Array], jax.Array]
) -> jax.Array:
    """The mean divergence of the window's mean from that of endlessly many iterates, read off those of its batches.

    For a divergence that is quadratic nearby, and batches that are long against the correlation of iterates.
    """
    means, _ = _in_order(batches)
    divergences = jax.vmap(divergence_fn, (0, None))(means, window.mean)
    is_inside = jnp.arange(NUM_BATCHES) >= NUM_BATCHES - window.size
    return jnp.sum(jnp.where(is_inside, divergences, 0)) / (window.size * (window.size - 1)).astype(divergences.dtype)


def _join(batches: BatchMeans) -> BatchMeans:
    """Neighbours as one batch of twice the length."""
    pairs, squares = (leaf.reshape(NUM_BATCHES // 2, 2, -1) for leaf in (batches.means, batches.squares))
    apart = batches.length.astype(pairs.dtype) / 2 * (pairs[:, 0] - pairs[:, 1]) ** 2
    half = NUM_BATCHES // 2
    means = batches.means.at[:half].set(jnp.mean(pairs, axis=1))
    squares = batches.squares.at[:half].set(jnp.sum(squares, axis=1) + apart)
    return batches._replace(means=means, squares=squares, num_full=batches.num_full // 2, length=2 * batches.length)


def _close(batches: BatchMeans) -> BatchMeans:
    """The batch that was being filled among the full ones."""
    means = batches.means.at[batches.num_full].set(batches.mean)
    squares = batches.squares.at[batches.num_full].set(batches.square)
    zero = jnp.zeros_like(batches.mean)
    return BatchMeans(means, squares, batches.num_full + 1, batches.length, zero, zero, jnp.zeros_like(batches.count))


def _in_order(batches: BatchMeans) -> tuple[jax.Array, jax.Array]:
    """Means and squares with the full batches at the end, the latest last."""
    order = (jnp.arange(NUM_BATCHES) + batches.num_full) % NUM_BATCHES
    return batches.means[order], batches.squares[order]


def _window(means: jax.Array, squares: jax.Array, length: jax.Array) -> Window:
    """Of all batches given, an even number."""
    size, length = len(means), length.astype(means.dtype)
    halves = means.reshape(2, size // 2, -1)
    of_halves, count = jnp.mean(halves, axis=1), length * size / 2
    spread = length * jnp.sum((halves - of_halves[:, None]) ** 2, axis=1)
    within = jnp.mean(jnp.sum(squares.reshape(halves.shape), axis=1) + spread, axis=0) / (count - 1)
    mean = jnp.mean(means, axis=0)
    least = (ROUNDING * jnp.finfo(mean.dtype).eps * mean) ** 2
    r_hat = jnp.sqrt((count - 1) / count + _ratio(jnp.var(of_halves, axis=0, ddof=1), within, least, 0.0))
    total = jnp.sum(squares, axis=0) + length * jnp.sum((means - mean[None]) ** 2, axis=0)
    of_means = jnp.var(means, axis=0, ddof=1)
    effective_size = _ratio(total / (length * size - 1), of_means, least, jnp.inf) * size
    return Window(mean, jnp.max(r_hat), jnp.min(effective_size), jnp.asarray(size, jnp.int32))


def _ratio(numerator: jax.Array, denominator: jax.Array, least: jax.Array, otherwise: float) -> jax.Array:
    """Entry by entry; ``otherwise`` where an entry of the iterates does not move but for rounding."""
    moves = denominator > least
    return jnp.where(moves, numerator / jnp.where(moves, denominator, 1), otherwise)
