"""What climbs of a log density on the flat latent share: the density, and the `Algorithm` around one."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jaxelbo import flattening, monte_carlo
from jaxelbo.types import Algorithm, Applied, Key, Latent, LogJoint

LogDensity = Callable[[jax.Array], jax.Array]
"""Flat latent ``[D]`` -> scalar, in nats."""


class ClimbState(NamedTuple):
    """The latent reached and the climb behind it."""

    latent: Latent
    climb: Any


class NewtonInfo(NamedTuple):
    """Log density after the step, and squared distance to the mode in standard deviations before it; scalars."""

    log_density: jax.Array
    decrement: jax.Array


def log_density(log_joint: LogJoint, layout: flattening.Layout, *data: Any) -> LogDensity:
    """The log joint as a function of the flat latent of a layout."""
    return monte_carlo.log_density(log_joint, functools.partial(flattening.unflatten, layout), *data)


def climbing(log_joint: LogJoint, start: Callable[..., Any], climb: Callable[..., Any]) -> Algorithm:
    """The algorithm of ``start(log_density, point)`` and ``climb(log_density, at, key)``.

    What they return has ``point``, ``value`` and ``decrement``. Its ``info`` is a `NewtonInfo`.
    """
    functions = Applied(_init, (log_joint, start)), Applied(_step, (log_joint, climb))
    return Algorithm(*functions, _latent, _vital)


def _init(log_joint: LogJoint, start: Callable[..., Any], latent: Latent, key: Key, *data: Any) -> ClimbState:
    del key
    layout = flattening.layout_of(latent)
    return ClimbState(latent, start(log_density(log_joint, layout, *data), flattening.flatten(layout, latent)))


def _step(
    log_joint: LogJoint, climb: Callable[..., Any], state: ClimbState, key: Key, *data: Any
) -> tuple[ClimbState, NewtonInfo]:
    layout = flattening.layout_of(state.latent)
    at = climb(log_density(log_joint, layout, *data), state.climb, key)
    return ClimbState(flattening.unflatten(layout, at.point), at), NewtonInfo(at.value, at.decrement)


def _latent(state: ClimbState) -> Latent:
    return state.latent


def _vital(state: ClimbState) -> tuple[Latent, jax.Array]:
    return state.latent, state.climb.value
