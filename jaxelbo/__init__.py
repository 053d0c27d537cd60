"""Variational inference as pure functions.

A user brings one function, the log joint density log p(x, z) of a model over any pytree z. Here are the evidence lower
bound L = E_q[log p(x, z)] + H[q] = log p(x) - KL(q || p(z|x)), its relatives, their gradients and the loop that raises
it, all functions of parameter pytrees to transform with ``jit``, ``vmap`` and ``grad``.
"""

from jaxelbo import (
    algorithms,
    bijectors,
    bounds,
    checkpoints,
    checks,
    custom_gradients,
    device_meshes,
    distributions,
    divergences,
    estimators,
    exponential,
    f_divergences,
    families,
    finite,
    gaussian_divergences,
    gaussians,
    hard_attention,
    mixture_divergences,
    pareto,
    statuses,
    structures,
    supports,
    surrogates,
    types,
    validity,
)
from jaxelbo.calibrations import Calibration, simulation_based_calibration
from jaxelbo.diagnoses import Diagnosis, diagnose
from jaxelbo.diagnostics import check_log_joint
from jaxelbo.divergences import kl_divergence, kl_monte_carlo
from jaxelbo.evidence_brackets import Evidence, evidence
from jaxelbo.fitting import fit, run_algorithm
from jaxelbo.gradient_noise import gradient_report
from jaxelbo.inference import Inference, infer
from jaxelbo.linear_responses import linear_response
from jaxelbo.multi_path import Paths, pathfinder_draws
from jaxelbo.objectives import elbo, log_weights, lower_bound, upper_bound
from jaxelbo.posteriors import draws, predict, resampled_draws, summary
from jaxelbo.priors import elbo_with_prior
from jaxelbo.reporting import print_gradient_report, progress_bar
from jaxelbo.restarts import Restarts, fit_restarts
from jaxelbo.row_terms import log_joint_of_rows, sum_over_rows
from jaxelbo.types import Algorithm, Bound, Estimate, Estimator, Family, FitResult, LogJoint, Progress, Summary
from jaxelbo.wake_sleep import sleep_phase

__version__ = "0.1.0"

__all__ = [
    "Algorithm",
    "Bound",
    "Calibration",
    "Diagnosis",
    "Estimate",
    "Estimator",
    "Evidence",
    "Family",
    "FitResult",
    "Inference",
    "LogJoint",
    "Paths",
    "Progress",
    "Restarts",
    "Summary",
    "algorithms",
    "bijectors",
    "bounds",
    "check_log_joint",
    "checkpoints",
    "checks",
    "custom_gradients",
    "device_meshes",
    "diagnose",
    "distributions",
    "divergences",
    "draws",
    "elbo",
    "elbo_with_prior",
    "estimators",
    "evidence",
    "exponential",
    "f_divergences",
    "families",
    "finite",
    "fit",
    "fit_restarts",
    "gaussian_divergences",
    "gaussians",
    "gradient_report",
    "hard_attention",
    "infer",
    "kl_divergence",
    "kl_monte_carlo",
    "linear_response",
    "log_joint_of_rows",
    "log_weights",
    "lower_bound",
    "mixture_divergences",
    "pareto",
    "pathfinder_draws",
    "predict",
    "print_gradient_report",
    "progress_bar",
    "resampled_draws",
    "run_algorithm",
    "simulation_based_calibration",
    "sleep_phase",
    "statuses",
    "structures",
    "sum_over_rows",
    "summary",
    "supports",
    "surrogates",
    "types",
    "upper_bound",
    "validity",
]
