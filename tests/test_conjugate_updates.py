"""Coordinate ascent on conjugate models, and EM."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats
from sklearn import datasets, mixture

import jaxelbo
from jaxelbo import algorithms, exponential
from jaxelbo import distributions as d
from jaxelbo.distributions.normals import doubled_triangle
from tests.matrix import quick_jit

KEY = jax.random.key(0)
NUM_COMPONENTS = 6


def irises():
    data = datasets.load_iris().data[:, [2, 0]]
    return (data - data.mean(axis=0)) / data.std(axis=0)


def priors(size):
    """Few components are wanted: a sparse Dirichlet, and one wide normal-inverse-Wishart for each."""
    weights = d.dirichlet.to_natural(d.Dirichlet(jnp.full(NUM_COMPONENTS, 1e-2)))
    component = d.NormalInverseWishart(jnp.zeros(size), jnp.array(0.1), jnp.array(size + 1.0), 0.5 * jnp.eye(size))
    return weights, d.normal_inverse_wishart.to_natural(component)


FACTORS = {
    "assignments": exponential.copies(d.categorical(NUM_COMPONENTS)),
    "weights": d.dirichlet,
    "components": exponential.copies(d.normal_inverse_wishart),
}


@quick_jit
def mean_parameters(naturals):
    """Of the weights and the components."""
    return {name: exponential.mean_parameters(naturals[name], FACTORS[name]) for name in naturals}


@quick_jit
def own_terms(naturals):
    """What the weights and the components add to the bound beside the expected log joint."""
    means = {name: exponential.mean_parameters(naturals[name], FACTORS[name]) for name in naturals}
    terms = (
        FACTORS[name].log_normalizer(naturals[name]) - exponential.inner(naturals[name], means[name]) for name in means
    )
    return sum(terms)


def expected_log_likelihoods(means, x):
    """E[log N(x_n | mu_k, Sigma_k)], ``[N, K]``."""
    log_det, precision, weighted, square = means["components"]
    squares = jax.vmap(lambda row: doubled_triangle(row[:, None] * row[None]))(x) @ precision.T
    return -0.5 * (log_det[None] + squares - 2 * x @ weighted.T + square[None] + x.shape[1] * np.log(2 * np.pi))


def prior_terms(means, size):
    weights, component = priors(size)
    of_components = jax.vmap(lambda mean: exponential.inner(component, mean))(means["components"])
    total = exponential.inner(weights, means["weights"]) - d.dirichlet.log_normalizer(weights)
    return total + jnp.sum(of_components) - NUM_COMPONENTS * d.normal_inverse_wishart.log_normalizer(component)


def expected_log_joint(means, x):
    """Of the mixture, without the base measures."""
    assigned = means["assignments"]
    assigned = jnp.append(assigned, 1 - jnp.sum(assigned, axis=1, keepdims=True), axis=1)
    terms = expected_log_likelihoods(means, x) + means["weights"][None]
    return jnp.sum(assigned * terms) + prior_terms(means, x.shape[1])


def without_assignments(num_rows, means, x):
    """The same with the assignments at their best, for minibatches."""
    terms = expected_log_likelihoods(means, x) + means["weights"][None]
    return num_rows / len(x) * jnp.sum(jax.nn.logsumexp(terms, axis=1)) + prior_terms(means, x.shape[1])


def naturals_of(model):
    """Of a fit by scikit-learn, with assignments that wait for their first update."""
    weights = d.dirichlet.to_natural(d.Dirichlet(jnp.asarray(model.weight_concentration_)))
    roots = np.linalg.cholesky(model.covariances_ * model.degrees_of_freedom_[:, None, None])
    usual = d.NormalInverseWishart(model.means_, model.mean_precision_, model.degrees_of_freedom_, roots)
    components = quick_jit(jax.vmap(d.normal_inverse_wishart.to_natural))(jax.tree.map(jnp.asarray, usual))
    return {"weights": weights, "components": components}


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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(x)


def bound_of(naturals, x):
    """Our bound with the best assignments for the rest."""
    collapsed = quick_jit(functools.partial(without_assignments, len(x)))
    return float(collapsed(mean_parameters(naturals), x) + own_terms(naturals))


def test_a_mixture_by_coordinate_ascent_and_natural_gradients(float64):
    """The bound rises at every step, no lower than scikit-learn from the same start; components switch off."""
    x = jnp.asarray(irises())
    start = naturals_of(by_scikit_learn(irises(), 1)) | {"assignments": jnp.zeros((len(x), NUM_COMPONENTS - 1))}
    run = lambda step_size, num_steps: jaxelbo.run_algorithm(
        start,
        KEY,
        algorithms.coordinate_ascent(expected_log_joint, FACTORS, step_size=step_size),
        num_steps=num_steps,
        data=(x,),
    )
    whole, partial = run(1.0, 400), run(0.5, 900)
    rises = np.diff(whole.history.bound)
    assert np.all(rises > -1e-9 * np.abs(whole.history.bound[1:]))
    assert np.all(np.diff(partial.history.bound) > -1e-9 * np.abs(partial.history.bound[1:]))
    np.testing.assert_allclose(whole.history.bound[-1], partial.history.bound[-1], rtol=1e-8)
    theirs = bound_of(naturals_of(by_scikit_learn(irises(), 2_000)), x)
    assert whole.history.bound[-1] > theirs - 1e-4
    counts = np.asarray(whole.params["weights"])
    assert np.sum(counts > 1) < NUM_COMPONENTS - 1 and abs(counts.sum() - len(x) - 6e-2) < 1e-6
    # Leaving the assignments out gives the same bound at the same place.
    rest = {name: whole.params[name] for name in ("weights", "components")}
    np.testing.assert_allclose(bound_of(rest, x), whole.history.bound[-1], rtol=1e-9)


def test_minibatches(float64):
    """Steps on a fifth of the rows raise the bound, and stay near an optimum of the whole."""
    x = jnp.asarray(irises())
    factors = {name: FACTORS[name] for name in ("weights", "components")}
    objective = functools.partial(without_assignments, len(x))
    slow = lambda count: (count + 4.0) ** -0.7
    run = lambda start, num_steps, step_size, batch_size: (
        jaxelbo.run_algorithm(
            start,
            KEY,
            algorithms.coordinate_ascent(objective, factors, step_size=step_size),
            num_steps=num_steps,
            data=(x,),
            batch_size=batch_size,
        ).params
    )
    start = naturals_of(by_scikit_learn(irises(), 2))
    assert bound_of(run(start, 300, slow, 30), x) > bound_of(start, x) + 5
    best = run(start, 400, 1.0, None)
    after = run(best, 1_000, lambda count: (count + 100.0) ** -0.7, 30)
    assert -3 < bound_of(after, x) - bound_of(best, x) < 1e-6


def test_regression_with_relevance_determination(float64):
    """The bound of a model whose answer is known when the weights' precisions are: against the exact evidence."""
    rng = np.random.default_rng(0)
    design = jnp.asarray(rng.normal(size=(60, 4)))
    weights = np.array([1.5, -2.0, 0.0, 0.0])
    y = jnp.asarray(design @ weights + 0.5 * rng.normal(size=60))
    prior = d.gamma.to_natural(d.Gamma(jnp.array(1e-2), jnp.array(1e-2)))
    factors = {"weights": d.multivariate_normal, "relevance": exponential.copies(d.gamma), "noise": d.gamma}

    def log_joint(means, design, y):
        location, triangle = means["weights"]
        log_noise, noise = means["noise"]
        log_relevance, relevance = means["relevance"]
        squares = jnp.sum(y**2) - 2 * y @ design @ location + doubled_triangle(design.T @ design) @ triangle
        own = jnp.cumsum(jnp.arange(1, 5)) - 1  # where a triangle holds the squares
        likelihood = 0.5 * len(y) * (log_noise - np.log(2 * np.pi)) - 0.5 * noise * squares
        of_weights = 0.5 * jnp.sum(log_relevance - np.log(2 * np.pi) - relevance * triangle[own])
        of_priors = jnp.sum(jax.vmap(lambda mean: exponential.inner(prior, mean))(means["relevance"]))
        of_priors += exponential.inner(prior, means["noise"]) - 5 * d.gamma.log_normalizer(prior)
        return likelihood + of_weights + of_priors

    start = {
        "weights": d.multivariate_normal.to_natural(d.Dense(jnp.zeros(4), jnp.zeros(4), jnp.zeros((4, 4)))),
        "relevance": jax.vmap(d.gamma.to_natural)(d.Gamma(jnp.ones(4), jnp.ones(4))),
        "noise": d.gamma.to_natural(d.Gamma(jnp.array(1.0), jnp.array(1.0))),
    }
    algorithm = algorithms.coordinate_ascent(log_joint, factors)
    result = jaxelbo.run_algorithm(start, KEY, algorithm, num_steps=200, data=(design, y))
    assert np.all(np.diff(result.history.bound) > -1e-9)
    fitted = d.multivariate_normal.to_usual(result.params["weights"])
    np.testing.assert_allclose(fitted.loc, weights, atol=0.25)
    relevance = jax.vmap(d.gamma.to_usual)(result.params["relevance"])
    precisions = relevance.concentration / relevance.rate
    assert np.min(precisions[2:]) > 10 * np.max(precisions[:2])
    # No bound exceeds log p(y): importance sampling of the precisions by q, weights integrated out.
    of_noise = d.gamma.to_usual(result.params["noise"])
    noise = rng.gamma(of_noise.concentration, 1 / of_noise.rate, 4_000)
    own = rng.gamma(relevance.concentration, 1 / relevance.rate, (4_000, 4))
    log_prior = stats.gamma(1e-2, scale=1e2).logpdf
    # log N(y; 0, I / noise + X diag(1 / own) X') in the space of the weights, for many draws at once
    gram, projected = np.asarray(design.T @ design), np.asarray(design.T @ y)
    inner = noise[:, None, None] * gram[None] + own[:, :, None] * np.eye(4)[None]
    fitted = np.linalg.solve(inner, np.broadcast_to(projected[None, :, None], (4_000, 4, 1)))[..., 0] @ projected
    log_dets = np.linalg.slogdet(inner)[1] - np.log(own).sum(axis=1) - 60 * np.log(noise)
    terms = -0.5 * (noise * np.sum(y**2) - noise**2 * fitted + log_dets + 60 * np.log(2 * np.pi))
    terms += log_prior(noise) + log_prior(own).sum(axis=1)
    terms -= stats.gamma(of_noise.concentration, scale=1 / of_noise.rate).logpdf(noise)
    terms -= stats.gamma(relevance.concentration, scale=1 / relevance.rate).logpdf(own).sum(axis=1)
    evidence = special.logsumexp(terms) - np.log(len(terms))
    assert 0 < evidence - result.history.bound[-1] < 2


