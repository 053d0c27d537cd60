"""Draws without replacement: the unordered-set estimator.

Floor 3.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxelbo import custom_gradients, monte_carlo, validity
from jaxelbo.types import Bound, Family, Key, LogJoint, Params, PyTree


def without_replacement(
    params: Params, key: Key, log_joint: LogJoint, family: Family, bound: Bound, num_samples: int
) -> jax.Array:
    """The unordered-set estimator: S different configurations, weighted by how they came to be drawn.

    Value: the sum over the set of q(z) R(z) (log p - log q), with R the ratio of the probability of drawing the set
    given that z came first to that of drawing it at all; unbiased for the ELBO. Gradient: the derivative of that with R
    held fixed and a built-in baseline, unbiased. With as many draws as configurations it is `enumeration`. All
    configurations are listed with their probabilities; the log joint is evaluated at S of them.

    Args:
      params: the family's.
      key: one random key.
      log_joint: latent -> scalar log p(x, z).
      family: one whose discrete parts can be listed; one draw of the rest is made beside each configuration.
      bound: ``bounds.mean``.
      num_samples: S, static, 2 to 10, and not more than there are configurations.

    Returns:
      Scalar, in nats, in the dtype of params.

    Raises:
      ValueError: another bound, a family that cannot be listed or is too large, a number of draws out of that range.

    References:
      Kool, van Hoof, Welling (2020), *Estimating Gradients for Discrete Random Variables by Sampling without
      Replacement*.

    >>> import jax, jax.numpy as jnp, jaxelbo
    >>> family = jaxelbo.families.categorical(3)
    >>> params, table = {"logits": jnp.array([0.0, 1.0, 2.0])}, jnp.array([1.0, 5.0, 2.0])
    >>> arguments = params, jax.random.key(1), lambda z: table[z], family
    >>> value = jaxelbo.elbo(*arguments, num_samples=3, estimator=without_replacement)
    >>> bool(jnp.isclose(value, jaxelbo.elbo(*arguments, num_samples=1, estimator=jaxelbo.estimators.enumeration)))
    True
    """
    traits = validity.check("without_replacement", params, key, family, bound, num_samples)
    excess = validity.excess("without_replacement", traits, num_samples)
    if excess:
        raise ValueError(f"{excess}; the family is {family.name}. Use estimators.leave_one_out.")
    key_set, key_rest = jax.random.split(key)
    latents, log_probs = family.configurations(params, key_rest)
    perturbed = jax.lax.stop_gradient(log_probs) + jax.random.gumbel(key_set, log_probs.shape, log_probs.dtype)
    chosen = jax.lax.top_k(perturbed, num_samples)[1]
    is_left = jnp.ones(log_probs.shape, bool).at[chosen].set(False)
    log_rest = jax.nn.logsumexp(jnp.where(is_left, jax.lax.stop_gradient(log_probs), -jnp.inf))
    latents, log_probs = jax.tree.map(lambda leaf: leaf[chosen], (latents, log_probs))

    def weigh(latent: PyTree, log_prob: jax.Array) -> jax.Array:
        # Minus the gradient of its own log-probability, which is zero in the mean, is left out of each term.
        log_q = family.log_prob(params, latent) - (log_prob - jax.lax.stop_gradient(log_prob))
        return monte_carlo.evaluate(log_joint, latent, log_prob.dtype) - log_q

    fixed_log_probs = jax.lax.stop_gradient(log_probs)
    is_possible = fixed_log_probs > -jnp.inf  # a set may have to be filled up with what is never drawn
    values = jnp.where(is_possible, jax.vmap(weigh)(latents, log_probs), 0)
    weights, weights_of_others = _set_weights(fixed_log_probs, log_rest)
    fixed = jax.lax.stop_gradient(values)
    signals = weights * (fixed - weights_of_others @ fixed)
    scores = jnp.where(is_possible, log_probs, 0)
    return custom_gradients.add_gradient(jnp.sum(weights * values), jnp.sum(signals * scores))


def _set_weights(log_probs: jax.Array, log_rest: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Of a set drawn without replacement: p(s) R(s) ``[S]``, and p(s') R(s') with s left out, ``[S, S]``.

    ``log_probs`` are those of the set, ``log_rest`` is the log of the sum of all others. For a part A of the set let
    g(A) be the probability that draws from A and the rest give A first. By the first draw it is
    g(A) = sum over i in A of p_i g(A without i) / (rest + p(A)), so g(A) is the product of A's probabilities times
    h(A) = sum over i in A of h(A without i) / (rest + p(A)), and p(s) R(s) = h(all without s) / h(all).
    """
    size = log_probs.shape[0]
    bits = (np.arange(2**size)[:, None] >> np.arange(size)) & 1  # [2^S, S]: which are in A
    of_set = jax.nn.logsumexp(jnp.where(bits, log_probs, -jnp.inf), axis=1)
    log_masses = jnp.maximum(jnp.logaddexp(of_set, log_rest), -200)  # what is never drawn, as good as never
    log_h = jnp.zeros((2**size,), log_probs.dtype)
    for count in range(1, size + 1):
        subsets = np.flatnonzero(bits.sum(axis=1) == count)
        members = np.array([np.flatnonzero(bits[subset]) for subset in subsets])  # [number of subsets, count]
        steps = log_h[subsets[:, None] - (1 << members)]
        log_h = log_h.at[subsets].set(jax.nn.logsumexp(steps, axis=1) - log_masses[subsets])
    whole, one = 2**size - 1, 1 << np.arange(size)
    less_one, less_two = log_h[whole - one], log_h[whole - (one[:, None] | one[None, :])]
    # Given s in the set, the rest of it is a set drawn from what is left; s itself counts with its probability.
    of_others = jnp.where(jnp.eye(size, dtype=bool), log_probs[None, :], less_two - less_one[:, None])
    return jnp.exp(less_one - log_h[whole]), jnp.exp(of_others)
