"""What is divided among forced devices of one CPU, and what that costs.

    python -m benchmarks.scaling [--repeats 30]

A gradient of the ELBO of a logistic regression, 200,000 rows of 50 columns and 8 draws, on meshes of 1, 2, 4 and 8
forced devices, rows spread. Arithmetic of a device is the compiler's own count. Wall medians of interleaved repeats;
the efficiency is the time on one device over the time on n, over the cores that n devices could use. One device already
uses all cores for large operations, so this says what forced devices cost, not what n chips would give.
"""

import argparse
import os
import statistics
import time

os.environ["JAX_NUM_CPU_DEVICES"] = "8"  # before jax is imported
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType
from rich.console import Console
from rich.table import Table

import jaxelbo
from jaxelbo import device_meshes, families

NUM_ROWS, NUM_COLUMNS, COUNTS = 200_000, 50, (1, 2, 4, 8)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=30)
    repeats = parser.parse_args().repeats
    rng = np.random.default_rng(0)
    x = rng.normal(size=(NUM_ROWS, NUM_COLUMNS)).astype(np.float32)
    y = (x[:, 0] + rng.logistic(size=NUM_ROWS) > 0).astype(np.float32)
    family = families.full_rank(jnp.zeros(NUM_COLUMNS))

    def loss_fn(params, key, x, y):
        def log_joint(z):
            logits = x @ z
            return jnp.sum(y * logits - jax.nn.softplus(logits)) - 0.5 * jnp.sum(z**2)

        return -jaxelbo.elbo(params, key, log_joint, family, num_samples=8)

    step, runs, compiled = jax.jit(jax.value_and_grad(loss_fn)), {}, {}
    for count in COUNTS:
        mesh = jax.make_mesh(
            (count, 1), ("data", "samples"), devices=jax.devices()[:count], axis_types=(AxisType.Auto, AxisType.Auto)
        )
        data = device_meshes.place_rows((x, y), mesh)
        params, key = device_meshes.place_everywhere((family.init(jax.random.key(0)), jax.random.key(1)), mesh)
        runs[count] = params, key, *data
        compiled[count] = step.lower(*runs[count]).compile()
    losses = {count: float(compiled[count](*runs[count])[0]) for count in COUNTS}
    seconds = {count: [] for count in COUNTS}
    for _ in range(repeats):
        for count in COUNTS:
            begin = time.perf_counter()
            jax.block_until_ready(compiled[count](*runs[count]))
            seconds[count].append(time.perf_counter() - begin)
    times = {count: statistics.median(values) for count, values in seconds.items()}
    cores = os.cpu_count() or 1
    table = Table(
        "devices", "Gflop of each", "MB of rows", "ms", "efficiency", "loss over that of one, less 1",
        title=f"{jax.devices()[0].device_kind}, {cores} cores, jax {jax.__version__}, load {os.getloadavg()[0]:.1f}",
    )  # fmt: skip
    for count in COUNTS:
        rows = runs[count][2].addressable_shards[0].data.nbytes
        analysis = compiled[count].cost_analysis()
        efficiency = times[COUNTS[0]] / times[count] / min(count, cores)
        table.add_row(
            str(count), f"{analysis['flops'] / 1e9:.3f}", f"{rows / 1e6:.1f}", f"{1e3 * times[count]:.1f}",
            f"{efficiency:.2f}", f"{losses[count] / losses[COUNTS[0]] - 1:.1e}",
        )  # fmt: skip
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
