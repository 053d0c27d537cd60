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
# # Did it work?
#
# **One question:** a fit has ended and its loss was finite. Is it the posterior?
#
# The bound alone cannot say: log p(x) is not known. Three questions can be asked all the same. Do draws of $q$, weighed by
# $p(x, z) / q(z)$, look like draws of the posterior (`diagnose`)? How far is log p(x) from below and from above
# (`evidence`)? And does this way of fitting find the truth where the truth is known (`simulation_based_calibration`)?
#
# The data: 100 tumours, benign or malignant, and a measurement of each. A logistic regression with an intercept and a
# slope, which the measurement, all of one sign, ties to each other. A sum over a grid gives the answers to check against.

# %%
import functools
import os

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from sklearn import datasets

import jaxelbo
from jaxelbo import families, pareto

SHORT = os.environ.get("JAXELBO_SHORT") == "1"  # fewer draws and simulations, for the tests
NUM_SAMPLES, NUM_SIMULATIONS = (4_000, 100) if SHORT else (20_000, 400)
RED, BLUE, GREY, GOLD = "#c8553d", "#1f6f8b", "#8a949b", "#d9a441"
plt.rcParams.update({"figure.dpi": 110, "axes.spines.top": False, "axes.spines.right": False, "font.size": 9})
jax.config.update("jax_enable_x64", True)
key = jax.random.key(0)
normal = jax.scipy.stats.norm.logpdf

tumours = datasets.load_breast_cancer()
rows = np.random.default_rng(5).permutation(len(tumours.target))[:100]
texture = jnp.asarray(tumours.data[rows, 1] / 10)
is_malignant = jnp.asarray(1.0 - tumours.target[rows])
print(f"{len(rows)} tumours, {int(is_malignant.sum())} malignant; texture {texture.min():.1f} to {texture.max():.1f}")


def log_joint(z):
    logits = z["intercept"] + texture * z["slope"]
    prior = normal(z["intercept"], 0, 10) + normal(z["slope"], 0, 10)
    return prior + jnp.sum(is_malignant * logits - jax.nn.softplus(logits))


like = {"intercept": 0.0, "slope": 0.0}

# %% [markdown]
# ## Four fits
#
# The best Gaussian; the best with independent entries; the first with half its scale, which is what a bug looks like; and
# Adam that was stopped while the loss still fell.

# %%
full = jaxelbo.infer(log_joint, like, key)
independent = jaxelbo.infer(log_joint, like, key, family=families.mean_field)
halved = full.params | {"log_scale": full.params["log_scale"] - jnp.log(2)}
family = families.full_rank(like)


def loss_fn(params, key):
    return -jaxelbo.elbo(params, key, log_joint, family, num_samples=8)


early = jaxelbo.fit(family.init(key), jax.random.key(1), loss_fn, optax.adam(0.02), num_steps=150)
FITS = {
    "best Gaussian": (full.params, full.family),
    "independent entries": (independent.params, independent.family),
    "half the scale": (halved, full.family),
    "stopped early": (early.params, family),
}
found = {}
for name, (params, q) in FITS.items():
    found[name] = jaxelbo.diagnose(params, jax.random.key(2), log_joint, q, num_samples=NUM_SAMPLES)
    print(f"{name:20s} ELBO {found[name].elbo.value:7.2f}   {found[name].verdict}")
assert str(found["best Gaussian"].verdict).startswith("good")
assert all(str(found[name].verdict).startswith("poor") for name in FITS if name != "best Gaussian")

# %%
side = np.linspace(-6, 6, 201)
grid = np.stack(np.meshgrid(side, side, indexing="ij"), axis=-1)
root = np.linalg.cholesky(
    np.cov(np.stack(jax.tree.leaves(jaxelbo.draws(full.params, key, full.family, num_samples=4_000))))
)
points = jnp.asarray(full.params["loc"] + grid @ root.T)
log_density = jax.vmap(jax.vmap(lambda z: log_joint({"intercept": z[0], "slope": z[1]})))(points)
log_evidence = float(jax.nn.logsumexp(log_density) + np.log(np.linalg.det(root) * (side[1] - side[0]) ** 2))
weights = np.asarray(jax.nn.softmax(log_density, axis=(0, 1)))
mean = np.einsum("ij,ijk->k", weights, np.asarray(points))
sd = np.sqrt(np.einsum("ij,ijk->k", weights, (np.asarray(points) - mean) ** 2))
print(f"by a grid: log p(x) = {log_evidence:.3f}, means {np.round(mean, 2)}, standard deviations {np.round(sd, 2)}")

