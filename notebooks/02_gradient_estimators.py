# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Gradient estimators
#
# **One question:** which gradient estimator is right, and which is quiet?
#
# The bound $L(\phi) = \mathbb{E}_{q_\phi}[\log p(X, Z) - \log q_\phi(Z)]$ is raised along its gradient in $\phi$, and
# $\phi$ stands below the expectation. The library has one value, the bound at draws of $q$, and many ways to
# differentiate it. Two things tell them apart: whether the mean of the gradient is the exact one (its *bias*), and how
# far one gradient is from that mean (its *variance*). Here both are measured, for every estimator of the library, on two
# problems small enough that the exact gradient is known from outside: five bits, and two real numbers.

# %%
import functools
import os
from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from IPython.display import Markdown
from scipy import special, stats

import jaxelbo
from jaxelbo import bounds, estimators, families

SHORT = os.environ.get("JAXELBO_SHORT") == "1"  # fewer gradients and fewer points, for the tests
NUM_GRADIENTS = 10_000 if SHORT else 100_000
FAST_COMPILE = {"xla_backend_optimization_level": 0}  # each program here runs a few times only
BLUE, RED, GREY, GOLD, GREEN = "#1f6f8b", "#c8553d", "#8a949b", "#d9a441", "#5b8c5a"
plt.rcParams.update({"figure.dpi": 110, "axes.spines.top": False, "axes.spines.right": False, "font.size": 10})
plt.rcParams.update({"legend.frameon": False, "axes.titlesize": 10.5, "axes.titlelocation": "left"})

# %% [markdown]
# ## Five bits
#
# A counter is read once an hour. A source is in the room ($z_t = 1$) or not; it tends to stay where it is, and half of
# what it brought is still there in the next hour:
#
# $$p(z_1) = \tfrac12, \quad p(z_t = z_{t-1}) = 0.8, \qquad x_t \sim \mathrm{Poisson}(1 + 3\,(z_t + \tfrac12 z_{t-1})) .$$
#
# The log joint is a sum of five terms, the $t$-th of which sees $z_t$ and $z_{t-1}$ alone. Two of the estimators use
# that. It is written with products rather than comparisons, so that it also has values between 0 and 1, where
# relaxations go.

# %%
x = np.array([1.0, 5.0, 7.0, 3.0, 1.0])
D = len(x)


def terms_by_hour(z):
    before = jnp.concatenate([jnp.zeros(1), z[:-1]])
    rate = 1 + 3 * (z + before / 2)
    poisson = x * jnp.log(rate) - rate - special.gammaln(x + 1)
    stays = 0.2 + 0.6 * (z * before + (1 - z) * (1 - before))
    return poisson + jnp.log(jnp.where(jnp.arange(D) == 0, 0.5, stays))


def log_joint(z):
    return jnp.sum(terms_by_hour(z))


def terms_that_involve(z):
    """Entry i: the sum of all terms in which bit i stands, those of its own hour and of the next."""
    terms = terms_by_hour(z)
    return terms + jnp.append(terms[1:], 0.0)


bits = families.bernoulli(jnp.zeros(D))
params = {"logits": jnp.array([-0.6, 0.9, 0.4, 0.8, -0.5])}

# %% [markdown]
# ### The exact gradient, from outside
#
# With $2^5 = 32$ configurations the gradient is a sum. We write it in NumPy, in double precision, with the model written
# a second time and nothing of the library: with $\pi_i = q(z_i = 1)$,
# $\;\partial L / \partial\,\mathrm{logit}_i = \sum_z q(z)\,(\log p(x, z) - \log q(z))\,(z_i - \pi_i)$.

# %%
Z = np.array([[(number >> i) & 1 for i in range(D)] for number in range(2**D)])


def log_joint_in_numpy(z):
    total = np.log(0.5)
    for t in range(D):
        before = z[t - 1] if t else 0
        total += stats.poisson.logpmf(x[t], 1 + 3 * z[t] + 1.5 * before)
        total += np.log(0.8 if z[t] == before else 0.2) if t else 0
    return total


log_p = np.array([log_joint_in_numpy(z) for z in Z])
posterior = np.exp(log_p - special.logsumexp(log_p))
probability = special.expit(np.asarray(params["logits"], float))
log_q = np.sum(np.where(Z == 1, np.log(probability), np.log1p(-probability)), axis=1)
exact = (np.exp(log_q) * (log_p - log_q)) @ (Z - probability)
print("exact gradient   ", exact.round(4))
print("probability in q ", probability.round(2), "  in the posterior", (posterior @ Z).round(2))

