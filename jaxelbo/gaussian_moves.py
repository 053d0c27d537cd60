"""A Gaussian as a place and a factor, z = place + factor @ noise, and the natural-gradient moves of one.

Floor 1. A factor is ``[D, D]``, any square root of the covariance, or ``[D]``, standard deviations of independent
entries. Everything is said in the Gaussian's own standard coordinates, where it is N(0, I), so numbers do not depend
on the units of the latent, and curvatures near 1 are computed without loss however ill-conditioned the covariance is.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxelbo import gaussians
from jaxelbo.gaussians import product


class Place(NamedTuple):
    """N(loc, factor factor'): ``loc [D]``, ``factor [D, D]`` or ``[D]``, and the log of the factor's determinant."""

    loc: jax.Array
    factor: jax.Array
    log_det: jax.Array


class Direction(NamedTuple):
    """A natural-gradient direction in the standard coordinates of a `Place`.

    Attributes:
      step: of the mean, ``[D]``.
      precisions: what the precision would become along each axis, ``[D]``, held within bounds; now it is 1.
      axes: ``[D, D]``, its columns; ``None`` for independent entries.
      gain: what a full step would gain if the log density were the quadratic that it looks like, in nats.
    """

    step: jax.Array
    precisions: jax.Array
    axes: jax.Array | None
    gain: jax.Array


def second_moments(factor: jax.Array, left: jax.Array, right: jax.Array) -> jax.Array:
    """The sum over rows of left right', made symmetric, ``[D, D]``; its diagonal alone for independent entries."""
    if factor.ndim == 1:
        return jnp.sum(left * right, axis=0)
    moments = product(left.T, right)
    return 0.5 * (moments + moments.T)


def scaled(factor: jax.Array, noise: jax.Array) -> jax.Array:
    """The product of a factor and noise, for noise ``[..., D]``."""
    return product(noise, factor.T) if factor.ndim == 2 else noise * jnp.broadcast_to(factor, noise.shape)


def points(place: Place, noise: jax.Array) -> jax.Array:
    """The points in z that noise ``[S, D]`` stands for."""
    return place.loc[None] + scaled(place.factor, noise)


def pulled_back(factor: jax.Array, gradients: jax.Array) -> jax.Array:
    """Gradients ``[..., D]`` in z, taken to standard coordinates."""
    return product(gradients, factor) if factor.ndim == 2 else gradients * jnp.broadcast_to(factor, gradients.shape)


def direction(gradient: jax.Array, hessian: jax.Array, *, smallest: float, largest: float) -> Direction:
    """The natural-gradient step of q = N(0, I), from E_q[gradient] ``[D]`` and E_q[Hessian] ``[D, D]``.

    The best Gaussian has gradient 0 and Hessian -I.

    Args:
      gradient: of the log density, in standard coordinates.
      hessian: of the log density, symmetric.
      smallest: precisions below are taken for this, negative ones too.
      largest: and those above for this, but for the step of the mean, which would overshoot.
    """
    values, axes = jnp.linalg.eigh(-hessian)
    step = product(axes, product(axes.T, gradient) / jnp.maximum(values, smallest))
    gain = 0.5 * jnp.vdot(gradient, step) + 0.25 * jnp.sum((values - 1) ** 2)
    return Direction(step, jnp.clip(values, smallest, largest), axes, gain)


def slope(gradient: jax.Array, hessian: jax.Array) -> jax.Array:
    """The bound's gradient in the mean ``[D]`` and the logarithm of the factor, flat, in q's standard coordinates.

    ``gradient`` and ``hessian`` are means under q, as in `direction`; symmetric factors alone are spoken of.
    """
    if hessian.ndim == 1:
        return jnp.concatenate([gradient, hessian + 1])
    return jnp.concatenate([gradient, jnp.ravel(hessian + jnp.eye(len(hessian), dtype=hessian.dtype))])


def natural_steps(
    hessian: jax.Array, root: jax.Array | None, *, smallest: float, largest: float
) -> Callable[[jax.Array], jax.Array]:
    """A symmetric positive linear map that takes the `slope` to the natural-gradient step.

    Args:
      hessian: E_q[Hessian] of the log density, symmetric ``[D, D]``; for independent entries its diagonal ``[D]``.
      root: for independent entries a square root ``[D, D]`` of the covariance that a Newton step of the mean uses: the
        curvature of each entry alone overshoots where entries are correlated. ``None`` takes those, and is the only
        choice for a dense Hessian, which has all.
      smallest: precisions below are taken for this, as in `direction`.
      largest: and those above for this, but for the step of the mean.
    """
    size = len(hessian)
    if hessian.ndim == 2:
        values, axes = jnp.linalg.eigh(-hessian)
    else:
        values, axes = -hessian, None
    steepness, lack = jnp.maximum(values, smallest), 1 - values
    is_near = jnp.abs(lack) < 1e-3
    shares = jnp.where(is_near, 0.5, -0.5 * jnp.log(jnp.clip(values, smallest, largest)) / jnp.where(is_near, 1, lack))

    def apply(vector: jax.Array) -> jax.Array:
        of_mean, of_factor = vector[:size], vector[size:]
        if axes is None:
            step = of_mean / steepness if root is None else product(root, product(root.T, of_mean))
            return jnp.concatenate([step, shares * of_factor])
        step = product(axes, product(axes.T, of_mean) / steepness)
        inside = product(axes.T, product(of_factor.reshape(size, size), axes))
        inside *= jnp.sqrt(shares[:, None] * shares[None])
        return jnp.concatenate([step, jnp.ravel(product(axes, product(inside, axes.T)))])

    return apply


def direction_of(step: jax.Array, factor: jax.Array, *, smallest: float, largest: float) -> Direction:
    """The direction that a flat step of mean and log-``factor`` stands for, its precisions held within bounds."""
    size = len(factor)
    of_mean, of_factor, none = step[:size], step[size:], jnp.zeros((), step.dtype)
    if factor.ndim == 1:
        return Direction(of_mean, jnp.clip(jnp.exp(-2 * of_factor), smallest, largest), None, none)
    matrix = of_factor.reshape(size, size)
    values, axes = jnp.linalg.eigh(0.5 * (matrix + matrix.T))
    return Direction(of_mean, jnp.clip(jnp.exp(-2 * values), smallest, largest), axes, none)


def moved(place: Place, direction: Direction, length: jax.Array | float) -> Place:
    """``place`` after a step of some length: 1 is the whole, precisions change by their powers."""
    loc = place.loc + scaled(place.factor, length * direction.step)
    scales = direction.precisions ** (-0.5 * length)
    log_det = place.log_det + jnp.sum(jnp.log(scales))
    if direction.axes is None:
        return Place(loc, place.factor * scales, log_det)
    change = product(direction.axes * scales[None], direction.axes.T)  # symmetric, so that draws do not turn
    return Place(loc, product(place.factor, change), log_det)


def moved_inverse(inverse: jax.Array, direction: Direction, length: jax.Array | float) -> jax.Array:
    """The inverse of the factor of `moved`, from that of the factor before, without a solve."""
    scales = direction.precisions ** (0.5 * length)
    if direction.axes is None:
        return inverse * scales
    return product(product(direction.axes * scales[None], direction.axes.T), inverse)


def root_in(place: Place, root: jax.Array | None) -> jax.Array | None:
    """A root of a covariance ``[D, D]`` in z, taken to the standard coordinates of a place of independent entries."""
    return None if root is None else root / place.factor[:, None]


def place_of(gaussian: gaussians.Diagonal | gaussians.Dense) -> Place:
    """The place of a Gaussian in the parameters of its family."""
    scales, log_det = jnp.exp(gaussian.log_scale), jnp.sum(gaussian.log_scale)
    if isinstance(gaussian, gaussians.Diagonal):
        return Place(gaussian.loc, scales, log_det)
    return Place(gaussian.loc, scales[:, None] * gaussians.mixing_matrix(gaussian), log_det)


def gaussian_of(loc: jax.Array, factor: jax.Array) -> gaussians.Diagonal | gaussians.Dense:
    """And back; a root of a covariance becomes triangular without squaring it."""
    if factor.ndim == 1:
        return gaussians.Diagonal(loc, jnp.log(factor))
    upper = jnp.linalg.qr(factor.T)[1]
    scale_tril = (upper * jnp.sign(jnp.diag(upper))[:, None]).T
    scales = jnp.diag(scale_tril)
    return gaussians.Dense(loc, jnp.log(scales), jnp.tril(scale_tril / scales[:, None], -1))
