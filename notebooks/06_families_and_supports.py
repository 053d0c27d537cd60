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
# # Families and supports
#
# **One question:** which $q$ for which posterior?
#
# Maximising the bound minimises $\mathrm{KL}(q \,\|\, p)$, so a family is as good as the closest member it has. Here are
# posteriors of two numbers, few enough to see: grey is $p$, red is the $q$ that a family offers. Above each picture
# stands $\mathrm{KL}(q \,\|\, p)$ in nats, from draws of $q$ and the evidence by quadrature.

# %%
import functools
import os

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from scipy import special, stats

import jaxelbo
from jaxelbo import bijectors, families

SHORT = os.environ.get("JAXELBO_SHORT") == "1"  # fewer steps, for the tests
NUM_STEPS = 1_000 if SHORT else 4_000
RED, BLUE, GREY = "#c8553d", "#1f6f8b", "#8a949b"
plt.rcParams.update({"figure.dpi": 110, "axes.spines.top": False, "axes.spines.right": False, "font.size": 9})
jax.config.update("jax_enable_x64", True)
key = jax.random.key(0)


def fit(log_joint, family, start=None):
    """The family's params by Adam on the bound of 16 draws; parts without gradient by their scores."""

    def loss_fn(params, key):
        return -jaxelbo.elbo(params, key, log_joint, family, num_samples=16)

    start = family.init(key) if start is None else start
    rate = optax.cosine_decay_schedule(0.02, NUM_STEPS)
    return jaxelbo.fit(start, key, loss_fn, optax.adam(rate), num_steps=NUM_STEPS).params


# %% [markdown]
# ## Real numbers
#
# Four posteriors on the plane: correlated, with heavy tails, bent, and with two modes.

# %%
EDGE = 7.0
axis = np.linspace(-EDGE, EDGE, 281)
plane = jnp.asarray(np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1))
normal, student = jax.scipy.stats.norm.logpdf, jax.scipy.stats.t.logpdf


def correlated(z):
    return normal(z[0]) + normal(z[1], 0.9 * z[0], 0.45)


def heavy(z):
    return jnp.sum(student(z, 2.5))


def bent(z):
    return normal(z[0], 0.0, 1.5) + normal(z[1], 0.6 * z[0] ** 2 - 2, 0.5)


def two_modes(z):
    distances = jnp.sum((z[None] - jnp.array([[-2.0, -1.0], [2.0, 1.5]])) ** 2, axis=1)
    return jax.nn.logsumexp(-0.5 * distances / 0.6**2)


def on_plane(log_density):
    return np.asarray(jax.jit(jax.vmap(jax.vmap(log_density)))(plane))


def fitted(log_joint, family, start):
    """Log q on the plane, and KL(q || p) by what quadrature says of the evidence."""
    params = fit(log_joint, family, start)
    wide = np.linspace(-60, 60, 1201)
    points = jnp.asarray(np.stack(np.meshgrid(wide, wide, indexing="ij"), axis=-1).reshape(-1, 2))
    log_p = np.asarray(jax.lax.map(log_joint, points, batch_size=20_000))
    log_evidence = special.logsumexp(log_p) + 2 * np.log(wide[1] - wide[0])
    elbo = jaxelbo.elbo(params, jax.random.key(1), log_joint, family, num_samples=20_000)
    return on_plane(lambda z: family.log_prob(params, z)), float(log_evidence - elbo)


def contours(axes, log_density, color, **style):
    levels = np.max(log_density) - np.array([6.0, 3.5, 1.8, 0.6])
    axes.contour(axis, axis, log_density.T, levels, colors=color, linestyles="solid", **style)


