"""The best Gaussian for a log density on a flat vector: a climb, fixed draws with gradients, pooled draws with values.

Floor 4.5, below `inference`. Each part is an algorithm of its own; here they follow one another, each with a bound on
what it may spend.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxelbo import gaussian_moves, gaussians, quasi_random
from jaxelbo.algorithms import fixed_draw_ascent, newton_climb, pooled_regression
from jaxelbo.courses import Course
from jaxelbo.gaussian_moves import Place

LogDensity = Callable[[jax.Array], jax.Array]

MAX_CLIMB = 40
MAX_FIXED, MAX_FIXED_ALONE = 20, 60
"""Steps on fixed draws: where pooled draws may follow, and where they are all there is."""

SADDLE = -0.2
"""A least curvature relative to the largest below which a climb is on a saddle."""

SLOWEST = 0.95
"""A larger ratio of the gains of two steps is taken for this when the gain that is left is reckoned."""

MEMORY = 8
MAX_POOLED = 13
MIN_POOLED = 3
MAX_SETS = 4
NUM_SHIFTS = 1 + MAX_SETS + MAX_POOLED
BATCH_SIZE = 512
MAX_SIZE_POOLED = 24
"""Beyond so many entries the quadratic has too many coefficients for values alone."""

ENOUGH, ENOUGH_ALONE = 0.05, 0.005
"""Nats that natural-gradient steps would still gain when draws with gradients give way to pooled ones, and where none
follow: gains may dip before a funnel opens."""

MAX_GRADIENTS, NUM_POLISHED, EXACT = 1_000, 128, 0.01
"""Gradients in all, but for one set of so many or more that a last step always has; others follow while they can be
paid, until the expected error in nats is as small as this. Where it stays larger, pooled draws go on."""

BALANCED = 0.25
"""About the error of balanced draws over that of independent ones, as measured on skewed posteriors."""

SETTLED = 5e-4
"""And when a fit has converged."""


class Fit(NamedTuple):
    """A fit under way: the Gaussian, what was spent on it, and whether that is enough."""

    place: Place
    course: Course
    is_exact: jax.Array


def ascend(log_density: LogDensity, start: jax.Array, shifts: jax.Array, *, is_dense: bool) -> Fit:
    """The best Gaussian with any covariance, or with independent entries, as gradients show it.

    Args:
      log_density: ``[D]`` -> scalar, in nats.
      start: ``[D]``.
      shifts: ``[NUM_SHIFTS, D]``, uniform on the unit cube: all that is random, of the lattices of draws.
      is_dense: static; whether the covariance is free.
    """
    size = start.size
    first = newton_climb.start(log_density, start)
    climb, num_climbs, has_mode = _climb(log_density, first)
    multiples = newton_climb.secant_scales(log_density, climb.point, climb.value, climb.factor)
    is_flat = jnp.isinf(multiples)
    flat_direction = jnp.where(jnp.any(is_flat), climb.factor[:, jnp.argmax(is_flat)], 0)
    place = _place(climb.point, climb.factor * jnp.where(is_flat, newton_climb.SECANTS[-1], multiples)[None])

    is_pooled = is_dense and size <= MAX_SIZE_POOLED
    num_draws = max(16, (2 if is_pooled or not is_dense else 4) * (size + 2) // 2 * 2)
    noise = quasi_random.shifted_normals(shifts[0], num_draws)
    tolerance, max_steps = (ENOUGH, MAX_FIXED) if is_pooled or not is_dense else (ENOUGH_ALONE, MAX_FIXED_ALONE)
    fixed = _fix_draws(log_density, place, noise, None, tolerance, max_steps)
    num_gradients = num_climbs * (size + 1) + fixed.count * num_draws
    num_evaluations = 1 + num_climbs * newton_climb.NUM_CANDIDATES + 2 * len(newton_climb.SECANTS) * size
    num_evaluations += fixed.num_evaluations

    if not is_dense:
        # The full-rank fit gives the mean its Newton steps; a few draws come near, many settle.
        root, place = fixed.ascent.place.factor, _independent(fixed.ascent.place)
        for shift, draws, tolerance, max_steps in ((shifts[1], 32, ENOUGH, 12), (shifts[2], 128, SETTLED, 6)):
            num_draws = max(draws, 2 * (size + 2))
            noise = quasi_random.shifted_normals(shift, num_draws)
            fixed = _fix_draws(log_density, place, noise, root, tolerance, max_steps)
            place = fixed.ascent.place
            num_gradients += fixed.count * num_draws
            num_evaluations += fixed.num_evaluations

    place, gain, is_exact = fixed.ascent.place, fixed.gain, jnp.asarray(True)
    if is_dense:
        num_polished = max(NUM_POLISHED, num_draws)
        is_quadratic = (gain < SETTLED) & (fixed.error < 0.1 * EXACT)  # few draws say so
        num_affordable = jnp.maximum(1, (MAX_GRADIENTS - num_gradients) // num_polished)
        sums = _sum_moments(log_density, place, shifts[1:], num_polished, jnp.where(is_quadratic, 0, num_affordable))
        error = fixed_draw_ascent.error_of(sums)
        polished, gain_polished = fixed_draw_ascent.polished(place, sums)
        is_near = (sums.num_sets > 0) & (gain_polished < ENOUGH) & jnp.isfinite(error)
        is_exact = is_quadratic | (is_near & (error < EXACT))
        place = jax.tree.map(lambda new, old: jnp.where(is_near, new, old), polished, place)
        gain = jnp.where(is_quadratic, gain, jnp.where(is_near, BALANCED * error, gain_polished))
        num_gradients += sums.num_sets * num_polished
    is_finite = jnp.isfinite(first.value) & ~jnp.isnan(climb.decrement)
    course = Course(num_gradients, num_evaluations, is_finite, has_mode, flat_direction, gain)
    return Fit(place, course, is_exact)


def go_on(log_density: LogDensity, fit: Fit, shifts: jax.Array) -> Fit:
    """And as values show it, where gradients were not enough; ``shifts`` are those of `ascend`."""
    size = fit.place.loc.size
    batch_size = max(BATCH_SIZE, 4 * (1 + size + size * (size + 1) // 2) // 2 * 2)
    max_batches = max(MIN_POOLED, MAX_POOLED * BATCH_SIZE // batch_size)
    pool = _pool(log_density, fit.place, shifts[1 + MAX_SETS :], fit.is_exact, batch_size, max_batches)
    course = fit.course._replace(
        num_evaluations=fit.course.num_evaluations + pool.num_batches * batch_size,
        gain=jnp.where(fit.is_exact, fit.course.gain, pool.gain),
    )
    return Fit(_composed(fit.place, pool.place), course, jnp.asarray(True))


def _climb(log_density: LogDensity, first: newton_climb.Climb) -> tuple[newton_climb.Climb, jax.Array, jax.Array]:
    """Climbs until the mode is within reach of draws, or no step leads up."""
    size = first.point.size

    def is_near(at: newton_climb.Climb) -> jax.Array:
        return (at.decrement < 0.1 * size) & (at.least_curvature > SADDLE)

    def goes_on(carry: tuple[newton_climb.Climb, jax.Array]) -> jax.Array:
        at, count = carry
        return (count < MAX_CLIMB) & at.is_improved & ~is_near(at) & jnp.isfinite(at.value)

    def body(carry: tuple[newton_climb.Climb, jax.Array]) -> tuple[newton_climb.Climb, jax.Array]:
        at, count = carry
        return newton_climb.climb(log_density, at), count + 1

    at, count = jax.lax.while_loop(goes_on, body, (first, jnp.zeros((), jnp.int32)))
    # Where no step leads up although it should, rounding of the values may be why; beyond that there is no mode here.
    rounding = 1e3 * jnp.finfo(at.value.dtype).eps * jnp.abs(at.value)
    is_top = ~at.is_improved & (at.decrement < size + rounding) & (at.least_curvature > SADDLE)
    return at, count, is_near(at) | is_top


def _sum_moments(
    log_density: LogDensity, place: Place, shifts: jax.Array, num_draws: int, max_sets: jax.Array
) -> fixed_draw_ascent.Moments:
    """Moments of sets of new draws, until these are enough or no more may be drawn."""

    def goes_on(sums: fixed_draw_ascent.Moments) -> jax.Array:
        is_enough = (sums.num_sets > 0) & ~(fixed_draw_ascent.error_of(sums) >= EXACT)
        return (sums.num_sets < jnp.minimum(max_sets, MAX_SETS)) & ~is_enough & jnp.isfinite(sums.error)

    def body(sums: fixed_draw_ascent.Moments) -> fixed_draw_ascent.Moments:
        noise = quasi_random.shifted_normals(shifts[sums.num_sets], num_draws)
        return fixed_draw_ascent.add_moments(log_density, place, noise, sums)

    return jax.lax.while_loop(goes_on, body, fixed_draw_ascent.no_moments(place))


class _Fixed(NamedTuple):
    """A fit on fixed draws under way."""

    ascent: fixed_draw_ascent.Ascent
    count: jax.Array
    num_evaluations: jax.Array
    gain: jax.Array
    error: jax.Array
    may_rise: jax.Array
    left: jax.Array


def _fix_draws(
    log_density: LogDensity, place: Place, noise: jax.Array, root: jax.Array | None, tolerance: float, max_steps: int
) -> _Fixed:
    def goes_on(at: _Fixed) -> jax.Array:
        return (at.count < max_steps) & (at.left > tolerance) & at.may_rise

    def body(at: _Fixed) -> _Fixed:
        ascent, info = fixed_draw_ascent.improve(log_density, at.ascent, noise, root)
        gain = jnp.where(info.is_finite, info.gain, jnp.inf)
        # Where a remembered step did not lead up, a natural one may.
        may_rise = info.is_improved | ~info.is_finite | jnp.any(at.ascent.memory.steps != 0)
        num_evaluations = at.num_evaluations + info.num_evaluations
        # Where steps gain hardly less than those before them, more is left than the next one gains.
        ratio = jnp.where(jnp.isfinite(at.gain), gain / at.gain, 0)
        left = gain / (1 - jnp.clip(ratio, 0, SLOWEST))
        return _Fixed(ascent, at.count + 1, num_evaluations, gain, info.monte_carlo_error, may_rise, left)

    zero, infinite = jnp.zeros((), jnp.int32), jnp.asarray(jnp.inf, noise.dtype)
    ascent = fixed_draw_ascent.start(place, MEMORY)
    return jax.lax.while_loop(
        goes_on, body, _Fixed(ascent, zero, zero, infinite, infinite, jnp.asarray(True), infinite)
    )


def _pool(
    log_density: LogDensity, base: Place, shifts: jax.Array, is_exact: jax.Array, batch_size: int, max_batches: int
) -> pooled_regression.Pool:
    def goes_on(pool: pooled_regression.Pool) -> jax.Array:
        is_settled = (pool.gain < SETTLED) & (pool.num_batches >= MIN_POOLED)
        return (pool.num_batches < max_batches) & ~is_settled & ~is_exact

    def body(pool: pooled_regression.Pool) -> pooled_regression.Pool:
        return pooled_regression.grow(log_density, base, pool, shifts[pool.num_batches])

    return jax.lax.while_loop(goes_on, body, pooled_regression.start(base.loc, batch_size, max_batches))


def _place(loc: jax.Array, factor: jax.Array) -> Place:
    return Place(loc, factor, jnp.linalg.slogdet(factor)[1])


def _independent(place: Place) -> Place:
    """The best independent entries for a Gaussian: standard deviations from the diagonal of its precision."""
    inverse = jnp.linalg.inv(place.factor)
    scales = 1 / jnp.sqrt(jnp.sum(inverse**2, axis=0))
    return Place(place.loc, scales, jnp.sum(jnp.log(scales)))


def _composed(base: Place, place: Place) -> Place:
    """A place said in the standard coordinates of ``base``, in z."""
    factor = gaussians.product(base.factor, place.factor)
    return Place(base.loc + gaussian_moves.scaled(base.factor, place.loc), factor, base.log_det + place.log_det)
