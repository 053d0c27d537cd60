"""The dense layer and the memory cell against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxelbo.attention import layers


def test_cell_step_by_step():
    params = layers.lstm_init(jax.random.key(0), 3, 4)
    weight, bias = np.asarray(params["weight"], float), np.asarray(params["bias"], float)
    assert np.all(bias[4:8] == 1) and np.all(np.delete(bias, slice(4, 8)) == 0)
    inputs = np.random.default_rng(0).normal(size=(5, 3))
    hidden, cell, state = np.zeros(4), np.zeros(4), layers.lstm_start(4)
    for x in inputs:
        gates = np.concatenate([x, hidden]) @ weight + bias
        let_in, keep, let_out = (1 / (1 + np.exp(-gates[4 * i : 4 * i + 4])) for i in range(3))
        cell = keep * cell + let_in * np.tanh(gates[12:])
        hidden = let_out * np.tanh(cell)
        state = layers.lstm(params, state, jnp.asarray(x, jnp.float32))
        np.testing.assert_allclose(state.hidden, hidden, atol=1e-6)
        np.testing.assert_allclose(state.cell, cell, atol=1e-6)


def test_scale_of_the_weights():
    """Activations keep their size: variance gain^2 / inputs, to 4 standard errors of 40,000 weights."""
    weight = np.asarray(layers.dense_init(jax.random.key(1), 400, 100, gain=2.0)["weight"])
    assert abs(weight.var() * 400 / 4 - 1) < 4 * np.sqrt(2 / weight.size)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: layers.dense_init(0, 2, 3), "key must be a JAX random key"),
        (lambda: layers.dense_init(jax.random.key(0), 0, 3), "num_inputs must be at least 1"),
        (lambda: layers.lstm_init(jax.random.key(0), 2, 0), "num_units must be at least 1"),
        (lambda: layers.dense(layers.dense_init(jax.random.key(0), 2, 3), jnp.zeros(4)), "x must have 2 inputs"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()
