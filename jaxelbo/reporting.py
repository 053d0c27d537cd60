"""What is shown in a terminal: progress of a long fit, and the table of a gradient report.

Floor 5. Bar and table are rich's, which comes with the extra ``demo``; nothing else in the package needs it.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator

import jax
import numpy as np

from jaxelbo import checks
from jaxelbo.gradient_noise import GradientReport
from jaxelbo.types import Progress

_SECONDS_BETWEEN = 0.25


@contextlib.contextmanager
def progress_bar(description: str = "fit") -> Iterator[Callable[[Progress], None]]:
    """A progress bar as a callback of `fit`: time left, steps a second, and the first field of the history (the loss).

    The loss is the mean over the last chunk with its standard error, which is that of independent steps. The bar is
    drawn between chunks of compiled steps and changes no number. The first chunk, which pays for the compilation, is
    left out of the rate.

    Args:
      description: what stands before the bar.

    Yields:
      The callback.

    Raises:
      ImportError: the package rich is not installed.

    >>> import jax, jaxelbo, optax
    >>> with progress_bar() as callback:  # doctest: +SKIP
    ...     result = jaxelbo.fit(params, key, loss_fn, optax.adam(1e-2), num_steps=10_000, callback=callback)
    """
    try:
        from rich import progress
    except ImportError:
        raise ImportError('progress_bar draws with rich: pip install "jaxelbo[demo]".') from None
    columns = (*progress.Progress.get_default_columns(), progress.TextColumn("{task.fields[status]}"))
    # Drawing takes some 4 ms; rich's ten times a second would be 4% of the time.
    with progress.Progress(*columns, refresh_per_second=1 / _SECONDS_BETWEEN) as bar:
        task = bar.add_task(description, total=None, status="")
        first: tuple[int, float] | None = None
        due = -math.inf

        def callback(report: Progress) -> None:
            nonlocal first, due
            now = time.monotonic()
            if first is None:
                first = report.step, now
                # A resumed run stands in the middle; the steps of the run before it are no part of this one's rate.
                bar.reset(task, total=report.num_steps, completed=report.step)
            if now < due and report.step < report.num_steps:
                return  # what would not be drawn is not worked out
            due = now + _SECONDS_BETWEEN
            status = _describe(report, report.step - first[0], now - first[1])
            bar.update(task, total=report.num_steps, completed=report.step, status=status)

        yield callback


def _describe(report: Progress, steps: int, seconds: float) -> str:
    """The loss with its error, the rate, and the steps undone, as far as they can be told."""
    parts, leaves = [], jax.tree.leaves(report.history)
    losses = np.asarray(leaves[0], np.float64) if leaves else np.zeros(0)
    losses = losses[np.isfinite(losses)]
    if losses.size:
        error = np.std(losses, ddof=1) / math.sqrt(losses.size) if losses.size > 1 else math.nan
        parts.append(f"loss {np.mean(losses):.4g}" + (f" ± {error:.2g}" if math.isfinite(error) else ""))
    if steps and seconds > 0:
        parts.append(f"{steps / seconds:,.0f} steps/s")
    if report.num_skipped:
        parts.append(f"{report.num_skipped} skipped")
    return ", ".join(parts)


def print_gradient_report(report: GradientReport) -> None:
    """Prints a `gradient_report` as a table, the best variance x time first, and what was refused below it.

    Args:
      report: what `gradient_report` returned.

    Raises:
      ImportError: the package rich is not installed.

    >>> print_gradient_report(report)  # doctest: +SKIP
    """
    try:
        from rich import console, table
    except ImportError:
        raise ImportError('print_gradient_report draws with rich: pip install "jaxelbo[demo]".') from None
    leaves = checks.leaf_names(report.rows[0].signal_to_noise)
    columns = ["variance", *(f"signal/noise {leaf}" for leaf in leaves), "evaluations", "us", "variance x us"]
    shown = table.Table(table.Column("estimator", no_wrap=True))
    for column in columns:
        shown.add_column(column, justify="right", overflow="fold")
    for row in sorted(report.rows, key=lambda row: row.variance_times_seconds):
        ratios = [f"{ratio:.3g}" for ratio in jax.tree.leaves(row.signal_to_noise)]
        microseconds, product = f"{1e6 * row.seconds:.1f}", f"{1e6 * row.variance_times_seconds:.3g}"
        shown.add_row(row.name, f"{row.variance:.3g}", *ratios, str(row.evaluations), microseconds, product)
    terminal = console.Console()
    terminal.print(shown)
    if report.refused:
        terminal.print("refused here: " + ", ".join(report.refused))
