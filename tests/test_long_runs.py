"""Long runs: the same numbers however they are cut, thinned, watched, killed and resumed; what is kept of iterates."""

import functools
import os
import pathlib
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxelbo
from jaxelbo import algorithms, checkpoints

TARGET = jnp.asarray([1.0, -2.0])
START = {"a": jnp.zeros(2), "b": jnp.ones(())}
KEY = jax.random.key(6)
ROWS = jnp.linspace(-1.0, 1.0, 11)
OPTIMIZER = optax.adam(0.1)


def noisy_loss(params, key, rows):
    noise = jax.random.normal(key, (2,))
    return jnp.sum((params["a"] - TARGET + 0.1 * noise) ** 2) + params["b"] ** 4 + jnp.mean(rows) * params["b"]


def loss_with_accident(params, key, rows):
    """NaN at roughly a fifth of the steps."""
    return jnp.where(jax.random.uniform(key) < 0.2, jnp.nan, noisy_loss(params, key, rows))


LOSSES = pytest.mark.parametrize("loss_fn", [noisy_loss, loss_with_accident])


def fit(loss_fn=noisy_loss, **options):
    options = {"num_steps": 60, "data": (ROWS,), "batch_size": 4} | options
    return jaxelbo.fit(START, KEY, loss_fn, OPTIMIZER, **options)


def assert_same(one, other):
    chex.assert_trees_all_equal(*(jax.tree.map(np.asarray, tree) for tree in (one, other)))


def thinned(result, every):
    return result._replace(history=jax.tree.map(lambda leaf: leaf[::every], result.history))


class Killed(Exception):
    """Stands for the end of the process."""


def killed_at(step):
    def callback(progress):
        if progress.step >= step:
            raise Killed

    return callback


@LOSSES
@pytest.mark.parametrize("every", [2, 7, 60, 100])
def test_history_keeps_each_nth_step(loss_fn, every):
    """Bitwise, in one scan and in chunks, steps that are undone among them."""
    whole = thinned(fit(loss_fn), every)
    assert_same(fit(loss_fn, history_every=every), whole)
    seen = []
    assert_same(fit(loss_fn, history_every=every, callback=seen.append, report_every=2 * every), whole)
    np.testing.assert_array_equal(np.concatenate([report.history.loss for report in seen]), whole.history.loss)
    inside = jax.jit(lambda: fit(loss_fn, history_every=every))()
    chex.assert_trees_all_close(inside, whole, rtol=1e-4)
    assert inside.num_skipped == whole.num_skipped


def test_a_thinned_history_takes_less_memory_on_the_device():
    """By the compiler's own account: of 10,000 steps with infos of 1,000 numbers, 40 MB, a hundredth is left."""
    from jaxelbo import stepping

    algorithm = jaxelbo.Algorithm(
        lambda params, key: params,
        lambda state, key: (0.9 * state, jnp.full(1_000, jnp.sum(state))),
        lambda state: state,
    )
    sizes = []
    for every in (1, 100):
        program = stepping.compiled(stepping.run, algorithm, None, 10_000, every, stepping.PLAIN)
        memory = program.lower(jnp.ones(3), KEY, ()).compile().memory_analysis()
        sizes.append(memory.output_size_in_bytes + memory.temp_size_in_bytes)
    assert sizes[0] > 40e6 and sizes[1] < 0.03 * sizes[0]


@LOSSES
@pytest.mark.parametrize("every", [1, 7])
def test_a_checkpoint_changes_no_number(tmp_path, loss_fn, every):
    plain = fit(loss_fn, history_every=every)
    path = tmp_path / "run.npz"
    assert_same(fit(loss_fn, history_every=every, checkpoint=path), plain)
    assert [file.name for file in tmp_path.iterdir()] == ["run.npz"]
    assert_same(fit(loss_fn, history_every=every, checkpoint=str(path)), plain)  # it is over, and read back


