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
# # EM and coordinate ascent
#
# **One question:** what do EM and variational Bayes have in common, and what does the prior buy?
#
# Both climb one bound, $L(q, \theta) = E_q[\log p(x, z \mid \theta)] + H[q]$, on one factor at a time. In EM the E step
# makes $q$ the exact posterior of the latents and the M step moves a point $\theta$. In variational Bayes $\theta$ has a
# distribution too, and a step of a factor is an addition of natural parameters. The data: 178 wines of three cultivars
# from one valley, thirteen chemical measurements each, of which we take the first two principal components; we ask for
# six components of the mixture.

# %%
import os

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from sklearn import datasets, decomposition, metrics

import jaxelbo
from jaxelbo import algorithms, conjugate
from jaxelbo import distributions as d

SHORT = os.environ.get("JAXELBO_SHORT") == "1"  # fewer steps, for the tests
NUM_STEPS = 150 if SHORT else 400
RED, BLUE, GREY, GOLD = "#c8553d", "#1f6f8b", "#8a949b", "#d9a441"
plt.rcParams.update({"figure.dpi": 110, "axes.spines.top": False, "axes.spines.right": False, "font.size": 9})
jax.config.update("jax_enable_x64", True)
key, K = jax.random.key(3), 6

wines = datasets.load_wine()
columns = (wines.data - wines.data.mean(axis=0)) / wines.data.std(axis=0)
x = jnp.asarray(decomposition.PCA(2, svd_solver="full").fit_transform(columns))
print(f"{len(x)} wines, {len(wines.target_names)} cultivars of {np.bincount(wines.target)} each")

# %% [markdown]
# ## Variational Bayes
#
# The model is one function of mean parameters, `conjugate.gaussian_mixture`; the steps are its gradients. A Dirichlet
# prior with concentration 0.01 says that most components are not needed. The bound has local optima: we climb from eight
# starts at once, by `vmap`, and keep the highest.

# %%
component = d.NormalInverseWishart(jnp.zeros(2), 0.1, 3.0, 0.5 * jnp.eye(2))
model = conjugate.gaussian_mixture(d.Dirichlet(jnp.full(K, 0.01)), component)
starts = [model.start(each, x) for each in jax.random.split(key, 8)]
ascent = algorithms.coordinate_ascent(model.expected_log_joint, model.factors)


def climb(start):
    return jaxelbo.run_algorithm(start, key, ascent, num_steps=NUM_STEPS, data=(x,))


climbs = jax.jit(jax.vmap(climb))(jax.tree.map(lambda *leaves: jnp.stack(leaves), *starts))
print("bounds from eight starts:", np.round(climbs.history.bound[:, -1], 2))
best = int(jnp.argmax(climbs.history.bound[:, -1]))
start, vb = starts[best], jax.tree.map(lambda leaf: leaf[best], climbs)
half = algorithms.coordinate_ascent(model.expected_log_joint, model.factors, step_size=0.5)
natural = jaxelbo.run_algorithm(start, key, half, num_steps=2 * NUM_STEPS, data=(x,))
counts = np.asarray(d.dirichlet.to_usual(vb.params["weights"]).concentration)
print("rows a component:", np.round(np.sort(counts)[::-1], 1))
print(
    f"bound: coordinate ascent {vb.history.bound[-1]:.4f}, natural-gradient steps of 0.5 {natural.history.bound[-1]:.4f}"
)
assert np.all(np.diff(vb.history.bound) > -1e-9) and np.all(np.diff(natural.history.bound) > -1e-9)

# %% [markdown]
# ## EM
#
# The same mixture with a point for the weights, means and covariances: `algorithms.expectation_maximisation` alternates
# two functions on two pytrees. After each E step the bound touches the log-likelihood.


# %%
def log_terms(theta, x):
    def of_component(log_weight, mean, covariance):
        return log_weight + jax.scipy.stats.multivariate_normal.logpdf(x, mean, covariance)

    return jax.vmap(of_component, out_axes=1)(*theta)


def e_step(q, theta, key, x):
    return jax.nn.softmax(log_terms(theta, x), axis=1)


def m_step(q, theta, key, x):
    totals = q.sum(axis=0)
    means = (q.T @ x) / totals[:, None]
    gaps = x[:, None] - means
    covariances = jnp.einsum("nk,nki,nkj->kij", q, gaps, gaps) / totals[:, None, None] + 1e-6 * jnp.eye(2)
    return jnp.log(totals / len(x)), means, covariances


def bound(q, theta, x):
    return jnp.sum(q * log_terms(theta, x)) - jnp.sum(jax.scipy.special.xlogy(q, q))


