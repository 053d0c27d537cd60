"""KL of two Gaussians of a diagonal and a few directions each, in time and memory linear in D.

Floor 1. In p's standard coordinates q has mean m and root A:  2 KL = |m|^2 + |A|^2 - D - 2 log det A, which is large
numbers taken from each other where directions are narrow. Both forms here are sums of squares, but for one term that
is small where it may be negative.
"""

import jax
import jax.numpy as jnp

from jaxelbo import bregman, gaussians
from jaxelbo.gaussians import LowRank, product


def kl_low_ranks(q: LowRank, p: LowRank) -> jax.Array:
    """KL(q || p) in nats."""
    log_ratio = q.log_scale - p.log_scale
    is_near = jnp.all(jnp.abs(log_ratio) < 0.5)
    axes = _axes(q), _axes(p)
    stretches = q.log_stretch, p.log_stretch
    near = _of_near_scales(jnp.where(is_near, log_ratio, 0), *axes, *stretches)
    shift = jnp.sum(gaussians.standardise(p, q.loc) ** 2)
    return 0.5 * (shift + jnp.where(is_near, near, _of_other_scales(log_ratio, *axes, *stretches)))


def _axes(gaussian: LowRank) -> jax.Array:
    """Orthonormal to rounding, where directions are nearly parallel too: made so once more."""
    return gaussians.axes(gaussian._replace(directions=gaussians.axes(gaussian)))


def _of_near_scales(
    log_ratio: jax.Array, axes_q: jax.Array, axes_p: jax.Array, stretch_q: jax.Array, stretch_p: jax.Array
) -> jax.Array:
    """Were the scales the same, it were the mean of `bregman.excess` over pairs of axes, by their squared cosines.

    That is exact for the same scales; the rest has a factor of how these differ and one of how the stretches do.
    """
    cosines, left_q, left_p = _cosines(axes_q, axes_p)
    rises = 2 * (stretch_q[None] - stretch_p[:, None])
    of_pairs = jnp.sum(cosines**2 * bregman.excess(rises))
    of_q = jnp.sum(jnp.sum(left_q**2, axis=0) * bregman.excess(2 * stretch_q))
    of_p = jnp.sum(jnp.sum(left_p**2, axis=0) * bregman.excess(-2 * stretch_p))
    moves = jnp.expm1(log_ratio)[:, None]
    moved_q, moved_p = moves * axes_q, moves * axes_p
    inner = product(axes_p.T, moved_q)
    cross = jnp.sum(jnp.expm1(rises) * (2 * cosines * inner + inner**2))
    beyond_q = 2 * left_q * moved_q + (moved_q - product(axes_p, inner)) ** 2
    beyond_p = 2 * left_p * moved_p + (moved_p - product(axes_q, inner.T)) ** 2
    cross += jnp.sum(jnp.expm1(2 * stretch_q)[None] * beyond_q) + jnp.sum(jnp.expm1(-2 * stretch_p)[None] * beyond_p)
    return jnp.sum(bregman.excess(2 * log_ratio)) + of_pairs + of_q + of_p + cross


def _cosines(axes_q: jax.Array, axes_p: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Between the axes ``[R_p, R_q]``, and what of each side's axes ``[D, R]`` the other's span leaves.

    Of as many axes by their differences, so that axes which are the same leave nothing.
    """
    if axes_q.shape != axes_p.shape:
        cosines = product(axes_p.T, axes_q)
        return cosines, axes_q - product(axes_p, cosines), axes_p - product(axes_q, cosines.T)
    gap = axes_p - axes_q
    identity = jnp.eye(gap.shape[1], dtype=gap.dtype)
    off = product(gap.T, axes_q) * (1 - identity)
    cosines = off + jnp.diag(1 - 0.5 * jnp.sum(gap**2, axis=0))
    return cosines, product(axes_p, product(axes_p.T, gap)) - gap, gap - product(axes_q, product(axes_q.T, gap))


def _of_other_scales(
    log_ratio: jax.Array, axes_q: jax.Array, axes_p: jax.Array, stretch_q: jax.Array, stretch_p: jax.Array
) -> jax.Array:
    """|A|^2 by the parts of A along the axes of either and beside them."""
    scale = jnp.exp(log_ratio)
    wide = scale[:, None] * axes_q * jnp.exp(stretch_q)[None]
    along = product(axes_p.T, wide)
    beside = axes_p.T * scale[None]
    beside = beside - product(product(beside, axes_q), axes_q.T)
    narrow = jnp.exp(-stretch_p)[:, None]
    left = jnp.sum(scale**2 * jnp.maximum(1 - jnp.sum(axes_q**2, axis=1), 0)) - jnp.sum(beside**2)
    square = jnp.sum((narrow * along) ** 2) + jnp.sum((narrow * beside) ** 2) + jnp.maximum(left, 0)
    square += jnp.sum((wide - product(axes_p, along)) ** 2)
    return square - log_ratio.size - 2 * (jnp.sum(log_ratio) + jnp.sum(stretch_q) - jnp.sum(stretch_p))
