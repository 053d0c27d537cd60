"""Progress of a long fit, between two chunks of steps.

Floor 5. The bar itself is rich's, which comes with the extra ``demo``; nothing else in the package needs it.
"""

import contextlib
from collections.abc import Callable, Iterator

import jax
import numpy as np

from jaxelbo.types import Progress


@contextlib.contextmanager
def progress_bar(description: str = "fit") -> Iterator[Callable[[Progress], None]]:
    """A progress bar as a callback of `fit`: steps, time left, and the first field of the history (the loss).

    It is drawn between chunks of compiled steps and changes no number.

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
    with progress.Progress(*columns) as bar:
        task = bar.add_task(description, total=None, status="")

        def callback(report: Progress) -> None:
            skipped = f", {report.num_skipped} skipped" if report.num_skipped else ""
            leaves = jax.tree.leaves(report.history)
            loss = f"loss {np.mean(leaves[0]):.4g}" if leaves else ""
            bar.update(task, total=report.num_steps, completed=report.step, status=loss + skipped)

        yield callback
