"""Mixtures and regressions as conjugate models: exact evidences, enumeration, importance sampling, scikit-learn."""

import itertools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats
from sklearn import datasets, mixture
from threadpoolctl import threadpool_limits

from jaxelbo import conjugate
from jaxelbo import distributions as d
from tests.conjugate_oracles import KEY, ascend, assert_rises, dirichlet_evidence, elbo, fitted, normal_evidence, run
from tests.matrix import quick_jit

NUM_COMPONENTS = 6


def irises():
    data = datasets.load_iris().data[:, [2, 0]]
    return (data - data.mean(axis=0)) / data.std(axis=0)


def wide_component(size):
    return d.NormalInverseWishart(jnp.zeros(size), jnp.array(0.1), jnp.array(size + 1.0), 0.5 * jnp.eye(size))


def sparse_mixture(num_components, size):
    """Few components are wanted: a sparse Dirichlet, and one wide normal-inverse-Wishart for each."""
    return conjugate.gaussian_mixture(d.Dirichlet(jnp.full(num_components, 1e-2)), wide_component(size))


def naturals_of(model):
    """Of a fit by scikit-learn."""
    roots = np.linalg.cholesky(model.covariances_ * model.degrees_of_freedom_[:, None, None])
    usual = d.NormalInverseWishart(model.means_, model.mean_precision_, model.degrees_of_freedom_, roots)
    components = quick_jit(jax.vmap(d.normal_inverse_wishart.to_natural))(jax.tree.map(jnp.asarray, usual))
    return {"weights": jnp.asarray(model.weight_concentration_), "components": components}


def by_scikit_learn(x, max_iter):
    """The same priors: covariance_prior is Psi."""
    model = mixture.BayesianGaussianMixture(
        n_components=NUM_COMPONENTS,
        weight_concentration_prior_type="dirichlet_distribution",
        weight_concentration_prior=1e-2,
        mean_precision_prior=0.1,
        mean_prior=np.zeros(x.shape[1]),
        degrees_of_freedom_prior=x.shape[1] + 1.0,
        covariance_prior=0.25 * np.eye(x.shape[1]),
        reg_covar=0.0,
        tol=1e-9,
        max_iter=max_iter,
        random_state=0,
        init_params="random_from_data",
    )
    with warnings.catch_warnings(), threadpool_limits(1):  # more threads make it several times slower
        warnings.simplefilter("ignore")
        return model.fit(x)


@pytest.mark.slow
def test_a_mixture_reaches_what_scikit_learn_does(float64):
    """The bound rises at every step, no lower than scikit-learn from the same start; components switch off."""
    x = jnp.asarray(irises())
    model = sparse_mixture(NUM_COMPONENTS, 2)
    start = model.local_start(x) | naturals_of(by_scikit_learn(irises(), 1))
    whole = ascend(model, start, x, num_steps=400)
    partial = ascend(model, start, x, num_steps=900, step_size=0.5)
    assert_rises(whole.history.bound)
    assert_rises(partial.history.bound)
    np.testing.assert_allclose(whole.history.bound[-1], partial.history.bound[-1], rtol=1e-8)
    maximised = conjugate.for_minibatches(model, num_rows=len(x))
    theirs = elbo(naturals_of(by_scikit_learn(irises(), 2_000)), maximised, x)
    assert whole.history.bound[-1] > theirs - 1e-4
    counts = np.asarray(whole.params["weights"])
    assert np.sum(counts > 1) < NUM_COMPONENTS - 1 and abs(counts.sum() - len(x) - 6e-2) < 1e-6
    # Leaving the assignments out gives the same bound at the same place.
    rest = {name: whole.params[name] for name in maximised.factors}
    np.testing.assert_allclose(elbo(rest, maximised, x), whole.history.bound[-1], rtol=1e-9)
    np.testing.assert_allclose(elbo(whole.params, model, x), whole.history.bound[-1], rtol=1e-12)


