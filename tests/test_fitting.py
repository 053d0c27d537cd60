import functools
from math import gcd

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxelbo
from tests import oracles

TARGET = jnp.asarray([1.0, -2.0])
START = {"a": jnp.zeros(2), "b": jnp.ones(())}


def noisy_loss(params, key, shift=0.0):
    noise = jax.random.normal(key, (2,))
    return jnp.sum((params["a"] - TARGET - shift + 0.1 * noise) ** 2) + params["b"] ** 4


def loss_with_accident(params, key):
    """NaN at roughly a fifth of the steps."""
    return jnp.where(jax.random.uniform(key) < 0.2, jnp.nan, noisy_loss(params, key))


def naive_loop(loss_fn, optimizer, params, key, num_steps):
    """The loop by hand, a step at a time, with the guard: the documented keys and nothing of the package."""
    key_steps = jax.random.split(key, 3)[2]
    state, losses, skipped = optimizer.init(params), [], 0
    for step in range(num_steps):
        loss, gradient = jax.value_and_grad(loss_fn)(params, jax.random.fold_in(key_steps, step))
        updates, new_state = optimizer.update(gradient, state, params)
        losses.append(float(loss))
        if np.isfinite(losses[-1]):
            params, state = optax.apply_updates(params, updates), new_state
        else:
            skipped += 1
    return params, losses, skipped


def assert_same(tree, other):
    chex.assert_trees_all_equal(*(jax.tree.map(np.asarray, t) for t in (tree, other)))


@pytest.mark.parametrize("loss_fn", [noisy_loss, loss_with_accident])
def test_fit_is_the_loop_by_hand(loss_fn):
    optimizer, key = optax.adam(0.1), jax.random.key(6)
    params, losses, skipped = naive_loop(loss_fn, optimizer, START, key, 40)
    result = jaxelbo.fit(START, key, loss_fn, optimizer, num_steps=40)
    assert result.num_skipped == skipped
    assert (skipped > 3) == (loss_fn is loss_with_accident)
    np.testing.assert_allclose(result.history.loss, losses, rtol=1e-4)
    chex.assert_trees_all_close(result.params, params, rtol=1e-4)
    assert result.state is None


@pytest.mark.parametrize("loss_fn", [noisy_loss, loss_with_accident])
@pytest.mark.parametrize("report_every", [None, 1, 7, 20, 100])
def test_chunks_and_callbacks_change_no_number(loss_fn, report_every):
    fit = functools.partial(jaxelbo.fit, START, jax.random.key(6), loss_fn, optax.adam(0.1), num_steps=60)
    seen = []
    chunked = fit(callback=seen.append, report_every=report_every)
    assert_same(fit(), chunked)
    every = report_every or 1
    assert [progress.step for progress in seen] == sorted({*range(every, 61, every), 60})
    assert seen[-1].num_skipped == chunked.num_skipped and seen[-1].num_steps == 60
    np.testing.assert_array_equal(np.concatenate([p.history.loss for p in seen]), chunked.history.loss)
    assert_same(seen[-1].params, chunked.params)


def test_callback_ends_the_run():
    result = jaxelbo.fit(
        START, jax.random.key(0), noisy_loss, optax.adam(0.1), num_steps=100, report_every=10,
        callback=lambda progress: progress.step >= 30,
    )  # fmt: skip
    assert result.history.loss.shape == (30,)


@pytest.mark.parametrize("loss_fn", [noisy_loss, loss_with_accident])
def test_inside_jit_and_vmap(loss_fn):
    fit = lambda key: jaxelbo.fit(START, key, loss_fn, optax.adam(0.1), num_steps=40)
    keys = jax.random.split(jax.random.key(2), 3)
    batch, jitted = jax.vmap(fit)(keys), jax.jit(fit)(keys[1])
    outside = [fit(key) for key in keys]
    for index, result in enumerate(outside):
        one = jax.tree.map(lambda leaf, index=index: leaf[index], batch)
        chex.assert_trees_all_close(one, result, rtol=1e-4)
        assert one.num_skipped == result.num_skipped
    chex.assert_trees_all_close(jitted, outside[1], rtol=1e-4)


def test_closures_over_traced_values():
    """params, key and data are concrete, the loss is not; then, too, the loop is a pure scan with its guard."""

    def fit(shift):
        loss_fn = lambda params, key: loss_with_accident(params, key) + 0 * shift
        return jaxelbo.fit(START, jax.random.key(6), loss_fn, optax.adam(0.1), num_steps=40)

    expected = jaxelbo.fit(START, jax.random.key(6), loss_with_accident, optax.adam(0.1), num_steps=40)
    for result in (jax.jit(fit)(0.0), jax.tree.map(lambda leaf: leaf[1], jax.vmap(fit)(jnp.zeros(2)))):
        chex.assert_trees_all_close(result, expected, rtol=1e-4)
        assert result.num_skipped == expected.num_skipped > 3


