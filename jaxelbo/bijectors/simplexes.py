"""Probabilities: positive numbers whose sum is 1.

Floor 1. Isometric log-ratios rather than sticks broken one after the other: another order of the categories only turns
the unconstrained numbers, and at zero the slope is the same in every direction, where with sticks both depend on the
place in line. In float32 it is a softmax: small entries keep their relative precision, and derivatives are bounded.

>>> import jax.numpy as jnp
>>> from jaxelbo import bijectors
>>> value = bijectors.simplex.forward(jnp.zeros((5, 2)))  # five simplices of three
>>> value.shape, round(float(value[0, 0]), 4)
((5, 3), 0.3333)
>>> bijectors.simplex.unconstrained_shape((5, 3))
(5, 2)
"""

import math

import jax
import jax.numpy as jnp

from jaxelbo.bijectors.records import OneValue, for_copies


def _forward(u: jax.Array) -> jax.Array:
    return jnp.maximum(jax.nn.softmax(_zero_sum(u)), float(jnp.finfo(u.dtype).tiny))  # never zero


def _inverse(value: jax.Array) -> jax.Array:
    logs = jnp.log(value)
    number = jnp.arange(1, value.size, dtype=value.dtype)
    return (jnp.cumsum(logs)[:-1] / number - logs[1:]) * jnp.sqrt(number / (number + 1))


def _log_det(u: jax.Array) -> jax.Array:
    # Half log K plus the sum of log softmax, of which the logits sum to zero.
    size = u.size + 1
    return 0.5 * math.log(size) - size * jax.nn.logsumexp(_zero_sum(u))


def _zero_sum(u: jax.Array) -> jax.Array:
    """Logits ``[K]`` that sum to zero, of the same length as u: Helmert's basis, by running sums.

    Its n-th vector is n equal entries, then one that balances them, then zeros.
    """
    number = jnp.arange(1, u.size + 1, dtype=u.dtype)
    weighted = u / jnp.sqrt(number * (number + 1))
    zero = jnp.zeros(1, u.dtype)
    equal = jnp.concatenate([jax.lax.cumsum(weighted, reverse=True), zero])
    return equal - jnp.concatenate([zero, number * weighted])


def _contains(value: jax.Array) -> jax.Array:
    return jnp.all(value > 0) & (jnp.abs(jnp.sum(value) - 1) < math.sqrt(jnp.finfo(value.dtype).eps))


simplex = for_copies(
    OneValue("simplex", _forward, _inverse, _log_det, _contains, 1, count=lambda size: size - 1, count_name="K - 1")
)
"""Probabilities ``[..., K]`` from ``[..., K - 1]`` numbers: the softmax of an isometric image of u.

The log-determinant is with respect to Lebesgue measure of the first K - 1 entries. u = 0 is the uniform vector.
Entries below the smallest normal number of their dtype are raised to it.

References:
  Egozcue, Pawlowsky-Glahn, Mateu-Figueras, Barcelo-Vidal (2003), *Isometric Logratio Transformations for Compositional
  Data Analysis*.
"""
