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
# # Scaling
#
# **One question:** what changes when there are eight devices instead of one, or more rows than fit?
#
# The code of the model and of the fit does not; where rows and draws lie does. Here the eight devices are slices of one
# CPU, forced by an environment variable, so the answers can be checked on a laptop; the work is divided, and the time is
# not, since the cores stay as many as they were.

# %%
import os

os.environ["JAX_NUM_CPU_DEVICES"] = "8"  # before jax is imported
os.environ["JAX_PLATFORMS"] = "cpu"

import time

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from sklearn import datasets

import jaxelbo
from jaxelbo import algorithms, device_meshes, families

SHORT = os.environ.get("JAXELBO_SHORT") == "1"  # fewer steps and copies of the rows, for the tests
NUM_STEPS, NUM_COPIES = (100, 4) if SHORT else (300, 40)
RED, BLUE, GREY, GOLD = "#c8553d", "#1f6f8b", "#8a949b", "#d9a441"
plt.rcParams.update({"figure.dpi": 110, "axes.spines.top": False, "axes.spines.right": False, "font.size": 9})
normal = jax.scipy.stats.norm.logpdf
key = jax.random.key(0)

patients = datasets.load_diabetes()
x = np.tile(np.asarray(patients.data / patients.data.std(axis=0), np.float32)[:440], (NUM_COPIES, 1))
y = np.tile(
    np.asarray((patients.target - patients.target.mean()) / patients.target.std(), np.float32)[:440], NUM_COPIES
)
print(f"{len(jax.devices())} devices of one CPU with {os.cpu_count()} cores; {len(y):,} rows of {x.shape[1]} columns")

# %% [markdown]
# ## The same code on one device and on eight
#
# A regression whose noise is not known. `place_rows` puts each eighth of the rows on a device of its own; with a mesh set,
# draws of $q$ are spread along its second axis. The compiler puts in the sums across devices.

# %%
family = families.full_rank({"weights": jnp.zeros(x.shape[1]), "log_sd": 0.0})


def log_joint(z, x, y):
    prior = jnp.sum(normal(z["weights"])) + normal(z["log_sd"])
    return prior + jnp.sum(normal(y, x @ z["weights"], jnp.exp(z["log_sd"])))


def loss_fn(params, key, x, y):
    return -jaxelbo.elbo(params, key, lambda z: log_joint(z, x, y), family, num_samples=8)


def fit(data):
    return jaxelbo.fit(family.init(key), key, loss_fn, optax.adam(0.02), num_steps=NUM_STEPS, data=data)


alone = fit((x, y))
mesh = device_meshes.device_mesh(num_along_samples=2)
placed = device_meshes.place_rows((x, y), mesh)
with jax.set_mesh(mesh):
    spread = fit(placed)
    program = jax.jit(jax.value_and_grad(loss_fn)).lower(family.init(key), key, *placed).compile().as_text()
print(f"mesh {dict(mesh.shape)}; rows of a device: {placed[0].addressable_shards[0].data.shape[0]:,} of {len(y):,}")
print(f"sums across devices in the program of one gradient: {program.count(' all-reduce(')}")
print(f"last loss on one device {alone.history.loss[-1]:.3f}, on eight {spread.history.loss[-1]:.3f}")
gap = max(
    float(jnp.max(jnp.abs(a - b)) / jnp.max(jnp.abs(a)))
    for a, b in zip(jax.tree.leaves(alone.params), jax.tree.leaves(spread.params), strict=True)
)
print(f"largest relative difference of params: {gap:.1e}")
assert gap < 1e-3 and " all-reduce(" in program

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 2.8), width_ratios=(1.4, 1))
axes[0].semilogy(alone.history.loss - alone.history.loss.min() + 1, color=BLUE, lw=4, alpha=0.4, label="one device")
axes[0].semilogy(spread.history.loss - alone.history.loss.min() + 1, color=RED, lw=1, label="eight")
axes[0].set_xlabel("step")
axes[0].set_ylabel("loss above its least, plus 1")
axes[0].legend(frameon=False)
difference = np.abs(np.asarray(alone.history.loss) / np.asarray(spread.history.loss) - 1)
axes[1].semilogy(np.maximum(difference, 1e-9), ".", color=GREY, ms=3)
axes[1].axhline(np.finfo(np.float32).eps, color=GOLD, lw=1)
axes[1].set_xlabel("step")
axes[1].set_title("relative difference of the losses, equal ones at 1e-9;\none unit of rounding in gold", fontsize=9)
figure.tight_layout()
plt.show()

# %% [markdown]
# ## How much of the work is divided
#
# Meshes of one, two, four and eight of the devices, the same rows. The share of rows and of arithmetic on each falls as one
# over their number, by the compiler's count. The time of a step on forced devices tells what sending around costs, not
# what eight chips would give.

