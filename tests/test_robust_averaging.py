"""Stationary iterates, exact averages, a smaller step size, and an end that is near the optimum; or no end."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxelbo
from jaxelbo import algorithms, families
from jaxelbo.algorithms import batch_means, robust_averaging

KEY = jax.random.key(4)
NORMAL = jax.scipy.stats.norm.logpdf


def iterates(num_steps, coefficient=0.9, dim=3):
    """An autoregression about (0, 1, 2), whose last entry never moves."""
    noise = np.random.default_rng(1).normal(size=(num_steps, dim))
    now, out = np.zeros(dim), []
    for step in noise:
        now = coefficient * now + step * np.array([1.0, 0.1, 0.0])
        out.append(now + np.arange(dim))
    return np.asarray(out)


def added(rows):
    start = batch_means.empty(jnp.asarray(rows[0]))
    return jax.jit(lambda rows: jax.lax.scan(lambda now, row: (batch_means.add(now, row), None), start, rows)[0])(rows)


@pytest.mark.parametrize("num_steps", [200, 399, 400, 425, 450, 2_000, 5_000])
def test_batches_against_numpy(num_steps, float64):
    rows = iterates(num_steps)
    found = added(jnp.asarray(rows))
    length = int(found.length)
    full = int(found.num_full)
    assert 7 < full <= 16 and length in (25, 50, 100, 200, 400)
    assert full * length + int(found.count) == num_steps
    batches = rows[: full * length].reshape(full, length, 3)
    np.testing.assert_allclose(found.means[:full], batches.mean(axis=1), rtol=1e-12)
    expected = ((batches - batches.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    np.testing.assert_allclose(found.squares[:full], expected, rtol=1e-9, atol=1e-12)


def r_hat_by_hand(window):
    """Split in two, Gelman et al. (2013), of ``[n, D]``."""
    halves = window.reshape(2, -1, window.shape[1])
    n, within = halves.shape[1], np.mean(np.var(halves, axis=1, ddof=1), axis=0)
    between = n * np.var(halves.mean(axis=1), axis=0, ddof=1)
    return np.sqrt(((n - 1) / n * within + between / n) / within)


def test_the_window_is_the_one_with_the_least_r_hat(float64):
    """A way to go at first, which only the longer windows have in them."""
    rows = iterates(450) + np.linspace(30.0, 0.0, 450).clip(15.0)[:, None] * np.array([1.0, 0.0, 0.0])
    found = added(jnp.asarray(rows))
    window, length, full = batch_means.best_window(found), int(found.length), int(found.num_full)
    by_hand = {}
    for size in (size for size in batch_means.WINDOWS if size <= full):
        last = rows[: full * length][-size * length :]
        by_hand[size] = np.max(r_hat_by_hand(last[:, :2])), last
    best = min(by_hand, key=lambda size: by_hand[size][0])
    assert int(window.size) == best
    np.testing.assert_allclose(window.r_hat, by_hand[best][0], rtol=1e-10)
    last = by_hand[best][1]
    np.testing.assert_allclose(window.mean, last.mean(axis=0), rtol=1e-12)
    of_means = np.var(last.reshape(best, length, 3).mean(axis=1), axis=0, ddof=1)[:2] / best
    np.testing.assert_allclose(window.effective_size, np.min(np.var(last, axis=0, ddof=1)[:2] / of_means), rtol=1e-10)


def test_too_few_batches_are_never_stationary():
    assert batch_means.best_window(added(jnp.asarray(iterates(199)))).r_hat == np.inf
    assert batch_means.best_window(added(jnp.asarray(iterates(200)))).r_hat < np.inf


def test_the_error_of_the_mean_is_that_of_an_autoregression(float64):
    """Of coefficient 0.9 and unit noise: variance of a mean of n is 100 / n, of independent ones 5.26 / n."""
    errors, sizes = [], []
    for seed in range(40):
        noise = np.random.default_rng(seed).normal(size=(3_000, 1))
        rows = jnp.asarray(noise)
        rows = jax.lax.scan(lambda now, step: (0.9 * now + step,) * 2, jnp.zeros(1), rows)[1]
        batches = added(rows)
        window = batch_means.best_window(batches)
        error = batch_means.error_of_mean(batches, window, lambda one, other: jnp.sum((one - other) ** 2))
        errors.append(float(error) * int(window.size) * int(batches.length))
        sizes.append(float(window.effective_size) / int(window.size) / int(batches.length))
    assert 75 < np.mean(errors) < 110
    assert 0.04 < np.median(sizes) < 0.09


def gaussian(dim, correlation):
    """A Gaussian with neighbours correlated, and the params of the mean-field family that are best for it."""
    covariance = np.fromfunction(lambda i, j: correlation ** abs(i - j), (dim, dim))
    precision, mean = jnp.asarray(np.linalg.inv(covariance), jnp.float32), jnp.linspace(-3.0, 3.0, dim)
    best = {"loc": mean, "log_scale": -0.5 * jnp.log(jnp.diag(precision))}
    return lambda z: -0.5 * (z - mean) @ precision @ (z - mean), families.mean_field(jnp.zeros(dim)), best


def both_ways(family):
    kl = functools.partial(jaxelbo.kl_divergence, family_q=family, family_p=family)
    return lambda params, other: kl(params, other) + kl(other, params)


def negative_elbo(log_joint, family):
    return lambda params, key: -jaxelbo.elbo(params, key, log_joint, family, num_samples=4)


def run(algorithm, start, seed=0, **options):
    options = {"num_steps": 100_000, "callback": algorithms.until_converged, "report_every": 500} | options
    return jaxelbo.run_algorithm(start, jax.random.key(seed), algorithm, **options)


@pytest.mark.parametrize(("dim", "correlation"), [(2, 0.5), (20, 0.8), (100, 0.5)])
def test_it_ends_within_its_accuracy_of_the_optimum(dim, correlation):
    """Five keys each, none chosen; beside them the iterates of the first step size are further off."""
    log_joint, family, best = gaussian(dim, correlation)
    divergence_fn, loss_fn = both_ways(family), negative_elbo(log_joint, family)
    algorithm, start = algorithms.rabvi(loss_fn, optax.adam(0.1), divergence_fn), family.init(KEY)
    for seed in range(5):
        result = run(algorithm, start, seed)
        state = result.algorithm_state
        assert state.status == robust_averaging.CONVERGED and len(result.history.loss) < 40_000
        assert state.num_stages >= 3 and np.all(np.diff(result.history.rate) <= 0)
        assert divergence_fn(result.params, best) < 0.1
    plain = jaxelbo.fit(start, KEY, loss_fn, optax.adam(0.1), num_steps=len(result.history.loss))
    assert divergence_fn(plain.params, best) > 3 * divergence_fn(result.params, best)


@pytest.mark.parametrize("decay", [0.2, 0.7])
def test_other_decays_end_within_the_accuracy_too(decay):
    log_joint, family, best = gaussian(20, 0.8)
    divergence_fn, loss_fn = both_ways(family), negative_elbo(log_joint, family)
    algorithm = algorithms.rabvi(loss_fn, optax.adam(0.1), divergence_fn, decay=decay)
    for seed in range(3):
        result = run(algorithm, family.init(KEY), seed)
        assert result.algorithm_state.status == robust_averaging.CONVERGED
        assert divergence_fn(result.params, best) < 0.1


@pytest.mark.slow
def test_a_large_step_size_is_not_taken_for_converged():
    """Eight schools: at 0.3 the first averages are 0.2 nats off, and agree with each other by chance."""
    y, sigma = jnp.array([28.0, 8, -3, 7, -1, 1, 18, 12]), jnp.array([15.0, 10, 16, 11, 9, 11, 10, 18])

    def log_joint(z):
        tau = jnp.exp(z["log_tau"])
        prior = NORMAL(z["mu"], 0, 5) - jnp.log1p((tau / 5) ** 2) + z["log_tau"] + jnp.sum(NORMAL(z["theta"]))
        return prior + jnp.sum(NORMAL(y, z["mu"] + tau * z["theta"], sigma))

    like = {"mu": 0.0, "log_tau": 0.0, "theta": jnp.zeros(8)}
    for make in (families.mean_field, families.full_rank):
        family = make(like)
        best = jaxelbo.infer(log_joint, like, KEY, family=make).params
        divergence_fn = both_ways(family)
        for rate in (0.05, 0.3):
            algorithm = algorithms.rabvi(negative_elbo(log_joint, family), optax.adam(rate), divergence_fn)
            for seed in range(3):
                result = run(algorithm, family.init(KEY), seed)
                is_converged = result.algorithm_state.status == robust_averaging.CONVERGED
                assert is_converged == (divergence_fn(result.params, best) < 0.1)
                assert is_converged or make is families.full_rank


def short(loss_fn=lambda params, key: jnp.sum((params - 2.0 + jax.random.normal(key, (2,))) ** 2), **options):
    squared = lambda params, other: jnp.sum((params - other) ** 2)
    return algorithms.rabvi(loss_fn, optax.sgd(0.1), squared, **({"accuracy": 0.01} | options))


def test_nothing_changes_behind_the_end():
    """However far the run goes on, chunked or not, in jit and vmap."""
    ended = run(short(), jnp.zeros(2))
    whole = run(short(), jnp.zeros(2), num_steps=20_000, callback=None, report_every=None)
    assert len(ended.history.loss) < 15_000
    chex.assert_trees_all_equal(ended.params, whole.params)
    end = int(np.argmax(whole.history.status == robust_averaging.CONVERGED))
    assert np.all(whole.history.status[end:] == robust_averaging.CONVERGED)
    assert len(set(np.asarray(whole.history.loss[end:]).tolist())) == 1 and whole.history.loss[end] > 0
    fit = lambda key: jaxelbo.run_algorithm(jnp.zeros(2), key, short(), num_steps=15_000)
    inside = jax.jit(jax.vmap(fit))(jax.random.split(jax.random.key(0), 3))
    assert np.all(inside.algorithm_state.status == robust_averaging.CONVERGED)
    assert np.all(np.abs(inside.params - 2.0) < 0.1)


def test_the_price_of_the_next_step_size():
    """With none allowed it ends behind the third; with an accuracy out of reach it would go on.

    A loss so skewed that the averages differ from step size to step size.
    """
    loss_fn = lambda params, key: jnp.sum(
        jnp.exp(params) + jnp.exp(-3 * params) + params * jax.random.normal(key, (2,))
    )
    result = run(short(loss_fn, accuracy=1e-4, max_inefficiency=1e-6), jnp.zeros(2))
    assert result.algorithm_state.status == robust_averaging.NOT_WORTH_IT and result.algorithm_state.num_stages == 3
    assert run(short(accuracy=1e-9), jnp.zeros(2), num_steps=20_000).algorithm_state.status == robust_averaging.RUNNING


def test_steps_that_are_not_finite_are_no_part_of_it():
    """A tenth of them."""

    def loss_fn(params, key):
        loss = jnp.sum((params - 2.0 + jax.random.normal(key, (2,))) ** 2)
        return jnp.where(jax.random.uniform(jax.random.fold_in(key, 1)) < 0.1, jnp.nan, loss)

    result = run(short(loss_fn), jnp.zeros(2), report_every=200)
    assert result.algorithm_state.status == robust_averaging.CONVERGED and result.num_skipped > 100
    assert np.all(np.abs(result.params - 2.0) < 0.1)


def test_a_killed_run_goes_on(tmp_path):
    whole = run(short(), jnp.zeros(2))

    def kill(progress):
        if progress.step >= 2_000:
            raise KeyError
        return algorithms.until_converged(progress)

    path = tmp_path / "run.npz"
    with pytest.raises(KeyError):
        run(short(), jnp.zeros(2), checkpoint=path, callback=kill)
    resumed = run(short(), jnp.zeros(2), checkpoint=path)
    chex.assert_trees_all_equal(*(jax.tree.map(np.asarray, tree) for tree in (resumed, whole)))


def test_any_params_and_dtypes(dtype):
    """Beyond a flat vector; the average has the dtypes of the params."""
    start = {"a": jnp.zeros((2, 2), dtype), "b": jnp.zeros((), dtype)}
    loss_fn = lambda params, key: (
        jnp.sum((params["a"] - 1) ** 2) + (params["b"] + jax.random.normal(key, (), dtype)) ** 2
    )
    squared = lambda params, other: sum(
        jax.tree.leaves(jax.tree.map(lambda a, b: jnp.sum((a - b) ** 2), params, other))
    )
    result = run(algorithms.rabvi(loss_fn, optax.sgd(0.1), squared, accuracy=0.01), start)
    assert result.algorithm_state.status == robust_averaging.CONVERGED
    assert {leaf.dtype for leaf in jax.tree.leaves(result.params)} == {jnp.dtype(dtype)}
    chex.assert_trees_all_close(result.params, {"a": jnp.ones((2, 2), dtype), "b": jnp.zeros((), dtype)}, atol=0.1)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"accuracy": 0.0}, ValueError, "accuracy must be a positive number, got float 0.0"),
        ({"decay": 1.0}, ValueError, "decay must be below 1, got 1.0"),
        ({"decay": -0.5}, ValueError, "decay must be a positive number"),
        ({"max_inefficiency": "no"}, ValueError, "max_inefficiency must be a positive number, got str 'no'"),
        ({"loss_fn": 3}, TypeError, "loss_fn must be a function"),
    ],
)
def test_bad_input(options, error, message):
    with pytest.raises(error, match=message):
        short(**options)


def test_bad_divergences_and_params():
    loss_fn = lambda params, key: jnp.sum(params**2)
    vector = algorithms.rabvi(loss_fn, optax.sgd(0.1), lambda params, other: params - other)
    with pytest.raises(ValueError, match=r"divergence_fn must return a scalar, got shape \(2,\)"):
        run(vector, jnp.zeros(2), num_steps=10)
    with pytest.raises(TypeError, match="params must be floating-point"):
        run(short(), jnp.zeros(2, int), num_steps=10)
    with pytest.raises(TypeError, match="until_converged is a callback for runs of rabvi"):
        jaxelbo.fit(jnp.zeros(2), KEY, loss_fn, optax.sgd(0.1), num_steps=5, callback=algorithms.until_converged)
    with pytest.raises(TypeError, match="divergence_fn must be a function"):
        algorithms.rabvi(loss_fn, optax.sgd(0.1), None)
