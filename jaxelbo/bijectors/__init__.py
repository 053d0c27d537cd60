"""Maps of unconstrained numbers to the supports of latents and back, each with its log-determinant.

Floor 1. Each is a `Bijector`, a record of pure functions, and so is what a user writes.
"""

from jaxelbo.bijectors.orderings import ordered, positive_ordered
from jaxelbo.bijectors.records import Bijector
from jaxelbo.bijectors.scalars import (
    greater_than,
    interval,
    less_than,
    positive,
    positive_softplus,
    real,
    unit_interval,
)
from jaxelbo.bijectors.simplexes import simplex
from jaxelbo.bijectors.spheres import sphere
from jaxelbo.bijectors.symmetric_matrices import correlation, positive_definite
from jaxelbo.bijectors.triangles import correlation_cholesky, lower_cholesky

__all__ = [
    "Bijector",
    "correlation",
    "correlation_cholesky",
    "greater_than",
    "interval",
    "less_than",
    "lower_cholesky",
    "ordered",
    "positive",
    "positive_definite",
    "positive_ordered",
    "positive_softplus",
    "real",
    "simplex",
    "sphere",
    "unit_interval",
]