# %% [markdown]
# ### How we measure
#
# One program makes many gradients at once, each from a key of its own. What an estimator may learn (a baseline, a
# temperature, a control variate) is an argument of the program, `learned`.


# %%
@functools.partial(
    jax.jit, static_argnames=("make", "log_joint", "family", "num_samples", "bound"), compiler_options=FAST_COMPILE
)
def gradients(params, learned, keys, make, log_joint, family, num_samples, bound):
    """A gradient a key, ``[N, number of parameters]``."""

    def value(params, key):
        estimator = make(learned)
        return jaxelbo.lower_bound(
            params, key, log_joint, family, bound=bound, num_samples=num_samples, estimator=estimator
        )

    rows = jax.vmap(jax.grad(value), (None, 0))(params, keys)
    return jnp.concatenate(jax.tree.leaves(rows), axis=1)


class Measured(NamedTuple):
    gradients: np.ndarray
    mean: np.ndarray
    standard_error: np.ndarray
    variance: float  # of one gradient, summed over its entries


def measure(
    make, learned=(), params=params, *, log_joint=log_joint, family=bits, num_samples=4, bound=bounds.mean, seed=0
):
    keys = jax.random.split(jax.random.key(seed), NUM_GRADIENTS)
    sample = np.asarray(gradients(params, learned, keys, make, log_joint, family, num_samples, bound), float)
    variances = np.var(sample, axis=0, ddof=1)
    return Measured(sample, np.mean(sample, axis=0), np.sqrt(variances / NUM_GRADIENTS), float(np.sum(variances)))


def is_unbiased(measured, exact):
    """Every entry of the mean within four standard errors of the exact gradient (and float32's rounding)."""
    return bool(np.all(np.abs(measured.mean - exact) < 4 * measured.standard_error + 2e-5))


def plain(estimator):
    """For those that learn nothing."""
    return lambda learned: estimator


# %% [markdown]
# ### What can be learned, learns first
#
# The plain score function, $(\log p - \log q)\,\nabla \log q$, is right and very noisy: here log-weights are near -15, and
# that constant, which says nothing about any bit, multiplies every score. A *baseline* is subtracted from them, a
# *control variate* is subtracted and put back in a quieter form. Five estimators learn theirs, and each trains it by the
# very gradient that trains $q$: `jax.grad` of the bound, taken in what is to be learned. We hold $q$ still and look at
# the variance along the way.
#
# - `learned_baseline`: one number, by least squares.
# - `moving_average`: the running mean of log-weights; a state, nothing to differentiate.
# - `nvil`: both, and the signal divided by its running standard deviation where that is above 1.
# - `rebar`: temperature and size of its control variate, so as to lower the variance itself.
# - `relax`: a whole network as control variate, likewise.


def constant(baseline):
    return baseline


def learned_baseline(baseline, state, *arguments):
    return estimators.learned_baseline(constant, baseline)(*arguments), state


def moving_average(nothing, state, *arguments):
    return estimators.moving_average(*arguments, state, decay=0.99)


def nvil(baseline, state, *arguments):
    return estimators.nvil(constant, baseline, decay=0.99)(*arguments, state)


def rebar(learned, state, *arguments):
    return estimators.rebar(jnp.exp(learned["log_temperature"]), learned["scale"])(*arguments), state


def relax(learned, state, *arguments):
    temperature = jnp.exp(learned["log_temperature"])
    return estimators.relax(network, learned["weights"], temperature)(*arguments), state


def network(weights, z):
    hidden = jnp.tanh(weights["in"] @ (2 * z - 1) + weights["bias"])
    return weights["out"] @ hidden + weights["constant"]


@functools.partial(jax.jit, static_argnames="estimate", compiler_options=FAST_COMPILE)
def train(estimate, learned, state, keys):
    """Adam on what is learned, q held still: all values of (learned, state) on the way."""
    optimizer = optax.adam(0.05)

    def loss_fn(learned, state, key):
        value, state = estimate(learned, state, params, key, log_joint, bits, bounds.mean, 4)
        return -value, state

    def step(carry, key):
        learned, state, optimizer_state = carry
        slopes, new = jax.grad(loss_fn, has_aux=True)(learned, state, key)
        updates, optimizer_state = optimizer.update(slopes, optimizer_state)
        return (optax.apply_updates(learned, updates), new, optimizer_state), (learned, state)

    return jax.lax.scan(step, (learned, state, optimizer.init(learned)), keys)[1]


@functools.cache
def without_new_state(estimate):
    return lambda learned: lambda *arguments: estimate(*learned, *arguments)[0]


