"""What a command shows: progress by epochs, a table over seeds, and the paths of glimpses as a picture.

Attention; rich and matplotlib are imported when something is shown.
"""

import contextlib
import pathlib
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from jaxelbo.attention.text_files import Text
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


def draw_rationales(path: pathlib.Path, texts: Sequence[Text], masks: np.ndarray) -> None:
    """Writes a PNG: texts with the kept words on a coloured ground and the words that humans marked underlined.

    Args:
      path: of the picture.
      texts: the first lines of each are drawn.
      masks: ``[B, T]`` bool, which words were kept.

    Raises:
      ImportError: the package matplotlib is not installed.

    >>> draw_rationales(path, texts, masks)  # doctest: +SKIP
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.patches import Rectangle
    except ImportError:
        raise ImportError('pictures are drawn with matplotlib: pip install "jaxelbo[demo]".') from None
    num_columns, width = 110, 0.0078  # characters a line, and the width of one, as a share of the picture's
    placed, line = [], 0
    for text, mask in zip(texts, masks, strict=True):
        column = 3
        ground = "#f3c98b" if text.label else "#9fc5d8"
        placed.append((line, 0, "+" if text.label else "-", None, False))
        for word, kept, marked in zip(text.words, mask, text.is_marked, strict=False):
            if column + len(word) > num_columns:
                line, column = line + 1, 3
            placed.append((line, column, word, ground if kept else None, marked))
            column += len(word) + 1
        line += 1
    figure = Figure(figsize=(10, 0.2 * line + 0.4))
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set(xlim=(-0.01, 1), ylim=(line + 0.5, -1))
    axis.axis("off")
    for row, column, word, ground, marked in placed:
        left, right = width * column, width * (column + len(word))
        if ground is not None:
            axis.add_patch(Rectangle((left, row - 0.42), right - left, 0.84, color=ground, linewidth=0))
        if marked:
            axis.plot([left, right], [row + 0.4] * 2, color="#333333", linewidth=0.9)
        axis.text(left, row, word.replace("$", r"\$"), family="monospace", fontsize=9.3, va="center")
    figure.savefig(path, dpi=150)


def draw_paths(
    path: pathlib.Path, images: np.ndarray, locations: np.ndarray, labels: np.ndarray, size: int, num_scales: int
) -> None:
    """Writes a PNG: each image with its glimpses in the order in which they were taken, and the label that was read.

    Args:
      path: of the picture.
      images: ``[B, H, W]``.
      locations: ``[B, N, 2]``, down and across.
      labels: ``[B]``.
      size: side of the finest patch of a glimpse in pixels.
      num_scales: patches of a glimpse; the widest of the last glimpse is drawn too.

    Raises:
      ImportError: the package matplotlib is not installed.

    >>> draw_paths(path, images, locations, labels, 8, 1)  # doctest: +SKIP
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.patches import Rectangle
    except ImportError:
        raise ImportError('pictures are drawn with matplotlib: pip install "jaxelbo[demo]".') from None
    columns = min(6, len(images))
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(1.9 * columns, 2.1 * rows), layout="constrained")
    for index, (image, where, label) in enumerate(zip(images, locations, labels, strict=True)):
        axis = figure.add_subplot(rows, columns, index + 1)
        axis.imshow(image, cmap="gray_r", vmin=0, vmax=1, extent=(0, image.shape[1], image.shape[0], 0))
        points = (np.clip(where, -1, 1) + 1) / 2 * image.shape
        axis.plot(points[:, 1], points[:, 0], "-", color="#c8553d", linewidth=1)
        for step, (down, across) in enumerate(points):
            is_last = step == len(points) - 1
            color = "#1f6f8b" if is_last else "#d9a441"
            for side in (size, size * 2 ** (num_scales - 1)) if is_last and num_scales > 1 else (size,):
                corner = across - side / 2, down - side / 2
                axis.add_patch(Rectangle(corner, side, side, fill=False, color=color, linewidth=1.2))
            axis.text(across, down, str(step + 1), color=color, fontsize=7, ha="center", va="center")
        axis.set_title(f"read: {label}", fontsize=9)
        axis.set(xticks=[], yticks=[], xlim=(0, image.shape[1]), ylim=(image.shape[0], 0))
    figure.savefig(path, dpi=150)
