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
# # The variational lower bound
#
# **One question:** why does raising one number, the bound $L$, give us a posterior, and how far from it are we?
#
# We observe $X$ and believe that unseen quantities $Z$ produced it. What is asked is the posterior
#
# $$p(Z \mid X) = \frac{p(X \mid Z)\,p(Z)}{p(X)}, \qquad p(X) = \int p(X, Z)\,dZ .$$
#
# The joint $p(X, Z)$ is easy to write down. The evidence $p(X)$ is an integral, or a sum with too many terms, and
# stands in the way. The way around it: take a distribution $q(Z)$ that we can handle, and make it as much like
# $p(Z \mid X)$ as we can. This notebook follows X. Yang (2017), *Understanding the Variational Lower Bound*: two
# derivations of the same $L$, and then both of them computed on models whose evidence is known.

# %%
import functools
import os

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from scipy import stats

import jaxelbo

SHORT = os.environ.get("JAXELBO_SHORT") == "1"  # fewer steps, for the tests
NUM_STEPS = 1_500 if SHORT else 2_000
BLUE, RED, GREY = "#1f6f8b", "#c8553d", "#8a949b"
plt.rcParams.update({"figure.dpi": 110, "axes.spines.top": False, "axes.spines.right": False, "font.size": 10})

# %% [markdown]
# ## First derivation: Jensen's inequality
#
# Multiply and divide by $q$ under the integral, and move the concave logarithm inside the expectation:
#
# $$\log p(X) = \log \int q(Z)\,\frac{p(X, Z)}{q(Z)}\,dZ
#   \;\ge\; \mathbb{E}_q\!\left[\log \frac{p(X, Z)}{q(Z)}\right]
#   = \mathbb{E}_q[\log p(X, Z)] + H[Z] \;=:\; L .$$
#
# $H[Z] = -\mathbb{E}_q[\log q(Z)]$ is the entropy of $q$. So $L$ is a *lower bound* on the log evidence: the first
# term pulls $q$ to where the joint is large, the second keeps it wide.
#
# ## Second derivation: the Kullback-Leibler divergence
#
# Jensen tells us that there is a gap, not what it is. Start instead from what we want to be small, the divergence of
# $q$ from the posterior, and use $p(Z \mid X) = p(X, Z) / p(X)$:
#
# $$\mathrm{KL}(q \,\|\, p(Z \mid X)) = \mathbb{E}_q[\log q(Z) - \log p(X, Z)] + \log p(X) = \log p(X) - L .$$
#
# $$\boxed{\,L = \log p(X) - \mathrm{KL}(q \,\|\, p(Z \mid X))\,}$$
#
# The gap *is* the divergence. $\log p(X)$ does not depend on $q$, so raising $L$ lowers the divergence by just as much,
# without $p(X)$ ever being computed; and $L = \log p(X)$ exactly where $q$ is the posterior.

# %% [markdown]
# ## On a model whose evidence is known
#
# In 1857 James Forbes measured, at 17 places in the Alps and in Scotland, the pressure of the air and the temperature at
# which water boils (Weisberg (2014), *Applied Linear Regression*). A hundred times the logarithm of the pressure is
# almost a straight line in the temperature:
#
# $$x_i \sim N(a + b\,t_i,\ 0.4), \qquad a \sim N(130, 20), \quad b \sim N(0, 20) .$$
#
# With the noise taken as known, everything is Gaussian: posterior and evidence are matrix algebra.

# %%
boiling = np.array(
    [
        194.5,
        194.3,
        197.9,
        198.4,
        199.4,
        199.9,
        200.9,
        201.1,
        201.4,
        201.3,
        203.6,
        204.6,
        209.5,
        208.6,
        210.7,
        211.9,
        212.2,
    ]
)
pressure = np.array(
    [
        20.79,
        20.79,
        22.40,
        22.67,
        23.15,
        23.35,
        23.89,
        23.99,
        24.02,
        24.01,
        25.14,
        26.57,
        28.49,
        27.76,
        29.04,
        29.88,
        30.06,
    ]
)
t, x, noise = (boiling - 195) / 10, 100 * np.log10(pressure), 0.4
design = np.stack([np.ones_like(t), t], axis=1)
prior_mean, prior_sd = np.array([130.0, 0.0]), 20.0

precision = design.T @ design / noise**2 + np.eye(2) / prior_sd**2
covariance = np.linalg.inv(precision)
mean = covariance @ (design.T @ x / noise**2 + prior_mean / prior_sd**2)
log_evidence = stats.multivariate_normal(
    design @ prior_mean, prior_sd**2 * design @ design.T + noise**2 * np.eye(len(x))
).logpdf(x)
print(f"posterior mean {mean.round(3)}, sd {np.sqrt(np.diag(covariance)).round(3)}, log p(X) = {log_evidence:.4f}")

