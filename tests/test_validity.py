"""The validity table: that it is true, that errors and documentation come from it, and that nothing is left out."""

import functools
import inspect
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxelbo
from jaxelbo import bounds, estimators, families, validity
from tests import matrix

KEY = jax.random.key(0)


def family_of(kind):
    """A family of that kind and its params, in float32."""
    slab = families.mean_field(0.0)
    make = {
        "Gaussian, mean field": lambda: slab,
        "Gaussian, full rank": lambda: families.full_rank(0.0),
        "Gaussian, detached": lambda: families.detached(slab),
        "flow": lambda: families.planar_flow(0.0, num_layers=2),
        "Bernoulli": lambda: families.bernoulli(jnp.zeros(3)),
        "categorical, one index": lambda: families.categorical(4),
        "categorical, one-hot": lambda: families.one_hot_categorical(4),
        "independent, of one-hot": lambda: families.independent(families.one_hot_categorical(3), 2),
        "joint, continuous and Bernoulli": lambda: families.joint({"x": slab, "on": families.bernoulli(jnp.zeros(2))}),
        "conditional, mixture": lambda: matrix.mixture_problem().family,
        "sequential, of Bernoulli": matrix.chain_of_bits,
    }
    family = make[kind]()
    return family, family.init(KEY)


def total(latent):
    return sum(jnp.sum(leaf) * 1.0 for leaf in jax.tree.leaves(latent))


def estimator_named(name):
    made = {
        "with_baseline": lambda: estimators.with_baseline(0.5),
        "learned_baseline": lambda: estimators.learned_baseline(lambda b: b, jnp.asarray(0.5)),
        "moving_average": lambda: lambda *a: estimators.moving_average(*a, estimators.running_moments())[0],
        "nvil": lambda: lambda *a: estimators.nvil(lambda b: b, jnp.asarray(0.5))(*a, estimators.running_moments())[0],
        "reward_to_go": lambda: estimators.reward_to_go(lambda z: jnp.zeros(NUM_SCORES[-1])),
        "rao_blackwellised": lambda: estimators.rao_blackwellised(lambda z: jnp.zeros(NUM_SCORES[-1])),
        "gumbel_softmax": lambda: estimators.gumbel_softmax(0.5),
        "straight_through": lambda: estimators.straight_through(0.5),
        "rebar": lambda: estimators.rebar(),
        "relax": lambda: estimators.relax(lambda w, z: w * total(z), jnp.asarray(0.5)),
    }
    return made[name]() if name in made else getattr(estimators, name)


NUM_SCORES = [0]


@pytest.mark.parametrize("kind", validity.KINDS)
def test_kinds_have_their_traits(kind):
    family, params = family_of(kind)
    assert validity.traits_of(params, KEY, family) == validity.KINDS[kind]


def test_every_estimator_is_in_the_table():
    """All that is public, but for state and for makers of what is there."""
    names = set(estimators.__all__) - {"RunningMoments", "running_moments", "enumeration_up_to"}
    assert names == set(validity.RULES)


def test_every_bound_is_in_the_table():
    public = {
        name
        for name, function in inspect.getmembers(bounds, inspect.isfunction)
        if not name.startswith("_") and function.__module__ == "jaxelbo.bounds"
    }
    assert public == set(validity.BOUNDS)


def kinds_and_bounds():
    for kind in validity.KINDS:
        for bound_name in ("mean", "importance_weighted", "own"):
            twice = bound_name == "own" and not kind.startswith(("Bernoulli", "Gaussian, mean"))
            yield pytest.param(kind, bound_name, marks=[pytest.mark.matrix] * twice)


@pytest.mark.parametrize(("kind", "bound_name"), list(kinds_and_bounds()))
def test_code_agrees_with_the_table(kind, bound_name):
    """Every estimator with every bound: runs where the table says valid, and is refused with a choice that runs."""
    family, params = family_of(kind)
    traits = validity.KINDS[kind]
    NUM_SCORES.append(traits.num_scores)
    bound = matrix.BOUNDS[bound_name]
    for name in validity.RULES:

        def shape(name=name):
            estimator = estimator_named(name)
            return jax.eval_shape(jax.grad(lambda p: estimator(p, KEY, total, family, bound, 2)), params)

        reason = validity.refusal(name, traits, bound, 2)
        if not reason:
            assert jax.tree.structure(shape()) == jax.tree.structure(params), name
            continue
        with pytest.raises(ValueError, match=f"estimators.{name} ") as error:
            shape()
        choices = str(error.value).split("Estimators that hold: ")[1].rstrip(".").split(", ")
        assert choices and all(not validity.refusal(c, traits, bound, 2) for c in choices), name


