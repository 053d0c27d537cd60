"""Pareto-smoothed importance weights and their diagnostic, the shape k of the largest ones.

Floor 1.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxelbo import checks

GOOD_PARETO_K, ALIKE = 0.7, 0.95
"""Weights cannot be trusted where Pareto k is above the first, unless they are so alike that their effective size is
the second's share: k speaks of the shape of their tail, however small their spread."""


class Smoothed(NamedTuple):
    """Importance weights after smoothing.

    Attributes:
      log_weights: ``[S]``, normalised: their exponentials sum to 1.
      pareto_k: shape of the generalised Pareto distribution of the largest weights, scalar. Below 0.7 averages under
        these weights can be trusted; infinite where the tail has fewer than five weights or they are all equal to
        the cut, and so says nothing.
    """

    log_weights: jax.Array
    pareto_k: jax.Array


def smooth(log_weights: jax.Array) -> Smoothed:
    """Replaces the largest weights by the quantiles of a generalised Pareto distribution fitted to them.

    Averages under the smoothed weights have less variance and a bias that vanishes with S.

    Args:
      log_weights: ``[S]`` log p(x, z) - log q(z) at draws of q, up to a constant, in nats; -inf is a weight of zero.

    Returns:
      `Smoothed`. All NaN where a weight is +inf or NaN, or all are zero.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Vehtari, Simpson, Gelman, Yao, Gabry (2024), *Pareto Smoothed Importance Sampling*;
      Zhang, Stephens (2009), *A New and Efficient Estimation Method for the Generalized Pareto Distribution*.

    >>> import jax, jax.numpy as jnp
    >>> z = jax.random.normal(jax.random.key(0), (1000,))
    >>> bool(smooth(-0.1 * z**2).pareto_k < 0.5)  # q is wider than p
    True
    """
    checks.check_floating(log_weights, "log_weights", ("S",))
    num_samples = log_weights.size
    is_sound = jnp.all(log_weights < jnp.inf) & (jnp.max(log_weights) > -jnp.inf)  # false for NaN, too
    shifted = jnp.where(is_sound, log_weights - jnp.max(log_weights), 0)
    # The tail is the largest min(S / 5, 3 sqrt(S)) weights; the cut is the next smaller one.
    length = int(np.ceil(min(0.2 * num_samples, 3 * np.sqrt(num_samples))))
    if length < 5:
        return Smoothed(
            _marked(jax.nn.log_softmax(shifted), is_sound), _marked(jnp.full_like(shifted[0], jnp.inf), is_sound)
        )
    largest, order = jax.lax.top_k(shifted, length + 1)
    cut = jnp.maximum(largest[-1], jnp.log(jnp.finfo(shifted.dtype).tiny))
    tail, order = largest[-2::-1], order[-2::-1]
    is_in_tail = tail > cut
    exceedances = jnp.where(is_in_tail, jnp.exp(tail) - jnp.exp(cut), 0)
    count = jnp.sum(is_in_tail)
    shape, scale = _fit(exceedances, is_in_tail, count)
    # Quantiles at (i - 1/2) / count for the i-th smallest of the weights beyond the cut.
    rank = jnp.arange(1, length + 1) - (length - count)
    levels = (rank - 0.5) / jnp.maximum(count, 1)
    beyond = jnp.where(shape == 0, -jnp.log1p(-levels), jnp.expm1(-shape * jnp.log1p(-levels)) / shape) * scale
    is_fitted = (count > 4) & jnp.isfinite(shape)
    smoothed = jnp.where(is_fitted & is_in_tail, jnp.log(jnp.exp(cut) + beyond), tail)
    smoothed = jnp.minimum(smoothed, 0)  # none above the largest raw weight
    result = shifted.at[order].set(smoothed)
    pareto_k = jnp.where(is_fitted, shape, jnp.inf)
    return Smoothed(_marked(jax.nn.log_softmax(result), is_sound), _marked(pareto_k, is_sound))


def _marked(values: jax.Array, is_sound: jax.Array) -> jax.Array:
    return jnp.where(is_sound, values, jnp.nan)


def _fit(exceedances: jax.Array, is_in_tail: jax.Array, count: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Shape and scale of a generalised Pareto distribution, from sorted values of which the last ``count`` are used."""
    length = exceedances.size
    number = jnp.maximum(count, 1)
    first = length - count
    quartile = exceedances[jnp.clip(first + jnp.floor(count / 4 + 0.5).astype(int) - 1, 0, length - 1)]
    # The number of grid points is 30 + floor(sqrt(count)): a static grid, of which the rest is masked.
    points = jnp.arange(1, 31 + int(np.sqrt(length)))
    num_points = 30 + jnp.floor(jnp.sqrt(count))
    is_point = points <= num_points
    with_prior = 1 - jnp.sqrt(num_points / (points - 0.5))
    grid = with_prior / (3 * quartile) + 1 / exceedances[-1]
    shapes = jnp.sum(jnp.where(is_in_tail[None], jnp.log1p(-grid[:, None] * exceedances[None]), 0), axis=1) / number
    profile = jnp.where(is_point, number * (jnp.log(-grid / shapes) - shapes - 1), -jnp.inf)
    weights = jax.nn.softmax(profile)
    theta = jnp.sum(jnp.where(is_point, grid * weights, 0))
    shape = jnp.sum(jnp.where(is_in_tail, jnp.log1p(-theta * exceedances), 0)) / number
    scale = -shape / theta
    return (shape * count + 5) / (count + 10), scale  # a weak prior: ten weights of shape 1/2


def effective_sample_size(log_weights: jax.Array) -> jax.Array:
    """1 / the sum of squared normalised weights, between 1 and S; log-weights ``[S]`` up to a constant."""
    checks.check_floating(log_weights, "log_weights", ("S",))
    normalised = jax.nn.log_softmax(log_weights)
    return jnp.exp(-jax.nn.logsumexp(2 * normalised))


def is_heavy(pareto_k: jax.Array, effective_sample_size: jax.Array, num_samples: int) -> jax.Array:
    """Whether averages under such weights cannot be trusted; true for NaN, too."""
    return ~(pareto_k < GOOD_PARETO_K) & ~(effective_sample_size > ALIKE * num_samples)


def are_heavy(log_weights: jax.Array) -> jax.Array:
    """The same of log-weights ``[S]``."""
    return is_heavy(smooth(log_weights).pareto_k, effective_sample_size(log_weights), log_weights.size)
