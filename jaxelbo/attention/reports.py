"""What a command prints: progress by epochs, and a table over seeds; its pictures are in `pictures`.

Attention; rich is imported when something is shown.
"""

import contextlib
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from jaxelbo.attention.training import Training
from jaxelbo.types import Params, PyTree


@contextlib.contextmanager
def epoch_bar(
    description: str, num_epochs: int, watch: Callable[[Params], dict[str, float]]
) -> Iterator[Callable[[Training, PyTree], None]]:
    """A progress bar as a callback of `training.train`: rate, time left, the epoch's metrics and what is watched.

    Args:
      description: what stands before the bar.
      num_epochs: in all.
      watch: ``params -> numbers by name``, called after each epoch.

    Yields:
      The callback.

    Raises:
      ImportError: the package rich is not installed.

    >>> with epoch_bar("seed 0", 10, lambda params: {}) as callback:  # doctest: +SKIP
    ...     training.train(..., callback=callback)
    """
    try:
        from rich import progress
    except ImportError:
        raise ImportError('progress is drawn with rich: pip install "jaxelbo[demo]".') from None
    columns = (*progress.Progress.get_default_columns(), progress.TextColumn("{task.fields[metrics]}"))
    with progress.Progress(*columns) as bar:
        task = bar.add_task(description, total=num_epochs, metrics="")

        def callback(training: Training, metrics: PyTree) -> None:
            shown = metrics | watch(training.params)
            words = ", ".join(f"{name} {float(np.mean(value)):.3f}" for name, value in shown.items())
            bar.update(task, completed=int(training.epoch), metrics=words)

        yield callback


def table(names: Sequence[str], rows: Sequence[Sequence[float]], title: str) -> Any:
    """A column a seed and their median, for rich to print.

    Args:
      names: of the figures.
      rows: the figures of each seed.
      title: above it.

    Returns:
      A ``rich.table.Table``.

    Raises:
      ImportError: the package rich is not installed.

    >>> table(["error"], [[0.1], [0.2]], "test").row_count
    1
    """
    try:
        from rich.table import Table
    except ImportError:
        raise ImportError('tables are drawn with rich: pip install "jaxelbo[demo]".') from None
    shown = Table("", *(f"seed {seed}" for seed in range(len(rows))), "median", title=title)
    for name, figures in zip(names, zip(*rows, strict=True), strict=True):
        shown.add_row(name.replace("_", " "), *(f"{x:.4f}" for x in (*figures, statistics.median(figures))))
    return shown
