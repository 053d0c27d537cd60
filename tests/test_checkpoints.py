"""Checkpoints: bit for bit, whole or not at all, and refused by name where they do not fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxelbo import checkpoints

TREE = {
    "weights": [jnp.arange(6.0).reshape(2, 3) / 7, jnp.zeros((0,), jnp.int32)],
    "typed": jax.random.split(jax.random.key(3), 2),
    "raw": jax.random.PRNGKey(3),
    "count": jnp.asarray(5, jnp.int32),
}


def test_what_is_read_is_what_was_written(tmp_path):
    path = tmp_path / "state.npz"
    checkpoints.save(path, TREE, "one")
    read = checkpoints.load(path, jax.tree.map(jnp.zeros_like, TREE), "one")
    assert jax.tree.structure(read) == jax.tree.structure(TREE)
    for leaf, like in zip(jax.tree.leaves(read), jax.tree.leaves(TREE), strict=True):
        assert leaf.dtype == like.dtype
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        np.testing.assert_array_equal(*((jax.random.key_data(x) if is_key else x) for x in (leaf, like)))
    assert jax.random.normal(read["typed"][0]) == jax.random.normal(TREE["typed"][0])
    assert [file.name for file in tmp_path.iterdir()] == ["state.npz"]


def test_a_kill_while_writing_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "state.npz"
    checkpoints.save(path, TREE, "one")

    def killed(file, **arrays):
        file.write(b"half a file")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(path, TREE, "one")
    assert checkpoints.load(path, TREE, "one")["count"] == 5


@pytest.mark.parametrize(
    ("spoil", "like", "configuration", "error", "message"),
    [
        (lambda path: path.unlink(), TREE, "one", FileNotFoundError, "there is no checkpoint"),
        (lambda path: path.write_bytes(path.read_bytes()[:-30]), TREE, "one", ValueError, "or a truncated one"),
        (lambda path: path.write_bytes(b""), TREE, "one", ValueError, "is no checkpoint"),
        (lambda path: None, TREE, "two", ValueError, "of another configuration: one, and not two"),
        (lambda path: None, TREE | {"more": 1.0}, "one", ValueError, "holds another structure"),
        (lambda path: None, TREE | {"count": 1.0}, "one", ValueError, r"\['count'\] int32 \(\)"),
    ],
)
def test_files_that_do_not_fit(tmp_path, spoil, like, configuration, error, message):
    path = tmp_path / "state.npz"
    checkpoints.save(path, TREE, "one")
    spoil(path)
    with pytest.raises(error, match=message):
        checkpoints.load(path, like, configuration)


def test_leaves_that_are_no_arrays(tmp_path):
    with pytest.raises(TypeError, match=r"tree\['x'\] must be an array"):
        checkpoints.save(tmp_path / "state.npz", {"x": "text"}, "one")


@pytest.mark.parametrize(
    "values", [np.arange(24.0), np.arange(24), np.arange(24) % 3 == 0, np.arange(24, dtype=np.int8)]
)
def test_a_digest_sees_each_bit_and_each_place(values):
    for array in (values, jnp.asarray(values)):
        of_array = checkpoints.digest(array)
        assert of_array == checkpoints.digest(jnp.asarray(values))
        for other in (array[::-1], array.reshape(4, 6), array[:-1], array.astype(np.float16), {"a": array}):
            assert checkpoints.digest(other) != of_array
    found = set()
    for place in range(24):
        for bit in range(8 * values.itemsize if values.dtype != bool else 1):
            raw = bytearray(np.asarray(values).tobytes())
            raw[place * values.itemsize + bit // 8] ^= 1 << bit % 8
            with jax.enable_x64(True):
                found.add(checkpoints.digest(np.frombuffer(bytes(raw), values.dtype)))
    with jax.enable_x64(True):
        found.add(checkpoints.digest(values))
    assert len(found) == 24 * (8 * values.itemsize if values.dtype != bool else 1) + 1
