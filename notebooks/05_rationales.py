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
# # Rationales
#
# **One question:** which words of a text give its label, if nobody marks them?
#
# A text $x$ has a label $y$, such as a good or a bad review. A *generator* $p(z \mid x)$ draws a mask over the words, and
# an *encoder* $p(y \mid z, x)$ reads the label from the words that are kept and from nothing else. The mask is hard
# attention: a latent variable that nobody observes. The cost of Lei, Barzilay and Jaakkola (2016) adds a price on kept
# words and on changes between kept and not,
#
# $$\mathbb{E}_{z \sim p(z \mid x)}\big[-\log p(y \mid z, x) + \Omega(z)\big], \qquad
# \Omega(z) = \lambda_1 \sum_t z_t + \lambda_2 \sum_t |z_t - z_{t-1}| .$$
#
# Its first part is $-F$, the bound of hard attention. It also has a variational reading: with the prior
# $p(z) \propto e^{-\Omega(z)}$ and the generator as an approximate posterior $q(z \mid x)$ that does not see the label,
#
# $$\log \sum_z p(z)\, p(y \mid z, x) \;\ge\; \mathbb{E}_q\big[\log p(y \mid z, x) + \log p(z)\big] + H[q]
#   = -\text{cost} + H[q] + \text{const} .$$
#
# Cost and bound differ by the entropy of the generator: the cost wants to be sure of each word, the bound wants to say
# how sure it can be. Only labels of whole texts are used in training. What humans marked is for scoring alone.

# %%
import functools
import html
import os
from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from IPython.display import HTML, Markdown

from jaxelbo.attention import rationale_bounds, rationales, text_files, training, word_vectors
from jaxelbo.attention.rationale_generators import EVERY_WORD, INDEPENDENT, RECURRENT, Shape
from jaxelbo.attention.rationale_masks import Penalty

SHORT = os.environ.get("JAXELBO_SHORT") == "1"  # the small texts and few epochs, for the tests
TREEBANK = None if SHORT else os.environ.get("JAXELBO_TREEBANK")  # folder of the sentiment treebank
REVIEWS = None if SHORT else os.environ.get("JAXELBO_REVIEWS")  # folder of the movie reviews, for word vectors
NUM_EPOCHS = 9 if TREEBANK else 30 if SHORT else 60
BLUE, RED, GREY, GOLD, GREEN = "#1f6f8b", "#c8553d", "#8a949b", "#d9a441", "#5b8c5a"
plt.rcParams.update({"figure.dpi": 110, "axes.spines.top": False, "axes.spines.right": False, "font.size": 10})
plt.rcParams.update({"legend.frameon": False, "axes.titlesize": 10.5, "axes.titlelocation": "left"})

# %% [markdown]
# ## The texts
#
# With `JAXELBO_TREEBANK` and `JAXELBO_REVIEWS` set to their folders these are the sentences of the Stanford Sentiment
# Treebank, in two classes, and the word vectors are counted from the same sentences and from movie reviews read as plain
# text. Without them a stand-in is made from the breast-cancer measurements that come with scikit-learn: a "word" names a
# measurement and its range, and nothing is marked. Everything below is reported on the
# texts for selection; the test is reported in `benchmarks/attention.md`.

# %%
if TREEBANK:
    train, held = (text_files.read_treebank(TREEBANK, part) for part in ("train", "dev"))
    plain = text_files.read_reviews(REVIEWS, "train") if REVIEWS else []
    SPARSITY, LENGTH = 0.017, 40
else:
    (train, held, _), plain = text_files.small_texts(), []
    SPARSITY, LENGTH = 0.02, 30

numbers = text_files.vocabulary([*train, *plain], min_count=2)
vectors = 6.0 * word_vectors.word_vectors([*train, *plain], numbers, num_dimensions=200 if TREEBANK else 20)
vectors = jnp.asarray(vectors)
encoded_train, encoded_held = (text_files.encode(texts, numbers, length=LENGTH) for texts in (train, held))
shape = Shape(LENGTH, 64)
marked_share = np.concatenate([text.is_marked for text in held]).mean()
Markdown(
    f"{len(train):,} texts to train on, {len(held):,} to look at, {len(numbers):,} words in the vocabulary; humans "
    f"marked {100 * marked_share:.1f} % of the words."
)

