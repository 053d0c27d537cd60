"""A run that is killed twenty times and begun again each time; a script of `test_long_runs`, its argument a folder.

jax is imported once and the runs are forks, so that most of the time is spent on steps, not on imports.
"""

import os
import pathlib
import random
import signal
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxelbo
from jaxelbo import checkpoints

NUM_STEPS, CHUNK, KILLS = 100_000, 50, 20


def loss_fn(params, key, ballast, rows):
    noise = jax.random.normal(key, params.shape)
    accident = jnp.where(jax.random.uniform(key) < 0.001, jnp.nan, 0.0)
    return jnp.mean((rows - params) ** 2) + 0.1 * jnp.sum(noise * params) + accident, ballast


def run(**options):
    # The state is ballast: 4 MB, so that many kills come while the file is written.
    rows = jnp.arange(96.0).reshape(32, 3)
    return jaxelbo.fit(
        jnp.zeros(3), jax.random.key(0), loss_fn, optax.adam(1e-3), num_steps=NUM_STEPS, data=(rows,), batch_size=5,
        state=jnp.arange(1e6), **options,
    )  # fmt: skip


def save(path, result):
    leaves = jax.tree.leaves((result.params, result.num_skipped, result.algorithm_state))
    arrays = {f"leaf {index}": np.asarray(leaf) for index, leaf in enumerate(leaves)}
    np.savez(path, history=np.asarray(result.history.loss), **arrays)


def watched(folder, pipe, pause):
    """The run with a checkpoint as often as can be, which says through the pipe that it has begun."""
    checkpoints._SECONDS_BETWEEN = checkpoints._TIMES_BETWEEN = 0.0
    has_begun = False
    has_part = (folder / "run.npz.part").exists()  # the kill before came in the middle of a write

    def callback(progress):
        nonlocal has_begun
        if not has_begun:
            has_begun = True
            with (folder / "begins").open("a") as file:
                file.write(f"{progress.step - CHUNK} {int(has_part)}\n")
            os.write(pipe, b"x")
        time.sleep(pause)

    save(folder / "resumed.npy", run(callback=callback, report_every=CHUNK, checkpoint=folder / "run.npz"))


def forked(function, *arguments):
    process = os.fork()
    if process == 0:
        try:
            function(*arguments)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return process


def begun(folder, pause):
    """A run, handed back when its first chunk is done."""
    reading, writing = os.pipe()
    process = forked(watched, folder, writing, pause)
    os.close(writing)
    assert os.read(reading, 1), "the run ended before it began"
    os.close(reading)
    return process


def main(folder):
    times = random.Random(7)
    for _ in range(KILLS):
        process = begun(folder, 0.005)
        time.sleep(times.uniform(0.0, 0.8))
        os.kill(process, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL, "it was over before the kill"
    for process in (begun(folder, 0.0), forked(lambda: save(folder / "whole.npy", run()))):
        assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
