"""`infer` against best Gaussians in closed form, in many coordinates, and what it says where there is none."""

import functools
import operator
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxelbo
from jaxelbo import families
from tests import gaussian_problems as problems

KEY = jax.random.key(0)


pytestmark = pytest.mark.usefixtures("float64")


def regression(seed=0, num_rows=80):
    """Columns of scales from 1 to 1,000, far from zero mean; noise of sd 2, flat prior: the posterior is Gaussian."""
    rng = np.random.default_rng(seed)
    design = np.stack([np.ones(num_rows), rng.normal(100, 15, num_rows), rng.normal(2000, 300, num_rows)], axis=1)
    response = design @ np.array([26.0, 0.6, -0.01]) + 2 * rng.normal(size=num_rows)
    precision = design.T @ design / 4
    mean = np.linalg.solve(precision, design.T @ response / 4)
    root = np.linalg.inv(np.linalg.cholesky(precision)).T
    residual = response - design @ mean
    log_evidence = (
        -num_rows * np.log(2 * np.sqrt(2 * np.pi)) - residual @ residual / 8
        + 1.5 * np.log(2 * np.pi) - 0.5 * np.linalg.slogdet(precision)[1]
    )  # fmt: skip

    def log_joint(latent):
        mean = latent["intercept"] + design[:, 1:] @ latent["slopes"]
        return jnp.sum(jax.scipy.stats.norm.logpdf(response, mean, 2.0))

    return log_joint, {"intercept": 0.0, "slopes": jnp.zeros(2)}, (mean, root), log_evidence


def test_unscaled_regression_is_exact():
    """Where stochastic gradients end tens of nats away: posterior, evidence and verdict, with few gradients."""
    log_joint, latent_like, exact, log_evidence = regression()
    result = jaxelbo.infer(log_joint, latent_like, KEY)
    assert str(result.status) == "converged"
    assert problems.kl_of_gaussians(problems.mean_and_root(result.params), exact) < 1e-6
    np.testing.assert_allclose(result.elbo, log_evidence, atol=1e-4)  # q is the posterior: every draw shows it
    assert result.elbo_standard_error < 1e-4
    assert result.num_gradients < 100
    np.testing.assert_allclose(result.effective_sample_size, 1000, rtol=1e-6)


def test_mean_field_of_a_correlated_gaussian():
    """Means are exact, and precisions are the diagonal of the precision matrix."""
    root = problems.mixing_matrix(5, 1e3, seed=1)
    precision, mean = np.linalg.inv(root @ root.T), np.arange(5.0)
    log_joint = lambda z: -0.5 * (z - mean) @ (precision @ (z - mean))
    result = jaxelbo.infer(log_joint, jnp.zeros(5), KEY, family=families.mean_field)
    np.testing.assert_allclose(result.params["log_scale"], -0.5 * np.log(np.diag(precision)), atol=1e-5)
    np.testing.assert_allclose(result.params["loc"], mean, atol=1e-5)


@pytest.mark.parametrize("constructor", [families.full_rank, families.mean_field])
@pytest.mark.parametrize("seed", [0, 1])
def test_best_gaussian_of_a_skewed_density(constructor, seed):
    mean, sd, elbo = problems.best_of_log_gammas()
    result = jaxelbo.infer(problems.log_gammas, jnp.zeros(4), jax.random.key(seed), family=constructor)
    assert problems.kl_of_gaussians(problems.mean_and_root(result.params), (mean, np.diag(sd))) < 0.02
    assert abs(result.elbo - elbo) < 4 * result.elbo_standard_error + 0.02
    assert str(result.status) in ("converged", "poor fit")  # by its Pareto k, which is near the bar
    assert result.num_gradients < (500 if constructor is families.full_rank else 1_000)
    assert result.num_evaluations < 10_000


