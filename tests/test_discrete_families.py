"""Families with discrete parts: normalised, drawn as their density says, relaxed as documented, refused by name."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import jaxelbo
from jaxelbo import families, finite, monte_carlo
from tests import matrix, oracles

KEY = jax.random.key(0)


def link_fn(link, bit):
    return {"loc": link["loc"] + bit, "log_scale": link["log_scale"]}


def make(name):
    slab = families.mean_field(0.0)
    return {
        "bernoulli": lambda: families.bernoulli({"a": jnp.zeros(2), "b": 0.0}),
        "categorical": lambda: families.categorical(4),
        "one_hot_categorical": lambda: families.one_hot_categorical(4),
        "independent": lambda: families.independent(families.categorical(3), 2),
        "independent of one-hot": lambda: families.independent(families.one_hot_categorical(3), 2),
        "joint of discrete": lambda: families.joint((families.categorical(3), {"x": families.bernoulli(jnp.zeros(2))})),
        "joint of both": lambda: families.joint({"x": slab, "on": families.bernoulli(0.0)}),
        "sequential": matrix.chain_of_bits,
        "sequential of numbers": lambda: families.sequential(
            slab,
            lambda p, c, previous: (c, {"loc": p["loc"] + 0.5 * previous, "log_scale": p["log_scale"]}),
            lambda p: (),
            lambda key: {"loc": jnp.zeros(1), "log_scale": jnp.zeros(1)},
            num_steps=2,
        ),
        "conditional": lambda: families.conditional(
            families.bernoulli(0.0), slab, link_fn, lambda key: {"loc": jnp.zeros(1), "log_scale": jnp.zeros(1)}
        ),
        "conditional, discrete last": lambda: families.conditional(
            slab, families.bernoulli(0.0), lambda link, x: {"logits": link + 2 * x}, lambda key: jnp.zeros(1)
        ),
        "detached": lambda: families.detached(families.full_rank(jnp.zeros(2))),
    }[name]()


NAMES = [
    "bernoulli", "categorical", "one_hot_categorical", "independent", "independent of one-hot", "joint of discrete",
    "joint of both", "sequential", "sequential of numbers", "conditional", "conditional, discrete last", "detached",
]  # fmt: skip
FINITE = [*NAMES[:6], "sequential"]
each = pytest.mark.parametrize("name", NAMES)
each_finite = pytest.mark.parametrize("name", FINITE)


@each
def test_a_draw_knows_its_log_density(name, dtype):
    family = make(name)
    params = oracles.random_params(family, 1)

    @matrix.quick_jit
    def draw(params):
        latent, log_q = family.sample_and_log_prob(params, KEY)
        return latent, log_q, family.sample(params, KEY), family.log_prob(params, latent)

    latent, log_q, alone, expected = draw(params)
    for leaf, like in zip(jax.tree.leaves(latent), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(leaf, like, rtol=1e-6)
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(log_q, expected, rtol=tolerance, atol=tolerance)
    assert log_q.dtype == expected.dtype == dtype
    for leaf in jax.tree.leaves(latent):
        assert leaf.dtype in (dtype, jnp.int32)


@pytest.mark.parametrize("name", ["sequential", "sequential of numbers"])
@pytest.mark.parametrize("wrap", [lambda family: family, families.detached], ids=["", "detached"])
def test_one_pass_is_two(name, wrap):
    """A family's draw with its scores in one pass: the values and gradients of the separate functions."""
    with jax.enable_x64(True):
        family = wrap(make(name))
        params = oracles.random_params(family, 1)

        def separate(params, key):
            latent, log_q = family.sample_and_log_prob(params, key)
            return latent, log_q, family.score_log_probs(params, latent)

        def together(params, key):
            return monte_carlo.draw_and_scores(params, key, family)

        @functools.partial(matrix.quick_jit, static_argnums=0)
        def draw_and_slopes(function, params):
            def total(params):
                latent, log_q, scores = draw = function(params, KEY)
                numbers = [jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(latent)]
                return sum(numbers) + 1.3 * log_q + scores @ jnp.arange(1.0, scores.size + 1), draw

            return jax.value_and_grad(total, has_aux=True)(params)

        one_pass, two_passes = draw_and_slopes(together, params), draw_and_slopes(separate, params)
        assert (family.sample_and_scores is None) == family.name.startswith("detached")
        for ours, like in zip(jax.tree.leaves(one_pass), jax.tree.leaves(two_passes), strict=True):
            np.testing.assert_allclose(ours, like, rtol=1e-10, atol=1e-12)


