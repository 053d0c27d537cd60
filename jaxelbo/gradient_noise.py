"""How noisy each estimator is on one's own problem, and at what cost: so that the choice is made by measurement.

Floor 4.
"""

import functools
import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxelbo import bounds, checks, estimators
from jaxelbo.types import Bound, Estimator, Family, Key, Latent, LogJoint, Params

ESTIMATORS: dict[str, Estimator] = {
    "leave_one_out": estimators.leave_one_out,
    "pathwise": estimators.pathwise,
    "sticking_the_landing": estimators.sticking_the_landing,
    "doubly_reparameterised": estimators.doubly_reparameterised,
    "closed_form_entropy": estimators.closed_form_entropy,
    "score_function": estimators.score_function,
    "enumeration": estimators.enumeration,
    "without_replacement": estimators.without_replacement,
    "rebar": estimators.rebar(),
    "arm": estimators.arm,
    "disarm": estimators.disarm,
    "measure_valued": estimators.measure_valued,
}
"""The unbiased estimators that need nothing but the problem; those that hold for it are compared by default."""


class GradientNoise(NamedTuple):
    """One row of a `gradient_report`.

    Attributes:
      name: the estimator's.
      mean: the mean gradient, like params.
      variance: total variance of one gradient, summed over all entries of params.
      signal_to_noise: for each leaf, like params with scalar leaves, the norm of its mean gradient over the root of its
        total variance; infinite where a leaf has no variance.
      evaluations: how often one gradient evaluates the log joint; 0 where terms of it take its place; where a program
        has it twice for the compiler to merge, both count.
      seconds: median time of one gradient, by itself, compiled.
      variance_times_seconds: what to compare by; where it is twice as large, the same precision takes twice as long.
        Of bias it says nothing: `jaxelbo.validity` does.
    """

    name: str
    mean: Params
    variance: float
    signal_to_noise: Params
    evaluations: int
    seconds: float
    variance_times_seconds: float


class GradientReport(NamedTuple):
    """Rows in the order of the estimators, and what the report left out.

    Attributes:
      rows: one `GradientNoise` an estimator.
      refused: name -> why the estimator does not hold for this problem.
    """

    rows: tuple[GradientNoise, ...]
    refused: dict[str, str]


