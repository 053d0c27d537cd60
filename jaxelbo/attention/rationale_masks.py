"""What a mask over words should look like: few words, in few pieces; as a penalty, and as the prior it belongs to.

Attention. A mask is ``[T]``, 1 where a word is kept. The penalty is Omega(z) = sparsity * sum_t z_t + coherence *
sum_t |z_t - z_(t-1)| over the words of the text; the prior p(z) = exp(-Omega(z)) / Z is a chain, whose Z is summed
exactly.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxelbo import checks


class Penalty(NamedTuple):
    """Weights of Omega, in nats: for a word that is kept, and for a change between kept and not."""

    sparsity: jax.Array | float
    coherence: jax.Array | float = 0.0


def omega(mask: jax.Array, is_word: jax.Array, penalty: Penalty) -> jax.Array:
    """The penalty Omega(z).

    Args:
      mask: ``[T]``, 0 and 1, or between.
      is_word: ``[T]`` bool: False on the padding behind a text.
      penalty: the two weights.

    Returns:
      Scalar, in nats; what lies on padding does not count.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Lei, Barzilay, Jaakkola (2016), *Rationalizing Neural Predictions*.

    >>> import jax.numpy as jnp
    >>> float(omega(jnp.array([1.0, 1.0, 0.0, 0.0]), jnp.array([True, True, True, False]), Penalty(2.0, 0.5)))
    4.5
    """
    _check(mask, is_word, penalty)
    changes = jnp.where(is_word[1:], jnp.abs(mask[1:] - mask[:-1]), 0)
    return penalty.sparsity * jnp.sum(jnp.where(is_word, mask, 0)) + penalty.coherence * jnp.sum(changes)


def log_prior(mask: jax.Array, is_word: jax.Array, penalty: Penalty) -> jax.Array:
    """The logarithm of the prior p(z) whose energy is the penalty: -Omega(z) - log Z.

    Args:
      mask: ``[T]``, 0 and 1; 0 on padding.
      is_word: ``[T]`` bool.
      penalty: the two weights.

    Returns:
      Scalar, in nats; the probabilities of all masks of a text add to one.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Ising (1925), *Beitrag zur Theorie des Ferromagnetismus*.

    >>> import jax.numpy as jnp
    >>> float(log_prior(jnp.array([1.0, 0.0]), jnp.array([True, True]), Penalty(0.0)))  # one of four masks
    -1.3862943649291992
    """
    _check(mask, is_word, penalty)
    # Summing over words from the left: messages[z] is the log of the sum over all masks so far that end in z.
    bits = jnp.arange(2, dtype=mask.dtype)
    own = -penalty.sparsity * bits
    steps = -penalty.coherence * jnp.abs(bits[:, None] - bits[None, :])

    def add_word(messages: jax.Array, inside: jax.Array) -> tuple[jax.Array, None]:
        further = jax.nn.logsumexp(messages[:, None] + steps, axis=0) + own
        return jnp.where(inside, further, messages), None

    messages, _ = jax.lax.scan(add_word, own, is_word[1:])
    return -omega(mask, is_word, penalty) - jax.nn.logsumexp(messages)


def _check(mask: jax.Array, is_word: jax.Array, penalty: Penalty) -> None:
    checks.check_floating(mask, "mask", ("T",))
    if getattr(is_word, "shape", None) != mask.shape or is_word.dtype != bool:
        raise ValueError(f"is_word must be bool {mask.shape}, as the mask, got {checks.describe(is_word)}.")
    if not isinstance(penalty, Penalty):
        raise TypeError(f"penalty must be a rationale_masks.Penalty, got {checks.describe(penalty)}.")
    for name, value in penalty._asdict().items():
        checks.check_real(value, f"penalty.{name}")
