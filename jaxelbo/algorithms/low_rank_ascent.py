"""Natural-gradient steps of a low-rank Gaussian, from gradients at its own draws; nothing of size D x D is made."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxelbo import gaussians, line_search
from jaxelbo.gaussians import Diagonal, LowRank, product
from jaxelbo.low_rank_curvature import LEAST_CURVATURE

LogDensity = Callable[[jax.Array], jax.Array]
SHORTER = (1.0, 0.4, 0.1, 0.02)


class Slopes(NamedTuple):
    """Half the bound's gradient in the frame where q is N(0, I), twice: from two halves of the draws.

    Attributes:
      loc: ``[2, D]``, of the mean, in standard coordinates.
      log_scale: ``[2, D]``.
      log_stretch: ``[2, R]``.
    """

    loc: jax.Array
    log_scale: jax.Array
    log_stretch: jax.Array


def points(q: LowRank, axes: jax.Array, noise: jax.Array) -> jax.Array:
    """The points in z that noise ``[S, D]`` stands for."""
    return q.loc[None] + jnp.exp(q.log_scale)[None] * gaussians.stretched(axes, q.log_stretch, noise)


def slopes(
    log_density: LogDensity, q: LowRank, axes: jax.Array, noise: jax.Array
) -> tuple[Slopes, jax.Array, jax.Array]:
    """The slopes at q from S gradients, the mean log density, and whether all of these draws' were finite.

    They use what is left of the gradient of log p - log q at each draw, which is nothing where q is the posterior, so
    that their noise falls as q nears it.

    Args:
      log_density: ``[D]`` -> scalar.
      q: the Gaussian.
      axes: ``gaussians.axes(q)``.
      noise: ``[S, D]``, S a multiple of 4; rows k and k + S / 2 mirror one another.
    """
    value, gradients, is_finite = _gradients(log_density, points(q, axes, noise))
    left = gaussians.stretched(axes, q.log_stretch, gradients * jnp.exp(q.log_scale)[None]) + noise
    left = jnp.where(is_finite, left, 0)
    of_scale = gaussians.stretched(axes, -q.log_stretch, left) * gaussians.stretched(axes, q.log_stretch, noise)
    of_stretch = product(left, axes) * product(noise, axes)
    return Slopes(_halves(left), 0.5 * _halves(of_scale), 0.5 * _halves(of_stretch)), value, is_finite


def diagonal_slopes(
    log_density: LogDensity, q: Diagonal, guide: LowRank, axes: jax.Array, noise: jax.Array
) -> tuple[Slopes, jax.Array]:
    """The slopes at a q of independent entries; what a guide explains of a gradient is taken out of its noise.

    Args:
      log_density: ``[D]`` -> scalar.
      q: the Gaussian.
      guide: one that knows how the log density curves.
      axes: ``gaussians.axes(guide)``.
      noise: as in `slopes`.
    """
    scale = jnp.exp(q.log_scale)
    _, gradients, is_finite = _gradients(log_density, q.loc[None] + scale[None] * noise)
    gradients = jnp.where(is_finite, gradients * scale[None], -noise)
    ratio = jnp.exp(q.log_scale - guide.log_scale)
    explained = ratio[None] * gaussians.stretched(axes, -2 * guide.log_stretch, ratio[None] * noise)
    of_diagonal = ratio**2 * precision_diagonal(guide, axes)
    of_scale = (gradients + explained) * noise + (1 - of_diagonal)[None]
    none = jnp.zeros((len(noise), axes.shape[1]), noise.dtype)
    return Slopes(_halves(gradients), 0.5 * _halves(of_scale), _halves(none)), is_finite


def precision_diagonal(q: LowRank, axes: jax.Array) -> jax.Array:
    """The diagonal of q's precision in units of its scales, ``[D]``."""
    return 1 + product(axes**2, jnp.expm1(-2 * q.log_stretch))