@LOSSES
@pytest.mark.parametrize("every", [1, 7])
@pytest.mark.parametrize(("step", "chunks"), [(14, (7, 7)), (28, (14, 21)), (42, (7, None)), (60, (7, 14))])
def test_a_resumed_run_ends_the_same(tmp_path, monkeypatch, loss_fn, every, step, chunks):
    """Whatever the chunks before and after."""
    monkeypatch.setattr(checkpoints, "_SECONDS_BETWEEN", 0.0)
    path = tmp_path / "run.npz"
    with pytest.raises(Killed):
        fit(loss_fn, history_every=every, callback=killed_at(step), report_every=chunks[0], checkpoint=path)
    seen = []
    resumed = fit(loss_fn, history_every=every, callback=seen.append, report_every=chunks[1], checkpoint=path)
    assert_same(resumed, fit(loss_fn, history_every=every))
    assert 0 < seen[0].step - chunks[0] < 60


def test_nothing_is_computed_again(tmp_path):
    """After the end, be it the last step or the callback's word."""
    path = tmp_path / "run.npz"
    ended = fit(checkpoint=path, callback=lambda progress: progress.step >= 20, report_every=5)
    assert ended.history.loss.shape == (20,)
    assert_same(fit(checkpoint=path, callback=lambda progress: pytest.fail("called")), ended)


def test_a_resumed_run_compiles_no_other_program(tmp_path):
    """The loss is traced once for all: whole run, killed run, resumed run and the look at a finished one."""
    loss_fn = chex.assert_max_traces(noisy_loss, n=1)
    fit(loss_fn, checkpoint=tmp_path / "whole.npz")
    path = tmp_path / "run.npz"
    with pytest.raises(Killed):
        fit(loss_fn, checkpoint=path, callback=killed_at(20))
    fit(loss_fn, checkpoint=path)
    fit(loss_fn, checkpoint=path)


@pytest.mark.parametrize(
    "optimizer",
    [optax.lbfgs(), optax.chain(optax.adam(optax.cosine_decay_schedule(0.1, 60)), optax.ema(0.9))],
    ids=["lbfgs", "schedule"],
)
def test_optimisers_resume_with_their_state(tmp_path, optimizer):
    loss_fn = lambda params, key: jnp.sum((params - TARGET) ** 2) + jnp.sum(params**4)
    run = functools.partial(jaxelbo.fit, jnp.zeros(2), KEY, loss_fn, optimizer, num_steps=60)
    path = tmp_path / "run.npz"
    with pytest.raises(Killed):
        run(checkpoint=path, callback=killed_at(30), report_every=6)
    assert_same(run(checkpoint=path), run())


def test_states_of_any_dtype_resume(tmp_path, dtype):
    """Python's numbers, which take the dtype of what they meet, bfloat16 and keys among them."""
    algorithm = jaxelbo.Algorithm(
        lambda params, key: {"x": params.astype(jnp.bfloat16), "weak": 1.0, "weaks": jnp.full(2, 0.5), "key": key},
        lambda state, key: (
            state | {"x": state["x"] * state["weak"] + state["weaks"], "key": key},
            (state["x"], jnp.sum(state["x"] * 1.0)),
        ),
        lambda state: state["x"],
    )  # fmt: skip
    path, seen = tmp_path / "run.npz", []
    run = functools.partial(jaxelbo.run_algorithm, jnp.ones(2), KEY, algorithm, num_steps=9, report_every=3)
    with pytest.raises(Killed):
        run(checkpoint=path, callback=killed_at(6))
    resumed = run(checkpoint=path, callback=seen.append)
    whole = jaxelbo.run_algorithm(jnp.ones(2), KEY, algorithm, num_steps=9)
    assert seen[0].step == 6 and resumed.params.dtype == jnp.bfloat16
    for one, other in zip(jax.tree.leaves(resumed), jax.tree.leaves(whole), strict=True):
        assert one.dtype == other.dtype
    without = lambda result: (result.params, result.history, jax.random.key_data(result.algorithm_state["key"]))
    assert_same(without(resumed), without(whole))