# %% [markdown]
# The user's part is one function, $\log p(X, Z)$, of a latent in whatever shape is natural.


# %%
def log_joint(latent):
    normal = jax.scipy.stats.norm.logpdf
    line = latent["a"] + latent["b"] * jnp.asarray(t, jnp.float32)
    likelihood = jnp.sum(normal(jnp.asarray(x, jnp.float32), line, noise))
    return likelihood + normal(latent["a"], 130.0, prior_sd) + normal(latent["b"], 0.0, prior_sd)


START = {"a": 130.0, "b": 7.0}
full_rank = jaxelbo.families.full_rank(START, initial_scale=0.5)
mean_field = jaxelbo.families.mean_field(START, initial_scale=0.5)

# %% [markdown]
# The posterior itself, written in the parameters of the full-rank family, lets us compute the divergence in closed form.

# %%
scale_tril = np.linalg.cholesky(covariance)
scale = np.diag(scale_tril)
posterior = {
    "loc": jnp.asarray(mean, jnp.float32),
    "log_scale": jnp.asarray(np.log(scale), jnp.float32),
    "unit_tril": jnp.asarray(scale_tril / scale[:, None], jnp.float32),
}

# %% [markdown]
# ### Before any fitting: the identity holds on every draw
#
# At *any* point $Z$, $\log p(X, Z) - \log q(Z)$, the log-weight, differs from $\log p(X)$ by exactly
# $\log q(Z) - \log p(Z \mid X)$. Five draws of an untrained $q$, far from the posterior:

# %%
params, key = full_rank.init(jax.random.key(0)), jax.random.key(1)
latents = jaxelbo.draws(params, key, full_rank, num_samples=5)
log_weights = jaxelbo.log_weights(params, key, log_joint, full_rank, num_samples=5)
log_q = jax.vmap(full_rank.log_prob, (None, 0))(params, latents)
log_posterior = jax.vmap(full_rank.log_prob, (None, 0))(posterior, latents)
print("log-weight              ", np.round(log_weights, 3))
print("log q - log p(Z | X)    ", np.round(log_q - log_posterior, 3))
print("their sum, log p(X)     ", np.round(log_weights + log_q - log_posterior, 3))
assert np.allclose(log_weights + log_q - log_posterior, log_evidence, atol=0.05)

# %% [markdown]
# ### Raising the bound
#
# Two families: one with any covariance, which contains the posterior, and one with independent $a$ and $b$, which does
# not. We keep the parameters along the way.


# %%
def raise_bound(family):
    path = [(0, family.init(jax.random.key(0)))]
    loss_fn = functools.partial(negative_elbo, family=family)
    optimizer = optax.adam(optax.cosine_decay_schedule(0.05, NUM_STEPS))
    result = jaxelbo.fit(
        path[0][1],
        jax.random.key(2),
        loss_fn,
        optimizer,
        num_steps=NUM_STEPS,
        callback=lambda progress: path.append((progress.step, progress.params)),
        report_every=10,
    )
    assert result.num_skipped == 0
    return path


def negative_elbo(params, key, family):
    return -jaxelbo.elbo(params, key, log_joint, family, num_samples=8)


@functools.partial(jax.jit, static_argnames="family")
def account(params, family):
    """Bound and divergence, both exact. The log joint is quadratic, so four points of q give its expectation."""
    axes = jnp.sqrt(2.0) * scale_of(params).T
    points = params["loc"] + jnp.concatenate([axes, -axes])
    log_joints = jax.vmap(lambda point: log_joint({"a": point[0], "b": point[1]}))(points)
    bound = jnp.mean(log_joints) + family.entropy(params)
    return bound, jaxelbo.kl_divergence(params, posterior, family, full_rank)


def scale_of(params):
    """q's covariance is this matrix times its transpose."""
    unit = jnp.eye(2) + (jnp.tril(params["unit_tril"], -1) if "unit_tril" in params else 0)
    return jnp.exp(params["log_scale"])[:, None] * unit


paths = {"full rank": (full_rank, raise_bound(full_rank)), "mean field": (mean_field, raise_bound(mean_field))}
traces = {
    name: np.array([(step, *account(params, family)) for step, params in path])
    for name, (family, path) in paths.items()
}
for name, trace in traces.items():
    step, bound, kl = trace[-1]
    print(f"{name:10} L = {bound:.4f}   KL = {kl:.4f}   L + KL = {bound + kl:.4f}   log p(X) = {log_evidence:.4f}")

