"""Annealed importance sampling, forward and in reverse, between two densities on a flat vector.

Floor 4. A path goes from a base density, log-normalised and easy to draw from, at inverse temperature 0, to an
unnormalised target at 1: log pi_beta = (1 - beta) log base + beta log target. Everything is written for coordinates in
which both are roughly standard normal, as those of a Gaussian fit are. Log space throughout; a NaN counts as -inf.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from jaxelbo import gaussians, monte_carlo, supports
from jaxelbo.distributions import Transformed
from jaxelbo.types import Applied, Family, Key, Latent, LogJoint, Params

TARGET_ACCEPTANCE = 0.8
"""What the pilot adapts step sizes to."""

QUARTER_PERIOD = 0.5 * math.pi
"""The length of a trajectory of N(0, I) that ends independent of where it began; longer ones turn back."""

LEAST_JITTER = 0.5
"""Steps are drawn between this share of their size and all of it, so that no trajectory is periodic."""

LINEAR_SHARE = 0.3
"""Of the temperatures that the pilot spaces evenly, whatever it has seen; the rest follow the spread of log-weights."""

NUM_SCALE = 100
"""Draws that say how wide q is in each entry, where it is no Gaussian."""


class Path(NamedTuple):
    """The two ends: each ``[D] -> scalar``, in nats, differentiable."""

    log_base: Callable[[jax.Array], jax.Array]
    log_target: Callable[[jax.Array], jax.Array]


class Point(NamedTuple):
    """Where a chain is: ``position [D]``, both log densities there, and both gradients ``[D]``."""

    position: jax.Array
    log_base: jax.Array
    log_target: jax.Array
    slope_base: jax.Array
    slope_target: jax.Array


class Schedule(NamedTuple):
    """Inverse temperatures ``[T + 1]``, rising from 0 to 1, and the transition kernel's step size at each."""

    betas: jax.Array
    step_sizes: jax.Array


def path_and_draws(
    params: Params, key: Key, log_joint: LogJoint, family: Family
) -> tuple[Path, Callable[[Key], jax.Array]]:
    """The path from q to the posterior on a flat vector ``[D]``, and ``key -> [D]``, draws of q there.

    The coordinates are the standard ones of a Gaussian q, with supports or without; for other families the flat latent,
    shifted and scaled by draws from ``key``.
    """
    q = None if family.distribution is None else family.distribution(params)
    sample = functools.partial(family.sample, params)
    constraint = q.transform if isinstance(q, Transformed) and isinstance(q.base, gaussians.Gaussian) else None
    if isinstance(q, Transformed) and isinstance(constraint, supports.Constraint):
        q = q.base
        sample = Applied(_unconstrained_draw, (params, family, constraint))
        log_joint = functools.partial(supports.unconstrained_log_joint, log_joint, constraint)
    shapes = jax.eval_shape(sample, key)
    zeros, unflatten = ravel_pytree(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes))
    if isinstance(q, gaussians.Gaussian):
        base, log_det = _log_standard_normal, gaussians.log_det(q)
        place = functools.partial(gaussians.transform, q)
        draw = functools.partial(jax.random.normal, shape=zeros.shape, dtype=zeros.dtype)
    else:
        draws = monte_carlo.over_samples(lambda key: ravel_pytree(sample(key))[0], key, NUM_SCALE)
        loc, scale = jnp.mean(draws, axis=0), jnp.std(draws, axis=0)
        log_det = jnp.sum(jnp.log(scale))

        def place(noise: jax.Array) -> jax.Array:
            return loc + scale * noise

        def base(position: jax.Array) -> jax.Array:
            return family.log_prob(params, unflatten(place(position))) + log_det

        def draw(key: Key) -> jax.Array:
            return (ravel_pytree(sample(key))[0] - loc) / scale

    def target(position: jax.Array) -> jax.Array:
        return monte_carlo.evaluate(log_joint, unflatten(place(position)), position.dtype) + log_det

    return Path(base, target), draw


def _unconstrained_draw(params: Params, family: Family, constraint: supports.Constraint, key: Key) -> Latent:
    return supports.unconstrain(constraint, family.sample(params, key))


def _log_standard_normal(position: jax.Array) -> jax.Array:
    return -0.5 * jnp.sum(position**2) - 0.5 * position.size * math.log(2 * math.pi)


def point_at(path: Path, position: jax.Array) -> Point:
    """The point at a position; one gradient of the target."""
    log_base, slope_base = jax.value_and_grad(path.log_base)(position)
    log_target, slope_target = jax.value_and_grad(path.log_target)(position)
    return Point(position, _no_nan(log_base), _no_nan(log_target), slope_base, slope_target)


def log_ratio(point: Point) -> jax.Array:
    """The log-weight log target - log base at a point; -inf where the target is zero."""
    return jnp.where(jnp.isneginf(point.log_target), -jnp.inf, point.log_target - point.log_base)


