"""One flat vector inside, the user's pytree outside.

Floor 1. Draws, parameters and optimiser state live on a vector ``[D]``, so their cost does not grow with the number
of leaves; the pytree is built only where the user's function is called.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxelbo import checks
from jaxelbo.types import Latent


class Layout(NamedTuple):
    """How a latent lies on a flat vector: its tree, and shape and dtype of each leaf. Holds no arrays."""

    structure: Any
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[jnp.dtype, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Entries of each leaf."""
        return tuple(math.prod(shape) for shape in self.shapes)

    @property
    def size(self) -> int:
        """D, the entries of all leaves."""
        return sum(self.sizes)

    @property
    def dtype(self) -> jnp.dtype:
        """The dtype of the flat vector: wide enough for every leaf."""
        return jnp.result_type(*self.dtypes)


def layout_of(latent_like: Latent) -> Layout:
    """Reads the layout of a pytree of floating-point arrays, numbers or ``jax.ShapeDtypeStruct``."""
    checks.check_float_leaves(latent_like, "latent_like")
    leaves, structure = jax.tree.flatten(latent_like)
    layout = Layout(structure, tuple(map(jnp.shape, leaves)), tuple(map(checks.canonical_dtype, leaves)))
    if layout.size == 0:
        raise ValueError("latent_like must hold at least one number, got leaves of size 0 only.")
    return layout


def values_of(latent_like: Latent, value: float = 0.0) -> Latent:
    """The latent itself, with a value, zero by default, in place of leaves that are shapes only."""

    def filled(leaf: Any) -> Any:
        return jnp.full(leaf.shape, value, leaf.dtype) if isinstance(leaf, jax.ShapeDtypeStruct) else leaf

    return jax.tree.map(filled, latent_like)


def flatten(layout: Layout, latent: Latent, name: str = "latent") -> jax.Array:
    """Latent pytree -> ``[D]``. Leaves of another structure or shape are refused by name."""
    expected = jax.tree.unflatten(layout.structure, map(jax.ShapeDtypeStruct, layout.shapes, layout.dtypes))
    checks.check_like(latent, expected, name, "this family")
    leaves = [jnp.ravel(jnp.asarray(leaf)).astype(layout.dtype) for leaf in jax.tree.leaves(latent)]
    return leaves[0] if len(leaves) == 1 else jnp.concatenate(leaves)


def unflatten(layout: Layout, flat: jax.Array) -> Latent:
    """``[D]`` -> latent pytree, each leaf in its own shape and dtype."""
    # One `split` is transposed to one concatenation; a slice a leaf would be transposed to a padded [D] a leaf.
    pieces = [flat] if len(layout.sizes) == 1 else jax.lax.split(flat, layout.sizes)
    return jax.tree.unflatten(
        layout.structure,
        [
            piece.reshape(shape).astype(dtype)
            for piece, shape, dtype in zip(pieces, layout.shapes, layout.dtypes, strict=True)
        ],
    )
