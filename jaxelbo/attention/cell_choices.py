"""How a policy over cells is used: a cell is drawn, a relaxed one, the likeliest, or all of them.

Attention. Hard and soft attention are one network with another of these.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxelbo.estimators import relaxed
from jaxelbo.types import Key

Attend = Callable[[Key, jax.Array], jax.Array]
"""``(key, log_policy [L]) -> weights [L]`` of the cells in the context: how a policy is used."""


def drawn_cell(key: Key, log_policy: jax.Array) -> jax.Array:
    """Hard attention in training: one cell is drawn; no gradient flows through.

    >>> import jax.numpy as jnp
    >>> drawn_cell(jax.random.key(0), jnp.log(jnp.array([0.0, 1.0])))
    Array([0., 1.], dtype=float32)
    """
    return jax.nn.one_hot(jax.random.categorical(key, log_policy), log_policy.shape[0], dtype=log_policy.dtype)


def relaxed_cell(temperature: float) -> Attend:
    """A relaxation of the drawn cell by Gumbel-softmax: weights on the simplex, differentiable in the policy.

    Args:
      temperature: positive; near 0 the weights are near one-hot, and gradients noisy.

    Returns:
      The `Attend`.

    Raises:
      TypeError, ValueError: a temperature that is no positive number.

    References:
      Jang, Gu, Poole (2017), *Categorical Reparameterization with Gumbel-Softmax*;
      Maddison, Mnih, Teh (2017), *The Concrete Distribution*.

    >>> import jax.numpy as jnp
    >>> relaxed_cell(0.5)(jax.random.key(0), jnp.log(jnp.array([0.0, 1.0])))
    Array([0., 1.], dtype=float32)
    """
    relaxed.check_temperature(temperature)

    def attend(key: Key, log_policy: jax.Array) -> jax.Array:
        noise = jax.random.gumbel(key, log_policy.shape, log_policy.dtype)
        return jax.nn.softmax((log_policy + noise) / temperature)

    return attend


def likeliest_cell(key: Key, log_policy: jax.Array) -> jax.Array:
    """Hard attention at test: the likeliest cell.

    >>> import jax.numpy as jnp
    >>> likeliest_cell(jax.random.key(0), jnp.log(jnp.array([0.6, 0.4])))
    Array([1., 0.], dtype=float32)
    """
    del key
    return jax.nn.one_hot(jnp.argmax(log_policy), log_policy.shape[0], dtype=log_policy.dtype)


def all_cells(key: Key, log_policy: jax.Array) -> jax.Array:
    """Soft attention: every cell by its probability; differentiable.

    >>> import jax.numpy as jnp
    >>> all_cells(jax.random.key(0), jnp.log(jnp.array([0.6, 0.4])))
    Array([0.6, 0.4], dtype=float32)
    """
    del key
    return jnp.exp(log_policy)