def transition(
    path: Path, point: Point, key: Key, beta: jax.Array, step_size: jax.Array, *, num_leapfrog: int
) -> tuple[Point, jax.Array]:
    """A step of Hamiltonian Monte Carlo, which leaves pi_beta as it is and is reversible with respect to it.

    The mass matrix is the identity. Step sizes are jittered, independently of the state. A proposal whose density is
    zero or NaN is rejected; from a point of density zero every other is accepted. ``beta`` is above 0; each of the
    ``num_leapfrog`` steps takes one gradient of the target. Returns the next point, and the probability with which the
    proposal was accepted.

    References:
      Neal (2011), *MCMC Using Hamiltonian Dynamics*.

    >>> import jax, jax.numpy as jnp
    >>> path = Path(lambda x: -jnp.sum(x**2) / 2, lambda x: -jnp.sum((x - 1) ** 2) / 2)
    >>> one, size = jnp.array(1.0), jnp.array(0.3)
    >>> point, acceptance = transition(path, point_at(path, jnp.zeros(1)), jax.random.key(0), one, size, num_leapfrog=4)
    >>> bool(acceptance > 0.9)
    True
    """
    key_momentum, key_jitter, key_accept = jax.random.split(key, 3)
    dtype = point.position.dtype
    momentum = jax.random.normal(key_momentum, point.position.shape, dtype)
    size = step_size.astype(dtype) * jax.random.uniform(key_jitter, (), dtype, LEAST_JITTER, 1)

    def leap(_: jax.Array, state: tuple[Point, jax.Array]) -> tuple[Point, jax.Array]:
        here, momentum = state
        momentum = momentum + 0.5 * size * _slope(here, beta)
        there = point_at(path, here.position + size * momentum)
        return there, momentum + 0.5 * size * _slope(there, beta)

    proposal, new_momentum = jax.lax.fori_loop(0, num_leapfrog, leap, (point, momentum))
    kinetic = 0.5 * (jnp.sum(momentum**2) - jnp.sum(new_momentum**2))
    log_acceptance = _no_nan(_log_density(proposal, beta) + kinetic - _log_density(point, beta))
    is_accepted = jnp.log(jax.random.uniform(key_accept, (), dtype)) < log_acceptance
    chosen = jax.tree.map(lambda new, old: jnp.where(is_accepted, new, old), proposal, point)
    return chosen, jnp.exp(jnp.minimum(log_acceptance, 0))


def settle(
    path: Path, points: Point, key: Key, step_size: jax.Array, *, num_transitions: int, num_leapfrog: int
) -> Point:
    """Moves chains, leaves ``[N, ...]``, towards the target by so many transitions at inverse temperature 1 each."""
    beta, num_chains = jnp.ones((), points.log_base.dtype), points.log_base.size
    move = jax.vmap(functools.partial(transition, path, num_leapfrog=num_leapfrog), (0, 0, None, None))

    def step(points: Point, key: Key) -> tuple[Point, None]:
        return move(points, jax.random.split(key, num_chains), beta, step_size)[0], None

    return jax.lax.scan(step, points, jax.random.split(key, num_transitions))[0]


def log_weights(path: Path, points: Point, key: Key, schedule: Schedule, *, num_leapfrog: int) -> jax.Array:
    """Log-weights of annealing along a schedule, or along its reverse, ``[N]``.

    Forward, from exact draws of the base, E[exp(log weight)] = Z, the target's normaliser. In reverse, along
    `reversed_schedule` from exact draws of the target, the same sum of increments has E[exp(-log weight)] = 1 / Z. Both
    hold for every schedule, kernel and step size, as the kernel leaves each pi_beta as it is; what these change is how
    far the weights spread. See `lower` and `upper` for what follows.

    ``points`` are one a chain, leaves ``[N, ...]``; the schedule is one for all, or one a chain, leaves ``[N, T + 1]``.
    Each chain takes (T - 1) num_leapfrog gradients of the target.

    References:
      Neal (2001), *Annealed Importance Sampling*;
      Grosse, Ghahramani, Adams (2015), *Sandwiching the Marginal Likelihood Using Bidirectional Monte Carlo*.
    """
    num_chains = points.log_base.size
    shape = (num_chains, schedule.betas.shape[-1])
    betas, sizes = (jnp.broadcast_to(jnp.atleast_2d(leaf), shape).T for leaf in schedule)
    increments = jnp.abs(jnp.diff(betas, axis=0))  # of the same sign both ways: see above
    move = jax.vmap(functools.partial(transition, path, num_leapfrog=num_leapfrog))

    def step(state: tuple[Point, jax.Array], each: tuple[jax.Array, ...]) -> tuple[tuple[Point, jax.Array], None]:
        (points, total), (key, beta, size, increment) = state, each
        points, _ = move(points, jax.random.split(key, num_chains), beta, size)
        return (points, total + _weighted(increment, log_ratio(points))), None

    keys = jax.random.split(key, len(increments) - 1)
    start = points, _weighted(increments[0], log_ratio(points))
    return jax.lax.scan(step, start, (keys, betas[1:-1], sizes[1:-1], increments[1:]))[0][1]


