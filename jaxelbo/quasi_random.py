"""Standard normal draws that fill space evenly: a shifted lattice, mirrored, with exact first and second moments.

Floor 1.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxelbo.types import Key


def balanced_normals(key: Key, num_samples: int, size: int, dtype: jax.typing.DTypeLike) -> jax.Array:
    """Draws ``[S, D]``, of which the second half mirrors the first; mean zero, and covariance I where S >= 2 D.

    The expectation of any cubic polynomial under a standard normal is then its mean over the draws, exactly. With
    fewer draws each column alone has variance 1. Each draw is close to a standard normal, not exactly one.

    Args:
      key: one random key.
      num_samples: S, even, at least 2.
      size: D.
      dtype: of the draws.

    References:
      Roberts (2018), *The Unreasonable Effectiveness of Quasirandom Sequences* (the lattice);
      Giordano, Ingram, Broderick (2024), *Black Box Variational Inference with a Deterministic Objective*.

    >>> import jax, jax.numpy as jnp
    >>> noise = balanced_normals(jax.random.key(0), 16, 3, jnp.float32)
    >>> bool(jnp.allclose(noise.T @ noise / 16, jnp.eye(3), atol=1e-5))
    True
    """
    return shifted_normals(jax.random.uniform(key, (size,), dtype), num_samples)


def shifted_normals(shift: jax.Array, num_samples: int) -> jax.Array:
    """`balanced_normals` of a lattice shifted by ``[D]``, uniform on the unit cube; S of them, ``[S, D]``."""
    half, size, dtype = num_samples // 2, shift.size, shift.dtype
    lattice = np.outer(np.arange(1, half + 1), _generators(size)) % 1
    normal = normals_of((shift[None] + jnp.asarray(lattice, dtype)) % 1)
    if half >= size:
        q, r = jnp.linalg.qr(normal)
        normal = math.sqrt(half) * q * jnp.sign(jnp.diag(r))[None]
    else:
        normal /= jnp.sqrt(jnp.mean(normal**2, axis=0, keepdims=True))
    return jnp.concatenate([normal, -normal])


def normals_of(uniform: jax.Array) -> jax.Array:
    """Standard normal numbers of uniform ones."""
    smallest = float(jnp.finfo(uniform.dtype).eps)
    return math.sqrt(2) * jax.lax.erf_inv(2 * jnp.clip(uniform, smallest, 1 - smallest) - 1)


def _generators(size: int) -> np.ndarray:
    """Powers of the inverse of the root of x^(D + 1) = x + 1, the golden ratio for D = 1."""
    root = 1.5
    for _ in range(64):
        root = (1 + root) ** (1 / (size + 1))
    return (1 / root) ** np.arange(1, size + 1) % 1