@pytest.mark.slow
def test_minibatches_of_a_mixture(float64):
    """Steps on a fifth of the rows raise the bound, and stay near an optimum of the whole."""
    x = jnp.asarray(irises())
    model = conjugate.for_minibatches(sparse_mixture(NUM_COMPONENTS, 2), num_rows=len(x))
    slow = lambda count: (count + 4.0) ** -0.7
    start = naturals_of(by_scikit_learn(irises(), 2))
    raised = ascend(model, start, x, num_steps=300, step_size=slow, batch_size=30).params
    assert elbo(raised, model, x) > elbo(start, model, x) + 5
    best = ascend(model, start, x, num_steps=400).params
    after = ascend(model, best, x, num_steps=1_000, step_size=lambda count: (count + 100.0) ** -0.7, batch_size=30)
    assert -3 < elbo(after.params, model, x) - elbo(best, model, x) < 1e-6


def test_the_bound_of_one_component_is_the_evidence(float64):
    x = jnp.asarray(irises())
    model = sparse_mixture(1, 2)
    bound = fitted(model, x, num_steps=1).history.bound[-1]
    np.testing.assert_allclose(bound, normal_evidence(irises(), wide_component(2)), rtol=1e-11)


def test_the_bound_of_a_small_mixture_is_below_its_evidence(float64):
    """The evidence by enumeration of all 2^8 assignments, parameters integrated out of each."""
    x = np.array([-3.0, -2.8, -2.9, -3.2, 2.9, 3.3, 3.1, 2.7])[:, None]
    concentration = np.array([1.0, 2.0])
    terms = []
    for labels in map(np.array, itertools.product((0, 1), repeat=8)):
        parts = [normal_evidence(x[labels == k], wide_component(1)) for k in (0, 1)]
        terms.append(sum(parts) + dirichlet_evidence(np.bincount(labels, minlength=2), concentration))
    evidence = special.logsumexp(terms)
    model = conjugate.gaussian_mixture(d.Dirichlet(jnp.asarray(concentration)), wide_component(1))
    result = fitted(model, jnp.asarray(x), num_steps=60)
    assert_rises(result.history.bound)
    # One of two ways to name the components is lost, a factor of up to 2; the groups are far apart.
    assert 0 < evidence - result.history.bound[-1] < np.log(2) + 0.3
    is_first = np.asarray(result.params["assignments"][:, 0]) > 0
    assert np.all(is_first == is_first[0], where=np.arange(8) < 4) and np.all(is_first[4:] != is_first[0])


def test_components_switch_off_from_our_own_start(float64):
    """Four groups, ten components, five starts by their keys in one `vmap`."""
    rng = np.random.default_rng(0)
    centres = np.array([[-2.0, -2.0], [-2.0, 2.0], [2.0, -2.0], [2.0, 2.0]])
    x = jnp.asarray((centres[:, None] + 0.3 * rng.normal(size=(4, 40, 2))).reshape(160, 2))
    model = sparse_mixture(10, 2)
    results = quick_jit(jax.vmap(lambda key: run(model, model.start(key, x), x, num_steps=300)))(
        jax.random.split(KEY, 5)
    )
    for bounds in results.history.bound:
        assert_rises(bounds)
    weights = np.asarray(results.params["weights"])[np.argmax(results.history.bound[:, -1])]
    np.testing.assert_allclose(np.sort(weights)[-4:], 40.01, atol=0.2)
    assert np.sort(weights)[-5] < 0.2 and len(set(np.asarray(results.history.bound[:, 0]))) == 5


def small_regression():
    rng = np.random.default_rng(0)
    design = rng.normal(size=(60, 4))
    return design, design @ np.array([1.5, -2.0, 0.0, 0.0]) + 0.5 * rng.normal(size=60)


def vague(size):
    of = lambda *shape: d.Gamma(jnp.full(shape, 1e-2), jnp.full(shape, 1e-2))
    return conjugate.relevance_regression(of(size), of())


def exact_evidence(design, y, noise, own):
    """log N(y; 0, I / noise + X diag(1 / own) X') in the space of the weights, for many precisions at once."""
    gram, projected = design.T @ design, design.T @ y
    inner = noise[:, None, None] * gram[None] + own[:, :, None] * np.eye(len(gram))[None]
    fits = np.linalg.solve(inner, np.broadcast_to(projected[None, :, None], (len(noise), len(gram), 1)))[..., 0]
    log_dets = np.linalg.slogdet(inner)[1] - np.log(own).sum(axis=1) - len(y) * np.log(noise)
    squares = noise * np.sum(y**2) - noise**2 * (fits @ projected)
    return -0.5 * (squares + log_dets + len(y) * np.log(2 * np.pi))


