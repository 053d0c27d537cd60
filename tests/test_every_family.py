"""One battery for every family of the catalogue: density, draws, gradients, transformations, extremes."""

import functools
import pathlib

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

import jaxelbo
from jaxelbo import catalogue, families, supports
from tests.matrix import quick_jit

KEY = jax.random.key(0)
FINITE = ("bernoulli", "categorical", "one_hot_categorical")
CONTINUOUS = [name for name in catalogue.FAMILIES if name not in (*FINITE, "point_mass")]
"""A point mass has no density; its own tests are in test_entrywise_families."""
NUM_POINTS = {"laplace": 1_500}
"""Along each axis, 300 for the others: what is not smooth needs a fine grid."""
NUM_DRAWS = 20_000


def test_every_family_and_support_is_in_the_catalogue():
    path = pathlib.Path(jaxelbo.__file__).parents[1] / "FAMILIES.md"
    assert path.read_text() == catalogue.markdown()
    assert set(catalogue.FAMILIES) == set(families.__all__)
    assert set(catalogue.SUPPORTS) == set(jaxelbo.bijectors.__all__) - {"Bijector"}


def random_params(family, seed=0):
    """Of a setting of no symmetry, with spreads about 1 and tails that end."""
    rng = np.random.default_rng(seed)

    def leaf(path, like):
        shift = 1.5 if "log_df" in jax.tree_util.keystr(path) else 0.0
        return jnp.asarray(0.4 * rng.normal(size=like.shape) + shift, like.dtype)

    return jax.tree_util.tree_map_with_path(leaf, jax.eval_shape(family.init, KEY))


class Unconstrained:
    """The same family on R^2."""

    def __init__(self, name):
        example = catalogue.FAMILIES[name]
        self.family = example.make()
        like = jax.eval_shape(lambda key: self.family.sample(self.family.init(key), key), KEY)
        self.constraint = supports.constraint_of(like, example.support)
        start = supports.unconstrained_like(self.constraint, like)
        self.unflatten = jax.flatten_util.ravel_pytree(start)[1]

    def latent(self, u):
        return supports.constrain(self.constraint, self.unflatten(u))

    def point(self, latent):
        return jax.flatten_util.ravel_pytree(supports.unconstrain(self.constraint, latent))[0]

    def log_prob_and_det(self, params, u):
        """Log density of the latent, and what makes it that of u."""
        return self.family.log_prob(params, self.latent(u)), supports.log_det(self.constraint, self.unflatten(u))


def grid(num_points):
    """Points and weights of a rule for the real line, to 37 and dense near 0."""
    even, step = np.linspace(-4.3, 4.3, num_points, retstep=True)
    return np.sinh(even), np.cosh(even) * step


def smooth(u):
    return jnp.sin(u[0]) * jnp.cos(0.7 * u[1]) + 0.2 * jnp.tanh(u[1])


@pytest.mark.slow
@pytest.mark.parametrize("name", CONTINUOUS)
def test_density_draws_and_gradients_by_quadrature(name, float64):
    """Normalised; draws follow it (marginals by Kolmogorov-Smirnov); the ELBO's mean gradient is the integral's."""
    here = Unconstrained(name)
    family, params = here.family, random_params(here.family)
    axis, of_axis = grid(NUM_POINTS.get(name, 300))
    points = jnp.asarray(np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2))
    weights = jnp.asarray(np.outer(of_axis, of_axis).ravel())
    log_joint = lambda latent: smooth(here.point(latent))

    @quick_jit
    def exact(params):
        def bound(params):
            of_point = functools.partial(here.log_prob_and_det, params)
            log_q, log_det = jax.lax.map(of_point, points, batch_size=15_000)
            mass = weights * jnp.exp(log_q + log_det)
            value = jnp.where(mass > 0, jax.vmap(smooth)(points) - log_q, 0)
            return mass @ value, mass

        return jax.value_and_grad(bound, has_aux=True)(params)

    (value, mass), slope = exact(params)
    np.testing.assert_allclose(jnp.sum(mass), 1, atol=2e-4)

    @quick_jit
    @functools.partial(jax.vmap, in_axes=(None, 0))
    def estimates(params, key):
        sample = here.point(family.sample(params, jax.random.fold_in(key, 1)))
        elbo = lambda params: jaxelbo.elbo(params, key, log_joint, family, num_samples=2)
        return sample, jax.value_and_grad(elbo)(params)

    draws, (elbos, gradients) = estimates(params, jax.random.split(KEY, NUM_DRAWS))
    table = np.asarray(mass).reshape(len(axis), len(axis))
    for entry, marginal in enumerate((table.sum(axis=1), table.sum(axis=0))):
        middle = np.cumsum(marginal) - marginal / 2
        assert stats.kstest(np.asarray(draws[:, entry]), lambda x: np.interp(x, axis, middle)).pvalue > 1e-3  # noqa: B023
    assert abs(elbos.mean() - value) < 4 * elbos.std() / NUM_DRAWS**0.5
    for found, expected in zip(jax.tree.leaves(gradients), jax.tree.leaves(slope), strict=True):
        error = 4.5 * found.std(axis=0) / NUM_DRAWS**0.5
        assert np.all(np.abs(found.mean(axis=0) - expected) <= error + 1e-3 * np.abs(expected) + 1e-6)


