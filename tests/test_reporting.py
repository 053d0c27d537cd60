import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxelbo


def test_bar_shows_the_loss_and_changes_nothing(capsys):
    loss_fn = lambda params, key: params**2 + 0.1 * jax.random.normal(key)
    arguments = jnp.ones(()), jax.random.key(0), loss_fn, optax.sgd(0.1)
    with jaxelbo.progress_bar("descending") as callback:
        with_bar = jaxelbo.fit(*arguments, num_steps=50, callback=callback)
    without = jaxelbo.fit(*arguments, num_steps=50)
    shown = capsys.readouterr().out
    assert "descending" in shown and "100%" in shown
    assert f"loss {np.mean(without.history.loss[-1:]):.4g}" in shown
    np.testing.assert_array_equal(with_bar.history.loss, without.history.loss)


def test_bar_counts_skipped_steps(capsys):
    progress = jaxelbo.Progress(5, 10, None, {"loss": np.ones(5)}, 3)
    with jaxelbo.progress_bar() as callback:
        callback(progress)
    assert "3 skipped" in capsys.readouterr().out


def test_without_rich(monkeypatch):
    monkeypatch.setitem(sys.modules, "rich", None)
    with pytest.raises(ImportError, match=r'progress_bar draws with rich: pip install "jaxelbo\[demo\]"'):
        with jaxelbo.progress_bar():
            pass
