"""Sequences of latents, each drawn given those before it.

Floor 2.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxelbo import checks
from jaxelbo.types import Family, Key, Latent, Params


def sequential(
    step_family: Family,
    step_fn: Callable[..., tuple[Any, Params]],
    carry_fn: Callable[[Params], Any],
    init_fn: Callable[[Key], Params],
    *,
    num_steps: int,
) -> Family:
    """T latents of one family, z_t drawn given z_1, ..., z_(t-1), in one ``lax.scan``.

    The draw at step t has the step family's params that ``step_fn(params, carry, previous)`` returns beside the next
    carry; ``previous`` is the latent of the step before, zeros at the first. Everything the steps remember travels in
    the carry, so any recurrent network can be the policy. One part a step: ``score_log_probs`` is ``[T]`` where the
    step family's draws carry no gradient, and ``[0]`` where all are reparameterised. With `detached` steps it is the
    log-probability of every step, ``[T]``, whatever they are.

    Args:
      step_family: the family of one step; its own params are what ``step_fn`` returns.
      step_fn: ``(params, carry, previous latent) -> (carry, step params)``.
      carry_fn: ``params -> carry`` before the first step.
      init_fn: ``key -> params``, any pytree of arrays.
      num_steps: T, static, at least 1.

    Returns:
      The `Family` over latents with leaves ``[T, ...]``. Its ``init`` takes no start. It has no closed-form entropy;
      its configurations are the M^T paths of a step family with M; it cannot be relaxed.

    Raises:
      TypeError, ValueError: naming the argument; when used, a carry or step params of another structure, shape or
        dtype than the first carry and the step family have.

    References:
      Mnih, Heess, Graves, Kavukcuoglu (2014), *Recurrent Models of Visual Attention*.

    >>> import jax, jax.numpy as jnp
    >>> from jaxelbo import families
    >>> def step_fn(params, carry, previous):  # a Markov chain of bits
    ...     return carry, {"logits": params["bias"] + params["weight"] * previous}
    >>> init_fn = lambda key: {"bias": jnp.zeros(1), "weight": jnp.ones(1)}
    >>> family = sequential(families.bernoulli(jnp.zeros(1)), step_fn, lambda params: (), init_fn, num_steps=5)
    >>> params = family.init(jax.random.key(0))
    >>> latent = family.sample(params, jax.random.key(1))
    >>> latent.shape, family.score_log_probs(params, latent).shape
    ((5, 1), (5,))
    """
    checks.check_family(step_family, "step_family")
    for function, name in ((step_fn, "step_fn"), (carry_fn, "carry_fn"), (init_fn, "init_fn")):
        checks.check_callable(function, name)
    num_steps = checks.check_count(num_steps, "num_steps")

    def first(params: Params) -> tuple[Any, Latent]:
        like = jax.eval_shape(lambda: step_family.sample(step_family.init(jax.random.key(0)), jax.random.key(0)))
        return carry_fn(params), jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), like)

    def advance(params: Params, carry: Any, previous: Latent) -> tuple[Any, Params]:
        result = step_fn(params, carry, previous)
        if not isinstance(result, tuple) or len(result) != 2:
            raise TypeError(f"step_fn must return a pair (carry, step params), got {checks.describe(result)}.")
        checks.check_like(result[0], _shapes(carry), "the carry that step_fn returns", "carry_fn")
        checks.check_params(result[1], step_family, "the step params that step_fn returns", "step_family")
        return result

    def run(params: Params, step: Callable[..., Any], inputs: Any) -> Any:
        """Scans ``step(step_params, input) -> (latent, output)`` and returns the outputs."""

        def body(state: Any, given: Any) -> Any:
            carry, step_params = advance(params, *state)
            latent, output = step(step_params, given)
            return (carry, latent), output

        return jax.lax.scan(body, first(params), inputs)[1]

    def sample(params: Params, key: Key) -> Latent:
        return sample_and_log_prob(params, key)[0]

    def sample_and_log_prob(params: Params, key: Key) -> tuple[Latent, jax.Array]:
        return sample_and_scores(params, key)[:2]

    def sample_and_scores(params: Params, key: Key) -> tuple[Latent, jax.Array, jax.Array]:
        def step(step_params: Params, key: Key) -> Any:
            latent, log_prob = step_family.sample_and_log_prob(step_params, key)
            return latent, (latent, log_prob, step_family.score_log_probs(step_params, latent))

        latents, log_probs, scores = run(params, step, jax.random.split(key, num_steps))
        return latents, jnp.sum(log_probs), by_step(scores)

    def log_prob(params: Params, latent: Latent) -> jax.Array:
        checks.check_leading_axis(latent, num_steps, "latent", "steps")
        return jnp.sum(run(params, lambda p, z: (z, step_family.log_prob(p, z)), latent))

    def score_log_probs(params: Params, latent: Latent) -> jax.Array:
        checks.check_leading_axis(latent, num_steps, "latent", "steps")
        return by_step(run(params, lambda p, z: (z, step_family.score_log_probs(p, z)), latent))

    def by_step(scores: jax.Array) -> jax.Array:
        """One entry a step from ``[T, P of a step]``, or none."""
        return jnp.sum(scores, axis=1) if scores.shape[1] else jnp.ravel(scores)

    def init(key: Key, start: Latent | None = None) -> Params:
        if start is not None:
            raise ValueError("start must be None for family sequential, whose params are its steps' own.")
        return init_fn(key)

    def configurations(params: Params, key: Key) -> tuple[Latent, jax.Array]:
        size = step_family.num_configurations
        paths = np.indices((size,) * num_steps, np.int32).reshape(num_steps, -1).T  # [M^T, T]

        def along(path: jax.Array) -> tuple[Latent, jax.Array]:
            def step(step_params: Params, given: Any) -> Any:
                latents, log_probs = step_family.configurations(step_params, given[0])
                latent = jax.tree.map(lambda leaf: leaf[given[1]], latents)
                return latent, (latent, log_probs[given[1]])

            latent, log_probs = run(params, step, (jax.random.split(key, num_steps), path))
            return latent, jnp.sum(log_probs)

        return jax.vmap(along)(jnp.asarray(paths))

    return Family(
        name=f"sequential({step_family.name}, {num_steps})",
        init=init,
        sample=sample,
        log_prob=log_prob,
        sample_and_log_prob=sample_and_log_prob,
        score_log_probs=score_log_probs,
        sample_and_scores=sample_and_scores,
        configurations=configurations if step_family.configurations else None,
        num_configurations=step_family.num_configurations**num_steps if step_family.configurations else 0,
    )


def _shapes(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), checks.canonical_dtype(leaf)), tree)
