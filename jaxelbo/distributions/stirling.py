"""Log-gamma and its slopes less their leading parts, by terms that are not negative.

Floor 1. lgamma(x) = (x - 1/2) log(x) - x + log(2 pi) / 2 + rest(x). What is left decides where shapes are large, and
would be lost to rounding in the differences that say it. All are elementwise, for positive numbers.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxelbo import bregman

_NUM_STEPS = bregman.NUM_SHIFTS
_POWERS = np.arange(1, 17)
_SERIES = bregman.STIRLING
_ODD = 2 * np.arange(len(_SERIES)) + 1


def rest(x: jax.Array) -> jax.Array:
    """Binet's function: each step upwards takes (x + 1/2) log(1 + 1 / x) - 1, by Gudermann."""
    at, w = _steps(x)
    steps = jnp.where(at < 1, (at + 0.5) * jnp.log1p(1 / at) - 1, _even(w, 1 / (2 * _POWERS + 1)))
    return jnp.sum(steps, axis=0) + _series(x, _SERIES, _ODD)


def fall(x: jax.Array) -> jax.Array:
    """Minus the slope of `rest`."""
    at, w = _steps(x)
    near = 2 * w * _even(w, 2 * _POWERS / (2 * _POWERS + 1))
    steps = jnp.where(at < 1, (at + 0.5) / (at * (at + 1)) - jnp.log1p(1 / at), near)
    return jnp.sum(steps, axis=0) + _series(x, _SERIES * _ODD, _ODD + 1)


def log_less_digamma(x: jax.Array) -> jax.Array:
    """log(x) - digamma(x)."""
    return 0.5 / x + fall(x)


def trigamma_excess(x: jax.Array) -> jax.Array:
    """The product x trigamma(x), less 1."""
    at, _ = _steps(x)
    above = _series(x, _SERIES * _ODD * (_ODD + 1), _ODD + 2) + 0.5 / (x + _NUM_STEPS) ** 2
    return x * (jnp.sum(1 / (at**2 * (at + 1)), axis=0) + above)


def trigamma_fall(x: jax.Array, gap: jax.Array) -> jax.Array:
    """trigamma(x) - trigamma(x + gap), for a gap above 0."""
    at, _ = _steps(x)
    rise = gap[None]
    steps = jnp.sum(rise / at**2 * ((2 * at + rise) / (at + rise) ** 2), axis=0)
    at = x + _NUM_STEPS
    up = at + gap
    log_ratio = bregman.log_ratio_by_gap(up, at, gap)
    powers, terms = _along_first(_ODD + 2, x), _along_first(_SERIES * _ODD * (_ODD + 1), x)
    of_series = -jnp.sum(terms * at[None] ** -powers * jnp.expm1(-powers * log_ratio[None]), axis=0)
    return steps + gap / at / up + 0.5 * gap / at**2 * ((at + up) / up**2) + of_series


def _steps(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The numbers x, x + 1, ... along a new first axis, and w with log(1 + 1 / x) = 2 atanh(w)."""
    at = x[None] + _along_first(np.arange(_NUM_STEPS), x)
    return at, 1 / (2 * at + 1)


def _along_first(numbers: np.ndarray, like: jax.Array) -> jax.Array:
    return jnp.asarray(numbers, like.dtype).reshape(-1, *(1,) * like.ndim)


def _even(w: jax.Array, terms: np.ndarray) -> jax.Array:
    """The sum of terms times w^2, w^4, ..."""
    powers, factors = (_along_first(each, w) for each in (_POWERS[: len(terms)], terms))
    return jnp.sum(factors * (w**2)[None] ** powers, axis=0)  # one array compiles faster than as many copies


def _series(x: jax.Array, terms: np.ndarray, powers: np.ndarray) -> jax.Array:
    """The sum of terms over powers of x + `_NUM_STEPS`; powers go up by twos."""
    inverse = 1 / (x + _NUM_STEPS)
    return inverse ** int(powers[0] - 2) * _even(inverse, terms)
