"""Iterative methods as ``(init, step)`` pairs, one file each; `jaxelbo.run_algorithm` drives any of them."""

from jaxelbo.algorithms.stochastic_gradient import gradient_descent, gradient_descent_with_state

__all__ = ["gradient_descent", "gradient_descent_with_state"]
