"""What goes wrong on the way: numbers that are not finite, full disks, spoiled files, Ctrl-C, keys used twice."""

import errno
import functools
import os
import signal
import stat
import threading
import time
import warnings

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxelbo
from jaxelbo import algorithms, checkpoints

KEY = jax.random.key(5)
NUM_STEPS = 30
FAMILY = jaxelbo.families.mean_field(jnp.zeros(2))
START = FAMILY.init(jax.random.key(1))
OPTIMIZER = optax.adam(0.1)
NO_KEY = jnp.zeros(2, jnp.uint32)


@jax.custom_vjp
def with_gradient(x, factor):
    """The number as it is, its gradient times the factor."""
    return x


with_gradient.defvjp(lambda x, factor: (x, factor), lambda factor, g: (g * factor, None))


def log_joint(z, shift=0.0):
    return jnp.sum(-0.5 * (z - jnp.asarray([1.0, -1.0])) ** 2) + shift


def step_key(step):
    """The documented key of that step, as numbers."""
    return jax.random.key_data(jax.random.fold_in(jax.random.split(KEY, 3)[2], step))


def loss_of(where):
    """The negative bound; at the step whose key is ``at`` something is ``bad``."""

    def loss_fn(params, key, at, bad):
        is_now = jnp.all(jax.random.key_data(key) == at)
        fault = jnp.where(is_now, bad, 0.0)
        if where == "one sample":

            def of_sample(key, index):
                model = lambda z: log_joint(z, jnp.where(index == 2, fault, 0.0))
                return jaxelbo.elbo(params, key, model, FAMILY, num_samples=1)

            return -jnp.mean(jax.vmap(of_sample)(jax.random.split(key, 4), jnp.arange(4)))
        loss = -jaxelbo.elbo(params, key, log_joint, FAMILY, num_samples=4)
        if where == "gradient":
            return with_gradient(loss, jnp.where(is_now, bad, 1.0))
        return loss + fault

    return loss_fn


LOSSES = {where: loss_of(where) for where in ("loss", "gradient", "one sample")}


@functools.cache
def by_hand(where):
    """A step at a time; the step at fault is left out, with its key."""
    value_and_grad = jax.jit(jax.value_and_grad(lambda params, key: LOSSES[where](params, key, NO_KEY, 0.0)))
    update = jax.jit(lambda params, state, gradient: _updated(params, *OPTIMIZER.update(gradient, state, params)))

    def run(at_fault):
        params, state, losses = START, OPTIMIZER.init(START), []
        for step in range(NUM_STEPS):
            loss, gradient = value_and_grad(params, jax.random.wrap_key_data(step_key(step)))
            losses.append(float(loss))
            if step != at_fault:
                params, state = update(params, state, gradient)
        return params, state, losses

    return run


def _updated(params, updates, state):
    return optax.apply_updates(params, updates), state


