"""Dense layers and the long short-term memory cell: parameters as pytrees, and pure functions of them.

Attention, its lowest floor. Small on purpose: a user's own model may bring its networks from anywhere.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxelbo import checks
from jaxelbo.types import Key, Params


class LSTMState(NamedTuple):
    """What the cell remembers: both ``[H]``."""

    hidden: jax.Array
    cell: jax.Array


def dense_init(key: Key, num_inputs: int, num_outputs: int, *, gain: float = 1.0) -> Params:
    """Parameters of an affine map: normal weights of standard deviation gain / sqrt(inputs), biases zero.

    Args:
      key: one random key.
      num_inputs: static, at least 1.
      num_outputs: static, at least 1.
      gain: sqrt(2) before a rectifier, 1 otherwise; small for an output that should start near its bias.

    Returns:
      ``{"weight": [I, O], "bias": [O]}``, float32.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      He, Zhang, Ren, Sun (2015), *Delving Deep into Rectifiers*.

    >>> import jax
    >>> dense(dense_init(jax.random.key(0), 3, 2), jax.numpy.zeros(3))
    Array([0., 0.], dtype=float32)
    """
    checks.check_key(key)
    num_inputs = checks.check_count(num_inputs, "num_inputs")
    num_outputs = checks.check_count(num_outputs, "num_outputs")
    weight = jax.random.normal(key, (num_inputs, num_outputs), jnp.float32) * (gain / num_inputs**0.5)
    return {"weight": weight, "bias": jnp.zeros((num_outputs,), jnp.float32)}


def dense(params: Params, x: jax.Array) -> jax.Array:
    """The affine map x W + b.

    Args:
      params: of `dense_init`.
      x: ``[..., I]``.

    Returns:
      ``[..., O]``.

    Raises:
      ValueError: inputs of another size.

    References:
      Rosenblatt (1958), *The Perceptron*.

    >>> import jax.numpy as jnp
    >>> float(dense({"weight": jnp.array([[2.0]]), "bias": jnp.array([1.0])}, jnp.array([3.0]))[0])
    7.0
    """
    if x.shape[-1] != params["weight"].shape[0]:
        raise ValueError(f"x must have {params['weight'].shape[0]} inputs on its last axis, got shape {x.shape}.")
    return x @ params["weight"] + params["bias"].reshape((1,) * (x.ndim - 1) + (-1,))


def lstm_init(key: Key, num_inputs: int, num_units: int) -> Params:
    """Parameters of a long short-term memory cell; the forget gates start at a bias of 1.

    Args:
      key: one random key.
      num_inputs: static, at least 1.
      num_units: H, static, at least 1.

    Returns:
      ``{"weight": [I + H, 4 H], "bias": [4 H]}``, float32; gates in the order input, forget, output, candidate.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Hochreiter, Schmidhuber (1997), *Long Short-Term Memory*; Jozefowicz, Zaremba, Sutskever (2015), *An Empirical
      Exploration of Recurrent Network Architectures*.

    >>> import jax
    >>> lstm_init(jax.random.key(0), 3, 2)["weight"].shape
    (5, 8)
    """
    num_units = checks.check_count(num_units, "num_units")
    params = dense_init(key, checks.check_count(num_inputs, "num_inputs") + num_units, 4 * num_units)
    return params | {"bias": params["bias"].at[num_units : 2 * num_units].set(1)}


def lstm_start(num_units: int) -> LSTMState:
    """The state before the first step: zeros, float32.

    >>> lstm_start(2).hidden
    Array([0., 0.], dtype=float32)
    """
    zeros = jnp.zeros((checks.check_count(num_units, "num_units"),), jnp.float32)
    return LSTMState(zeros, zeros)


def lstm(params: Params, state: LSTMState, x: jax.Array) -> LSTMState:
    """One step of the cell.

    Args:
      params: of `lstm_init`.
      state: of the step before.
      x: ``[I]``.

    Returns:
      The next state; its ``hidden`` is the output.

    Raises:
      ValueError: inputs of another size.

    References:
      Hochreiter, Schmidhuber (1997), *Long Short-Term Memory*.

    >>> import jax
    >>> params = lstm_init(jax.random.key(0), 3, 2)
    >>> lstm(params, lstm_start(2), jax.numpy.zeros(3)).hidden
    Array([0., 0.], dtype=float32)
    """
    gates = dense(params, jnp.concatenate([x, state.hidden]))
    let_in, keep, let_out, candidate = jnp.split(gates, 4)
    cell = jax.nn.sigmoid(keep) * state.cell + jax.nn.sigmoid(let_in) * jnp.tanh(candidate)
    return LSTMState(jax.nn.sigmoid(let_out) * jnp.tanh(cell), cell)


def correction_init(key: Key, num_inputs: int, num_hidden: int, num_outputs: int) -> Params:
    """Parameters of a hidden layer and an output that starts at exactly zero: what is learned beside another network.

    Args:
      key: one random key.
      num_inputs: static, at least 1.
      num_hidden: static, at least 1.
      num_outputs: static, at least 1.

    Returns:
      Parameters of two dense layers.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Zhang, Dauphin, Ma (2019), *Fixup Initialization*.

    >>> import jax
    >>> correction(correction_init(jax.random.key(0), 3, 4, 2), jax.numpy.ones(3))
    Array([0., 0.], dtype=float32)
    """
    first = dense_init(key, num_inputs, num_hidden, gain=2**0.5)
    return [first, dense_init(key, num_hidden, num_outputs, gain=0.0)]


def correction(params: Params, x: jax.Array) -> jax.Array:
    """A rectified layer and an affine map.

    Args:
      params: of `correction_init`.
      x: ``[..., I]``.

    Returns:
      ``[..., O]``.

    Raises:
      ValueError: inputs of another size.

    References:
      Zhang, Dauphin, Ma (2019), *Fixup Initialization*.

    >>> import jax
    >>> correction(correction_init(jax.random.key(0), 3, 4, 2), jax.numpy.ones((5, 3))).shape
    (5, 2)
    """
    first, second = params
    return dense(second, jax.nn.relu(dense(first, x)))