def _gradients(log_density: LogDensity, points: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Mean value and the gradients at points ``[S, D]``, and whether all were finite."""
    values, gradients = jax.vmap(jax.value_and_grad(log_density))(points)
    return jnp.mean(values), gradients, jnp.all(jnp.isfinite(values)) & jnp.all(jnp.isfinite(gradients))


def _halves(rows: jax.Array) -> jax.Array:
    """Means over two halves of the draws ``[S, ...]``; a draw and its mirror image belong together."""
    pairs = jnp.stack(jnp.split(rows, 2))
    return jnp.mean(pairs.reshape(2, 2, -1, rows.shape[1]), axis=(0, 2))


def gain(slopes: Slopes) -> jax.Array:
    """What a full step would gain, in nats, as if the bound were quadratic; free of the noise, so it may be negative.

    The product of two independent estimates of a gradient has the square of the gradient for its mean.
    """
    of_mean = 0.5 * jnp.vdot(slopes.loc[0], slopes.loc[1])
    of_scale = jnp.vdot(slopes.log_scale[0], slopes.log_scale[1])
    return of_mean + of_scale + jnp.vdot(slopes.log_stretch[0], slopes.log_stretch[1])


def moved(
    q: LowRank, axes: jax.Array, slopes: Slopes, length: jax.Array | float, of_mean: jax.Array | float
) -> LowRank:
    """``q`` after a step of some length, and one of the mean's own: 1 is the whole natural gradient.

    Directions stay what they are in z, narrow ones as gradients and wide ones as vectors, when the scales change. Where
    a scale shrinks by much, the mean's step is by the new one.
    """
    step, of_scale, of_stretch = (jnp.mean(slope, axis=0) for slope in slopes)
    of_scale, of_stretch = _log_change(of_scale, length), _log_change(of_stretch, length)
    shrunk = jnp.exp(jnp.minimum(of_scale + 0.5, 0))
    step = shrunk * gaussians.stretched(axes, -q.log_stretch, of_mean * step)
    loc = q.loc + shrunk * jnp.exp(q.log_scale) * gaussians.stretched(axes, 2 * q.log_stretch, step)
    signs = jnp.where(q.log_stretch < 0, 1, -1)
    directions = axes * jnp.exp(signs[None] * of_scale[:, None])
    lengths = 0.5 * jnp.log(jnp.sum(directions**2, axis=0))
    return LowRank(loc, q.log_scale + of_scale, directions, q.log_stretch + of_stretch - signs * lengths)


def diagonal_moved(
    q: Diagonal,
    guide: LowRank,
    axes: jax.Array,
    slopes: Slopes,
    length: jax.Array | float,
    of_mean: jax.Array | float,
) -> Diagonal:
    """``q`` of independent entries after such a step, of which the mean's is a Newton step by the guide's curvature.

    The curvature of each entry alone would overshoot where entries are correlated.
    """
    step, of_scale, _ = (jnp.mean(slope, axis=0) for slope in slopes)
    ratio = jnp.exp(guide.log_scale - q.log_scale)
    change = jnp.exp(guide.log_scale) * gaussians.stretched(axes, 2 * guide.log_stretch, ratio * of_mean * step)
    return Diagonal(q.loc + change, q.log_scale + _log_change(of_scale, length))


def _log_change(slope: jax.Array, length: jax.Array | float) -> jax.Array:
    """Of a scale: proportional to its slope while small, so that noise does not drive it.

    A precision that should be many times what it is grows by so many times; in one step no scale widens much.
    """
    change = length * slope
    return jnp.clip(change, -0.5, 0.5) - 0.5 * jnp.log1p(2 * jnp.maximum(-change - 0.5, 0))


class LowRankInfo(NamedTuple):
    """What a step saw before it moved; scalars.

    Attributes:
      objective: the bound on the step's draws, in nats, up to the Gaussian's constant.
      gain: what a full step would gain, in nats; an unbiased estimate, which may be negative.
      is_finite: whether log density and gradient were finite at all draws; where not, the scales shrink.
      is_improved: whether a step raised the bound on its draws.
    """

    objective: jax.Array
    gain: jax.Array
    is_finite: jax.Array
    is_improved: jax.Array


def improve(
    log_density: LogDensity, q: LowRank, noise: jax.Array, length: jax.Array | float
) -> tuple[LowRank, LowRankInfo]:
    """One step from S gradients and R Hessian-vector products, of the longest length that raises the bound.

    Args:
      log_density: ``[D]`` -> scalar.
      q: the Gaussian.
      noise: as in `slopes`; the products are taken at the first draw.
      length: of the longest step that is tried, at most 1.
    """
    axes = gaussians.axes(q)
    slopes_here, value, is_finite = slopes(log_density, q, axes, noise)
    images = _curved(log_density, q, axes, points(q, axes, noise[:1])[0])
    without = slopes_here._replace(log_stretch=jnp.zeros_like(slopes_here.log_stretch))  # the products say more

    def after(length: jax.Array) -> LowRank:
        turned = _turned(q, axes, images, length)
        return moved(turned, gaussians.axes(turned), without, length, length)

    def raised(length: jax.Array) -> jax.Array:
        there = after(length)
        values = jax.vmap(log_density)(points(there, gaussians.axes(there), noise))
        return jnp.mean(values) + gaussians.log_det(there)

    now = value + gaussians.log_det(q)
    lengths = length * jnp.asarray(SHORTER, noise.dtype)
    length, _, is_improved = line_search.first_rise(raised, now, lengths, is_finite)
    chosen = after(length)
    smaller = q._replace(log_scale=q.log_scale - 0.5)
    kept = jax.tree.map(
        lambda new, old, small: jnp.where(is_finite, jnp.where(is_improved, new, old), small), chosen, q, smaller
    )
    return kept, LowRankInfo(now, gain(slopes_here), is_finite, is_improved)


def _curved(log_density: LogDensity, q: LowRank, axes: jax.Array, point: jax.Array) -> jax.Array:
    """Products of -H at a point with the axes, both in units of q's scales, ``[D, R]``."""
    scale, gradient_at = jnp.exp(q.log_scale), jax.grad(log_density)

    def curve(axis: jax.Array) -> jax.Array:
        return -scale * jax.jvp(gradient_at, (point,), (scale * axis,))[1]

    return jax.vmap(curve, 1, 1)(axes)


def _turned(q: LowRank, axes: jax.Array, images: jax.Array, share: jax.Array) -> LowRank:
    """``q`` with its precision moved towards a curvature by some share, so far as its directions show it.

    One step of subspace iteration on what the mixture of the two has beyond the diagonal.
    """
    mixed = (1 - share) * axes * jnp.expm1(-2 * q.log_stretch)[None] + share * (images - axes)
    inner = product(axes.T, mixed)
    values, vectors = jnp.linalg.eigh(0.5 * (inner + inner.T))
    signs = jnp.where(values < 0, -1, 1)
    # Not zero where nothing is beyond the diagonal.
    directions = product(mixed, vectors) * signs[None] + 1e-3 * product(axes, vectors)
    order = jnp.argsort(-jnp.abs(values))  # those that matter most are made orthonormal first
    return q._replace(
        directions=directions[:, order], log_stretch=-0.5 * jnp.log(jnp.maximum(1 + values[order], LEAST_CURVATURE))
    )
