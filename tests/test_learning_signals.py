"""What baselines and control variates are for: the same mean, less variance, and nothing trained that should not be."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.datasets import load_digits

import jaxelbo
from jaxelbo import bounds, estimators, families, hard_attention
from tests import matrix

KEY = jax.random.key(0)


def canvases(num_images=64, seed=0):
    """Digits of 8 x 8 at random places of a 24 x 24 canvas, and their labels."""
    digits, labels = load_digits(return_X_y=True)
    rng = np.random.default_rng(seed)
    images = np.zeros((num_images, 24, 24), np.float32)
    chosen = rng.integers(len(digits), size=num_images)
    for image, digit in zip(images, digits[chosen], strict=True):
        top, left = rng.integers(0, 17, size=2)
        image[top : top + 8, left : left + 8] = digit.reshape(8, 8) / 16
    return jnp.asarray(images), jnp.asarray(labels[chosen])


def dense(key, num_in, num_out, scale=None):
    scale = np.sqrt(2 / num_in) if scale is None else scale
    return {"w": scale * jax.random.normal(key, (num_in, num_out)), "b": jnp.zeros(num_out)}


@matrix.quick_jit
def one_glimpse_weights(key):
    """A policy over 16 cells from the pooled image, and a classifier of the glimpse with output layer near 0.01."""
    keys = jax.random.split(key, 4)
    return {
        "policy": [dense(keys[0], 36, 64), dense(keys[1], 64, 16)],
        "classifier": [dense(keys[2], 64, 64), dense(keys[3], 64, 10, 0.01)],
    }


def network(layers, x):
    hidden = jax.nn.relu(x @ layers[0]["w"] + layers[0]["b"])
    return hidden @ layers[1]["w"] + layers[1]["b"]


def one_glimpse_bound(weights, key, image, label, family, estimator, num_samples):
    """F of one image; the 16 windows of 8 x 8 stand on a 4 x 4 grid."""
    pooled = image.reshape(6, 4, 6, 4).mean((1, 3)).ravel()
    corners = jnp.asarray([[round(16 * i / 3), round(16 * j / 3)] for i in range(4) for j in range(4)])

    def log_likelihood(cell):
        glimpse = jax.lax.dynamic_slice(image, corners[cell], (8, 8)).ravel()
        return jax.nn.log_softmax(network(weights["classifier"], glimpse))[label]

    params = {"logits": network(weights["policy"], pooled)}
    return hard_attention.policy_bound(
        params, key, log_likelihood, family, num_samples=num_samples, estimator=estimator
    )


@pytest.mark.slow
def test_leave_one_out_on_a_one_glimpse_classifier():
    """At initialisation, 4 draws, 5 seeds: at least 50 times less variance than the plain score function, same mean."""
    family = families.categorical(16)
    images, labels = canvases()

    def batch_bound(policy, weights, key, estimator, num_samples):
        keys = jax.random.split(key, len(images))
        of_one = lambda k, image, label: one_glimpse_bound(
            weights | {"policy": policy}, k, image, label, family, estimator, num_samples
        )
        return jnp.mean(jax.vmap(of_one)(keys, images, labels))

    @functools.partial(jax.jit, static_argnums=(2, 3, 4))
    def gradients(weights, key, estimator, num_samples, num_replicates):
        gradient = lambda k: jax.grad(batch_bound)(weights["policy"], weights, k, estimator, num_samples)
        return jax.lax.map(gradient, jax.random.split(key, num_replicates))

    for seed in range(5):
        weights = one_glimpse_weights(jax.random.key(seed))
        exact = gradients(weights, KEY, estimators.enumeration, 1, 1)
        variances, means = {}, {}
        for name in ("leave_one_out", "score_function"):
            samples = gradients(weights, jax.random.key(1), getattr(estimators, name), 4, 200)
            samples = jax.tree.map(np.asarray, samples)
            variances[name] = sum(np.sum(np.var(leaf, axis=0)) for leaf in jax.tree.leaves(samples))
            means[name] = jax.tree.map(lambda leaf: leaf.mean(0), samples)
        ratio = variances["score_function"] / variances["leave_one_out"]
        print(f"seed {seed}: variance {variances}, ratio {ratio:.0f}")
        assert ratio >= 50
        for name in means:
            off = sum(
                float(jnp.sum((a - b[0]) ** 2))
                for a, b in zip(jax.tree.leaves(means[name]), jax.tree.leaves(exact), strict=True)
            )
            assert off < 2 * variances[name] / 200  # the squared error of a mean of 200, in expectation 1 of these


BITS = families.bernoulli(jnp.zeros(3))
BITS_PARAMS = {"logits": jnp.array([0.3, -0.8, 0.5])}


def shifted(z):
    """A log joint far from zero."""
    return matrix.bits(0.6, z) - 50.0


@functools.partial(jax.jit, static_argnames=("estimator", "num_samples", "num_replicates", "family", "log_joint"))
def total_variance(estimator, params=BITS_PARAMS, num_samples=2, num_replicates=20_000, family=BITS, log_joint=shifted):
    gradient = jax.grad(
        lambda p, k: jaxelbo.elbo(p, k, log_joint, family, num_samples=num_samples, estimator=estimator)
    )
    keys = jax.random.split(KEY, num_replicates)
    variances = jax.tree.map(lambda leaf: leaf.var(0).sum(), jax.vmap(gradient, (None, 0))(params, keys))
    return sum(jax.tree.leaves(variances))


def test_order_of_variances():
    """Each refinement pays, on a coupled model of bits."""
    plain = total_variance(estimators.score_function)
    left_out = total_variance(estimators.leave_one_out)
    blackwell = total_variance(estimators.rao_blackwellised(lambda z: matrix.local_terms(0.6, z) - 50.0 / 3))
    arm, disarm = total_variance(estimators.arm, num_samples=1), total_variance(estimators.disarm, num_samples=1)
    without = total_variance(estimators.without_replacement)
    assert plain > 100 * left_out
    assert left_out > 1.1 * blackwell
    assert arm > 1.1 * disarm
    assert left_out > 1.1 * without
    assert total_variance(estimators.enumeration, num_samples=1, num_replicates=10) < 1e-9


def test_reward_to_go_is_quieter_than_leave_one_out():
    family = matrix.chain_of_bits()
    params = {"bias": jnp.array([-0.2]), "weight": jnp.array([0.7])}
    terms = functools.partial(matrix.sequence_terms, 0.6)
    variance = functools.partial(total_variance, params=params, family=family, log_joint=lambda z: jnp.sum(terms(z)))
    assert variance(estimators.leave_one_out) > 1.1 * variance(estimators.reward_to_go(terms))


def test_learned_baseline_trains_itself_alone():
    """Its own gradient is that of the squared error; the policy's and the model's are those of a fixed baseline."""

    def value(params, theta, baseline, inputs, estimator_of):
        log_joint = lambda z: matrix.bits(theta, z)
        return jaxelbo.elbo(params, KEY, log_joint, BITS, num_samples=3, estimator=estimator_of(baseline, inputs))

    learned = lambda baseline, inputs: estimators.learned_baseline(lambda b, x: b * x, baseline, (inputs,))
    fixed = lambda baseline, inputs: estimators.with_baseline(baseline * inputs)
    arguments = BITS_PARAMS, jnp.asarray(0.6), jnp.asarray(0.8), jnp.asarray(2.0)
    gradient = matrix.quick_jit(jax.grad(value, argnums=(0, 1, 2, 3)), static_argnums=4)
    ours, like = gradient(*arguments, learned), gradient(*arguments, fixed)
    for leaf, expected in zip(jax.tree.leaves(ours[:2]), jax.tree.leaves(like[:2]), strict=True):
        np.testing.assert_array_equal(leaf, expected)
    assert ours[3] == 0 and like[2] == 0
    log_weights = jaxelbo.log_weights(BITS_PARAMS, KEY, lambda z: matrix.bits(0.6, z), BITS, num_samples=3)
    np.testing.assert_allclose(ours[2], 2.0 * jnp.mean(log_weights - 1.6), rtol=1e-5)


def test_moving_average_is_the_recursion():
    state, expected = estimators.running_moments(), 0.0
    for step in range(5):
        arguments = BITS_PARAMS, jax.random.key(step), shifted, BITS, bounds.mean, 2, state
        value, state = estimators.moving_average(*arguments, decay=0.9)
        expected = 0.9 * expected + 0.1 * float(value)
        np.testing.assert_allclose(state.mean, expected, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["moving_average", "nvil"])
def test_stateful_baselines_in_a_fit(name):
    """`fit` carries the state; the bound comes within 0.05 nats of the best of its family, and the state settles."""
    start = {"policy": BITS.init(KEY), "baseline": jnp.asarray(0.0)}

    def loss_fn(params, key, state):
        make = {
            "moving_average": lambda: estimators.moving_average,
            "nvil": lambda: estimators.nvil(lambda b: b, params["baseline"]),
        }
        value, state = make[name]()(params["policy"], key, shifted, BITS, bounds.mean, 1, state)
        return -value, state

    result = jaxelbo.fit(start, KEY, loss_fn, optax.adam(0.02), num_steps=4_000, state=estimators.running_moments())
    exact = lambda p: -jaxelbo.elbo(p, KEY, shifted, BITS, num_samples=1, estimator=estimators.enumeration)
    best = jaxelbo.fit(BITS.init(KEY), KEY, lambda p, k: exact(p), optax.adam(0.05), num_steps=2_000)
    assert exact(result.params["policy"]) < best.history.loss[-1] + 0.05
    prediction = result.state.mean + result.params["baseline"]
    assert abs(prediction + exact(result.params["policy"])) < 1.5


def test_nvil_is_the_score_function_divided():
    """Its score part is with_baseline's over max(1, sd); the model's gradient is not divided."""

    def gradients(estimator):
        value = lambda p, theta: estimator(p, KEY, functools.partial(matrix.bits, theta), BITS, bounds.mean, 3)
        return jax.grad(value, argnums=(0, 1))(BITS_PARAMS, 0.6)

    plain = gradients(estimators.with_baseline(0.5 - 3.0))
    for variance, factor in ((4.0, 0.5), (0.1, 1.0)):
        state = estimators.RunningMoments(jnp.asarray(-3.0), jnp.asarray(variance))
        ours = gradients(lambda *a, state=state: estimators.nvil(lambda b: b, jnp.asarray(0.5))(*a, state)[0])
        np.testing.assert_allclose(ours[0]["logits"], factor * plain[0]["logits"], rtol=1e-5)
        np.testing.assert_allclose(ours[1], plain[1], rtol=1e-6)


def curve(weights, z):
    return weights[0] * jnp.sum(z) + weights[1] * z[0] * z[1] + weights[2] * jnp.sum(z**2)


def relax_value(params, theta, weights, temperature, key):
    estimator, family = estimators.relax(curve, weights, temperature), families.bernoulli(jnp.zeros(3))
    return jaxelbo.elbo(params, key, lambda z: 3 * matrix.bits(theta, z), family, num_samples=1, estimator=estimator)


def rebar_value(params, theta, scale, temperature, key):
    estimator, family = estimators.rebar(temperature, scale), families.bernoulli(jnp.zeros(3))
    return jaxelbo.elbo(params, key, lambda z: 3 * matrix.bits(theta, z), family, num_samples=1, estimator=estimator)


@pytest.mark.parametrize(
    ("value", "tuned"),
    [(relax_value, np.array([0.5, -0.2, 0.3])), (rebar_value, np.array(0.7))],
    ids=["relax", "rebar"],
)
def test_control_variates_learn_to_lower_the_variance(value, tuned):
    """Their gradient is minus the derivative of the mean squared gradient in params, by finite differences."""
    with jax.enable_x64(True):
        params, keys = {"logits": jnp.array([0.3, -0.8, 0.5])}, jax.random.split(KEY, 2_000)
        tuned, temperature = jnp.asarray(tuned), jnp.asarray(0.6)

        @jax.jit
        def second_moment(tuned, temperature):
            gradient = jax.vmap(jax.grad(value), (None, None, None, None, 0))
            return jnp.mean(jnp.sum(gradient(params, 0.6, tuned, temperature, keys)["logits"] ** 2, axis=1))

        slopes = jax.jit(jax.vmap(jax.grad(value, argnums=(2, 3)), (None, None, None, None, 0)))
        ours = [leaf.mean(0) for leaf in slopes(params, 0.6, tuned, temperature, keys)]
        step = 1e-5
        for index, unit in enumerate(jnp.eye(tuned.size)):
            move = step * unit.reshape(tuned.shape)
            slope = (second_moment(tuned + move, temperature) - second_moment(tuned - move, temperature)) / (2 * step)
            np.testing.assert_allclose(jnp.ravel(ours[0])[index], -slope, rtol=1e-6)
        slope = (second_moment(tuned, temperature + step) - second_moment(tuned, temperature - step)) / (2 * step)
        np.testing.assert_allclose(ours[1], -slope, rtol=1e-6)


def test_control_variates_do_not_train_the_model():
    """The model's gradient is that of the hard draws alone: log p at b, differentiated in theta."""
    with jax.enable_x64(True):
        params = {"logits": jnp.array([0.3, -0.8, 0.5])}
        hard = families.bernoulli(jnp.zeros(3)).relax(params, KEY, 0.6)[0]
        expected = matrix.quick_jit(jax.grad(lambda theta: 3 * matrix.bits(theta, hard)))(0.6)
        for value, tuned in ((relax_value, jnp.ones(3)), (rebar_value, jnp.asarray(0.7))):
            ours = matrix.quick_jit(jax.grad(value, argnums=1))(params, 0.6, tuned, jnp.asarray(0.6), KEY)
            np.testing.assert_allclose(ours, expected, rtol=1e-12)


