"""Pictures of captions: where each word was looked for.

Attention; matplotlib is imported when something is drawn.
"""

import pathlib
from collections.abc import Sequence

import numpy as np


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
    try:
        from matplotlib.figure import Figure
        from matplotlib.patches import Rectangle
    except ImportError:
        raise ImportError('pictures are drawn with matplotlib: pip install "jaxelbo[demo]".') from None
    columns = min(3, len(images))
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(4 * columns, 1.8 * rows), layout="constrained")
    colors = ("#c8553d", "#1f6f8b", "#d9a441", "#588157", "#7b5ea7")
    for index, (image, centres, said) in enumerate(zip(images, cells, words, strict=True)):
        axis = figure.add_subplot(rows, columns, index + 1)
        axis.imshow(image, cmap="gray_r", vmin=0, vmax=1, extent=(0, image.shape[1], image.shape[0], 0))
        for step, (down, across) in enumerate(centres):
            color = colors[step % len(colors)]
            corner = across - patch_size / 2, down - patch_size / 2
            axis.add_patch(Rectangle(corner, patch_size, patch_size, fill=False, color=color, linewidth=1.4))
            axis.plot(across, down, "o", color=color, markersize=3)
            axis.text(corner[0] + 1, corner[1] + 1, str(step + 1), color=color, fontsize=8, va="top")
        axis.set_title("read: " + " ".join(map(str, said)), fontsize=9)
        axis.set(xticks=[], yticks=[], xlim=(0, image.shape[1]), ylim=(image.shape[0], 0))
    figure.savefig(path, dpi=150)
