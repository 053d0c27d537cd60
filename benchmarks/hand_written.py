"""The gradient estimators by hand, in bare JAX, as one would write each for speed on one model.

Each function returns a surrogate, averaged over a batch, whose ``jax.grad`` is the estimator; its value is of no use.
Draws ``[S, B, D]`` come from one key and ``log_joint`` takes them whole. ``slope * logits`` with the slope held fixed
stands wherever a gradient is known in closed form.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

stop = jax.lax.stop_gradient
softplus, sigmoid = jax.nn.softplus, jax.nn.sigmoid
Array = jax.Array
LogJoint = Callable[[Any, Any], Array]
"""``(draws [..., B, D], model parameters) -> [..., B]``."""


def bits(logits: Array, key: Array, num_samples: int) -> Array:
    """Zeros and ones ``[S, B, D]``."""
    uniform = jax.random.uniform(key, (num_samples, *logits.shape))
    return (uniform < sigmoid(stop(logits))).astype(logits.dtype)


def log_q(values: Array, logits: Array) -> Array:
    """Log-probability of bits, ``[S, B]``."""
    return jnp.sum(values * logits, axis=-1) - jnp.sum(softplus(logits), axis=-1)


def less_mean_of_others(values: Array) -> Array:
    """Each value less the mean of the others, divided by S, along the first axis."""
    return (values - jnp.mean(values, axis=0)) / (values.shape[0] - 1)


def scored(logits: Array, model: Any, key: Array, log_joint: LogJoint, num_samples: int, signal: Callable) -> Array:
    """Score function with the signal that ``signal`` makes of log-weights ``[S, B]``."""
    z = bits(logits, key, num_samples)
    log_p, score = log_joint(z, model), log_q(z, logits)
    return jnp.mean(jnp.mean(log_p, axis=0) + jnp.sum(stop(signal(log_p - score)) * score, axis=0))


leave_one_out = functools.partial(scored, signal=less_mean_of_others)


def score_function(logits: Array, model: Any, key: Array, log_joint: LogJoint, num_samples: int) -> Array:
    """No baseline."""
    return scored(logits, model, key, log_joint, num_samples, lambda log_weights: log_weights / num_samples)


def with_baseline(logits: Array, model: Any, key: Array, log_joint: LogJoint, num_samples: int, baseline: float):
    """A constant baseline."""
    return scored(logits, model, key, log_joint, num_samples, lambda weights: (weights - baseline) / num_samples)


def vimco(logits: Array, model: Any, key: Array, log_joint: LogJoint, num_samples: int) -> Array:
    """VIMCO: each draw's log-weight replaced by the mean of the others."""
    z = bits(logits, key, num_samples)
    log_p, score = log_joint(z, model), log_q(z, logits)
    log_weights = stop(log_p - score)
    others = (jnp.sum(log_weights, axis=0) - log_weights) / (num_samples - 1)
    is_self = jnp.eye(num_samples, dtype=bool)[:, :, None]
    total = jax.nn.logsumexp(log_weights, axis=0)
    without = jax.nn.logsumexp(jnp.where(is_self, others[:, None], log_weights[None]), axis=1)
    weights = jnp.exp(log_weights - total)
    return jnp.mean(jnp.sum(weights * log_p + (total - without - weights) * score, axis=0))


def antithetic(logits: Array, model: Any, key: Array, log_joint: LogJoint, num_samples: int, slope: Callable) -> Array:
    """The mean over pairs, and a slope made of (uniform, pair, half the difference of their log-weights)."""
    uniform = jax.random.uniform(key, (num_samples, *logits.shape))
    threshold = sigmoid(-stop(logits))
    pair = jnp.stack([uniform > threshold, 1 - uniform > threshold]).astype(logits.dtype)
    log_p = log_joint(pair, model)
    weights = stop(log_p - jnp.sum(pair * logits, axis=-1))  # the log-partition cancels in the difference
    slopes = slope(uniform, pair, 0.5 * (weights[0] - weights[1])[..., None])
    return jnp.mean(jnp.mean(log_p, axis=(0, 1)) + jnp.sum(jnp.mean(slopes, axis=0) * logits, axis=-1))


def arm(logits: Array, model: Any, key: Array, log_joint: LogJoint, num_samples: int) -> Array:
    """ARM."""
    slope = lambda uniform, pair, half: half * (2 * uniform - 1)  # noqa: E731
    return antithetic(logits, model, key, log_joint, num_samples, slope)


def disarm(logits: Array, model: Any, key: Array, log_joint: LogJoint, num_samples: int) -> Array:
    """DisARM."""
    size = sigmoid(jnp.abs(stop(logits)))
    slope = lambda uniform, pair, half: half * (pair[0] - pair[1]) * size  # noqa: E731
    return antithetic(logits, model, key, log_joint, num_samples, slope)


