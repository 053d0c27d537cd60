"""How good is this fit? What the importance weights of one set of draws say of it, and a verdict in words.

Floor 4.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxelbo import checks, error_bounds, monte_carlo, pareto, statuses
from jaxelbo.types import Estimate, Family, Key, Latent, LogJoint, Params

VERDICTS = ("good", "usable with importance weights", "poor", "not finite")
NARROW, FAR = 1.5, 2.0
"""A Gaussian so many times narrower than another has weights of Pareto k 1 - 1 / 1.5^2 or more, and one so many of its
standard deviations away an effective size of exp(-4), whatever the largest of few weights say."""
NEAR_SHIFT, NEAR_STRETCH = 0.2, 1.25
"""Of a posterior standard deviation, and of q's: within these, draws of q stand for the posterior."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Verdict:
    """One of `VERDICTS`; outside ``jit`` it reads as a sentence.

    - ``good``: means and standard deviations of q are those of the posterior, and the weights can be trusted to say so.
    - ``usable with importance weights``: they are not, but the weights can be trusted: take the corrected moments, or
      `resampled_draws`.
    - ``poor``: the weights have too heavy a tail (Pareto k above 0.7, unless they are nearly all alike), or q is far
      from the posterior or much narrower somewhere. q misses parts of it, and so do the corrected moments.
    - ``not finite``: the log joint is NaN or +inf at draws of q.

    Attributes:
      code: index into `VERDICTS`, int32.
      pareto_k: of the weights.
      shift: a latent: posterior mean less q's, in posterior standard deviations, so far as the weights know it.
      stretch: a latent: the posterior's standard deviation over q's, likewise.
      num_not_finite: draws at which the log joint is NaN or +inf, int32.
    """

    code: jax.Array
    pareto_k: jax.Array
    shift: Latent
    stretch: Latent
    num_not_finite: jax.Array

    def __str__(self) -> str:
        """The verdict, and the entries that speak against the fit most."""
        if checks.is_traced(self.code):
            return "a traced verdict"
        if np.ndim(self.code):
            return str(np.asarray(VERDICTS)[np.asarray(self.code)])
        name = VERDICTS[int(self.code)]
        if name == "not finite":
            return f"not finite: the log joint is NaN or +inf at {int(self.num_not_finite)} draws of q"
        words = [f"Pareto k {float(self.pareto_k):.2f}"]
        place, size = checks.largest_entry(self.shift, "latent", np.abs)
        if abs(size) > NEAR_SHIFT:
            words.append(f"q's mean of {place} is {abs(size):.1f} sd too {'low' if size > 0 else 'high'}")
        place, size = checks.largest_entry(self.stretch, "latent", _how_far_from_one)
        if not 1 / NEAR_STRETCH < size < NEAR_STRETCH:
            # All weight on one draw leaves no spread at all.
            ratio, word = (size, "narrow") if size > 1 else (1 / size if size else np.inf, "wide")
            words.append(f"q is {ratio:.1f} times too {word} in {place}")
        return f"{name}: {', '.join(words)}"


class Diagnosis(NamedTuple):
    """What one set of draws says of a fit.

    Attributes:
      elbo: the bound and its standard error, in nats.
      log_evidence: the logarithm of the mean smoothed weight, in nats; no bound once smoothed, near log p(x) where
        Pareto k is below 0.7.
      symmetrised_kl: KL(q || p) + KL(p || q) in nats, without the evidence; biased low where Pareto k is above 0.7.
      pareto_k: shape of the largest weights; `pareto.Smoothed`.
      effective_sample_size: of the smoothed weights, between 1 and S.
      mean: a latent: posterior means by the smoothed weights.
      sd: a latent: posterior standard deviations, likewise.
      moment_bounds: how far the moments of q itself can be off; see `error_bounds.moment_bounds`.
      verdict: a `Verdict`; ``str`` of it is a sentence.
    """

    elbo: Estimate
    log_evidence: Estimate
    symmetrised_kl: Estimate
    pareto_k: jax.Array
    effective_sample_size: jax.Array
    mean: Latent
    sd: Latent
    moment_bounds: error_bounds.MomentBounds
    verdict: Verdict


