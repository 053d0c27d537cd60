"""Natural-gradient ascent of the bound for Gaussian families, on draws that stay or on new ones; Laplace's method."""

from typing import Any, NamedTuple

import jax

from jaxelbo import checks, gaussian_moves, gaussians, monte_carlo, quasi_random
from jaxelbo.algorithms import climbs, fixed_draw_ascent, gaussian_targets, low_rank_ascent, newton_climb
from jaxelbo.algorithms.fixed_draw_ascent import FixedDrawInfo
from jaxelbo.gaussian_moves import Place
from jaxelbo.gaussians import LowRank
from jaxelbo.types import Algorithm, Applied, Family, Key, LogJoint, Params

MEMORY = 8
"""Steps that `fixed_draws` remembers."""


LENGTH_LOW_RANK = 0.5
"""Of steps at low rank, whose draws and products are too few for the whole natural gradient."""


class FixedDrawState(NamedTuple):
    """The ascent, and the draws ``[S, D]`` that stay."""

    ascent: fixed_draw_ascent.Ascent
    noise: jax.Array


class NaturalGradientState(NamedTuple):
    """The Gaussian."""

    place: Place


def fixed_draws(log_joint: LogJoint, family: Family, *, num_samples: int) -> Algorithm:
    """Raises the bound on balanced draws that stay the same, by quasi-Newton steps of a safe length.

    The objective is deterministic, so it can be raised to its optimum; what that falls short of the true one is
    ``info.monte_carlo_error``, in expectation and in nats. The first step is the natural gradient; limited-memory BFGS
    in the coordinates where q is N(0, I) then learns what the natural gradient leaves out, so that skewed posteriors do
    not take hundreds of steps. A step takes S gradients, and S values a length tried.

    Args:
      log_joint: latent pytree -> scalar log p(x, z), in nats; further arguments are ``data``.
      family: `families.full_rank` or `families.mean_field` of a latent.
      num_samples: S, static, even; at least twice the number of latent entries for draws of covariance I.

    Returns:
      The `Algorithm`, started from the family's params; its ``info`` is a `FixedDrawInfo`.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Giordano, Ingram, Broderick (2024), *Black Box Variational Inference with a Deterministic Objective*;
      Khan, Rue (2023), *The Bayesian Learning Rule*;
      Nocedal, Wright (2006), *Numerical Optimization*, chapter 7.

    >>> import jax, jaxelbo
    >>> family = jaxelbo.families.full_rank({"a": 0.0})
    >>> algorithm = fixed_draws(lambda z: 2 * z["a"] - jax.numpy.exp(z["a"]), family, num_samples=1000)
    >>> start, key = family.init(jax.random.key(0)), jax.random.key(1)
    >>> result = jaxelbo.run_algorithm(start, key, algorithm, num_steps=20)
    >>> round(float(result.params["loc"][0]), 2)  # log 2 - 1/4
    0.44
    """
    gaussian_targets.check_gaussian(log_joint, family)
    num_samples = checks.check_even_count(num_samples, "num_samples")
    functions = Applied(_init_fixed, (family, num_samples)), Applied(_step_fixed, (log_joint, family))
    return Algorithm(*functions, _params_fixed, _vital_fixed)


def natural_gradient(log_joint: LogJoint, family: Family, *, num_samples: int) -> Algorithm:
    """Raises the bound by natural-gradient steps on new balanced draws each time, of a length that is safe on them.

    In the exponential family's natural parameters the full step is the precision -E_q[Hessian], and the mean a Newton
    step away. Where the log joint is quadratic, one step arrives. Steps keep the noise of their draws. For low rank the
    precision moves towards -H as far as the directions show it, which turn by one subspace iteration a step: S + R
    gradients, memory of order D R.

    Args:
      log_joint: latent pytree -> scalar log p(x, z), in nats; further arguments are ``data``.
      family: `families.full_rank`, `families.mean_field` or `families.low_rank` of a latent.
      num_samples: S, static, even; for low rank a multiple of 4.

    Returns:
      The `Algorithm`, started from the family's params; its ``info`` is a `FixedDrawInfo`, for low rank a
      `low_rank_ascent.LowRankInfo`.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Khan, Rue (2023), *The Bayesian Learning Rule*;
      Opper, Archambeau (2009), *The Variational Gaussian Approximation Revisited*.

    >>> import jax, jaxelbo
    >>> family = jaxelbo.families.full_rank({"a": 0.0})
    >>> algorithm = natural_gradient(lambda z: -0.5 * (z["a"] - 3.0) ** 2, family, num_samples=8)
    >>> start, key = family.init(jax.random.key(0)), jax.random.key(1)
    >>> result = jaxelbo.run_algorithm(start, key, algorithm, num_steps=4)
    >>> round(float(result.params["loc"][0]), 3)
    3.0
    """
    form = gaussian_targets.check_gaussian(log_joint, family, gaussian_targets.ALL_FORMS)
    num_samples = checks.check_even_count(num_samples, "num_samples")
    if form is gaussians.LowRank:
        if num_samples % 4:
            raise ValueError(f"num_samples must be a multiple of 4 for families.low_rank, got {num_samples}.")
        step = Applied(_step_low_rank, (log_joint, family, num_samples))
        return Algorithm(Applied(_init_low_rank, (family,)), step, _params_low_rank)
    functions = Applied(_init_fresh, (family,)), Applied(_step, (log_joint, family, num_samples))
    return Algorithm(*functions, gaussian_targets.params_of, gaussian_targets.place_of)


