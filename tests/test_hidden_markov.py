"""Hidden Markov models: chains against enumeration of paths, bounds against exact evidences, states found again."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from jaxelbo import conjugate, exponential
from jaxelbo import distributions as d
from tests.conjugate_oracles import KEY, assert_rises, dirichlet_evidence, elbo, fitted, normal_evidence
from tests.matrix import quick_jit


def all_paths(num_states, length):
    return np.array(list(itertools.product(range(num_states), repeat=length)))


def counts_of(path, num_states):
    """First state and transitions of one path."""
    first, moves = np.zeros(num_states), np.zeros((num_states, num_states))
    first[path[0]] = 1
    np.add.at(moves, (path[:-1], path[1:]), 1)
    return first, moves


@pytest.mark.parametrize("num_states, length", [(1, 4), (3, 1), (2, 6), (3, 5)])
def test_a_chain_is_forward_backward(float64, num_states, length):
    """Log-normaliser, mean parameters and log-probabilities, against the sum over all paths."""
    rng = np.random.default_rng(0)
    shapes = (num_states,), (num_states, num_states), (length, num_states)
    natural = first, moves, states = tuple(rng.normal(size=shape) for shape in shapes)
    family, paths = conjugate.markov_chain(num_states), all_paths(num_states, length)
    weights = [
        first[path[0]] + moves[path[:-1], path[1:]].sum() + states[np.arange(length), path].sum() for path in paths
    ]
    total = special.logsumexp(weights)
    natural = jax.tree.map(jnp.asarray, natural)
    np.testing.assert_allclose(quick_jit(family.log_normalizer)(natural), total, rtol=1e-12)
    means = quick_jit(lambda natural: exponential.mean_parameters(natural, family))(natural)
    probabilities = np.exp(weights - total)
    counts = [counts_of(path, num_states) for path in paths]
    of_states = probabilities @ np.eye(num_states)[paths].reshape(len(paths), -1)
    expected = *(sum(p * np.array(c[i]) for p, c in zip(probabilities, counts, strict=True)) for i in (0, 1)), of_states
    for mean, own in zip(means, expected, strict=True):
        np.testing.assert_allclose(np.ravel(mean), np.ravel(own), atol=1e-12)
    value = exponential.log_prob(natural, family, jnp.asarray(paths[-1]))
    np.testing.assert_allclose(value, np.log(probabilities[-1]), rtol=1e-10)


FIRST, TRANSITIONS = np.array([1.0, 2.0]), np.array([[2.0, 1.0], [0.5, 1.5]])


def symbol_model(num_states=2):
    observed = conjugate.categorical_observations(d.Dirichlet(jnp.array([0.5, 1.0, 1.5])))
    first, transitions = (jnp.asarray(prior) for prior in (FIRST[:num_states], TRANSITIONS[:num_states, :num_states]))
    return conjugate.hidden_markov_model(d.Dirichlet(first), d.Dirichlet(transitions), observed)


def test_the_bound_is_below_the_evidence(float64):
    """Two sequences of five symbols: all 2^10 pairs of paths, parameters integrated out of each."""
    x = np.array([[0, 0, 2, 2, 2], [0, 0, 0, 1, 2]])
    terms = []
    for pair in itertools.product(all_paths(2, 5), repeat=2):
        first, moves = (sum(parts) for parts in zip(*(counts_of(path, 2) for path in pair), strict=True))
        emitted = np.zeros((2, 3))
        np.add.at(emitted, (np.ravel(pair), np.ravel(x)), 1)
        of_path = dirichlet_evidence(first, FIRST) + dirichlet_evidence(moves, TRANSITIONS)
        terms.append(of_path + dirichlet_evidence(emitted, np.array([0.5, 1.0, 1.5])))
    evidence = special.logsumexp(terms)
    result = fitted(symbol_model(), jnp.asarray(x), num_steps=100)
    assert_rises(result.history.bound)
    assert 0 < evidence - result.history.bound[-1] < 2
    half = fitted(symbol_model(), jnp.asarray(x), num_steps=300, step_size=0.5)
    assert_rises(half.history.bound)
    np.testing.assert_allclose(half.history.bound[-1], result.history.bound[-1], rtol=1e-7)
    # Without the paths it is the same bound.
    maximised = conjugate.for_minibatches(symbol_model(), num_rows=2)
    rest = {name: result.params[name] for name in maximised.factors}
    np.testing.assert_allclose(elbo(rest, maximised, jnp.asarray(x)), result.history.bound[-1], rtol=1e-9)


def test_with_one_state_the_bound_is_the_evidence(float64):
    """Of symbols, and of normal rows."""
    x = np.array([[0, 0, 2, 2, 2], [0, 0, 0, 1, 2]])
    bound = fitted(symbol_model(1), jnp.asarray(x), num_steps=1).history.bound[-1]
    exact = dirichlet_evidence(np.bincount(np.ravel(x)), np.array([0.5, 1.0, 1.5]))
    np.testing.assert_allclose(bound, exact, rtol=1e-12)
    rows = np.random.default_rng(0).normal(size=(3, 7, 2))
    prior = d.NormalInverseWishart(jnp.zeros(2), jnp.array(0.5), jnp.array(3.0), jnp.eye(2))
    one = d.Dirichlet(jnp.ones(1)), d.Dirichlet(jnp.ones((1, 1)))
    model = conjugate.hidden_markov_model(*one, conjugate.gaussian_observations(prior))
    bound = fitted(model, jnp.asarray(rows), num_steps=1).history.bound[-1]
    np.testing.assert_allclose(bound, normal_evidence(rows.reshape(21, 2), prior), rtol=1e-12)


def simulated(num_rows, length):
    """Sticky chains of three states whose rows are normal around three places."""
    rng = np.random.default_rng(0)
    moves = np.array([[0.9, 0.1, 0.0], [0.0, 0.8, 0.2], [0.3, 0.0, 0.7]])
    places = np.array([[-2.0, 0.0], [2.0, -1.0], [0.0, 2.0]])
    states = np.zeros((num_rows, length), int)
    for n, t in itertools.product(range(num_rows), range(1, length)):
        states[n, t] = rng.choice(3, p=moves[states[n, t - 1]])
    return places[states] + 0.7 * rng.normal(size=(num_rows, length, 2)), moves, places


def gaussian_model():
    prior = d.NormalInverseWishart(jnp.zeros(2), jnp.array(0.1), jnp.array(3.0), jnp.eye(2))
    observed = conjugate.gaussian_observations(prior)
    return conjugate.hidden_markov_model(d.Dirichlet(jnp.ones(3)), d.Dirichlet(jnp.full((3, 3), 0.5)), observed)


def found(naturals, places):
    """Transitions and places in the order of the true states."""
    usual = jax.vmap(d.normal_inverse_wishart.to_usual)(naturals["observations"])
    gaps = np.linalg.norm(np.asarray(usual.loc)[None] - places[:, None], axis=2)
    order = np.argmin(gaps, axis=1)
    assert sorted(order) == [0, 1, 2]
    counts = np.asarray(naturals["transitions"])[order][:, order]
    return counts / counts.sum(axis=1, keepdims=True), np.asarray(usual.loc)[order]


@pytest.mark.slow
def test_transitions_are_found_again(float64):
    """1,500 steps: a standard error of a transition probability is below 0.025. Minibatches come near."""
    x, moves, places = simulated(30, 50)
    x, model = jnp.asarray(x), gaussian_model()
    result = fitted(model, x, num_steps=100)
    assert_rises(result.history.bound)
    transitions, locs = found(result.params, places)
    np.testing.assert_allclose(transitions, moves, atol=0.08)
    np.testing.assert_allclose(locs, places, atol=0.15)
    scaled = conjugate.for_minibatches(model, num_rows=30)
    slow = lambda count: (count + 2.0) ** -0.8
    after = fitted(scaled, x, num_steps=200, batch_size=5, step_size=slow)
    full = {name: result.params[name] for name in scaled.factors}
    gap = elbo(after.params, scaled, x) - elbo(full, scaled, x)
    assert -5 < gap < 1e-6  # of a bound of some -4,000
    np.testing.assert_allclose(found(after.params, places)[0], moves, atol=0.1)


def test_bad_input():
    model, gaussian, key = symbol_model(), gaussian_model(), KEY
    with pytest.raises(ValueError, match="x must lie between 0 and 2, got 0 to 3"):
        model.start(key, jnp.array([[0, 3]]))
    with pytest.raises(ValueError, match=r"x must have shape \[N, T\] and not be empty"):
        model.start(key, jnp.zeros((2, 0), jnp.int32))
    with pytest.raises(ValueError, match=r"x must have shape \[N, T\] and not be empty"):
        model.start(key, jnp.array([0, 1]))
    with pytest.raises(TypeError, match=r"x \[N, T\] must be integers"):
        model.start(key, jnp.array([[0.0, 1.0]]))
    with pytest.raises(ValueError, match=r"x must have shape \[N, T, D\]"):
        gaussian.start(key, jnp.zeros((5, 2)))
    with pytest.raises(ValueError, match="x must be finite"):
        gaussian.start(key, jnp.full((5, 2, 2), jnp.inf))
    observed = conjugate.categorical_observations(d.Dirichlet(jnp.ones(3)))
    first, transitions = d.Dirichlet(jnp.ones(2)), d.Dirichlet(jnp.ones((2, 2)))
    with pytest.raises(ValueError, match=r"transitions\.concentration must have shape \(2, 2\)"):
        conjugate.hidden_markov_model(first, d.Dirichlet(jnp.ones((3, 3))), observed)
    with pytest.raises(TypeError, match="observed must be an ObservationModel"):
        conjugate.hidden_markov_model(first, transitions, d.Dirichlet(jnp.ones(3)))
    with pytest.raises(ValueError, match=r"first\.concentration must not be empty"):
        conjugate.hidden_markov_model(d.Dirichlet(jnp.ones(0)), transitions, observed)
    with pytest.raises(ValueError, match="prior must be a proper Dirichlet"):
        conjugate.categorical_observations(d.Dirichlet(jnp.array([1.0, 0.0])))
    with pytest.raises(ValueError, match="num_states must be at least 1"):
        conjugate.markov_chain(0)