@pytest.mark.parametrize(("num_steps", "every"), [(5, 1), (1, 1), (5, 4), (5, 5)])
def test_differentiable_inside_jit_and_outside(num_steps, every):
    """In what the loss closes over, loops of one step among them."""

    def final(target):
        loss_fn = lambda params, key: jnp.sum((params - target) ** 2)
        options = {"num_steps": num_steps, "history_every": every}
        return jnp.sum(jaxelbo.fit(jnp.zeros(1), jax.random.key(0), loss_fn, optax.sgd(0.1), **options).params)

    for gradient in (jax.grad(final), jax.jit(jax.grad(final)), jax.jacfwd(final)):
        np.testing.assert_allclose(gradient(2.0), 1 - 0.8**num_steps, rtol=1e-5)


def test_two_fits_compile_once():
    """The loss is traced for the first fit alone; new data of the same shapes and a new start compile nothing."""
    optimizer = optax.adam(0.1)
    loss_fn = chex.assert_max_traces(lambda params, key, shift: noisy_loss(params, key, shift), n=1)
    fit = functools.partial(jaxelbo.fit, loss_fn=loss_fn, optimizer=optimizer, num_steps=10)
    first = fit(START, jax.random.key(0), data=(jnp.zeros(2),))
    other = fit(jax.tree.map(lambda leaf: leaf + 1, START), jax.random.key(1), data=(jnp.ones(2),))
    assert not np.allclose(first.params["a"], other.params["a"])


def test_fit_finds_an_exact_posterior():
    model = oracles.gaussian_model(3, seed=1)
    family = jaxelbo.families.full_rank(jnp.zeros(3))
    loss_fn = lambda params, key: -jaxelbo.elbo(params, key, model.log_joint, family, num_samples=8)
    optimizer = optax.adam(optax.cosine_decay_schedule(0.05, 3_000))
    result = jaxelbo.fit(family.init(jax.random.key(0)), jax.random.key(1), loss_fn, optimizer, num_steps=3_000)
    posterior = oracles.full_rank_params(*model.posterior)
    assert jaxelbo.kl_divergence(result.params, posterior, family, family) < 0.01
    bound = jaxelbo.elbo(result.params, jax.random.key(2), model.log_joint, family, num_samples=10_000)
    np.testing.assert_allclose(bound, model.log_evidence, atol=0.02)


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.lbfgs(),
        optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau(patience=5)),
        optax.polyak_sgd(),
        optax.contrib.momo(0.5),
        optax.contrib.schedule_free_sgd(0.1),
    ],
    ids=["lbfgs", "plateau", "polyak", "momo", "schedule_free"],
)
def test_optimisers_with_extra_arguments(optimizer):
    """On a loss without noise, their own infinite best-so-far values being no fault."""
    loss_fn = lambda params, key: jnp.sum((params["a"] - TARGET) ** 2) + params["b"] ** 2
    result = jaxelbo.fit(START, jax.random.key(0), loss_fn, optimizer, num_steps=200)
    assert result.num_skipped == 0
    np.testing.assert_allclose(result.params["a"], TARGET, atol=1e-2)
    assert result.history.loss[-1] < 1e-3 * result.history.loss[0]


def test_state_goes_in_and_comes_out():
    def loss_fn(params, key, average, scale):
        loss = noisy_loss(params, key)
        return loss * scale, {"mean": 0.9 * average["mean"] + 0.1 * loss, "count": average["count"] + 1}

    state = {"mean": jnp.zeros(()), "count": jnp.zeros((), jnp.int32)}
    result = jaxelbo.fit(START, jax.random.key(0), loss_fn, optax.adam(0.1), num_steps=20, state=state, data=(1.0,))
    expected = 0.0
    for loss in np.asarray(result.history.loss):
        expected = 0.9 * expected + 0.1 * loss
    np.testing.assert_allclose(result.state["mean"], expected, rtol=1e-5)
    assert result.state["count"] == 20