def test_em_touches_the_likelihood(float64):
    """After every E step the bound is the log-likelihood, which never falls, and ends where scikit-learn's does."""
    x = jnp.asarray(irises())
    given = mixture.GaussianMixture(n_components=3, tol=1e-10, max_iter=2_000, reg_covar=0.0, random_state=0).fit(
        irises()
    )

    def log_terms(model, x):
        def of_component(log_weight, mean, covariance):
            gaps = x - mean[None]
            squares = jnp.sum(gaps * jnp.linalg.solve(covariance, gaps.T).T, axis=1)
            return log_weight - 0.5 * (squares + jnp.linalg.slogdet(covariance)[1] + 2 * np.log(2 * np.pi))

        return jax.vmap(of_component, out_axes=1)(*model)

    e_step = lambda q, model, key, x: jax.nn.softmax(log_terms(model, x), axis=1)

    def m_step(q, model, key, x):
        totals = jnp.sum(q, axis=0)
        means = (q.T @ x) / totals[:, None]
        gaps = x[:, None] - means[None]
        covariances = jnp.einsum("nk,nki,nkj->kij", q, gaps, gaps) / totals[:, None, None]
        return jnp.log(totals / len(x)), means, covariances

    bound = lambda q, model, x: jnp.sum(q * log_terms(model, x)) - jnp.sum(jax.scipy.special.xlogy(q, q))
    model = (jnp.log(jnp.full(3, 1 / 3)), x[jnp.array([0, 70, 120])], jnp.broadcast_to(0.3 * jnp.eye(2), (3, 2, 2)))
    algorithm = algorithms.expectation_maximisation(e_step, m_step, bound)
    start = {"variational": jnp.full((len(x), 3), 1 / 3), "model": model}
    states, likelihoods = start, []
    step = quick_jit(lambda state: algorithm.step(state, KEY, x))
    for _ in range(40):
        likelihoods.append(float(jnp.sum(jax.nn.logsumexp(log_terms(states["model"], x), axis=1))))
        states, info = step(states)
        np.testing.assert_allclose(info.after_e, likelihoods[-1], rtol=1e-10)
        assert info.after_m > info.after_e - 1e-9
    assert np.all(np.diff(likelihoods) > -1e-9)
    result = jaxelbo.run_algorithm(start, KEY, algorithm, num_steps=2_000, data=(x,))
    ends = result.history.after_m[-1], given.score(irises()) * len(x)
    np.testing.assert_allclose(*ends, rtol=1e-4)


