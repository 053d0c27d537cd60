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
NUM_GRADIENTS = 5_000 if SHORT else 20_000
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


def terms_by_hour(z, strength=3.0):
    before = jnp.concatenate([jnp.zeros(1), z[:-1]])
    rate = 1 + strength * (z + before / 2)
    poisson = x * jnp.log(rate) - rate - special.gammaln(x + 1)
    stays = 0.2 + 0.6 * (z * before + (1 - z) * (1 - before))
    return poisson + jnp.log(jnp.where(jnp.arange(D) == 0, 0.5, stays))


def log_joint(z, strength=3.0):
    return jnp.sum(terms_by_hour(z, strength))


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
    make,
    learned=(),
    params=params,
    *,
    log_joint=log_joint,
    family=bits,
    num_samples=4,
    bound=bounds.mean,
    num_gradients=NUM_GRADIENTS,
):
    keys = jax.random.split(jax.random.key(0), num_gradients)
    sample = np.asarray(gradients(params, learned, keys, make, log_joint, family, num_samples, bound), float)
    variances = np.var(sample, axis=0, ddof=1)
    return Measured(sample, np.mean(sample, axis=0), np.sqrt(variances / num_gradients), float(np.sum(variances)))


def is_unbiased(measured, exact):
    """Every entry of the mean within four standard errors of the exact gradient (and float32's rounding)."""
    return bool(np.all(np.abs(measured.mean - exact) < 4 * measured.standard_error + 2e-5))


@functools.cache  # one function, and so one program, however often it is asked for
def plain(estimator):
    """For those that learn nothing."""
    return lambda learned: estimator


# %% [markdown]
# ### What can be learned, learns first
#
# The plain score function, $(\log p - \log q)\,\nabla \log q$, is right and very noisy: here log-weights are near -13, and
# that constant, which says nothing about any bit, multiplies every score. A *baseline* is subtracted from them, a
# *control variate* is subtracted and put back in a quieter form. Four estimators learn theirs, and each trains it by the
# very gradient that trains $q$: `jax.grad` of the bound, taken in what is to be learned. We hold $q$ still and look at
# the variance along the way.
#
# - `learned_baseline`: one number, by least squares.
# - `moving_average`: the running mean of log-weights; a state, nothing to differentiate.
# - `nvil`: both, and the signal divided by its running standard deviation where that is above 1.
# - `relax`: a network as control variate, and its temperature, so as to lower the variance itself. (`rebar`, whose
#   control variate is the relaxed model, can tune its temperature and its scale in the same way.)


# %%
def constant(baseline):
    return baseline


def learned_baseline(baseline, state, *arguments):
    return estimators.learned_baseline(constant, baseline)(*arguments), state


def moving_average(nothing, state, *arguments):
    return estimators.moving_average(*arguments, state, decay=0.99)


def nvil(baseline, state, *arguments):
    return estimators.nvil(constant, baseline, decay=0.99)(*arguments, state)


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
    "relax": (relax, {"log_temperature": log_temperature, "weights": weights}, ()),
}
training_keys = jax.random.split(jax.random.key(1), 1001)
paths = {name: train(*learner, training_keys) for name, learner in LEARNERS.items()}


def at_step(name, step):
    return jax.tree.map(lambda leaf: leaf[step], paths[name])


CHECKPOINTS = (0, 10, 30, 100, 300, 1000) if SHORT else (0, 3, 10, 20, 30, 60, 100, 300, 1000)
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
assert shown["relax"][-1] < no_baseline.variance / 20

# %% [markdown]
# A constant baseline does most of the work. `leave_one_out` has one for nothing, the mean of the other three
# log-weights; that mean is itself noisy, so a learned constant ends a little below it, and the library's default needs
# no training and no state. RELAX starts from a network that returns 0, where it is the plain score function, and ends
# lowest: its network has learned what each bit is worth, not only the constant.

# %% [markdown]
# ### All of them
#
# The same four draws a gradient for all, with what was learned above; `arm` and `disarm` make two antithetic pairs of
# them. Two spend more: `measure_valued` evaluates the log joint 7 times a draw, `enumeration` all 32 configurations,
# and it alone needs no draws. `reweighted_wake_phase` asks for the importance-weighted bound.


# %%
def gumbel_softmax(learned):
    return estimators.gumbel_softmax(learned)