def test_log_probabilities_of_reparameterised_steps():
    """By way of detached steps: each step's own density, at the params that its past gives it."""
    make_chain = lambda step: families.sequential(
        step, lambda params, carry, previous: (carry, {"loc": params * previous, "log_scale": jnp.zeros(1)}),
        lambda params: (), lambda key: jnp.ones(1), num_steps=3,
    )  # fmt: skip
    step = families.mean_field(jnp.zeros(1))
    chain, detached = make_chain(step), make_chain(families.detached(step))
    params, latent = jnp.array([0.7]), jnp.array([[0.3], [-1.0], [2.0]])
    before = np.array([0.0, 0.3, -1.0])
    expected = stats.norm.logpdf(np.asarray(latent)[:, 0], 0.7 * before)
    np.testing.assert_allclose(detached.score_log_probs(params, latent), expected, rtol=1e-5)
    assert chain.score_log_probs(params, latent).shape == (0,)
    np.testing.assert_allclose(chain.log_prob(params, latent), expected.sum(), rtol=1e-5)


@each_finite
def test_probabilities_add_to_one(name):
    with jax.enable_x64(True):
        family = make(name)
        params = oracles.random_params(family, 2)

        @matrix.quick_jit
        def listed(params):
            latents, log_probs = family.configurations(params, KEY)
            of_each = lambda function: jax.vmap(function, (None, 0))(params, latents)
            return latents, log_probs, of_each(family.log_prob), of_each(family.score_log_probs)

        latents, log_probs, expected, scores = listed(params)
        assert log_probs.shape == (family.num_configurations,)
        np.testing.assert_allclose(np.exp(log_probs).sum(), 1, rtol=1e-12)
        np.testing.assert_allclose(expected, log_probs, rtol=1e-10)
        np.testing.assert_allclose(np.sum(scores, axis=1), log_probs, rtol=1e-10)
        rows = np.concatenate([np.asarray(leaf).reshape(len(log_probs), -1) for leaf in jax.tree.leaves(latents)], 1)
        assert len(np.unique(rows, axis=0)) == len(rows)


@each_finite
def test_draws_have_the_probabilities(name):
    """Chi-square on all configurations, 20,000 draws."""
    family = make(name)
    params = oracles.random_params(family, 3, spread=0.5)
    latents, log_probs = matrix.quick_jit(family.configurations)(params, KEY)
    draws = jax.jit(jax.vmap(family.sample, (None, 0)))(params, jax.random.split(KEY, 20_000))
    to_rows = lambda tree, n: np.concatenate([np.asarray(x).reshape(n, -1) for x in jax.tree.leaves(tree)], 1)
    cells, rows = to_rows(latents, len(log_probs)), to_rows(draws, 20_000)
    counts = np.array([np.sum(np.all(rows == cell, axis=1)) for cell in cells])
    assert counts.sum() == 20_000
    expected = np.exp(np.asarray(log_probs, np.float64))
    assert stats.chisquare(counts, 20_000 * expected / expected.sum()).pvalue > 1e-3


@pytest.mark.parametrize(
    "name", ["bernoulli", "categorical", "one_hot_categorical", "independent", "joint of discrete"]
)
def test_entropy_and_divergence_by_listing(name):
    with jax.enable_x64(True):
        family = make(name)
        q, p = oracles.random_params(family, 4), oracles.random_params(family, 5)
        latents, log_q = family.configurations(q, KEY)
        log_p = jax.vmap(family.log_prob, (None, 0))(p, latents)
        np.testing.assert_allclose(family.entropy(q), -jnp.sum(jnp.exp(log_q) * log_q), rtol=1e-10)
        kl = jaxelbo.kl_divergence(q, p, family, family)
        np.testing.assert_allclose(kl, jnp.sum(jnp.exp(log_q) * (log_q - log_p)), rtol=1e-10)


def test_configurations_of_a_mixed_family():
    """The discrete part is listed, the number beside it drawn once."""
    family = make("joint of both")
    params = oracles.random_params(family, 6)
    latents, log_probs = family.configurations(params, KEY)
    assert family.num_configurations == 2 and latents["x"].shape == (2,)
    assert latents["x"][0] == latents["x"][1]
    np.testing.assert_allclose(jnp.sum(jnp.exp(log_probs)), 1, rtol=1e-6)