def test_documentation_is_the_tables():
    """VALIDITY.md holds the table as `validity.markdown` writes it."""
    text = (pathlib.Path(jaxelbo.__file__).parents[1] / "VALIDITY.md").read_text()
    assert validity.markdown() in text


@pytest.mark.parametrize(
    ("kind", "name", "bound", "num_samples", "message"),
    [
        (
            "Bernoulli",
            "pathwise",
            "mean",
            2,
            "needs a family all of whose draws carry gradients; the family is bernoulli",
        ),
        ("Bernoulli", "leave_one_out", "mean", 1, "num_samples of at least 2 .* got 1.*score_function.*enumeration"),
        ("Bernoulli", "leave_one_out", "importance_weighted", 1, "num_samples of at least 2 .* Estimators that hold"),
        ("Bernoulli", "arm", "importance_weighted", 2, "holds for bounds.mean alone, got bounds.importance_weighted"),
        ("categorical, one index", "gumbel_softmax", "mean", 2, "a family that can be relaxed"),
        ("categorical, one index", "arm", "mean", 2, "needs the bernoulli family"),
        ("Gaussian, mean field", "sticking_the_landing", "renyi", 2, "alone, got bounds.renyi.*doubly_reparam"),
        ("Gaussian, mean field", "enumeration", "mean", 2, "discrete parts can be listed"),
        ("Gaussian, mean field", "reward_to_go", "mean", 2, "parts whose draws carry no gradient"),
        ("sequential, of Bernoulli", "rao_blackwellised", "mean", 2, "parts are independent.*reward_to_go"),
        ("sequential, of Bernoulli", "closed_form_entropy", "mean", 2, "an entropy in closed form"),
        ("Bernoulli", "reweighted_wake_phase", "mean", 2, "holds for bounds.importance_weighted alone"),
    ],
)
def test_refusals_name_what_holds(kind, name, bound, num_samples, message):
    family, params = family_of(kind)
    NUM_SCORES.append(validity.KINDS[kind].num_scores)
    estimator = estimator_named(name)
    with pytest.raises(ValueError, match=message):
        jaxelbo.lower_bound(
            params, KEY, total, family, bound=matrix.BOUNDS[bound], num_samples=num_samples, estimator=estimator
        )


BITS = families.bernoulli(jnp.zeros(3))
HOT = families.one_hot_categorical(4)
TABLE = jnp.arange(4.0)


@pytest.mark.parametrize(
    "estimator", [estimators.gumbel_softmax(0.5), estimators.straight_through(0.5), estimators.rebar()]
)
@pytest.mark.parametrize(
    "log_joint",
    [
        lambda z: TABLE[jnp.argmax(z)],
        lambda z: TABLE[jnp.argmax(z)] + jnp.sum(z),
        lambda z: TABLE[jnp.sum(z).astype(int)],
        lambda z: jnp.sum((z > 0.5).astype(jnp.int32)) * 1.0,
        lambda z: jax.lax.fori_loop(0, 3, lambda i, x: x + TABLE[z[i].astype(int)], 0.0),
        lambda z: jax.lax.while_loop(
            lambda state: state[1].astype(int) < 3, lambda s: (s[0] + s[1], s[1] + z[0] + 1), (0.0, 0.0)
        )[0],
        lambda z: jax.lax.scan(lambda c, x: (c + x, TABLE[c.astype(int)]), 0.0, z)[1].sum(),
        lambda z: jax.jit(lambda z: TABLE[jnp.round(z[0]).astype(int)])(z),
        lambda z: jax.lax.cond(True, lambda z: TABLE[z[0].astype(int)], lambda z: z[0], z),
    ],
)
def test_relaxed_latents_used_as_integers(estimator, log_joint):
    with pytest.raises(TypeError, match=r"turns the relaxed latent into integers .*leave_one_out"):
        jaxelbo.elbo(HOT.init(KEY), KEY, log_joint, HOT, num_samples=2, estimator=estimator)