figure, axes = plt.subplots(1, 4, figsize=(10, 2.7), sharex=True, sharey=True)
levels = np.max(log_density) - np.array([8.0, 4.5, 2.0, 0.5])
for axis, (name, (params, q)), colour in zip(axes, FITS.items(), (BLUE, GOLD, RED, GREY), strict=True):
    latents = jaxelbo.draws(params, jax.random.key(5), q, num_samples=400)
    axis.scatter(latents["intercept"], latents["slope"], s=4, color=colour, alpha=0.6, lw=0)
    axis.contour(
        points[..., 0], points[..., 1], log_density, levels=levels, colors="black", linewidths=0.7, linestyles="solid"
    )
    axis.set_title(name, fontsize=9)
    axis.set_xlabel("intercept")
axes[0].set_xlim(mean[0] - 4.5 * sd[0], mean[0] + 4.5 * sd[0])
axes[0].set_ylim(mean[1] - 4.5 * sd[1], mean[1] + 4.5 * sd[1])
axes[0].set_ylabel("slope")
figure.tight_layout()
plt.show()

# %% [markdown]
# ## The tail of the weights
#
# If $q$ is the posterior all weights are equal. If $q$ is too narrow somewhere, a few draws at its edge carry them all: the
# weights have a power law's tail, a straight line here, whose steepness is $1/\hat k$. Above $\hat k = 0.7$ no mean of
# weights can be trusted.

# %%
figure, axes = plt.subplots(1, 4, figsize=(10, 2.6), sharey=True)
for axis, (name, (params, q)), colour in zip(axes, FITS.items(), (BLUE, GOLD, RED, GREY), strict=True):
    raw = jaxelbo.log_weights(params, jax.random.key(2), log_joint, q, num_samples=NUM_SAMPLES)
    ordered = np.sort(np.asarray(raw - jax.nn.logsumexp(raw) + np.log(raw.size)))[::-1]
    share = np.arange(1, raw.size + 1) / raw.size
    axis.loglog(np.exp(ordered), share, color=colour, lw=1.8)
    axis.axvline(1, color=GREY, lw=0.7, ls=":")
    axis.set_title(f"{name}\n$\\hat k$ = {float(pareto.smooth(raw).pareto_k):.2f}", fontsize=9)
    axis.set_xlim(1e-2, 3e3)
    axis.set_xlabel("weight over mean weight")
axes[0].set_ylabel("share of draws above")
axes[0].set_ylim(0.5 / NUM_SAMPLES, 1.5)
figure.tight_layout()
plt.show()

# %% [markdown]
# ## The evidence from both sides
#
# `evidence` anneals chains from $q$ to the posterior and back. The lower end holds in expectation whatever $q$ is; the
# upper end is flagged where few chains carry the weights. The red line is the sum over a grid, which neither has
# seen. From the grey dot, the ELBO, to the line it is KL(q || p).

# %%
brackets = {}
for name, (params, q) in FITS.items():
    brackets[name] = jaxelbo.evidence(params, jax.random.key(3), log_joint, q, num_samples=2_000)
    b = brackets[name]
    print(
        f"{name:20s} {b.lower.value:8.3f} +- {b.lower.standard_error:.3f} to {b.upper.value:8.3f} +- "
        f"{b.upper.standard_error:.3f}{'  (upper end flagged)' if b.is_upper_unreliable else ''}"
    )
best = brackets["best Gaussian"]
assert (
    best.lower.value - 3 * best.lower.standard_error < log_evidence < best.upper.value + 3 * best.upper.standard_error
)
assert abs(best.gap) < 0.1 and not best.is_upper_unreliable

# %%
figure, axis = plt.subplots(figsize=(8, 2.6))
for row, (name, b) in enumerate(brackets.items()):
    elbo = found[name].elbo
    axis.errorbar(elbo.value, row, xerr=2 * elbo.standard_error, fmt="o", color=GREY, ms=5)
    axis.errorbar(b.lower.value, row + 0.12, xerr=2 * b.lower.standard_error, fmt=">", color=BLUE, ms=6)
    upper = {"mfc": "none"} if b.is_upper_unreliable else {}
    axis.errorbar(b.upper.value, row - 0.12, xerr=2 * b.upper.standard_error, fmt="<", color=GOLD, ms=6, **upper)
axis.axvline(log_evidence, color=RED, lw=1.2)
axis.set_yticks(range(4), brackets)
axis.invert_yaxis()
axis.set_xlabel("nats: ELBO (grey), lower end (blue), upper end (gold, hollow where flagged), log p(x) (red)")
figure.tight_layout()
plt.show()