def test_relevance_determination_finds_the_weights(float64):
    """The bound lies below the evidence by importance sampling of the precisions, weights integrated out."""
    design, y = small_regression()
    model, data = vague(4), (jnp.asarray(design), jnp.asarray(y))
    result = fitted(model, *data, num_steps=200)
    assert_rises(result.history.bound)
    weights = d.multivariate_normal.to_usual(result.params["weights"])
    np.testing.assert_allclose(weights.loc, [1.5, -2.0, 0.0, 0.0], atol=0.25)
    relevance = jax.vmap(d.gamma.to_usual)(result.params["relevance"])
    precisions = relevance.concentration / relevance.rate
    assert np.min(precisions[2:]) > 10 * np.max(precisions[:2])
    partial = fitted(model, *data, num_steps=400, step_size=0.5)
    np.testing.assert_allclose(partial.history.bound[-1], result.history.bound[-1], rtol=1e-6)
    rng, of_noise = np.random.default_rng(1), d.gamma.to_usual(result.params["noise"])
    noise = rng.gamma(of_noise.concentration, 1 / of_noise.rate, 4_000)
    own = rng.gamma(relevance.concentration, 1 / relevance.rate, (4_000, 4))
    log_prior = stats.gamma(1e-2, scale=1e2).logpdf
    terms = exact_evidence(design, y, noise, own) + log_prior(noise) + log_prior(own).sum(axis=1)
    terms -= stats.gamma(of_noise.concentration, scale=1 / of_noise.rate).logpdf(noise)
    terms -= stats.gamma(relevance.concentration, scale=1 / relevance.rate).logpdf(own).sum(axis=1)
    evidence = special.logsumexp(terms) - np.log(len(terms))
    assert 0 < evidence - result.history.bound[-1] < 2


def test_with_known_precisions_the_bound_is_the_evidence(float64):
    design, y = small_regression()
    own, noise, sure = np.array([0.5, 0.2, 3.0, 1.0]), 4.0, 1e8
    relevance = d.Gamma(jnp.full(4, sure), jnp.asarray(sure / own))
    model = conjugate.relevance_regression(relevance, d.Gamma(jnp.array(sure), jnp.array(sure / noise)))
    bound = fitted(model, jnp.asarray(design), jnp.asarray(y), num_steps=5).history.bound[-1]
    np.testing.assert_allclose(bound, exact_evidence(design, y, np.array([noise]), own[None])[0], rtol=1e-6)


@pytest.mark.slow
def test_minibatches_of_a_regression(float64):
    """Averages of the scaled part over all batches are the whole, and steps on batches come near its bound."""
    rng = np.random.default_rng(2)
    design = rng.normal(size=(400, 3))
    y = jnp.asarray(design @ np.array([1.0, 0.0, -1.0]) + 0.5 * rng.normal(size=400))
    design, model = jnp.asarray(design), vague(3)
    scaled = conjugate.for_minibatches(model, num_rows=400)
    start = model.start(KEY, design, y)
    of_batch = quick_jit(jax.vmap(lambda design, y: conjugate.elbo(start, scaled, design, y)))
    bounds = of_batch(design.reshape(8, 50, 3), y.reshape(8, 50))
    np.testing.assert_allclose(np.mean(bounds), elbo(start, model, design, y), rtol=1e-12)
    best = fitted(model, design, y, num_steps=100).history.bound[-1]
    slow = lambda count: (count + 5.0) ** -0.9
    after = fitted(scaled, design, y, num_steps=500, batch_size=50, step_size=slow)
    assert -2 < elbo(after.params, model, design, y) - best < 1e-6


def test_dtype_follows_the_priors(float64):
    """Of all models, on data in double precision."""
    of = lambda record: jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), record)
    pair, matrix = of(d.Dirichlet(np.ones(2))), of(d.Dirichlet(np.ones((2, 2))))
    component, x = of(wide_component(2)), np.random.default_rng(0).normal(size=(4, 5, 2))
    observed = conjugate.gaussian_observations(component)
    relevance, noise = of(d.Gamma(np.ones(2), np.ones(2))), of(d.Gamma(1.0, 1.0))
    cases = [
        (conjugate.gaussian_mixture(pair, component), (x[0],)),
        (conjugate.hidden_markov_model(pair, matrix, observed), (x,)),
        (
            conjugate.hidden_markov_model(pair, matrix, conjugate.categorical_observations(pair)),
            (np.eye(2, dtype=int),),
        ),
        (conjugate.latent_dirichlet_allocation(pair, pair), (np.eye(2, dtype=int), np.ones((2, 2)))),
        (conjugate.relevance_regression(relevance, noise), (x[0], x[0, :, 0])),
    ]
    for model, data in cases:
        for each in (model, conjugate.for_minibatches(model, num_rows=10)):
            start = jax.eval_shape(each.start, KEY, *data)
            bound = jax.eval_shape(lambda start, each=each, data=data: conjugate.elbo(start, each, *data), start)
            assert {leaf.dtype for leaf in jax.tree.leaves((start, bound))} == {np.dtype("float32")}