# %% [markdown]
# ## Learning
#
# The gradient of the generator is leave-one-out over eight masks a text. Both networks are small: features of each word,
# a logit a word for the generator, the sum of the features of the kept words for the encoder.


# %%
class Outcome(NamedTuple):
    accuracy: float
    one_path: float
    kept: float
    drawn: float
    marked: float
    entropy: float
    masks: np.ndarray


@functools.cache
def learn(generator=INDEPENDENT, objective="cost", sparsity=SPARSITY, coherence=0.0, seed=0):
    """Trains from labels alone and scores the texts that are held back."""
    of_one = {
        "cost": rationale_bounds.expected_cost,
        "bound": lambda *arguments, **options: -rationale_bounds.elbo(*arguments, **options),
    }[objective]
    of_one = functools.partial(
        of_one, shape=shape, generator=generator, penalty=Penalty(sparsity, coherence), num_samples=8,
        feature_dropout=0.5, word_dropout=0.2,
    )  # fmt: skip

    def loss_fn(params, key, state, words, labels):
        keys = jax.random.split(key, len(labels))
        return jnp.mean(jax.vmap(of_one, (None, 0, None, 0, 0))(params, keys, vectors, words, labels)), (state, {})

    num_steps = NUM_EPOCHS * (len(train) // 64)
    optimizer = optax.adamw(optax.cosine_decay_schedule(3e-3, num_steps), weight_decay=0.3)
    key_init, key = jax.random.split(jax.random.key(seed))
    sizes = {"num_words": vectors.shape[0], "num_dimensions": vectors.shape[1]}
    params = training.train(
        training.start(rationales.init(key_init, shape, generator, **sizes), optimizer), key, loss_fn, optimizer,
        lambda epoch: (encoded_train.words, encoded_train.labels), num_epochs=NUM_EPOCHS, batch_size=64,
    ).params  # fmt: skip
    score = functools.partial(rationales.evaluate, shape=shape, generator=generator, num_samples=16)
    keys = jax.random.split(jax.random.key(100 + seed), len(held))
    words, labels = jnp.asarray(encoded_held.words), jnp.asarray(encoded_held.labels)
    scores = jax.jit(jax.vmap(score, (None, 0, None, 0, 0)))(params, keys, vectors, words, labels)
    masks = np.asarray(scores.mask) > 0.5
    return Outcome(
        accuracy=1 - float(jnp.mean(scores.error)),
        one_path=1 - float(jnp.mean(scores.one_path)),
        kept=masks.sum() / encoded_held.lengths.sum(),
        drawn=float(jnp.sum(scores.num_drawn)) / encoded_held.lengths.sum(),
        marked=(masks & encoded_held.is_marked).sum() / max(masks.sum(), 1),
        entropy=float(jnp.mean(scores.entropy)),
        masks=masks,
    )


chosen, every = learn(), learn(EVERY_WORD, sparsity=0.0)
Markdown(
    "| | accuracy | words kept | of them marked by humans |\n|---|---|---|---|\n"
    f"| rationale | {100 * chosen.accuracy:.1f} % | {100 * chosen.kept:.1f} % | {100 * chosen.marked:.1f} % |\n"
    f"| every word | {100 * every.accuracy:.1f} % | 100 % | {100 * every.marked:.1f} % |"
)

# %% [markdown]
# ## The words, beside those that humans marked
#
# Texts are taken at even steps from the ones held back, not chosen. Orange: kept in a positive text; blue: kept in a
# negative one. Underlined: marked by humans. A title says where the label was read wrong or no word was kept.


# %%
def row(text, mask):
    ground = "#f3c98b" if text.label else "#9fc5d8"
    left, right = [], []
    kept = list(mask[: len(text.words)]) + [False] * max(0, len(text.words) - len(mask))
    for word, is_kept, is_marked in zip(text.words, kept, text.is_marked, strict=True):
        word = html.escape(word).replace("$", "&#36;")
        left.append(f'<span style="background:{ground}">{word}</span>' if is_kept else word)
        right.append(f"<u>{word}</u>" if is_marked else f'<span style="color:#8a949b">{word}</span>')
    sign = "+" if text.label else "&minus;"
    style = 'style="text-align:left;vertical-align:top;width:47%"'
    return f"<tr><td>{sign}</td><td {style}>{' '.join(left)}</td><td {style}>{' '.join(right)}</td></tr>"


step = len(held) // 12
rows = [row(text, mask) for text, mask in zip(held[::step], chosen.masks[::step], strict=True)]
head = '<tr><th></th><th style="text-align:left">kept by the model</th><th style="text-align:left">marked</th></tr>'
HTML(f"<table style='width:100%'>{head}{''.join(rows[:12])}</table>")

# %% [markdown]
# ## What a kept word costs
#
# A higher price keeps fewer words, and those that stay are more often the ones that humans marked; below some point the
# label cannot be read any more.

# %%
prices = [SPARSITY, 3 * SPARSITY] if SHORT else [SPARSITY / 4, SPARSITY / 2, SPARSITY, 2 * SPARSITY, 4 * SPARSITY]
outcomes = [learn(sparsity=price) for price in prices]
figure, axes = plt.subplots(1, 3, figsize=(10, 2.9), layout="constrained")
for axis, name, title in zip(
    axes, ("kept", "accuracy", "marked"), ("words kept", "accuracy", "kept words that are marked"), strict=True
):
    axis.plot(prices, [100 * getattr(outcome, name) for outcome in outcomes], "o-", color=BLUE)
    axis.set(xscale="log", xlabel=r"$\lambda_1$, nats a word", title=f"{title}, %")
    axis.set_xticks(prices, [f"{price:.3f}" for price in prices])
    axis.minorticks_off()
axes[1].axhline(100 * every.accuracy, color=GREY, linewidth=0.8, linestyle=":")
axes[2].axhline(100 * marked_share, color=GREY, linewidth=0.8, linestyle=":")
axes[1].set_title("accuracy, %; dotted: every word")
axes[2].set_title("marked among kept, %; dotted: among all")
plt.show()
assert SHORT or outcomes[-1].kept < outcomes[0].kept

# %% [markdown]
# ## Cost and bound, words and runs of words
#
# The same system by the variational reading, and with a generator that draws a word knowing the one before it. With a
# price on changes the recurrent generator keeps runs of words rather than single ones.

# %%
coherence = 0.5 * SPARSITY
variants = {
    "independent, cost": learn(),
    "independent, bound": learn(objective="bound", sparsity=1.0),
    "recurrent, cost": learn(RECURRENT),
}
if not SHORT:
    variants["recurrent, cost, changes cost too"] = learn(RECURRENT, coherence=coherence)


def run_length(masks):
    """Mean length of a run of kept words."""
    starts = masks & ~np.pad(masks, ((0, 0), (1, 0)))[:, :-1]
    return masks.sum() / max(starts.sum(), 1)


rows = [
    f"| {name} | {100 * of.accuracy:.1f} % | {100 * of.kept:.1f} % | {100 * of.one_path:.1f} % | {100 * of.drawn:.1f} % | "
    f"{100 * of.marked:.1f} % | {of.entropy:.2f} | {run_length(of.masks):.2f} |"
    for name, of in variants.items()
]
head = (
    "| generator | accuracy, greedy mask | kept | accuracy, drawn mask | kept | marked | entropy, nats a text | "
    "words a run |\n|---|---|---|---|---|---|---|---|\n"
)
bound = variants["independent, bound"]
assert bound.entropy > variants["independent, cost"].entropy and bound.one_path > (0.5 if SHORT else 0.65)
Markdown(head + "\n".join(rows))

# %% [markdown]
# The bound keeps the generator unsure where the label does not decide: its entropy is the last term above, and its price
# is that of a prior, of another size than the cost's. What one word says about the label is less than that price of a
# nat, so that no word is kept with a chance above one half and the greedy mask keeps next to nothing. Its masks are meant
# to be drawn: from those the label is read. A rationale to be looked at wants the cost; the bound is the one to compare
# models with.

# %%
if TREEBANK:
    assert chosen.accuracy > 0.74 and chosen.kept < 0.2 and chosen.marked > 2 * marked_share
else:
    assert chosen.accuracy > (0.5 if SHORT else 0.8)
