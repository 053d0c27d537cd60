import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxelbo
from jaxelbo import bounds, estimators
from tests import oracles

make_families = pytest.mark.parametrize("make", oracles.FAMILIES.values(), ids=oracles.FAMILIES.keys())
TOLERANCE = {"float32": 1e-6, "float64": 1e-12}


def near_posterior(model, family, dtype, seed=0):
    """Params of some q in the posterior's neighbourhood: mean off by up to 2 sd, scales off by up to a factor of 2."""
    rng = np.random.default_rng(seed)
    mean, covariance = model.posterior
    sd = np.sqrt(np.diag(covariance))
    params = family.init(jax.random.key(0))
    moved = {"loc": mean + sd * rng.uniform(-2, 2, len(sd)), "log_scale": np.log(sd) + rng.uniform(-0.7, 0.7, len(sd))}
    if "unit_tril" in params:
        moved["unit_tril"] = rng.normal(size=covariance.shape) / len(sd)
    return {name: jnp.asarray(value, dtype) for name, value in moved.items()}


@make_families
@pytest.mark.parametrize("dim", [1, 3, 20, 200])
def test_log_evidence_on_every_draw(make, dim, dtype):
    """log weight + log q(z) - log p(z | x) = log p(x), for any q, at any draw."""
    model = oracles.gaussian_model(dim, seed=dim)
    family = make(jnp.zeros(dim))
    params, key = near_posterior(model, family, dtype), jax.random.key(1)
    log_weights = jaxelbo.log_weights(params, key, model.log_joint, family, num_samples=20)
    latents = jaxelbo.draws(params, key, family, num_samples=20)
    log_q = jax.vmap(family.log_prob, (None, 0))(params, latents)
    log_posterior = np.array([model.log_posterior(z) for z in latents])
    values = np.asarray(log_weights, np.float64) + np.asarray(log_q, np.float64) - log_posterior
    assert log_weights.dtype == dtype
    assert np.max(np.abs(values - model.log_evidence)) <= TOLERANCE[dtype] * (1 + abs(model.log_evidence))


@make_families
@pytest.mark.parametrize("dim", [1, 2])
def test_bound_plus_kl_is_log_evidence(make, dim, dtype):
    """L by Gauss-Hermite quadrature over q's noise, KL(q || p(z | x)) in closed form."""
    model = oracles.gaussian_model(dim, seed=10 + dim)
    family, target = make(jnp.zeros(dim)), jaxelbo.families.full_rank(jnp.zeros(dim))
    params = near_posterior(model, family, dtype, seed=3)
    nodes, weights = oracles.hermite(20)
    noise = np.stack(np.meshgrid(*[nodes] * dim, indexing="ij"), -1).reshape(-1, dim)
    weights = functools.reduce(np.multiply.outer, [weights] * dim).ravel()
    root = np.linalg.cholesky(oracles.covariance_of(params))
    points = jnp.asarray(np.asarray(params["loc"], np.float64) + noise @ root.T, dtype)
    log_weights = jax.vmap(lambda z: model.log_joint(z) - family.log_prob(params, z))(points)
    bound = weights @ np.asarray(log_weights, np.float64)
    posterior = oracles.full_rank_params(*model.posterior, dtype)
    kl = float(jaxelbo.kl_divergence(params, posterior, family, target))
    assert abs(bound + kl - model.log_evidence) <= TOLERANCE[dtype] * (1 + abs(model.log_evidence))


def enumerable_model(seed=0, num_states=6):
    """A finite latent z in 0..5 with a table of log p(x, z), and a categorical q as a family of the test's own."""
    table = jnp.asarray(np.random.default_rng(seed).normal(size=num_states) * 2)
    like = jnp.zeros(num_states, table.dtype)

    def log_prob(params, latent):
        return jax.nn.log_softmax(params)[latent]

    def sample(params, key):
        return jax.random.categorical(key, jax.lax.stop_gradient(params))

    family = jaxelbo.Family(
        name="categorical",
        init=lambda key, start=None: like,
        sample=sample,
        log_prob=log_prob,
        sample_and_log_prob=lambda params, key: (z := sample(params, key), log_prob(params, z)),
        score_log_probs=lambda params, latent: log_prob(params, latent)[None],
    )
    return table, (lambda z: table[z]), family


