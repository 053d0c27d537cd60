"""What algorithms that fit a Gaussian ask of their log joint and family."""

from collections.abc import Callable
from typing import Any

import jax

from jaxelbo import checks, gaussians
from jaxelbo.types import Family, LogJoint


def check_gaussian(log_joint: LogJoint, family: Family) -> type:
    """Requires a function and a Gaussian family; returns the record that its distribution is."""
    checks.check_callable(log_joint, "log_joint")
    checks.check_family(family)
    form = None
    if family.distribution is not None:
        form = type(jax.eval_shape(lambda: _distribution(family)))
    if form not in (gaussians.Dense, gaussians.Diagonal):
        raise ValueError(
            f"family must be families.full_rank or families.mean_field of a latent, got {family.name}; raise the elbo "
            "of others with fit."
        )
    return form


def _distribution(family: Family) -> Any:
    return family.distribution(family.init(jax.random.key(0)))  # for its type: nothing is drawn


def check_even(num_samples: int) -> int:
    """Requires a static even count, at least 2."""
    num_samples = checks.check_count(num_samples, "num_samples", minimum=2)
    if num_samples % 2:
        raise ValueError(f"num_samples must be even, as draws come with their mirror images, got {num_samples}.")
    return num_samples


def log_density(log_joint: LogJoint, family: Family, *data: Any) -> Callable[[jax.Array], jax.Array]:
    """The log joint as a function of the family's flat latent ``[D]``."""

    def of_flat(flat: jax.Array) -> jax.Array:
        value = checks.check_scalar(log_joint(family.unflatten(flat), *data), "log_joint")
        return value.astype(flat.dtype)

    return of_flat
