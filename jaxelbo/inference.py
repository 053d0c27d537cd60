"""`infer`: a log joint in, the best Gaussian posterior out, with a word on whether it can be trusted.

Floor 5.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxelbo import (
    checks,
    families,
    flattening,
    gaussian_fits,
    gaussian_moves,
    gaussians,
    low_rank_fits,
    monte_carlo,
    pareto,
    quasi_random,
    richer_fits,
    stepping,
    supports,
)
from jaxelbo.algorithms import gaussian_targets
from jaxelbo.courses import Course
from jaxelbo.richer_fits import Richer
from jaxelbo.statuses import NAMES, Status, first_fault
from jaxelbo.types import Applied, Family, Key, Latent, LogJoint, Params

MAX_SIZE_DENSE = 300
"""Latent entries beyond which no matrix D x D is made."""

RANK = 32
"""Directions of covariance that a full rank gives way to then."""

MOVING = 0.05
"""Nats that a further step would gain, beyond which a fit that stopped is not said to have converged."""


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=(
        "params", "status", "elbo", "elbo_standard_error", "num_gradients", "num_evaluations", "pareto_k",
        "effective_sample_size", "richer",
    ),
    meta_fields=("family",),
)  # fmt: skip
@dataclasses.dataclass(frozen=True)
class Inference:
    """What `infer` found. A pytree whose ``family`` is static.

    Attributes:
      params: of the family.
      family: q; ``draws(params, key, family, ...)`` draws from it.
      status: `statuses.Status`; ``str(status)`` is its name.
      elbo: the bound at params, in nats, from fresh draws.
      elbo_standard_error: of that.
      num_gradients: gradients of the log joint that were computed; a Hessian-vector product counts as one.
      num_evaluations: values of the log joint without gradient.
      pareto_k: of the importance weights p/q at those draws; below 0.7 q is a good approximation.
      effective_sample_size: of those weights, out of ``num_samples``.
      richer: what another family reached from there, a `Richer`; ``None`` where none was asked for.
    """

    params: Params
    family: Family
    status: Status
    elbo: jax.Array
    elbo_standard_error: jax.Array
    num_gradients: jax.Array
    num_evaluations: jax.Array
    pareto_k: jax.Array
    effective_sample_size: jax.Array
    richer: Richer | None


def infer(
    log_joint: LogJoint,
    latent_like: Latent,
    key: Key,
    *,
    family: Callable[[Latent], Family] = families.full_rank,
    support: supports.Supports = None,
    richer: Callable[[jax.Array], Family] | None = None,
    num_samples: int = 1_000,
) -> Inference:
    """The Gaussian nearest to the posterior in KL(q || p), found without tuning, or a status that says it was not.

    It composes algorithms, each with a bound on what it spends. `algorithms.newton` climbs to within reach of a mode
    and secants find the scales there. `algorithms.fixed_draws` raises the bound on a few balanced draws by quasi-Newton
    steps that start from the natural gradient. One to four sets of 128 new draws make a last natural-gradient step,
    until its expected error is small; where it stays larger, pooled draws (`algorithms.pooled_regression`) go on from
    values alone, which all go on counting by their importance weights. (That is up to 24 latent entries; beyond, fixed
    draws go on to the end.) All of it is said in coordinates where q is N(0, I): rescaling or mixing the latent, start
    included, gives the same posterior. The result is judged on fresh draws.

    Beyond 300 latent entries, and for `families.low_rank` always, no matrix D x D is made: a full rank gives way to
    low rank with 32 directions, which the result's ``family`` then is. `algorithms.newton_cg` climbs, Lanczos' method
    and random probes find the curvature that a diagonal and these directions can show, and short natural-gradient
    steps on new draws end it. Rescaling the entries changes nothing; mixing them does.

    Estimand: argmax of the ELBO over the family; the direction is KL(q || p). Where the status is "converged", the fit
    is expected to depend on the key by less than 0.05 nats.

    Args:
      log_joint: latent pytree -> scalar log p(x, z), in nats. Twice differentiable.
      latent_like: a pytree of floating-point arrays, the start; where it holds shapes the start is zero, or what zero
        stands for in a support.
      key: one random key.
      family: constructor of a Gaussian family: `families.full_rank`, `families.mean_field` or
        ``functools.partial(families.low_rank, rank=...)``.
      support: which values each leaf may take, a pytree of `bijectors.Bijector`, as ``{"tau": bijectors.positive}``; in
        dicts what is not named is real. The Gaussian is then of the unconstrained latent, the log-determinants are
        added, and ``family`` is of the latent on the user's scale.
      richer: constructor of a family to go on with where a Gaussian is poor, such as
        ``lambda noise: families.mixture(families.full_rank(noise, initial_scale=1.0), 4)``: of the vector ``[D]`` of
        the Gaussian's standard coordinates. Its bound is raised from there by 500 steps of Adam, and what that gained
        is reported in ``richer``.
      num_samples: S, fresh draws for the ELBO and the importance weights, static, at least 100.

    Returns:
      `Inference`. Never raises for values: see ``status``. In ``jit`` and ``vmap`` it is a pure function of whatever
      is traced, the key, the start or what ``log_joint`` closes over.

    Raises:
      TypeError, ValueError: at trace time, naming the argument: leaves that are not floating-point, an empty pytree, a
        log joint that gives no scalar, a family that is no Gaussian.

    References:
      Challis, Barber (2013), *Gaussian Kullback-Leibler Approximate Inference*;
      Khan, Rue (2023), *The Bayesian Learning Rule*;
      Salimans, Knowles (2013), *Fixed-Form Variational Posterior Approximation through Stochastic Linear Regression*;
      Cornuet, Marin, Mira, Robert (2012), *Adaptive Multiple Importance Sampling*.

    >>> import jax, jax.numpy as jnp, jaxelbo
    >>> log_joint = lambda z: -0.5 * (z["a"] - 1.0) ** 2 / 1e-6 - 0.5 * (z["b"] - 1e3 * z["a"]) ** 2
    >>> result = jaxelbo.infer(log_joint, {"a": 0.0, "b": 0.0}, jax.random.key(0))
    >>> str(result.status)
    'converged'
    >>> location, scale = result.family.location_and_scale(result.params)
    >>> round(float(location["b"])), round(float(scale["b"]), 2)
    (1000, 1.41)
    """
    checks.check_callable(log_joint, "log_joint")
    checks.check_key(key)
    checks.check_callable(family, "family")
    if richer is not None:
        checks.check_callable(richer, "richer")
    num_samples = checks.check_count(num_samples, "num_samples", minimum=100)
    if support is not None:
        constraint = supports.constraint_of(latent_like, support)
        found = infer(
            Applied(supports.unconstrained_log_joint, (log_joint, constraint)),
            supports.unconstrained_like(constraint, latent_like),
            key,
            family=family,
            richer=richer,
            num_samples=num_samples,
        )
        return _constrained(found, constraint)
    layout = flattening.layout_of(latent_like)
    latent = flattening.values_of(latent_like)
    start = flattening.flatten(layout, latent, "latent_like")
    is_traced = not checks.is_known((latent, key))
    if not is_traced:
        checks.check_static(log_joint, "log_joint")
        checks.check_static(family, "family")
    compiled = _compiled_within if is_traced else stepping.compiled
    best, form = (_family_of if is_traced else _kept_family_of)(family, layout)
    key, key_richer = (key, key) if richer is None else jax.random.split(key)
    if form is gaussians.LowRank or layout.size > MAX_SIZE_DENSE:
        params, course, log_weights = compiled(_fit_low_rank, log_joint, best, form, num_samples)(start, key)
    else:
        fit, uniform = compiled(_ascend, log_joint, best, form, num_samples)(start, key)
        may_go_on = form is gaussians.Dense and layout.size <= gaussian_fits.MAX_SIZE_POOLED
        # On the host one can look, and what is not needed is not compiled.
        if may_go_on and (is_traced or not fit.is_exact):
            fit = compiled(_go_on, log_joint, best)(fit, uniform)
        params, course, log_weights = compiled(_weigh, log_joint, best)(fit, uniform)
    status, figures = compiled(_judge, layout)(params, course, log_weights)
    beyond = None
    if richer is not None:
        beyond = compiled(richer_fits.fit, log_joint, best, richer)(params, key_richer, log_weights)
    return Inference(params=params, family=best, status=status, richer=beyond, **figures)


def _constrained(found: Inference, constraint: supports.Constraint) -> Inference:
    """The same for the latent on the user's scale; params and the flat direction are of the unconstrained one."""
    richer = found.richer
    if richer is not None:
        richer = dataclasses.replace(richer, family=_kept_pushforward(richer.family, constraint))
    return dataclasses.replace(found, family=_kept_pushforward(found.family, constraint), richer=richer)


