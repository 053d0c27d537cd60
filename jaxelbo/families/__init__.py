"""Approximating families, one file each. A family is a `jaxelbo.Family`: a record of pure functions."""

from jaxelbo.families.full_rank_gaussian import full_rank
from jaxelbo.families.mean_field_gaussian import mean_field

__all__ = ["full_rank", "mean_field"]
