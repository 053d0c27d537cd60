"""The log evidence from below and from above, each estimate with its standard error and what speaks against it.

Floor 4, above `annealing`.
"""

import functools
import operator
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxelbo import annealing, bound_estimates, bounds, checks, monte_carlo, pareto
from jaxelbo.types import Estimate, Family, Key, LogJoint, Params

LEAST_SHARE = 0.7
"""Of the chains that must count in a mean of weights, forward or inverse: where fewer do, it may have missed some."""

NUM_PILOTS, NUM_ADAPTATIONS = 16, 10
"""Chains of the pilot, and its transitions at the target."""


class LowerBounds(NamedTuple):
    """Estimates of what lies below log p(x), each an `Estimate` in nats, a lower bound in expectation.

    Attributes:
      elbo: the mean log-weight.
      importance_weighted: of k draws for every k from 1 to S, both entries ``[S]``; the first is the ELBO.
      thermodynamic: the left sum along the pilot's temperatures.
      annealing: the log of the mean weight over chains annealed from q to the posterior.
      annealing_one_chain: the mean of their log-weights, which is lower.
    """

    elbo: Estimate
    importance_weighted: Estimate
    thermodynamic: Estimate
    annealing: Estimate
    annealing_one_chain: Estimate


class UpperBounds(NamedTuple):
    """Estimates of what lies above log p(x), each an `Estimate` in nats; `Unreliable` says which to doubt.

    Attributes:
      chi: the chi bound of order 2. Its Monte Carlo form is biased low.
      thermodynamic: the right sum along the pilot's temperatures; biased low, too.
      annealing: minus the log of the mean inverse weight over chains annealed from the posterior to q.
      annealing_one_chain: the mean of their log-weights, which is higher.
    """

    chi: Estimate
    thermodynamic: Estimate
    annealing: Estimate
    annealing_one_chain: Estimate


class Unreliable(NamedTuple):
    """Which upper estimates may lie below log p(x) by more than their standard errors say, booleans.

    Attributes:
      chi: the squared weights have a tail that their mean cannot be read off, Pareto k above 0.7.
      thermodynamic: the weights have such a tail.
      annealing: few chains make up the mean of inverse weights, or of the forward chains' weights, so that what the
        posterior is cannot be said; or it lies below the forward estimate by more than three standard errors.
      not_finite: a log-weight is +inf, all are -inf, or an end of the bracket is not finite; raises the others.
    """

    chi: jax.Array
    thermodynamic: jax.Array
    annealing: jax.Array
    not_finite: jax.Array


class Evidence(NamedTuple):
    """A bracket on log p(x), in nats.

    Attributes:
      lower: the best lower estimate, `LowerBounds.annealing`.
      upper: the best upper estimate, `UpperBounds.annealing`; where that is unreliable ``annealing_one_chain``, which
        leaves room for what the chains' starts have missed.
      gap: upper less lower; negative by chance where both are tight.
      is_upper_unreliable: whether ``upper`` may lie below log p(x) by more than its standard error says.
      lower_bounds: all of them.
      upper_bounds: all of them.
      unreliable: which of these, and why.
      num_gradients: of the log joint, int32.
      num_evaluations: of the log joint without gradient, int32.
      pareto_k, effective_sample_size: of the weights of the S draws of q.
    """

    lower: Estimate
    upper: Estimate
    gap: jax.Array
    is_upper_unreliable: jax.Array
    lower_bounds: LowerBounds
    upper_bounds: UpperBounds
    unreliable: Unreliable
    num_gradients: jax.Array
    num_evaluations: jax.Array
    pareto_k: jax.Array
    effective_sample_size: jax.Array