def gradient_report(
    params: Params,
    key: Key,
    log_joint: LogJoint,
    family: Family,
    estimators: Mapping[str, Estimator] | None = None,
    *,
    bound: Bound = bounds.mean,
    num_samples: int = 4,
    num_replicates: int = 1_000,
    num_timings: int = 20,
) -> GradientReport:
    """Measures each estimator's gradient at these params: its variance, signal-to-noise ratio and time.

    Each estimator is compiled twice and run: `num_replicates` gradients at once for the variance, and single gradients
    for the time. Run it outside ``jit``. `jaxelbo.print_gradient_report` shows it as a table.

    Args:
      params: where to measure, the family's.
      key: one random key; all estimators get the same.
      log_joint: latent -> scalar log p(x, z).
      family: q.
      estimators: name -> estimator; by default those of `ESTIMATORS`.
      bound: log-weights ``[S]`` -> scalar.
      num_samples: S for all of them.
      num_replicates: gradients behind each variance, at least 2; its own relative error is about sqrt(2 / replicates).
      num_timings: single gradients behind each time, at least 1.

    Returns:
      `GradientReport`; estimators that do not hold for the problem are in its ``refused``.

    Raises:
      TypeError, ValueError: naming the argument; all estimators refused.

    References:
      Mohamed, Rosca, Figurnov, Mnih (2020), *Monte Carlo Gradient Estimation in Machine Learning*.

    >>> import jax, jaxelbo
    >>> family = jaxelbo.families.bernoulli(jax.numpy.zeros(2))
    >>> params, key = family.init(jax.random.key(0)), jax.random.key(1)
    >>> choices = {"plain": jaxelbo.estimators.score_function, "exact": jaxelbo.estimators.enumeration}
    >>> report = gradient_report(params, key, lambda z: z[0] - z[1] - 9.0, family, choices)
    >>> plain, exact = report.rows
    >>> plain.evaluations, exact.evaluations, plain.variance > 1.0, exact.variance < 1e-9
    (4, 4, True, True)
    """
    checks.check_params(params, family)
    checks.check_key(key)
    checks.check_callable(log_joint, "log_joint")
    checks.check_bound(bound)
    num_samples = checks.check_count(num_samples, "num_samples")
    num_replicates = checks.check_count(num_replicates, "num_replicates", minimum=2)
    num_timings = checks.check_count(num_timings, "num_timings")
    if checks.is_traced((params, key)):
        raise TypeError("gradient_report measures time and must be called outside jit, vmap and grad.")
    if estimators is not None and not isinstance(estimators, Mapping):
        raise TypeError(f"estimators must be a mapping from names to estimators, got {checks.describe(estimators)}.")
    # A mistake in the log joint is the user's to see, and no refusal.
    jax.eval_shape(lambda p, k: checks.check_scalar(log_joint(family.sample(p, k)), "log_joint"), params, key)
    rows, refused = [], {}
    for name, estimator in (ESTIMATORS if estimators is None else estimators).items():
        checks.check_callable(estimator, f"estimators[{name!r}]")
        checks.check_estimator(estimator)

        def value(params: Params, key: Key, log_joint: LogJoint = log_joint, estimator: Estimator = estimator):
            return estimator(params, key, log_joint, family, bound, num_samples)

        try:
            jax.eval_shape(value, params, key)
        except (TypeError, ValueError) as error:
            refused[name] = str(error)
            continue
        rows.append(_measure(name, value, params, key, log_joint, num_replicates, num_timings))
    if not rows:
        raise ValueError("no estimator holds for this problem: " + "; ".join(refused.values()))
    return GradientReport(tuple(rows), refused)


def _measure(
    name: str,
    value: Callable[..., jax.Array],
    params: Params,
    key: Key,
    log_joint: LogJoint,
    num_replicates: int,
    num_timings: int,
) -> GradientNoise:
    gradient = jax.grad(value)
    samples = jax.jit(jax.vmap(gradient, (None, 0)))(params, jax.random.split(key, num_replicates))
    means = jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), samples)
    variances = jax.tree.map(lambda leaf: jnp.sum(jnp.var(leaf, axis=0, ddof=1)), samples)
    variance = float(sum(jax.tree.leaves(variances)))
    seconds = _median_seconds(jax.jit(gradient), params, key, num_timings)
    return GradientNoise(
        name=name,
        mean=means,
        variance=variance,
        signal_to_noise=jax.tree.map(_signal_to_noise, means, variances),
        evaluations=_count_evaluations(value, params, key, log_joint),
        seconds=seconds,
        variance_times_seconds=variance * seconds,
    )


def _signal_to_noise(mean: jax.Array, variance: jax.Array) -> float:
    return float(jnp.where(variance > 0, jnp.linalg.norm(mean) / jnp.sqrt(variance), jnp.inf))


def _median_seconds(program: Callable[..., Params], params: Params, key: Key, num_timings: int) -> float:
    jax.block_until_ready(program(params, key))
    times = []
    for _ in range(num_timings):
        start = time.perf_counter()
        jax.block_until_ready(program(params, key))
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _count_evaluations(value: Callable[..., jax.Array], params: Params, key: Key, log_joint: LogJoint) -> int:
    """Runs one gradient with a log joint that reports each evaluation to the host."""
    calls: list[None] = []

    def counted(latent: Latent) -> jax.Array:
        # One call a draw: under vmap a callback runs for each row of what it is given.
        jax.debug.callback(lambda _: calls.append(None), jax.tree.leaves(latent)[0])
        return log_joint(latent)

    jax.block_until_ready(jax.jit(jax.grad(functools.partial(value, log_joint=counted)))(params, key))
    jax.effects_barrier()
    return len(calls)