_kept_pushforward = functools.lru_cache(maxsize=64)(families.pushforward)
"""For equal arguments the same family, so that what is compiled for it is found again."""


def _compiled_within(function: Callable[..., Any], *static: Any) -> Callable[..., Any]:
    """As `stepping.compiled`, but kept no longer than the trace whose values ``static`` may close over."""
    return jax.jit(functools.partial(function, *static))


def _family_of(constructor: Callable[[Latent], Family], layout: flattening.Layout) -> tuple[Family, type]:
    """The family that is fitted, and its form."""
    shapes = jax.eval_shape(
        functools.partial(flattening.unflatten, layout), jax.ShapeDtypeStruct((layout.size,), layout.dtype)
    )
    family = constructor(shapes)
    form = gaussian_targets.form_of(family, gaussian_targets.ALL_FORMS)
    if form is gaussians.Dense and layout.size > MAX_SIZE_DENSE:
        return families.low_rank(shapes, rank=RANK), gaussians.LowRank
    return family, form


_kept_family_of = functools.lru_cache(maxsize=64)(_family_of)
"""For equal constructors and layouts the same family, so that the programs compiled for it are found again."""


def _ascend(
    log_joint: LogJoint, family: Family, form: type, num_samples: int, start: jax.Array, key: Key
) -> tuple[gaussian_fits.Fit, jax.Array]:
    """The fit by gradients, and the uniform numbers of it and of all that follows.

    Random bits are made in one place: each other would take as long to compile as the Pareto fit.
    """
    uniform = jax.random.uniform(key, (gaussian_fits.NUM_SHIFTS + num_samples, start.size), start.dtype)
    log_density = monte_carlo.log_density(log_joint, family.unflatten)
    shifts = uniform[: gaussian_fits.NUM_SHIFTS]
    return gaussian_fits.ascend(log_density, start, shifts, is_dense=form is gaussians.Dense), uniform


