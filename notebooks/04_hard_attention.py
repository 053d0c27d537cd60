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
# # Hard attention
#
# **One question:** what does a system that looks at one place at a time maximise, and how far is that from the evidence?
#
# An image $I$ has a label $y$. The system sees the image through a small window and must choose where to put it: the
# place $l$ is a latent variable, drawn from a *policy* $p(l \mid I)$ that is itself learned. The evidence of the label
# and its lower bound are
#
# $$\log p(y \mid I) = \log \sum_l p(l \mid I)\, p(y \mid l, I) \;\ge\; \sum_l p(l \mid I) \log p(y \mid l, I) = F ,$$
#
# by Jensen's inequality: the variational lower bound with $q(l) = p(l \mid I)$. What is lost has a name,
#
# $$\log p(y \mid I) - F = \mathrm{KL}\big(p(l \mid I) \,\big\|\, p(l \mid y, I)\big),$$
#
# the divergence of where the system looks from where it would look if it knew the label. The gradient of $F$ is the
# learning rule of recurrent attention,
#
# $$\nabla F = \mathbb{E}_{l \sim p(l \mid I)}\big[\nabla \log p(y \mid l, I) + \log p(y \mid l, I)\, \nabla \log p(l \mid I)\big] :$$
#
# the classifier learns from what is seen, the policy from how well it went. Here the images are the 1,797 real digits of
# 8 x 8 pixels that come with scikit-learn, put on larger canvases among pieces of other digits. With 25 places
# everything above is a sum, so that every estimate can be held against the exact number.

# %%
import functools
import os
import pathlib
import tempfile

import jax
import jax.flatten_util
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from IPython.display import Image, Markdown

from jaxelbo import bounds, estimators, hard_attention
from jaxelbo.attention import (
    canvases,
    digit_files,
    learning_rules,
    one_glimpse,
    one_glimpse_bounds,
    pictures,
    recurrent_attention,
    training,
)

SHORT = os.environ.get("JAXELBO_SHORT") == "1"  # fewer epochs and gradients, for the tests
NUM_EPOCHS, NUM_PATH_EPOCHS, NUM_GRADIENTS = (15, 40, 200) if SHORT else (60, 120, 400)
BLUE, RED, GREY, GOLD, GREEN = "#1f6f8b", "#c8553d", "#8a949b", "#d9a441", "#5b8c5a"
plt.rcParams.update({"figure.dpi": 110, "axes.spines.top": False, "axes.spines.right": False, "font.size": 10})
plt.rcParams.update({"legend.frameon": False, "axes.titlesize": 10.5, "axes.titlelocation": "left"})

# %% [markdown]
# ## The images
#
# Canvases of 24 x 24 pixels: one whole digit and two pieces of 3 x 3 pixels of others. New ones are made in every epoch; those of
# the test come from digits that are not trained on. A glimpse is a square of 10 x 10 pixels on a grid of 5 x 5 places.

# %%
train_digits, test_digits = digit_files.small_digits()
cluttered = functools.partial(canvases.cluttered, size=24, num_pieces=2, piece_size=3)
test = cluttered(np.random.default_rng(0), test_digits)
shape = one_glimpse.Shape(image_size=24, grid=5, glimpse_size=10, context_pool=2, num_hidden=128)
places = np.asarray(one_glimpse.locations(shape))

figure, axes = plt.subplots(1, 6, figsize=(10, 1.9), layout="constrained")
for axis, image, label in zip(axes, test.images[:6], test.labels[:6], strict=True):
    axis.imshow(image, cmap="gray_r", vmin=0, vmax=1, extent=(0, 24, 24, 0))
    axis.plot(*((places[:, ::-1] + 1) * 12).T, ".", color=RED, markersize=2.5)
    axis.set(xticks=[], yticks=[], title=f"{label}")
figure.suptitle("Canvases, their labels, and the centres of the 25 places", x=0.01, ha="left", fontsize=10.5)
plt.show()


