"""The bound on a growing pool of draws, each weighted by how likely q would make it: all values seen go on counting."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxelbo import gaussian_moves, quasi_random
from jaxelbo.gaussian_moves import Place
from jaxelbo.gaussians import product
from jaxelbo.types import PyTree

LogDensity = Callable[[jax.Array], jax.Array]
INFLATION = 1.2
"""Draws come from q with its scales times this, so that a q which has to widen finds its draws in the pool."""

MAX_LOOKS, SMALLEST, LARGEST = 8, 0.25, 4.0
NUM_CONJUGATE = 10


class Pool(NamedTuple):
    """Points seen so far, and q after each batch, all in coordinates where the first q is N(0, I).

    Attributes:
      points: ``[B, N, D]``; batches to come hold zeros.
      values: log densities at the points, ``[B, N]``, -inf where it was not finite.
      places: the Gaussians that the batches were drawn from, leaves ``[B, ...]``, with their inverse factors.
      inverses: ``[B, D, D]``.
      place: q now.
      inverse: of its factor.
      num_batches: drawn so far.
      gain: what a natural-gradient step would gain, in nats, at q before the last batch was put to use.
      effective_size: of the weights of the pool under q now.
    """

    points: jax.Array
    values: jax.Array
    places: Place
    inverses: jax.Array
    place: Place
    inverse: jax.Array
    num_batches: jax.Array
    gain: jax.Array
    effective_size: jax.Array


class _Look(NamedTuple):
    """A candidate q seen through the pool."""

    place: Place
    inverse: jax.Array
    direction: gaussian_moves.Direction
    effective_size: jax.Array


class _Course(NamedTuple):
    """Moves of q through one pool."""

    look: _Look
    length: jax.Array
    count: jax.Array
    first_gain: jax.Array


def start(loc_like: jax.Array, batch_size: int, max_batches: int) -> Pool:
    """An empty pool for a latent ``[D]``."""
    size, dtype = loc_like.size, loc_like.dtype
    identity = jnp.eye(size, dtype=dtype)
    place = Place(jnp.zeros(size, dtype), identity, jnp.zeros((), dtype))
    places, inverses = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (max_batches, *leaf.shape)), (place, identity))
    return Pool(
        points=jnp.zeros((max_batches, batch_size, size), dtype),
        values=jnp.full((max_batches, batch_size), -jnp.inf, dtype),
        places=places,
        inverses=inverses,
        place=place,
        inverse=identity,
        num_batches=jnp.zeros((), jnp.int32),
        gain=jnp.asarray(jnp.inf, dtype),
        effective_size=jnp.zeros((), dtype),
    )


def grow(log_density: LogDensity, base: Place, pool: Pool, shift: jax.Array) -> Pool:
    """Draws one more batch from q and moves q to the best Gaussian that the whole pool shows.

    Costs N values and no gradient. The mean gradient and Hessian of the log density under q are those of the quadratic
    nearest to its values in weighted squares (Stein's identity twice); the weights are of q over all it was drawn from.

    Args:
      log_density: ``[D]`` -> scalar, in z.
      base: the first q, which carries the pool's coordinates to z.
      pool: of `start`.
      shift: ``[D]``, uniform on the unit cube, of the lattice of draws.
    """
    batch_size, size = pool.points.shape[1:]
    inflation = jnp.asarray(INFLATION, pool.points.dtype)
    noise = quasi_random.shifted_normals(shift, batch_size)
    points = gaussian_moves.points(pool.place, inflation * noise)
    values = jax.vmap(log_density)(gaussian_moves.points(base, points))
    values = jnp.where(jnp.isfinite(values), values, -jnp.inf)
    drawn_from = pool.place._replace(log_det=pool.place.log_det + size * math.log(INFLATION))

    def put(all_batches: jax.Array, batch: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_index_in_dim(all_batches, batch, pool.num_batches, 0)

    pool = pool._replace(
        points=put(pool.points, points),
        values=put(pool.values, values),
        places=jax.tree.map(put, pool.places, drawn_from),
        inverses=put(pool.inverses, pool.inverse / inflation),
        num_batches=pool.num_batches + 1,
    )
    return _settle(pool)


def _settle(pool: Pool) -> Pool:
    """Moves q to a fixed point of the pool, or as far as its weights can be trusted."""
    max_batches, _, size = pool.points.shape
    num_features = 1 + size + size * (size + 1) // 2
    is_past = (jnp.arange(max_batches) < pool.num_batches)[:, None]
    is_sound = is_past & (pool.values > -jnp.inf)
    values = jnp.where(is_sound, pool.values, 0)

    def of_batch(index: jax.Array) -> jax.Array:
        of_each = jax.vmap(lambda place, inverse: _log_density(place, inverse, pool.points[index])[0])
        return jax.nn.logsumexp(jnp.where(is_past, of_each(pool.places, pool.inverses), -jnp.inf), axis=0)

    mixture = _fill(of_batch, pool.num_batches, values)

    def look(place: Place, inverse: jax.Array) -> _Look:
        log_density, noise = _fill(
            lambda index: _log_density(place, inverse, pool.points[index]), pool.num_batches, (values, pool.points)
        )
        weights = jax.nn.softmax(jnp.where(is_sound, log_density - mixture, -jnp.inf), axis=(0, 1))
        gradient, hessian = _quadratic(values, weights, noise, pool.num_batches)
        direction = gaussian_moves.direction(gradient, hessian, smallest=SMALLEST, largest=LARGEST)
        return _Look(place, inverse, direction, 1 / jnp.sum(weights**2))

    def body(carry: _Course) -> _Course:
        now, length, count, first_gain = carry
        place = gaussian_moves.moved(now.place, now.direction, length)
        there = look(place, gaussian_moves.moved_inverse(now.inverse, now.direction, length))
        is_first = count == 0  # a step of length 0: the look at where q stands, by the same compiled code
        is_seen = there.effective_size > jnp.minimum(3 * num_features, now.effective_size)
        is_better = is_first | (is_seen & (there.direction.gain < now.direction.gain))
        kept = jax.tree.map(lambda new, old: jnp.where(is_better, new, old), there, now)
        longer = jnp.where(is_better, jnp.minimum(1, 1.5 * length), 0.5 * length)
        first_gain = jnp.where(is_first, there.direction.gain, first_gain)
        return _Course(kept, jnp.where(is_first, 1, longer), count + 1, first_gain)

    def goes_on(carry: _Course) -> jax.Array:
        is_moving = (carry.look.direction.gain > 1e-4) & (carry.length > 0.02) & (carry.count < MAX_LOOKS)
        return is_moving | (carry.count == 0)

    loc = pool.place.loc
    zero, axes = jnp.zeros((), loc.dtype), jnp.eye(size, dtype=loc.dtype)
    still = gaussian_moves.Direction(jnp.zeros_like(loc), jnp.ones_like(loc), axes, zero)
    unseen = _Look(pool.place, pool.inverse, still, zero)
    last = jax.lax.while_loop(goes_on, body, _Course(unseen, zero, jnp.zeros((), jnp.int32), zero))
    return pool._replace(
        place=last.look.place,
        inverse=last.look.inverse,
        gain=last.first_gain,
        effective_size=last.look.effective_size,
    )


def _quadratic(
    values: jax.Array, weights: jax.Array, noise: jax.Array, num_batches: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Gradient ``[D]`` and Hessian ``[D, D]`` at 0 of the quadratic nearest to values ``[B, N]`` in weighted squares.

    Under N(0, I) these are the mean gradient and Hessian of what the values are of. Conjugate gradients on the normal
    equations of Hermite polynomials, which are orthonormal but for the unevenness of weights and draws, so a few
    iterations do; they start from the quadratic of q itself.
    """
    center = jnp.sum(weights * values)
    identity = jnp.eye(noise.shape[-1], dtype=noise.dtype)

    def evaluate(coefficients: tuple[jax.Array, ...], noise: jax.Array) -> jax.Array:
        constant, slope, curvature = coefficients
        squares = jnp.sum(product(noise, curvature) * noise, axis=1) - jnp.trace(curvature)
        return constant + product(noise, slope) + math.sqrt(0.5) * squares

    def project(values_of: Callable[[jax.Array], jax.Array]) -> tuple[jax.Array, ...]:
        def add(index: jax.Array, sums: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            weighted = weights[index] * values_of(index)
            slopes = weighted[:, None] * noise[index]
            terms = jnp.sum(weighted), jnp.sum(slopes, axis=0), product(slopes.T, noise[index])
            return jax.tree.map(jnp.add, sums, terms)

        zeros = jax.tree.map(jnp.zeros_like, (center, identity[0], identity))
        constant, slope, moments = jax.lax.fori_loop(0, num_batches, add, zeros)
        curvature = moments - constant * identity
        return constant, slope, math.sqrt(0.5) * 0.5 * (curvature + curvature.T)

    solution, _ = jax.scipy.sparse.linalg.cg(
        lambda coefficients: project(lambda index: evaluate(coefficients, noise[index])),
        project(lambda index: values[index] - center),
        (jnp.zeros_like(center), jnp.zeros_like(identity[0]), -math.sqrt(0.5) * identity),
        tol=1e-3,
        maxiter=NUM_CONJUGATE,
    )
    return solution[1], math.sqrt(2) * solution[2]


def _fill(of_batch: Callable[[jax.Array], PyTree], num_batches: jax.Array, like: PyTree) -> PyTree:
    """What ``of_batch`` gives for each of the batches so far, ``[B, ...]``; zeros for those to come."""

    def put(index: jax.Array, filled: PyTree) -> PyTree:
        return jax.tree.map(lambda all_batches, batch: all_batches.at[index].set(batch), filled, of_batch(index))

    return jax.lax.fori_loop(0, num_batches, put, jax.tree.map(jnp.zeros_like, like))


def _log_density(place: Place, inverse: jax.Array, points: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Log densities of points ``[M, D]`` up to a constant, and the points in standard coordinates."""
    noise = gaussian_moves.scaled(inverse, points - place.loc[None])
    return -0.5 * jnp.sum(noise**2, axis=1) - place.log_det, noise