def controlled(
    logits: Array, model: Any, key: Array, log_joint: LogJoint, num_samples: int,
    control: Callable[[Any, Array], Array], tuned: tuple[Array, Any],
) -> Array:  # fmt: skip
    """REBAR and RELAX: the gradient in logits in closed form; its squared norm trains ``tuned`` where one asks for it.

    ``control(control params, relaxed [S, B, D]) -> [S, B]``; ``tuned`` is (temperature, control params).
    """
    fixed, (temperature, control_params) = stop(logits), tuned
    shape, tiny = (2, num_samples, *logits.shape), jnp.finfo(logits.dtype).tiny
    first, second = jax.random.uniform(key, shape, minval=tiny)
    z = fixed + jnp.log(first) - jnp.log1p(-first)
    hard = (z > 0).astype(logits.dtype)
    sign = 2 * hard - 1
    bent = jnp.log(second) + sign * fixed
    soft, again = sigmoid(z / temperature), sigmoid(sign * (softplus(bent) - jnp.log1p(-second)) / temperature)
    log_p = log_joint(hard, model)
    slope = jax.grad(lambda z: jnp.sum(control(control_params, z)))(soft)
    value_again, pull_back = jax.vjp(lambda z: control(control_params, z), again)
    (slope_again,) = pull_back(jnp.ones_like(value_again))
    signal = stop(log_p - log_q(hard, fixed)) - value_again
    of_paths = slope * soft * (1 - soft) - slope_again * again * (1 - again) * sigmoid(bent)
    gradient = signal[..., None] * (hard - sigmoid(fixed)) + of_paths / temperature
    norms = jnp.sum(gradient**2, axis=-1)
    return jnp.mean(log_p - norms + jnp.sum(stop(gradient) * logits, axis=-1))


def gumbel_softmax(
    logits: Array, model: Any, key: Array, log_joint: LogJoint, num_samples: int, temperature: float, hard: bool = False
) -> Array:
    """Relaxed draws; with ``hard`` the straight-through estimator."""
    uniform = jax.random.uniform(key, (num_samples, *logits.shape), minval=jnp.finfo(logits.dtype).tiny)
    z = logits + jnp.log(uniform) - jnp.log1p(-uniform)
    soft = sigmoid(z / temperature)
    draw = soft + stop((z > 0) - soft) if hard else soft
    return jnp.mean(log_joint(draw, model) - log_q(draw, logits))


def by_part(
    logits: Array, model: Any, key: Array, log_joint: LogJoint, num_samples: int,
    rewards: Callable[[Array, Any, Array], Array],
) -> Array:  # fmt: skip
    """Each part answers for its own rewards ``(z, model, scores) -> [S, B, P]``: reward to go, Rao-Blackwellised."""
    z = bits(logits, key, num_samples)
    scores = z * logits - softplus(logits)
    signals = less_mean_of_others(stop(rewards(z, model, scores)))
    return jnp.mean(jnp.mean(log_joint(z, model), axis=0) + jnp.sum(signals * scores, axis=(0, 2)))


def recurrent(
    step: Callable[..., Any], carry: Any, model: Any, key: Array, terms: Callable[..., Array], shape: tuple[int, ...]
) -> Array:
    """Reward to go of a recurrent policy: draws and their scores from one scan; ``shape`` is [T, S, B, D]."""

    def body(state: Any, uniform: Array) -> Any:
        carry, logits = step(*state)
        z = (uniform < sigmoid(stop(logits))).astype(logits.dtype)
        return (carry, z), (z, jnp.sum(z * logits - softplus(logits), axis=-1))

    _, (z, scores) = jax.lax.scan(body, (carry, jnp.zeros(shape[1:])), jax.random.uniform(key, shape))
    rewards = terms(z, model)
    to_go = jax.lax.cumsum(stop(rewards - scores), reverse=True)
    signals = (to_go - jnp.mean(to_go, axis=1, keepdims=True)) / (shape[1] - 1)
    return jnp.mean(jnp.sum(jnp.mean(rewards, axis=1) + jnp.sum(signals * scores, axis=1), axis=0))


def gaussian(
    q: tuple[Array, Array], model: Any, key: Array, log_joint: LogJoint, num_samples: int, landing: bool = False
) -> Array:
    """Pathwise with log q of the noise, which is also the form with the entropy; or sticking the landing."""
    loc, log_scale = q
    noise = jax.random.normal(key, (num_samples, *loc.shape))
    z = loc + jnp.exp(log_scale) * noise
    log_p = jnp.mean(log_joint(z, model), axis=0)
    if landing:
        return jnp.mean(log_p + jnp.sum(jnp.mean(noise * jnp.exp(-stop(log_scale)) * z, axis=0), axis=-1))
    return jnp.mean(log_p + jnp.sum(log_scale, axis=-1))


def doubly_reparameterised(
    q: tuple[Array, Array], model: Any, key: Array, log_joint: LogJoint, num_samples: int
) -> Array:
    """Squared weights for q, weights for the model, from one backward pass of the model."""
    loc, log_scale = q
    noise = jax.random.normal(key, (num_samples, *loc.shape))
    z = loc + jnp.exp(log_scale) * noise
    log_p, pull_back = jax.vjp(log_joint, stop(z), stop(model))
    weights = jax.nn.softmax(log_p + 0.5 * jnp.sum(noise**2, axis=-1), axis=0)
    slopes, model_slopes = pull_back(weights / loc.shape[0])
    weights = weights[..., None]
    slopes = weights * (slopes + weights / loc.shape[0] * noise * jnp.exp(-log_scale))
    of_model = sum(jnp.vdot(s, m) for s, m in zip(*map(jax.tree.leaves, (model_slopes, model)), strict=True))
    return of_model + jnp.sum(stop(slopes) * z)


