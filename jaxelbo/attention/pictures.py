"""Pictures: paths of glimpses, cells of captions, words of rationales.

Attention; matplotlib is imported when something is drawn.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxelbo.attention.text_files import Text


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
    figure_of, rectangle = _matplotlib()
    columns = min(6, len(images))
    rows = -(-len(images) // columns)
    figure = figure_of(figsize=(1.9 * columns, 2.1 * rows), layout="constrained")
    for index, (image, where, label) in enumerate(zip(images, locations, labels, strict=True)):
        axis = _show(figure, (rows, columns, index + 1), image)
        points = (np.clip(where, -1, 1) + 1) / 2 * image.shape
        axis.plot(points[:, 1], points[:, 0], "-", color="#c8553d", linewidth=1)
        for step, (down, across) in enumerate(points):
            is_last = step == len(points) - 1
            color = "#1f6f8b" if is_last else "#d9a441"
            for side in (size, size * 2 ** (num_scales - 1)) if is_last and num_scales > 1 else (size,):
                corner = across - side / 2, down - side / 2
                axis.add_patch(rectangle(corner, side, side, fill=False, color=color, linewidth=1.2))
            axis.text(across, down, str(step + 1), color=color, fontsize=7, ha="center", va="center")
        axis.set_title(f"read: {label}", fontsize=9)
    figure.savefig(path, dpi=150)


def draw_cells(
    path: pathlib.Path,
    images: np.ndarray,
    cells: Sequence[np.ndarray],
    words: Sequence[Sequence[int]],
    patch_size: int,
) -> None:
    """Writes a PNG: each image with the cells that were attended to, numbered by word, and the caption that was read.

    Args:
      path: of the picture.
      images: ``[B, H, W]``.
      cells: of each image the centres of its cells, ``[words, 2]``, down and across in pixels.
      words: of each image, as many.
      patch_size: side of a cell's patch in pixels.

    Raises:
      ImportError: the package matplotlib is not installed.

    >>> draw_cells(path, images, cells, words, 28)  # doctest: +SKIP
    """
    figure_of, rectangle = _matplotlib()
    columns = min(3, len(images))
    rows = -(-len(images) // columns)
    figure = figure_of(figsize=(4 * columns, 1.8 * rows), layout="constrained")
    colors = ("#c8553d", "#1f6f8b", "#d9a441", "#588157", "#7b5ea7")
    for index, (image, centres, said) in enumerate(zip(images, cells, words, strict=True)):
        axis = _show(figure, (rows, columns, index + 1), image)
        for step, (down, across) in enumerate(centres):
            color = colors[step % len(colors)]
            corner = across - patch_size / 2, down - patch_size / 2
            axis.add_patch(rectangle(corner, patch_size, patch_size, fill=False, color=color, linewidth=1.4))
            axis.plot(across, down, "o", color=color, markersize=3)
            axis.text(corner[0] + 1, corner[1] + 1, str(step + 1), color=color, fontsize=8, va="top")
        axis.set_title("read: " + " ".join(map(str, said)), fontsize=9)
    figure.savefig(path, dpi=150)


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
    figure_of, rectangle = _matplotlib()
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
    figure = figure_of(figsize=(10, 0.2 * line + 0.4))
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set(xlim=(-0.01, 1), ylim=(line + 0.5, -1))
    axis.axis("off")
    for row, column, word, ground, marked in placed:
        left, right = width * column, width * (column + len(word))
        if ground is not None:
            axis.add_patch(rectangle((left, row - 0.42), right - left, 0.84, color=ground, linewidth=0))
        if marked:
            axis.plot([left, right], [row + 0.4] * 2, color="#333333", linewidth=0.9)
        axis.text(left, row, word.replace("$", r"\$"), family="monospace", fontsize=9.3, va="center")
    figure.savefig(path, dpi=150)


def _matplotlib() -> tuple[Any, Any]:
    """Its figure and its rectangle, which need no screen."""
    try:
        from matplotlib.figure import Figure
        from matplotlib.patches import Rectangle
    except ImportError:
        raise ImportError('pictures are drawn with matplotlib: pip install "jaxelbo[demo]".') from None
    return Figure, Rectangle


def _show(figure: Any, place: tuple[int, int, int], image: np.ndarray) -> Any:
    """An image without ticks, in pixels from its top left corner."""
    axis = figure.add_subplot(*place)
    axis.imshow(image, cmap="gray_r", vmin=0, vmax=1, extent=(0, image.shape[1], image.shape[0], 0))
    axis.set(xticks=[], yticks=[], xlim=(0, image.shape[1]), ylim=(image.shape[0], 0), autoscale_on=False)
    return axis
