"""`diagnose` on fits of real posteriors whose answer is known, and on the same fits spoiled on purpose.

    python -m benchmarks.diagnoses FOLDER [--seeds 3] [--only NAME]

FOLDER holds ``score.py`` as `benchmarks.posteriors` asks for. One row a posterior, family and seed: Pareto k, the
largest error of q's means and of the importance-corrected ones in standard deviations of the reference, and the
verdicts on the fit, on the fit with half its scale, and moved by 3 standard deviations in every coordinate.
"""

import argparse
import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

import jaxelbo
from benchmarks.posteriors import read_score
from jaxelbo import families

NUM_SAMPLES = 10_000


def rows(score: Any, name: str, constructor: Any, seeds: int) -> list[dict[str, Any]]:
    """One a seed."""
    case, reference = score.case(name), score.reference(name)
    infer = functools.partial(jaxelbo.infer, case.logdensity, jnp.zeros(case.dim), family=constructor)
    found = []
    for seed in range(seeds):
        result = infer(jax.random.key(seed))
        ask = jax.jit(
            functools.partial(
                jaxelbo.diagnose, log_joint=case.logdensity, family=result.family, num_samples=NUM_SAMPLES
            )
        )
        spread = result.family.location_and_scale(result.params)[1]
        spoiled = {
            "fit": result.params,
            "half": result.params | {"log_scale": result.params["log_scale"] - np.log(2)},
            "moved": result.params | {"loc": result.params["loc"] + 3 * spread},
        }
        diagnoses = {word: ask(params, jax.random.key(1_000 + seed)) for word, params in spoiled.items()}
        error = lambda mean: float(np.max(np.abs(mean - reference["u_mean"]) / reference["u_sd"]))  # noqa: E731
        found.append(
            {
                "name": name,
                "family": constructor.__name__,
                "seed": seed,
                "status": str(result.status),
                "k": float(diagnoses["fit"].pareto_k),
                "own": error(result.params["loc"]),
                "corrected": error(diagnoses["fit"].mean),
                **{word: str(diagnosis.verdict) for word, diagnosis in diagnoses.items()},
            }
        )
    return found


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="", help="names that contain this")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    score, table = read_score(options.folder), Table(title=f"S = {NUM_SAMPLES}, jax {jax.__version__}")
    for column in ("posterior", "family", "seed", "status", "k", "q's means", "corrected", "fit", "half", "moved"):
        table.add_column(column)
    for name in score.NAMES:
        if options.only not in name:
            continue
        for constructor in (families.full_rank, families.mean_field):
            for row in rows(score, name, constructor, options.seeds):
                words = [row[word].split(":")[0] for word in ("fit", "half", "moved")]
                numbers = [f"{row[key]:.2f}" for key in ("k", "own", "corrected")]
                table.add_row(name.split("-")[-1], row["family"], str(row["seed"]), row["status"], *numbers, *words)
    Console(width=200).print(table)


if __name__ == "__main__":
    main()