def straight_through(learned):
    return estimators.straight_through(learned)


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
    "rebar(0.5)": measure(plain(estimators.rebar(0.5))),
    "enumeration": measure(plain(estimators.enumeration), num_samples=1),
    "enumeration_up_to(32)": measure(plain(estimators.enumeration_up_to(32)), num_samples=1),
}
for name in ("learned_baseline", "moving_average", "relax"):
    unbiased[f"{name}, trained"] = measure(without_new_state(LEARNERS[name][0]), at_step(name, 1000))
TEMPERATURES = (0.2, 0.5, 1.0, 2.0) if SHORT else (0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0)
by_temperature = {
    make.__name__: {t: measure(make, jnp.float32(t)) for t in TEMPERATURES}
    for make in (gumbel_softmax, straight_through)
}
biased = {
    f"{name}({temperature})": by_temperature[name][temperature]
    for name in by_temperature
    for temperature in (0.2, 0.5, 2.0)
}
biased["nvil, trained"] = measure(without_new_state(nvil), at_step("nvil", 1000))
biased["reweighted_wake_phase"] = measure(plain(estimators.reweighted_wake_phase), bound=bounds.importance_weighted)
biased["wake_phase"] = measure(plain(estimators.wake_phase))

for name, measured in unbiased.items():
    assert is_unbiased(measured, exact), name
for name, measured in biased.items():
    assert not is_unbiased(measured, exact), name

# %%
EXACTLY_ZERO = 1e-9  # what float32 leaves of no variance is drawn at the left edge
EDGE = 2e-3


def rows_of(measured):
    return sorted(measured.items(), key=lambda item: -item[1].variance)


rows = [(name, it, BLUE) for name, it in rows_of(unbiased)] + [(name, it, RED) for name, it in rows_of(biased)]
figure, (single, mean, variance) = plt.subplots(
    1, 3, figsize=(12, 8.2), sharey=True, layout="constrained", width_ratios=(1.1, 1.1, 1)
)
for row, (_, it, color) in enumerate(rows):
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
single.set_xlim(-4, 7)
mean.set(title="Mean less exact gradient, five entries", xlabel="error of the mean, with 4 standard errors")
variance.set(xscale="log", xlim=(EDGE, 1500), title="Total variance of one gradient", xlabel="variance, S = 4")
variance.text(1300, 0.8, "unbiased", color=BLUE, ha="right", va="center", weight="bold")
variance.text(1300, len(unbiased) + 0.8, "biased", color=RED, ha="right", va="center", weight="bold")
plt.show()

# %% [markdown]
# Reading it from left to right: a single gradient of the score function may point either way, several times over. All
# blue means lie on the exact gradient, within four standard errors in each of the five entries (asserted above). The
# quiet ones are quiet for one of four reasons: a baseline, a decomposition (`reward_to_go`, `rao_blackwellised`), a
# control variate (`rebar`, `relax`), or more evaluations (`measure_valued`, `enumeration`). To know more exactly is not
# always to be quieter: `closed_form_entropy` lies above `leave_one_out`, whose $\log q$ undoes some of the noise of
# $\log p$. Charged by the evaluation:

# %%
EVALUATIONS = {"measure_valued": 28, "rebar(0.5)": 12, "enumeration": 32}  # 4 for the others
by_cost = {name: it.variance * EVALUATIONS.get(name, 4) for name, it in unbiased.items() if "up_to" not in name}
print("variance x evaluations of the log joint")
for name, product in sorted(by_cost.items(), key=lambda item: -item[1]):
    print(f"{name:28} {product:7.2f}")
assert by_cost["rao_blackwellised"] < by_cost["reward_to_go"] < by_cost["leave_one_out"]
assert by_cost["measure_valued"] < by_cost["relax, trained"] < by_cost["leave_one_out"] < by_cost["rebar(0.5)"]

# %% [markdown]
# The red ones are wrong in different ways. `nvil` is right but for one factor, known at each step and the same for all
# entries; an optimiser such as Adam takes it out. The wake phases do not aim at this gradient at all. The relaxations are biased by their
# temperature.

# %%
divisor, multiple = divisors[-1], biased["nvil, trained"]
restored = multiple._replace(mean=divisor * multiple.mean, standard_error=divisor * multiple.standard_error)
assert is_unbiased(restored, exact)
print(f"nvil divides by {divisor:.2f}; its mean times that is {restored.mean.round(3)}, exactly {exact.round(3)}")