def diagnose(params: Params, key: Key, log_joint: LogJoint, family: Family, *, num_samples: int) -> Diagnosis:
    """Asks S draws of q, weighed by p(x, z) / q(z), how good q is.

    Use a key that no fit has seen. Nothing here finds what no draw of q comes near to, such as another mode. To be
    called inside ``jit`` or outside.

    Args:
      params: the family's parameters.
      key: one random key.
      log_joint: latent pytree -> scalar log p(x, z), in nats; -inf where the posterior has no mass.
      family: q; for moments its latents are read as numbers, indices too.
      num_samples: S, static, at least 100.

    Returns:
      `Diagnosis`.

    Raises:
      TypeError, ValueError: at trace time, naming the argument.

    References:
      Yao, Vehtari, Simpson, Gelman (2018), *Yes, but Did It Work? Evaluating Variational Inference*;
      Vehtari, Simpson, Gelman, Yao, Gabry (2024), *Pareto Smoothed Importance Sampling*.

    >>> import jax, jaxelbo
    >>> log_joint = lambda z: -0.5 * (z["a"] - 1.0) ** 2
    >>> family = jaxelbo.families.mean_field({"a": 0.0}, initial_scale=0.7)
    >>> found = diagnose(family.init(jax.random.key(0)), jax.random.key(1), log_joint, family, num_samples=4_000)
    >>> str(found.verdict)
    "poor: Pareto k 0.72, q's mean of latent['a'] is 0.9 sd too low, q is 1.3 times too narrow in latent['a']"
    """
    checks.check_params(params, family)
    checks.check_key(key)
    checks.check_callable(log_joint, "log_joint")
    num_samples = checks.check_count(num_samples, "num_samples", minimum=100)

    def weigh(key: Key) -> tuple[Latent, jax.Array]:
        latent, log_q = family.sample_and_log_prob(params, key)
        return latent, monte_carlo.evaluate(log_joint, latent, log_q.dtype) - log_q

    latents, raw = monte_carlo.over_samples(weigh, key, num_samples)
    is_fault = jnp.isnan(raw) | (raw == jnp.inf)
    num_not_finite = jnp.sum(is_fault).astype(jnp.int32)
    sound = jnp.where(is_fault, -jnp.inf, raw)
    smoothed = pareto.smooth(sound)
    weights = jnp.exp(smoothed.log_weights)
    latents = jax.tree.map(lambda leaf: leaf.astype(raw.dtype), latents)
    mean, sd = _moments(latents, weights)
    own_mean, own_sd = _moments(latents, jnp.full_like(weights, 1 / num_samples))
    tiny = jnp.finfo(raw.dtype).tiny
    shift = jax.tree.map(lambda ours, q, sd: (ours - q) / jnp.maximum(sd, tiny), mean, own_mean, sd)
    stretch = jax.tree.map(lambda ours, q: jnp.where(ours == q, 1, ours / jnp.maximum(q, tiny)), sd, own_sd)
    size = pareto.effective_sample_size(smoothed.log_weights)
    code = _code(smoothed.pareto_k, shift, stretch, num_not_finite, size, num_samples)
    return Diagnosis(
        elbo=monte_carlo.estimate_of(raw),
        log_evidence=_log_evidence(raw, smoothed.log_weights),
        symmetrised_kl=_symmetrised_kl(raw, weights),
        pareto_k=smoothed.pareto_k,
        effective_sample_size=size,
        mean=mean,
        sd=sd,
        moment_bounds=error_bounds.moment_bounds(sound, latents),
        verdict=Verdict(code, smoothed.pareto_k, shift, stretch, num_not_finite),
    )


def _code(
    pareto_k: jax.Array,
    shift: Latent,
    stretch: Latent,
    num_not_finite: jax.Array,
    size: jax.Array,
    num_samples: int,
) -> jax.Array:
    noise = 3 / jnp.sqrt(size)  # moments of so many draws are no nearer than that
    is_near = functools.reduce(
        jnp.logical_and,
        [jnp.all(jnp.abs(leaf) < NEAR_SHIFT + noise) for leaf in jax.tree.leaves(shift)]
        + [jnp.all(jnp.abs(jnp.log(leaf)) < jnp.log(NEAR_STRETCH) + noise) for leaf in jax.tree.leaves(stretch)],
    )
    far = [jnp.any(jnp.abs(leaf) > FAR) for leaf in jax.tree.leaves(shift)]
    narrow = [jnp.any(leaf > NARROW) for leaf in jax.tree.leaves(stretch)]
    has_tail = pareto.is_heavy(pareto_k, size, num_samples)
    faults = (
        ("not finite", num_not_finite > 0),
        ("poor", functools.reduce(jnp.logical_or, far + narrow, has_tail)),
        ("usable with importance weights", ~is_near),
    )
    return statuses.first_fault(faults, VERDICTS, "good")


def _moments(latents: Latent, weights: jax.Array) -> tuple[Latent, Latent]:
    """Means and standard deviations under normalised weights ``[S]``."""

    def moments(leaf: jax.Array) -> tuple[jax.Array, jax.Array]:
        flat = leaf.reshape(len(weights), -1)
        mean = jnp.sum(weights[:, None] * flat, axis=0)
        sd = jnp.sqrt(jnp.sum(weights[:, None] * (flat - mean[None]) ** 2, axis=0))
        return mean.reshape(leaf.shape[1:]), sd.reshape(leaf.shape[1:])

    leaves, structure = jax.tree.flatten(latents)
    means, sds = zip(*map(moments, leaves), strict=True)
    return structure.unflatten(means), structure.unflatten(sds)


def _log_evidence(raw: jax.Array, log_smoothed: jax.Array) -> Estimate:
    """What smoothing leaves out of the largest weights is counted in: the weights of the rest are as they were."""
    least = jnp.argmin(jnp.where(jnp.isfinite(raw) & jnp.isfinite(log_smoothed), raw, jnp.inf))
    constant = raw[least] - log_smoothed[least]
    share = jnp.exp(log_smoothed) * raw.size
    return Estimate(constant - jnp.log(raw.size), jnp.std(share, ddof=1) / jnp.sqrt(raw.size))


def _symmetrised_kl(raw: jax.Array, weights: jax.Array) -> Estimate:
    """E_p[log w] - E_q[log w]: the evidence cancels. Draws without posterior mass make it infinite."""
    term = jnp.where(weights > 0, raw, 0)
    under_p, under_q = jnp.sum(weights * term), jnp.mean(raw)
    influence = raw.size * weights * (term - under_p) - (raw - under_q)  # both means are of the same draws
    return Estimate(under_p - under_q, jnp.std(influence, ddof=1) / jnp.sqrt(raw.size))


def _how_far_from_one(ratio: np.ndarray) -> np.ndarray:
    return np.abs(np.log(np.maximum(ratio, np.finfo(ratio.dtype).tiny)))