def pictures(log_joint, choices, title, starts=None):
    """A picture a family."""
    figure, row = plt.subplots(1, len(choices), figsize=(2.35 * len(choices), 2.6), sharex=True, sharey=True)
    log_p, divergences = on_plane(log_joint), {}
    for axes, (name, family) in zip(row, choices.items(), strict=True):
        log_q, divergences[name] = fitted(log_joint, family, (starts or {}).get(name))
        contours(axes, log_p, GREY, linewidths=1.4)
        contours(axes, log_q, RED, linewidths=0.8)
        axes.set_title(f"{name}\nKL {divergences[name]:.3f}", fontsize=9)
        axes.set(aspect="equal", xlim=(-5, 5), ylim=(-5, 5))
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    figure.tight_layout()
    plt.show()
    return divergences


flat = jnp.zeros(2)
of_correlated = pictures(
    correlated,
    {
        "mean_field": families.mean_field(flat),
        "full_rank": families.full_rank(flat),
        "low_rank, 1 direction": families.low_rank(flat, rank=1),
    },
    "Correlated: independent entries cannot follow",
)

# %%
of_heavy = pictures(
    heavy,
    {
        "mean_field": families.mean_field(flat),
        "laplace": families.laplace(flat),
        "student_t": families.student_t(flat),
    },
    "Heavy tails: the degrees of freedom are learned",
)

# %%
of_bent = pictures(
    bent,
    {
        "full_rank": families.full_rank(flat),
        "planar_flow": families.planar_flow(flat, num_layers=8, initial_scale=1.0),
        "affine_coupling_flow": families.affine_coupling_flow(flat, num_layers=4, width=8, initial_scale=1.0),
        "spline_flow": families.spline_flow(flat, num_layers=4, width=8, num_bins=6, initial_scale=1.0),
        "autoregressive_flow": families.autoregressive_flow(flat, num_layers=4, width=8, initial_scale=1.0),
    },
    "Bent: what flows are for",
)

# %%
mixture = families.mixture(families.full_rank(flat, initial_scale=1.0), 2)
apart = mixture.init(key)  # components that start in one place would stay together
apart["components"]["loc"] = jnp.array([[-1.0, 0.0], [1.0, 0.0]])
of_modes = pictures(
    two_modes,
    {"full_rank": families.full_rank(flat), "mixture of 2": mixture},
    "Two modes: one Gaussian takes one of them, and says nothing of the other",
    {"mixture of 2": apart},
)

# %%
print("KL(q || p) in nats")
for name, divergences in {
    "correlated": of_correlated, "heavy": of_heavy, "bent": of_bent, "two modes": of_modes
}.items():  # fmt: skip
    print(f"{name:>11}: " + ", ".join(f"{family} {value:.3f}" for family, value in divergences.items()))
assert of_correlated["full_rank"] < 0.01 < 0.5 < of_correlated["mean_field"]
assert of_heavy["student_t"] < 0.01 < of_heavy["laplace"]
assert max(value for name, value in of_bent.items() if name != "full_rank") < 0.4 * of_bent["full_rank"]
assert of_modes["mixture of 2"] < 0.05 and abs(of_modes["full_rank"] - np.log(2)) < 0.1

# %% [markdown]
# ## Numbers with a support
#
# Counts of rare events: with a Gamma prior the posterior of the rate is a gamma, of a success probability a beta. The
# family `gamma` holds the first exactly. A Gaussian with `support={"rate": positive}` does not, and is close; nobody
# writes a Jacobian.

# %%
counts = jnp.array([0.0, 2.0, 1.0])
successes, failures = 2.0, 7.0


def of_rate(z):
    return jnp.sum(jax.scipy.stats.poisson.logpmf(counts, z["rate"])) - z["rate"]


def of_chance(z):
    return successes * jnp.log(z["chance"]) + failures * jnp.log1p(-z["chance"])