@pytest.mark.parametrize(("num_rows", "batch_size"), [(12, 4), (10, 4), (7, 7), (5, 3), (9, 1)])
def test_minibatches_read_every_row_equally_often(num_rows, batch_size):
    """Over lcm(N, B) / B batches; and once an epoch, in an order that differs between epochs."""
    epochs = batch_size // gcd(num_rows, batch_size)
    num_steps = 3 * num_rows * epochs // batch_size

    def loss_fn(params, key, state, rows, twice):
        seen, step = state
        loss = jnp.sum((params - rows) ** 2) + 0 * jnp.sum(twice - 2 * rows)
        return loss, (seen.at[step].set(rows), step + 1)

    rows = np.arange(num_rows, dtype=np.float32)
    state = jnp.zeros((num_steps, batch_size)), jnp.zeros((), jnp.int32)
    result = jaxelbo.fit(
        jnp.zeros(()), jax.random.key(3), loss_fn, optax.sgd(1e-3), num_steps=num_steps, state=state,
        data=(rows, 2 * rows), batch_size=batch_size,
    )  # fmt: skip
    seen = np.asarray(result.state[0]).ravel().reshape(-1, num_rows)
    for epoch in seen:
        np.testing.assert_array_equal(np.sort(epoch), rows)
    if num_rows > 5:
        assert len({tuple(epoch) for epoch in seen}) == len(seen)


def test_minibatch_gradient_has_the_full_mean():
    """Scaled by N / B, the mean over lcm(N, B) / B batches at fixed params is the full loss, B not dividing N."""
    rows = np.random.default_rng(0).normal(size=10).astype(np.float32)
    loss_fn = lambda params, key, rows: 10 / 4 * jnp.sum((params - rows) ** 2)
    result = jaxelbo.fit(
        jnp.ones(()), jax.random.key(0), loss_fn, optax.sgd(0.0), num_steps=5, data=(rows,), batch_size=4
    )
    np.testing.assert_allclose(np.mean(result.history.loss), np.sum((1 - rows) ** 2), rtol=1e-5)


def test_permutations_are_uniform():
    from scipy import stats

    from jaxelbo import minibatches

    def second_epoch(key):
        order = minibatches.first_order(key, 4)
        _, order = minibatches.next_rows(order, 4)
        return minibatches.next_rows(order, 4)[0]

    rows = np.asarray(jax.vmap(second_epoch)(jax.random.split(jax.random.key(0), 24_000)))
    _, counts = np.unique(rows @ [64, 16, 4, 1], return_counts=True)
    assert len(counts) == 24 and stats.chisquare(counts).pvalue > 1e-3


def test_non_finite_start_names_the_leaf():
    def loss_fn(params, key):
        return jnp.sum(jnp.sqrt(params["a"])) + params["b"] ** 2

    for start, message in (
        (START, r"loss_fn is 1.0 at the start; its gradient is not finite in params\['a'\]"),
        (START | {"a": -jnp.ones(2)}, r"loss_fn is nan at the start; its gradient is not finite in params\['a'\]"),
    ):
        for options in ({}, {"callback": lambda progress: None}):
            with pytest.raises(ValueError, match=message):
                jaxelbo.fit(start, jax.random.key(0), loss_fn, optax.adam(0.1), num_steps=3, **options)
    inside = jax.jit(lambda: jaxelbo.fit(START, jax.random.key(0), loss_fn, optax.adam(0.1), num_steps=3))()
    assert inside.num_skipped == 3
    assert_same(inside.params, START)


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
@pytest.mark.parametrize("where", ["loss", "gradient", "state"])
def test_the_guard_sees_every_kind_of_fault(bad, where):
    """At the step whose fold-in says so; afterwards parameters and optimiser state are as they were."""

    @jax.custom_vjp
    def taint(x, flag):
        return x

    taint.defvjp(lambda x, flag: (x, flag), lambda flag, g: (jnp.where(flag, bad, g), None))

    def loss_fn(params, key, step):
        flag = step == 5
        loss = jnp.sum(params**2)
        if where == "loss":
            loss = jnp.where(flag, bad, loss)
        if where == "gradient":
            loss = taint(loss, flag)
        return loss, step + 1

    optimizer = optax.adam(0.1)
    if where == "state":  # an optimiser whose state alone is spoiled

        def update(updates, count, params=None):
            return updates, jnp.where(count[1] == 5, count.at[0].set(bad), count) + jnp.asarray([0.0, 1.0])

        optimizer = optax.chain(optax.GradientTransformation(lambda params: jnp.zeros(2), update), optax.sgd(0.1))
    fit = functools.partial(
        jaxelbo.fit, jnp.ones(2), jax.random.key(0), loss_fn, optimizer, num_steps=12, state=jnp.zeros((), jnp.int32)
    )
    result = fit()
    # The loss's own state is kept back with the rest, so the fault repeats to the end.
    assert result.num_skipped == 7
    assert_same(result.params, fit(num_steps=5).params)
    assert all(jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(result.algorithm_state))


