"""Values with another gradient than their own: added to, scaled, or without what a function closes over.

Floor 1. Custom derivatives rather than sums with stopped copies: values stay as they are, bit for bit, even where a
surrogate is infinite, and nothing is computed for them.
"""

from collections.abc import Callable
from typing import Any

import jax

from jaxelbo.types import PyTree


def hold_closure(function: Callable[..., PyTree], *arguments: Any) -> PyTree:
    """``function(*arguments)``, with no gradient to what the function closes over; to the arguments as ever.

    Args:
      function: traced once.
      arguments: pytrees of arrays.

    Returns:
      What the function returns.

    >>> import jax
    >>> jax.grad(lambda w: hold_closure(lambda x: w * x, w))(3.0)
    Array(3., dtype=float32, weak_type=True)
    """
    converted, closed_over = jax.closure_convert(function, *arguments)
    return converted(*arguments, *jax.lax.stop_gradient(closed_over))


@jax.custom_jvp
def scale_gradient(tree: PyTree, factor: jax.Array) -> PyTree:
    """The tree itself; gradients that flow back through it are multiplied by a scalar factor.

    Args:
      tree: any pytree; leaves without gradients pass as they are.
      factor: scalar; no gradient flows through it.

    Returns:
      ``tree``.

    >>> import jax
    >>> float(jax.grad(lambda x: scale_gradient(x, 3.0) ** 2)(1.0))
    6.0
    """
    del factor
    return tree


@scale_gradient.defjvp
def _scale_gradient_jvp(primals: tuple[PyTree, jax.Array], tangents: tuple[PyTree, jax.Array]) -> tuple[PyTree, PyTree]:
    tree, factor = primals

    def scale(tangent: jax.Array) -> jax.Array:
        return tangent if tangent.dtype == jax.dtypes.float0 else tangent * factor

    return tree, jax.tree.map(scale, tangents[0])


@jax.custom_jvp
def add_gradient(value: jax.Array, surrogate: jax.Array) -> jax.Array:
    """``value``, bit for bit, with the gradient of ``value + surrogate``.

    Args:
      value: any shape.
      surrogate: the same shape, finite or not; only its gradient is used.

    Returns:
      ``value``.

    >>> import jax
    >>> float(jax.grad(lambda x: add_gradient(x, x**2))(3.0))
    7.0
    """
    del surrogate
    return value


@add_gradient.defjvp
def _add_gradient_jvp(
    primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    return add_gradient(*primals), tangents[0] + tangents[1]
