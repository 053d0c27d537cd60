import functools
import itertools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxelbo
from jaxelbo import distributions as d
from jaxelbo import divergences, exponential
from jaxelbo.distributions import closed_forms
from tests import distribution_oracles as oracles
from tests.matrix import quick_jit

SCALARS = oracles.COUNTS | oracles.LINES | oracles.POSITIVE | {d.Beta, d.VonMises}
GAUSSIANS = {d.Diagonal, d.Dense, d.LowRank}
NUM_DRAWS = 1_000_000
INFINITE = set(itertools.product((d.Exponential, d.HalfNormal), (d.InverseGamma, d.InverseGaussian)))
"""E[1 / x] is infinite where the density of q does not vanish at 0."""


def expected_kl(q, p):
    """KL(q || p) and the error of that."""
    if type(q) in SCALARS:
        return oracles.kl_of_scalars(q, p), 0
    if type(q) in GAUSSIANS:
        cov_q, cov_p = oracles.covariance(q), oracles.covariance(p)
        gap, inverse = np.asarray(q.loc) - np.asarray(p.loc), np.linalg.inv(cov_p)
        log_dets = np.linalg.slogdet(cov_p)[1] - np.linalg.slogdet(cov_q)[1]
        return 0.5 * (np.trace(inverse @ cov_q) + gap @ inverse @ gap - len(gap) + log_dets), 0
    if type(q) is d.Bernoulli:
        ours = [oracles.record(d.Binomial, 0)._replace(total_count=1.0), oracles.record(d.Binomial, 1)]
        return sum(
            oracles.kl_of_scalars(ours[0]._replace(logits=a), ours[1]._replace(total_count=1.0, logits=b))
            for a, b in zip(q.logits, p.logits, strict=True)
        ), 0
    if type(q) in (d.Categorical, d.Multinomial):
        total = float(q.total_count) if type(q) is d.Multinomial else 1
        probs_q, probs_p = (np.exp(x.logits) / np.exp(x.logits).sum() for x in (q, p))
        return total * np.sum(probs_q * np.log(probs_q / probs_p)), 0
    draws, log_q = oracles.draw_and_log_prob(q, NUM_DRAWS, 0)
    _, log_p = oracles.draw_and_log_prob(p, 2, 0)
    terms = log_q(draws) - log_p(draws)
    return terms.mean(), terms.std() / np.sqrt(len(terms))


@pytest.mark.parametrize("pair", [oracles.marked(pair) for pair in oracles.PAIRS])
def test_kl_of_every_pair(pair, float64):
    """Against quadrature, enumeration or a million draws within 4 standard errors, all by SciPy's densities."""
    q, p = oracles.record(pair[0], 0), oracles.record(pair[1], 1)
    value, error = expected_kl(q, p)
    both = quick_jit(jax.value_and_grad(divergences.between, argnums=(0, 1)))  # one program, for all that is asked
    kl = lambda q, p: both(q, p)[0]
    found, slopes = both(q, p)
    assert found.dtype == jnp.float64
    if pair in INFINITE:
        assert found == np.inf and value > 30
        return
    np.testing.assert_allclose(found, value, rtol=1e-7, atol=1e-9 + 4 * error)
    if pair[0] is pair[1]:
        assert abs(kl(q, q)) < 1e-12
    # Gradients in all parameters of both, against differences along one direction a leaf.
    for side, field in itertools.product((0, 1), q._fields + p._fields):
        if field == "total_count" or field not in (q, p)[side]._fields:
            continue
        leaf = getattr((q, p)[side], field)
        # A direction that stays in the domain: along the leaf itself, or its last entry.
        along = leaf if leaf.ndim == 2 or pair[0] is d.VonMisesFisher else np.eye(leaf.size)[-1].reshape(leaf.shape)
        ends = []
        for sign in (1, -1):
            moved = [q, p]
            moved[side] = moved[side]._replace(**{field: leaf + sign * 1e-5 * along})
            ends.append(kl(*moved))
        slope = np.sum(getattr(slopes[side], field) * along)
        np.testing.assert_allclose(slope, (ends[0] - ends[1]) / 2e-5, rtol=1e-5, atol=1e-8)


def test_all_types_are_in_ci():
    """On either side of a pair of different types, where they have one."""
    crosses = [pair for pair in oracles.PAIRS if pair[0] is not pair[1]]
    kept = [pair for pair in crosses if not oracles.is_rest(pair)]
    assert all({pair[side] for pair in crosses} == {pair[side] for pair in kept} for side in (0, 1))