def reversed_schedule(schedule: Schedule) -> Schedule:
    """The same from 1 down to 0."""
    return jax.tree.map(lambda leaf: jnp.flip(leaf, axis=-1), schedule)


def pilot(
    path: Path, points: Point, key: Key, *, num_temperatures: int, num_adaptations: int, num_leapfrog: int
) -> Schedule:
    """Chooses inverse temperatures and step sizes by a run of its own, whose draws are used for nothing else.

    Chains anneal along evenly spaced temperatures, once through each and then ``num_adaptations`` times at the target,
    while the step size follows their mean acceptance. Temperatures are then spaced evenly in the metric in which the
    spread of increments is constant, sd_beta(log target - log base) d beta, mixed with even spacing.

    ``points`` are draws of the base, leaves ``[N, ...]``. Each takes (T + num_adaptations) num_leapfrog gradients.

    References:
      Grosse, Maddison, Salakhutdinov (2013), *Annealing Between Distributions by Averaging Moments*.
    """
    num_chains, dtype = points.log_base.size, points.log_base.dtype
    grid = jnp.linspace(0, 1, num_temperatures + 1, dtype=dtype)
    move = jax.vmap(functools.partial(transition, path, num_leapfrog=num_leapfrog), (0, 0, None, None))
    largest = jnp.asarray(math.log(QUARTER_PERIOD / num_leapfrog / (0.5 + 0.5 * LEAST_JITTER)), dtype)

    def step(
        state: tuple[Point, jax.Array], each: tuple[Key, jax.Array]
    ) -> tuple[tuple[Point, jax.Array], tuple[jax.Array, ...]]:
        (points, log_size), (key, beta) = state, each
        points, acceptances = move(points, jax.random.split(key, num_chains), beta, jnp.exp(log_size))
        log_size = jnp.minimum(log_size + jnp.mean(acceptances) - TARGET_ACCEPTANCE, largest)
        return (points, log_size), (log_size, _spread(points))

    ladder = jnp.concatenate([grid[1:], jnp.ones(num_adaptations, dtype)])
    keys = jax.random.split(key, len(ladder))
    log_sizes, spreads = jax.lax.scan(step, (points, largest), (keys, ladder))[1]
    last = jnp.mean(log_sizes[-max(1, num_adaptations // 2) :])  # at the target, where the pilot stays longest
    sizes = jnp.exp(jnp.concatenate([largest[None], log_sizes[: num_temperatures - 1], last[None]]))
    betas = _evenly_spread(grid, jnp.append(_spread(points), spreads[:num_temperatures]))
    return Schedule(betas, jnp.interp(betas, grid, sizes))


def _no_nan(value: jax.Array) -> jax.Array:
    return jnp.where(jnp.isnan(value), -jnp.inf, value)


def _weighted(weight: jax.Array, value: jax.Array) -> jax.Array:
    """Their product, 0 where the weight is, whatever the value."""
    return jnp.where(weight == 0, 0, weight * value)


def _log_density(point: Point, beta: jax.Array) -> jax.Array:
    return _weighted(1 - beta, point.log_base) + _weighted(beta, point.log_target)


def _slope(point: Point, beta: jax.Array) -> jax.Array:
    weight = jnp.broadcast_to(beta, point.slope_base.shape)
    return _weighted(1 - weight, point.slope_base) + _weighted(weight, point.slope_target)


def _spread(points: Point) -> jax.Array:
    """The standard deviation of log-weights over chains, those of density zero left out."""
    ratios = log_ratio(points)
    is_sound = jnp.isfinite(ratios)
    mean = jnp.mean(ratios, where=is_sound)
    return jnp.sqrt(jnp.mean(jnp.where(is_sound, ratios - mean, 0) ** 2, where=is_sound))


def _evenly_spread(grid: jax.Array, spreads: jax.Array) -> jax.Array:
    """Inverse temperatures between which the spreads on a grid, ``[T + 1]``, make steps of equal length."""
    between = 0.5 * (spreads[1:] + spreads[:-1])
    mean = jnp.mean(between)
    relative = jnp.where(jnp.isfinite(mean) & (mean > 0), between / mean, 1)
    steps = LINEAR_SHARE + (1 - LINEAR_SHARE) * relative
    lengths = jnp.concatenate([jnp.zeros(1, grid.dtype), jnp.cumsum(steps) / jnp.sum(steps)])
    return jnp.interp(grid, lengths, grid).at[0].set(0).at[-1].set(1)
