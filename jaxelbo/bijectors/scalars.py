"""Supports of single numbers: the line, half-lines and intervals. A value has any shape; each entry is a copy.

Floor 1. In float32, for unconstrained numbers up to 80 in size, values are finite and inside the support, never on its
edge: where rounding would put them there they stop at the number beside it.

>>> import jax.numpy as jnp
>>> from jaxelbo import bijectors
>>> float(bijectors.positive.forward(0.0))
1.0
>>> bijectors.positive_softplus.inverse(jnp.array([1e-30, 100.0])).round().tolist()  # log 1e-30 = -69.08
[-69.0, 100.0]
>>> bijectors.unit_interval.forward(jnp.array([-20.0, 0.0, 20.0])) < 1
Array([ True,  True,  True], dtype=bool)
>>> round(float(bijectors.unit_interval.log_det(jnp.zeros(2))), 4)  # log (1/4 * 1/4)
-2.7726
"""

import math
from typing import Any

import jax
import jax.core
import jax.numpy as jnp

from jaxelbo import checks
from jaxelbo.bijectors.records import Bijector, OneValue, for_copies
from jaxelbo.types import Applied


def greater_than(lower: float) -> Bijector:
    """Numbers above ``lower``: lower + exp(u). Value and unconstrained ``[...]``, log-determinant sum u.

    Args:
      lower: a finite number, fixed before tracing. One that varies is added to a `positive` latent in the log joint.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Stan Development Team (2024), *Stan Reference Manual*, Constraint Transforms.

    >>> float(greater_than(2.0).forward(0.0))
    3.0
    """
    lower = _number(lower, "lower")
    return for_copies(
        OneValue(
            f"greater_than({lower})",
            Applied(_shifted_exp, (lower,)),
            Applied(_log_above, (lower,)),
            _identity,
            Applied(_is_between, (lower, math.inf)),
        )
    )


def less_than(upper: float) -> Bijector:
    """Numbers below ``upper``: upper - exp(u). Value and unconstrained ``[...]``, log-determinant sum u.

    Args:
      upper: a finite number, fixed before tracing. One that varies is added to a ``less_than(0.0)`` latent in the log
        joint.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Stan Development Team (2024), *Stan Reference Manual*, Constraint Transforms.

    >>> float(less_than(2.0).forward(0.0))
    1.0
    """
    upper = _number(upper, "upper")
    return for_copies(
        OneValue(
            f"less_than({upper})",
            Applied(_mirrored_exp, (upper,)),
            Applied(_log_below, (upper,)),
            _identity,
            Applied(_is_between, (-math.inf, upper)),
        )
    )


def interval(lower: float, upper: float) -> Bijector:
    """Numbers between two: lower + (upper - lower) sigmoid(u). Value and unconstrained ``[...]``.

    The log-determinant is the sum of log(upper - lower) + log sigmoid(u) + log sigmoid(-u).

    Args:
      lower: a finite number, fixed before tracing.
      upper: likewise, above it.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Stan Development Team (2024), *Stan Reference Manual*, Constraint Transforms.

    >>> float(interval(-1.0, 3.0).forward(0.0))
    1.0
    >>> interval(-1.0, 3.0) == interval(-1, 3)
    True
    """
    lower, upper = _number(lower, "lower"), _number(upper, "upper")
    if not lower < upper:
        raise ValueError(f"lower must be below upper, got {lower} and {upper}.")
    return _between(f"interval({lower}, {upper})", lower, upper)


def _between(name: str, lower: float, upper: float) -> Bijector:
    return for_copies(
        OneValue(
            name,
            Applied(_scaled_sigmoid, (lower, upper)),
            Applied(_scaled_logit, (lower, upper)),
            Applied(_log_slope, (lower, upper)),
            Applied(_is_between, (lower, upper)),
        )
    )


def _number(value: Any, name: str) -> float:
    if isinstance(value, jax.core.Tracer):
        raise TypeError(f"{name} must be a number that is fixed before tracing, got a traced value.")
    checks.check_real_array(value, name)
    if jnp.shape(value) != ():
        raise ValueError(f"{name} must be one number, got shape {jnp.shape(value)}.")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {float(value)}.")
    return float(value)


def _gap(bound: float, dtype: jax.typing.DTypeLike) -> float:
    """At least the distance to the next number of that dtype, and none that the processor rounds to zero."""
    return max(abs(bound) * float(jnp.finfo(dtype).eps), float(jnp.finfo(dtype).tiny))


def _identity(u: jax.Array) -> jax.Array:
    return u


def _shifted_exp(lower: float, u: jax.Array) -> jax.Array:
    return jnp.maximum(lower + jnp.exp(u), lower + _gap(lower, u.dtype))


def _mirrored_exp(upper: float, u: jax.Array) -> jax.Array:
    return jnp.minimum(upper - jnp.exp(u), upper - _gap(upper, u.dtype))


def _log_above(lower: float, value: jax.Array) -> jax.Array:
    return jnp.log(value - lower)


def _log_below(upper: float, value: jax.Array) -> jax.Array:
    return jnp.log(upper - value)


def _scaled_sigmoid(lower: float, upper: float, u: jax.Array) -> jax.Array:
    # Reckoned from the nearer end, so that a value close to an end at zero keeps its digits.
    width = upper - lower
    value = jnp.where(u < 0, lower + width * jax.nn.sigmoid(u), upper - width * jax.nn.sigmoid(-u))
    return jnp.clip(value, lower + _gap(lower, u.dtype), upper - _gap(upper, u.dtype))


def _scaled_logit(lower: float, upper: float, value: jax.Array) -> jax.Array:
    return jnp.log(value - lower) - jnp.log(upper - value)


def _log_slope(lower: float, upper: float, u: jax.Array) -> jax.Array:
    return math.log(upper - lower) - jax.nn.softplus(u) - jax.nn.softplus(-u)


def _inverse_softplus(value: jax.Array) -> jax.Array:
    return value + jnp.log(-jnp.expm1(-value))  # log(exp(value) - 1), which would overflow


def _is_between(lower: float, upper: float, value: jax.Array) -> jax.Array:
    return (lower < value) & (value < upper)


real = for_copies(OneValue("real", _identity, _identity, jnp.zeros_like, jnp.isfinite))
"""All numbers, unchanged; log-determinant zero. Value and unconstrained ``[...]``."""

positive = for_copies(OneValue("positive", jnp.exp, jnp.log, _identity, Applied(_is_between, (0.0, math.inf))))
"""Positive numbers: exp(u), log-determinant sum u. Value and unconstrained ``[...]``."""

positive_softplus = for_copies(
    OneValue(
        "positive_softplus",
        jax.nn.softplus,
        _inverse_softplus,
        jax.nn.log_sigmoid,
        Applied(_is_between, (0.0, math.inf)),
    )
)
"""Positive numbers: log(1 + exp(u)), log-determinant sum log sigmoid(u). Value and unconstrained ``[...]``.

Large values grow like u instead of exp(u): for a quantity whose posterior is skewed less than a log-normal.
"""

unit_interval = _between("unit_interval", 0.0, 1.0)
"""Numbers between 0 and 1: sigmoid(u), which is ``interval(0.0, 1.0)``. Value and unconstrained ``[...]``."""
