"""A support for every leaf of a latent: which values it may take, and the unconstrained latent that stands for it.

Floor 1. Users write ``{"tau": bijectors.positive}`` and no Jacobian.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxelbo import bijectors, checks, flattening
from jaxelbo.bijectors import Bijector
from jaxelbo.types import Latent, LogJoint

Supports = Any
"""A `bijectors.Bijector` for the whole latent, or a container like it of such, as deep as one likes. In dicts what is
not named is real, and so is ``None``."""


@dataclasses.dataclass(frozen=True)
class Constraint:
    """The bijector of every leaf of one latent, static and hashable."""

    layout: flattening.Layout
    bijectors: tuple[Bijector, ...]


def constraint_of(latent_like: Latent, support: Supports) -> Constraint:
    """Reads a pytree of supports; one that does not fit the latent is refused by the name of the leaf."""
    layout = flattening.layout_of(latent_like)
    found: list[Bijector] = []
    _collect(latent_like, support, "latent_like", found)
    names = checks.leaf_names(latent_like, "latent_like")
    for name, shape, bijector in zip(names, layout.shapes, found, strict=True):
        try:
            bijector.unconstrained_shape(shape)
        except ValueError as error:
            raise ValueError(f"support of {name}: {error}") from None
    return Constraint(layout, tuple(found))


def constrain(constraint: Constraint, unconstrained: Latent) -> Latent:
    """The latent that an unconstrained one stands for."""
    leaves = [
        bijector.forward(leaf)
        for bijector, leaf in zip(constraint.bijectors, jax.tree.leaves(unconstrained), strict=True)
    ]
    return jax.tree.unflatten(constraint.layout.structure, leaves)


def unconstrain(constraint: Constraint, latent: Latent) -> Latent:
    """The unconstrained latent of a latent inside its support."""
    leaves = [
        bijector.inverse(leaf) for bijector, leaf in zip(constraint.bijectors, jax.tree.leaves(latent), strict=True)
    ]
    return jax.tree.unflatten(constraint.layout.structure, leaves)


def log_det(constraint: Constraint, unconstrained: Latent) -> jax.Array:
    """Log |det d latent / d unconstrained|, summed over the leaves."""
    terms = [
        bijector.log_det(leaf)
        for bijector, leaf in zip(constraint.bijectors, jax.tree.leaves(unconstrained), strict=True)
    ]
    return jnp.sum(jnp.stack([jnp.asarray(term, constraint.layout.dtype) for term in terms]))


def unconstrained_log_joint(log_joint: LogJoint, constraint: Constraint, unconstrained: Latent) -> jax.Array:
    """The log joint of the unconstrained latent: that of the latent, and the log-determinant."""
    value = checks.check_scalar(log_joint(constrain(constraint, unconstrained)), "log_joint")
    return value + log_det(constraint, unconstrained).astype(value.dtype)


def unconstrained_like(constraint: Constraint, latent_like: Latent) -> Latent:
    """The unconstrained latent of a start; zeros for a leaf that is a shape. Values outside are refused by name."""
    leaves = []
    names = checks.leaf_names(latent_like, "latent_like")
    for name, leaf, dtype, bijector in zip(
        names, jax.tree.leaves(latent_like), constraint.layout.dtypes, constraint.bijectors, strict=True
    ):
        if isinstance(leaf, jax.ShapeDtypeStruct):
            leaves.append(jnp.zeros(bijector.unconstrained_shape(leaf.shape), dtype))
            continue
        value = jnp.asarray(leaf, dtype)
        if checks.is_known(value) and not bool(bijector.contains(value)):
            raise ValueError(f"{name} must lie in its support, {bijector.name}, got {np.asarray(value)}.")
        leaves.append(bijector.inverse(value))
    return jax.tree.unflatten(constraint.layout.structure, leaves)


def _collect(latent_like: Latent, support: Supports, name: str, found: list[Bijector]) -> None:
    if support is None or isinstance(support, Bijector):
        found.extend([support or bijectors.real] * len(jax.tree.leaves(latent_like)))
        return
    if isinstance(support, dict) and isinstance(latent_like, dict):
        unknown = [key for key in support if key not in latent_like]
        if unknown:
            raise ValueError(f"support names {unknown[0]!r}, which {name} does not have; it has {sorted(latent_like)}.")
        children = [(key, latent_like[key], support.get(key)) for key in sorted(latent_like)]
    elif isinstance(support, list | tuple) and isinstance(latent_like, list | tuple):
        if len(support) != len(latent_like):
            raise ValueError(f"support of {name} must have {len(latent_like)} entries, got {len(support)}.")
        children = [(key, *pair) for key, pair in enumerate(zip(latent_like, support, strict=True))]
    else:
        raise TypeError(
            f"support of {name} must be a jaxelbo.bijectors.Bijector or a container like the latent, got "
            f"{checks.describe(support)}."
        )
    for key, child, own in children:
        _collect(child, own, f"{name}[{key!r}]", found)
