"""Planar layers: the space is pushed along one direction, by how far a point lies beyond a plane.

Floor 1.
"""

import jax
import jax.numpy as jnp

from jaxelbo.flows.layers import Layer
from jaxelbo.types import Key, Params

_LEAST_GAIN = -(1 - 1e-3)
"""At gain -1 the map would stop to be invertible where tanh is steepest."""
_NUM_NEWTON_STEPS = 30


def planar(size: int, dtype: jnp.dtype) -> Layer:
    """X -> x + u tanh(w'x + b), where u is ``direction`` with its part along w bent so that w'u > -1.

    Its params are ``{"weight": [D], "bias": [], "direction": [D]}``: w, b and what u is made of.
    """

    def init(key: Key) -> Params:
        key_weight, key_bias = jax.random.split(key)
        weight = jax.random.normal(key_weight, (size,), dtype) / size**0.5
        return {
            "weight": weight,
            "bias": jax.random.normal(key_bias, (), dtype),
            "direction": jnp.zeros((size,), dtype),
        }

    def forward(params: Params, context: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        del context
        direction, gain = _invertible(params)
        beyond = jnp.sum(params["weight"] * x) + params["bias"]
        return x + direction * jnp.tanh(beyond), _log_slope(gain, beyond)

    def inverse(params: Params, context: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        del context
        direction, gain = _invertible(params)
        beyond = unpushed(gain, jnp.sum(params["weight"] * y) + params["bias"])
        return y - direction * jnp.tanh(beyond), _log_slope(gain, beyond)

    return Layer(init, forward, inverse)


def _invertible(params: Params) -> tuple[jax.Array, jax.Array]:
    """The direction u, of which the part along w is bent, and w'u, which so lies above its least value."""
    weight, direction = params["weight"], params["direction"]
    along = jnp.sum(weight * direction)
    gain = -_LEAST_GAIN * jax.nn.elu(along)  # for the paper's softplus, which does not let u be 0
    square = jnp.sum(weight**2) + jnp.finfo(weight.dtype).tiny
    return direction + (gain - along) / square * weight, gain


def _log_slope(gain: jax.Array, beyond: jax.Array) -> jax.Array:
    return jnp.log1p(gain * (1 - jnp.tanh(beyond) ** 2))


@jax.custom_jvp
def unpushed(gain: jax.Array, target: jax.Array) -> jax.Array:
    """The number a with a + gain tanh(a) = target, for gain > -1; scalars. Differentiable to every order.

    >>> a = unpushed(jnp.float32(2.0), jnp.float32(1.5))
    >>> round(float(a + 2.0 * jnp.tanh(a)), 5)
    1.5
    """
    # For a > 0 the function is concave where gain > 0 and convex where gain < 0. From below the root in the one case
    # and from above in the other, Newton's steps approach it from one side and cannot leave the bracket.
    far = jnp.abs(target)
    ends = far - gain, far / (1 + gain)

    def newton(_: int, a: jax.Array) -> jax.Array:
        tanh = jnp.tanh(a)
        return a - (a + gain * tanh - far) / (1 + gain * (1 - tanh**2))

    start = jnp.where(gain > 0, jnp.maximum(*ends), jnp.minimum(*ends))
    return jnp.sign(target) * jax.lax.fori_loop(0, _NUM_NEWTON_STEPS, newton, start)


@unpushed.defjvp
def _unpushed_jvp(
    primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    a = unpushed(*primals)
    tanh = jnp.tanh(a)
    return a, (tangents[1] - tanh * tangents[0]) / (1 + primals[0] * (1 - tanh**2))
