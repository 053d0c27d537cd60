"""Iterative methods as ``(init, step)`` pairs, one file each; `jaxelbo.run_algorithm` drives any of them."""

from jaxelbo.algorithms.natural_gradients import fixed_draws, laplace, natural_gradient
from jaxelbo.algorithms.newton_climb import newton
from jaxelbo.algorithms.stochastic_gradient import gradient_descent, gradient_descent_with_state

__all__ = [
    "fixed_draws",
    "gradient_descent",
    "gradient_descent_with_state",
    "laplace",
    "natural_gradient",
    "newton",
]