# %% [markdown]
# ## Three ways to learn where to look
#
# All three train the same two networks with four glimpses an image and differ in bound and learning signal alone.
#
# - **score function**: $F$; a glimpse is praised by $\log p(y \mid l, I)$ itself, without any baseline;
# - **leave-one-out**: $F$; praised by how much better it is than the mean of the other three;
# - **VIMCO**: the bound of four glimpses, $L_4 = \mathbb{E}[\log \tfrac14 \sum_s p(y \mid l^s, I)]$, between $F$ and the
#   evidence; praised by the bound less the bound without it.

# %%
RULES = {
    "score function": (bounds.mean, estimators.score_function, GREY),
    "leave-one-out": (bounds.mean, estimators.leave_one_out, BLUE),
    "VIMCO": (bounds.importance_weighted, estimators.leave_one_out, RED),
}


@jax.jit
def exact_on_test(params):
    """Evidence, bound, gap and entropy of every test image, by summing over the 25 places."""
    exact = functools.partial(one_glimpse_bounds.exact, params, shape=shape)
    return jax.vmap(exact)(jnp.asarray(test.images), jnp.asarray(test.labels))


def learn(bound, estimator, num_epochs=NUM_EPOCHS):
    optimizer = optax.adam(5e-3)

    def loss_fn(params, key, state, images, labels):
        of_one = functools.partial(
            one_glimpse_bounds.sampled_bound, shape=shape, num_samples=4, bound=bound, estimator=estimator
        )
        values = jax.vmap(of_one, (None, 0, 0, 0))(params, jax.random.split(key, len(labels)), images, labels)
        return -jnp.mean(values), (state, {})

    def epoch(number):
        made = cluttered(np.random.default_rng([1, number]), train_digits)
        return made.images, made.labels

    history = []
    state = training.start(one_glimpse.init(jax.random.key(0), shape), optimizer)
    state = training.train(
        state, jax.random.key(1), loss_fn, optimizer, epoch, num_epochs=num_epochs, batch_size=50,
        callback=lambda state, metrics: history.append(jax.tree.map(jnp.mean, exact_on_test(state.params))),
    )  # fmt: skip
    return state.params, jax.tree.map(lambda *leaves: np.array(leaves), *history)


learned = {name: learn(bound, estimator) for name, (bound, estimator, _) in RULES.items()}

# %%
figure, axes = plt.subplots(1, 3, figsize=(10, 3), layout="constrained")
epochs = np.arange(1, NUM_EPOCHS + 1)
for name, (_, history) in learned.items():
    color = RULES[name][2]
    axes[0].plot(epochs, history.log_evidence, color=color, label=name)
    axes[1].plot(epochs, history.gap, color=color)
    axes[2].plot(epochs, history.entropy, color=color)
axes[0].legend()
axes[0].set(xlabel="epoch", title=r"log evidence $\log p(y|I)$, nats")
axes[1].set(xlabel="epoch", title=r"gap $\log p(y|I) - F$, nats")
axes[2].axhline(np.log(25), color=GREY, linewidth=0.8, linestyle=":")
axes[2].set(xlabel="epoch", title="entropy of the policy, nats; dotted: uniform")
plt.show()

# %% [markdown]
# A small gap alone says nothing. A policy that looks at one place without knowing why has entropy 0 and gap 0, and a
# bound that is perfectly tight about a bad evidence. This is why the library reports evidence, bound, gap and entropy
# together.

# %%
rows = [
    f"| {name} | {h.log_evidence[-1]:.3f} | {h.bound[-1]:.3f} | {h.gap[-1]:.3f} | {h.entropy[-1]:.2f} |"
    for name, (_, h) in learned.items()
]
Markdown("\n".join(["| rule | log p(y\\|I) | F | gap | entropy |", "|---|---|---|---|---|", *rows]))

# %% [markdown]
# ## The identity
#
# For every test image: the evidence on one axis; the bound, and the bound plus the divergence, on the other. The second
# set lies on the diagonal: $\log p = F + \mathrm{KL}$ is no statement about averages.