def measures_of_bits(logits: Array, model: Any, key: Array, log_joint: LogJoint, num_samples: int) -> Array:
    """Weak derivatives: each bit one and zero in turn, one of which is the draw itself."""
    z = bits(logits, key, num_samples)
    flips = jnp.where(jnp.eye(logits.shape[-1], dtype=bool)[:, None], 1 - z[:, None], z[:, None])  # [S, D, B, D]
    values = log_joint(z, model)
    differences = jnp.moveaxis(stop(values[:, None] - log_joint(flips, model)), 1, -1) * (2 * z - 1)
    slopes = sigmoid(stop(logits)) * sigmoid(-stop(logits)) * jnp.mean(differences, axis=0)
    entropy = jnp.sum(softplus(logits) - sigmoid(logits) * logits, axis=-1)
    return jnp.mean(jnp.mean(values, axis=0) + jnp.sum(slopes * logits, axis=-1) + entropy)


def measures_of_gaussian(
    q: tuple[Array, Array], model: Any, key: Array, log_joint: LogJoint, num_samples: int
) -> Array:
    """Weak derivatives: Rayleigh numbers for locations, a Maxwell number against a normal one for scales."""
    loc, log_scale = q
    scale, shape = stop(jnp.exp(log_scale)), (num_samples, *loc.shape)
    keys = jax.random.split(key, 5)
    values = log_joint(stop(loc) + scale * jax.random.normal(keys[0], shape), model)
    others = stop(loc) + scale * jax.random.normal(keys[1], shape)
    rayleigh = jnp.sqrt(2 * jax.random.exponential(keys[2], shape))
    maxwell = jax.random.double_sided_maxwell(keys[3], 0.0, 1.0, shape)
    offsets = jnp.stack([rayleigh, -rayleigh, maxwell, maxwell * jax.random.uniform(keys[4], shape)])
    is_self = jnp.eye(loc.shape[-1], dtype=bool)[:, None]
    moved = jnp.where(is_self, (stop(loc) + scale * offsets)[:, :, None], others[:, None])  # [4, S, D, B, D]
    right, left, wide, narrow = jnp.mean(stop(log_joint(moved, model)), axis=1).swapaxes(-1, -2)
    of_loc = jnp.sum((right - left) / (scale * jnp.sqrt(2 * jnp.pi)) * loc, axis=-1)
    return jnp.mean(jnp.mean(values, axis=0) + of_loc + jnp.sum((wide - narrow + 1) * log_scale, axis=-1))


def enumeration(log_probs: Array, log_joints: Array) -> Array:
    """The exact bound of one categorical a datum, ``[B, M]`` each."""
    return jnp.mean(jnp.sum(jnp.exp(log_probs) * (log_joints - log_probs), axis=-1))


def without_replacement(
    logits: Array, model: Any, key: Array, log_joint: Callable[..., Array], num_samples: int
) -> Array:
    """The unordered-set estimator of one category a datum; one recursion over subsets gives all its ratios."""
    log_probs = jax.nn.log_softmax(logits)
    chosen = jax.lax.top_k(stop(log_probs) + jax.random.gumbel(key, logits.shape), num_samples)[1]  # [B, S]
    log_prob = jnp.take_along_axis(log_probs, chosen, axis=1)
    probabilities = stop(jnp.exp(log_prob))
    is_left = jnp.all(jnp.arange(logits.shape[1])[None, :, None] != chosen[:, None], axis=-1)
    rest = jnp.sum(jnp.where(is_left, stop(jnp.exp(log_probs)), 0), axis=1)
    columns = frozenset(range(num_samples))
    chance = {frozenset(): jnp.ones_like(rest)}  # that a set is drawn first from itself and the rest
    for subset in itertools.chain.from_iterable(
        itertools.combinations(columns, size) for size in range(1, num_samples + 1)
    ):
        members = frozenset(subset)
        mass = rest + sum(probabilities[:, i] for i in members)
        chance[members] = sum(probabilities[:, i] * chance[members - {i}] for i in members) / mass
    first = jnp.stack([chance[columns - {i}] / chance[columns] for i in columns], axis=1)
    second = jnp.stack(
        [
            jnp.stack([chance[columns - {i, j}] / chance[columns - {i}] if i != j else jnp.ones_like(rest)
                       for j in columns], axis=1) for i in columns
        ], axis=1,
    )  # fmt: skip
    log_p = log_joint(chosen, model)
    values = stop(log_p - log_prob)
    baselines = jnp.sum(second * (probabilities * values)[:, None], axis=-1)
    weights = probabilities * first
    return jnp.mean(jnp.sum(weights * (log_p + (values - baselines) * log_prob), axis=-1))
