"""The network of a layer: one hidden layer of tanh units, whose outputs are zero at first.

Floor 1. Hidden units are bounded, so outputs stay within bounds however far from zero the inputs are.
"""

import jax
import jax.numpy as jnp

from jaxelbo.gaussians import product
from jaxelbo.types import Key, Params


def init(key: Key, num_inputs: int, width: int, num_outputs: int, dtype: jnp.dtype) -> Params:
    """``{"weight_in": [I, W], "bias_in": [W], "weight_out": [W, O], "bias_out": [O]}``, the last two zero."""
    key_weight, key_bias = jax.random.split(key)
    return {
        "weight_in": jax.random.normal(key_weight, (num_inputs, width), dtype) / max(num_inputs, 1) ** 0.5,
        "bias_in": jax.random.normal(key_bias, (width,), dtype),  # without, all units would be odd functions
        "weight_out": jnp.zeros((width, num_outputs), dtype),
        "bias_out": jnp.zeros((num_outputs,), dtype),
    }


def outputs(params: Params, inputs: jax.Array) -> jax.Array:
    """Inputs ``[I]`` -> outputs ``[O]``."""
    hidden = jnp.tanh(product(inputs, params["weight_in"]) + params["bias_in"])
    return product(hidden, params["weight_out"]) + params["bias_out"]