@pytest.mark.parametrize("shape", [(), (1,)])
def test_an_overflowing_moment_is_undone(shape):
    """One finite gradient of 1e25 makes Adam's second moment infinite, and would freeze the parameter for good."""

    def loss_fn(params, key, step):
        scale = jnp.where(step == 3, 1e25, 1.0)
        return jnp.sum((params - 5.0) ** 2) * scale, step + 1

    result = jaxelbo.fit(
        jnp.zeros(shape), jax.random.key(0), loss_fn, optax.adam(0.1), num_steps=20, state=jnp.zeros((), jnp.int32)
    )
    assert result.num_skipped == 17  # the step counter is kept back with the rest


def test_the_losss_own_state_may_be_infinite():
    """A best-so-far that starts at -inf, and one that is infinite now and then; with chunks and without."""

    def loss_fn(params, key, state):
        return jnp.sum(params**2), jnp.where(jax.random.uniform(key) < 0.5, -jnp.inf, state)

    fit = functools.partial(jaxelbo.fit, jnp.ones(2), jax.random.key(0), loss_fn, optax.sgd(0.1), num_steps=6)
    results = [fit(state=state, **options)
               for state in (jnp.array([-jnp.inf, 0.0]), jnp.zeros(2))
               for options in ({}, {"callback": lambda progress: None, "report_every": 1})]  # fmt: skip
    inside = jax.jit(lambda: fit(state=jnp.zeros(2)))()
    for result in (*results, inside):
        assert result.num_skipped == 0
        np.testing.assert_allclose(result.params, 0.8**6, rtol=1e-5)


def test_python_numbers_in_states_and_infos():
    result = jaxelbo.fit(
        START, jax.random.key(0), lambda p, k, s: (p["b"] ** 2, 1.0), optax.sgd(0.1), num_steps=3, state=0.0
    )
    assert result.state == 1.0
    algorithm = jaxelbo.Algorithm(
        init=lambda params, key: (params, 0),
        step=lambda state, key: ((state[0] + 1, state[1] + 1), 2.0),
        params=lambda state: state[0],
    )
    result = jaxelbo.run_algorithm(jnp.zeros(2), jax.random.key(0), algorithm, num_steps=3)
    assert result.algorithm_state[1] == 3 and result.history.tolist() == [2.0, 2.0, 2.0]


def test_dtypes_are_kept(dtype):
    start = {"a": 0.0, "b": np.ones(2)}
    loss_fn = lambda params, key: params["a"] ** 2 + jnp.sum(params["b"] ** 2)
    result = jaxelbo.fit(start, jax.random.key(0), loss_fn, optax.adam(0.1), num_steps=3)
    assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(result.params))
    assert result.history.loss.dtype == dtype


def test_raw_keys_too():
    result = jaxelbo.fit(START, jax.random.PRNGKey(6), noisy_loss, optax.adam(0.1), num_steps=4)
    assert_same(result.params, jaxelbo.fit(START, jax.random.key(6), noisy_loss, optax.adam(0.1), num_steps=4).params)


