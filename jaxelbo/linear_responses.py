"""Covariances by linear response: what a fit's means would do if the log joint were tilted a little.

Floor 4.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from jaxelbo import checks, gaussian_moves, gaussians, monte_carlo, quasi_random
from jaxelbo.types import Family, Key, Latent, LogJoint, Params


class LinearResponse(NamedTuple):
    """Second moments of the posterior as the fit's means answer for them.

    Attributes:
      sd: standard deviations, a latent.
      covariance: ``[D, D]``, entries in the order of the leaves.
    """

    sd: Latent
    covariance: jax.Array


def linear_response(
    params: Params, key: Key, log_joint: LogJoint, family: Family, *, num_samples: int
) -> LinearResponse:
    """The posterior's covariance from the curvature of the bound, at an optimum of the bound.

    Estimand: d E_q[z] / dt at t = 0, where q is the optimum for log p(x, z) + t'z. Were q the posterior, that would be
    its covariance; it is exact for Gaussian posteriors under a mean-field q, whose own spreads are too small.
    Estimator: J (-H)^-1 J' with H the Hessian of the bound on S draws that stay fixed, and J the Jacobian of E_q[z].
    Bias: of order 1 / S, and from params that are not at the optimum. P Hessian-vector products of S draws each, for P
    parameters.

    Args:
      params: the family's, at the optimum of the bound, as `infer` returns.
      key: one random key.
      log_joint: latent pytree -> scalar log p(x, z), in nats; twice differentiable.
      family: q, reparameterised, with ``location_and_scale``.
      num_samples: S, static and even; for Gaussian families balanced, so at least twice the number of entries.

    Returns:
      `LinearResponse`. NaN where the Hessian is not negative definite: params are not at an optimum.

    Raises:
      TypeError, ValueError: at trace time, naming the argument: a family without means in closed form, or with draws
        that carry no gradient.

    References:
      Giordano, Broderick, Jordan (2018), *Covariances, Robustness, and Variational Bayes*.

    >>> import jax, jax.numpy as jnp, jaxelbo
    >>> precision = jnp.array([[1.0, 0.9], [0.9, 1.0]])
    >>> log_joint = lambda z: -0.5 * z @ precision @ z
    >>> result = jaxelbo.infer(log_joint, jnp.zeros(2), jax.random.key(0), family=jaxelbo.families.mean_field)
    >>> arguments = result.params, jax.random.key(1), log_joint, result.family
    >>> sd = jaxelbo.linear_response(*arguments, num_samples=100).sd
    >>> bool(jnp.allclose(sd, jnp.sqrt(1 / 0.19), rtol=1e-3))  # those of q are 1
    True
    """
    checks.check_callable(log_joint, "log_joint")
    checks.check_params(params, family)
    checks.check_key(key)
    num_samples = checks.check_even_count(num_samples, "num_samples")
    if family.location_and_scale is None:
        raise ValueError(f"linear_response needs means in closed form, which family {family.name} has not.")
    num_scores = jax.eval_shape(lambda: monte_carlo.draw_and_scores(params, key, family)[2]).shape[0]
    if num_scores:
        raise ValueError(f"linear_response needs reparameterised draws, which family {family.name} has not throughout.")
    flat, unravel = ravel_pytree(params)

    is_gaussian = family.distribution is not None and isinstance(
        family.distribution(params), gaussians.Diagonal | gaussians.Dense
    )

    def bound(flat: jax.Array) -> jax.Array:
        params = unravel(flat)
        if not is_gaussian:
            return jnp.mean(monte_carlo.log_weights_of_draws(params, key, log_joint, family, num_samples))
        # Balanced draws make the Hessian of a quadratic exact, without which a flat direction would drown in noise.
        place = gaussian_moves.place_of(family.distribution(params))
        noise = quasi_random.balanced_normals(key, num_samples, place.loc.size, place.loc.dtype)
        values = jax.vmap(monte_carlo.log_density(log_joint, family.unflatten))(gaussian_moves.points(place, noise))
        return jnp.mean(values) + place.log_det

    def means(flat: jax.Array) -> jax.Array:
        return ravel_pytree(family.location_and_scale(unravel(flat))[0])[0]

    curvature = -jax.hessian(bound)(flat)
    jacobian = jax.jacobian(means)(flat)
    # Parameters that do nothing, as above the diagonal of a triangular factor, have a zero row; 1 stands for it.
    diagonal = jnp.diag(curvature)
    is_idle = jnp.all(curvature == 0, axis=1)
    scales = jnp.where(is_idle, 1, 1 / jnp.sqrt(diagonal))
    scaled = curvature * scales[:, None] * scales[None] + jnp.diag(is_idle.astype(flat.dtype))
    root = jnp.linalg.cholesky(0.5 * (scaled + scaled.T))
    solved = jax.scipy.linalg.solve_triangular(root, (jacobian * scales[None]).T, lower=True)
    covariance = gaussians.product(solved.T, solved)
    like, to_latent = ravel_pytree(family.location_and_scale(params)[0])
    return LinearResponse(to_latent(jnp.sqrt(jnp.diag(covariance)).astype(like.dtype)), covariance)
