"""Coordinate ascent on conjugate models, and EM."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special
from sklearn import datasets, mixture

import jaxelbo
from jaxelbo import algorithms, exponential
from jaxelbo import distributions as d
from tests.matrix import quick_jit

KEY = jax.random.key(0)
PRIOR = d.Gamma(2.0, 1.5)
COUNTS = np.array([3.0, 0.0, 5.0, 1.0])


def poisson_rate(step_size):
    """The natural parameters and the bounds of five steps on counts whose rate has a gamma prior."""
    prior = d.gamma.to_natural(jax.tree.map(jnp.asarray, PRIOR))

    def expected_log_joint(means, counts):
        mean_log, mean = means["rate"]
        likelihood = jnp.sum(counts) * mean_log - counts.size * mean - jnp.sum(jax.scipy.special.gammaln(counts + 1))
        return likelihood + exponential.inner(prior, means["rate"]) - d.gamma.log_normalizer(prior)

    algorithm = algorithms.coordinate_ascent(expected_log_joint, {"rate": d.gamma}, step_size=step_size)
    run = lambda start: jaxelbo.run_algorithm(start, KEY, algorithm, num_steps=5, data=(jnp.asarray(COUNTS),))
    result = quick_jit(run)({"rate": prior})
    return np.array(result.params["rate"]), np.asarray(result.history.bound)


def test_one_step_of_one_factor_is_the_posterior(float64):
    """Of rate 1.5 + N and concentration 2 + sum of counts; the bound is the negative binomial evidence."""
    natural, bounds = poisson_rate(1.0)
    np.testing.assert_allclose(natural, [2 + COUNTS.sum(), -1.5 - COUNTS.size], rtol=1e-14)
    a, b, total = PRIOR.concentration, PRIOR.rate, COUNTS.sum()
    evidence = special.gammaln(a + total) - special.gammaln(a) - special.gammaln(COUNTS + 1).sum()
    evidence += a * np.log(b) - (a + total) * np.log(b + COUNTS.size)
    np.testing.assert_allclose(bounds, evidence, rtol=1e-13)


def test_shorter_steps_go_part_of_the_way(float64):
    """Whatever is left shrinks by 1 - step_size, also where that depends on the number of steps taken."""
    prior, gap = np.array([2.0, -1.5]), np.array([COUNTS.sum(), -COUNTS.size])
    natural, bounds = poisson_rate(0.25)
    np.testing.assert_allclose(natural, prior + gap * (1 - 0.75**5), rtol=1e-13)
    assert np.all(np.diff(bounds) > 0)
    natural, _ = poisson_rate(lambda count: 1 / (count + 2.0))
    np.testing.assert_allclose(natural, prior + gap * (1 - 1 / 6), rtol=1e-13)  # 1/2 2/3 3/4 4/5 5/6


def irises():
    data = datasets.load_iris().data[:, [2, 0]]
    return (data - data.mean(axis=0)) / data.std(axis=0)


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
        algorithms.coordinate_ascent(lambda means: 0.0, d.gamma)
    with pytest.raises(TypeError, match=r"factors\['rate'\] must be an ExponentialFamily"):
        algorithms.coordinate_ascent(lambda means: 0.0, {"rate": d.Gamma})
    with pytest.raises(ValueError, match=r"step_size must be in \(0, 1\]"):
        algorithms.coordinate_ascent(lambda means: 0.0, {"rate": d.gamma}, step_size=1.5)
    algorithm = algorithms.coordinate_ascent(lambda means: jnp.zeros(2), {"rate": d.gamma})
    natural = d.gamma.to_natural(d.Gamma(jnp.array(1.0), jnp.array(1.0)))
    with pytest.raises(ValueError, match=r"params must hold natural parameters of \['rate'\]"):
        jaxelbo.run_algorithm({"other": natural}, KEY, algorithm, num_steps=1)
    with pytest.raises(ValueError, match="expected_log_joint must"):
        jaxelbo.run_algorithm({"rate": natural}, KEY, algorithm, num_steps=1)
    em = algorithms.expectation_maximisation(*[lambda *arguments: None] * 3)
    with pytest.raises(ValueError, match="params must be"):
        jaxelbo.run_algorithm({"q": 1.0}, KEY, em, num_steps=1)