def test_enumerable_model_to_rounding():
    with jax.enable_x64(True):
        table, log_joint, family = enumerable_model()
        params = jnp.asarray(np.random.default_rng(1).normal(size=6))
        log_evidence = jax.nn.logsumexp(table)
        q = jax.nn.softmax(params)
        bound = jnp.sum(q * (table - jnp.log(q)))
        kl = jnp.sum(q * (jnp.log(q) - (table - log_evidence)))
        np.testing.assert_allclose(bound + kl, log_evidence, rtol=1e-14)
        key = jax.random.key(0)
        log_weights = jaxelbo.log_weights(params, key, log_joint, family, num_samples=50)
        latents = jaxelbo.draws(params, key, family, num_samples=50)
        log_q = jnp.log(q)[latents]
        np.testing.assert_allclose(log_weights + log_q - (table - log_evidence)[latents], log_evidence, rtol=1e-14)


def test_reparameterised_estimators_refuse_other_families():
    _, log_joint, family = enumerable_model()
    for estimator in (estimators.pathwise, estimators.sticking_the_landing, estimators.doubly_reparameterised):
        with pytest.raises(ValueError, match=r"the family is categorical \(1 parts without gradient\)"):
            jaxelbo.elbo(jnp.zeros(6), jax.random.key(0), log_joint, family, num_samples=2, estimator=estimator)


def test_bounds_bracket_the_evidence():
    """ELBO <= E[importance weighted] <= log p(x) <= population chi, by quadrature in double precision."""
    with jax.enable_x64(True):
        model = oracles.gaussian_model(1, seed=5)
        mean, covariance = model.posterior
        family = jaxelbo.families.mean_field(jnp.zeros(1))
        sd = float(np.sqrt(covariance[0, 0]))
        params = {"loc": jnp.asarray(mean + 0.3 * sd), "log_scale": jnp.log(jnp.asarray([1.3 * sd]))}
        nodes, weights = oracles.hermite(80)
        points = params["loc"][None] + jnp.exp(params["log_scale"])[None] * jnp.asarray(nodes)[:, None]
        log_w = jax.vmap(lambda z: model.log_joint(z) - family.log_prob(params, z))(points)
        elbo = float(weights @ log_w)
        pairs = jnp.stack([jnp.repeat(log_w, 80), jnp.tile(log_w, 80)], 1)
        two = float(np.outer(weights, weights).ravel() @ jax.vmap(bounds.importance_weighted)(pairs))
        renyi = float(np.log(weights @ np.exp(log_w / 2)) * 2)
        chi = [float(np.log(weights @ np.exp(n * (log_w - 0))) / n) for n in (1, 1.5, 2, 3)]
        assert elbo < two - 1e-3 < model.log_evidence - 2e-3
        assert elbo < renyi - 1e-3 < model.log_evidence - 2e-3
        np.testing.assert_allclose(chi[0], model.log_evidence, rtol=1e-10)
        assert chi[0] < chi[1] - 1e-3 < chi[2] - 2e-3 < chi[3] - 3e-3
        np.testing.assert_allclose(
            elbo,
            model.log_evidence - oracles.gaussian_kl(params["loc"], oracles.covariance_of(params), mean, covariance),
            rtol=1e-10,
        )
        # The functions of the package estimate just these: within 4 standard errors of 20,000 replicates.
        keys = jax.random.split(jax.random.key(0), 20_000)
        for bound, size, exact in ((bounds.mean, 1, elbo), (bounds.importance_weighted, 2, two)):
            estimate = functools.partial(
                jaxelbo.lower_bound, params, log_joint=model.log_joint, family=family, bound=bound, num_samples=size
            )
            values = np.asarray(jax.vmap(lambda key, estimate=estimate: estimate(key))(keys))
            assert abs(values.mean() - exact) < 4 * values.std() / np.sqrt(len(values))
            assert 4 * values.std() / np.sqrt(len(values)) < 0.3 * abs(two - elbo)
        upper = jaxelbo.upper_bound(
            params, keys[0], model.log_joint, family, bound=functools.partial(bounds.chi, n=2), num_samples=200_000
        )
        np.testing.assert_allclose(upper, chi[2], atol=0.02)


