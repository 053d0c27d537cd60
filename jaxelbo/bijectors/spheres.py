"""Unit vectors, by stereographic projection.

Floor 1. A sphere has no one-to-one image of all of it in the plane: the projection leaves out one point, the one that
faces the image of zero.

>>> import jax.numpy as jnp
>>> from jaxelbo import bijectors
>>> bijectors.sphere.forward(jnp.array([0.0, 1.0])).tolist()
[0.0, 0.0, 1.0]
>>> bijectors.sphere.forward(jnp.zeros(2)).tolist()
[1.0, 0.0, 0.0]
"""

import math

import jax
import jax.numpy as jnp

from jaxelbo.bijectors.records import OneValue, for_copies


def _forward(u: jax.Array) -> jax.Array:
    square = jnp.sum(u**2)
    return jnp.concatenate([(1 - square)[None], 2 * u]) / (1 + square)


def _inverse(value: jax.Array) -> jax.Array:
    first, rest = value[0], value[1:]
    # On the far half 1 + first would cancel; it is |rest|^2 / (1 - first) on the sphere.
    is_near = first > 0
    far = jnp.sum(rest**2) / (1 - jnp.where(is_near, 0, first))
    return rest / jnp.where(is_near, 1 + first, far)


def _log_det(u: jax.Array) -> jax.Array:
    return u.size * (math.log(2) - jnp.log1p(jnp.sum(u**2)))


def _contains(value: jax.Array) -> jax.Array:
    is_unit = jnp.abs(jnp.sum(value**2) - 1) < 2 * math.sqrt(jnp.finfo(value.dtype).eps)
    return is_unit & ((value[0] > 0) | jnp.any(value[1:] != 0))


sphere = for_copies(
    OneValue(
        "sphere", _forward, _inverse, _log_det, _contains, 1, lambda size: size - 1, count_name="K - 1", least_size=2
    )
)
"""Unit vectors ``[..., K]`` from ``[..., K - 1]`` numbers: (1 - |u|^2, 2 u) / (1 + |u|^2).

The log-determinant is with respect to surface measure: the logarithm of sqrt(det J'J) for the Jacobian J. u = 0 is the
first unit vector; its opposite has no image. For K = 2, u is the tangent of half the angle.

References:
  Lee (2018), *Introduction to Riemannian Manifolds*, chapter 3.
"""