SCRIPT = pathlib.Path(__file__).parent / "killed_runs.py"


@pytest.mark.slow
def test_killed_twenty_times_and_resumed(tmp_path):
    """SIGKILL at random times, some while the file is written; the end is that of a run that nothing disturbed."""
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(pathlib.Path(__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, SCRIPT, tmp_path], env=environment, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    whole, resumed = (np.load(tmp_path / name) for name in ("whole.npy.npz", "resumed.npy.npz"))
    assert sorted(whole.files) == sorted(resumed.files) and "history" in whole.files
    for name in whole.files:
        np.testing.assert_array_equal(whole[name], resumed[name])
    begins, parts = np.loadtxt(tmp_path / "begins", dtype=int).T
    assert len(begins) == 21 and np.all(np.diff(begins) >= 0)
    assert len(set(begins)) > 10, f"the runs began behind steps {begins}"
    assert parts.any(), "no kill came while the file was written"


def test_the_average_is_that_of_the_last_iterates():
    descent = algorithms.gradient_descent(noisy_loss, optax.sgd(0.1))
    run = functools.partial(jaxelbo.run_algorithm, START, KEY, num_steps=40, data=(ROWS,))
    seen = []
    run(descent, callback=seen.append, report_every=1)
    result = run(algorithms.averaged(descent, first_step=30))
    iterates = [report.params for report in seen]
    expected = jax.tree.map(lambda *leaves: np.mean(leaves, axis=0), *iterates[30:])
    chex.assert_trees_all_close(result.params, expected, rtol=1e-5)
    chex.assert_trees_all_close(result.algorithm_state.inner.params, iterates[-1], rtol=1e-6)
    before = run(algorithms.averaged(descent, first_step=50))
    chex.assert_trees_all_close(before.params, iterates[-1], rtol=1e-6)


def test_averaging_lowers_the_noise():
    """Of iterates that are an autoregression of coefficient 0.5, whose average has 3 times the variance / m."""
    loss_fn = lambda params, key: 0.5 * jnp.sum((params - jax.random.normal(key, (2_000,))) ** 2)
    averaged = algorithms.averaged(algorithms.gradient_descent(loss_fn, optax.sgd(0.5)), first_step=100)
    result = jaxelbo.run_algorithm(jnp.zeros(2_000), KEY, averaged, num_steps=400)
    # Stationary variance 0.25 / (1 - 0.25) = 1/3; that of the mean of 300 is (1/3) (1 + 0.5) / (1 - 0.5) / 300.
    np.testing.assert_allclose(np.var(result.params), 1 / 300, rtol=0.12)
    np.testing.assert_allclose(np.var(result.algorithm_state.inner.params), 1 / 3, rtol=0.12)


def test_steps_undone_are_no_part_of_the_average():
    key_steps = jax.random.split(KEY, 3)[2]

    def loss_fn(params, key, bad):
        is_bad = jnp.any(jnp.all(jax.random.key_data(key)[None] == bad, axis=1))
        return jnp.where(is_bad, jnp.nan, params**2)

    bad = jnp.stack([jax.random.key_data(jax.random.fold_in(key_steps, step)) for step in (3, 7)])
    averaged = algorithms.averaged(algorithms.gradient_descent(loss_fn, optax.sgd(0.05)), first_step=2)
    result = jaxelbo.run_algorithm(jnp.ones(()), KEY, averaged, num_steps=12, data=(bad,))
    assert result.num_skipped == 2 and result.algorithm_state.count == 10
    np.testing.assert_allclose(result.params, np.mean(0.9 ** np.arange(3, 11)), rtol=1e-5)


def test_the_best_iterate_is_the_best_of_those_looked_at():
    """A path that overshoots; NaN and inf among the values."""
    descent = algorithms.gradient_descent(lambda params, key: -params, optax.sgd(1.0))

    def evaluate_fn(params, key):
        value = -((params - 7.4) ** 2)
        return jnp.where(params == 9.0, jnp.inf, jnp.where(params == 6.0, jnp.nan, value))

    run = functools.partial(jaxelbo.run_algorithm, jnp.zeros(()), KEY, num_steps=20)
    result = run(algorithms.best(descent, evaluate_fn, every=3))
    looked_at = {step: -((step - 7.4) ** 2) for step in range(3, 21, 3) if step not in (6, 9)}
    assert result.params == result.algorithm_state.step == max(looked_at, key=looked_at.get)
    np.testing.assert_allclose(result.algorithm_state.value, max(looked_at.values()), rtol=1e-6)
    assert result.algorithm_state.inner.params == 20.0
    never = run(algorithms.best(descent, lambda params, key: params * jnp.nan, every=1))
    assert never.params == 20.0 and never.num_skipped == 0


def test_the_best_iterate_is_in_the_checkpoint(tmp_path):
    algorithm = algorithms.best(
        algorithms.gradient_descent(noisy_loss, optax.sgd(0.3)),
        lambda params, key: -jnp.sum((params["a"] - TARGET) ** 2), every=1,
    )  # fmt: skip
    run = functools.partial(jaxelbo.run_algorithm, START, KEY, algorithm, num_steps=60, data=(ROWS,))
    path = tmp_path / "run.npz"
    with pytest.raises(Killed):
        run(checkpoint=path, callback=killed_at(50), report_every=10)
    whole, resumed = run(), run(checkpoint=path)
    assert_same(resumed.params, whole.params)
    assert resumed.algorithm_state.step == whole.algorithm_state.step


def test_restarts_keep_the_best_on_held_out_values():
    """Each is the fit by itself, with its own key; the value is that of the held-out data."""

    def loss_fn(params, key, shift):
        return (params**2 - 1.0) ** 2 + 0.01 * params * jax.random.normal(key) + 0 * shift

    starts = jnp.asarray([-2.0, 0.5, jnp.nan, 3.0, jnp.inf])
    evaluate_fn = lambda params, key, goal: -((params - goal) ** 2)
    run = functools.partial(
        jaxelbo.fit_restarts, starts, KEY, loss_fn, optax.adam(0.05), evaluate_fn, num_steps=200, data=(0.0,)
    )
    for goal, wanted in ((-1.0, {0}), (1.0, {1, 3})):
        result = run(held_out=(goal,))
        assert int(result.index) in wanted
        assert result.index == np.argmax(np.where(np.isfinite(result.values), result.values, -np.inf))
        np.testing.assert_allclose(result.best.params, goal, atol=0.05)
        np.testing.assert_allclose(result.values[result.index], -((result.best.params - goal) ** 2), rtol=1e-3)
    assert result.num_skipped.tolist() == [0, 0, 200, 0, 200] and not np.isfinite(result.values[2])
    keys = jax.random.split(jax.random.split(KEY)[0], 5)
    alone = jaxelbo.fit(starts[0], keys[0], loss_fn, optax.adam(0.05), num_steps=200, data=(0.0,))
    chex.assert_trees_all_close(run(held_out=(-1.0,)).best, alone, rtol=1e-4, atol=1e-6)
    inside = jax.jit(lambda: run(held_out=(-1.0,)))()
    assert inside.index == 0


def test_restarts_compile_once():
    loss_fn = chex.assert_max_traces(lambda params, key: params**2, n=1)
    optimizer, evaluate_fn = optax.sgd(0.1), lambda params, key: -(params**2)
    for seed in range(2):
        jaxelbo.fit_restarts(
            jnp.ones(3) + seed, jax.random.key(seed), loss_fn, optimizer, evaluate_fn, num_steps=3
        )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"history_every": 0}, ValueError, "history_every must be at least 1, got 0"),
        (
            {"history_every": 4, "report_every": 6, "callback": print},
            ValueError,
            "report_every must be a multiple of history_every, 4, got 6",
        ),
        ({"checkpoint": 3}, TypeError, "checkpoint must be the path of a file, got int 3"),
    ],
)
def test_bad_input(change, error, message):
    with pytest.raises(error, match=message):
        fit(**change)