rate_like, chance_like = {"rate": 1.0}, {"chance": 0.5}
cases = {
    "gamma": (of_rate, families.gamma(rate_like)),
    "log_normal": (of_rate, families.log_normal(rate_like)),
    "mean_field, support\npositive_softplus": (
        of_rate, families.constrained(families.mean_field, rate_like, {"rate": bijectors.positive_softplus})),
    "beta": (of_chance, families.beta(chance_like)),
    "mean_field, support\nunit_interval": (
        of_chance, families.constrained(families.mean_field, chance_like, {"chance": bijectors.unit_interval})),
}  # fmt: skip
exact = {of_rate: stats.gamma(4.0, scale=0.25), of_chance: stats.beta(3.0, 8.0)}
figure, row = plt.subplots(1, len(cases), figsize=(11.5, 2.3))
gaps = {}
for axes, (name, (log_joint, family)) in zip(row, cases.items(), strict=True):
    leaf = "rate" if log_joint is of_rate else "chance"
    params = fit(log_joint, family)
    points = np.linspace(*exact[log_joint].ppf([1e-4, 0.9995]), 200)
    log_q = jax.vmap(lambda x, leaf=leaf, family=family, params=params: family.log_prob(params, {leaf: x}))(points)
    draws = jaxelbo.draws(params, key, family, num_samples=20_000)
    own = jax.vmap(functools.partial(family.log_prob, params))(draws)
    gaps[name] = float(np.mean(own - exact[log_joint].logpdf(np.asarray(draws[leaf]))))
    axes.fill_between(points, exact[log_joint].pdf(points), color=GREY, alpha=0.4, linewidth=0)
    axes.plot(points, np.exp(log_q), color=RED, linewidth=1.2)
    axes.set_title(f"{name}\nKL {gaps[name]:.4f}", fontsize=9)
    axes.set(xlabel=leaf, yticks=[])
figure.tight_layout()
plt.show()
print(", ".join(f"{name.split()[0]} {gap:.4f}" for name, gap in gaps.items()))
assert abs(gaps["gamma"]) < 2e-3 and abs(gaps["beta"]) < 2e-3 and max(gaps.values()) < 0.05

# %% [markdown]
# ## Shares, directions, order
#
# A support is a pytree like the latent. Three shares seen in twelve votes, a direction seen in five noisy arrows, three
# cutpoints that must rise: `infer` fits them as it fits real numbers, and what it returns lies on the user's scale.

# %%
votes = jnp.array([7.0, 3.0, 2.0])
arrows = jnp.array([[0.9, 0.3], [0.4, 0.8], [0.7, 0.9], [1.0, 0.1], [0.2, 1.1]])
answers = jnp.array([0, 0, 1, 1, 1, 2, 2, 2, 2, 2, 3, 3])


def log_joint(z):
    of_votes = votes @ jnp.log(z["shares"])
    of_arrows = jnp.sum(normal(arrows, z["direction"][None], 0.5))
    heights = jax.nn.sigmoid(z["cutpoints"])
    chances = jnp.diff(jnp.concatenate([jnp.zeros(1), heights, jnp.ones(1)]))
    return of_votes + of_arrows + jnp.sum(jnp.log(chances[answers])) + jnp.sum(normal(z["cutpoints"], 0.0, 2.0))


start = {"shares": jnp.full(3, 1 / 3), "direction": jnp.array([1.0, 0.0]), "cutpoints": jnp.array([-1.0, 0.0, 1.0])}
support = {"shares": bijectors.simplex, "direction": bijectors.sphere, "cutpoints": bijectors.ordered}
result = jaxelbo.infer(log_joint, start, key, support=support)
draws = jax.tree.map(np.asarray, jaxelbo.draws(result.params, key, result.family, num_samples=2_000))
print(f"{result.status}, ELBO {result.elbo:.3f}, {result.num_gradients} gradients, k-hat {result.pareto_k:.2f}")

