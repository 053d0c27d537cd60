"""Approximating families, one file each. A family is a `jaxelbo.Family`: a record of pure functions."""

from jaxelbo.families.conditionals import conditional
from jaxelbo.families.detaching import detached
from jaxelbo.families.discrete import bernoulli, categorical, one_hot_categorical
from jaxelbo.families.full_rank_gaussian import full_rank
from jaxelbo.families.low_rank_gaussian import low_rank
from jaxelbo.families.mean_field_gaussian import mean_field
from jaxelbo.families.mixtures import mixture
from jaxelbo.families.products import independent, joint
from jaxelbo.families.sequences import sequential
from jaxelbo.families.supported_latents import constrained, pushforward
from jaxelbo.families.whitening import whitened

__all__ = [
    "bernoulli",
    "categorical",
    "conditional",
    "constrained",
    "detached",
    "full_rank",
    "independent",
    "joint",
    "low_rank",
    "mean_field",
    "mixture",
    "one_hot_categorical",
    "pushforward",
    "sequential",
    "whitened",
]