@pytest.mark.slow
def test_trained_relax_is_quieter():
    """A control variate trained by the estimator's own gradient leaves less variance than none and than the start."""

    def loss_fn(weights, key):
        return -relax_value(BITS_PARAMS, 0.6, weights, 0.6, key)

    trained = jaxelbo.fit(jnp.zeros(3), KEY, loss_fn, optax.adam(0.03), num_steps=1_500).params
    variance = lambda weights: total_variance(
        estimators.relax(curve, weights, 0.6), num_samples=1, log_joint=lambda z: 3 * matrix.bits(0.6, z)
    )
    assert variance(trained) < 0.7 * variance(jnp.zeros(3))


@pytest.mark.matrix
def test_biases_are_the_documented_ones():
    """Relaxations miss the gradient, less at a lower temperature; reweighted wake-sleep has another objective."""
    with jax.enable_x64(True):
        problem = matrix.make_problem("Bernoulli")
        log_joint = functools.partial(problem.log_joint, 0.6)
        exact = jax.grad(problem.exact)(problem.params, 0.6, bounds.mean, 1)["logits"]
        keys = jax.random.split(KEY, 200_000)

        def mean_gradient(estimator, bound=bounds.mean, num_samples=1):
            value = lambda p, k: estimator(p, k, log_joint, problem.family, bound, num_samples)
            samples = jax.jit(jax.vmap(jax.grad(value), (None, 0)))(problem.params, keys)["logits"]
            return np.asarray(samples.mean(0)), np.asarray(samples.std(0)) / np.sqrt(len(samples))

        errors = []
        for temperature in (1.0, 0.3):
            mean, error = mean_gradient(estimators.gumbel_softmax(temperature))
            errors.append(np.linalg.norm(mean - exact))
            assert np.max(np.abs(mean - exact) / error) > 8
        assert errors[1] < 0.5 * errors[0]
        mean, error = mean_gradient(estimators.straight_through(0.5))
        assert np.max(np.abs(mean - exact) / error) > 8

        def forward_kl(params):
            latents, log_q = problem.family.configurations(params, KEY)
            log_p = jax.nn.log_softmax(jax.vmap(log_joint)(latents))
            return jnp.sum(jnp.exp(log_p) * (log_p - log_q))

        mean, error = mean_gradient(estimators.reweighted_wake_phase, bounds.importance_weighted, 50)
        towards = -np.asarray(jax.grad(forward_kl)(problem.params)["logits"])
        assert np.linalg.norm(mean - towards) < 0.1 * np.linalg.norm(towards) < np.linalg.norm(mean - exact)


