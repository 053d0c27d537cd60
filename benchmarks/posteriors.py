"""`infer` on real posteriors whose answer is known, beside what other libraries do with them.

    python -m benchmarks.posteriors FOLDER [--seeds 5] [--family full_rank|mean_field] [--distances 0,10,1000] [--peers]

FOLDER holds ``score.py``: ``NAMES``, ``case(name)`` with ``logdensity``, ``dim`` and ``name``, ``reference(name)`` and
``score(case, draws, elbo, family)``. One row a posterior and start: medians over seeds, and the worst seed of the KL.
Starts are zero, or so many posterior standard deviations from its mean in every coordinate, signs at random.
``first`` is the wall time of the first call, compilation included, ``again`` of the next one with another key.
``response`` is the rms error of the log standard deviations by linear response, for mean field.
``--peers`` times NumPyro's ``AutoMultivariateNormal`` or ``AutoNormal`` with 10,000 steps in the same process.
"""

import argparse
import functools
import importlib.util
import pathlib
import time
from typing import Any

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

import jaxelbo
from jaxelbo import families

NUM_DRAWS = 20_000
NUM_RESPONSE = 400
NUMPYRO_STEPS = 10_000
SILENT = 0.5
"""Nats above the floor beyond which a fit must not be called converged."""


def read_score(folder: pathlib.Path) -> Any:
    """The module ``score`` of the folder."""
    spec = importlib.util.spec_from_file_location("score", folder / "score.py")
    if spec is None or spec.loader is None:
        raise FileNotFoundError(f"{folder / 'score.py'} is missing.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def start_at(score: Any, name: str, size: int, distance: float, seed: int) -> jax.Array:
    """Zeros, or a corner so many standard deviations from the posterior mean."""
    if distance == 0:
        return jnp.zeros(size)
    reference = score.reference(name)
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size)
    return jnp.asarray(reference["u_mean"] + distance * signs * reference["u_sd"])


def run(score: Any, name: str, family: str, distance: float, seeds: int) -> list[dict[str, Any]]:
    """One record a seed."""
    case, constructor = score.case(name), getattr(families, family)
    infer = functools.partial(jaxelbo.infer, case.logdensity, family=constructor)
    records = []
    for seed in range(seeds):
        start, key = start_at(score, name, case.dim, distance, seed), jax.random.key(seed)
        before = time.perf_counter()
        result = jax.block_until_ready(infer(start, key))
        seconds = time.perf_counter() - before
        record = {"status": str(result.status), "seconds": seconds, "above": np.inf, "mean": np.inf, "log sd": np.inf}
        record["response"] = np.nan
        record |= {"gradients": int(result.num_gradients), "evaluations": int(result.num_evaluations)}
        record["k"] = float(result.pareto_k)
        latents = jaxelbo.draws(result.params, jax.random.key(seed + 1_000), result.family, num_samples=NUM_DRAWS)
        weights = jax.vmap(lambda z, q=result: case.logdensity(z) - q.family.log_prob(q.params, z))(latents)
        elbo = float(jnp.mean(weights))
        if np.isfinite(elbo):
            scored = score.score(case, latents, elbo, family)
            floor = score.FLOORS[name][family]
            record["above"] = scored["kl_above_floor"]
            record["mean"] = scored["mean_error_rms"] - floor["mean_error_rms"]
            record["log sd"] = scored["log_sd_error_rms"] - floor["log_sd_error_rms"]
        if family == "mean_field":
            sd = jaxelbo.linear_response(
                result.params, jax.random.key(seed + 2_000), case.logdensity, result.family, num_samples=NUM_RESPONSE
            ).sd
            record["response"] = float(np.sqrt(np.mean(np.log(sd / score.reference(name)["u_sd"]) ** 2)))
        records.append(record)
    return records


def numpyro_seconds(log_density: Any, size: int, family: str) -> tuple[float, float] | None:
    """Wall time of 10,000 steps at NumPyro's usual settings: the first call, and the next."""
    try:
        import numpyro
        from numpyro import distributions
        from numpyro.infer import SVI, Trace_ELBO, autoguide
    except ImportError:
        return None

    def model() -> None:
        z = numpyro.sample("z", distributions.ImproperUniform(distributions.constraints.real_vector, (), (size,)))
        numpyro.factor("log_density", log_density(z))

    guide = {"full_rank": autoguide.AutoMultivariateNormal, "mean_field": autoguide.AutoNormal}[family]
    seconds = []
    svi = SVI(
        model,
        guide(model, init_loc_fn=numpyro.infer.init_to_value(values={"z": jnp.zeros(size)})),
        numpyro.optim.Adam(1e-2),
        Trace_ELBO(),
    )
    for seed in range(2):
        before = time.perf_counter()
        jax.block_until_ready(svi.run(jax.random.key(seed), NUMPYRO_STEPS, progress_bar=False).params)
        seconds.append(time.perf_counter() - before)
    return seconds[0], seconds[1]


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--family", choices=["full_rank", "mean_field"], default="full_rank")
    parser.add_argument("--distances", default="0", help="starts, in posterior standard deviations; 0 is zero")
    parser.add_argument("--only", default="", help="names that contain this")
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--float32", action="store_true")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", not options.float32)
    score, console = read_score(options.folder), Console(width=180)
    table = Table(title=f"{options.family}, {options.seeds} seeds; jax {jax.__version__}, jaxlib {jaxlib.__version__}, "
                        f"{jax.default_backend()}, {'float32' if options.float32 else 'float64'}")  # fmt: skip
    columns = ("posterior", "start", "status", "gradients", "values", "k", "KL above floor", "worst", "mean", "log sd",
               "response", "first, s", "again, s", "NumPyro first", "again")  # fmt: skip
    for column in columns:
        table.add_column(column)
    everything, silent, far = [], 0, 0
    names = [name for name in score.NAMES if options.only in name]
    for name in track(names, description="posteriors", console=Console(stderr=True)):
        for distance in map(float, options.distances.split(",")):
            records = run(score, name, options.family, distance, options.seeds)
            middle = {key: np.median([record[key] for record in records]) for key in records[0] if key != "status"}
            worst = max(record["above"] for record in records)
            statuses = sorted({record["status"] for record in records})
            row = [name.split("-")[-1], f"{distance:g}", ", ".join(statuses)]
            row += [f"{middle['gradients']:.0f}", f"{middle['evaluations']:.0f}", f"{middle['k']:.2f}"]
            row += [f"{middle['above']:.3f}", f"{worst:.3f}", f"{middle['mean']:.3f}", f"{middle['log sd']:.3f}"]
            row += [f"{middle['response']:.3f}"]
            row += [f"{records[0]['seconds']:.2f}", f"{np.median([r['seconds'] for r in records[1:]] or [np.nan]):.3f}"]
            peers = None
            if options.peers and distance == 0:
                case = score.case(name)
                peers = numpyro_seconds(case.logdensity, case.dim, options.family)
            row += ["", ""] if peers is None else [f"{peers[0]:.1f}", f"{peers[1]:.2f}"]
            table.add_row(*row)
            everything += records
            far += sum(not record["above"] < SILENT for record in records)
            silent += sum(not record["above"] < SILENT and record["status"] == "converged" for record in records)
    console.print(table)
    gradients = [record["gradients"] for record in everything]
    console.print(
        f"{len(everything)} runs, {far} of them more than {SILENT} nats above the floor, {silent} of these silent; "
        f"gradients: median {np.median(gradients):.0f}, most {max(gradients)}; values: most "
        f"{max(record['evaluations'] for record in everything)}"
    )


if __name__ == "__main__":
    main()
