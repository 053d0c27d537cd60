"""Data from an iterator of the host: the steps of data in memory, however they are cut, spoiled, killed and resumed."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxelbo
from jaxelbo import driving, streams

KEY = jax.random.key(3)
START = {"a": jnp.zeros(2), "b": jnp.ones(())}
BATCHES = np.random.default_rng(0).normal(size=(45, 3, 2)).astype(np.float32)
OPTIMIZER = optax.adam(0.1)


def loss_fn(params, key, rows):
    noise = 0.1 * jax.random.normal(key, (2,))
    return jnp.mean((rows - (params["a"] + noise)[None]) ** 2) + (params["b"] - jnp.mean(rows)) ** 2


def stream(batches=BATCHES):
    return ((batch,) for batch in batches)


def fit(data, **options):
    return jaxelbo.fit(START, KEY, loss_fn, OPTIMIZER, **({"num_steps": 45, "data": data} | options))


def in_memory(batches=BATCHES):
    """The loop that a user would write."""
    step = jax.jit(jax.value_and_grad(loss_fn))
    params, state, losses = START, OPTIMIZER.init(START), []
    for count in range(len(batches)):
        key = jax.random.fold_in(jax.random.split(KEY, 3)[2], count)
        loss, gradient = step(params, key, batches[count])
        losses.append(loss)
        if np.isfinite(loss):
            updates, state = OPTIMIZER.update(gradient, state, params)
            params = optax.apply_updates(params, updates)
    return params, np.asarray(losses)


def assert_same(one, other):
    chex.assert_trees_all_equal(*(jax.tree.map(np.asarray, tree) for tree in (one, other)))


def test_the_steps_of_data_in_memory():
    result = fit(stream())
    params, losses = in_memory()
    chex.assert_trees_all_close(result.params, params, rtol=1e-5)
    np.testing.assert_allclose(result.history.loss, losses, rtol=1e-5)
    assert result.num_skipped == 0


@pytest.mark.parametrize("every", [1, 4])
@pytest.mark.parametrize("chunk", [4, 12, 100])
def test_the_numbers_do_not_depend_on_the_chunks(every, chunk):
    whole, seen = fit(stream()), []
    result = fit(stream(), callback=seen.append, report_every=chunk, history_every=every)
    assert_same(result.params, whole.params)
    assert_same(result.history.loss, whole.history.loss[::every])
    assert [report.step for report in seen] == [*range(chunk, 45, chunk), 45]
    assert_same(np.concatenate([report.history.loss for report in seen]), result.history.loss)


def test_the_run_ends_where_the_batches_do():
    for count in (1, 20, 23):
        seen = []
        result = fit(stream(BATCHES[:count]), report_every=10, callback=seen.append)
        assert result.history.loss.shape == (count,) and seen[-1].step == count
        assert_same(result.params, fit(stream(), num_steps=count).params)


def test_no_more_is_read_than_a_chunk_ahead():
    read = []

    def counted():
        for index, batch in enumerate(BATCHES):
            read.append(index)
            yield (batch,)

    fit(counted(), num_steps=30, report_every=7)
    assert read == list(range(30))
    read.clear()
    fit(counted(), report_every=7, callback=lambda report: report.step >= 14)
    assert read == list(range(21))


@pytest.mark.parametrize("at_fault", [[9], [1, 2, 30], [44]])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_batch_is_undone_and_counted(at_fault, bad):
    batches = BATCHES.copy()
    batches[at_fault, 1, 0] = bad
    result = fit(stream(batches), report_every=10)
    params, losses = in_memory(batches)
    assert result.num_skipped == len(at_fault)
    chex.assert_trees_all_close(result.params, params, rtol=1e-5)
    np.testing.assert_array_equal(np.flatnonzero(~np.isfinite(result.history.loss)), at_fault)
    np.testing.assert_allclose(np.delete(result.history.loss, at_fault), np.delete(losses, at_fault), rtol=1e-5)


def test_a_bad_first_batch_is_an_error_that_names_the_leaves():
    batches = BATCHES.copy()
    batches[0] = np.nan
    with pytest.raises(ValueError, match=r"loss_fn is nan at the start; its gradient is not finite in params\['a'\]"):
        fit(stream(batches))


def test_an_iterator_that_fails_loses_no_chunk(tmp_path):
    """What was reached when the next chunk was read is in the checkpoint; Ctrl-C there returns it."""

    def failing(at, error):
        for index, batch in enumerate(BATCHES):
            if index == at:
                raise error
            yield (batch,)

    path = tmp_path / "run.npz"
    with pytest.raises(OSError, match="disk"):
        fit(failing(12, OSError("disk")), report_every=5, checkpoint=path)
    seen = []
    assert_same(fit(stream(), report_every=5, checkpoint=path, callback=seen.append), fit(stream()))
    assert seen[0].step == 15
    stop = lambda report: report.step >= 10  # where the run ends, what comes behind does not matter
    ended = fit(failing(12, OSError("disk")), report_every=5, callback=stop)
    assert ended.history.loss.shape == (10,)
    with pytest.warns(RuntimeWarning, match="interrupted: the result is that of the first 10 of 45 steps"):
        result = fit(failing(12, KeyboardInterrupt()), report_every=5)
    assert_same(result.params, fit(stream(), num_steps=10).params)


class Killed(Exception):
    """Stands for the end of the process."""


@pytest.mark.parametrize("chunk", [5, 20])
def test_a_killed_run_goes_on_with_the_batches_that_are_left(tmp_path, chunk):
    def kill(report):
        if report.step >= 20:
            raise Killed

    path = tmp_path / "run.npz"
    with pytest.raises(Killed):
        fit(stream(), callback=kill, report_every=5, checkpoint=path)
    with pytest.raises(ValueError, match="data must give again the 15 batches that came before the checkpoint"):
        fit(stream(BATCHES[:9]), checkpoint=path)
    with pytest.raises(ValueError, match="is a checkpoint of another configuration: data"):
        fit(stream(BATCHES + 1), checkpoint=path)
    assert_same(fit(stream(), checkpoint=path, report_every=chunk), fit(stream()))
    assert_same(fit(stream(), checkpoint=path), fit(stream()))  # it is over


def test_any_algorithm_and_any_pytree():
    """Typed keys and integers among the leaves; `init` sees the first batch."""
    algorithm = jaxelbo.Algorithm(
        lambda params, key, batch: params + batch["x"][0],
        lambda state, key, batch: (state * 0.5 + batch["x"][batch["n"]], jax.random.uniform(batch["key"])),
        lambda state: state,
    )
    batches = [({"x": np.arange(3.0) + t, "n": t % 3, "key": jax.random.key(t)},) for t in range(6)]
    result = jaxelbo.run_algorithm(jnp.zeros(()), KEY, algorithm, num_steps=6, data=iter(batches))
    expected = 0.0
    for t in range(6):
        expected = 0.5 * expected + t % 3 + t
    np.testing.assert_allclose(result.params, expected, rtol=1e-6)
    np.testing.assert_allclose(result.history, [jax.random.uniform(jax.random.key(t)) for t in range(6)], rtol=1e-6)


def test_large_batches_come_in_short_chunks(monkeypatch):
    """No more than the limit lies on the device at once."""
    monkeypatch.setattr(driving, "_BYTES_AHEAD", 10 * BATCHES[0].nbytes)
    lengths = []
    chunks = streams.chunks

    def watched(*arguments):
        for length, batch in chunks(*arguments):
            lengths.append(length)
            yield length, batch

    monkeypatch.setattr(streams, "chunks", watched)
    whole = fit(stream(np.tile(BATCHES, (100, 1, 1))), num_steps=4_500)
    assert max(lengths) == 10 and sum(lengths) == 4_500
    fit(stream(np.tile(BATCHES, (100, 1, 1))), num_steps=4_500, history_every=3)
    assert max(lengths) == 10 and lengths[-1] == 9 and whole.num_skipped == 0


def test_a_second_run_compiles_nothing():
    traced = chex.assert_max_traces(loss_fn, n=1)
    for _ in range(2):
        jaxelbo.fit(START, KEY, traced, OPTIMIZER, num_steps=40, data=stream(), report_every=10)


@pytest.mark.parametrize(
    ("data", "options", "error", "message"),
    [
        (iter([]), {}, ValueError, "data must give at least one batch, got none"),
        (iter(BATCHES), {}, TypeError, r"batch 0 of data must be a tuple, as in \(x, y\), got an array"),
        (iter([("rows",)]), {}, TypeError, r"batch 0 of data\[0\] must be an array or a number, got str 'rows'"),
        (
            iter([(BATCHES[0],), (BATCHES[1, :2],)]), {}, ValueError,
            r"batch 1 of data\[0\] must have shape \(3, 2\) for batch 0, got \(2, 2\)",
        ),
        (
            iter([(BATCHES[0],), (BATCHES[1].astype(int),)]), {}, TypeError,
            r"batch 1 of data\[0\] must have dtype float32 for batch 0, got int",
        ),
        (iter([(BATCHES[0],), (BATCHES[1], 1.0)]), {}, ValueError, "batch 1 of data must have the structure"),
        (stream(), {"batch_size": 2}, ValueError, "batch_size takes rows of arrays; data that come from an iterator"),
        (list(stream()), {}, TypeError, "data must be a tuple, as in .*, or an iterator of such tuples, got list"),
    ],
)  # fmt: skip
def test_bad_input(data, options, error, message):
    with pytest.raises(error, match=message):
        fit(data, **options)


def test_inside_jit_it_is_refused():
    with pytest.raises(ValueError, match="data cannot be read from an iterator inside jit, vmap or grad"):
        jax.jit(lambda key: jaxelbo.fit(START, key, loss_fn, OPTIMIZER, num_steps=3, data=stream()))(KEY)
    with pytest.raises(ValueError, match="data cannot be read from an iterator inside jit, vmap or grad"):
        jax.grad(
            lambda shift: functools.partial(jaxelbo.fit, START, KEY, optimizer=OPTIMIZER, num_steps=3, data=stream())(
                loss_fn=lambda params, key, rows: shift * loss_fn(params, key, rows)
            ).params["b"]
        )(1.0)
