"""The picture of the main job: the bound over the steps, and the posterior against the data."""

import pathlib

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from jaxelbo.demo import eight_schools
from jaxelbo.types import Summary

INK, POSTERIOR, DATA = "#22303c", "#1f6f8b", "#c8553d"


def draw(path: pathlib.Path, bounds: np.ndarray, log_evidence: float, effects: Summary, mu: Summary) -> None:
    """Writes the PNG.

    Args:
      path: where to.
      bounds: the bound's estimate at each step, ``[T]``, in nats.
      log_evidence: log p(y), in nats.
      effects: posterior summary of the schools' effects, leaves ``[8]``.
      mu: posterior summary of their mean, scalar leaves.
    """
    with plt.rc_context({"font.size": 11, "axes.edgecolor": INK, "axes.spines.top": False, "axes.spines.right": False}):
        figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5), width_ratios=(1, 1.15), layout="constrained")
        _draw_bound(left, bounds, log_evidence)
        _draw_schools(right, effects, mu)
        figure.savefig(path, dpi=150, format="png")
        plt.close(figure)


def _draw_bound(axes: Axes, bounds: np.ndarray, log_evidence: float) -> None:
    window = max(1, len(bounds) // 50)
    smooth = np.convolve(bounds, np.ones(window) / window, mode="valid")
    steps = np.arange(len(bounds)) + 1
    axes.plot(steps, bounds, color=POSTERIOR, alpha=0.2, linewidth=0.7, label="each step")
    axes.plot(steps[window - 1 :], smooth, color=POSTERIOR, linewidth=2, label=f"mean of {window} steps")
    axes.axhline(log_evidence, color=DATA, linewidth=1.5, linestyle="--", label="log evidence (quadrature)")
    low = np.quantile(smooth, 0.02) if len(smooth) > 20 else bounds.min()
    axes.set_ylim(min(low, log_evidence - 1) - 0.5, log_evidence + 1)
    axes.set(xlabel="step", ylabel="nats", title="The bound rises towards the log evidence")
    axes.legend(frameon=False, loc="lower right")


def _draw_schools(axes: Axes, effects: Summary, mu: Summary) -> None:
    rows = np.arange(8)[::-1]
    errors = 1.645 * np.asarray(eight_schools.STANDARD_ERRORS)
    axes.errorbar(
        eight_schools.EFFECTS, rows + 0.16, xerr=errors, fmt="o", color=DATA, alpha=0.75, capsize=3, label="data, 90%"
    )
    mean, lower, upper = (np.asarray(leaf) for leaf in (effects.mean, effects.lower, effects.upper))
    axes.errorbar(
        mean,
        rows - 0.16,
        xerr=(mean - lower, upper - mean),
        fmt="s",
        color=POSTERIOR,
        capsize=3,
        label="posterior, 90%",
    )
    axes.axvspan(float(mu.lower), float(mu.upper), color=POSTERIOR, alpha=0.08, linewidth=0)
    axes.axvline(float(mu.mean), color=POSTERIOR, linewidth=1, linestyle=":", label="mean of all schools, 90%")
    axes.set_yticks(rows, eight_schools.SCHOOLS)
    axes.set(xlabel="effect of coaching, points", ylabel="school", title="Each school borrows from the others")
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3, fontsize=10)