EXPONENTIAL = sorted(d.EXPONENTIAL_FAMILIES, key=lambda kind: kind.__name__)


def members(kind):
    q, p = (oracles.record(kind, setting) for setting in (0, 1))
    known = {d.Laplace: "loc", d.Pareto: "minimum", d.Weibull: "shape"}
    if kind in known:
        p = p._replace(**{known[kind]: getattr(q, known[kind])})
    return q, p


@pytest.mark.slow
@pytest.mark.parametrize("kind", EXPONENTIAL, ids=lambda kind: kind.__name__)
def test_exponential_family(kind, float64):
    """Density, mean parameters, entropy, KL, and the ways between parameters."""
    q, p = jax.tree.map(jnp.asarray, members(kind))
    make = d.EXPONENTIAL_FAMILIES[kind]
    static = {d.Multinomial: lambda: d.multinomial(4, 3), d.Binomial: lambda: d.binomial(7)}
    family = static[kind]() if kind in static else make(q)
    natural, other = family.to_natural(q), family.to_natural(p)
    for ours, back in zip(q, family.to_usual(natural), strict=True):
        if kind in (d.Categorical, d.Multinomial) and ours.ndim:
            ours, back = ours - ours[-1], back - back[-1]
        if kind is d.Dense and ours.ndim == 2:
            ours, back = np.tril(ours, -1), np.tril(back, -1)
        np.testing.assert_allclose(ours, back, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(
        exponential.kl_divergence(natural, other, family), divergences.between(q, p), rtol=1e-8, atol=1e-11
    )
    mean = quick_jit(lambda natural: exponential.mean_parameters(natural, family))(natural)
    if kind in SCALARS:
        points = oracles.grid(q)[0]
        some = (
            points[(points > -3) & (points < 3)][:: max(1, len(points) // 500)]
            if kind not in oracles.COUNTS
            else points[:8]
        )
        log_prob = quick_jit(jax.vmap(lambda x: exponential.log_prob(natural, family, x)))(some)
        scipy = oracles.univariate(q)
        np.testing.assert_allclose(
            log_prob, (scipy.logpmf if kind in oracles.COUNTS else scipy.logpdf)(some), rtol=1e-8, atol=1e-8
        )
        statistics = quick_jit(jax.vmap(family.statistics))

        def statistic(index, x):
            leaves = jax.tree.leaves(statistics(x))
            return np.asarray(leaves[0][:, index] if kind is d.VonMises else leaves[index])

        for index, leaf in enumerate(jax.tree.leaves(mean) if kind is not d.VonMises else mean):
            np.testing.assert_allclose(leaf, oracles.mean(q, functools.partial(statistic, index)), rtol=1e-6)
    elif kind not in (d.Bernoulli, d.Categorical, d.Multinomial):
        draws, log_q = oracles.draw_and_log_prob(q, 50_000, 1)
        ours = quick_jit(jax.vmap(lambda x: exponential.log_prob(natural, family, x)))(draws)
        np.testing.assert_allclose(ours, log_q(draws), rtol=1e-7, atol=1e-7)
        for leaf, terms in zip(jax.tree.leaves(mean), jax.tree.leaves(jax.vmap(family.statistics)(draws)), strict=True):
            error = np.std(terms, axis=0) / np.sqrt(len(terms))
            assert np.all(np.abs(leaf - np.mean(terms, axis=0)) < 5 * error)
    found = quick_jit(lambda mean: exponential.natural_parameters(mean, family))(mean)
    for ours, back in zip(jax.tree.leaves(natural), jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(ours, back, rtol=1e-7, atol=1e-9)
    if family.expected_log_base is None:
        with pytest.raises(ValueError, match=family.name):
            exponential.entropy(natural, family)
    elif kind in SCALARS:
        np.testing.assert_allclose(exponential.entropy(natural, family), oracles.univariate(q).entropy(), rtol=1e-8)
    # The natural gradient is the gradient in mean parameters.
    gradient = jax.grad(lambda natural: exponential.kl_divergence(natural, other, family))(natural)
    ours = exponential.natural_gradient(natural, gradient, family)
    for leaf, expected in zip(
        jax.tree.leaves(ours), jax.tree.leaves(jax.tree.map(jnp.subtract, natural, other)), strict=True
    ):
        np.testing.assert_allclose(leaf, expected, rtol=1e-6, atol=1e-8)


def test_the_stored_table_is_the_codes():
    path = pathlib.Path(jaxelbo.__file__).parents[1] / "DISTRIBUTIONS.md"
    assert path.read_text() == closed_forms.markdown()
    assert len(d.CLOSED_FORMS) > 47 + 52  # TFP's and distrax's registries, pairs that both have counted twice


_1 = np.array(1.0)


@pytest.mark.parametrize(
    ("q", "kind_p", "error", "message"),
    [
        (3.0, d.Poisson, TypeError, "q must be a record of jaxelbo.distributions"),
        (d.Poisson(3), d.Poisson, TypeError, "q.rate"),
        (d.Poisson(np.ones(3)), d.Poisson, ValueError, "vmap over other axes"),
        (d.Poisson(-_1), d.Poisson, ValueError, "q.rate must be positive and finite"),
        (d.Gamma(_1, np.nan * _1), d.Gamma, ValueError, "q.rate must be positive and finite"),
        (d.Gamma(_1, _1), d.Normal, ValueError, r"KL\(Gamma \|\| Normal\) has no closed form"),
        (d.Uniform(_1, -_1), d.Uniform, ValueError, "q.low must be below q.high"),
        (d.Wishart(0.5 * _1, np.eye(2)), d.Wishart, ValueError, "q.df must be above D - 1 = 1"),
        (d.Wishart(_1, -np.eye(2)), d.Wishart, ValueError, "q.scale_tril must be lower"),
        (d.Wishart(_1, np.ones((2, 3))), d.Wishart, ValueError, "q.scale_tril must have D = 2"),
        (d.VonMisesFisher(np.ones(3), _1), d.VonMisesFisher, ValueError, "a unit vector"),
        (d.Dirichlet(np.ones(4)), d.Dirichlet, ValueError, "of one support"),
        (d.Dirichlet(np.zeros(0)), d.Dirichlet, ValueError, "q.concentration must not be empty"),
        (d.Diagonal(np.ones(3), np.ones(3)), d.Dense, ValueError, "of one support"),
    ],
)
def test_bad_input(q, kind_p, error, message, float64):
    with pytest.raises(error, match=message):
        divergences.between(q, oracles.record(kind_p, 0))


def test_other_counts_have_no_closed_form(float64):
    assert np.isnan(
        divergences.between(
            oracles.record(d.Binomial, 0), oracles.record(d.Binomial, 1)._replace(total_count=np.array(8.0))
        )
    )


def test_reaching_beyond_is_infinite(float64):
    wide, narrow = d.Uniform(np.array(0.0), np.array(2.0)), d.Uniform(np.array(0.0), np.array(1.0))
    assert divergences.between(wide, narrow) == np.inf
    low, high = d.Pareto(np.array(1.0), np.array(2.0)), d.Pareto(np.array(1.5), np.array(2.0))
    assert divergences.between(low, high) == np.inf
    some, other = d.Categorical(np.array([0.0, 0.0])), d.Categorical(np.array([0.0, -np.inf]))
    assert divergences.between(some, other) == np.inf
    np.testing.assert_allclose(divergences.between(other, some), np.log(2))
    assert divergences.between(d.StudentT(*map(np.array, (2.0, 0.0, 1.0))), oracles.record(d.Normal, 0)) == np.inf


def test_conjugate_update(float64):
    """The posterior of a Poisson rate: counts to the shape, their number to the rate."""
    prior = d.gamma.to_natural(d.Gamma(jnp.array(2.0), jnp.array(0.5)))
    posterior = d.gamma.to_usual(exponential.conjugate_update(prior, (jnp.array(7.0), jnp.array(-3.0))))
    np.testing.assert_allclose(posterior, (9.0, 3.5))


def test_improper_natural_parameters(float64):
    proper, improper = (jnp.array(2.0), jnp.array(-1.0)), (jnp.array(2.0), jnp.array(1.0))
    with pytest.raises(ValueError, match="natural_p must be natural parameters of a proper gamma distribution"):
        exponential.kl_divergence(proper, improper, d.gamma)
    with pytest.raises(ValueError, match="natural must be natural parameters of a proper gamma"):
        exponential.entropy(improper, d.gamma)
    with pytest.raises(TypeError, match="natural"):
        exponential.mean_parameters((2, -1), d.gamma)
