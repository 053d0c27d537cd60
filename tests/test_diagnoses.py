"""Verdicts on fits that are known to be right or wrong: closed forms, quadrature, counts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import jaxelbo
from jaxelbo import bijectors, diagnoses, families
from tests.matrix import quick_jit

KEY = jax.random.key(0)
COVARIANCE = np.array([[1.0, 0.6], [0.6, 2.0]])
MEAN = np.array([1.0, -2.0])


def log_joint(z):
    """A Gaussian whose evidence is exp(3)."""
    return 3 + jax.scipy.stats.multivariate_normal.logpdf(z["a"], jnp.asarray(MEAN), jnp.asarray(COVARIANCE))


def exact(scale=1.0, moved=0.0):
    """The posterior itself as full-rank params, its scale multiplied and its mean moved by standard deviations."""
    family = families.full_rank({"a": jnp.zeros(2)})
    root = np.linalg.cholesky(COVARIANCE)
    diagonal = np.diag(root)
    params = {
        "loc": jnp.asarray(MEAN + moved * np.sqrt(np.diag(COVARIANCE))),
        "log_scale": jnp.asarray(np.log(scale * diagonal)),
        "unit_tril": jnp.asarray(np.tril(root / diagonal[:, None], -1)),
    }
    return family, params


@functools.lru_cache
def asking(family, log_joint, num_samples):
    ask = functools.partial(jaxelbo.diagnose, log_joint=log_joint, family=family, num_samples=num_samples)
    return quick_jit(ask)


def verdict_of(family, params, log_joint=log_joint, num_samples=2_000, seed=1):
    return asking(family, log_joint, num_samples)(params, jax.random.key(seed))


def test_an_exact_fit_is_good(float64):
    found = verdict_of(*exact())
    assert str(found.verdict).startswith("good: Pareto k")
    np.testing.assert_allclose((found.elbo.value, found.log_evidence.value), 3, atol=1e-9)
    assert found.elbo.standard_error < 1e-9 and abs(found.symmetrised_kl.value) < 1e-9
    np.testing.assert_allclose(found.effective_sample_size, 2_000, rtol=1e-9)


@pytest.mark.parametrize(
    ("scale", "moved", "expected", "words"),
    [
        (0.5, 0.0, "poor", "times too narrow in latent"),
        (1.0, 3.0, "poor", "sd too high"),
        (1.0, -3.0, "poor", "sd too low"),
        (1.8, 0.0, "usable with importance weights", "times too wide in latent"),
        (1.4, 0.8, "usable with importance weights", "sd too high"),
    ],
)
def test_spoiled_fits_are_said_to_be(scale, moved, expected, words, float64):
    """Over ten keys each."""
    family, params = exact(scale, moved)
    for seed in range(10):
        verdict = str(verdict_of(family, params, seed=seed).verdict)
        assert verdict.startswith(expected) and words in verdict, verdict


def test_corrected_moments_and_divergence(float64):
    """A wide q: moments, evidence and both KLs by their closed forms, within 4 standard errors over replicates."""
    family, params = exact(1.3, 0.4)
    keys = jax.random.split(KEY, 200)
    found = quick_jit(
        jax.vmap(lambda key: jaxelbo.diagnose(params, key, log_joint, family, num_samples=1_000))
    )(keys)  # fmt: skip
    error = lambda values: 4 * np.std(values, axis=0) / np.sqrt(len(keys))
    assert np.all(np.abs(np.mean(found.mean["a"], axis=0) - MEAN) < error(found.mean["a"]) + 2e-3)
    assert np.all(np.abs(np.mean(found.sd["a"], axis=0) - np.sqrt(np.diag(COVARIANCE))) < error(found.sd["a"]) + 5e-3)
    assert abs(np.mean(found.log_evidence.value) - 3) < error(found.log_evidence.value) + 2e-3
    square = 0.4**2 * np.sqrt(np.diag(COVARIANCE)) @ np.linalg.inv(COVARIANCE) @ np.sqrt(np.diag(COVARIANCE))
    symmetrised = 0.5 * 2 * (1.3**2 + 1.3**-2 - 2) + 0.5 * square * (1 + 1.3**-2)
    assert abs(np.mean(found.symmetrised_kl.value) - symmetrised) < error(found.symmetrised_kl.value) + 5e-3
    for name in ("elbo", "log_evidence", "symmetrised_kl"):
        estimate = getattr(found, name)
        np.testing.assert_allclose(np.mean(estimate.standard_error), np.std(estimate.value), rtol=0.25)


def test_other_families_and_supports(float64):
    """A gamma posterior by gamma, exactly, and by a narrow Gaussian on a support; an index."""
    log_joint = lambda z: 3 * jnp.log(z) - 2 * z
    family = families.gamma(1.0)
    params = {"log_concentration": jnp.log(jnp.array([4.0])), "log_rate": jnp.log(jnp.array([2.0]))}
    found = verdict_of(family, params, log_joint)
    assert str(found.verdict).startswith("good")
    np.testing.assert_allclose(found.log_evidence.value, stats.gamma(4, scale=0.5).logpdf(1.0) * -1 - 2, rtol=1e-6)
    normal = families.constrained(families.mean_field, 1.0, bijectors.positive_softplus)
    narrow = verdict_of(normal, normal.init(KEY), log_joint)
    assert str(narrow.verdict).startswith("poor")
    chances = jnp.array([0.2, 0.5, 0.3])
    index = families.categorical(3)
    found = verdict_of(index, {"logits": jnp.zeros(3)}, lambda z: jnp.log(chances[z]))
    assert abs(found.mean - 1.1) < 4 / np.sqrt(2_000) and abs(found.log_evidence.value) < 0.05


def test_what_is_not_finite(float64):
    """-inf is no fault, NaN and +inf are counted."""
    family, params = exact()
    cut = lambda z: jnp.where(z["a"][0] > 1, log_joint(z), -jnp.inf)
    found = verdict_of(family, params, cut)
    np.testing.assert_allclose(found.log_evidence.value, 3 - np.log(2), atol=0.1)
    assert found.elbo.value == -np.inf and found.symmetrised_kl.value == np.inf
    for value in (np.nan, np.inf):
        spoiled = lambda z, value=value: jnp.where(z["a"][0] > 1, log_joint(z), value)
        verdict = str(verdict_of(family, params, spoiled).verdict)
        count = int(verdict.split(" at ")[1].split()[0])
        assert verdict.startswith("not finite: the log joint is NaN or +inf at") and abs(count - 1_000) < 150
    with pytest.raises(ValueError, match="num_samples must be at least 100"):
        jaxelbo.diagnose(params, KEY, log_joint, family, num_samples=10)
    with pytest.raises(ValueError, match="log_joint must"):
        jaxelbo.diagnose(params, KEY, lambda z: z["a"], family, num_samples=100)


def test_one_draw_with_all_the_weight(float64):
    verdict = str(verdict_of(*exact(1.0, 1e9)).verdict)
    assert verdict.startswith("poor: Pareto k") and "q is inf times too wide in latent['a']" in verdict


def test_eager_jit_and_vmap(dtype):
    family, params = exact(0.8)
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), params)
    family = families.full_rank({"a": jnp.zeros(2, dtype)})
    ask = lambda key: jaxelbo.diagnose(params, key, log_joint, family, num_samples=200)
    keys = jax.random.split(KEY, 3)
    together = quick_jit(jax.vmap(ask))(keys)
    rtol = 1e-8 if dtype == "float64" else 2e-3
    same = functools.partial(np.testing.assert_allclose, rtol=rtol, atol=rtol)
    jax.tree.map(lambda one, rows: same(one, rows[1]), ask(keys[1]), together)
    assert together.elbo.value.dtype == dtype and len(str(together.verdict)) > 10
    assert jax.tree.structure(together.mean) == jax.tree.structure({"a": 0})
    assert diagnoses.VERDICTS[0] == "good"
