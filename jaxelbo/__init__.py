"""Variational inference as pure functions.

A user brings one function, the log joint density log p(x, z) of a model over any pytree z. Here are the evidence lower
bound L = E_q[log p(x, z)] + H[q] = log p(x) - KL(q || p(z|x)), its relatives, their gradients and the loop that raises
it, all functions of parameter pytrees to transform with ``jit``, ``vmap`` and ``grad``.
"""

from jaxelbo import algorithms, bounds, checks, divergences, estimators, families, gaussians, types
from jaxelbo.diagnostics import check_log_joint
from jaxelbo.divergences import kl_divergence, kl_monte_carlo
from jaxelbo.fitting import fit, run_algorithm
from jaxelbo.objectives import elbo, log_weights, lower_bound, upper_bound
from jaxelbo.posteriors import draws, summary
from jaxelbo.reporting import progress_bar
from jaxelbo.types import Algorithm, Bound, Estimate, Estimator, Family, FitResult, LogJoint, Progress, Summary

__version__ = "0.1.0"

__all__ = [
    "Algorithm",
    "Bound",
    "Estimate",
    "Estimator",
    "Family",
    "FitResult",
    "LogJoint",
    "Progress",
    "Summary",
    "algorithms",
    "bounds",
    "check_log_joint",
    "checks",
    "divergences",
    "draws",
    "elbo",
    "estimators",
    "families",
    "fit",
    "gaussians",
    "kl_divergence",
    "kl_monte_carlo",
    "log_weights",
    "lower_bound",
    "progress_bar",
    "run_algorithm",
    "summary",
    "types",
    "upper_bound",
]