def test_more_entries_than_values_alone_can_settle():
    """40 skewed and mixed entries: gradients do it all, within 0.05 nats of the best Gaussian in closed form."""
    rng = np.random.default_rng(0)
    shapes, rates = rng.uniform(1.5, 20, 40), 10 ** rng.uniform(-2, 2, 40)
    mixing = problems.mixing_matrix(40, 1e3)
    log_joint = lambda z: jnp.sum(shapes * (mixing @ z) - rates * jnp.exp(mixing @ z))
    result = jaxelbo.infer(log_joint, jnp.zeros(40), KEY)
    mean, root = problems.mean_and_root(result.params)
    best = np.log(shapes / rates) - 0.5 / shapes, np.diag(shapes**-0.5)
    assert problems.kl_of_gaussians((mixing @ mean, mixing @ root), best) < 0.05
    assert result.num_gradients < 1_500


@pytest.mark.parametrize(
    "matrix",
    [problems.mixing_matrix(4, 1e6), np.diag([1e5, 1e-5, 3.0, 1e2])[:, [2, 0, 3, 1]]],
    ids=["dense", "diagonal, permuted"],
)
def test_affine_equivariance(matrix):
    """A fit in other coordinates, start included, is the same fit."""
    start, shift = np.array([1.0, -1.0, 0.5, 2.0]), np.array([0.3, -2.0, 1.0, 0.0])
    plain = jaxelbo.infer(problems.log_gammas, start, KEY)
    elsewhere = np.linalg.solve(matrix, start - shift)
    mapped = jaxelbo.infer(lambda z: problems.log_gammas(matrix @ z + shift), elsewhere, KEY)
    mean, root = problems.mean_and_root(mapped.params)
    assert problems.kl_of_gaussians((matrix @ mean + shift, matrix @ root), problems.mean_and_root(plain.params)) < 0.01
    assert abs(mapped.num_gradients - plain.num_gradients) <= 0.2 * plain.num_gradients
    assert str(mapped.status) == str(plain.status)


def test_mean_field_is_equivariant_under_scales():
    """On correlated entries: where the curvature is a multiple of I its axes are arbitrary, gradients differ more."""
    scales, mixing = np.array([1e5, 1e-5, 3.0, 1e2]), problems.mixing_matrix(4, 10.0)
    infer = functools.partial(jaxelbo.infer, latent_like=np.zeros(4), key=KEY, family=families.mean_field)
    plain = infer(lambda z: problems.log_gammas(mixing @ z))
    mapped = infer(lambda z: problems.log_gammas(mixing @ (scales * z)))
    mean, root = problems.mean_and_root(mapped.params)
    moved = scales * mean, scales[:, None] * root
    assert problems.kl_of_gaussians(moved, problems.mean_and_root(plain.params)) < 0.01
    assert abs(mapped.num_gradients - plain.num_gradients) <= 0.2 * plain.num_gradients


def test_starts_far_away():
    mean, sd, _ = problems.best_of_log_gammas()
    for distance in (-10, 10):
        result = jaxelbo.infer(problems.log_gammas, mean + distance * sd, KEY)
        assert problems.kl_of_gaussians(problems.mean_and_root(result.params), (mean, np.diag(sd))) < 0.05


def test_float32():
    log_joint, latent_like, exact, _ = regression()
    latent_like = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), latent_like)
    with jax.enable_x64(False):
        result = jaxelbo.infer(log_joint, latent_like, jax.random.key(0))
    assert {leaf.dtype for leaf in jax.tree.leaves(result.params)} == {jnp.dtype("float32")}
    assert problems.kl_of_gaussians(problems.mean_and_root(result.params), exact) < 0.05
    assert str(result.status) == "converged"


def test_many_posteriors_by_vmap():
    """Each of a batch as by itself, under jit, over data, keys and starts."""
    data = jax.random.gamma(KEY, 3.0, (8, 4)) + 0.5

    def of_one(rates, key, start):
        return jaxelbo.infer(lambda z: jnp.sum(3 * z - rates * jnp.exp(z)), start, key)

    keys, starts = jax.random.split(KEY, 8), jnp.linspace(-1, 1, 32).reshape(8, 4)
    batch, alone = jax.jit(jax.vmap(of_one))(data, keys, starts), jax.jit(of_one)
    for index in range(8):
        single = alone(data[index], keys[index], starts[index])
        together = jax.tree.map(operator.itemgetter(index), batch)
        pair = problems.mean_and_root(together.params), problems.mean_and_root(single.params)
        assert problems.kl_of_gaussians(*pair) < 0.01
        assert str(together.status) == str(single.status)
    assert batch.status.code.shape == (8,)