# %%
params = learned["VIMCO"][0]
exact = jax.tree.map(np.asarray, exact_on_test(params))
worst = np.max(np.abs(exact.log_evidence - exact.bound - exact.gap))
assert worst < 1e-5 and np.all(exact.gap > -1e-5)

figure, axis = plt.subplots(figsize=(4.6, 4.2), layout="constrained")
low = exact.bound.min() - 0.3
axis.plot([low, 0], [low, 0], color=GREY, linewidth=0.8)
axis.plot(exact.log_evidence, exact.bound, ".", color=BLUE, markersize=4, label=r"$F$")
axis.plot(exact.log_evidence, exact.bound + exact.gap, ".", color=RED, markersize=3, label=r"$F + \mathrm{KL}$")
axis.set(xlabel=r"$\log p(y|I)$, nats", title=f"{len(exact.gap)} images; largest difference {worst:.0e}")
axis.legend()
plt.show()

# %% [markdown]
# Between $F$ and the evidence lie the bounds of two, four and more glimpses, here as means over 200 sets of draws.


# %%
@functools.partial(jax.jit, static_argnums=1)
def many_sample_bound(params, num_samples):
    """L_S of every test image by 200 sets of draws from the exact terms."""

    def of_one(key, image, label):
        policy = one_glimpse.log_policy(params, image, shape)
        drawn = jax.random.categorical(key, policy, shape=(200, num_samples))
        likelihood = one_glimpse.log_classes(params, image, shape)[:, label]
        return jnp.mean(jax.vmap(bounds.importance_weighted)(likelihood[drawn]))

    keys = jax.random.split(jax.random.key(2), len(test.labels))
    return jnp.mean(jax.vmap(of_one)(keys, jnp.asarray(test.images), jnp.asarray(test.labels)))


sizes = [1, 2, 4, 8, 16, 32]
params = learned["leave-one-out"][0]
ladder = [float(many_sample_bound(params, size)) for size in sizes]
evidence, bound = (float(jnp.mean(leaf)) for leaf in exact_on_test(params)[:2])
figure, axis = plt.subplots(figsize=(5.5, 2.8), layout="constrained")
axis.axhline(evidence, color=GREY, linewidth=0.8, linestyle=":")
axis.text(1, evidence, r"$\log p(y|I)$", va="bottom", color=GREY)
axis.plot(sizes, ladder, "o-", color=BLUE)
axis.plot(1, bound, "x", color=RED, markersize=9, label="F, exact")
axis.set(xscale="log", xticks=sizes, xticklabels=sizes, xlabel="glimpses S", title=r"bound of S glimpses, nats")
axis.legend(loc="lower right")
plt.show()
assert all(np.diff(ladder) > -0.01) and ladder[-1] < evidence + 0.01 and abs(ladder[0] - bound) < 0.03

# %% [markdown]
# ## Learning signals against the exact gradient
#
# The gradient of the policy's network on 64 test images, early in training (after five epochs), by different signals; the exact
# gradients of $F$ and of $\log p(y \mid I)$ come from the sums. *Variance* is the trace of the covariance of one
# minibatch's gradient; *cosine* is that of the estimator's mean with the two exact gradients. The 0/1 reward of the
# literature (1 if the label is read right) has little variance and another aim: the gradient of the expected accuracy.

# %%
images, labels = jnp.asarray(test.images[:64]), jnp.asarray(test.labels[:64])


params = learn(bounds.importance_weighted, estimators.leave_one_out, 5)[0]


def policy_gradient(value):
    """Of the mean over the 64 images, in the context network alone, as one vector."""

    def of_context(context):
        return value(params | {"context": context})

    return jax.flatten_util.ravel_pytree(jax.grad(of_context)(params["context"]))[0]