first = jnp.append(start["assignments"], jnp.zeros((len(x), 1)), axis=1)
usual = jax.vmap(d.normal_inverse_wishart.to_usual)(start["components"])
theta = (jnp.full(K, -jnp.log(K)), usual.loc, jnp.broadcast_to(0.3 * jnp.eye(2), (K, 2, 2)))
em = jaxelbo.run_algorithm(
    {"variational": jax.nn.softmax(first), "model": theta},
    key,
    algorithms.expectation_maximisation(e_step, m_step, bound),
    num_steps=NUM_STEPS,
    data=(x,),
)
likelihood = jnp.sum(jax.nn.logsumexp(log_terms(em.params["model"], x), axis=1))
print(
    f"log-likelihood after {NUM_STEPS} rounds {likelihood:.2f}, the bound after the last E step {em.history.after_e[-1]:.2f}"
)
stairs = np.ravel(np.column_stack([em.history.after_e, em.history.after_m]))
assert np.all(np.diff(stairs) > -1e-3)

# %% [markdown]
# ## The staircase
#
# Left, rounds of EM from the second on: the E step lifts the bound to the log-likelihood of the $\theta$ at hand, the M step
# raises both. Right, the bound of variational Bayes, long flat treads where a component slowly loses its rows and a
# riser where it is gone.

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.2))
shown = np.arange(1, 9)  # round 0 ends 100 nats lower
left.step(np.arange(2, 18) / 2, stairs[2:18], where="post", color=RED, label="bound")
left.plot(shown, em.history.after_e[shown], "o", color=BLUE, markersize=4, label="log-likelihood, after E steps")
left.set(xlabel="round", ylabel="nats")
left.set_title("EM: the bound touches the likelihood", loc="left", fontsize=10)
left.legend(frameon=False)
right.plot(1 + np.arange(NUM_STEPS), vb.history.bound, color=RED, label="coordinate ascent")
right.plot(
    1 + np.arange(2 * NUM_STEPS), natural.history.bound, color=BLUE, linewidth=0.9, label="natural gradient, 0.5"
)
right.set(xlabel="step", ylabel="nats", xscale="log")
right.set_title("Variational Bayes: it rises at every step", loc="left", fontsize=10)
right.legend(frameon=False)
figure.tight_layout()
plt.show()

# %% [markdown]
# ## Side by side
#
# Each ellipse holds nine tenths of a component. EM uses all six that it was given and keeps going where the likelihood
# is highest; variational Bayes keeps those that pay for themselves.

# %%
angles = np.linspace(0, 2 * np.pi, 100)
circle = np.sqrt(2 * np.log(10)) * np.stack([np.cos(angles), np.sin(angles)])
fitted = jax.vmap(d.normal_inverse_wishart.to_usual)(vb.params["components"])
scatter = np.einsum("kij,klj->kil", fitted.scale_tril, fitted.scale_tril) / np.asarray(fitted.df)[:, None, None]
sets = {
    f"EM, log-likelihood {likelihood:.1f}": (np.exp(em.params["model"][0]), *em.params["model"][1:]),
    f"variational Bayes, bound {vb.history.bound[-1]:.1f}": (counts / counts.sum(), fitted.loc, scatter),
}
figure, row = plt.subplots(1, 2, figsize=(10, 3.8), sharex=True, sharey=True)
for axes, (title, (weights, means, covariances)) in zip(row, sets.items(), strict=True):
    for cultivar, color in enumerate((GOLD, BLUE, GREY)):
        axes.scatter(*x[wines.target == cultivar].T, s=10, color=color, label=f"cultivar {cultivar}")
    for weight, mean, covariance in zip(weights, means, covariances, strict=True):
        if weight > 0.01:
            ellipse = np.asarray(mean)[:, None] + np.linalg.cholesky(covariance) @ circle
            axes.plot(*ellipse, color=RED, linewidth=0.6 + 3 * float(weight))
    axes.set_title(title, loc="left", fontsize=10)
    axes.set(xlabel="first component", ylabel="second")
row[0].legend(frameon=False, loc="lower left")
figure.tight_layout()
plt.show()
num_kept = int(np.sum(counts > 1))
by_vb = np.argmax(np.append(vb.params["assignments"], np.zeros((len(x), 1)), axis=1), axis=1)
by_em = np.argmax(em.params["variational"], axis=1)
scores = {name: metrics.adjusted_rand_score(wines.target, labels) for name, labels in (("VB", by_vb), ("EM", by_em))}
print(f"components in use: EM {np.sum(np.exp(em.params['model'][0]) > 0.01)}, variational Bayes {num_kept}")
print("agreement with the cultivars (adjusted Rand index):", {name: round(score, 2) for name, score in scores.items()})
assert num_kept < K and scores["VB"] > scores["EM"]

# %% [markdown]
# ## Which columns matter
#
# The same two lines of driver for another model: a regression whose weights each have a precision of their own
# (automatic relevance determination), on Efron and others' diabetes study with ten columns of noise beside its own ten.

