"""Gradient estimators: one value, the bound at draws of q, and many ways to differentiate it.

An estimator is any function ``(params, key, log_joint, family, bound, num_samples) -> scalar`` whose value estimates
the bound and whose gradient, by ``jax.grad``, estimates the bound's gradient. Those with options are made by a function
that returns one; those with a memory take a state last and return ``(scalar, state)``. Gradients with respect to
whatever ``log_joint`` closes over (a model's parameters) are right under each of them. Which holds for which family and
bound: `jaxelbo.validity`.
"""

from jaxelbo.estimators.antithetic import arm, disarm
from jaxelbo.estimators.control_variates import rebar, relax
from jaxelbo.estimators.decompositions import rao_blackwellised, reward_to_go
from jaxelbo.estimators.exact import enumeration, enumeration_up_to
from jaxelbo.estimators.measures import measure_valued
from jaxelbo.estimators.moving_averages import RunningMoments, moving_average, nvil, running_moments
from jaxelbo.estimators.relaxed import gumbel_softmax, straight_through
from jaxelbo.estimators.reparameterised import (
    closed_form_entropy,
    doubly_reparameterised,
    pathwise,
    sticking_the_landing,
)
from jaxelbo.estimators.score import learned_baseline, leave_one_out, score_function, with_baseline
from jaxelbo.estimators.unordered_sets import without_replacement
from jaxelbo.estimators.wake_phases import reweighted_wake_phase, wake_phase

__all__ = [
    "RunningMoments",
    "arm",
    "closed_form_entropy",
    "disarm",
    "doubly_reparameterised",
    "enumeration",
    "enumeration_up_to",
    "gumbel_softmax",
    "learned_baseline",
    "leave_one_out",
    "measure_valued",
    "moving_average",
    "nvil",
    "pathwise",
    "rao_blackwellised",
    "rebar",
    "relax",
    "reward_to_go",
    "reweighted_wake_phase",
    "running_moments",
    "score_function",
    "sticking_the_landing",
    "straight_through",
    "wake_phase",
    "with_baseline",
    "without_replacement",
]