def test_gradients_flow_through_reparameterised_parts_only():
    family = make("conditional, discrete last")
    params = oracles.random_params(family, 7)
    slope = jax.grad(lambda p: jnp.sum(family.sample(p, KEY)[1]))(params)
    assert all(jnp.all(leaf == 0) for leaf in jax.tree.leaves(slope))
    slope = jax.grad(lambda p: family.sample(p, KEY)[0])(params)
    assert slope["first"]["loc"][0] == 1
    slope = jax.grad(lambda p: family.score_log_probs(p, family.sample(p, KEY))[0])(params)
    assert slope["first"]["loc"][0] != 0, "the bit's log-probability depends on the number it was given"
    for leaf in jax.tree.leaves(
        jax.grad(lambda p: jnp.sum(make("detached").sample(p, KEY)))(make("detached").init(KEY))
    ):
        assert jnp.all(leaf == 0)


@pytest.mark.parametrize("name", ["bernoulli", "one_hot_categorical", "independent of one-hot"])
def test_relaxations(name):
    """Hard values have the probabilities and round the relaxed ones; given them the third has the second's law."""
    family = make(name)
    params = oracles.random_params(family, 8, spread=0.7)
    relax = jax.jit(jax.vmap(lambda key: family.relax(params, key, 0.7)))
    hard, soft, again = relax(jax.random.split(KEY, 20_000))
    mean = family.location_and_scale(params)[0]
    for leaves in zip(*map(jax.tree.leaves, (hard, soft, again, mean)), strict=True):
        h, s, a, m = (np.asarray(leaf) for leaf in leaves)
        assert set(np.unique(h)) == {0.0, 1.0}
        np.testing.assert_allclose(h.mean(0), m, atol=0.02)
        if name == "bernoulli":
            for x in (s, a):
                np.testing.assert_array_equal(x > 0.5, h == 1)
        else:
            for x in (s, a):
                np.testing.assert_array_equal(x.argmax(-1), h.argmax(-1))
        h, s, a = (x.reshape(len(h), -1) for x in (h, s, a))
        for column in range(h.shape[1]):
            for value in (0.0, 1.0):  # the law given the hard value, not only over all
                chosen = h[:, column] == value
                assert stats.ks_2samp(s[chosen, column], a[chosen, column]).pvalue > 1e-4


def test_relaxation_at_extreme_logits():
    """float32, logits of 60: no number is lost, and gradients are finite."""
    for family, params in (
        (families.bernoulli(jnp.zeros(2)), {"logits": jnp.array([60.0, -60.0])}),
        (families.one_hot_categorical(3), {"logits": jnp.array([60.0, 0.0, -60.0])}),
    ):
        value = lambda p, key, f=family: sum(jnp.sum(leaf) for leaf in f.relax(p, key, 0.3)[1:])
        slopes = matrix.quick_jit(jax.vmap(jax.grad(value), (None, 0)))(params, jax.random.split(KEY, 1_000))
        assert jnp.all(jnp.isfinite(slopes["logits"]))


def test_masked_categories():
    """Logits of minus infinity: probability zero, entropy and one-hot log-probabilities still numbers."""
    logits = jnp.array([0.0, -jnp.inf, 1.0])
    family = families.one_hot_categorical(3)
    np.testing.assert_allclose(
        family.log_prob({"logits": logits}, jnp.array([0.0, 0.0, 1.0])), -np.log1p(np.exp(-1)), 1e-6
    )
    assert family.log_prob({"logits": logits}, jnp.array([0.0, 1.0, 0.0])) == -jnp.inf
    entropy = jax.value_and_grad(lambda x: finite.entropy_categorical(finite.Categorical(x)))(logits)
    assert np.all(np.isfinite(entropy[0])) and np.all(np.isfinite(entropy[1]))
    arguments = {"logits": logits}, KEY, lambda z: jnp.where(z == 1, -jnp.inf, 1.0), families.categorical(3)
    value = jaxelbo.elbo(*arguments, num_samples=1, estimator=jaxelbo.estimators.enumeration)
    np.testing.assert_allclose(value, 1 + entropy[0], rtol=1e-6)