def test_bad_input():
    with pytest.raises(TypeError, match="factors must be a dict"):
        algorithms.coordinate_ascent(expected_log_joint, d.gamma)
    with pytest.raises(TypeError, match=r"factors\['rate'\] must be an ExponentialFamily"):
        algorithms.coordinate_ascent(expected_log_joint, {"rate": d.Gamma})
    with pytest.raises(ValueError, match=r"step_size must be in \(0, 1\]"):
        algorithms.coordinate_ascent(expected_log_joint, {"rate": d.gamma}, step_size=1.5)
    algorithm = algorithms.coordinate_ascent(lambda means: jnp.zeros(2), {"rate": d.gamma})
    natural = d.gamma.to_natural(d.Gamma(jnp.array(1.0), jnp.array(1.0)))
    with pytest.raises(ValueError, match=r"params must hold natural parameters of \['rate'\]"):
        jaxelbo.run_algorithm({"other": natural}, KEY, algorithm, num_steps=1)
    with pytest.raises(ValueError, match="expected_log_joint must"):
        jaxelbo.run_algorithm({"rate": natural}, KEY, algorithm, num_steps=1)
    em = algorithms.expectation_maximisation(*[lambda *arguments: None] * 3)
    with pytest.raises(ValueError, match="params must be"):
        jaxelbo.run_algorithm({"q": 1.0}, KEY, em, num_steps=1)