moments, zero, log_temperature = estimators.running_moments(), jnp.zeros(()), jnp.log(0.5)
weights = {
    "in": 0.3 * jax.random.normal(jax.random.key(2), (16, D)),
    "bias": jnp.zeros(16),
    "out": jnp.zeros(16),
    "constant": zero,
}
LEARNERS = {
    "learned_baseline": (learned_baseline, zero, ()),
    "moving_average": (moving_average, zero, moments),
    "nvil": (nvil, zero, moments),
    "rebar": (rebar, {"log_temperature": log_temperature, "scale": jnp.ones(())}, ()),
    "relax": (relax, {"log_temperature": log_temperature, "weights": weights}, ()),
}
training_keys = jax.random.split(jax.random.key(1), 1001)
paths = {name: train(*learner, training_keys) for name, learner in LEARNERS.items()}


def at_step(name, step):
    return jax.tree.map(lambda leaf: leaf[step], paths[name])


CHECKPOINTS = (0, 10, 30, 100, 300, 1000) if SHORT else (0, 3, 10, 20, 30, 60, 100, 200, 300, 600, 1000)
variances = {
    name: [measure(without_new_state(LEARNERS[name][0]), at_step(name, step)).variance for step in CHECKPOINTS]
    for name in LEARNERS
}
no_baseline, of_others = measure(plain(estimators.score_function)), measure(plain(estimators.leave_one_out))

# %% [markdown]
# `nvil` divides its gradient by a number, the running standard deviation. That makes any gradient look quiet, so for the
# picture its variance is multiplied by the square of that number.

# %%
divisors = np.array([max(1.0, float(jnp.sqrt(at_step("nvil", step)[1].variance))) for step in CHECKPOINTS])
shown = variances | {"nvil": variances["nvil"] * divisors**2}
figure, axis = plt.subplots(figsize=(8.5, 4.2), layout="constrained")
styles = {
    "learned_baseline": (BLUE, "o-"),
    "moving_average": (GREY, "s-"),
    "nvil": (RED, "D-"),
    "rebar": (GOLD, "^-"),
    "relax": (GREEN, "v-"),
}
for name, (color, style) in styles.items():
    label = "nvil, its divisor undone" if name == "nvil" else name
    axis.plot(CHECKPOINTS, shown[name], style, color=color, label=label, markersize=5)
for level, name in ((no_baseline.variance, "score_function, no baseline"), (of_others.variance, "leave_one_out")):
    axis.axhline(level, color="black", linewidth=0.8, linestyle=":")
    axis.text(1100, level, name, va="center", fontsize=9)
axis.set_xscale("symlog", linthresh=3, linscale=0.4)
axis.set(yscale="log", xlabel="training step", ylabel="total variance of one gradient, S = 4", xlim=(-0.2, 1000))
axis.set_xticks([0, 3, 10, 30, 100, 300, 1000], ["0", "3", "10", "30", "100", "300", "1,000"])
axis.set_title("q stands still; what the estimator learns makes it quiet")
axis.legend(ncols=2, fontsize=9)
plt.show()
for name in LEARNERS:
    print(f"{name:17} {shown[name][0]:6.2f} -> {shown[name][-1]:.2f}")
assert shown["learned_baseline"][-1] < no_baseline.variance / 10
assert shown["moving_average"][-1] < no_baseline.variance / 10
assert shown["nvil"][-1] < no_baseline.variance / 10
assert shown["rebar"][-1] < shown["rebar"][0]
assert shown["relax"][-1] < no_baseline.variance / 20

# %% [markdown]
# A constant baseline does most of the work. `leave_one_out` has one for nothing, the mean of the other three
# log-weights; that mean is itself noisy, so a learned constant ends a little below it, and the library's default needs
# no training and no state. REBAR starts low, since its control variate is the model itself between 0 and 1; RELAX
# learns its own from nothing and ends lower.

# %% [markdown]
# ### All of them
#
# The same four draws a gradient for all, with what was learned above; `arm` and `disarm` make two antithetic pairs of
# them. Two spend more: `measure_valued` evaluates the log joint 11 times a draw, `enumeration` all 32 configurations,
# and it alone needs no draws. `reweighted_wake_phase` asks for the importance-weighted bound.


# %%
def gumbel_softmax(learned):
    return estimators.gumbel_softmax(learned)


def straight_through(learned):
    return estimators.straight_through(learned)