# %%
figure, (left, middle, right) = plt.subplots(1, 3, figsize=(10.5, 3))
shares = draws["shares"]
left.scatter(shares[:, 1] + shares[:, 2] / 2, shares[:, 2] * np.sqrt(3) / 2, s=2, color=RED, alpha=0.3)
left.plot([0, 1, 0.5, 0], [0, 0, np.sqrt(3) / 2, 0], color=GREY, linewidth=1)
for x, y, label in ((-0.06, -0.03, "a"), (1.03, -0.03, "b"), (0.47, 0.9, "c")):
    left.text(x, y, label)
left.set(aspect="equal", xticks=[], yticks=[], title="shares: simplex")
left.axis("off")
middle.add_patch(plt.Circle((0, 0), 1, fill=False, color=GREY))
middle.scatter(*draws["direction"].T, s=4, color=RED, alpha=0.1)
middle.scatter(*arrows.T, s=14, marker="x", color=BLUE)
middle.set(aspect="equal", title="direction: sphere, and the arrows", xlim=(-1.3, 1.3), ylim=(-1.3, 1.3))
for index, color in enumerate((BLUE, RED, GREY)):
    right.hist(draws["cutpoints"][:, index], bins=50, color=color, alpha=0.6)
right.set(title="cutpoints: ordered", yticks=[])
figure.tight_layout()
plt.show()
exact_shares = stats.dirichlet(votes + 1).mean()
print("mean shares", np.round(shares.mean(axis=0), 3), "exact", np.round(exact_shares, 3))
assert np.allclose(shares.sum(axis=1), 1) and np.all(np.diff(draws["cutpoints"], axis=1) > 0)
assert np.allclose(np.linalg.norm(draws["direction"], axis=1), 1)
assert np.all(np.abs(shares.mean(axis=0) - exact_shares) < 0.01)

# %% [markdown]
# ## Structure found in the model
#
# Where a full covariance is too much and none too little, $q$ can have the model's own structure. In a hierarchical
# model the groups do not see each other once the globals are known. `structures.from_log_joint` finds that in the
# Hessian's zeros, and `families.structured` is the Gaussian with it: for 12 groups 25 weights instead of 91.

# %%
rng = np.random.default_rng(0)
group_means = jnp.asarray(rng.normal(1.0, 0.8, 12) + 0.4 * rng.normal(size=12))


def hierarchy(z):
    of_globals = normal(z["mean"], 0.0, 2.0) + normal(z["log_spread"], 0.0, 0.5)
    of_groups = jnp.sum(normal(z["groups"], z["mean"], jnp.exp(z["log_spread"])))
    return of_globals + of_groups + jnp.sum(normal(group_means, z["groups"], 0.4))


like = {"groups": jnp.zeros(12), "log_spread": 0.0, "mean": 0.0}
structure = jaxelbo.structures.from_log_joint(hierarchy, like, key)
choices = {
    "mean_field": families.mean_field(like),
    "structured": families.structured(like, structure),
    "full_rank": families.full_rank(like),
}
elbos = {}
for name, family in choices.items():
    params = fit(hierarchy, family)
    elbos[name] = float(jaxelbo.elbo(params, jax.random.key(2), hierarchy, family, num_samples=20_000))
num_weights = {"mean_field": 0, "structured": sum(map(len, structure.parents)), "full_rank": 14 * 13 // 2}
for name, value in elbos.items():
    print(f"{name:>10}: ELBO {value:8.3f}, {num_weights[name]} weights")
assert abs(elbos["structured"] - elbos["full_rank"]) < 0.05 and elbos["structured"] > elbos["mean_field"] + 0.3

# %%
figure, axes = plt.subplots(figsize=(3.4, 3.2))
picture = np.zeros((14, 14))
for entry, parents in enumerate(structure.parents):
    picture[entry, list(parents)] = 1
axes.imshow(picture, cmap="Reds", vmin=0, vmax=1.4)
axes.set(xlabel="given entry", ylabel="entry", title="groups (0-11), spread, mean: who is drawn given whom")
axes.title.set_fontsize(9)
plt.show()