def _go_on(log_joint: LogJoint, family: Family, fit: gaussian_fits.Fit, uniform: jax.Array) -> gaussian_fits.Fit:
    """And by values, where these are needed."""
    log_density = monte_carlo.log_density(log_joint, family.unflatten)
    return gaussian_fits.go_on(log_density, fit, uniform[: gaussian_fits.NUM_SHIFTS])


def _weigh(
    log_joint: LogJoint, family: Family, fit: gaussian_fits.Fit, uniform: jax.Array
) -> tuple[Params, Course, jax.Array]:
    """Params, course, and the log-weights of fresh draws.

    These are by the place's own root, which unlike the family's does not depend on the coordinates.
    """
    log_density = monte_carlo.log_density(log_joint, family.unflatten)
    place, noise = fit.place, quasi_random.normals_of(uniform[gaussian_fits.NUM_SHIFTS :])
    log_q = -0.5 * jnp.sum(noise**2, axis=1) - place.log_det - place.loc.size * 0.5 * math.log(2 * math.pi)
    log_weights = jax.vmap(log_density)(gaussian_moves.points(place, noise)) - log_q
    params = gaussian_moves.gaussian_of(place.loc, place.factor)._asdict()
    return params, fit.course, jnp.where(jnp.isnan(log_weights), -jnp.inf, log_weights)


def _fit_low_rank(
    log_joint: LogJoint, family: Family, form: type, num_samples: int, start: jax.Array, key: Key
) -> tuple[Params, Course, jax.Array]:
    """The same in many dimensions."""
    key_fit, key_judge = jax.random.split(key)
    rank = min(RANK, start.size)
    if form is gaussians.LowRank:
        rank = jax.eval_shape(lambda: family.distribution(family.init(jax.random.key(0)))).log_stretch.size
    log_density = monte_carlo.log_density(log_joint, family.unflatten)
    is_diagonal = form is gaussians.Diagonal
    q, course = low_rank_fits.fit(log_density, start, key_fit, rank=rank, is_diagonal=is_diagonal)
    params = q._asdict()
    return (
        params,
        course,
        monte_carlo.log_weights_in_parts(params, key_judge, log_joint, family, num_samples, start.size),
    )


def _judge(
    layout: flattening.Layout, params: Params, course: Course, log_weights: jax.Array
) -> tuple[Status, dict[str, jax.Array]]:
    """The first fault that holds, or "converged", and what the log-weights say."""
    elbo, pareto_k = jnp.mean(log_weights), pareto.smooth(log_weights).pareto_k
    effective_sample_size = pareto.effective_sample_size(log_weights)
    is_finite = functools.reduce(jnp.logical_and, [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(params)])
    faults = (
        ("not finite", ~course.is_finite_at_start),
        ("no mode found", ~course.has_mode),
        ("flat direction", jnp.any(course.flat_direction != 0)),
        ("not finite", ~(is_finite & jnp.isfinite(elbo))),
        ("step limit", ~(course.gain < MOVING)),
        ("poor fit", pareto.is_heavy(pareto_k, effective_sample_size, log_weights.size)),
    )
    code = first_fault(faults, NAMES, "converged")
    return Status(code, flattening.unflatten(layout, course.flat_direction)), {
        "elbo": elbo,
        "elbo_standard_error": jnp.std(log_weights, ddof=1) / math.sqrt(log_weights.size),
        "num_gradients": course.num_gradients,
        "num_evaluations": course.num_evaluations + log_weights.size,
        "pareto_k": pareto_k,
        "effective_sample_size": effective_sample_size,
    }