def test_bad_input_of_a_regression():
    wide, noise = d.Gamma(jnp.ones(3), jnp.ones(3)), d.Gamma(jnp.array(1.0), jnp.array(1.0))
    model, design, y = conjugate.relevance_regression(wide, noise), jnp.ones((5, 3)), jnp.ones(5)
    with pytest.raises(ValueError, match=r"design must have shape \[N, 3\]"):
        model.start(KEY, design[:, :2], y)
    with pytest.raises(ValueError, match=r"y must have shape \(5,\)"):
        model.start(KEY, design, y[:4])
    with pytest.raises(ValueError, match="y must be finite"):
        model.start(KEY, design, y.at[0].set(jnp.nan))
    with pytest.raises(ValueError, match="at least one row"):
        model.start(KEY, design[:0], y[:0])
    with pytest.raises(TypeError, match="key must be a JAX random key"):
        model.start(0, design, y)
    with pytest.raises(ValueError, match="noise must be a proper gamma"):
        conjugate.relevance_regression(wide, noise._replace(rate=jnp.array(-1.0)))
    with pytest.raises(TypeError, match=r"relevance must be a distributions\.Gamma"):
        conjugate.relevance_regression(noise.rate, noise)
    with pytest.raises(ValueError, match=r"relevance\.concentration must have shape \[D\]"):
        conjugate.relevance_regression(d.Gamma(jnp.ones((1, 3)), jnp.ones((1, 3))), noise)
    with pytest.raises(ValueError, match=r"relevance\.concentration must not be empty"):
        conjugate.relevance_regression(d.Gamma(jnp.ones(0), jnp.ones(0)), noise)


def test_bad_input_of_a_mixture():
    model, component = sparse_mixture(3, 2), wide_component(2)
    with pytest.raises(ValueError, match=r"x must have shape \[N, 2\] with at least one row"):
        model.start(KEY, jnp.zeros((5, 3)))
    with pytest.raises(ValueError, match="with at least one row"):
        model.start(KEY, jnp.zeros((0, 2)))
    with pytest.raises(ValueError, match="x must have shape"):
        model.start(KEY, jnp.zeros(2))
    with pytest.raises(TypeError, match=r"x \[N, D\] must be a floating-point array"):
        model.start(KEY, [[1.0, 2.0]])
    with pytest.raises(ValueError, match="x must be finite"):
        model.start(KEY, jnp.full((5, 2), jnp.nan))
    with pytest.raises(ValueError, match=r"weights\.concentration must not be empty"):
        sparse_mixture(0, 2)
    with pytest.raises(ValueError, match="weights must be a proper Dirichlet"):
        conjugate.gaussian_mixture(d.Dirichlet(jnp.array([1.0, jnp.nan])), component)
    with pytest.raises(ValueError, match=r"prior\.scale_tril must have shape \(2, 2\)"):
        conjugate.gaussian_mixture(d.Dirichlet(jnp.ones(2)), component._replace(scale_tril=jnp.ones(2)))
    with pytest.raises(ValueError, match="prior must be a proper normal-inverse-Wishart"):
        conjugate.gaussian_mixture(d.Dirichlet(jnp.ones(2)), component._replace(df=jnp.array(0.5)))
    with pytest.raises(TypeError, match=r"model must be a ConjugateModel, got .*; call it"):
        conjugate.for_minibatches(conjugate.gaussian_mixture, num_rows=5)
    with pytest.raises(ValueError, match="num_rows must be at least 1"):
        conjugate.for_minibatches(model, num_rows=0)
    with pytest.raises(ValueError, match=r"naturals must hold natural parameters of \['assignments'"):
        conjugate.elbo({}, model, jnp.zeros((5, 2)))