def exact_gradient(name):
    def mean(params):
        exact = jax.vmap(functools.partial(one_glimpse_bounds.exact, shape=shape), (None, 0, 0))
        return jnp.mean(getattr(exact(params, images, labels), name))

    return np.asarray(jax.jit(lambda: policy_gradient(mean))())


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def by_estimator(bound, estimator, num_samples):
    def value(params, key):
        of_one = functools.partial(
            one_glimpse_bounds.sampled_bound, shape=shape, num_samples=num_samples, bound=bound, estimator=estimator
        )
        return jnp.mean(jax.vmap(of_one, (None, 0, 0, 0))(params, jax.random.split(key, 64), images, labels))

    return value


def by_reward(params, key):
    """The 0/1 reward, one glimpse, no baseline: one of the `learning_rules` of the recurrent systems."""
    of_one = functools.partial(one_glimpse_bounds.objective, shape=shape, num_samples=1, rule=learning_rules.reward())
    no_baseline = params | {"baseline": jax.tree.map(jnp.zeros_like, params["baseline"])}
    values, _ = jax.vmap(of_one, (None, 0, 0, 0))(no_baseline, jax.random.split(key, 64), images, labels)
    return jnp.mean(values)


signals = {
    "score function, 1": by_estimator(bounds.mean, estimators.score_function, 1),
    "score function, 4": by_estimator(bounds.mean, estimators.score_function, 4),
    "leave-one-out, 4": by_estimator(bounds.mean, estimators.leave_one_out, 4),
    "without replacement, 4": by_estimator(bounds.mean, estimators.without_replacement, 4),
    "VIMCO, 4": by_estimator(bounds.importance_weighted, estimators.leave_one_out, 4),
    "0/1 reward, 1": by_reward,
}
of_bound, of_evidence = exact_gradient("bound"), exact_gradient("log_evidence")
measured = {}
for name, value in signals.items():
    one = jax.jit(lambda key, value=value: policy_gradient(lambda params: value(params, key)))
    draws = np.stack([one(key) for key in jax.random.split(jax.random.key(4), NUM_GRADIENTS)])
    variance = np.var(draws, axis=0).sum()
    mean = draws.mean(axis=0)
    noise = np.sqrt(variance / NUM_GRADIENTS) / np.linalg.norm(of_bound)
    error = np.linalg.norm(mean - of_bound) / np.linalg.norm(of_bound)
    measured[name] = variance, error, noise, cosine(mean, of_bound), cosine(mean, of_evidence)

rows = [
    f"| {name} | {v:.4f} | {error:.2f} ({noise:.2f}) | {to_bound:.3f} | {to_evidence:.3f} |"
    for name, (v, error, noise, to_bound, to_evidence) in measured.items()
]
Markdown(
    "\n".join(
        [
            f"Exact: cosine of the gradients of F and of log p {cosine(of_bound, of_evidence):.3f}.",
            "",
            "| signal, glimpses | variance | error of the mean (noise alone) | cosine with F | with log p |",
            "|---|---|---|---|---|",
            *rows,
        ]
    )
)

# %%
figure, axis = plt.subplots(figsize=(6.5, 2.6), layout="constrained")
names = list(measured)[::-1]
axis.barh(names, [measured[name][0] for name in names], color=[GOLD if "reward" in n else BLUE for n in names])
axis.set(xscale="log", title="variance of the policy's gradient (gold: of another objective)")
plt.show()
plain, left_out = measured["score function, 4"], measured["leave-one-out, 4"]
assert left_out[0] < plain[0] / 3
for name in ("score function, 1", "score function, 4", "leave-one-out, 4", "without replacement, 4"):
    assert measured[name][1] < 1.5 * measured[name][2], name  # the mean is that of F, to within the noise
assert measured["0/1 reward, 1"][1] > 3 * measured["0/1 reward, 1"][2]  # and that of the 0/1 reward is not

# %% [markdown]
# ## Where it looks
#
# The policy $p(l \mid I)$, which does not know the label, and the posterior $p(l \mid y, I)$, which does. The gap is
# their divergence.

