"""Pathfinder: along the path of a quasi-Newton climb, the Gaussian of low rank with the highest bound."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxelbo import checks, flattening, gaussians, quasi_newton
from jaxelbo.algorithms import climbs
from jaxelbo.gaussians import LowRank, product
from jaxelbo.types import Algorithm, Applied, Key, Latent, LogJoint, Params

LENGTHS = tuple(2.0**power for power in (1, 0, -1, -2, -4, -7, -11, -16, -22, -30))


class PathfinderState(NamedTuple):
    """A point of the path, and the best Gaussian on it so far.

    Attributes:
      point: ``[D]``.
      value: log density there, in nats.
      gradient: ``[D]``.
      memory: of the last steps.
      diagonal: of the inverse curvature, as the steps showed it, ``[D]``.
      best: the Gaussian with the highest bound so far.
      elbo: its bound, in nats, as a few draws estimate it; -inf before the first step.
    """

    point: jax.Array
    value: jax.Array
    gradient: jax.Array
    memory: quasi_newton.Memory
    diagonal: jax.Array
    best: LowRank
    elbo: jax.Array


class PathfinderInfo(NamedTuple):
    """After a step: the log density there, and the bound of the Gaussian that goes with it; scalars, in nats.

    Where the log density is not finite at some draw, the bound is the lowest number.
    """

    log_density: jax.Array
    elbo: jax.Array


def pathfinder(log_joint: LogJoint, *, num_samples: int = 10, memory_length: int = 6) -> Algorithm:
    """Climbs by limited-memory BFGS and keeps, of the Gaussians that its inverse curvatures define, the best by bound.

    A quick start rather than an optimum: q comes from the path alone. A step takes one gradient and
    ``num_samples + 10`` values; memory is of order D times the memory's length. Run it from several starts by `vmap`,
    or see `jaxelbo.pathfinder_draws`.

    Args:
      log_joint: latent pytree -> scalar log p(x, z), in nats; further arguments are ``data``.
      num_samples: draws for the bound of each Gaussian, static.
      memory_length: steps that are remembered, static; q has at most twice as many directions.

    Returns:
      The `Algorithm`, started from a latent. Its ``params`` are those of `families.low_rank` of the latent with rank
      min(D, 2 x memory_length); its ``info`` is a `PathfinderInfo`.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Zhang, Carpenter, Gelman, Vehtari (2022), *Pathfinder: Parallel Quasi-Newton Variational Inference*;
      Gilbert, Lemarechal (1989), *Some Numerical Experiments with Variable-Storage Quasi-Newton Algorithms*.

    >>> import jax, jax.numpy as jnp, jaxelbo
    >>> algorithm = pathfinder(lambda z: -0.5 * jnp.sum((z - 3.0) ** 2 / jnp.array([1.0, 4.0])))
    >>> result = jaxelbo.run_algorithm(jnp.zeros(2), jax.random.key(0), algorithm, num_steps=12)
    >>> result.params["loc"].round(1).tolist()
    [3.0, 3.0]
    """
    checks.check_callable(log_joint, "log_joint")
    num_samples = checks.check_count(num_samples, "num_samples")
    memory_length = checks.check_count(memory_length, "memory_length")
    init, step = Applied(_init, (log_joint, memory_length)), Applied(_step, (log_joint, num_samples))
    return Algorithm(init, step, _params, _vital)


def _init(log_joint: LogJoint, memory_length: int, latent: Latent, key: Key, *data: Any) -> tuple:
    del key
    layout = flattening.layout_of(latent)
    point = flattening.flatten(layout, latent)
    density = climbs.log_density(log_joint, layout, *data)
    value, gradient = jax.value_and_grad(density)(point)
    memory = quasi_newton.empty(memory_length, point.size, point.dtype)
    diagonal = jnp.ones_like(point)
    best = _gaussian(point, gradient, memory, diagonal)
    return PathfinderState(point, value, gradient, memory, diagonal, best, jnp.asarray(-jnp.inf, point.dtype)), latent


def _step(log_joint: LogJoint, num_samples: int, state: tuple, key: Key, *data: Any) -> tuple[tuple, PathfinderInfo]:
    at, latent = state
    density = climbs.log_density(log_joint, flattening.layout_of(latent), *data)
    step = quasi_newton.ascent(at.memory, at.gradient, lambda vector: at.diagonal * vector)
    lengths = jnp.asarray(LENGTHS, step.dtype)
    found = jax.vmap(lambda length: density(at.point + length * step))(lengths)
    found = jnp.where(jnp.isfinite(found), found, -jnp.inf)
    is_improved = jnp.max(found) > at.value
    step = jnp.where(is_improved, lengths[jnp.argmax(found)], 0) * step
    point = at.point + step
    value, gradient = jax.value_and_grad(density)(point)
    fall = at.gradient - gradient
    memory = quasi_newton.remember(at.memory, step, fall, is_improved)
    is_remembered = jnp.any(memory.steps[-1] != at.memory.steps[-1])
    diagonal = jnp.where(is_remembered, _diagonal(at.diagonal, step, fall), at.diagonal)
    # A memory that leads nowhere up is forgotten, and the next step is along the gradient.
    memory = quasi_newton.forget(memory, ~is_improved)

    gaussian = _gaussian(point, gradient, memory, diagonal)
    noise = jax.random.normal(key, (num_samples, point.size), point.dtype)
    values = jax.vmap(lambda row: density(gaussians.transform(gaussian, row)))(noise)
    elbo = jnp.mean(values) + gaussians.entropy(gaussian)
    is_better = is_improved & (elbo > at.elbo)  # false for NaN
    best = jax.tree.map(lambda new, old: jnp.where(is_better, new, old), gaussian, at.best)
    after = PathfinderState(point, value, gradient, memory, diagonal, best, jnp.where(is_better, elbo, at.elbo))
    lowest = jnp.finfo(elbo.dtype).min  # the loop would undo a step whose info is not finite
    return (after, latent), PathfinderInfo(value, jnp.where(jnp.isfinite(elbo), elbo, lowest))


def _diagonal(diagonal: jax.Array, step: jax.Array, fall: jax.Array) -> jax.Array:
    """The diagonal of the inverse curvature after a step along which the gradient fell, positive."""
    of_fall, inner, of_step = jnp.vdot(fall, diagonal * fall), jnp.vdot(fall, step), jnp.vdot(step, step / diagonal)
    inverse = of_fall / (inner * diagonal) + fall**2 / inner - of_fall * step**2 / (inner * of_step * diagonal**2)
    return jnp.where(jnp.isfinite(inverse) & (inverse > 0), 1 / jnp.where(inverse > 0, inverse, 1), diagonal)


def _gaussian(point: jax.Array, gradient: jax.Array, memory: quasi_newton.Memory, diagonal: jax.Array) -> LowRank:
    """The Gaussian whose covariance is the inverse curvature of limited-memory BFGS, a Newton step from the point.

    In units of the diagonal's root that is I + B C B' with B of two columns a step: seen in an orthonormal basis of
    these columns, an eigenvalue problem of their number.
    """
    steps, falls = memory.steps.T, memory.falls.T  # [D, M]
    scale = jnp.sqrt(diagonal)
    inner = product(memory.steps, falls)
    is_empty = jnp.diag(inner) == 0
    upper = jnp.triu(inner) + jnp.diag(is_empty.astype(inner.dtype))
    inverse = jax.scipy.linalg.solve_triangular(upper, jnp.eye(len(upper), dtype=upper.dtype))
    middle = jnp.diag(jnp.diag(inner)) + product(memory.falls, diagonal[:, None] * falls)
    corner = product(inverse.T, product(middle, inverse))
    center = jnp.block([[jnp.zeros_like(inverse), -inverse], [-inverse.T, corner]])
    basis, columns = jnp.linalg.qr(jnp.concatenate([scale[:, None] * falls, steps / scale[:, None]], axis=1))
    excess = product(columns, product(center, columns.T))
    values, vectors = jnp.linalg.eigh(0.5 * (excess + excess.T))
    stretch = 0.5 * jnp.log(jnp.maximum(1 + values, jnp.finfo(values.dtype).eps))
    axes = product(basis, vectors)
    # Stretched twice is the covariance.
    newton = scale * gaussians.stretched(axes, 2 * stretch, scale * gradient)
    return LowRank(point + newton, jnp.log(scale), axes, stretch)


def _params(state: tuple) -> Params:
    return state[0].best._asdict()


def _vital(state: tuple) -> tuple[jax.Array, jax.Array]:
    return state[0].point, state[0].value