def test_run_algorithm_takes_any_pair():
    """Newton's root of 2: no gradient, no bound."""
    algorithm = jaxelbo.Algorithm(
        init=lambda params, key, target: params,
        step=lambda state, key, target: ((state + target / state) / 2, {"residual": state**2 - target}),
        params=lambda state: state,
    )
    result = jaxelbo.run_algorithm(jnp.ones(()), jax.random.key(0), algorithm, num_steps=6, data=(2.0,))
    np.testing.assert_allclose(result.params, np.sqrt(2), rtol=1e-6)
    assert result.history["residual"].shape == (6,)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"optimizer": optax.adam}, TypeError, r"optimizer must be an optax optimiser, got .*; call it first"),
        ({"optimizer": None}, TypeError, "optimizer must be an optax optimiser, got NoneType"),
        ({"loss_fn": 3}, TypeError, "loss_fn must be a function, got int 3"),
        ({"loss_fn": lambda p, k: p["a"]}, ValueError, r"loss_fn must return a scalar, got shape \(2,\)"),
        ({"loss_fn": lambda p, k: None}, TypeError, "loss_fn must return a floating-point scalar, got NoneType"),
        ({"loss_fn": lambda p, k: 1}, TypeError, "loss_fn must return a floating-point scalar, got int 1"),
        ({"loss_fn": lambda p, k, s: p["b"], "state": 0.0}, TypeError, r"loss_fn must return \(loss, state\)"),
        (
            {"loss_fn": lambda p, k, s: (p["b"], 1), "state": 0.0},
            TypeError,
            "the state that loss_fn returns must have dtype float32 for the given state, got int32",
        ),
        ({"num_steps": 0}, ValueError, "num_steps must be at least 1, got 0"),
        ({"num_steps": 1.5}, TypeError, "num_steps must be an integer, got float 1.5"),
        ({"params": {"a": 1}}, TypeError, r"params\['a'\] must be floating-point, got dtype int32"),
        ({"params": {}}, ValueError, "params must have at least one leaf"),
        ({"key": 1}, TypeError, "key must be a JAX random key"),
        ({"data": jnp.zeros(3)}, TypeError, r"data must be a tuple, as in data=\(x, y\)"),
        ({"data": ("text",)}, TypeError, r"data\[0\] must be an array or a number, got str 'text'"),
        ({"batch_size": 4}, ValueError, "batch_size needs data with rows, got none"),
        (
            {"batch_size": 4, "data": (jnp.zeros(3),)},
            ValueError,
            "batch_size must be at most the 3 rows of data, got 4",
        ),
        ({"batch_size": 0, "data": (jnp.zeros(3),)}, ValueError, "batch_size must be at least 1, got 0"),
        (
            {"batch_size": 2, "data": (jnp.zeros(3), jnp.zeros(4))},
            ValueError,
            r"data\[1\] must have 3 rows as data\[0\] has, got 4",
        ),
        (
            {"batch_size": 2, "data": (jnp.zeros(3), 1.0)},
            ValueError,
            r"data\[1\] must have rows where batch_size is given, got a scalar",
        ),
        ({"callback": 3}, TypeError, "callback must be a function, got int 3"),
        ({"data": (np.array(["a"]),)}, TypeError, r"data\[0\] must be an array or a number, got an array of dtype <U1"),
        ({"report_every": 10}, ValueError, "report_every needs a callback to report to"),
        ({"callback": lambda progress: progress.params}, TypeError, "callback must return None or a bool, got dict"),
        ({"callback": print, "report_every": 0}, ValueError, "report_every must be at least 1, got 0"),
    ],
)
def test_bad_input(change, error, message):
    arguments = {"params": START, "key": jax.random.key(0), "loss_fn": noisy_loss, "optimizer": optax.sgd(0.1)}
    with pytest.raises(error, match=message):
        jaxelbo.fit(**({"num_steps": 3} | arguments | change))


def test_bad_algorithms_and_places():
    with pytest.raises(TypeError, match=r"algorithm must be a jaxelbo.Algorithm, got"):
        jaxelbo.run_algorithm(START, jax.random.key(0), noisy_loss, num_steps=3)
    with pytest.raises(ValueError, match="callback cannot be called inside jit"):
        jax.jit(
            lambda key: jaxelbo.fit(START, key, noisy_loss, optax.sgd(0.1), num_steps=3, callback=print)
        )(jax.random.key(0))  # fmt: skip

    with pytest.raises(ValueError, match="callback cannot be called inside jit"):
        jax.jit(
            lambda shift: jaxelbo.fit(
                START, jax.random.key(0), lambda p, k: p["b"] + shift, optax.sgd(0.1), num_steps=3, callback=print
            )
        )(1.0)  # fmt: skip
    stateful = jaxelbo.algorithms.gradient_descent_with_state(lambda p, k, s: (p, s), optax.sgd(0.1))
    with pytest.raises(TypeError, match=r"gradient_descent_with_state starts from a pair \(params, state\), got"):
        jaxelbo.run_algorithm(jnp.ones(2), jax.random.key(0), stateful, num_steps=3)
    for step, message in (
        (lambda state, key: state, r"algorithm.step must return \(state, info\), got"),
        (lambda state, key: ((state > 0), None), "the state that algorithm.step returns must have dtype float32"),
    ):
        bad = jaxelbo.Algorithm(lambda params, key: params, step, lambda state: state)
        with pytest.raises(TypeError, match=message):
            jaxelbo.run_algorithm(jnp.ones(2), jax.random.key(0), bad, num_steps=3)

    class Unhashable:
        __hash__ = None

        def __call__(self, params, key):
            return params["b"]

    with pytest.raises(TypeError, match="loss_fn must be hashable to be compiled once; wrap it"):
        jaxelbo.fit(START, jax.random.key(0), Unhashable(), optax.sgd(0.1), num_steps=3)