# %%
params = learned["VIMCO"][0]
figure, axes = plt.subplots(3, 6, figsize=(10, 5.2), layout="constrained")
for column in range(6):
    image, label = jnp.asarray(test.images[column]), test.labels[column]
    policy = one_glimpse.log_policy(params, image, shape)
    likelihood = one_glimpse.log_classes(params, image, shape)[:, label]
    posterior = hard_attention.posterior(policy, likelihood)
    shown = [image, jnp.exp(policy).reshape(5, 5), jnp.exp(posterior).reshape(5, 5)]
    for axis, picture, cmap in zip(axes[:, column], shown, ("gray_r", "Blues", "Reds"), strict=True):
        axis.imshow(picture, cmap=cmap, vmin=0, vmax=1)
        axis.set(xticks=[], yticks=[])
    of = one_glimpse_bounds.exact(params, image, label, shape)
    axes[2, column].set_xlabel(f"gap {float(of.gap):.2f} nats", fontsize=9)
for axis, words in zip(axes[:, 0], ("image", r"$p(l|I)$", r"$p(l|y,I)$"), strict=True):
    axis.set_ylabel(words)
plt.show()

# %% [markdown]
# ## Several glimpses
#
# The recurrent attention model takes glimpses one after the other; each place depends on what was seen before, and the
# label is read at the end. The sum over all paths is out of reach; the learning rule is the same. Here it reads plain
# digits of 8 x 8 pixels through windows of 3 x 3, learning from leave-one-out signals of four paths.

# %%
path_shape = recurrent_attention.Shape(
    image_size=8, glimpse_size=3, num_scales=1, num_glimpses=6, policy_scale=0.15
)  # fmt: skip
rule = learning_rules.leave_one_out(bounds.mean)
optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, NUM_PATH_EPOCHS * 30))


def path_loss(params, key, state, images, labels):
    of_one = functools.partial(recurrent_attention.objective, shape=path_shape, num_samples=4, rule=rule)
    values, _ = jax.vmap(of_one, (None, 0, 0, 0))(params, jax.random.split(key, len(labels)), images, labels)
    return -jnp.mean(values), (state, {})


state = training.train(
    training.start(recurrent_attention.init(jax.random.key(0), path_shape), optimizer),
    jax.random.key(1), path_loss, optimizer, lambda epoch: (train_digits.images, train_digits.labels),
    num_epochs=NUM_PATH_EPOCHS, batch_size=50,
)  # fmt: skip
score = functools.partial(recurrent_attention.evaluate, shape=path_shape, num_samples=10)
scores = jax.jit(jax.vmap(score, (None, 0, 0, 0)))(
    state.params, jax.random.split(jax.random.key(5), len(test_digits.labels)),
    jnp.asarray(test_digits.images), jnp.asarray(test_digits.labels),
)  # fmt: skip
means = jax.tree.map(lambda leaf: float(jnp.mean(leaf)), scores)
Markdown(
    f"Test error with one path **{100 * means.one_path:.1f} %**, on the mean path {100 * means.mean_path:.1f} %, "
    f"averaged over ten paths {100 * means.averaged:.1f} %; F {means.bound:.3f} nats, the bound of ten paths "
    f"{means.many_sample_bound:.3f}."
)

# %%
shown = jnp.asarray(test_digits.images[:12])
paths = jax.vmap(lambda image: recurrent_attention.mean_path(state.params, image, path_shape))(shown)
with tempfile.TemporaryDirectory() as folder:
    picture = pathlib.Path(folder) / "paths.png"
    read = np.asarray(jnp.argmax(paths.log_classes, axis=-1))
    pictures.draw_paths(picture, np.asarray(shown), np.asarray(paths.locations), read, size=3, num_scales=1)
    shown = Image(picture.read_bytes(), width=760)
assert means.averaged <= means.one_path < (0.5 if SHORT else 0.15)
shown

# %% [markdown]
# On MNIST the same systems are trained by one command each; figures and settings are in `benchmarks/attention.md`:
#
#     python -m jaxelbo.attention ram --data FOLDER
#     python -m jaxelbo.attention one-glimpse --data FOLDER