def test_bad_restarts_and_wrappers():
    run = functools.partial(jaxelbo.fit_restarts, num_steps=3)
    loss_fn, sgd = lambda params, key: params**2, optax.sgd(0.1)
    with pytest.raises(ValueError, match=r"params must have a leading axis of at least one start, got shape \(\)"):
        run(1.0, KEY, loss_fn, sgd, loss_fn)
    with pytest.raises(TypeError, match="held_out must be a tuple, as in held_out="):
        run(jnp.ones(2), KEY, loss_fn, sgd, loss_fn, held_out=jnp.ones(2))
    with pytest.raises(ValueError, match="evaluate_fn must return a scalar, got shape"):
        run(jnp.ones(2), KEY, loss_fn, sgd, lambda params, key: jnp.ones(3))
    with pytest.raises(ValueError, match="none of the 2 fits ended with a finite value of evaluate_fn"):
        run(jnp.full(2, jnp.nan), KEY, loss_fn, sgd, loss_fn)
    descent = algorithms.gradient_descent(loss_fn, sgd)
    with pytest.raises(TypeError, match=r"algorithm must be a jaxelbo\.Algorithm, got"):
        algorithms.averaged(loss_fn, first_step=3)
    with pytest.raises(ValueError, match="first_step must be at least 0, got -1"):
        algorithms.averaged(descent, first_step=-1)
    with pytest.raises(ValueError, match="every must be at least 1, got 0"):
        algorithms.best(descent, loss_fn, every=0)
    with pytest.raises(TypeError, match="evaluate_fn must be a function, got NoneType"):
        algorithms.best(descent, None, every=1)
    with pytest.raises(ValueError, match="checkpoint cannot be written inside jit"):
        jax.jit(lambda key: jaxelbo.fit(START, key, noisy_loss, sgd, num_steps=3, data=(ROWS,), checkpoint="x.npz"))(
            KEY
        )


