"""Newton's climb of a log density that need not be concave, and the scales of what it finds by secants."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxelbo import checks
from jaxelbo.algorithms import climbs
from jaxelbo.algorithms.climbs import LogDensity
from jaxelbo.gaussian_moves import pulled_back
from jaxelbo.gaussians import product
from jaxelbo.types import Algorithm, Key, LogJoint

DAMPINGS = (0.0, 0.01, 0.1, 1.0, 100.0, 1e4)
LENGTHS = (1.0, 4.0, 16.0, 0.25, 0.06, 4e-3, 1.5e-5)
SIGNED_LENGTHS = tuple(
    sign * 2.0**power
    for sign in (1, -1)
    for power in (-15, -9, -6, -4, -3, -2, -1, -0.5, 0, 0.5, 1, 1.5, 2, 3, 4, 6, 9)
)
BACK = (0.25, 0.5, 0.75)
"""Shares of the last step that are tried anew: one that went too far may end where no curvature tells the way back."""

ASIDE = (-4.0, -1.0, -0.25, 0.25, 1.0, 4.0)
WITHOUT, RISES = (0.06, 0.25, 1.0, 4.0), (1.0, 4.0, 16.0)
NUM_CANDIDATES = len(DAMPINGS) * len(LENGTHS) + len(SIGNED_LENGTHS)
NUM_CANDIDATES += len(BACK) + len(ASIDE) + len(WITHOUT) + len(RISES)
SECANTS = tuple(2.0**power for power in range(-7, 5))


class Climb(NamedTuple):
    """Where a climb stands.

    Attributes:
      point: ``[D]``.
      value: log density there, in nats.
      factor: ``[D, D]``, columns of length 1 in the metric of the last curvature; the next is measured along them.
      decrement: g' |H|^-1 g at the point before, in squared standard deviations.
      least_curvature: smallest eigenvalue of -H at the point before over the largest; negative where not concave.
      is_improved: whether the last step found a higher point.
      is_anchored: whether -H has been positive definite somewhere, so that ``factor`` does not depend on the
        coordinates of the latent.
      last: the point before, ``[D]``.
    """

    point: jax.Array
    value: jax.Array
    factor: jax.Array
    decrement: jax.Array
    least_curvature: jax.Array
    is_improved: jax.Array
    is_anchored: jax.Array
    last: jax.Array


def start(log_density: LogDensity, point: jax.Array) -> Climb:
    """A climb before its first step."""
    infinite = jnp.asarray(jnp.inf, point.dtype)
    factor = jnp.eye(point.size, dtype=point.dtype)
    return Climb(point, log_density(point), factor, infinite, -infinite, jnp.asarray(True), jnp.asarray(False), point)


def climb(log_density: LogDensity, at: Climb) -> Climb:
    """One Newton step: a Hessian and a gradient, then values at many steps, of which the best counts.

    Until -H has been positive definite there is no metric that all coordinates agree on, and the steps are multiples of
    H^-1 g of either sign; damped steps, in which eigenvalues count by their size, stand in only where these rise by
    far too little. Afterwards both are tried, in the metric of the step before. So the climb does not depend on the
    coordinates of the latent unless it gets stuck. It costs D + 1 gradients and ``NUM_CANDIDATES`` values.
    """
    gradient_at = jax.grad(log_density)
    columns = jax.vmap(lambda column: jax.jvp(gradient_at, (at.point,), (column,))[1], 1, 1)(at.factor)
    hessian = product(at.factor.T, columns)
    hessian = 0.5 * (hessian + hessian.T)
    diagonal = jnp.abs(jnp.diag(hessian))
    # Without a metric entries may differ by orders of magnitude; with one, scales of entries would depend on its axes.
    scales = jnp.where((diagonal > 0) & ~at.is_anchored, 1 / jnp.sqrt(diagonal), 1)
    values, axes = jnp.linalg.eigh(-hessian * scales[:, None] * scales[None])
    largest = jnp.max(jnp.abs(values))
    curvatures = jnp.maximum(jnp.abs(values), jnp.finfo(values.dtype).eps * values.size * largest)
    factor = product(at.factor * scales[None], axes)
    along = product(axes.T, scales * pulled_back(at.factor, gradient_at(at.point)))
    # An eigenvector's sign is arbitrary; uphill is the same in all coordinates, and so then are draws by the factor.
    uphill = jnp.where(along < 0, -1, 1)
    along, factor = along * uphill, factor * uphill[None]

    def steps(weights: jax.Array) -> jax.Array:
        return product(along[None] * weights, factor.T)

    dampings, lengths = jnp.asarray(DAMPINGS, along.dtype), jnp.asarray(LENGTHS, along.dtype)
    signed_lengths = jnp.asarray(SIGNED_LENGTHS, along.dtype)
    damped = lengths[:, None, None] * steps(1 / (curvatures[None] + dampings[:, None]))[None]
    signed = signed_lengths[:, None] * steps((jnp.where(values < 0, -1, 1) / curvatures)[None])
    back = jnp.asarray(BACK, along.dtype)[:, None] * (at.point - at.last)[None] - (at.point - at.last)[None]
    # On a saddle that the gradient does not leave, as between like components, the way is along negative curvature.
    least = jnp.argmin(values)
    aside = jnp.asarray(ASIDE, along.dtype)[:, None] * (factor[:, least] / jnp.sqrt(curvatures[least]))[None]
    # One direction of next to no curvature has a Newton step out of all bounds: the others without it, and it alone by
    # as much as would gain so many nats on its slope.
    bold = jnp.argmax(along**2 / curvatures)
    others = jnp.where(jnp.arange(along.size) == bold, 0, 1 / curvatures)
    without = jnp.asarray(WITHOUT, along.dtype)[:, None] * steps(others[None])
    slope = jnp.maximum(along[bold], jnp.finfo(along.dtype).tiny)
    alone = (jnp.asarray(RISES, along.dtype) / slope)[:, None] * factor[:, bold][None]
    free = jnp.concatenate([signed, back])
    damped = jnp.concatenate([damped.reshape(-1, along.size), without, alone])
    candidates = at.point[None] + jnp.concatenate([free, damped, aside])
    found = jax.vmap(log_density)(candidates)
    found = jnp.where(jnp.isfinite(found), found, -jnp.inf)

    decrement = jnp.sum(along**2 / curvatures)
    num_free, num_ahead = len(free), len(candidates) - len(aside)
    best_free, best, best_aside = jnp.argmax(found[:num_free]), jnp.argmax(found[:num_ahead]), jnp.argmax(found)
    is_stuck = found[best_free] - at.value < 0.1 * jnp.minimum(decrement, found[best] - at.value)
    chosen = jnp.where(at.is_anchored | is_stuck, best, best_free)
    is_saddle = (jnp.min(values) < 0) & ((decrement < 0.1) | (found[best] <= at.value))
    chosen = jnp.where(is_saddle, best_aside, chosen)
    is_improved = found[chosen] > at.value
    return Climb(
        jnp.where(is_improved, candidates[chosen], at.point),
        jnp.where(is_improved, found[chosen], at.value),
        factor / jnp.sqrt(curvatures)[None],
        decrement,
        jnp.min(values) / largest,
        is_improved,
        at.is_anchored | (jnp.min(values) > 0),
        jnp.where(is_improved, at.point, at.last),
    )


def secant_scales(log_density: LogDensity, point: jax.Array, value: jax.Array, factor: jax.Array) -> jax.Array:
    """For each column of ``factor`` the multiple of it at which the log density has dropped by half a nat, ``[D]``.

    The mean of the drops on both sides counts. A Gaussian of the right scale drops by half a nat at one standard
    deviation; where the curvature at one point says little, as along a flat, skewed or convex direction, this does. It
    costs 2 x ``len(SECANTS)`` x D values. Infinite where no multiple within reach drops so far.
    """
    multiples = jnp.asarray(SECANTS, point.dtype)
    offsets = multiples[:, None, None] * factor.T[None]
    drops = value - jax.vmap(jax.vmap(log_density))(point[None, None] + jnp.concatenate([offsets, -offsets]))
    drops = jnp.where(jnp.isnan(drops), jnp.inf, drops)
    drop = 0.5 * sum(jnp.split(drops, 2))  # [multiples, D]
    is_beyond = drop > 0.5
    first = jnp.argmax(is_beyond, axis=0)
    least = multiples[jnp.maximum(first - 1, 0)]
    by_square = multiples[first] * jnp.sqrt(0.5 / jnp.take_along_axis(drop, first[None], axis=0)[0])
    by_square = jnp.where(first > 0, jnp.maximum(by_square, least), by_square)
    return jnp.where(jnp.any(is_beyond, axis=0), by_square, jnp.inf)


def newton(log_joint: LogJoint) -> Algorithm:
    """Climbs towards a mode of the log joint by damped Newton steps.

    Each step takes D + 1 gradients (a Hessian-vector product counts as one) and 92 values. Directions of negative
    curvature are climbed, too. There need not be a mode: along a ridge without end the climb goes on.

    Args:
      log_joint: latent pytree -> scalar log p(x, z), in nats; further arguments are ``data``.

    Returns:
      The `Algorithm`, started from a latent; its ``info`` is a `climbs.NewtonInfo`.

    Raises:
      TypeError, ValueError: at trace time, naming the argument.

    References:
      Nocedal, Wright (2006), *Numerical Optimization*, chapter 3;
      Dauphin, Pascanu, Gulcehre, Cho, Ganguli, Bengio (2014), *Identifying and attacking the saddle point problem*.

    >>> import jax, jaxelbo
    >>> algorithm = newton(lambda z: -jax.numpy.cosh(z["a"] - 3.0))
    >>> result = jaxelbo.run_algorithm({"a": 0.0}, jax.random.key(0), algorithm, num_steps=6)
    >>> round(float(result.params["a"]), 3)
    3.0
    """
    checks.check_callable(log_joint, "log_joint")
    return climbs.climbing(log_joint, start, _climb)


def _climb(log_density: LogDensity, at: Climb, key: Key) -> Climb:
    del key
    return climb(log_density, at)