@pytest.mark.parametrize("where", LOSSES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("step", [1, 13, NUM_STEPS - 1])
def test_a_fault_at_any_step_is_undone(where, bad, step):
    """Params, optimiser state and count are those of the loop by hand; the same in one scan, in chunks and in jit."""
    run = functools.partial(jaxelbo.fit, START, KEY, LOSSES[where], OPTIMIZER, num_steps=NUM_STEPS)
    data = (step_key(step), bad)
    plain = run(data=data)
    chunked = run(data=data, callback=lambda progress: None, report_every=7)
    chex.assert_trees_all_equal(*(jax.tree.map(np.asarray, result) for result in (plain, chunked)))
    inside = compiled_fit(where)(*data)
    params, state, losses = by_hand(where)(step)
    for result in (plain, inside):
        assert result.num_skipped == 1
        chex.assert_trees_all_close(result.params, params, rtol=1e-4, atol=1e-6)
        chex.assert_trees_all_close(result.algorithm_state.optimizer_state, state, rtol=1e-4, atol=1e-6)
        finite = np.delete(np.arange(NUM_STEPS), step)
        np.testing.assert_allclose(result.history.loss[finite], np.asarray(losses)[finite], rtol=1e-3, atol=1e-5)
        assert where == "gradient" or not np.isfinite(result.history.loss[step])


@functools.cache
def compiled_fit(where):
    run = functools.partial(jaxelbo.fit, START, KEY, LOSSES[where], OPTIMIZER, num_steps=NUM_STEPS)
    return jax.jit(lambda *data: run(data=data))


@pytest.mark.parametrize("where", LOSSES)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_fault_at_the_first_step(where, bad):
    """`fit` asks for a sound start; any other algorithm, and `fit` inside jit, goes on."""
    data = (step_key(0), bad)
    for options in ({}, {"callback": lambda progress: None}):
        with pytest.raises(ValueError, match="at the start"):
            jaxelbo.fit(START, KEY, LOSSES[where], OPTIMIZER, num_steps=NUM_STEPS, data=data, **options)
    algorithm = algorithms.gradient_descent(LOSSES[where], OPTIMIZER)
    outside = jaxelbo.run_algorithm(START, KEY, algorithm, num_steps=NUM_STEPS, data=data)
    for result in (outside, compiled_fit(where)(*data)):
        assert result.num_skipped == 1
        chex.assert_trees_all_close(result.params, by_hand(where)(0)[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_bad_row_costs_the_batches_that_hold_it(bad):
    """One an epoch; and after all of them params are what the other batches make of them."""
    rows = np.linspace(-1.0, 1.0, 12, dtype=np.float32)
    rows[7] = bad

    def loss_fn(params, key, rows):
        return jnp.mean((rows - params) ** 2), jnp.zeros(())

    seen = []

    def kept(params, key, state, rows):
        jax.debug.callback(lambda rows: seen.append(np.asarray(rows)), rows, ordered=True)
        return jnp.mean((rows - params) ** 2), state

    run = functools.partial(
        jaxelbo.fit, jnp.zeros(()), KEY, optimizer=optax.sgd(0.1), num_steps=15, data=(rows,), batch_size=4
    )
    plain_loss = lambda params, key, rows: loss_fn(params, key, rows)[0]
    # The rows of each step, one step a chunk, so that no step is taken twice but those at fault.
    jaxelbo.fit(
        jnp.zeros(()), KEY, kept, optax.sgd(0.1), num_steps=15, data=(np.arange(12, dtype=np.float32),), batch_size=4,
        state=0.0,
    )  # fmt: skip
    batches, params = [rows[batch.astype(int)] for batch in seen], 0.0
    for batch in batches:
        if np.all(np.isfinite(batch)):
            params -= 0.1 * 2 * np.mean(params - batch)
    at_fault = [step for step, batch in enumerate(batches) if not np.all(np.isfinite(batch))]
    assert len(at_fault) == 5  # epochs of three batches
    if at_fault[0] == 0:
        pytest.fail("choose a key whose first batch is sound")
    for options in ({}, {"callback": lambda progress: None, "report_every": 4}):
        result = run(loss_fn=plain_loss, **options)
        assert result.num_skipped == 5
        np.testing.assert_array_equal(np.flatnonzero(~np.isfinite(result.history.loss)), at_fault)
        np.testing.assert_allclose(result.params, params, rtol=1e-5)
    inside = jax.jit(lambda: run(loss_fn=plain_loss))()
    assert inside.num_skipped == 5
    np.testing.assert_allclose(inside.params, params, rtol=1e-5)


def simple_loss(params, key):
    return jnp.sum(params**2) + 0.1 * jnp.sum(params * jax.random.normal(key, (3,)))


def simple_fit(**options):
    return jaxelbo.fit(jnp.ones(3), KEY, simple_loss, OPTIMIZER, **({"num_steps": 60, "report_every": 10} | options))


def assert_same(one, other):
    chex.assert_trees_all_equal(*(jax.tree.map(np.asarray, tree) for tree in (one, other)))


def whole_fit():
    return jaxelbo.fit(jnp.ones(3), KEY, simple_loss, OPTIMIZER, num_steps=60)


@pytest.fixture
def eager(monkeypatch):
    """Checkpoints after each chunk."""
    monkeypatch.setattr(checkpoints, "_SECONDS_BETWEEN", 0.0)
    monkeypatch.setattr(checkpoints, "_TIMES_BETWEEN", 0.0)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux's device that is always full")
def test_a_full_disk_warns_and_the_run_goes_on(tmp_path, eager):
    """The kernel's own ENOSPC; once there is room again, the next write succeeds."""
    path = tmp_path / "run.npz"
    part = tmp_path / "run.npz.part"

    def wait_until(condition):
        end = time.monotonic() + 20.0
        while not condition() and time.monotonic() < end:
            time.sleep(0.01)
        assert condition()

    def callback(progress):
        wait_until(lambda: not part.is_symlink())  # the write before has failed, and cleaned up
        time.sleep(0.1)  # and its thread has said so, or the next would not begin
        if progress.step <= 30:
            assert not path.exists()
            part.symlink_to("/dev/full")
        if progress.step == 60:
            wait_until(path.exists)

    with pytest.warns(RuntimeWarning, match=r"run.npz was not written: .*No space left on device.* The run goes on"):
        result = simple_fit(checkpoint=path, callback=callback)
    assert_same(result, whole_fit())
    assert_same(simple_fit(checkpoint=path), result)


def test_a_disk_that_stays_full_leaves_the_old_file(tmp_path, eager, monkeypatch):
    path = tmp_path / "run.npz"
    simple_fit(checkpoint=path, callback=lambda progress: progress.step >= 60)
    before = path.read_bytes()

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoints.save(path, jnp.ones(3), "another")
    assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == ["run.npz"]
    other = tmp_path / "other.npz"
    with pytest.warns(RuntimeWarning, match="was not written") as caught:
        result = simple_fit(checkpoint=other)
    assert_same(result, whole_fit())
    assert len(caught) >= 2 and not other.exists()


def test_a_folder_that_cannot_be_written_is_an_error_before_the_first_step(tmp_path):
    never = lambda progress: pytest.fail("a step was taken")
    for path, reason in (
        (tmp_path / "nowhere" / "run.npz", "No such file"),
        (tmp_path, "it is a folder"),
        ("/sys/run.npz", "denied|not permitted|Read-only|No such file"),
    ):
        with pytest.raises(ValueError, match=f"checkpoint must be a file that can be written, got .*({reason})"):
            simple_fit(checkpoint=path, callback=never)
    if os.getuid():
        tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
        with pytest.raises(ValueError, match=r"checkpoint must be a file that can be written, got .*denied"):
            simple_fit(checkpoint=tmp_path / "run.npz", callback=never)
        tmp_path.chmod(stat.S_IRWXU)


def test_a_folder_that_becomes_read_only(tmp_path, eager, monkeypatch):
    path, after = tmp_path / "run.npz", []
    write = checkpoints._write

    def refused(*arguments):
        if after:
            raise OSError(errno.EROFS, "Read-only file system")
        return write(*arguments)

    monkeypatch.setattr(checkpoints, "_write", refused)
    with pytest.warns(RuntimeWarning, match="Read-only file system"):
        result = simple_fit(checkpoint=path, callback=lambda progress: after.extend([1] * (progress.step >= 30)))
    assert_same(result, whole_fit())
    monkeypatch.undo()
    assert_same(simple_fit(checkpoint=path), result)  # from the last file that was written


@pytest.mark.parametrize("kept", [0, 1, 100, -1])
def test_a_truncated_checkpoint_is_refused(tmp_path, kept):
    path = tmp_path / "run.npz"
    simple_fit(checkpoint=path)
    path.write_bytes(path.read_bytes()[:kept])
    content = path.read_bytes()
    with pytest.raises(ValueError, match=r"run.npz is no checkpoint, or a truncated one"):
        simple_fit(checkpoint=path)
    assert path.read_bytes() == content


def test_a_flipped_bit_is_refused(tmp_path):
    path = tmp_path / "run.npz"
    simple_fit(checkpoint=path)
    content = bytearray(path.read_bytes())
    with np.load(path) as file:
        bits = file["leaf 0"].tobytes()
    content[content.index(bits) + 1] ^= 16
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"run.npz is no checkpoint, or a truncated one"):
        simple_fit(checkpoint=path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_steps": 70}, "of another configuration: num_steps 60, and not num_steps 70"),
        ({"history_every": 2}, "of another configuration: history_every 1, and not history_every 2"),
        ({"key": jax.random.key(6)}, "of another configuration: key .*, and not key "),
        ({"params": jnp.zeros(3)}, "of another configuration: params .*, and not params "),
        ({"data": (1.0,), "loss_fn": lambda p, k, x: simple_loss(p, k)}, "of another configuration: data .*, and not"),
        ({"optimizer": optax.sgd(0.1)}, "holds another structure"),
    ],
)
def test_a_foreign_checkpoint_is_refused_by_name(tmp_path, change, message):
    path = tmp_path / "run.npz"
    simple_fit(checkpoint=path)
    content = path.read_bytes()
    arguments = {"params": jnp.ones(3), "key": KEY, "loss_fn": simple_loss, "optimizer": OPTIMIZER, "num_steps": 60}
    with pytest.raises(ValueError, match=f"run.npz .*{message}"):
        jaxelbo.fit(**(arguments | {"checkpoint": path} | change))
    assert path.read_bytes() == content


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "run.npz"
    np.savez(path, x=np.ones(3))
    with pytest.raises(ValueError, match="is no checkpoint"):
        simple_fit(checkpoint=path)
    checkpoints.save(path, {"x": 1.0}, "another program")
    with pytest.raises(ValueError, match="of another configuration: another program, and not num_steps 60"):
        simple_fit(checkpoint=path)


@pytest.fixture
def ctrl_c_is_heard():
    """A shell that starts the tests in the background has them ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupt_at(step):
    def callback(progress):
        if progress.step == step:
            signal.raise_signal(signal.SIGINT)

    return callback


@pytest.mark.parametrize("history_every", [1, 5])
def test_ctrl_c_returns_what_was_reached(tmp_path, history_every, ctrl_c_is_heard):
    run = functools.partial(simple_fit, history_every=history_every)
    path = tmp_path / "run.npz"
    with pytest.warns(RuntimeWarning, match="interrupted: the result is that of the first 30 of 60 steps") as caught:
        result = run(callback=interrupt_at(30), checkpoint=path)
    assert caught[0].filename == __file__
    ended = run(callback=lambda progress: progress.step >= 30)
    assert_same(result, ended)
    assert result.history.loss.shape == (30 // history_every,)
    assert_same(run(checkpoint=path), run(callback=lambda progress: None))  # and it goes on from there


def test_ctrl_c_from_outside_at_a_random_time(ctrl_c_is_heard):
    """A true signal while the steps are computed; the result is a whole number of chunks of the undisturbed run."""
    loss_fn = lambda params, key: simple_loss(params, key)
    run = functools.partial(jaxelbo.fit, jnp.ones(3), KEY, loss_fn, OPTIMIZER, num_steps=2_000_000, report_every=1_000)
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))

    def callback(progress):
        if progress.step == 1_000:
            timer.start()

    with pytest.warns(RuntimeWarning, match="interrupted: the result is that of the first .* of 2000000 steps"):
        result = run(callback=callback)
    num_steps = len(result.history.loss)
    assert num_steps % 1_000 == 0 and 1_000 <= num_steps < 2_000_000
    assert_same(result, run(callback=lambda progress: progress.step >= num_steps))


def test_ctrl_c_before_anything_was_reached():
    def loss_fn(params, key):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        jaxelbo.fit(jnp.ones(3), KEY, loss_fn, OPTIMIZER, num_steps=60, callback=lambda progress: None)


def test_an_error_in_the_callback_is_raised_and_the_run_kept(tmp_path):
    """With the last chunk whose report went well."""

    def callback(progress):
        if progress.step == 40:
            raise ZeroDivisionError

    path = tmp_path / "run.npz"
    with pytest.raises(ZeroDivisionError):
        simple_fit(callback=callback, checkpoint=path)
    seen = []
    assert_same(simple_fit(callback=lambda progress: seen.append(progress.step), checkpoint=path), whole_fit())
    assert seen == [40, 50, 60]


def test_evaluation_and_training_share_no_key():
    """All keys that a run uses, read as numbers: those of the steps are documented, that of evaluations is none."""
    trained, evaluated = [], []

    def loss_fn(params, key):
        jax.debug.callback(lambda data: trained.append(tuple(np.asarray(data).tolist())), jax.random.key_data(key))
        return params**2

    def evaluate_fn(params, key):
        jax.debug.callback(lambda data: evaluated.append(tuple(np.asarray(data).tolist())), jax.random.key_data(key))
        return -(params**2)

    descent = algorithms.gradient_descent(loss_fn, optax.sgd(0.1))
    jaxelbo.run_algorithm(jnp.ones(()), KEY, algorithms.best(descent, evaluate_fn, every=2), num_steps=8)
    jax.effects_barrier()
    assert set(trained) == {tuple(np.asarray(step_key(step)).tolist()) for step in range(8)}
    # Nor is it one from which others are derived.
    numbers = lambda keys: {tuple(row) for row in np.asarray(jax.random.key_data(keys)).reshape(-1, 2).tolist()}
    parents = numbers(KEY) | numbers(jax.random.split(KEY, 3))
    assert len(evaluated) == 4 and len(set(evaluated)) == 1 and not set(evaluated) & (set(trained) | parents)
    trained.clear(), evaluated.clear()
    jaxelbo.fit_restarts(jnp.ones(3), KEY, loss_fn, optax.sgd(0.1), evaluate_fn, num_steps=8)
    jax.effects_barrier()
    fits = jax.random.split(jax.random.split(KEY)[0], 3)
    parents = numbers(KEY) | numbers(fits) | numbers(jax.vmap(lambda key: jax.random.split(key, 3))(fits))
    assert len(set(trained)) == 24 and len(set(evaluated)) == 1 and not set(evaluated) & (set(trained) | parents)


def test_warnings_can_be_errors(tmp_path, monkeypatch):
    """Who asks for it is stopped by a full disk."""

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoints, "_write", full)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RuntimeWarning, match="No space left"):
            simple_fit(checkpoint=tmp_path / "run.npz")