def test_value_is_the_bound_of_the_log_weights():
    model = oracles.gaussian_model(3)
    family = jaxelbo.families.full_rank(jnp.zeros(3))
    params, key = family.init(jax.random.key(0)), jax.random.key(1)
    log_weights = jaxelbo.log_weights(params, key, model.log_joint, family, num_samples=7)
    assert jaxelbo.elbo(params, key, model.log_joint, family, num_samples=7) == bounds.mean(log_weights)
    for bound in (bounds.importance_weighted, functools.partial(bounds.renyi, alpha=0.3), jnp.max):
        value = jaxelbo.lower_bound(params, key, model.log_joint, family, bound=bound, num_samples=7)
        assert value == bound(log_weights)


def test_dtype_follows_the_parameters():
    with jax.enable_x64(True):
        family = jaxelbo.families.mean_field(jnp.zeros(2, jnp.float32))
        params = family.init(jax.random.key(0))
        wide = lambda z: jnp.sum(z.astype(jnp.float64) ** 2)
        narrow = lambda z: jnp.sum(z.astype(jnp.bfloat16) ** 2)
        for log_joint in (wide, narrow, lambda z: 0.0):
            value = jaxelbo.elbo(params, jax.random.key(1), log_joint, family, num_samples=2)
            assert value.dtype == jnp.float32 and not value.weak_type


class Setting:
    model = oracles.gaussian_model(2)
    family = jaxelbo.families.full_rank(jnp.zeros(2))
    params = family.init(jax.random.key(0))
    key = jax.random.key(1)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"log_joint": lambda z: z}, ValueError, r"log_joint must return a scalar, got shape \(2,\)"),
        ({"log_joint": lambda z: {"a": 0.0}}, TypeError, "log_joint must return a floating-point scalar, got dict"),
        ({"log_joint": lambda z: None}, TypeError, "log_joint must return a floating-point scalar, got NoneType"),
        ({"log_joint": lambda z: 3}, TypeError, "log_joint must return a floating-point scalar, got int 3"),
        ({"log_joint": lambda z: jnp.sum(z > 0)}, TypeError, "log_joint must return .* got an array of dtype int32"),
        ({"log_joint": 3.0}, TypeError, "log_joint must be a function, got float 3.0"),
        ({"params": {"loc": jnp.zeros(2)}}, ValueError, r"params must have the structure that family full_rank asks"),
        (
            {"params": Setting.params | {"loc": jnp.zeros(3)}},
            ValueError,
            r"params\['loc'\] must have shape \(2,\) for family full_rank, got \(3,\)",
        ),
        (
            {"params": Setting.params | {"log_scale": jnp.zeros(2, jnp.int32)}},
            TypeError,
            r"params\['log_scale'\] must have dtype float32 for family full_rank, got int32",
        ),
        ({"params": Setting.params | {"loc": "x"}}, TypeError, r"params\['loc'\] must be an array, got str 'x'"),
        ({"num_samples": 0}, ValueError, "num_samples must be at least 1, got 0"),
        ({"num_samples": 2.0}, TypeError, "num_samples must be an integer, got float 2.0"),
        ({"num_samples": True}, TypeError, "num_samples must be an integer, got bool True"),
        ({"num_samples": jnp.ones(2)}, TypeError, "num_samples must be an integer"),
        ({"key": 0}, TypeError, "key must be a JAX random key such as jax.random.key"),
        ({"key": jnp.zeros(2)}, TypeError, "key must be a JAX random key"),
        (
            {"key": jnp.zeros(4, jnp.uint32)},
            ValueError,
            r"key must be one random key, got raw .* \(4,\)",
        ),
        ({"key": jax.random.split(jax.random.key(0))}, ValueError, r"key must be one random key, .* shape \(2,\)"),
        ({"family": jaxelbo.families.full_rank}, TypeError, "family must be a jaxelbo.Family, .*; call it with"),
        ({"family": None}, TypeError, "family must be a jaxelbo.Family, got NoneType"),
    ],
)
def test_bad_input(change, error, message):
    arguments = {
        "params": Setting.params,
        "key": Setting.key,
        "log_joint": Setting.model.log_joint,
        "family": Setting.family,
        "num_samples": 4,
    } | change
    num_samples = arguments.pop("num_samples")
    calls = [
        lambda function, **options: function(*arguments.values(), num_samples=num_samples, **options),
    ]
    for call in calls:
        for function in (jaxelbo.elbo, jaxelbo.log_weights):
            with pytest.raises(error, match=message):
                call(function)
        with pytest.raises(error, match=message):
            call(jaxelbo.lower_bound, bound=bounds.importance_weighted)
        for estimator in (estimators.sticking_the_landing, estimators.closed_form_entropy):
            with pytest.raises(error, match=message):
                call(jaxelbo.elbo, estimator=estimator)