def evidence(
    params: Params,
    key: Key,
    log_joint: LogJoint,
    family: Family,
    *,
    num_samples: int,
    num_chains: int = 64,
    num_temperatures: int = 20,
    num_transitions: int = 24,
    num_leapfrog: int = 3,
) -> Evidence:
    """A bracket on the log evidence log p(x): what lies below it, what lies above, and how far each can be trusted.

    From S draws of q: the ELBO, importance-weighted bounds for every k up to S, both thermodynamic sums and the chi
    bound. From chains: annealed importance sampling from q to the posterior, a lower bound in expectation whatever the
    chains do, and from the posterior to q, an upper bound in expectation if they start at exact posterior draws. These
    are chosen from another S draws of q by smoothed importance weights, and moved by Hamiltonian Monte Carlo. For
    Gaussian families, with supports or not, chains move in q's own standard coordinates; for others in the flat latent,
    shifted and scaled by draws. A pilot run chooses temperatures and step sizes; its draws estimate nothing.

    Estimand: log p(x). ``lower`` and ``upper`` are always those of annealing, since the highest of noisy lower
    estimates and the lowest of upper ones would cross by selection; where something speaks against the upper one, its
    looser form takes its place, which on the same chains is never below. In expectation lower <= log p(x), at every
    size, and log p(x) <= upper if the starts are exact. ``is_upper_unreliable`` says what speaks against that, but
    nothing can prove it: a mode that no draw of q is near is missed by both sides. A NaN of the log joint counts as
    -inf. Not for differentiation.

    Args:
      params: the family's parameters, such as `infer` returns.
      key: one random key.
      log_joint: latent pytree -> scalar log p(x, z), in nats; differentiable.
      family: q, of a continuous latent.
      num_samples: S, at least 100, static; twice as many values of the log joint are taken.
      num_chains: N in each direction, at least 16, static; of less than 64 the standard errors are too small.
      num_temperatures: steps from q to the posterior, at least 2, static. The gap of one chain falls as 1 / T.
      num_transitions: of each chain at the posterior, before it is annealed back, static.
      num_leapfrog: gradients in each transition, static.

    Returns:
      `Evidence`. Standard errors are of the estimates, not of their distance from log p(x); by the delta method for
      annealing, by groups of draws left out for the rest, and wrong where weights have no variance, which is flagged.

    Raises:
      TypeError, ValueError: at trace time, naming the argument; a family with discrete parts or of a point mass.

    References:
      Grosse, Ghahramani, Adams (2015), *Sandwiching the Marginal Likelihood Using Bidirectional Monte Carlo*;
      and those of `annealing.log_weights`, `bounds.importance_weighted`, `bounds.chi` and `bounds.thermodynamic_left`.

    >>> import jax, jax.numpy as jnp, jaxelbo
    >>> log_joint = lambda z: 3.0 + jnp.sum(jax.scipy.stats.t.logpdf(z["a"], 5))  # log p(x) = 3
    >>> family = jaxelbo.families.mean_field({"a": jnp.zeros(2)}, initial_scale=1.0)
    >>> params = family.init(jax.random.key(0))
    >>> bracket = evidence(params, jax.random.key(1), log_joint, family, num_samples=1000)
    >>> abs(float(bracket.gap)) < 0.1, abs(float(bracket.lower.value) - 3) < 0.1
    (True, True)
    """
    checks.check_callable(log_joint, "log_joint")
    checks.check_params(params, family)
    checks.check_key(key)
    counts = (num_samples, num_chains, num_temperatures, num_transitions, num_leapfrog)
    names = "num_samples", "num_chains", "num_temperatures", "num_transitions", "num_leapfrog"
    least = zip(counts, names, (100, 16, 2, 1, 1), strict=True)
    counts = tuple(checks.check_count(count, name, minimum=minimum) for count, name, minimum in least)
    _check_continuous(params, family)
    if not checks.is_known((params, key)):
        return _bracket(params, key, log_joint, family, counts)
    checks.check_static(log_joint, "log_joint")
    return _compiled_bracket(params, key, log_joint, family, counts)


def _bracket(params: Params, key: Key, log_joint: LogJoint, family: Family, counts: tuple[int, ...]) -> Evidence:
    num_samples, num_chains, num_temperatures, num_transitions, num_leapfrog = counts
    keys = jax.random.split(key, 7)
    path, draw = annealing.path_and_draws(params, keys[0], log_joint, family)
    point = jax.vmap(functools.partial(annealing.point_at, path))

    def weigh(key: Key) -> tuple[jax.Array, jax.Array]:
        position = draw(key)
        target = path.log_target(position)
        return position, jnp.where(jnp.isnan(target), -jnp.inf, target - path.log_base(position))

    # Nothing that holds the log joint runs beside another such: independent batched solves can deadlock XLA on CPUs.
    positions, both_weights = monte_carlo.over_samples(weigh, keys[1], 2 * num_samples)
    log_weights, pool_weights = both_weights[:num_samples], both_weights[num_samples:]
    smoothed = pareto.smooth(pool_weights).log_weights
    chosen = num_samples + jax.random.categorical(keys[2], smoothed, shape=(num_chains,))
    start = monte_carlo.over_samples(draw, keys[3], NUM_PILOTS + num_chains)
    points = point(jnp.concatenate([start, positions[chosen]]))
    parts = slice(NUM_PILOTS), slice(NUM_PILOTS, -num_chains), slice(-num_chains, None)
    pilots, fresh, likely = (jax.tree.map(operator.itemgetter(part), points) for part in parts)
    sizes = {"num_temperatures": num_temperatures, "num_adaptations": NUM_ADAPTATIONS, "num_leapfrog": num_leapfrog}
    schedule = annealing.pilot(path, pilots, keys[4], **sizes)
    sizes = {"num_transitions": num_transitions, "num_leapfrog": num_leapfrog}
    settled = annealing.settle(path, likely, keys[5], schedule.step_sizes[-1], **sizes)
    # Both directions at once: half of the chains along the schedule, half along its reverse.
    chains = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), fresh, settled)
    ways = jax.tree.map(lambda a, b: jnp.stack([a, b]), schedule, annealing.reversed_schedule(schedule))
    both = jax.tree.map(lambda leaf: jnp.repeat(leaf, num_chains, axis=0), ways)
    annealed = annealing.log_weights(path, chains, keys[6], both, num_leapfrog=num_leapfrog)
    num_gradients = NUM_PILOTS * (1 + (num_temperatures + NUM_ADAPTATIONS) * num_leapfrog)
    num_gradients += num_chains * (2 + (2 * (num_temperatures - 1) + num_transitions) * num_leapfrog)
    return _judge(log_weights, annealed, schedule.betas, num_gradients)