# %%
figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
for axis, (name, trace) in zip(axes, traces.items(), strict=True):
    step, bound, kl = trace.T
    axis.fill_between(step, bound, log_evidence, color=BLUE, alpha=0.15, label="KL(q || posterior)")
    axis.plot(step, bound, color=BLUE, linewidth=2, label="the bound L")
    axis.plot(step, bound + kl, color=GREY, linewidth=1, label="L + KL")
    axis.axhline(log_evidence, color=RED, linestyle="--", linewidth=1.2, label="log p(X)")
    axis.set(title=f"{name}: ends {kl[-1]:.3f} nats below", xlabel="step", ylim=(log_evidence - 12, log_evidence + 1))
    axis.set(xscale="log", xlim=(30, NUM_STEPS))
axes[0].set_ylabel("nats")
axes[0].legend(frameon=False, loc="lower right")
plt.show()

# %% [markdown]
# The shaded gap is the divergence at every step, not only at the end: bound and divergence were computed separately and
# their sum lies on $\log p(X)$. The full-rank $q$ closes the gap. The mean-field $q$ cannot, and $L$ says by how much.

# %%
for trace in traces.values():
    assert np.all(np.abs(trace[:, 1] + trace[:, 2] - log_evidence) < 1e-2 + 1e-5 * trace[:, 2])  # float32
correlation = covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])
assert traces["full rank"][-1, 2] < 0.01
assert abs(traces["mean field"][-1, 2] - -0.5 * np.log(1 - correlation**2)) < 0.01  # the best independent Gaussian

# %% [markdown]
# And this is what it looks like in the space of the latent: ellipses hold 90% of each distribution.


# %%
def ellipse(params):
    circle = np.stack([np.cos(angle := np.linspace(0, 2 * np.pi, 200)), np.sin(angle)])
    radius = np.sqrt(stats.chi2(2).ppf(0.9))
    return np.asarray(params["loc"])[:, None] + radius * np.asarray(scale_of(params)) @ circle


figure, axes = plt.subplots(1, 2, figsize=(10, 4.2), sharex=True, sharey=True, layout="constrained")
for axis, (name, (_, path)) in zip(axes, paths.items(), strict=True):
    for index in (0, 2, 4, 8, 16, len(path) - 1):
        step, params = path[index]
        last = index == len(path) - 1
        axis.plot(*ellipse(params), color=BLUE, alpha=1 if last else 0.35, linewidth=2 if last else 1)
        axis.annotate(f"{step:,}" if not last else "", ellipse(params)[:, 50], color=BLUE, fontsize=8, alpha=0.8)
    axis.plot(*ellipse(posterior), color=RED, linestyle="--", linewidth=1.5, label="posterior")
    axis.set(title=f"{name}: q by step", xlabel="a")
axes[0].set_ylabel("b")
axes[0].legend(frameon=False)
plt.show()

# %% [markdown]
# ## A discrete example, where the evidence is a sum
#
# Nothing above asked $Z$ to be continuous. Somebody kept in a cellar sees only whether the visitor carries an umbrella
# (Russell and Norvig, *Artificial Intelligence*). Rain today is likelier after rain yesterday:
#
# $$p(z_1) = \tfrac12, \quad p(z_{t+1} = z_t) = 0.7, \quad p(x_t = 1 \mid z_t = 1) = 0.9,\ \ p(x_t = 1 \mid z_t = 0) = 0.2 .$$
#
# Over ten days there are $2^{10} = 1024$ configurations of the weather, and $p(X)$ is the sum over all of them.

# %%
umbrella = np.array([1, 1, 0, 1, 1, 0, 0, 0, 1, 1])
configurations = jnp.asarray((np.arange(1024)[:, None] >> np.arange(10)) & 1)


def log_joint_of_weather(z):
    stays = jnp.where(z[1:] == z[:-1], 0.7, 0.3)
    seen = jnp.where(z == 1, 0.9, 0.2)
    return jnp.log(0.5) + jnp.sum(jnp.log(stays)) + jnp.sum(jnp.log(jnp.where(umbrella == 1, seen, 1 - seen)))


log_joints = jax.vmap(log_joint_of_weather)(configurations)
log_evidence_weather = jax.nn.logsumexp(log_joints)
exact_posterior = jnp.exp(log_joints - log_evidence_weather)
print(f"log p(X) = {log_evidence_weather:.4f}, the sum of {len(log_joints):,} terms")