# %% [markdown]
# ## What the weights can mend
#
# The same draws, weighed, give corrected means and standard deviations. Where $\hat k$ is below 0.7 they are better than
# $q$'s own; where it is above, they may not be. How far $q$'s own moments can be off is bounded by the mean squared
# weight; where the weights' tail is heavy that says nothing, and is flagged.

# %%
figure, axes = plt.subplots(1, 2, figsize=(8, 2.8), sharey=True)


def flat(latent):
    return np.stack([latent["intercept"], latent["slope"]])


for row, (name, (params, q)) in enumerate(FITS.items()):
    own = jaxelbo.summary(jaxelbo.draws(params, jax.random.key(2), q, num_samples=NUM_SAMPLES))
    for axis, ours, corrected, truth, unit in (
        (axes[0], own.mean, found[name].mean, mean, sd),
        (axes[1], own.sd, found[name].sd, sd, sd),
    ):
        axis.scatter((flat(ours) - truth) / unit, [row - 0.1] * 2, color=GREY, s=22, label="q" if not row else None)
        axis.scatter(
            (flat(corrected) - truth) / unit, [row + 0.1] * 2, color=BLUE, s=22, label="weighed" if not row else None
        )
for axis, title in zip(axes, ("error of the means", "error of the standard deviations"), strict=True):
    axis.axvline(0, color=RED, lw=1)
    axis.set_title(f"{title}, in posterior sd", fontsize=9)
axes[0].set_yticks(range(4), FITS)
axes[0].invert_yaxis()
axes[1].legend(frameon=False)
figure.tight_layout()
plt.show()
off = np.abs(flat(found["best Gaussian"].mean) - mean) / sd
print(f"corrected means of the best Gaussian: at most {off.max():.3f} standard deviations off")
assert off.max() < 0.1
for name in FITS:
    b = found[name].moment_bounds
    says = "nothing" if b.is_vacuous or b.is_unreliable else f"at most {b.mean_error['slope'] / sd[1]:.2f} sd off"
    print(f"{name:20s} the mean of the slope: {says}")

# %% [markdown]
# ## Does this way of fitting find the truth?
#
# Draw weights from the prior, simulate data, fit, and see where the true weight lies among the draws of the fit: anywhere
# with equal probability, if the fit is the posterior. A linear regression on the same measurement, whose posterior is
# Gaussian and correlated. Means of independent entries are right and their spread is too narrow: the truth is too often
# outside.


# %%
def prior_fn(key):
    return dict(zip(like, jax.random.normal(key, (2,)), strict=True))


def simulate_fn(latent, key):
    return latent["intercept"] + texture[:12] * latent["slope"] + 0.7 * jax.random.normal(key, (12,))


def fit_fn(y, key, *, constructor):
    def log_joint(z):
        prior = normal(z["intercept"]) + normal(z["slope"])
        return prior + jnp.sum(normal(y, z["intercept"] + texture[:12] * z["slope"], 0.7))

    result = jaxelbo.infer(log_joint, like, key, family=constructor)
    return jaxelbo.draws(result.params, jax.random.fold_in(key, 1), result.family, num_samples=99)


figure, axes = plt.subplots(1, 2, figsize=(8, 2.6), sharey=True)
p_values = {}
for axis, constructor, colour in zip(axes, (families.full_rank, families.mean_field), (BLUE, GOLD), strict=True):
    check = functools.partial(
        jaxelbo.simulation_based_calibration,
        prior_fn=prior_fn,
        simulate_fn=simulate_fn,
        fit_fn=functools.partial(fit_fn, constructor=constructor),
        num_simulations=NUM_SIMULATIONS,
    )
    calibration = jax.jit(lambda key, check=check: check(key))(jax.random.key(4))
    p_values[constructor.__name__] = float(calibration.p_value)
    positions = np.concatenate(jax.tree.leaves(calibration.positions))
    axis.hist(positions, bins=10, range=(0, 1), color=colour, rwidth=0.92)
    expected = len(positions) / 10
    axis.axhspan(expected - 2 * expected**0.5, expected + 2 * expected**0.5, color=GREY, alpha=0.3)
    axis.set_title(f"{constructor.__name__}: p = {calibration.p_value:.2g}", fontsize=9)
    axis.set_xlabel("share of draws below the truth")
axes[0].set_ylabel("simulations")
figure.tight_layout()
plt.show()
print(p_values)
assert p_values["full_rank"] > 0.01 > p_values["mean_field"]