@pytest.mark.parametrize(
    "log_joint",
    [
        lambda z: z @ TABLE,
        lambda z: jnp.sum(jnp.sort(z)) + jnp.max(z) + jnp.sum(jnp.where(z > 0.5, z, 0.0)),
        lambda z: jax.lax.scan(lambda c, x: (c + x, None), 0.0, z)[0] + TABLE[jnp.arange(4)] @ z,
        lambda z: jax.lax.fori_loop(0, 4, lambda i, x: x + z[i] * TABLE[i], 0.0),
        lambda z: jax.lax.scan(lambda c, i: (c + z[i] * TABLE[i], None), 0.0, jnp.arange(4))[0],
        lambda z: jax.lax.while_loop(lambda state: state[0] < 4, lambda s: (s[0] + 1, s[1] + z[s[0]]), (0, 0.0))[1],
        lambda z: jnp.sum(jnp.linalg.solve(jnp.diag(z + 1), TABLE)) + jnp.linalg.cholesky(jnp.diag(z + 1))[0, 0],
    ],
)
def test_relaxed_latents_used_as_numbers(log_joint):
    """No false alarm."""
    jaxelbo.elbo(HOT.init(KEY), KEY, log_joint, HOT, num_samples=2, estimator=estimators.gumbel_softmax(0.5))


@pytest.mark.parametrize(
    ("estimator", "family", "error", "message"),
    [
        (estimators.with_baseline(jnp.zeros(3)), BITS, ValueError, r"a baseline must be a scalar or have shape \(2,\)"),
        (
            estimators.learned_baseline(lambda b: b * jnp.ones(5), jnp.zeros(())), BITS, ValueError,
            r"baseline_fn must return a scalar or shape \(2,\)",
        ),
        (
            estimators.reward_to_go(lambda z: z[:2]), BITS, ValueError,
            r"step_log_joint must return .* shape \(3,\), one for each part",
        ),
        (estimators.rao_blackwellised(lambda z: jnp.sum(z)), BITS, ValueError, r"local_log_joint must return .*\(3,\)"),
        (
            estimators.enumeration, families.bernoulli(jnp.zeros(20)), ValueError,
            "1,048,576 configurations, more than the limit of 65,536; .*enumeration_up_to",
        ),
        (estimators.without_replacement, families.categorical(1), ValueError, "num_samples must be at most 1"),
        (estimators.relax(lambda w, z: z, jnp.zeros(())), BITS, ValueError, "control_variate must return a scalar"),
    ],
)  # fmt: skip
def test_bad_arguments(estimator, family, error, message):
    with pytest.raises(error, match=message):
        jaxelbo.elbo(family.init(KEY), KEY, total, family, num_samples=2, estimator=estimator)


def test_learned_baseline_may_not_share_leaves_with_the_policy():
    params = BITS.init(KEY)

    def loss(params):
        estimator = estimators.learned_baseline(lambda b: jnp.sum(b["logits"]), params)
        return jaxelbo.elbo(params, KEY, total, BITS, num_samples=2, estimator=estimator)

    with pytest.raises(ValueError, match="must not share leaves with params"):
        jax.jit(jax.grad(loss))(params)


@pytest.mark.parametrize("temperature", [0.0, -1.0, jnp.ones(2)])
def test_bad_temperatures(temperature):
    for make in (estimators.gumbel_softmax, estimators.straight_through, estimators.rebar):
        with pytest.raises(ValueError, match="temperature must be"):
            make(temperature)


@pytest.mark.parametrize(
    "estimator",
    [
        estimators.rebar, estimators.gumbel_softmax, estimators.with_baseline, estimators.relax,
        estimators.enumeration_up_to, estimators.moving_average, estimators.nvil(lambda b: b, 0.0),
    ],
)  # fmt: skip
def test_makers_and_stateful_ones_are_no_estimators(estimator):
    with pytest.raises(TypeError, match=r"estimator must take \(params, key, log_joint, family, bound, num_samples\)"):
        jaxelbo.elbo(BITS.init(KEY), KEY, total, BITS, num_samples=2, estimator=estimator)