# %%
study = datasets.load_diabetes()
rng = np.random.default_rng(0)
design = np.column_stack([study.data / study.data.std(axis=0), rng.normal(size=(len(study.target), 10))])
y = (study.target - study.target.mean()) / study.target.std()
prior = d.Gamma(jnp.full(20, 1e-4), jnp.full(20, 1e-4))
regression = conjugate.relevance_regression(prior, d.Gamma(0.01, 0.01))
data = jnp.asarray(design), jnp.asarray(y)
ascent = algorithms.coordinate_ascent(regression.expected_log_joint, regression.factors)
result = jaxelbo.run_algorithm(regression.start(key, *data), key, ascent, num_steps=NUM_STEPS, data=data)
weights = d.multivariate_normal.to_usual(result.params["weights"])
relevance = jax.vmap(d.gamma.to_usual)(result.params["relevance"])
sds = np.sqrt(np.asarray(relevance.rate / relevance.concentration))
assert np.all(np.diff(result.history.bound) > -1e-9)

# %%
figure, axes = plt.subplots(figsize=(9, 2.6))
names = [*study.feature_names, *(f"noise {i}" for i in range(10))]
axes.bar(np.arange(20), sds, color=[RED] * 10 + [GREY] * 10)
axes.set_xticks(np.arange(20), names, rotation=60, ha="right")
axes.set_ylabel("typical size of a weight")
axes.set_title("What the data say a weight's size is", loc="left", fontsize=10)
plt.show()
print("largest:", ", ".join(names[i] for i in np.argsort(-sds)[:4]), "; largest of noise", f"{sds[10:].max():.3f}")
assert np.sort(sds[:10])[-4] > 2 * sds[10:].max()

# %% [markdown]
# ## Sequences
#
# A hidden Markov model is the same once more; its hidden path is one factor whose mean parameters are what
# forward-backward computes, here the gradient of the forward recursion. Old data again: the flow of the Nile at Aswan,
# 1871 to 1970, with two states.

# %%
nile = np.array([
    1120, 1160, 963, 1210, 1160, 1160, 813, 1230, 1370, 1140, 995, 935, 1110, 994, 1020, 960, 1180, 799, 958, 1140,
    1100, 1210, 1150, 1250, 1260, 1220, 1030, 1100, 774, 840, 874, 694, 940, 833, 701, 916, 692, 1020, 1050, 969,
    831, 726, 456, 824, 702, 1120, 1100, 832, 764, 821, 768, 845, 864, 862, 698, 845, 744, 796, 1040, 759,
    781, 865, 845, 944, 984, 897, 822, 1010, 771, 676, 649, 846, 812, 742, 801, 1040, 860, 874, 848, 890,
    744, 749, 838, 1050, 918, 986, 797, 923, 975, 815, 1020, 906, 901, 1170, 912, 746, 919, 718, 714, 740,
])  # fmt: skip
flow = jnp.asarray((nile - nile.mean()) / nile.std())[None, :, None]
level = d.NormalInverseWishart(jnp.zeros(1), 0.1, 2.0, jnp.eye(1))
sticky = d.Dirichlet(jnp.eye(2) * 9.0 + 1.0)
hmm = conjugate.hidden_markov_model(d.Dirichlet(jnp.ones(2)), sticky, conjugate.gaussian_observations(level))
ascent = algorithms.coordinate_ascent(hmm.expected_log_joint, hmm.factors)
result = jaxelbo.run_algorithm(hmm.start(key, flow), key, ascent, num_steps=NUM_STEPS, data=(flow,))
path = jaxelbo.exponential.mean_parameters(result.params["paths"], hmm.factors["paths"])[2][0]
levels = jax.vmap(d.normal_inverse_wishart.to_usual)(result.params["observations"]).loc[:, 0]
high = np.asarray(path[:, int(jnp.argmax(levels))])
years = np.arange(1871, 1971)
figure, axes = plt.subplots(figsize=(9, 2.6))
axes.plot(years, nile, color=GREY, linewidth=1, marker="o", markersize=2.5)
axes.set(ylabel="flow, 10$^8$ m$^3$")
other = axes.twinx()
other.fill_between(years, high, color=RED, alpha=0.25, step="mid", linewidth=0)
other.set(ylabel="P(high state)", ylim=(0, 1), yticks=[0, 1])
axes.set_title("The Nile falls, and a dam is begun", loc="left", fontsize=10)
plt.show()
change = int(years[np.argmax(high < 0.5)])
print(f"first year more likely in the low state: {change}; the dam at Aswan was begun in 1898")
assert abs(change - 1899) <= 1 and np.all(np.diff(result.history.bound) > -1e-9)