@pytest.mark.parametrize("name", FINITE)
def test_probabilities_draws_and_gradients_by_enumeration(name, float64):
    family = catalogue.FAMILIES[name].make()
    params = random_params(family)
    latents, log_probs = family.configurations(params, KEY)
    rows = np.asarray(latents).reshape(len(latents), -1)
    assert len(np.unique(rows, axis=0)) == family.num_configurations
    np.testing.assert_allclose(np.exp(log_probs).sum(), 1, rtol=1e-12)
    np.testing.assert_allclose(jax.vmap(family.log_prob, (None, 0))(params, latents), log_probs, rtol=1e-12)
    draws = np.asarray(jaxelbo.draws(params, KEY, family, num_samples=NUM_DRAWS)).reshape(NUM_DRAWS, -1)
    counts = np.array([np.sum(np.all(draws == row, axis=1)) for row in rows])
    assert stats.chisquare(counts, NUM_DRAWS * np.exp(log_probs)).pvalue > 1e-3
    log_joint = lambda latent: jnp.sum(jnp.sin(1.0 + jnp.arange(latent.size) + latent))

    def exact(params):
        log_q = family.configurations(params, KEY)[1]
        return jnp.exp(log_q) @ (jax.vmap(log_joint)(latents) - log_q)

    elbo = lambda params, key: jaxelbo.elbo(params, key, log_joint, family, num_samples=2)
    gradients = quick_jit(jax.vmap(jax.grad(elbo), (None, 0)))(params, jax.random.split(KEY, NUM_DRAWS))["logits"]
    error = 4.5 * gradients.std(axis=0) / NUM_DRAWS**0.5
    assert np.all(np.abs(gradients.mean(axis=0) - jax.grad(exact)(params)["logits"]) < error)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.matrix)], indirect=True)
@pytest.mark.parametrize("name", catalogue.FAMILIES)
def test_transformations(name, dtype):
    """jit is eager, vmap is the loop, and what is drawn has the density that is told."""
    family = catalogue.FAMILIES[name].make()
    params = random_params(family)
    rtol = 1e-10 if dtype == "float64" else 3e-4
    same = functools.partial(np.testing.assert_allclose, rtol=rtol, atol=rtol)

    def both(key):
        latent, log_q = family.sample_and_log_prob(params, key)
        return latent, log_q, family.log_prob(params, latent), family.sample(params, key)

    keys = jax.random.split(KEY, 3)
    latents, told, density, again = quick_jit(jax.vmap(both))(keys)
    same(told, density)
    jax.tree.map(same, latents, again)
    assert told.dtype == density.dtype == dtype
    one = quick_jit(both)(keys[1])
    jax.tree.map(lambda row, rows: same(row, rows[1]), one, (latents, told, density, again))
    jax.tree.map(same, both(keys[1]), one)


@pytest.mark.slow
@pytest.mark.parametrize("name", catalogue.FAMILIES)
def test_a_scan_of_steps_raises_the_bound(name):
    """Towards a narrow target, a draw of other params."""
    family = catalogue.FAMILIES[name].make()
    target = family.sample(random_params(family, seed=1), KEY)

    def log_joint(latent):
        gaps = jax.tree.map(lambda leaf, aim: jnp.sum((leaf - aim).astype(jnp.float32) ** 2), latent, target)
        return -20 * functools.reduce(jnp.add, jax.tree.leaves(gaps))

    loss = lambda params, key: -jaxelbo.elbo(params, key, log_joint, family, num_samples=8)
    result = jaxelbo.fit(random_params(family), KEY, loss, optax.adam(0.03), num_steps=100)
    assert result.num_skipped == 0 and result.history.loss.dtype == jnp.float32
    first, last = (np.mean(result.history.loss[rows]) for rows in (slice(20), slice(-20, None)))
    assert last < first - 0.1


EXTREME = {
    "log_concentration": 14.0, "log_concentration1": 14.0, "log_concentration0": 14.0, "log_rate": 14.0,
    "log_df": 14.0, "log_scale": 14.0, "loc": 1e6, "logits": 30.0,
}  # fmt: skip
"""How far each named parameter goes to either side: from 1e-6 to 1e6 where it is a logarithm."""
OVERFLOWS = {
    "log_normal": {"log_scale": 2.5, "loc": 60.0},
    "student_t": {"log_df": 2.0},
    "whitened": {"log_df": 2.0},
}
"""Where draws themselves would leave float32 before that."""


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in catalogue.FAMILIES if name != "constrained"])
def test_float32_extremes(name):
    """One parameter after the other at its ends: draws inside, their log density near that of float64, gradients."""
    family = catalogue.FAMILIES[name].make()
    params = random_params(family)
    paths = [path for path, _ in jax.tree_util.tree_flatten_with_path(params)[0]]

    def told(params, key):
        latent, log_q = family.sample_and_log_prob(params, key)
        return log_q, (latent, family.entropy(params) if family.entropy else log_q)

    run = quick_jit(jax.vmap(jax.value_and_grad(told, has_aux=True), (None, 0)))
    exact = quick_jit(jax.vmap(family.log_prob, (None, 0)))
    for path in paths:
        size = (EXTREME | OVERFLOWS.get(name, {})).get(path[-1].key, 3.0)
        for sign in (1, -1):
            move = lambda at, leaf: jnp.full_like(leaf, sign * size) if at == path else leaf  # noqa: B023
            moved = jax.tree_util.tree_map_with_path(move, params)
            (log_q, (latents, entropy)), gradient = run(moved, jax.random.split(KEY, 20))
            assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((log_q, latents, entropy, gradient)))
            assert np.all(np.isfinite(exact(moved, latents))), (path, sign)
