"""The bound on draws that stay fixed: a deterministic objective, raised by natural-gradient steps of a safe length."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxelbo import gaussian_moves
from jaxelbo.gaussian_moves import Place

LENGTHS = (1.0, 0.4, 0.15, 0.05, 0.01)
SMALLEST, LARGEST = 1 / 16, 256.0


class FixedDrawInfo(NamedTuple):
    """What a step saw before it moved; scalars.

    Attributes:
      objective: the bound on the fixed draws, in nats, up to the Gaussian's constant.
      gain: what a full step would gain if the log density were quadratic, in nats.
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


def improve(
    log_density: Callable[[jax.Array], jax.Array], place: Place, noise: jax.Array, root: jax.Array | None
) -> tuple[Place, FixedDrawInfo]:
    """One step from S gradients at ``place.loc + factor @ noise``, and S values for each length tried.

    The Hessian under q comes from gradients by Stein's identity, E[Hessian] = E[gradient noise'], which is exact on
    balanced draws where the log density is quadratic.

    Args:
      log_density: ``[D]`` -> scalar.
      place: the Gaussian.
      noise: ``[S, D]``, balanced: the second half mirrors the first.
      root: as in `gaussian_moves.direction`, in z; ``None`` for a dense factor.
    """
    num_samples = len(noise)
    values, gradients = jax.vmap(jax.value_and_grad(log_density))(gaussian_moves.points(place, noise))
    gradients = gaussian_moves.pulled_back(place.factor, gradients)
    is_finite = jnp.all(jnp.isfinite(values)) & jnp.all(jnp.isfinite(gradients))
    gradients = jnp.where(is_finite, gradients, -noise)
    hessian = gaussian_moves.second_moments(place.factor, gradients, noise) / num_samples
    direction = gaussian_moves.direction(
        jnp.mean(gradients, axis=0),
        hessian,
        gaussian_moves.root_in(place, root),
        smallest=SMALLEST,
        largest=LARGEST,
    )

    lengths, now = jnp.asarray(LENGTHS, noise.dtype), jnp.mean(values) + place.log_det

    def objective(length: jax.Array) -> jax.Array:
        there = gaussian_moves.moved(place, direction, length)
        return jnp.mean(jax.vmap(log_density)(gaussian_moves.points(there, noise))) + there.log_det

    def is_too_long(tried: tuple[jax.Array, jax.Array]) -> jax.Array:
        count, found = tried
        return (count < len(LENGTHS)) & ~(found > now)

    def shorten(tried: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        return tried[0] + 1, objective(lengths[tried[0]])

    first = jnp.where(is_finite, 0, len(LENGTHS)), jnp.asarray(-jnp.inf, noise.dtype)
    num_tried, found = jax.lax.while_loop(is_too_long, shorten, first)
    is_improved = found > now
    after = gaussian_moves.moved(place, direction, jnp.where(is_improved, lengths[num_tried - 1], 0))
    shrink = jnp.where(is_finite, 1, 0.5).astype(noise.dtype)
    after = Place(after.loc, after.factor * shrink, after.log_det + noise.shape[1] * jnp.log(shrink))
    error = _monte_carlo_error(place, gradients, noise)
    return after, FixedDrawInfo(now, direction.gain, error, is_finite, is_improved, num_tried * num_samples)


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