# %% [markdown]
# ### Bias against variance, by the temperature
#
# A relaxation replaces each bit by a number between 0 and 1, the closer to its ends the lower the temperature. The
# gradient of `gumbel_softmax` is exact for the relaxed bound: in the limit of temperature 0 that is the bound, and the
# bias goes; but the gradient then comes from ever rarer draws. `straight_through` evaluates the model at hard bits and
# sends the gradient through the soft ones. As its temperature falls, its mean goes to a limit that can be worked out,
# the rise of the log joint between 0 and 1 by the trapezoid rule, and that is not the exact gradient.

# %%
slopes = np.asarray(jax.vmap(jax.grad(log_joint))(jnp.asarray(Z, jnp.float32)), float) - special.logit(probability)
chance = np.exp(log_q)[:, None] / np.where(Z == 1, probability, 1 - probability)  # of the other bits
limit = probability * (1 - probability) * np.sum(chance * slopes, axis=0) / 2


def bias_of(measured):
    """Norm of the bias, less what noise adds to it, and the size of that noise."""
    error, noise = np.sum((measured.mean - exact) ** 2), np.sum(measured.standard_error**2)
    return np.sqrt(max(error - noise, 0)), np.sqrt(noise)


figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
for (name, results), color, style in zip(by_temperature.items(), (RED, GOLD), ("o-", "s-"), strict=True):
    sizes = np.array([bias_of(it) for it in results.values()])
    left.errorbar(TEMPERATURES, sizes[:, 0], yerr=2 * sizes[:, 1], fmt=style, color=color, label=name, capsize=2)
    right.plot(TEMPERATURES, [it.variance for it in results.values()], style, color=color, label=name)
left.axhline(
    np.linalg.norm(limit - exact), color=GOLD, linestyle="--", linewidth=1, label="straight_through at temperature 0"
)
left.axhline(np.linalg.norm(exact), color="black", linewidth=0.8, linestyle=":", label="norm of the exact gradient")
left.set(xscale="log", xlabel="temperature", ylabel="norm of the bias", title="The bias", ylim=(0, 2.3))
right.axhline(of_others.variance, color=BLUE, linestyle=":", label="leave_one_out, unbiased")
right.set(xscale="log", yscale="log", xlabel="temperature", ylabel="total variance", title="The variance, S = 4")
for axis in (left, right):
    axis.set_xticks(ticks := [0.05, 0.1, 0.2, 0.5, 1, 2], [str(tick) for tick in ticks])
    axis.minorticks_off()
    axis.legend(fontsize=9)
plt.show()
relaxed = list(by_temperature["gumbel_softmax"].values())
for low, high in zip(relaxed[:-1], relaxed[1:], strict=True):
    assert low.variance > high.variance and bias_of(low)[0] < bias_of(high)[0]
assert bias_of(relaxed[0])[0] < 0.25 * bias_of(relaxed[-1])[0]
assert bias_of(by_temperature["straight_through"][TEMPERATURES[0]])[0] > 0.3  # it does not go

# %% [markdown]
# ### The wake phases, held to their own aims
#
# `wake_phase` gives the model's parameters their gradient and $q$ none. `reweighted_wake_phase` moves $q$ along
# $-\nabla\,\mathrm{KL}(p(z \mid x)\,\|\,q)$, by self-normalised weights; for independent bits that gradient is the
# posterior's probabilities less those of $q$. The distance of its mean from there falls with the number of draws.

# %%
towards_posterior = posterior @ Z - probability
distances = {}
for size in (4, 64) if SHORT else (4, 8, 16, 32, 64):
    it = measure(plain(estimators.reweighted_wake_phase), bound=bounds.importance_weighted, num_samples=size)
    squared = np.sum((it.mean - towards_posterior) ** 2) - np.sum(it.standard_error**2)
    distances[size] = np.sqrt(max(squared, 0))
    print(f"S = {size:2}: mean of reweighted_wake_phase, {distances[size]:.4f} from the gradient of -KL(p || q)")
assert distances[64] < distances[4] / 5


def wake_value(strength, key):
    """A function of the model's parameter: what the source brings, 3 above."""
    model = functools.partial(log_joint, strength=strength)
    return jaxelbo.elbo(params, key, model, bits, num_samples=4, estimator=estimators.wake_phase)


