"""What a long run pays for being watched, interrupted and saved: chunks, bar, callbacks and checkpoints.

    python -m benchmarks.long_runs [--repeats 15] [--folder .]

The first table: 10,000 steps of `fit` as one compiled scan, and in chunks with a bar drawn as in a terminal and a
callback beside it; with a checkpoint as well; and thinned. CPU medians of interleaved repeats, and their ratios to the
scan. Limit: 1.10. What a chunk costs does not depend on the model, so the ratio is nearest to the limit for the
smallest step. The second: the state of a fit with 10 million parameters and Adam's two moments, 120 MB, written to a
file and read back, and how long the steps stand still for it. Limit: 2 s.
"""

import argparse
import contextlib
import functools
import io
import os
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
import jaxlib
import optax
from rich.console import Console
from rich.table import Table

import jaxelbo
from benchmarks import step_cost, works
from jaxelbo import checkpoints

NUM_STEPS = 10_000
SIZE = 10_000_000
LIMIT, SECONDS = 1.10, 2.0


def variants(work: works.Work, folder: pathlib.Path) -> dict[str, Callable[[], Any]]:
    """The same fit in each of the ways that are compared."""
    fit = functools.partial(
        jaxelbo.fit, work.params, jax.random.key(0), work.loss_fn, work.optimizer,
        num_steps=NUM_STEPS, data=work.data, batch_size=work.batch_size,
    )  # fmt: skip

    def watched(**options: Any) -> jaxelbo.FitResult:
        losses = []
        with contextlib.redirect_stdout(io.StringIO()), jaxelbo.progress_bar() as bar:

            def callback(progress: jaxelbo.Progress) -> bool:
                bar(progress)
                losses.append(progress.history.loss.mean())
                return False

            return fit(callback=callback, **options)

    def saved() -> jaxelbo.FitResult:
        path = folder / "run.npz"
        path.unlink(missing_ok=True)
        return watched(checkpoint=path)

    tenths = functools.partial(watched, report_every=NUM_STEPS // 10)
    thinned = functools.partial(fit, history_every=10)
    return {"scan": fit, "chunks": watched, "tenths": tenths, "saved": saved, "thinned": thinned}


def add_row(table: Table, name: str, work: works.Work, folder: pathlib.Path, repeats: int) -> float:
    """One row; returns the ratio of the chunks."""
    times = step_cost.interleave(variants(work, folder), repeats)
    cpu = times["scan"][0]
    ratios = {name: each[0] / cpu for name, each in times.items()}
    chunk = 1e6 * (times["chunks"][0] - cpu) / 100
    figures = [f"{ratios[name]:.3f}" for name in ("chunks", "tenths", "saved", "thinned")]
    table.add_row(name, f"{1e6 * cpu / NUM_STEPS:.1f}", *figures, f"{chunk:.0f}")
    return ratios["chunks"]


def median_seconds(function: Callable[[], Any], repeats: int) -> float:
    """Wall median."""
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def checkpoint_seconds(folder: pathlib.Path, repeats: int) -> dict[str, float]:
    """Wall medians of writing, reading, and handing over."""
    params = jax.random.normal(jax.random.key(0), (SIZE,))
    tree = jax.block_until_ready((params, optax.adam(1e-3).init(params), jax.random.key(1)))
    path = folder / "state.npz"
    seconds = {
        "write": median_seconds(lambda: checkpoints.save(path, tree, "benchmark"), repeats),
        "read": median_seconds(lambda: checkpoints.load(path, tree, "benchmark"), repeats),
    }
    with checkpoints.written_behind(path, "benchmark") as offer:
        time.sleep(1.1)  # the first is due a second after the start
        seconds["standstill"] = median_seconds(lambda: offer(tree), 1)
    return seconds


def small(dim: int = 8) -> works.Work:
    """A logistic regression on 200 rows, of which a step takes a few microseconds."""
    return works.logistic_regression(num_rows=200, dim=dim)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15, help="interleaved repeats of each program (default 15)")
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path(), help="where checkpoints are written")
    options = parser.parse_args()
    os.environ["FORCE_COLOR"] = "1"  # the bar is drawn as in a terminal
    title = f"{NUM_STEPS} steps, CPU ratios to one scan; jax {jax.__version__}, jaxlib {jaxlib.__version__}, " + (
        f"{jax.devices()[0].device_kind}, load {os.getloadavg()[0]:.1f}"
    )
    table = Table(
        "fit", "scan, us/step", "bar + callback", "10 chunks", "+ checkpoint", "thinned", "us/chunk", title=title
    )
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = pathlib.Path(name)
        for label, work in (
            ("logistic 200 x 8", small()),
            ("full rank, 200", works.correlated_gaussian()),
            ("logistic 5,000 x 50", works.logistic_regression()),
        ):
            ratio = add_row(table, label, work, folder, options.repeats)
            print(f"{label}: {ratio:.3f}, limit {LIMIT}", flush=True)
        seconds = checkpoint_seconds(folder, 5)
    Console(width=140).print(table)
    second = Table(*seconds, title=f"{SIZE:,} parameters: seconds, limit {SECONDS}")
    second.add_row(*(f"{value:.2f}" for value in seconds.values()))
    Console(width=140).print(second)


if __name__ == "__main__":
    main()
