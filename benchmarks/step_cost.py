"""What one optimisation step costs: `jaxelbo.fit` against a bare JAX loop and NumPyro's SVI, interleaved in one run.

    python -m benchmarks.step_cost [--repeats 15]

Ratios of CPU-time and wall-time medians to the bare loop, and of the flops and bytes that XLA counts for the compiled
step. Below 1.15 a time ratio is this kind of machine's noise.
"""

import argparse
import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jaxlib
import numpy as np
from rich.console import Console
from rich.table import Table

import jaxelbo
from benchmarks import bare, works
from jaxelbo import minibatches


def ours(work: works.Work) -> Callable[[], Any]:
    """One repeat of `fit`."""
    key = jax.random.key(0)
    return lambda: jaxelbo.fit(
        work.params, key, work.loss_fn, work.optimizer, num_steps=work.num_steps, data=work.data,
        batch_size=work.batch_size,
    )  # fmt: skip


def bare_loop(work: works.Work) -> Callable[[], Any]:
    """One repeat of the bare loop."""
    program, key = jax.jit(bare.run(work)), jax.random.key(0)
    return lambda: program(work.bare_params, key, *work.data)


def numpyro_loop(work: works.Work) -> Callable[[], Any]:
    """One repeat of NumPyro's SVI, its updates scanned in one compiled program."""
    from numpyro.infer import SVI, Trace_ELBO

    model, guide, arguments, num_particles = work.numpyro()
    svi = SVI(model, guide, work.optimizer, Trace_ELBO(num_particles=num_particles))
    state = svi.init(jax.random.key(0), *arguments)

    @jax.jit
    def program(state: Any, *arguments: Any) -> Any:
        return jax.lax.scan(lambda state, _: svi.update(state, *arguments), state, None, length=work.num_steps)

    return lambda: program(state, *arguments)


def vmapped(work: works.Work, num_fits: int = 256) -> tuple[Callable[[], Any], Callable[[], Any], float, float]:
    """256 fits by one ``vmap``, and the bare loop likewise; with the ratios of flops and bytes of the whole program."""
    keys = jax.random.split(jax.random.key(0), num_fits)
    fit = functools.partial(jaxelbo.fit, num_steps=work.num_steps, data=work.data)
    program = jax.jit(jax.vmap(lambda key: fit(work.params, key, work.loss_fn, work.optimizer)))
    bare_program = jax.jit(jax.vmap(lambda key: bare.run(work)(work.bare_params, key, *work.data)))
    flops, size = cost_ratios(program.lower(keys).compile(), bare_program.lower(keys).compile())
    return lambda: program(keys), lambda: bare_program(keys), flops, size


def step_ratios(work: works.Work) -> tuple[float, float]:
    """Flops and bytes of one compiled step, ours over the bare one's."""
    key = jax.random.key(0)
    bare_state = work.bare_params, work.optimizer.init(work.bare_params)
    if work.batch_size is None:
        return cost_ratios(
            compiled_step(work, key), jax.jit(bare.step(work)).lower(bare_state, key, *work.data).compile()
        )
    algorithm = jaxelbo.algorithms.gradient_descent(work.loss_fn, work.optimizer)
    state = algorithm.init(work.params, key, *work.data)

    def batch_step(state: Any, key: jax.Array, rows: jax.Array, data: Any) -> Any:
        return algorithm.step(state, key, *minibatches.take(data, rows))

    def bare_batch_step(state: Any, key: jax.Array, rows: jax.Array, data: Any) -> Any:
        return bare.step(work)(state, key, *(leaf[rows] for leaf in data))

    rows = np.arange(work.batch_size, dtype=np.int32)
    compiled = jax.jit(batch_step).lower(state, key, rows, work.data).compile()
    return cost_ratios(compiled, jax.jit(bare_batch_step).lower(bare_state, key, rows, work.data).compile())


def compiled_step(work: works.Work, key: jax.Array) -> Any:
    """One step of the algorithm that `fit` runs, compiled by itself."""
    algorithm = jaxelbo.algorithms.gradient_descent(work.loss_fn, work.optimizer)
    state = algorithm.init(work.params, key, *work.data)
    return jax.jit(algorithm.step).lower(state, key, *work.data).compile()


def cost_ratios(compiled: Any, bare_compiled: Any) -> tuple[float, float]:
    """Flops and bytes accessed, as XLA counts them after compilation."""
    cost, bare_cost = compiled.cost_analysis(), bare_compiled.cost_analysis()
    return cost["flops"] / bare_cost["flops"], cost["bytes accessed"] / bare_cost["bytes accessed"]


def interleave(programs: dict[str, Callable[[], Any]], repeats: int) -> dict[str, tuple[float, float]]:
    """CPU and wall medians in seconds of each program, taken in turn and in changing order.

    A pause before each lets the threads of the program before it come to rest: LAPACK's go on spinning for a while, and
    their CPU time would be counted to the wrong program.
    """
    order = np.random.default_rng(0)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in programs}
    for program in programs.values():
        jax.block_until_ready(program())
    for _ in range(repeats):
        for name in order.permutation(list(programs)):
            program = programs[name]
            time.sleep(0.05)
            cpu, wall = time.process_time(), time.perf_counter()
            jax.block_until_ready(program())
            times[name].append((time.process_time() - cpu, time.perf_counter() - wall))
    return {name: tuple(map(statistics.median, zip(*rows, strict=True))) for name, rows in times.items()}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15, help="interleaved repeats of each program (default 15)")
    repeats = parser.parse_args().repeats
    device = jax.devices()[0].device_kind
    title = f"per step, as ratios to the bare loop; jax {jax.__version__}, jaxlib {jaxlib.__version__}, {device}"
    table = Table("work", "bare, us", "CPU", "wall", "flops", "bytes", "NumPyro CPU", "NumPyro wall", title=title)
    for make in works.WORKS:
        work = make()
        programs = {"ours": ours(work), "bare": bare_loop(work)}
        if work.numpyro is not None:
            programs["numpyro"] = numpyro_loop(work)
        add_row(table, work, interleave(programs, repeats), *step_ratios(work))
    work = works.small_fits()
    program, bare_program, flops, size = vmapped(work)
    add_row(table, work, interleave({"ours": program, "bare": bare_program}, repeats), flops, size)
    Console(width=140).print(table)


def add_row(table: Table, work: works.Work, times: dict[str, tuple[float, float]], flops: float, size: float) -> None:
    """One row, of ratios to the bare loop."""
    cpu, wall = times["bare"]
    ours, numpyro = times["ours"], times.get("numpyro")
    peers = [f"{numpyro[0] / cpu:.2f}", f"{numpyro[1] / wall:.2f}"] if numpyro else ["-", "-"]
    microseconds = f"{1e6 * wall / work.num_steps:.1f}"
    table.add_row(
        work.name, microseconds, f"{ours[0] / cpu:.2f}", f"{ours[1] / wall:.2f}", f"{flops:.3f}", f"{size:.3f}", *peers
    )


if __name__ == "__main__":
    main()