keys = jax.random.split(jax.random.key(0), NUM_GRADIENTS)
of_model = np.asarray(jax.jit(jax.vmap(jax.grad(wake_value), (None, 0)))(3.0, keys), float)
brought = Z + np.pad(Z, ((0, 0), (1, 0)))[:, :-1] / 2
exact_of_model = np.exp(log_q) @ np.sum((x / (1 + 3 * brought) - 1) * brought, axis=1)
standard_error = np.std(of_model) / np.sqrt(NUM_GRADIENTS)
print(f"wake_phase, gradient of the model: {of_model.mean():.4f} +- {standard_error:.4f}, exactly {exact_of_model:.4f}")
assert abs(of_model.mean() - exact_of_model) < 4 * standard_error

# %% [markdown]
# ### More draws
#
# Twice the draws, half the variance: so it is for the score function with and without a baseline. Draws *without
# replacement* never see a configuration twice. How much that is worth depends on $q$: little while $q$ spreads over many
# configurations (left), more once it has settled on a few (right, where the bound is highest, found with
# `enumeration`).


# %%
def minus_exact_bound(params, key):
    return -jaxelbo.elbo(params, key, log_joint, bits, num_samples=1, estimator=estimators.enumeration)


@functools.partial(jax.jit, compiler_options=FAST_COMPILE)
def fit(params):
    return jaxelbo.fit(params, jax.random.key(0), minus_exact_bound, optax.adam(0.05), num_steps=1000).params


fitted = fit(params)
places = {"q as above": params, "q at the highest bound": fitted}
DRAWS = {
    "score_function": (2, 4) if SHORT else (2, 4, 8, 32),
    "leave_one_out": (2, 4) if SHORT else (2, 4, 8, 32),
    "without_replacement": (2, 4) if SHORT else (2, 4, 6),
}
by_draws = {
    (place, name): [
        measure(
            plain(getattr(estimators, name)), params=at, num_samples=size, num_gradients=min(NUM_GRADIENTS, 10_000)
        ).variance
        for size in sizes
    ]
    for place, at in places.items()
    for name, sizes in DRAWS.items()
}

# %%
figure, axes = plt.subplots(1, 2, figsize=(11, 4), sharex=True, layout="constrained")
for axis, place in zip(axes, places, strict=True):
    for name, color, style in zip(DRAWS, (GREY, BLUE, GREEN), ("s-", "o-", "^-"), strict=True):
        axis.plot(DRAWS[name], by_draws[place, name], style, color=color, label=name)
    axis.axvline(32, color=RED, linestyle="--", linewidth=1)
    axis.text(30, 0.94, "enumeration: 0 ", color=RED, ha="right", transform=axis.get_xaxis_transform(), fontsize=9)
    effective = np.exp(bits.entropy(places[place]))
    axis.set(xscale="log", yscale="log", xlabel="evaluations of the log joint", title=f"{place}")
    axis.set_title(f"{place}: as wide as {effective:.1f} equal configurations")
    axis.set_xticks([2, 4, 8, 16, 32], ["2", "4", "8", "16", "32"])
    axis.minorticks_off()
axes[0].set_ylabel("total variance of one gradient")
axes[0].legend(fontsize=9)
plt.show()
gain = {}
for place in places:
    few, many = by_draws[place, "score_function"][0], by_draws[place, "score_function"][-1]
    assert abs(few / many / (DRAWS["score_function"][-1] / 2) - 1) < 0.3  # falls as 1 / S
    with_four = {name: by_draws[place, name][DRAWS[name].index(4)] for name in DRAWS}
    gain[place] = with_four["leave_one_out"] / with_four["without_replacement"]
    print(f"{place}: at 4 draws leave_one_out has {gain[place]:.1f} times the variance of without_replacement")
assert gain["q at the highest bound"] > 1.5 > gain["q as above"] > 1

# %% [markdown]
# ## Two real numbers
#
# Before the Challenger's last flight there had been 23 launches with known temperature and known state of the O-rings;
# seven showed damage (Dalal, Fowlkes and Hoadley (1989), *Risk Analysis of the Space Shuttle*). A logistic regression on
# the temperature:
#
# $$y_i \sim \mathrm{Bernoulli}(\mathrm{sigmoid}(a + b\,t_i)), \qquad a, b \sim N(0, 2) .$$
#
# The posterior is skewed and $a$ and $b$ depend on each other; $q$ is a Gaussian with independent entries, and not
# fitted. The exact gradient comes again from outside, in NumPy: the bound by Gauss-Hermite quadrature, its gradient by
# central differences.

