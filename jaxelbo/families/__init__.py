"""Approximating families, one file each. A family is a `jaxelbo.Family`: a record of pure functions."""

from jaxelbo.families.autoregressive_flows import autoregressive_flow
from jaxelbo.families.bounded_entries import beta, gamma, log_normal
from jaxelbo.families.conditionals import conditional
from jaxelbo.families.coupling_flows import affine_coupling_flow, spline_flow
from jaxelbo.families.detaching import detached
from jaxelbo.families.dirichlets import dirichlet
from jaxelbo.families.discrete import bernoulli, categorical, one_hot_categorical
from jaxelbo.families.full_rank_gaussian import full_rank
from jaxelbo.families.heavy_tails import laplace, student_t
from jaxelbo.families.low_rank_gaussian import low_rank
from jaxelbo.families.mean_field_gaussian import mean_field
from jaxelbo.families.mixtures import mixture
from jaxelbo.families.planar_flows import planar_flow
from jaxelbo.families.point_masses import point_mass
from jaxelbo.families.products import independent, joint
from jaxelbo.families.sequences import sequential
from jaxelbo.families.structured_gaussian import structured
from jaxelbo.families.supported_latents import constrained, pushforward
from jaxelbo.families.whitening import whitened

__all__ = [
    "affine_coupling_flow",
    "autoregressive_flow",
    "bernoulli",
    "beta",
    "categorical",
    "conditional",
    "constrained",
    "detached",
    "dirichlet",
    "full_rank",
    "gamma",
    "independent",
    "joint",
    "laplace",
    "log_normal",
    "low_rank",
    "mean_field",
    "mixture",
    "one_hot_categorical",
    "planar_flow",
    "point_mass",
    "pushforward",
    "sequential",
    "spline_flow",
    "structured",
    "student_t",
    "whitened",
]