@pytest.mark.parametrize("value", ["x", None])
def test_bad_numbers(value):
    with pytest.raises(TypeError, match="a baseline must be an array or a number"):
        jaxelbo.elbo(BITS.init(KEY), KEY, total, BITS, num_samples=2, estimator=estimators.with_baseline(value))
    with pytest.raises(TypeError, match="temperature must be a real number"):
        estimators.rebar(value)


def test_states_are_checked():
    with pytest.raises(TypeError, match=r"state must be a RunningMoments.*running_moments"):
        estimators.moving_average(BITS.init(KEY), KEY, total, BITS, bounds.mean, 2, jnp.zeros(()))


def test_every_unbiased_triple_is_tested():
    """Of the table, in test_unbiasedness or, where the estimator draws noise of its own, in test_own_noise."""
    from tests import test_own_noise, test_unbiasedness

    tested = {case.values[:3] for case in test_unbiasedness.triples()}
    tested |= {(*case.values, "mean") for case in test_own_noise.noisy_cases()}
    declared = {
        (kind, name, bound_name)
        for kind, traits in validity.KINDS.items()
        for name, rule in validity.RULES.items()
        for bound_name, bound in (validity.BOUNDS | {"own": matrix.BOUNDS["own"]}).items()
        if not rule.bias and not validity.refusal(name, traits, bound, 2)
    }
    assert not declared - tested
    assert len(declared) > 400


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        pytest.param("pathwise", "Gaussian, mean field", marks=pytest.mark.matrix),
        ("leave_one_out", "Gaussian, mean field"),
        pytest.param("closed_form_entropy", "Gaussian, mean field", marks=pytest.mark.matrix),
        ("sticking_the_landing", "Gaussian, mean field"),
        ("doubly_reparameterised", "Gaussian, mean field"),
        ("leave_one_out", "Bernoulli"),
        pytest.param("score_function", "Bernoulli", marks=pytest.mark.matrix),
        pytest.param("with_baseline", "Bernoulli", marks=pytest.mark.matrix),
        ("learned_baseline", "Bernoulli"),
        ("moving_average", "Bernoulli"),
        pytest.param("closed_form_entropy", "Bernoulli", marks=pytest.mark.matrix),
        ("rao_blackwellised", "Bernoulli"),
        ("reward_to_go", "sequential, of Bernoulli"),
        ("enumeration", "Bernoulli"),
    ],
)
def test_second_derivatives(name, kind, monkeypatch):
    """Right in the mean where the table says right, and measurably wrong where it says wrong."""
    with jax.enable_x64(True):
        problem, theta = matrix.make_problem(kind), 0.6
        own = {
            "reward_to_go": lambda: estimators.reward_to_go(functools.partial(matrix.sequence_terms, theta)),
            "rao_blackwellised": lambda: estimators.rao_blackwellised(functools.partial(matrix.local_terms, theta)),
            "learned_baseline": lambda: estimators.learned_baseline(lambda b: b, np.asarray(0.5)),
        }
        estimator = own[name]() if name in own else estimator_named(name)
        exact = matrix.quick_jit(jax.hessian(lambda p: problem.exact(p, theta, bounds.mean, 1)))(problem.params)
        if name == "enumeration":
            value = lambda p: estimator(
                p, KEY, functools.partial(problem.log_joint, theta), problem.family, bounds.mean, 1
            )
        else:
            estimate = lambda p, atoms, log_joint, family: estimator(p, atoms, log_joint, family, bounds.mean, 2)
            mean = problem.expectation(monkeypatch, estimate, 2)
            value = lambda p: mean(p, theta)
        ours = matrix.quick_jit(jax.hessian(value))(problem.params)
        error = max(
            float(jnp.max(jnp.abs(a - b))) for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(exact), strict=True)
        )
        if validity.RULES[name].second_derivative(validity.KINDS[kind]):
            assert error < 1e-6
        else:
            assert error > 0.01


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "without_replacement", "gumbel_softmax", "straight_through", "rebar", "relax", "arm", "disarm",
        "measure_valued", "nvil", "wake_phase", "reweighted_wake_phase",
    ],
)  # fmt: skip
def test_second_derivatives_are_wrong_with_own_noise(name):
    """By Monte Carlo: some entry of the mean Hessian is far from the exact one, as the table says."""
    with jax.enable_x64(True):
        problem, theta = matrix.make_problem("Bernoulli"), 0.6
        bound_name = "importance_weighted" if name == "reweighted_wake_phase" else "mean"
        bound, estimator = matrix.BOUNDS[bound_name], estimator_named(name)
        exact = matrix.quick_jit(jax.hessian(lambda p: problem.exact(p, theta, bound, 2)))(problem.params)

        def value(params, key):
            log_joint = functools.partial(problem.log_joint, theta)
            return estimator(params, key, log_joint, problem.family, bound, 2)

        keys = jax.random.split(KEY, 4_000)
        samples = matrix.quick_jit(jax.vmap(jax.hessian(value), (None, 0)))(problem.params, keys)
        samples, exact = samples["logits"]["logits"], exact["logits"]["logits"]
        errors = jnp.abs(jnp.mean(samples, axis=0) - exact)
        standard_errors = jnp.std(samples, axis=0) / jnp.sqrt(len(keys))
        assert not validity.RULES[name].second_derivative(validity.KINDS["Bernoulli"])
        assert jnp.any(errors > jnp.maximum(6 * standard_errors, 0.01))