def test_the_bar_shows_rate_and_error(capsys):
    reports = [
        jaxelbo.Progress(step, 300, None, {"loss": np.asarray([1.0, 2.0, np.nan, 3.0])}, 1) for step in (100, 200, 300)
    ]
    with jaxelbo.progress_bar() as callback:
        for report in reports:
            callback(report)
    shown = " ".join(capsys.readouterr().out.split())
    assert "loss 2 ± 0.58" in shown  # the sd of 1, 2, 3 is 1, over the root of 3
    assert "steps/s" in shown and "1 skipped" in shown


def test_the_bar_changes_no_number(capsys):
    with jaxelbo.progress_bar() as callback:
        assert_same(fit(loss_with_accident, callback=callback), fit(loss_with_accident))


def test_average_and_best_inside_vmap():
    """Of fits of their own, with evaluations at some steps only."""

    def run(start):
        descent = algorithms.gradient_descent(lambda params, key: (params - 1.0) ** 2, optax.sgd(0.9))
        best = algorithms.best(descent, lambda params, key: params - 3 * jnp.abs(params - 1.5), every=3)
        averaged = algorithms.averaged(descent, first_step=4)
        return [jaxelbo.run_algorithm(start, KEY, each, num_steps=12).params for each in (best, averaged)]

    starts = jnp.asarray([-3.0, 0.4, 2.0])
    together, alone = jax.vmap(run)(starts), [run(start) for start in starts]
    chex.assert_trees_all_close(together, [jnp.stack(each) for each in zip(*alone, strict=True)], rtol=1e-6)
    iterates = 1.0 + (starts - 1.0)[None] * (-0.8) ** jnp.arange(13.0)[:, None]
    values = iterates - 3 * jnp.abs(iterates - 1.5)
    best = np.take_along_axis(np.asarray(iterates[3::3]), np.argmax(values[3::3], axis=0)[None], 0)[0]
    np.testing.assert_allclose(together[0], best, rtol=1e-5)
    np.testing.assert_allclose(together[1], jnp.mean(iterates[5:], axis=0), rtol=1e-5)
