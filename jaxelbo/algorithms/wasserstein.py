"""Wasserstein gradient descent of KL(q || p) over Gaussians, the entropy by a proximal step."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxelbo import checks, gaussian_moves, gaussians, monte_carlo, quasi_random
from jaxelbo.algorithms import gaussian_targets
from jaxelbo.gaussian_moves import Place
from jaxelbo.gaussians import product
from jaxelbo.types import Algorithm, Applied, Family, Key, LogJoint, Params


class WassersteinState(NamedTuple):
    """The Gaussian."""

    place: Place


class WassersteinInfo(NamedTuple):
    """Before the step: the bound on its draws, in nats, up to the Gaussian's constant; scalar."""

    objective: jax.Array


def wasserstein_gradient(log_joint: LogJoint, family: Family, *, num_samples: int, step_size: float) -> Algorithm:
    """Lowers KL(q || p) along the Wasserstein geometry of Gaussians: forward in the log joint, proximal in the entropy.

    The mean moves by h E_q[gradient], and draws are carried by I + h E_q[Hessian]; then the entropy's proximal step, in
    closed form, widens every axis. For log-concave densities with Hessians above -1/h it converges from anywhere, and
    no scale can collapse. It is a gradient step in the latent's own units: unlike `natural_gradient` it depends on
    the coordinates and takes as many steps as the posterior is ill-conditioned. S gradients a step, fresh draws.

    Args:
      log_joint: latent pytree -> scalar log p(x, z), in nats; further arguments are ``data``.
      family: `families.full_rank` of a latent.
      num_samples: S, static, even; draws are balanced.
      step_size: h, positive, in squared units of the latent; below one over the largest curvature.

    Returns:
      The `Algorithm`, started from the family's params; its ``info`` is a `WassersteinInfo`.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Diao, Balasubramanian, Chewi, Salim (2023), *Forward-Backward Gaussian Variational Inference via JKO in the
      Bures-Wasserstein Space*.

    >>> import jax, jax.numpy as jnp, jaxelbo
    >>> family = jaxelbo.families.full_rank(jnp.zeros(2))
    >>> log_joint = lambda z: -jnp.sum((z - 1) ** 2)
    >>> algorithm = wasserstein_gradient(log_joint, family, num_samples=8, step_size=0.3)
    >>> start, key = family.init(jax.random.key(0)), jax.random.key(1)
    >>> jaxelbo.run_algorithm(start, key, algorithm, num_steps=30).params["loc"].round(2).tolist()
    [1.0, 1.0]
    """
    step_size = checks.check_positive(step_size, "step_size")
    if gaussian_targets.check_gaussian(log_joint, family) is not gaussians.Dense:
        raise ValueError(f"draws are carried by a full matrix: family must be full_rank, got {family.name}.")
    num_samples = checks.check_even_count(num_samples, "num_samples")
    step = Applied(_step, (log_joint, family, num_samples, step_size))
    return Algorithm(Applied(_init, (family,)), step, gaussian_targets.params_of, gaussian_targets.place_of)


def _init(family: Family, params: Params, key: Key, *data: Any) -> WassersteinState:
    del key, data
    return WassersteinState(gaussian_targets.first_place(family, params))


def _step(
    log_joint: LogJoint,
    family: Family,
    num_samples: int,
    step_size: float,
    state: WassersteinState,
    key: Key,
    *data: Any,
) -> tuple[WassersteinState, WassersteinInfo]:
    place = state.place
    noise = quasi_random.balanced_normals(key, num_samples, place.loc.size, place.loc.dtype)
    density = monte_carlo.log_density(log_joint, family.unflatten, *data)
    values, gradients = jax.vmap(jax.value_and_grad(density))(gaussian_moves.points(place, noise))
    # Stein's identity: E[Hessian] root = E[gradient noise'].
    carried = place.factor + step_size * product(gradients.T, noise) / num_samples
    axes, lengths, _ = jnp.linalg.svd(carried)
    variances = 0.5 * (lengths**2 + 2 * step_size + lengths * jnp.sqrt(lengths**2 + 4 * step_size))
    scales = jnp.sqrt(variances)
    loc = place.loc + step_size * jnp.mean(gradients, axis=0)
    after = Place(loc, axes * scales[None], jnp.sum(jnp.log(scales)))
    return WassersteinState(after), WassersteinInfo(jnp.mean(values) + place.log_det)
