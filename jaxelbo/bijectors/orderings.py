"""Vectors whose entries rise.

Floor 1. In floating point neighbours that are closer than their rounding become equal, and `contains` then says so.

>>> import jax.numpy as jnp
>>> from jaxelbo import bijectors
>>> bijectors.ordered.forward(jnp.array([-2.0, 0.0, 0.0])).tolist()
[-2.0, -1.0, 0.0]
>>> bijectors.positive_ordered.forward(jnp.zeros(3)).tolist()
[1.0, 2.0, 3.0]
"""

import jax
import jax.numpy as jnp

from jaxelbo.bijectors.records import OneValue, for_copies


def _forward(u: jax.Array) -> jax.Array:
    return jnp.cumsum(jnp.concatenate([u[:1], jnp.exp(u[1:])]))


def _inverse(value: jax.Array) -> jax.Array:
    return jnp.concatenate([value[:1], jnp.log(jnp.diff(value))])


def _log_det(u: jax.Array) -> jax.Array:
    return jnp.sum(u[1:])


def _contains(value: jax.Array) -> jax.Array:
    return jnp.all(jnp.isfinite(value)) & jnp.all(value[1:] > value[:-1])


def _forward_positive(u: jax.Array) -> jax.Array:
    return jnp.cumsum(jnp.exp(u))


def _inverse_positive(value: jax.Array) -> jax.Array:
    return jnp.concatenate([jnp.log(value[:1]), jnp.log(jnp.diff(value))])


def _contains_positive(value: jax.Array) -> jax.Array:
    return _contains(value) & (value[0] > 0)


ordered = for_copies(OneValue("ordered", _forward, _inverse, _log_det, _contains, 1))
"""Rising vectors ``[..., K]`` from ``[..., K]``: the first entry is u_1, each step after it exp(u_k).

The log-determinant is the sum of u_2, ..., u_K.

References:
  Stan Development Team (2024), *Stan Reference Manual*, Constraint Transforms.
"""

positive_ordered = for_copies(
    OneValue("positive_ordered", _forward_positive, _inverse_positive, jnp.sum, _contains_positive, 1)
)
"""Rising vectors ``[..., K]`` of positive numbers from ``[..., K]``: every step, the first from zero, is exp(u_k).

The log-determinant is the sum of u.

References:
  Stan Development Team (2024), *Stan Reference Manual*, Constraint Transforms.
"""