# %%
fahrenheit = [66, 70, 69, 68, 67, 72, 73, 70, 57, 63, 70, 78, 67, 53, 67, 75, 70, 81, 76, 79, 75, 76, 58]
damaged = np.array([0, 1, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 1])
t = (np.array(fahrenheit, float) - 70) / 7


def log_joint_of_rings(z):
    line = z["a"] + z["b"] * jnp.asarray(t, jnp.float32)
    likelihood = jnp.sum(jax.nn.log_sigmoid(jnp.where(damaged == 1, line, -line)))
    return likelihood + jax.scipy.stats.norm.logpdf(z["a"], 0.0, 2.0) + jax.scipy.stats.norm.logpdf(z["b"], 0.0, 2.0)


def log_joint_of_rings_in_numpy(a, b):
    line = a[..., None] + b[..., None] * t
    likelihood = np.sum(damaged * line - np.logaddexp(0, line), axis=-1)
    return likelihood + stats.norm.logpdf(a, 0, 2) + stats.norm.logpdf(b, 0, 2)


gaussian = families.mean_field({"a": 0.0, "b": 0.0})
at = {"loc": jnp.array([-0.6, -0.6]), "log_scale": jnp.log(jnp.array([0.6, 0.6]))}
nodes, node_weights = np.polynomial.hermite_e.hermegauss(40)
node_weights = np.outer(node_weights, node_weights) / (2 * np.pi)


def bound_in_numpy(flat):
    (loc_a, loc_b), (scale_a, scale_b) = flat[:2], np.exp(flat[2:])
    values = log_joint_of_rings_in_numpy(*np.meshgrid(loc_a + scale_a * nodes, loc_b + scale_b * nodes, indexing="ij"))
    return np.sum(node_weights * values) + np.sum(flat[2:]) + 1 + np.log(2 * np.pi)


flat = np.concatenate([at["loc"], at["log_scale"]]).astype(float)
steps = 1e-5 * np.eye(4)
exact_of_rings = np.array([(bound_in_numpy(flat + step) - bound_in_numpy(flat - step)) / 2e-5 for step in steps])
print("exact gradient: loc", exact_of_rings[:2].round(4), " log_scale", exact_of_rings[2:].round(4))

# %% [markdown]
# With a density in place of bits, gradients can flow through the draws: $Z = \mu + \sigma \varepsilon$, and $\varepsilon$
# does not depend on the parameters. `leave_one_out`, the default, does so wherever it can. To see what that is worth we
# also cut it off: `families.detached` is the same Gaussian with draws that carry no gradient, as if the model were not
# differentiable.

# %%
measure_rings = functools.partial(measure, params=at, log_joint=log_joint_of_rings)
draws_of = {"": gaussian, ", detached": families.detached(gaussian)}
CONTINUOUS = {
    "": [
        "pathwise",
        "leave_one_out",
        "closed_form_entropy",
        "sticking_the_landing",
        "doubly_reparameterised",
        "measure_valued",
    ],
    ", detached": ["score_function", "leave_one_out"],
}
of_rings = {
    name + suffix: measure_rings(plain(getattr(estimators, name)), family=draws_of[suffix])
    for suffix, names in CONTINUOUS.items()
    for name in names
}
for name, measured in of_rings.items():
    assert is_unbiased(measured, exact_of_rings), name
assert of_rings["pathwise"].variance < of_rings["leave_one_out, detached"].variance / 3
assert np.array_equal(of_rings["pathwise"].mean, of_rings["leave_one_out"].mean)

