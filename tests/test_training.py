"""Training by epochs: what a step sees, and a run that is interrupted and ends the same."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxelbo import checkpoints
from jaxelbo.attention import training

KEY = jax.random.key(0)
DATA = (jnp.arange(23.0), jnp.arange(23))
OPTIMIZER = optax.adam(0.1)


def loss_fn(params, key, state, x, index):
    noise = jax.random.normal(key)
    return jnp.mean((x - params) ** 2) + 0.1 * noise * params, (state + jnp.sum(index), {"first": params})


def run(**options):
    begin = training.start(jnp.zeros(()), OPTIMIZER, jnp.zeros((), int))
    arguments = {"num_epochs": 5, "batch_size": 4} | options
    return training.train(begin, KEY, loss_fn, OPTIMIZER, lambda epoch: DATA, **arguments)


def test_an_interrupted_run_ends_the_same(tmp_path):
    whole = run()

    def kill(state, metrics):
        if state.epoch == 3:
            raise KeyboardInterrupt

    path = tmp_path / "run.npz"
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint=path, configuration="a", callback=kill)
    seen = []
    resumed = run(checkpoint=path, configuration="a", callback=lambda state, metrics: seen.append(int(state.epoch)))
    assert seen == [4, 5]
    for leaf, like in zip(jax.tree.leaves(resumed), jax.tree.leaves(whole), strict=True):
        np.testing.assert_array_equal(leaf, like)
    assert run(checkpoint=path, configuration="a", callback=seen.append).epoch == 5 and seen == [4, 5]
    with pytest.raises(ValueError, match="another configuration"):
        run(checkpoint=path, configuration="b")


def test_every_row_once_an_epoch_but_for_the_last():
    """23 rows in batches of 4: 20 different rows, others in each epoch."""
    rows = []

    def counting(params, key, state, x, index):
        return jnp.sum(params * 0.0), (state, {"rows": jnp.zeros(23).at[index].add(1)})

    begin = training.start(jnp.zeros(()), OPTIMIZER)
    training.train(
        begin, KEY, counting, OPTIMIZER, lambda epoch: DATA, num_epochs=3, batch_size=4,
        callback=lambda state, metrics: rows.append(5 * np.asarray(metrics["rows"])),
    )  # fmt: skip
    assert all(np.sum(row) == 20 and np.max(row) == 1 for row in rows)
    assert not np.array_equal(rows[0], rows[1])


def test_state_and_steps():
    """The rule's state goes from step to step, the epochs are counted, data come anew for each."""
    asked = []

    def data_fn(epoch):
        asked.append(epoch)
        return (jnp.ones(4), jnp.full(4, epoch))

    begin = training.start(jnp.zeros(()), OPTIMIZER, jnp.zeros((), int))
    end = training.train(begin, KEY, loss_fn, OPTIMIZER, data_fn, num_epochs=3, batch_size=2)
    assert asked == [0, 1, 2] and end.epoch == 3 and end.rule_state == 4 * (0 + 1 + 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 24}, "batch_size must be at most the 23 rows"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"num_epochs": -1}, "num_epochs must be at least 0"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        run(**options)
    with pytest.raises(ValueError, match=r"arrays of one length, got lengths \[2, 3\]"):
        begin = training.start(jnp.zeros(()), OPTIMIZER, jnp.zeros((), int))
        data_fn = lambda epoch: (jnp.ones(2), jnp.ones(3, int))
        training.train(begin, KEY, loss_fn, OPTIMIZER, data_fn, num_epochs=1, batch_size=1)


@pytest.mark.parametrize("data_fn", [lambda epoch: jnp.ones(4), lambda epoch: (), lambda epoch: (jnp.ones(()),)])
def test_data_that_are_no_tuple_of_arrays(data_fn):
    begin = training.start(jnp.zeros(()), OPTIMIZER, jnp.zeros((), int))
    with pytest.raises(TypeError, match="data_fn must return a tuple of arrays"):
        training.train(begin, KEY, loss_fn, OPTIMIZER, data_fn, num_epochs=1, batch_size=1)


def test_an_epoch_that_is_not_finite_leaves_the_checkpoint_before_it(tmp_path):
    def data_fn(epoch):
        return (jnp.full(4, jnp.nan if epoch == 2 else 1.0), jnp.zeros(4, int))

    path = tmp_path / "run.npz"
    begin = training.start(jnp.zeros(()), OPTIMIZER, jnp.zeros((), int))
    options = {"num_epochs": 5, "batch_size": 2, "checkpoint": path, "configuration": "a"}
    with pytest.raises(FloatingPointError, match="epoch 3 ended with a loss or parameters that are not finite"):
        training.train(begin, KEY, loss_fn, OPTIMIZER, data_fn, **options)
    assert checkpoints.load(path, begin, "a").epoch == 2
    with pytest.raises(ValueError, match="checkpoint must lie in a folder that exists"):
        run(checkpoint=tmp_path / "nowhere" / "run.npz")