def test_bad_bounds_and_estimators():
    arguments = Setting.params, Setting.key, Setting.model.log_joint, Setting.family
    with pytest.raises(ValueError, match=r"bound must return a scalar, got shape \(4,\)"):
        jaxelbo.lower_bound(*arguments, bound=lambda x: x, num_samples=4)
    with pytest.raises(TypeError, match="bound must be a function, got str 'mean'"):
        jaxelbo.lower_bound(*arguments, bound="mean", num_samples=4)
    with pytest.raises(TypeError, match="estimator must be a function"):
        jaxelbo.elbo(*arguments, num_samples=4, estimator="pathwise")
    with pytest.raises(ValueError, match=r"bound must be an upper bound, got bounds.mean"):
        jaxelbo.upper_bound(*arguments, bound=bounds.mean, num_samples=4)
    for lower in (
        bounds.importance_weighted,
        functools.partial(bounds.mean),
        functools.partial(bounds.renyi, alpha=0.5),
        functools.partial(bounds.chi, n=0.5),
        functools.partial(bounds.thermodynamic_left, betas=jnp.array([0.0, 0.5, 1.0])),
        bounds.jackknife,
    ):
        with pytest.raises(ValueError, match="bound must be an upper bound, got"):
            jaxelbo.upper_bound(*arguments, bound=lower, num_samples=4)
    with pytest.raises(TypeError, match="bound must be a function, got an array"):
        jaxelbo.upper_bound(*arguments, bound=jnp.zeros(3), num_samples=4)
    with pytest.raises(ValueError, match="num_samples must be at least 2, got 1"):
        jaxelbo.upper_bound(*arguments, bound=functools.partial(bounds.chi, n=2), num_samples=1)
    right = functools.partial(bounds.thermodynamic_right, betas=jnp.array([0.0, 0.5, 1.0]))
    with pytest.raises(ValueError, match="num_samples must be at least 2, got 1"):
        jaxelbo.upper_bound(*arguments, bound=right, num_samples=1)
    with pytest.raises(ValueError, match=r"betas must be a partition \[J \+ 1\] of 0 to 1, got shape \(\)"):
        jaxelbo.lower_bound(*arguments, bound=functools.partial(bounds.thermodynamic_left, betas=3), num_samples=4)
    with pytest.raises(ValueError, match="jackknife leaves one draw out"):
        jaxelbo.lower_bound(*arguments, bound=bounds.jackknife, num_samples=1)
    for estimator in (estimators.sticking_the_landing, estimators.closed_form_entropy):
        with pytest.raises(
            ValueError, match=r"holds for bounds.mean alone, got bounds.importance_weighted; .*pathwise"
        ):
            jaxelbo.lower_bound(*arguments, bound=bounds.importance_weighted, num_samples=4, estimator=estimator)
    with pytest.raises(ValueError, match="needs a family with an entropy in closed form; the family is full_rank"):
        jaxelbo.elbo(
            *arguments[:3],
            Setting.family._replace(entropy=None),
            num_samples=4,
            estimator=estimators.closed_form_entropy,
        )


def test_num_samples_must_be_static():
    function = jax.jit(lambda n: jaxelbo.elbo(Setting.params, Setting.key, jnp.sum, Setting.family, num_samples=n))
    with pytest.raises(TypeError, match="num_samples must be a static integer, got a traced value"):
        function(3)
