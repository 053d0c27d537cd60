"""Questions asked of a model or a fit.

Floor 4.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxelbo import checks, monte_carlo
from jaxelbo.types import Family, Key, Latent, LogJoint, Params


def check_log_joint(params: Params, key: Key, log_joint: LogJoint, family: Family, *, num_samples: int) -> None:
    """Looks for a draw of q at which the log joint or its gradient is not finite, and names it.

    It reads values, so it is called outside ``jit``.

    Args:
      params: the family's parameters.
      key: one random key.
      log_joint: latent pytree -> scalar log p(x, z), in nats.
      family: q.
      num_samples: S, static, at least 1.

    Raises:
      ValueError: a value or gradient that is not finite: the first such draw, the leaf at fault (where its gradient is
        not finite, or by exchange with a sound draw), and how many of the S draws are concerned.
      TypeError, ValueError: as `elbo`; traced arguments.

    >>> import jax, jaxelbo
    >>> family = jaxelbo.families.mean_field({"rate": 0.0}, initial_scale=1.0)
    >>> params = family.init(jax.random.key(0))
    >>> log_joint = lambda z: jax.numpy.log(z["rate"]) - z["rate"]  # forgets that a rate is positive
    >>> check_log_joint(params, jax.random.key(1), log_joint, family, num_samples=4)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    ValueError: log_joint is nan at sample ..., but not with another draw's latent['rate']; ...
    """
    checks.check_callable(log_joint, "log_joint")
    checks.check_params(params, family)
    checks.check_key(key)
    num_samples = checks.check_count(num_samples, "num_samples")
    if checks.is_traced((params, key)):
        raise ValueError("check_log_joint reads values; call it outside jit, vmap and grad.")

    def value(latent: Latent) -> jax.Array:
        return checks.check_scalar(log_joint(latent), "log_joint")

    def examine(key: Key) -> tuple[jax.Array, Latent]:
        density, gradient = jax.value_and_grad(value)(family.sample(params, key))
        return density, jax.tree.map(lambda leaf: jnp.all(jnp.isfinite(leaf)), gradient)

    values, flags = jax.jit(lambda key: monte_carlo.over_samples(examine, key, num_samples))(key)
    if checks.is_traced(values):
        raise ValueError("check_log_joint reads values; call it where log_joint closes over no traced value.")
    names, flags = checks.leaf_names(flags, "latent"), [np.asarray(flag) for flag in jax.tree.leaves(flags)]
    is_finite = np.isfinite(values) & np.all(flags, axis=0)
    if is_finite.all():
        return
    first, count = int(np.argmin(is_finite)), int(np.sum(~is_finite))
    at_fault = [name for name, flag in zip(names, flags, strict=True) if not flag[first]]
    if not is_finite.any():
        reason = "as at every draw" + (f", its gradient not finite in {', '.join(at_fault)}" if at_fault else "")
    elif at_fault:
        reason = f"its gradient is not finite in {', '.join(at_fault)}"
    else:
        latents = monte_carlo.over_samples(lambda key: family.sample(params, key), key, num_samples)
        at_fault = _leaves_that_mend(value, latents, first, int(np.argmax(is_finite)))
        reason = f"but not with another draw's {', '.join(at_fault)}" if at_fault else "and no one leaf mends it"
    raise ValueError(
        f"log_joint is {float(values[first])} at sample {first}, {reason}; {count} of {num_samples} draws are at "
        "fault. draws(...) with the same key returns them."
    )


def _leaves_that_mend(log_joint: LogJoint, latents: Latent, bad: int, sound: int) -> list[str]:
    """Names of the leaves that make draw ``bad`` finite when taken from draw ``sound``."""
    leaves, structure = jax.tree.flatten(latents)
    mended = []
    for index, name in enumerate(checks.leaf_names(latents, "latent")):
        mixed = [leaf[sound if other == index else bad] for other, leaf in enumerate(leaves)]
        if jnp.isfinite(log_joint(jax.tree.unflatten(structure, mixed))):
            mended.append(name)
    return mended
