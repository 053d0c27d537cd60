"""The best Gaussian of low rank for a log density in many dimensions: a climb, curvature by products, noisy steps.

Floor 4.5, below `inference`, beside `gaussian_fits`. Nothing of size D x D is made: curvature is seen through
Hessian-vector products, each of which costs about as much as a gradient and is counted as one.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxelbo import gaussians, low_rank_curvature, quasi_random
from jaxelbo.algorithms import low_rank_ascent, newton_products
from jaxelbo.courses import Course
from jaxelbo.gaussians import Diagonal, LowRank
from jaxelbo.types import Key

LogDensity = Callable[[jax.Array], jax.Array]

MAX_CLIMB, MAX_PRODUCTS, NEAR = 48, 1_500, 0.01
"""Steps of the climb and gradients after which no other is begun; squared standard deviations from the mode at which
it ends."""

NUM_LOOKS = 8
FLAT, FAR = 1e-5, 1_000.0
"""A curvature relative to the diagonal below which a direction is tried so far out; it would fall by nats there."""

MIN_STEPS, MAX_STEPS, NUM_DRAWS = 8, 128, 8
SETTLED = 5e-4
"""Nats that a further step would gain when a fit has converged."""


class _Refined(NamedTuple):
    """A q of any form under noisy steps."""

    q: LowRank | Diagonal
    average: low_rank_ascent.Slopes
    is_finite: jax.Array
    count: jax.Array


def fit(
    log_density: LogDensity, start: jax.Array, key: Key, *, rank: int, is_diagonal: bool
) -> tuple[LowRank | Diagonal, Course]:
    """The best Gaussian with a diagonal and a few directions of covariance, and the course of the fit.

    Args:
      log_density: ``[D]`` -> scalar, in nats.
      start: ``[D]``.
      key: one random key.
      rank: static; directions along which curvature is told apart from the diagonal.
      is_diagonal: static; whether q has none of these: then they only guide its mean.
    """
    size, dtype = start.size, start.dtype
    key_climb, key_look, key_refine = jax.random.split(key, 3)
    first = newton_products.start(log_density, start)
    climb, num_climbs = _climb(log_density, first, key_climb)
    gradient_at = jax.grad(log_density)

    def at_mode(vector: jax.Array) -> jax.Array:
        return -jax.jvp(gradient_at, (climb.point,), (vector,))[1]

    view = low_rank_curvature.view(at_mode, climb.scale, key_look, rank=rank, num_looks=NUM_LOOKS)
    guide = LowRank(climb.point, jnp.log(view.scale), view.axes, view.log_stretch)
    refined = _refine(log_density, _independent(guide) if is_diagonal else guide, guide, view.rest, key_refine)

    is_near = climb.decrement < max(1.0, 0.1 * size)
    rounding = 1e3 * jnp.finfo(dtype).eps * jnp.abs(climb.value)
    is_flat = (view.least < FLAT) & _is_flat(log_density, climb.point, climb.value, view.flattest)
    num_products = low_rank_curvature.num_products(size, rank, NUM_LOOKS)
    return refined.q, Course(
        num_gradients=climb.num_products + num_products + refined.count * NUM_DRAWS,
        num_evaluations=3 + num_climbs * len(newton_products.LENGTHS),
        is_finite_at_start=jnp.isfinite(first.value),
        has_mode=is_near | (~climb.is_improved & (climb.decrement < size + rounding)),
        flat_direction=jnp.where(is_flat, view.flattest, 0),
        gain=jnp.where(refined.is_finite, jnp.abs(low_rank_ascent.gain(refined.average)), jnp.inf),
    )


def _climb(log_density: LogDensity, first: newton_products.Climb, key: Key) -> tuple[newton_products.Climb, jax.Array]:
    """Climbs until the mode is near or no step leads up."""

    def goes_on(carry: tuple[newton_products.Climb, jax.Array]) -> jax.Array:
        at, count = carry
        is_paid = (count < MAX_CLIMB) & (at.num_products < MAX_PRODUCTS)
        return is_paid & at.is_improved & (at.decrement > NEAR) & jnp.isfinite(at.value)

    def body(carry: tuple[newton_products.Climb, jax.Array]) -> tuple[newton_products.Climb, jax.Array]:
        at, count = carry
        return newton_products.climb(log_density, at, jax.random.fold_in(key, count)), count + 1

    return jax.lax.while_loop(goes_on, body, (first, jnp.zeros((), jnp.int32)))


def _is_flat(log_density: LogDensity, point: jax.Array, value: jax.Array, direction: jax.Array) -> jax.Array:
    """Whether the log density does not fall by half a nat, on the mean of both sides, far along a direction."""
    far = FAR * direction
    return ~(value - 0.5 * (log_density(point + far) + log_density(point - far)) > 0.5)


def _independent(q: LowRank) -> Diagonal:
    """The best independent entries for a Gaussian: standard deviations from the diagonal of its precision."""
    of_diagonal = low_rank_ascent.precision_diagonal(q, q.directions)
    return Diagonal(q.loc, q.log_scale - 0.5 * jnp.log(of_diagonal))


def _refine(log_density: LogDensity, q: LowRank | Diagonal, guide: LowRank, rest: jax.Array, key: Key) -> _Refined:
    """Natural-gradient steps from new draws, ever shorter, so that their noise is averaged away.

    A q of independent entries has a guide, which stays. The mean's steps are shorter by the largest curvature that the
    guide does not tell from its diagonal, lest they overshoot there.
    """
    size, dtype = q.loc.size, q.loc.dtype

    def goes_on(at: _Refined) -> jax.Array:
        # The estimate may be negative, and is as far from nothing as it is noisy.
        is_settled = (jnp.abs(low_rank_ascent.gain(at.average)) < SETTLED) & at.is_finite
        return (at.count < MAX_STEPS) & ~((at.count >= MIN_STEPS) & is_settled)

    def body(at: _Refined) -> _Refined:
        noise = quasi_random.balanced_normals(jax.random.fold_in(key, at.count), NUM_DRAWS, size, dtype)
        length = jnp.minimum(0.5, 4 / (at.count + 4))
        if isinstance(at.q, LowRank):
            axes = gaussians.axes(at.q)
            slopes, _, is_finite = low_rank_ascent.slopes(log_density, at.q, axes, noise)
            moved = low_rank_ascent.moved(at.q, axes, _held(slopes), length, length / rest)
        else:
            slopes, is_finite = low_rank_ascent.diagonal_slopes(log_density, at.q, guide, guide.directions, noise)
            moved = low_rank_ascent.diagonal_moved(at.q, guide, guide.directions, _held(slopes), length, length / rest)
        smaller = at.q._replace(log_scale=at.q.log_scale - 0.5)
        after = jax.tree.map(lambda new, small: jnp.where(is_finite, new, small), moved, smaller)
        weight = 2 / (at.count + 2)  # about the last half of the steps count
        average = jax.tree.map(lambda mean, new: mean + weight * (new - mean), at.average, slopes)
        return _Refined(after, average, is_finite, at.count + 1)

    lengths = (size, size, guide.log_stretch.size)
    nothing = low_rank_ascent.Slopes(*(jnp.zeros((2, length), dtype) for length in lengths))
    return jax.lax.while_loop(goes_on, body, _Refined(q, nothing, jnp.asarray(True), jnp.zeros((), jnp.int32)))


def _held(slopes: low_rank_ascent.Slopes) -> low_rank_ascent.Slopes:
    """Slopes of scales held within what noise should be let do; the climb has come near enough."""
    return slopes._replace(log_scale=jnp.clip(slopes.log_scale, -1, 1), log_stretch=jnp.clip(slopes.log_stretch, -1, 1))
