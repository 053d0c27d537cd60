"""`evidence` on real posteriors whose log evidence is known.

    python -m benchmarks.evidence FOLDER [--seeds 1] [--only NAME] [--float32]

FOLDER holds ``score.py`` as `benchmarks.posteriors` asks for, and in ``FLOORS[name]`` the ``log_evidence`` and its
standard error. One row a posterior and seed. Ends of the bracket are less the reference, so that they should have 0
between them; ``z`` is by how many standard errors, the reference's included, the nearer end is on the wrong side, below
0 where both are on the right one. ``gradients`` are the fit's and the bracket's, ``values`` what was evaluated without.
Where `infer` finds no mode, a density without one, the ELBO is raised by stochastic gradients instead.
"""

import argparse
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console
from rich.progress import track
from rich.table import Table

import jaxelbo
from benchmarks.posteriors import read_score
from jaxelbo import families
from jaxelbo.types import Family, Params

NUM_SAMPLES = 1_500
NUM_STEPS, NUM_DRAWS, STEP_SIZE = 500, 4, 0.1
"""Of Adam, where there is no mode; draws a step."""
WIDE, SIGMAS, MOST_GRADIENTS = 0.1, 3, 20_000
"""Nats, standard errors and gradients that the bars are made of."""


def fitted(case: Any, seed: int) -> tuple[Params, Family, int, int]:
    """Params, family, gradients and values of the fit."""
    key = jax.random.key(seed)
    found = jaxelbo.infer(case.logdensity, jnp.zeros(case.dim), key)
    num_gradients, num_evaluations = int(found.num_gradients), int(found.num_evaluations)
    if not str(found.status).startswith(("no mode found", "flat direction")):
        return found.params, found.family, num_gradients, num_evaluations
    family = families.full_rank(jnp.zeros(case.dim), initial_scale=0.5)

    def loss(params: Params, key: jax.Array) -> jax.Array:
        return -jaxelbo.elbo(params, key, case.logdensity, family, num_samples=NUM_DRAWS)

    optimizer = optax.adam(optax.cosine_decay_schedule(STEP_SIZE, NUM_STEPS))
    fit = jaxelbo.fit(family.init(key), jax.random.fold_in(key, 1), loss, optimizer, num_steps=NUM_STEPS)
    return fit.params, family, num_gradients + NUM_STEPS * NUM_DRAWS, num_evaluations


def run(score: Any, case: Any, seed: int) -> dict[str, Any]:
    """One row."""
    floor = score.FLOORS[case.name]
    params, family, num_gradients, num_evaluations = fitted(case, seed)
    key = jax.random.key(seed + 1_000)
    found = jaxelbo.evidence(params, key, case.logdensity, family, num_samples=NUM_SAMPLES)
    found = jax.tree.map(np.asarray, found)
    reference, error = floor["log_evidence"], floor["log_evidence_se"]
    below, above = found.lower.value - reference, found.upper.value - reference
    over = below / np.hypot(found.lower.standard_error, error)
    under = -above / np.hypot(found.upper.standard_error, error)
    return {
        "reference": reference,
        "lower": (below, found.lower.standard_error),
        "upper": (above, found.upper.standard_error),
        "width": float(found.gap),
        "z": float(max(over, under)),
        "elbo": float(found.lower_bounds.elbo.value - reference),
        "iw": float(found.lower_bounds.importance_weighted.value[-1] - reference),
        "chi": (float(found.upper_bounds.chi.value - reference), bool(found.unreliable.chi)),
        "thermodynamic": (
            float(found.upper_bounds.thermodynamic.value - reference),
            bool(found.unreliable.thermodynamic),
        ),
        "flagged": bool(found.is_upper_unreliable),
        "k": float(found.pareto_k),
        "gradients": num_gradients + int(found.num_gradients),
        "values": num_evaluations + int(found.num_evaluations),
    }


def main() -> None:
    """Prints the table, and for each seed which bars are reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", default="", help="names that contain this")
    parser.add_argument("--float32", action="store_true")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", not options.float32)
    score, console = read_score(options.folder), Console(width=180)
    table = Table(title=f"{options.seeds} seeds, S = {NUM_SAMPLES}, jax {jax.__version__}, {jax.default_backend()}")
    columns = ("posterior", "seed", "log evidence", "ELBO", "IW", "lower", "upper", "width", "z", "flagged", "thermo",
               "chi", "k", "gradients", "values")  # fmt: skip
    for column in columns:
        table.add_column(column)
    names = [name for name in score.NAMES if options.only in name]
    rows: list[list[dict[str, Any]]] = [[] for _ in range(options.seeds)]
    for name in track(names, description="posteriors", console=Console(stderr=True)):
        case = score.case(name)  # one log density for all seeds, so that it is compiled once
        for seed in range(options.seeds):
            row = run(score, case, seed)
            rows[seed].append(row)
            table.add_row(
                name.split("-")[-1], str(seed), f"{row['reference']:.3f}", f"{row['elbo']:.3f}", f"{row['iw']:.3f}",
                *(f"{value:.3f} ± {error:.3f}" for value, error in (row["lower"], row["upper"])),
                f"{row['width']:.3f}", f"{row['z']:.1f}", "yes" if row["flagged"] else "",
                *(f"{value:.3f}{' !' if bad else ''}" for value, bad in (row["thermodynamic"], row["chi"])),
                f"{row['k']:.2f}", str(row["gradients"]), str(row["values"]),
            )  # fmt: skip
    console.print(table)
    for seed, ofs in enumerate(rows):
        console.print(
            f"seed {seed}: {sum(row['z'] <= SIGMAS for row in ofs)} of {len(ofs)} brackets hold within {SIGMAS} "
            f"standard errors; {sum(row['width'] <= WIDE for row in ofs)} at most {WIDE} nats wide, "
            f"{sum(row['width'] <= WIDE and not row['flagged'] for row in ofs)} of these not flagged; "
            f"{sum(row['flagged'] for row in ofs)} flagged; at most {max(row['gradients'] for row in ofs)} gradients"
            f" (bar {MOST_GRADIENTS})"
        )


if __name__ == "__main__":
    main()
