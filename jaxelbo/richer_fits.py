"""A richer family raised from where a Gaussian ended, in its standard coordinates.

Floor 4.5, below `inference`.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from jaxelbo import bounds, checks, estimators, families, monte_carlo, pareto
from jaxelbo.types import Family, Key, LogJoint, Params, PyTree

NUM_STEPS, NUM_DRAWS = 500, 8
STEP_SIZE = 0.03
"""Of Adam, in standard deviations, falling to zero."""


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=(
        "params", "elbo", "elbo_standard_error", "num_gradients", "pareto_k", "effective_sample_size", "gain",
        "gain_standard_error",
    ),
    meta_fields=("family",),
)  # fmt: skip
@dataclasses.dataclass(frozen=True)
class Richer:
    """What a richer family than the Gaussian reached. A pytree whose ``family`` is static.

    Attributes:
      params: of the family, as `families.whitened` has them.
      family: q; ``draws(params, key, family, ...)`` draws from it.
      elbo: the bound at params, in nats, from fresh draws.
      elbo_standard_error: of that.
      num_gradients: that this fit took beside the Gaussian's.
      pareto_k: of the importance weights p/q at those draws.
      effective_sample_size: of those weights.
      gain: by how much this bound is above the Gaussian's, in nats.
      gain_standard_error: of that.
    """

    params: Params
    family: Family
    elbo: jax.Array
    elbo_standard_error: jax.Array
    num_gradients: jax.Array
    pareto_k: jax.Array
    effective_sample_size: jax.Array
    gain: jax.Array
    gain_standard_error: jax.Array


def fit(
    log_joint: LogJoint,
    gaussian: Family,
    constructor: Callable[[jax.Array], Family],
    params: Params,
    key: Key,
    log_weights_before: jax.Array,
) -> Richer:
    """Raises the richer family and judges it as the Gaussian was judged.

    Args:
      log_joint: latent pytree -> scalar, in nats.
      gaussian: the family that was fitted.
      constructor: ``[D]`` -> the family of a vector that stands for the noise of that Gaussian.
      params: of the Gaussian.
      key: one random key.
      log_weights_before: those of the Gaussian, ``[S]``.
    """
    latent = jax.tree.leaves(jax.eval_shape(gaussian.sample, params, key))
    size, dtype = sum(leaf.size for leaf in latent), jnp.result_type(*latent)
    base = constructor(jnp.zeros(size, dtype))
    checks.check_family(base, "richer")
    family = families.whitened(base, gaussian)
    estimator = estimators.enumeration if family.num_configurations else estimators.leave_one_out

    def loss(own: Params, key: Key) -> jax.Array:
        arguments = {"base": own, "gaussian": params}, key, log_joint, family, bounds.mean, NUM_DRAWS
        return -estimator(*arguments)

    optimizer = optax.adam(optax.cosine_decay_schedule(STEP_SIZE, NUM_STEPS))

    def step(carry: tuple[Params, PyTree], key: Key) -> tuple[tuple[Params, PyTree], None]:
        own, state = carry
        updates, new_state = optimizer.update(jax.grad(loss)(own, key), state, own)
        moved = optax.apply_updates(own, updates)
        is_finite = jnp.all(jnp.asarray([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(moved)]))
        return jax.tree.map(lambda new, old: jnp.where(is_finite, new, old), (moved, new_state), carry), None

    key_init, key_steps, key_judge = jax.random.split(key, 3)
    start = base.init(key_init)
    (own, _), _ = jax.lax.scan(step, (start, optimizer.init(start)), jax.random.split(key_steps, NUM_STEPS))
    params, num_samples = {"base": own, "gaussian": params}, log_weights_before.size
    log_weights = monte_carlo.log_weights_in_parts(params, key_judge, log_joint, family, num_samples, size)
    error, error_before = (jnp.std(each, ddof=1) / num_samples**0.5 for each in (log_weights, log_weights_before))
    return Richer(
        params,
        family,
        jnp.mean(log_weights),
        error,
        jnp.asarray(NUM_STEPS * NUM_DRAWS * max(1, family.num_configurations), jnp.int32),
        pareto.smooth(log_weights).pareto_k,
        pareto.effective_sample_size(log_weights),
        jnp.mean(log_weights) - jnp.mean(log_weights_before),
        jnp.hypot(error, error_before),
    )