def laplace(log_joint: LogJoint, family: Family) -> Algorithm:
    """Laplace's method: the mode by Newton's climb, and the inverse of -H there for a covariance.

    It fits the density at its mode, where the bound's optimum fits its mass. The covariance is that of the point before
    the last step, so take one step more than the mode needs; where -H has negative eigenvalues they count by size.

    Args:
      log_joint: latent pytree -> scalar log p(x, z), in nats; further arguments are ``data``.
      family: `families.full_rank` of a latent.

    Returns:
      The `Algorithm`, started from the family's params; its ``info`` is a `climbs.NewtonInfo`.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      MacKay (2003), *Information Theory, Inference, and Learning Algorithms*, chapter 27.

    >>> import jax, jaxelbo
    >>> family = jaxelbo.families.full_rank({"a": 0.0})
    >>> algorithm = laplace(lambda z: 2 * z["a"] - jax.numpy.exp(z["a"]), family)
    >>> start, key = family.init(jax.random.key(0)), jax.random.key(1)
    >>> result = jaxelbo.run_algorithm(start, key, algorithm, num_steps=8)
    >>> round(float(result.params["loc"][0]), 3), round(float(result.params["log_scale"][0]), 3)  # log 2, -log(2) / 2
    (0.693, -0.347)
    """
    if gaussian_targets.check_gaussian(log_joint, family) is not gaussians.Dense:
        raise ValueError(f"laplace has a full covariance: family must be families.full_rank, got {family.name}.")
    functions = Applied(_init_laplace, (log_joint, family)), Applied(_step_laplace, (log_joint, family))
    return Algorithm(*functions, _params_laplace, _vital_laplace)


def _init_fixed(family: Family, num_samples: int, params: Params, key: Key, *data: Any) -> FixedDrawState:
    del data
    place = gaussian_targets.first_place(family, params)
    noise = quasi_random.balanced_normals(key, num_samples, place.loc.size, place.loc.dtype)
    return FixedDrawState(fixed_draw_ascent.start(place, MEMORY), noise)


def _step_fixed(
    log_joint: LogJoint, family: Family, state: FixedDrawState, key: Key, *data: Any
) -> tuple[FixedDrawState, FixedDrawInfo]:
    del key
    density = monte_carlo.log_density(log_joint, family.unflatten, *data)
    ascent, info = fixed_draw_ascent.improve(density, state.ascent, state.noise, None)
    return state._replace(ascent=ascent), info


def _params_fixed(state: FixedDrawState) -> Params:
    return gaussian_targets.params_of(state.ascent)


def _vital_fixed(state: FixedDrawState) -> Place:
    return state.ascent.place


def _init_fresh(family: Family, params: Params, key: Key, *data: Any) -> NaturalGradientState:
    del key, data
    return NaturalGradientState(gaussian_targets.first_place(family, params))


def _step(
    log_joint: LogJoint, family: Family, num_samples: int, state: NaturalGradientState, key: Key, *data: Any
) -> tuple[NaturalGradientState, FixedDrawInfo]:
    place = state.place
    noise = quasi_random.balanced_normals(key, num_samples, place.loc.size, place.loc.dtype)
    density = monte_carlo.log_density(log_joint, family.unflatten, *data)
    ascent, info = fixed_draw_ascent.improve(density, fixed_draw_ascent.start(place, 0), noise, None)
    return NaturalGradientState(ascent.place), info


def _init_low_rank(family: Family, params: Params, key: Key, *data: Any) -> LowRank:
    del key, data
    checks.check_params(params, family)
    return family.distribution(params)


def _step_low_rank(
    log_joint: LogJoint, family: Family, num_samples: int, state: LowRank, key: Key, *data: Any
) -> tuple[LowRank, low_rank_ascent.LowRankInfo]:
    noise = quasi_random.balanced_normals(key, num_samples, state.loc.size, state.loc.dtype)
    density = monte_carlo.log_density(log_joint, family.unflatten, *data)
    return low_rank_ascent.improve(density, state, noise, LENGTH_LOW_RANK)


def _params_low_rank(state: LowRank) -> Params:
    return state._asdict()


def _init_laplace(log_joint: LogJoint, family: Family, params: Params, key: Key, *data: Any) -> newton_climb.Climb:
    del key
    place = gaussian_targets.first_place(family, params)
    first = newton_climb.start(monte_carlo.log_density(log_joint, family.unflatten, *data), place.loc)
    return first._replace(factor=place.factor)


def _step_laplace(
    log_joint: LogJoint, family: Family, state: newton_climb.Climb, key: Key, *data: Any
) -> tuple[newton_climb.Climb, climbs.NewtonInfo]:
    del key
    at = newton_climb.climb(monte_carlo.log_density(log_joint, family.unflatten, *data), state)
    return at, climbs.NewtonInfo(at.value, at.decrement)


def _params_laplace(state: newton_climb.Climb) -> Params:
    return gaussian_moves.gaussian_of(state.point, state.factor)._asdict()


def _vital_laplace(state: newton_climb.Climb) -> tuple[jax.Array, ...]:
    return state.point, state.value, state.factor