def funnel(latent):
    """No mode: unbounded where the scale of the rest vanishes."""
    return (
        jnp.sum(jax.scipy.stats.norm.logpdf(latent["x"], 0.0, jnp.exp(latent["log_scale"])))
        - latent["log_scale"] ** 2 / 18
    )


FAULTS = [
    (lambda z: jnp.where(z["a"] > 1, -z["a"], -jnp.inf), "not finite"),
    (lambda z: jnp.log(z["a"] - 1), "not finite"),
    (lambda z: z["a"] - z["b"] ** 2, ("flat direction along latent['a']", "no mode found")),
    (lambda z: jnp.exp(z["a"]) - z["b"] ** 2, ("flat direction", "no mode found", "not finite")),
    (lambda z: -(z["a"] ** 2), "flat direction along latent['b']"),
    (lambda z: -((z["a"] + z["b"]) ** 2), "flat direction"),
    (lambda z: -jnp.log1p(z["a"] ** 2) - z["b"] ** 2, "poor fit"),
]


@pytest.mark.parametrize(("log_joint", "status"), FAULTS)
def test_a_fault_is_named(log_joint, status):
    result = jaxelbo.infer(log_joint, {"a": 0.3, "b": 0.2}, KEY)
    assert str(result.status).startswith(status)
    assert result.num_gradients < 1500


def test_a_funnel_is_not_called_converged():
    result = jaxelbo.infer(funnel, {"x": jnp.ones(6), "log_scale": 0.0}, KEY)
    assert str(result.status) != "converged"
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(result.params))


def test_bad_input():
    log_joint = lambda z: -jnp.sum(z**2)
    infer = functools.partial(jaxelbo.infer, log_joint)
    with pytest.raises(TypeError, match="latent_like must be floating-point, got dtype int"):
        infer(jnp.zeros(3, int), KEY)
    with pytest.raises(ValueError, match="latent_like must have at least one leaf"):
        infer({}, KEY)
    with pytest.raises(ValueError, match="latent_like must hold at least one number"):
        infer(jnp.zeros(0), KEY)
    with pytest.raises(TypeError, match="key must be a JAX random key"):
        infer(jnp.zeros(3), 0)
    with pytest.raises(ValueError, match="log_joint must return a scalar, got shape"):
        jaxelbo.infer(lambda z: -(z**2), jnp.zeros(3), KEY)
    with pytest.raises(TypeError, match="log_joint must be a function"):
        jaxelbo.infer(None, jnp.zeros(3), KEY)
    with pytest.raises(TypeError, match=r"must be a jaxelbo\.Family"):
        infer(jnp.zeros(3), KEY, family=lambda latent_like: latent_like)
    with pytest.raises(ValueError, match=r"must be families\.full_rank or families\.mean_field .* got bernoulli"):
        infer(jnp.zeros(3), KEY, family=families.bernoulli)
    with pytest.raises(ValueError, match="num_samples must be at least 100"):
        infer(jnp.zeros(3), KEY, num_samples=10)


def test_compiles_once():
    count = 0

    def log_joint(latent):
        nonlocal count
        count += 1
        return -jnp.sum(latent**2)

    jaxelbo.infer(log_joint, jnp.zeros(2), KEY)
    traced = count
    jaxelbo.infer(log_joint, jnp.ones(2), jax.random.key(1))
    assert count == traced


def test_documented_names_exist():
    text = (pathlib.Path(jaxelbo.__file__).parent / "statuses.py").read_text()
    assert all(f"``{name}``" in text for name in jaxelbo.statuses.NAMES)
