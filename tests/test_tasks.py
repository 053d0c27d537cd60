"""Tasks: what is shown in training, what is tested, and scores in chunks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxelbo.attention import digit_files, seeds, tasks

# Digits told apart by their brightness: those to train on below one half, those of the test above.
TRAIN = digit_files.Digits(np.linspace(0.1, 0.4, 30, dtype=np.float32)[:, None, None] * np.ones((1, 8, 8), np.float32),
                           np.arange(30, dtype=np.int32) % 10)  # fmt: skip
TEST = digit_files.Digits(0.5 + TRAIN.images[:7], TRAIN.labels[:7])


@pytest.mark.parametrize("name", [name for name in tasks.NAMED if name != "digits"])
def test_test_canvases_are_of_test_digits_and_the_same_for_everybody(name):
    task, again = (tasks.NAMED[name](TRAIN, TEST) for _ in range(2))
    np.testing.assert_array_equal(task.test_images, again.test_images)
    shown, trained = task.test_images[task.test_images > 0], task.epoch(0, 0)[0]
    assert shown.min() > 127 and trained[trained > 0].max() < 127
    assert task.test_images.shape == (7, task.image_size, task.image_size) and len(trained) == task.num_images == 30
    assert np.array_equal(trained, task.epoch(0, 0)[0])
    assert not np.array_equal(trained, task.epoch(0, 1)[0]) and not np.array_equal(trained, task.epoch(1, 0)[0])


def test_bytes_are_rounded_and_refused_where_they_would_wrap():
    images = np.random.default_rng(0).random((1_001, 2, 2)).astype(np.float32)
    np.testing.assert_allclose(tasks.as_numbers(jnp.asarray(tasks.as_bytes(images))), images, atol=0.5 / 255 + 1e-6)
    for wrong in (2 * images, images - 1, images * np.nan):
        with pytest.raises(ValueError, match="images must lie between 0 and 1"):
            tasks.as_bytes(wrong)


def test_scores_in_chunks_are_scores_of_all():
    """601 rows do not fill the last chunk; every row has a key of its own."""
    rows, key = np.arange(601.0, dtype=np.float32), jax.random.key(3)
    score = seeds.sum_of_chunk(lambda params, key, x: {"x": params * x, "noise": jax.random.normal(key)})
    means = seeds.mean_scores(score, 2.0, key, (rows,))
    noise = jax.vmap(jax.random.normal)(jax.random.split(key, 601))
    assert means["x"] == 600
    np.testing.assert_allclose(means["noise"], noise.mean(), atol=1e-6)
    with pytest.raises(ValueError, match="at least one row"):
        seeds.mean_scores(score, 2.0, key, (rows[:0],))
