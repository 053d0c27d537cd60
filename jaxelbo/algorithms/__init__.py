"""Iterative methods as ``(init, step)`` pairs, one file each; `jaxelbo.run_algorithm` drives any of them."""

from jaxelbo.algorithms.averaging import averaged, best
from jaxelbo.algorithms.conjugate_updates import coordinate_ascent, expectation_maximisation
from jaxelbo.algorithms.natural_gradients import fixed_draws, laplace, natural_gradient
from jaxelbo.algorithms.newton_climb import newton
from jaxelbo.algorithms.newton_products import newton_cg
from jaxelbo.algorithms.pathfinder_paths import pathfinder
from jaxelbo.algorithms.robust_averaging import rabvi, until_converged
from jaxelbo.algorithms.score_matching import batch_and_match, gaussian_score_matching
from jaxelbo.algorithms.stein import stein_descent
from jaxelbo.algorithms.stochastic_gradient import gradient_descent, gradient_descent_with_state
from jaxelbo.algorithms.wasserstein import wasserstein_gradient

__all__ = [
    "averaged",
    "batch_and_match",
    "best",
    "coordinate_ascent",
    "expectation_maximisation",
    "fixed_draws",
    "gaussian_score_matching",
    "gradient_descent",
    "gradient_descent_with_state",
    "laplace",
    "natural_gradient",
    "newton",
    "newton_cg",
    "pathfinder",
    "rabvi",
    "stein_descent",
    "until_converged",
    "wasserstein_gradient",
]
