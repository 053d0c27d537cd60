"""Stein variational gradient descent: particles that climb the log joint and repel one another."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxelbo import checks, flattening, gaussians, monte_carlo
from jaxelbo.types import Algorithm, Applied, Key, Latent, LogJoint


class SteinState(NamedTuple):
    """Particles, leaves ``[M, ...]``, and the optimiser's state."""

    latents: Latent
    optimizer_state: optax.OptState


class SteinInfo(NamedTuple):
    """Before the move; scalars.

    Attributes:
      log_density: mean of the log joint over the particles, in nats.
      discrepancy: kernelised Stein discrepancy, squared: the norm of the direction in the kernel's space, a V-statistic
        without the kernel's second derivatives on the diagonal left out.
    """

    log_density: jax.Array
    discrepancy: jax.Array


def stein_descent(log_joint: LogJoint, optimizer: optax.GradientTransformation) -> Algorithm:
    """Moves particles along the direction in a kernel's space that lowers KL(q || p) fastest.

    The kernel is Gaussian, its width from the median distance between particles. Particles stand for q without a
    density. In many dimensions they collapse towards the mode: spreads come out too small. M gradients a step.

    Args:
      log_joint: latent pytree -> scalar log p(x, z), in nats; further arguments are ``data``.
      optimizer: an ``optax.GradientTransformation``, which lowers.

    Returns:
      The `Algorithm`, started from a latent pytree with leaves ``[M, ...]``, M at least 2; its ``info`` is a
      `SteinInfo`.

    Raises:
      TypeError, ValueError: at trace time, naming the argument.

    References:
      Liu, Wang (2016), *Stein Variational Gradient Descent: A General Purpose Bayesian Inference Algorithm*.

    >>> import jax, jaxelbo, optax
    >>> particles, key = jax.random.normal(jax.random.key(0), (50,)), jax.random.key(1)
    >>> algorithm = stein_descent(lambda z: -0.5 * (z - 3.0) ** 2 / 4, optax.adam(0.1))
    >>> result = jaxelbo.run_algorithm(particles, key, algorithm, num_steps=400)
    >>> round(float(result.params.mean()), 1), abs(float(result.params.std()) - 2) < 0.15
    (3.0, True)
    """
    checks.check_callable(log_joint, "log_joint")
    if not isinstance(optimizer, optax.GradientTransformation):
        raise TypeError(f"optimizer must be an optax.GradientTransformation, got {checks.describe(optimizer)}.")
    return Algorithm(Applied(_init, (optimizer,)), Applied(_step, (log_joint, optimizer)), _latents, _vital)


def _init(optimizer: optax.GradientTransformation, latents: Latent, key: Key, *data: Any) -> SteinState:
    del key, data
    checks.check_float_leaves(latents, "latents")
    for name, leaf in zip(checks.leaf_names(latents, "latents"), jax.tree.leaves(latents), strict=True):
        if jnp.ndim(leaf) == 0 or jnp.shape(leaf)[0] < 2:
            raise ValueError(f"{name} must have a leading axis of at least 2 particles, got shape {jnp.shape(leaf)}.")
    checks.check_leading_axis(latents, jnp.shape(jax.tree.leaves(latents)[0])[0], "latents", "particles")
    return SteinState(latents, optimizer.init(latents))


def _step(
    log_joint: LogJoint, optimizer: optax.GradientTransformation, state: SteinState, key: Key, *data: Any
) -> tuple[SteinState, SteinInfo]:
    del key
    layout = flattening.layout_of(
        jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), state.latents)
    )
    points = jax.vmap(lambda latent: flattening.flatten(layout, latent))(state.latents)
    density = monte_carlo.log_density(log_joint, functools.partial(flattening.unflatten, layout), *data)
    values, gradients = jax.vmap(jax.value_and_grad(density))(points)
    direction, discrepancy = _direction(points, gradients)
    descent = jax.vmap(lambda flat: flattening.unflatten(layout, -flat))(direction)
    updates, optimizer_state = optimizer.update(descent, state.optimizer_state, state.latents)
    return SteinState(optax.apply_updates(state.latents, updates), optimizer_state), SteinInfo(
        jnp.mean(values), discrepancy
    )


def _direction(points: jax.Array, gradients: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The direction at each particle, ``[M, D]``, and its squared norm in the kernel's space."""
    count, size = points.shape
    differences = points[:, None] - points[None]  # [M, M, D]
    squares = jnp.sum(differences**2, axis=-1)
    width = jnp.median(squares) / jnp.log(count + 1.0)
    width = jnp.where(width > 0, width, 1).astype(points.dtype)
    kernel = jnp.exp(-squares / width)
    pull = gaussians.product(kernel, gradients)
    push = 2 / width * jnp.sum(kernel[..., None] * differences, axis=1)
    # Stein's kernel: the inner products of all pairs of (score + derivative of the kernel).
    scores = gaussians.product(gradients, gradients.T)
    crossed = 2 / width * jnp.sum(differences * (gradients[:, None] - gradients[None]), axis=-1)
    trace = 2 * size / width - 4 * squares / width**2
    return (pull + push) / count, jnp.mean(kernel * (scores + crossed + trace))


def _latents(state: SteinState) -> Latent:
    return state.latents


def _vital(state: SteinState) -> SteinState:
    return state