def test_decompositions_sum_to_the_log_joint():
    """At one key `reward_to_go` has the value of the default estimator exactly if its terms sum to the log joint."""
    family, terms = matrix.chain_of_bits(), functools.partial(matrix.sequence_terms, 0.6)
    params = {"bias": jnp.array([-0.2]), "weight": jnp.array([0.7])}

    @functools.partial(matrix.quick_jit, static_argnums=0)
    def value(estimator):
        log_joint = lambda z: jnp.sum(terms(z))
        return jaxelbo.elbo(params, KEY, log_joint, family, num_samples=5, estimator=estimator)

    default = value(estimators.leave_one_out)
    np.testing.assert_allclose(value(estimators.reward_to_go(terms)), default, rtol=1e-5)
    wrong = value(estimators.reward_to_go(lambda z: terms(z).at[0].add(1)))
    assert abs(wrong - default) > 0.9
    # Entry i of the local terms is what changes of the log joint when bit i does.
    local = matrix.quick_jit(functools.partial(matrix.local_terms, 0.6))
    log_joint = matrix.quick_jit(functools.partial(matrix.bits, 0.6))
    for z in jnp.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]):
        for i in range(3):
            flipped = z.at[i].set(1 - z[i])
            change = local(flipped)[i] - local(z)[i]
            np.testing.assert_allclose(change, log_joint(flipped) - log_joint(z), rtol=1e-5, atol=1e-6)