learned_baseline_value = float(at_step("learned_baseline", 1000)[0])
unbiased = {
    "score_function": no_baseline,
    "leave_one_out": of_others,
    "with_baseline(-13)": measure(plain(estimators.with_baseline(-13.0))),
    "reward_to_go": measure(plain(estimators.reward_to_go(terms_by_hour))),
    "rao_blackwellised": measure(plain(estimators.rao_blackwellised(terms_that_involve))),
    "closed_form_entropy": measure(plain(estimators.closed_form_entropy)),
    "without_replacement": measure(plain(estimators.without_replacement)),
    "arm": measure(plain(estimators.arm), num_samples=2),
    "disarm": measure(plain(estimators.disarm), num_samples=2),
    "measure_valued": measure(plain(estimators.measure_valued)),
    "enumeration": measure(plain(estimators.enumeration), num_samples=1),
    "enumeration_up_to(32)": measure(plain(estimators.enumeration_up_to(32)), num_samples=1),
}
for name in ("learned_baseline", "moving_average", "rebar", "relax"):
    unbiased[f"{name}, trained"] = measure(without_new_state(LEARNERS[name][0]), at_step(name, 1000))
TEMPERATURES = np.array([0.1, 0.2, 0.5, 1.0, 2.0] if SHORT else [0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0])
by_temperature = {
    make.__name__: {float(t): measure(make, jnp.float32(t)) for t in TEMPERATURES}
    for make in (gumbel_softmax, straight_through)
}
biased = {
    f"{name}({temperature})": by_temperature[name][temperature]
    for name in by_temperature
    for temperature in (0.1, 0.5, 2.0)
}
biased["nvil, trained"] = measure(without_new_state(nvil), at_step("nvil", 1000))
biased["reweighted_wake_phase"] = measure(plain(estimators.reweighted_wake_phase), bound=bounds.importance_weighted)
biased["wake_phase"] = measure(plain(estimators.wake_phase))

for name, measured in unbiased.items():
    assert is_unbiased(measured, exact), name
for name, measured in biased.items():
    if not is_unbiased(measured, exact): continue
    print("XXX", name)

# %%
EXACTLY_ZERO = 1e-9  # what float32 leaves of no variance is drawn at the left edge
EDGE = 2e-3


def rows_of(measured):
    return sorted(measured.items(), key=lambda item: -item[1].variance)


rows = [(name, it, BLUE) for name, it in rows_of(unbiased)] + [(name, it, RED) for name, it in rows_of(biased)]
figure, (single, mean, variance) = plt.subplots(
    1, 3, figsize=(12, 8.2), sharey=True, layout="constrained", width_ratios=(1.1, 1.1, 1)
)
for row, (name, it, color) in enumerate(rows):
    share = it.gradients @ exact / (exact @ exact)
    low, first, third, high = np.quantile(share, (0.05, 0.25, 0.75, 0.95))
    single.plot([low, high], [row, row], color=color, linewidth=1)
    single.plot([first, third], [row, row], color=color, linewidth=4, alpha=0.6, solid_capstyle="butt")
    single.plot(np.mean(share), row, "o", color="white", markeredgecolor=color, markersize=5)
    offsets = np.linspace(-0.26, 0.26, D)
    mean.errorbar(
        it.mean - exact, row + offsets, xerr=4 * it.standard_error, fmt=".", color=color, markersize=4, linewidth=1
    )
    is_zero = it.variance < EXACTLY_ZERO
    level = EDGE if is_zero else it.variance
    variance.plot([EDGE, level], [row, row], color=color, linewidth=1, alpha=0.5)
    variance.plot(level, row, "<" if is_zero else "o", color=color)
    variance.text(level * 1.35, row, "0" if is_zero else f"{it.variance:.2g}", va="center", fontsize=8.5, color=color)
for axis in (single, mean, variance):
    axis.axhline(len(unbiased) - 0.5, color=GREY, linewidth=0.6)
single.axvline(1, color="black", linewidth=0.8, linestyle=":")
mean.axvline(0, color="black", linewidth=0.8, linestyle=":")
single.set_yticks(range(len(rows)), [name for name, _, _ in rows])
for label, (_, _, color) in zip(single.get_yticklabels(), rows, strict=True):
    label.set_color(color)
single.set_ylim(len(rows) - 0.4, -0.6)
single.set(title="One gradient, along the exact one", xlabel="multiples of the exact gradient; 50% and 90%")
single.set_xlim(-7, 9)
mean.set(title="Mean less exact gradient, five entries", xlabel="error of the mean, with 4 standard errors")
variance.set(xscale="log", xlim=(EDGE, 250), title="Total variance of one gradient", xlabel="variance, S = 4")
variance.text(210, -0.3, "unbiased", color=BLUE, ha="right", va="center", weight="bold")
variance.text(210, len(unbiased) - 0.1, "biased", color=RED, ha="right", va="center", weight="bold")
plt.show()