# %% [markdown]
# Let $q$ treat the days as independent, $q(Z) = \prod_t q_t(z_t)$. With 1024 configurations both sides of both
# derivations are sums that we can do exactly, so this fit has no noise at all.


# %%
def log_q_of_weather(logits):
    return jnp.sum(jnp.where(configurations == 1, jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)), axis=1)


def bound_of_weather(logits):
    """Jensen: E_q[log p(X, Z)] + H[Z], a sum over all configurations."""
    log_q = log_q_of_weather(logits)
    return jnp.sum(jnp.exp(log_q) * (log_joints - log_q))


def kl_of_weather(logits):
    """KL(q || p(Z | X)), a sum over all configurations."""
    log_q = log_q_of_weather(logits)
    return jnp.sum(jnp.exp(log_q) * (log_q - (log_joints - log_evidence_weather)))


result = jaxelbo.fit(
    jnp.zeros(10), jax.random.key(0), lambda logits, key: -bound_of_weather(logits), optax.adam(0.05), num_steps=600
)
bounds = -np.asarray(result.history.loss)
final, gap = bound_of_weather(result.params), kl_of_weather(result.params)
print(f"L = {final:.4f}   KL = {gap:.4f}   L + KL = {final + gap:.4f}   log p(X) = {log_evidence_weather:.4f}")
assert abs(final + gap - log_evidence_weather) < 1e-4
assert np.all(bounds < log_evidence_weather)

# %% [markdown]
# Jensen's inequality also says how to do better *without* a better $q$: average more weights before the logarithm. The
# importance-weighted bound with $S$ draws rises to $\log p(X)$ as $S$ grows. Here is $q$ as it ended, at $S$ from 1 on.

# %%
log_q = log_q_of_weather(result.params)
sizes = (1, 2, 4, 8, 16, 32, 64)


def importance_weighted(key, size):
    days = jax.random.bernoulli(key, jax.nn.sigmoid(result.params), (size, 10))
    return jaxelbo.bounds.importance_weighted((log_joints - log_q)[days @ 2 ** jnp.arange(10)])


keys = jax.random.split(jax.random.key(1), 2_000 if SHORT else 20_000)
rising = [float(jnp.mean(jax.vmap(functools.partial(importance_weighted, size=size))(keys))) for size in sizes]
assert all(low < high for low, high in zip(rising[:-1], rising[1:], strict=True))
assert rising[-1] < log_evidence_weather + 0.01

# %%
figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
left.fill_between(range(600), bounds, log_evidence_weather, color=BLUE, alpha=0.15, label="KL(q || posterior)")
left.plot(bounds, color=BLUE, linewidth=2, label="the bound L")
left.axhline(log_evidence_weather, color=RED, linestyle="--", linewidth=1.2, label="log p(X)")
left.set(xlabel="step", ylabel="nats", title=f"Independent days end {gap:.2f} nats below")
left.legend(frameon=False, loc="lower right")
days = np.arange(10)
middle.bar(days - 0.2, exact_posterior @ configurations, 0.4, color=RED, alpha=0.8, label="posterior, exact")
middle.bar(days + 0.2, jax.nn.sigmoid(result.params), 0.4, color=BLUE, alpha=0.8, label="q")
middle.set_xticks(days, [f"{day + 1}\n{'u' if seen else '-'}" for day, seen in enumerate(umbrella)])
middle.set(
    xlabel="day (u: umbrella seen)", ylabel="probability of rain", title="Surer than it should be", ylim=(0, 1.25)
)
middle.legend(frameon=False, ncols=2)
right.plot(sizes, rising, "o-", color=BLUE, label="importance-weighted bound")
right.axhline(log_evidence_weather, color=RED, linestyle="--", linewidth=1.2, label="log p(X)")
right.set_xscale("log", base=2)
right.set(xlabel="draws S", title="The same q, more draws")
right.legend(frameon=False, loc="lower right")
plt.show()

# %% [markdown]
# ## What to take away
#
# - $L = \mathbb{E}_q[\log p(X, Z)] + H[Z]$ needs only the joint and $q$.
# - $L = \log p(X) - \mathrm{KL}(q \,\|\, p(Z \mid X))$: the gap is the divergence, at every step and for every $q$.
# - The bound cannot pass $\log p(X)$. Where it stops short, either the optimiser is not done or the family is too small;
#   $L$ alone does not tell which. Estimating $\log p(X)$ by other means, as above, does.
#
# *Source of the two derivations:* X. Yang (2017), *Understanding the Variational Lower Bound*.
