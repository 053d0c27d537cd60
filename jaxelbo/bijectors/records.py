"""The record of a bijector, and how a map of one value becomes one of any number of copies.

Floor 1.
"""

import itertools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxelbo import checks
from jaxelbo.types import Applied


class Bijector(NamedTuple):
    """A one-to-one map of unconstrained numbers to a support, as a record of pure functions.

    A value is one array whose last axes are what the support speaks of; those before them are independent copies. dtype
    follows the input. Records with equal functions are equal, and a compiler's cache finds them: constants stand in
    `types.Applied`.

    Attributes:
      name: what error messages call it.
      forward: ``(unconstrained) -> value``.
      inverse: ``(value) -> unconstrained``; no check that the value lies in the support, outside it anything may come.
      log_det: ``(unconstrained) -> scalar``, log |det d value / d unconstrained| in nats, summed over the copies. Where
        the value has more entries than freedom, the member says which of them the determinant is of.
      unconstrained_shape: ``(shape of a value) -> shape``; ValueError where no value has that shape.
      contains: ``(value) -> boolean scalar``: whether all copies lie in the support, to the square root of the
        precision where that is a surface.
    """

    name: str
    forward: Callable[[jax.Array], jax.Array]
    inverse: Callable[[jax.Array], jax.Array]
    log_det: Callable[[jax.Array], jax.Array]
    unconstrained_shape: Callable[[tuple[int, ...]], tuple[int, ...]]
    contains: Callable[[jax.Array], jax.Array]


def _same(size: int) -> int:
    return size


class OneValue(NamedTuple):
    """What a `Bijector` is for one value, without copies.

    Attributes:
      name: as in `Bijector`.
      forward: ``(unconstrained) -> value``.
      inverse: ``(value) -> unconstrained``.
      log_det: ``(unconstrained) -> scalar``.
      contains: ``(value) -> boolean scalar``.
      num_axes: of a value: none for a number, one for ``[K]``, two for ``[K, K]``.
      count: K -> size of the unconstrained vector, rising.
      count_name: the same in words, for messages.
      least_size: the smallest K.
    """

    name: str
    forward: Callable[[jax.Array], jax.Array]
    inverse: Callable[[jax.Array], jax.Array]
    log_det: Callable[[jax.Array], jax.Array]
    contains: Callable[[jax.Array], jax.Array]
    num_axes: int = 0
    count: Callable[[int], int] = _same
    count_name: str = "K"
    least_size: int = 1


def for_copies(one: OneValue) -> Bijector:
    """The bijector of arrays that hold any number of such values.

    >>> square = OneValue("square", lambda u: u**3, jnp.cbrt, lambda u: jnp.log(3 * u**2), jnp.isfinite)
    >>> for_copies(square).forward(jnp.array([[1.0, 2.0]])).tolist()
    [[1.0, 8.0]]
    """
    return Bijector(
        one.name,
        Applied(_forward, (one,)),
        Applied(_inverse, (one,)),
        Applied(_log_det, (one,)),
        Applied(_unconstrained_shape, (one,)),
        Applied(_contains, (one,)),
    )


def size_of(count: Callable[[int], int], number: int, least_size: int = 1) -> int:
    """The smallest K whose ``count`` reaches ``number``."""
    return next(size for size in itertools.count(least_size) if count(size) >= number)


def _forward(one: OneValue, unconstrained: jax.Array) -> jax.Array:
    return _over_copies(one.forward, _checked_unconstrained(one, unconstrained), min(one.num_axes, 1))


def _log_det(one: OneValue, unconstrained: jax.Array) -> jax.Array:
    return jnp.sum(_over_copies(one.log_det, _checked_unconstrained(one, unconstrained), min(one.num_axes, 1)))


def _inverse(one: OneValue, value: jax.Array) -> jax.Array:
    return _over_copies(one.inverse, _checked_value(one, value), one.num_axes)


def _contains(one: OneValue, value: jax.Array) -> jax.Array:
    return jnp.all(_over_copies(one.contains, _checked_value(one, value), one.num_axes))


def _unconstrained_shape(one: OneValue, shape: tuple[int, ...]) -> tuple[int, ...]:
    try:
        shape = tuple(operator.index(size) for size in shape)
    except TypeError:
        raise TypeError(f"shape must be a tuple of integers, got {checks.describe(shape)}.") from None
    if not one.num_axes:
        return shape
    sizes = shape[-one.num_axes :]
    if len(sizes) < one.num_axes or len(set(sizes)) > 1 or sizes[0] < one.least_size:
        axes = ", ".join(["K"] * one.num_axes)
        raise ValueError(
            f"value of {one.name} must have shape [..., {axes}] with K at least {one.least_size}, got {shape}."
        )
    return (*shape[: -one.num_axes], one.count(sizes[0]))


def _over_copies(function: Callable[[jax.Array], jax.Array], array: jax.Array, num_axes: int) -> jax.Array:
    for _ in range(array.ndim - num_axes):
        function = jax.vmap(function)
    return function(array)


def _checked_value(one: OneValue, value: Any) -> jax.Array:
    value = _as_floating(value, f"value of {one.name}")
    _unconstrained_shape(one, value.shape)
    return value


def _checked_unconstrained(one: OneValue, unconstrained: Any) -> jax.Array:
    name = f"unconstrained of {one.name}"
    unconstrained = _as_floating(unconstrained, name)
    if one.num_axes and not (unconstrained.ndim and _is_count(one, unconstrained.shape[-1])):
        raise ValueError(
            f"{name} must have shape [..., {one.count_name}] with K at least {one.least_size}, "
            f"got {unconstrained.shape}."
        )
    return unconstrained


def _is_count(one: OneValue, number: int) -> bool:
    return one.count(size_of(one.count, number, one.least_size)) == number


def _as_floating(array: Any, name: str) -> jax.Array:
    if not isinstance(array, float):
        checks.check_floating(array, name, ("...",))
    return jnp.asarray(array)
