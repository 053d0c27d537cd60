"""How a fit ended, as a value that travels through ``jit`` and ``vmap`` and reads as a name outside.

Floor 1.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxelbo import checks

NAMES = (
    "converged",
    "not finite",
    "flat direction",
    "no mode found",
    "step limit",
    "poor fit",
)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Status:
    """One of `NAMES`, each with what it means for the fit.

    - ``converged``: q is the best of its family, and the importance weights say that it fits.
    - ``not finite``: the log joint was not finite at the start, or is not at draws of q.
    - ``flat direction``: the log joint does not fall along some direction, so the posterior is improper there or wider
      than any scale that was tried; ``direction`` shows which.
    - ``no mode found``: the climb went on to its last step, as where the density has no upper bound.
    - ``step limit``: q was still moving when the draws ran out.
    - ``poor fit``: q is the best of its family and no good approximation: Pareto k above 0.7, unless the weights are so
      alike that their effective size is 95 % of their number.

    Attributes:
      code: index into `NAMES`, int32, ``[]`` or batched by ``vmap``.
      direction: a latent: the flat direction, zeros where there is none.
    """

    code: jax.Array
    direction: Any

    def __str__(self) -> str:
        """The name; for a flat direction the entry along which it mostly lies, too."""
        if checks.is_traced(self.code):
            return "a traced status"
        if np.ndim(self.code):
            return str(np.asarray(NAMES)[np.asarray(self.code)])
        name = NAMES[int(self.code)]
        if name != "flat direction":
            return name
        return f"{name} along {checks.largest_entry(self.direction, 'latent', np.abs)[0]}"


def first_fault(faults: Sequence[tuple[str, jax.Array]], names: Sequence[str], otherwise: str) -> jax.Array:
    """The index among ``names`` of the first fault that holds, int32, or of what is said where none does."""
    codes = [jnp.asarray(names.index(name), jnp.int32) for name, _ in faults]
    return jnp.select([holds for _, holds in faults], codes, jnp.asarray(names.index(otherwise), jnp.int32))