# %%
figure, (picture, mean, variance) = plt.subplots(
    1, 3, figsize=(13, 4.2), layout="constrained", width_ratios=(1, 1.1, 1)
)
grid_a, grid_b = np.meshgrid(np.linspace(-3, 1.5, 200), np.linspace(-4.5, 1.5, 200))
density = log_joint_of_rings_in_numpy(grid_a, grid_b)
picture.contour(grid_a, grid_b, np.exp(density - density.max()), levels=(0.02, 0.1, 0.3, 0.6, 0.9), cmap="Greys")
circle = np.stack([np.cos(angle := np.linspace(0, 2 * np.pi, 200)), np.sin(angle)])
ellipse = flat[:2, None] + np.exp(flat[2:, None]) * np.sqrt(stats.chi2(2).ppf(0.9)) * circle
picture.plot(*ellipse, color=BLUE, linewidth=2)
picture.text(0.3, 0.65, "q, 90%", color=BLUE)
picture.text(-1.9, -3.5, "posterior", color="#555555")
picture.set(xlabel="a", ylabel="b", title="Posterior of the O-rings, and q")
rows = rows_of(of_rings)
for row, (_, it) in enumerate(rows):
    offsets = np.linspace(-0.24, 0.24, 4)
    errors = it.mean - exact_of_rings
    mean.errorbar(errors, row + offsets, xerr=4 * it.standard_error, fmt=".", color=BLUE, markersize=4, linewidth=1)
    variance.plot([0.1, it.variance], [row, row], color=BLUE, linewidth=1, alpha=0.5)
    variance.plot(it.variance, row, "o", color=BLUE)
    variance.text(it.variance * 1.25, row, f"{it.variance:.3g}", va="center", fontsize=9, color=BLUE)
mean.axvline(0, color="black", linewidth=0.8, linestyle=":")
mean.set_yticks(range(len(rows)), [name for name, _ in rows])
variance.set_yticks(range(len(rows)), [])
for axis in (mean, variance):
    axis.set_ylim(len(rows) - 0.5, -0.5)
mean.set(title="Mean less exact gradient, four entries", xlabel="error of the mean, with 4 standard errors")
variance.set(xscale="log", title="Total variance of one gradient, S = 4", xlabel="variance")
variance.set_xlim(0.1, 3 * rows[0][1].variance)
plt.show()

# %% [markdown]
# For Gaussians the gradient through $\log q$ is that of the entropy, so `pathwise` and `closed_form_entropy` are the
# same. `measure_valued` is as good without any derivative of the model, for 9 evaluations a draw.
#
# ### Near the end of a fit, and with many draws
#
# Two remedies are for two situations. **Left:** the target is now a Gaussian that $q$ can be, and $q$ comes closer. The
# variance of `pathwise` stays; `sticking_the_landing`, which leaves out a score whose mean is zero, gets quiet, and at
# $q = p$ each of its gradients is zero. **Right:** the importance-weighted bound on the O-rings with $K$ draws. The more
# draws, the less is left to gain by moving $q$, and the gradient shrinks faster than its noise: the signal-to-noise ratio
# of `pathwise` falls like $1 / \sqrt{K}$ (Rainforth et al. (2018)). That of `doubly_reparameterised` rises, but not for
# every $q$: where $q$ is narrower than the posterior, a few draws in its tails carry large weights, and both fall.

# %%
two = families.mean_field(jnp.zeros(2))
target = {"loc": jnp.array([1.0, -0.5]), "log_scale": jnp.log(jnp.array([0.5, 1.5]))}


def log_gaussian(z):
    return two.log_prob(target, z)


def away_by(step):
    return {"loc": target["loc"] + step, "log_scale": target["log_scale"] + 0.7 * step}


AWAY = (1.0, 0.3, 0.1, 0.03, 0.01, 0.0)
divergences = [float(jaxelbo.kl_divergence(away_by(step), target, two, two)) for step in AWAY]
landing = {
    name: [
        measure(plain(getattr(estimators, name)), params=away_by(step), log_joint=log_gaussian, family=two).variance
        for step in AWAY
    ]
    for name in ("pathwise", "sticking_the_landing")
}
print("at q = p:", {name: values[-1] for name, values in landing.items()})
assert landing["sticking_the_landing"][-1] == 0 and landing["pathwise"][-1] > 0.5

SIZES = (4, 16) if SHORT else (1, 4, 16, 64)
PLACES = {
    "wide": {"loc": jnp.array([-1.0, -1.2]), "log_scale": jnp.log(jnp.array([1.0, 1.3]))},
    "narrow": {"loc": jnp.array([-1.0, -1.2]), "log_scale": jnp.log(jnp.array([0.5, 0.6]))},
}
many = {
    (name, place): [
        measure_rings(
            plain(getattr(estimators, name)),
            params=PLACES[place],
            family=gaussian,
            num_samples=size,
            bound=bounds.importance_weighted,
            num_gradients=min(NUM_GRADIENTS, 10_000),
        )
        for size in SIZES
    ]
    for name in ("pathwise", "doubly_reparameterised")
    for place in PLACES
}
for place in PLACES:  # two estimators of one gradient
    for one, other in zip(many["pathwise", place], many["doubly_reparameterised", place], strict=True):
        assert np.all(np.abs(one.mean - other.mean) < 4 * np.hypot(one.standard_error, other.standard_error))