_compiled_bracket = jax.jit(_bracket, static_argnums=(2, 3, 4))


def _judge(log_weights: jax.Array, annealed: jax.Array, betas: jax.Array, num_gradients: int) -> Evidence:
    """All estimates, from log-weights of draws ``[S]`` and of chains ``[2 N]``."""
    num_chains = annealed.size // 2
    forward, backward = annealed[:num_chains], annealed[num_chains:]
    lowers = LowerBounds(
        bound_estimates.left_out(bounds.mean, log_weights),
        bound_estimates.importance_weighted_bounds(log_weights),
        bound_estimates.left_out(functools.partial(bounds.thermodynamic_left, betas=betas), log_weights),
        bound_estimates.lower(forward),
        monte_carlo.estimate_of(forward),
    )
    uppers = UpperBounds(
        bound_estimates.left_out(functools.partial(bounds.chi, n=2), log_weights),
        bound_estimates.left_out(functools.partial(bounds.thermodynamic_right, betas=betas), log_weights),
        bound_estimates.upper(backward),
        monte_carlo.estimate_of(backward),
    )
    tolerance = 3 * jnp.hypot(lowers.annealing.standard_error, uppers.annealing.standard_error)
    least = jnp.minimum(pareto.effective_sample_size(forward), pareto.effective_sample_size(-backward))
    is_poor = (least < LEAST_SHARE * num_chains) | (uppers.annealing.value < lowers.annealing.value - tolerance)
    upper = jax.tree.map(lambda a, b: jnp.where(is_poor, a, b), uppers.annealing_one_chain, uppers.annealing)
    ends = jnp.stack([lowers.annealing.value, upper.value])
    is_sound = jnp.all(log_weights < jnp.inf) & jnp.any(log_weights > -jnp.inf) & jnp.all(jnp.isfinite(ends))
    flags = Unreliable(
        pareto.are_heavy(2 * log_weights) | ~is_sound,
        pareto.are_heavy(log_weights) | ~is_sound,
        is_poor | ~is_sound,
        ~is_sound,
    )
    return Evidence(
        lower=lowers.annealing,
        upper=upper,
        gap=upper.value - lowers.annealing.value,
        is_upper_unreliable=flags.annealing,
        lower_bounds=lowers,
        upper_bounds=uppers,
        unreliable=flags,
        num_gradients=jnp.asarray(num_gradients, jnp.int32),
        num_evaluations=jnp.asarray(2 * log_weights.size, jnp.int32),
        pareto_k=pareto.smooth(log_weights).pareto_k,
        effective_sample_size=pareto.effective_sample_size(log_weights),
    )


def _check_continuous(params: Params, family: Family) -> None:
    """Requires densities whose gradients chains can follow; a mixture's are, though its draws carry a score."""
    latent = jax.eval_shape(family.sample, params, jax.random.key(0))
    num_scores = jax.eval_shape(family.score_log_probs, params, latent).shape[0]
    is_floating = all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(latent))
    if family.name == "point_mass" or not is_floating or (num_scores and not family.name.startswith("mixture")):
        raise ValueError(
            f"evidence anneals and needs a family with a density of a continuous latent, which {family.name} has not; "
            "see lower_bound and upper_bound."
        )