# %%
counts, flops, seconds = (1, 2, 4, 8), [], []
step = jax.jit(jax.value_and_grad(loss_fn))
for count in counts:
    small = jax.make_mesh((count, 1), ("data", "samples"), devices=jax.devices()[:count], axis_types=mesh.axis_types)
    data = device_meshes.place_rows((x, y), small)
    params = device_meshes.place_everywhere(family.init(key), small)
    with jax.set_mesh(small):
        compiled = step.lower(params, key, *data).compile()
        flops.append(compiled.cost_analysis()["flops"])
        times = []
        for _ in range(30):
            begin = time.perf_counter()
            jax.block_until_ready(step(params, key, *data))
            times.append(time.perf_counter() - begin)
        seconds.append(np.median(times))
    print(f"{count} devices: {flops[-1] / 1e6:7.2f} Mflop on each, {1e3 * seconds[-1]:.2f} ms a gradient")
assert flops[0] / flops[-1] > 6

# %%
figure, axes = plt.subplots(1, 2, figsize=(8, 2.8))
for axis, values, title, colour in (
    (axes[0], np.asarray(flops) / flops[0], "arithmetic of a device", BLUE),
    (axes[1], np.asarray(seconds) / seconds[0], f"time of a gradient, {os.cpu_count()} cores", GOLD),
):
    axis.plot(counts, 1 / np.asarray(counts), color=GREY, ls=":", label="1 / devices")
    axis.plot(counts, values, "o-", color=colour)
    axis.set_xscale("log", base=2)
    axis.set_xticks(counts, counts)
    axis.set_ylim(0, max(1.1, 1.1 * values.max()))
    axis.set_xlabel("devices")
    axis.set_title(title + ", of that with one", fontsize=9)
axes[0].legend(frameon=False)
figure.tight_layout()
plt.show()

# %% [markdown]
# ## More rows than fit
#
# Three ways. `sum_over_rows` takes the whole sum in pieces, in memory for a piece. `batch_size` takes a minibatch a step
# from rows in memory, with the factor N / B from `log_joint_of_rows`. An iterator as `data` brings each batch when it is
# needed, from a disk, say.

# %%
widths = [jnp.eye(64) for _ in range(4)]


def term(weights, row, target):
    hidden = jnp.pad(row, (0, 54))
    for weight in weights:
        hidden = jnp.tanh(hidden @ weight)
    return normal(target, jnp.sum(hidden))


def memory(rows_at_once):
    def total(weights, x, y):
        return jaxelbo.sum_over_rows(term, weights, x, y, rows_at_once=rows_at_once)

    return jax.jit(jax.value_and_grad(total)).lower(widths, x, y).compile().memory_analysis().temp_size_in_bytes


pieces = [size for size in (64, 256, 1024, 4096, len(y)) if size <= len(y)]
sizes = np.asarray([memory(size) for size in pieces]) / 1e6
for size, megabytes in zip(pieces, sizes, strict=True):
    print(f"{size:6d} rows at once: {megabytes:8.2f} MB")
assert sizes[-1] > 5 * sizes[0]


# %%
def likelihood(z, x, y):
    return normal(y, x @ z["weights"], jnp.exp(z["log_sd"]))


def log_prior(z):
    return jnp.sum(normal(z["weights"])) + normal(z["log_sd"])


of_rows = jaxelbo.log_joint_of_rows(log_prior, likelihood, num_rows=len(y))


def batch_loss(params, key, x, y):
    return -jaxelbo.elbo(params, key, lambda z: of_rows(z, x, y), family, num_samples=8)


def batches(size, seed=0):
    """As they might come from a disk: anew in each epoch, in another order."""
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(len(y))
        for begin in range(0, len(y) - size + 1, size):
            rows = order[begin : begin + size]
            yield x[rows], y[rows]


optimizer = optax.adam(optax.cosine_decay_schedule(0.02, 10 * NUM_STEPS))
averaged = algorithms.averaged(algorithms.gradient_descent(batch_loss, optimizer), first_step=8 * NUM_STEPS)
options = {"num_steps": 10 * NUM_STEPS, "history_every": 10}
from_memory = jaxelbo.run_algorithm(family.init(key), key, averaged, data=(x, y), batch_size=128, **options)
from_disk = jaxelbo.run_algorithm(family.init(key), key, averaged, data=batches(128), **options)
whole = jaxelbo.infer(lambda z: log_joint(z, x, y), family.unflatten(jnp.zeros(11)), key)
for name, result in (("minibatches of 128", from_memory), ("an iterator", from_disk)):
    (ours, _), (best, sd) = family.location_and_scale(result.params), whole.family.location_and_scale(whole.params)
    off = jnp.max(jnp.abs((ours["weights"] - best["weights"]) / sd["weights"]))
    print(f"{name:20s} means of the weights within {off:.2f} sd of the fit to all rows")
    assert off < (3 if SHORT else 0.5)

figure, axis = plt.subplots(figsize=(8, 2.6))
steps = 10 * np.arange(len(from_memory.history.loss))
for result, colour, name in ((from_memory, BLUE, "rows in memory"), (from_disk, GOLD, "an iterator")):
    axis.plot(steps, result.history.loss / len(y), ".", ms=2, color=colour, label=name)
axis.axhline(-whole.elbo / len(y), color=RED, lw=1, label="all rows, `infer`")
axis.set_ylim(-whole.elbo / len(y) - 0.3, -whole.elbo / len(y) + 0.8)
axis.set_xlabel("step")
axis.set_ylabel("loss a row")
axis.legend(frameon=False, ncol=3)
figure.tight_layout()
plt.show()