ratios = {
    (name, place): [  # the signal is the same for both, so take the mean of the quieter
        np.linalg.norm(quiet.mean) / np.sqrt(it.variance)
        for it, quiet in zip(results, many["doubly_reparameterised", place], strict=True)
    ]
    for (name, place), results in many.items()
}
start = SIZES.index(4)
growth = {case: np.polyfit(np.log(SIZES[start:]), np.log(it[start:]), 1)[0] for case, it in ratios.items()}
for (name, place), power in growth.items():
    print(f"{name:23} q {place:7} signal-to-noise goes like K to the power {power:+.2f}")
assert -0.7 < growth["pathwise", "wide"] < -0.4 < 0.3 < growth["doubly_reparameterised", "wide"]
assert growth["doubly_reparameterised", "narrow"] < 0

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
for (name, values), color in zip(landing.items(), (GREY, BLUE), strict=True):
    left.plot(divergences[:-1], values[:-1], "o-", color=color, label=name)
left.set(xscale="log", yscale="log", xlabel="KL(q || p)", ylabel="total variance, S = 4")
left.set(title="q comes closer to a Gaussian target")
left.invert_xaxis()
for (name, place), values in ratios.items():
    color, style = GREY if name == "pathwise" else BLUE, "o-" if place == "wide" else "o:"
    label = f"{name}, q {place}: slope {growth[name, place]:+.2f}"
    right.plot(SIZES, values, style, color=color, label=label, markersize=5)
right.set(
    xscale="log", yscale="log", xlabel="K, draws in the bound", ylabel="norm of the mean / root of total variance"
)
right.set(title="Signal-to-noise ratio of the importance-weighted bound")
right.set_xticks(SIZES, SIZES)
right.minorticks_off()
for axis in (left, right):
    axis.legend(fontsize=8.5)
right.set_ylim(0.03, 12)
plt.show()

# %% [markdown]
# ## What to choose
#
# `jaxelbo.gradient_report` makes such a comparison on your own problem, with the time each gradient takes.

# %%
choices = {"leave_one_out": estimators.leave_one_out}
if not SHORT:
    choices |= {name: getattr(estimators, name) for name in ("measure_valued", "enumeration")}
report = jaxelbo.gradient_report(params, jax.random.key(0), log_joint, bits, choices, num_samples=4)
jaxelbo.print_gradient_report(report)

# %% [markdown]
# - **Draws that carry gradients** (Gaussians): the default, `leave_one_out`, is `pathwise` there. Close to the posterior,
#   `sticking_the_landing`; for bounds of many draws, `doubly_reparameterised`.
# - **Discrete draws, few configurations**: `enumeration`. It is exact.
# - **Discrete draws, many configurations**: the default. If the log joint is a sum of terms that see few parts each,
#   `rao_blackwellised`, or `reward_to_go` where the terms come in order.
# - **Bits, and a model that is cheap to evaluate**: `measure_valued`. Here it was the quietest of all that draw, also
#   when each evaluation is charged.
# - **A sharp $q$ over few configurations**: `without_replacement`.
# - **A baseline to learn** pays where one number does not fit all data, which a single observation such as ours cannot
#   show; `learned_baseline` takes what the number may depend on. `nvil` is that with a step size of its own.
# - **Relaxations**: `relax`, with a network to train, and `rebar`, for a model that can be evaluated between 0 and 1, use
#   them and are unbiased all the same. Here `relax` paid, and `rebar`, at three evaluations a draw, did not.
#   `gumbel_softmax` is quieter and biased, the more of both the hotter it is.
# - **`score_function`** without a baseline: to compare with.
#
# What holds for which family and bound is one table in the library. An estimator asked for something it does not hold for
# raises an error that names those that do.

# %%
Markdown(jaxelbo.validity.markdown())

# %%
measured_here = " ".join([*unbiased, *biased, *of_rings])
assert all(name in measured_here for name in jaxelbo.validity.RULES), "an estimator that this notebook leaves out"
