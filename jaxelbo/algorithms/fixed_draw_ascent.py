"""The bound on draws that stay fixed: a deterministic objective, raised by quasi-Newton steps of a safe length."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxelbo import gaussian_moves, line_search, quasi_newton
from jaxelbo.gaussian_moves import Place

LENGTHS = (1.0, 0.4, 0.15, 0.05, 0.01)
SMALLEST, LARGEST = 1 / 16, 256.0


class FixedDrawInfo(NamedTuple):
    """What a step saw before it moved; scalars.

    Attributes:
      objective: the bound on the fixed draws, in nats, up to the Gaussian's constant.
      gain: what a full step would gain if the bound had the curvature that it shows, in nats.
      monte_carlo_error: what the optimum on these draws is expected to fall short of the true optimum, in nats, as if
        the bound had a Gaussian's curvature there; where the density is skewed it has more, and falls short by less.
      is_finite: whether log density and gradient were finite at all draws; where not, the Gaussian shrinks by half.
      is_improved: whether a step along the direction raised the objective.
      num_evaluations: values without gradient.
    """

    objective: jax.Array
    gain: jax.Array
    monte_carlo_error: jax.Array
    is_finite: jax.Array
    is_improved: jax.Array
    num_evaluations: jax.Array


class Ascent(NamedTuple):
    """A Gaussian on its way up, and what its last steps showed.

    Steps, ``[D + D D]`` or ``[D + D]``, are of the mean and of the logarithm of the factor, in standard coordinates.

    Attributes:
      place: the Gaussian.
      memory: of steps that are done.
      step: the last one, zeros before the first.
      gradient: of the objective before it.
    """

    place: Place
    memory: quasi_newton.Memory
    step: jax.Array
    gradient: jax.Array


def start(place: Place, memory_length: int) -> Ascent:
    """An ascent before its first step; without memory its steps are natural gradients."""
    size = place.loc.size + place.factor.size
    zeros = jnp.zeros(size, place.loc.dtype)
    return Ascent(place, quasi_newton.empty(memory_length, size, zeros.dtype), zeros, zeros)


def improve(
    log_density: Callable[[jax.Array], jax.Array], at: Ascent, noise: jax.Array, root: jax.Array | None
) -> tuple[Ascent, FixedDrawInfo]:
    """One step from S gradients at ``place.loc + factor @ noise``, and S values for each length tried.

    The Hessian under q comes from gradients by Stein's identity, E[Hessian] = E[gradient noise'], which is exact on
    balanced draws where the log density is quadratic. The natural gradient that follows is the first step of a
    quasi-Newton method, whose memory tells how the Hessian changes as q moves.

    Args:
      log_density: ``[D]`` -> scalar.
      at: the ascent.
      noise: ``[S, D]``, balanced: the second half mirrors the first; the same from step to step if there is memory.
      root: as in `gaussian_moves.natural_steps`, in z; ``None`` for a dense factor.
    """
    place, num_samples, size = at.place, len(noise), noise.shape[1]
    values, gradients = jax.vmap(jax.value_and_grad(log_density))(gaussian_moves.points(place, noise))
    gradients = gaussian_moves.pulled_back(place.factor, gradients)
    is_finite = jnp.all(jnp.isfinite(values)) & jnp.all(jnp.isfinite(gradients))
    gradients = jnp.where(is_finite, gradients, -noise)
    hessian = gaussian_moves.second_moments(place.factor, gradients, noise) / num_samples
    gradient = gaussian_moves.slope(jnp.mean(gradients, axis=0), hessian)
    memory = quasi_newton.remember(at.memory, at.step, at.gradient - gradient, is_finite)
    natural = gaussian_moves.natural_steps(
        hessian, gaussian_moves.root_in(place, root), smallest=SMALLEST, largest=LARGEST
    )
    ascent = quasi_newton.ascent(memory, gradient, natural)
    direction = gaussian_moves.direction_of(ascent, place.factor, smallest=SMALLEST, largest=LARGEST)

    lengths, now = jnp.asarray(LENGTHS, noise.dtype), jnp.mean(values) + place.log_det

    def objective(length: jax.Array) -> jax.Array:
        there = gaussian_moves.moved(place, direction, length)
        return jnp.mean(jax.vmap(log_density)(gaussian_moves.points(there, noise))) + there.log_det

    length, num_tried, is_improved = line_search.first_rise(objective, now, lengths, is_finite)
    after = gaussian_moves.moved(place, direction, length)
    shrink = jnp.where(is_finite, 1, 0.5).astype(noise.dtype)
    after = Place(after.loc, after.factor * shrink, after.log_det + size * jnp.log(shrink))
    error = _monte_carlo_error(place, gradients, noise)
    info = FixedDrawInfo(now, 0.5 * jnp.vdot(gradient, ascent), error, is_finite, is_improved, num_tried * num_samples)
    return Ascent(after, quasi_newton.forget(memory, ~is_improved), length * ascent, gradient), info


class Moments(NamedTuple):
    """Sums over sets of draws of one Gaussian, in its standard coordinates; all that a last step needs.

    Attributes:
      gradient: of the mean gradients, ``[D]``.
      hessian: of the mean Hessians, ``[D, D]``.
      error: of the expected shortfalls, in nats; infinite where something was not finite.
      num_sets: how many.
    """

    gradient: jax.Array
    hessian: jax.Array
    error: jax.Array
    num_sets: jax.Array


def no_moments(place: Place) -> Moments:
    """Before the first set of draws."""
    zero = jnp.zeros((), place.loc.dtype)
    return Moments(jnp.zeros_like(place.loc), jnp.zeros_like(place.factor), zero, jnp.zeros((), jnp.int32))


def add_moments(
    log_density: Callable[[jax.Array], jax.Array], place: Place, noise: jax.Array, sums: Moments
) -> Moments:
    """With those of S more gradients at ``place.loc + factor @ noise``, for a dense factor."""
    gradients = jax.vmap(jax.grad(log_density))(gaussian_moves.points(place, noise))
    gradients = gaussian_moves.pulled_back(place.factor, gradients)
    is_finite = jnp.all(jnp.isfinite(gradients))
    gradients = jnp.where(is_finite, gradients, -noise)
    error = jnp.where(is_finite, _monte_carlo_error(place, gradients, noise), jnp.inf)
    hessian = gaussian_moves.second_moments(place.factor, gradients, noise) / len(noise)
    return Moments(
        sums.gradient + jnp.mean(gradients, axis=0), sums.hessian + hessian, sums.error + error, sums.num_sets + 1
    )


def error_of(sums: Moments) -> jax.Array:
    """What the optimum on all these draws is expected to fall short by, in nats."""
    return sums.error / jnp.maximum(sums.num_sets, 1) ** 2


def polished(place: Place, sums: Moments) -> tuple[Place, jax.Array]:
    """After one whole natural-gradient step, for a Gaussian near its optimum, and what that gains if it is near."""
    count = jnp.maximum(sums.num_sets, 1)
    direction = gaussian_moves.direction(
        sums.gradient / count, sums.hessian / count, smallest=SMALLEST, largest=LARGEST
    )
    return gaussian_moves.moved(place, direction, 1.0), direction.gain


def _monte_carlo_error(place: Place, gradients: jax.Array, noise: jax.Array) -> jax.Array:
    """Half the variance of the mean natural gradient, whose curvature is 1; a quadratic's is none on balanced draws.

    A draw and its mirror image are not independent: between them only the even part of what is left of the gradient
    moves the mean, and only the odd part the scale.
    """
    right, left = jnp.split(gradients + noise, 2)
    even, odd, noise = 0.5 * (right + left), 0.5 * (right - left), noise[: len(right)]
    of_mean = jnp.sum(jnp.var(even, axis=0))
    if place.factor.ndim == 1:
        of_scale = 0.5 * jnp.sum(jnp.var(odd * noise, axis=0))
    else:
        # The sum over i, j of the mean square of (r_i e_j + r_j e_i) / 2, without an array [S, D, D].
        squares = jnp.sum(odd**2, axis=1) * jnp.sum(noise**2, axis=1) + jnp.sum(odd * noise, axis=1) ** 2
        mean = gaussian_moves.second_moments(place.factor, odd, noise) / len(noise)
        of_scale = 0.5 * (0.5 * jnp.mean(squares) - jnp.sum(mean**2))
    return 0.5 * (of_mean + of_scale) / len(noise)
