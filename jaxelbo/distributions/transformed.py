"""The distribution of a transformed variable.

Floor 1.
"""

import dataclasses
from collections.abc import Hashable
from typing import Any

import jax


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Transformed:
    """The distribution of f(x), x of ``base``: KL is unchanged where both sides have one f, and unknown otherwise.

    Attributes:
      base: a record of `distributions`.
      transform: f, one-to-one, such as a `bijectors.Bijector` or a `supports.Constraint`; compared by equality.
    """

    base: Any
    transform: Hashable = dataclasses.field(metadata={"static": True})