def test_starts():
    family = families.bernoulli(jnp.zeros(2))
    np.testing.assert_allclose(
        family.location_and_scale(family.init(KEY, start=jnp.array([1.0, 0.0])))[0], [0.9, 0.1], rtol=1e-5
    )
    for family, start in ((families.categorical(5), 2), (families.one_hot_categorical(5), jnp.eye(5)[2])):
        params = family.init(KEY, start=start)
        np.testing.assert_allclose(jax.nn.softmax(params["logits"]), [0.025, 0.025, 0.9, 0.025, 0.025], rtol=1e-5)
    start = {"x": jnp.asarray(3.0), "on": jnp.asarray(1.0)}
    assert make("joint of both").init(KEY, start=start)["x"]["loc"][0] == 3
    assert families.independent(families.categorical(3), 2).init(KEY, start=jnp.array([0, 2]))["logits"].shape == (2, 3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: families.bernoulli({"a": 1}), TypeError, r"latent_like\['a'\] must be floating-point"),
        (lambda: families.categorical(0), ValueError, "num_categories must be at least 1"),
        (lambda: families.categorical(2.5), TypeError, "num_categories must be an integer"),
        (lambda: families.categorical(3, dtype=int), TypeError, "dtype must be floating-point"),
        (lambda: families.independent(families.bernoulli, 2), TypeError, "family must be a jaxelbo.Family"),
        (lambda: families.independent(families.bernoulli(0.0), 0), ValueError, "num_copies must be at least 1"),
        (lambda: families.joint({}), ValueError, "families must have at least one leaf"),
        (lambda: families.joint({"a": 3}), TypeError, r"families\['a'\] must be a jaxelbo.Family"),
        (lambda: families.detached(families.full_rank), TypeError, "family must be a jaxelbo.Family"),
        (lambda: make("sequential").init(KEY, start=jnp.zeros((3, 1))), ValueError, "must be None for family seq"),
        (lambda: make("conditional").init(KEY, start=0.0), ValueError, "start must be None for family conditional"),
        (
            lambda: families.categorical(3).log_prob({"logits": jnp.zeros(3)}, 1.0), TypeError,
            "latent must be one integer index",
        ),
        (
            lambda: make("joint of both").log_prob(make("joint of both").init(KEY), {"x": 0.0}), ValueError,
            "latent must have an entry for each of",
        ),
        (lambda: sequential_of(lambda p, c, z: 3), TypeError, "step_fn must return a pair"),
        (lambda: sequential_of(lambda p, c, z: (jnp.zeros(3), p)), ValueError, "the carry that step_fn returns"),
        (lambda: sequential_of(lambda p, c, z: (c, {"logits": jnp.zeros(4)})), ValueError, "step params that step_fn"),
        (lambda: sequential_of(None), TypeError, "step_fn must be a function"),
        (lambda: log_prob_of("sequential", jnp.zeros((2, 1))), ValueError, "latent must have a leading axis of 3"),
        (lambda: log_prob_of("sequential", 0.0), ValueError, "latent must have a leading axis of 3 steps"),
        (lambda: log_prob_of("conditional", 0.0), ValueError, r"latent must be a pair \(a, b\) for family conditional"),
    ],
)  # fmt: skip
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


def log_prob_of(name, latent):
    family = make(name)
    for function in (family.score_log_probs, family.log_prob):
        function(family.init(KEY), latent)


def sequential_of(step_fn):
    params = {"logits": jnp.zeros(1)}
    family = families.sequential(
        families.bernoulli(jnp.zeros(1)), step_fn, lambda p: jnp.zeros(()), lambda key: params, num_steps=2
    )
    return family.sample(params, KEY)


def test_amortised_discrete_model():
    """vmap over data inside jit, scan and float64: the gradient is the mean of those of single data."""
    for x64 in (False, True):
        with jax.enable_x64(x64):
            family = families.bernoulli(jnp.zeros(3))
            rng = np.random.default_rng(0)
            data, weights = jnp.asarray(rng.normal(size=(5, 4)), float), jnp.asarray(rng.normal(size=(4, 3)), float)

            def of_one(weights, key, x, family=family):
                log_joint = lambda z: -0.5 * jnp.sum((x[:3] - z) ** 2) + jnp.sum(weights) * z[0]
                return jaxelbo.elbo({"logits": x @ weights}, key, log_joint, family, num_samples=4)

            def of_all(weights, key, of_one=of_one, data=data):
                keys = jax.random.split(key, len(data))
                return jnp.mean(jax.vmap(of_one, (None, 0, 0))(weights, keys, data))

            gradient, keys = matrix.quick_jit(jax.grad(of_one)), jax.random.split(KEY, 3)
            step = lambda weights, key, of_all=of_all: (weights, jax.grad(of_all)(weights, key))
            scanned = jax.jit(lambda w, keys, step=step: jax.lax.scan(step, w, keys)[1])(weights, keys)
            for key, slope in zip(keys, scanned, strict=True):
                pairs = zip(jax.random.split(key, len(data)), data, strict=True)
                single = np.mean([gradient(weights, k, x) for k, x in pairs], axis=0)
                np.testing.assert_allclose(slope, single, rtol=1e-10 if x64 else 2e-4, atol=1e-12 if x64 else 1e-5)
                assert slope.dtype == weights.dtype