@pytest.mark.parametrize(
    ("family", "num_samples", "left_out"),
    [(families.bernoulli(jnp.zeros(100)), 1, "enumeration"), (families.categorical(3), 20, "without_replacement")],
)
def test_choices_that_are_too_large_are_not_named(family, num_samples, left_out):
    with pytest.raises(ValueError, match="Estimators that hold") as error:
        jaxelbo.elbo(family.init(KEY), KEY, total, family, num_samples=num_samples, estimator=estimators.pathwise)
    assert left_out not in str(error.value)


def test_sizes_beyond_printing():
    family = families.bernoulli(jnp.zeros(20_000))
    with pytest.raises(ValueError, match=r"has about 10\^6020 configurations, more than the limit"):
        jaxelbo.elbo(family.init(KEY), KEY, total, family, num_samples=1, estimator=estimators.enumeration)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a, s: estimators.moving_average({"x": 0.0}, *a[1:], s), "params must have the structure"),
        (
            lambda a, s: estimators.moving_average(*a[:3], families.bernoulli, *a[4:], s),
            "family must be a jaxelbo.Family",
        ),
        (lambda a, s: estimators.moving_average(*a, s, decay=2.0), "decay must be between 0 and 1, got 2.0"),
        (lambda a, s: estimators.moving_average(*a, s, decay="a"), "decay must be a real number"),
        (lambda a, s: estimators.moving_average(*a, s._replace(mean=jnp.zeros(2))), r"state.mean must have shape \(\)"),
        (lambda a, s: estimators.nvil(3, 0.0), "baseline_fn must be a function"),
        (lambda a, s: estimators.nvil(lambda b: b, 0.0, jnp.zeros(3)), "inputs must be a tuple"),
        (lambda a, s: estimators.rebar(0.5, "x"), "scale must be a real number"),
        (lambda a, s: estimators.relax(lambda w, z: w, "x"), "control_params must be a floating-point array"),
        (
            lambda a, s: jaxelbo.lower_bound(*a[:4], bound=bounds.renyi, num_samples=2),
            "bound must take log_weights alone",
        ),
    ],
)
def test_arguments_of_estimators_are_checked(call, message):
    arguments = BITS.init(KEY), KEY, total, BITS, bounds.mean, 2
    with pytest.raises((TypeError, ValueError), match=message):
        call(arguments, estimators.running_moments())


def test_control_variate_may_not_share_leaves_with_the_policy():
    def loss(params):
        estimator = estimators.relax(lambda w, z: jnp.sum(w["logits"]) * total(z), params)
        return jaxelbo.elbo(params, KEY, total, BITS, num_samples=2, estimator=estimator)

    with pytest.raises(ValueError, match="control_params must not share leaves with params"):
        jax.grad(loss)(BITS.init(KEY))
