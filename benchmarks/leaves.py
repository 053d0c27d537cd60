"""A latent of 100 leaves: `jaxelbo.fit` against drawing and optimising leaf by leaf, step time and compile time.

    python -m benchmarks.leaves [--repeats 15]

Both programs run in this process, in turn. Compile time is the first call's, nothing cached, less that of a later one.
"""

import argparse
import functools
import statistics
import time

import jax

from benchmarks import step_cost, works


def first_call_seconds(make) -> float:
    """CPU seconds of a program's first call, nothing cached: tracing, lowering, compiling and one run."""
    jax.clear_caches()
    program, start = make(), time.process_time()
    jax.block_until_ready(program())
    return time.process_time() - start


def main() -> None:
    """Prints step times, compile times and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15, help="interleaved repeats of each program (default 15)")
    repeats = parser.parse_args().repeats
    work = works.many_leaves()
    makers = {
        "ours": functools.partial(step_cost.ours, work),
        "by leaf": functools.partial(step_cost.bare_loop, work),
    }
    first = {name: [] for name in makers}
    for _ in range(3):
        for name, make in makers.items():
            first[name].append(first_call_seconds(make))
    times = step_cost.interleave({name: make() for name, make in makers.items()}, repeats)
    compiling = {name: statistics.median(first[name]) - times[name][0] for name in makers}
    print(f"{'':10}{'CPU us/step':>12}{'wall us/step':>14}{'compile CPU s':>15}")
    for name, seconds in compiling.items():
        cpu, wall = (1e6 * value / work.num_steps for value in times[name])
        print(f"{name:10}{cpu:12.1f}{wall:14.1f}{seconds:15.2f}")
    cpu, wall = (mine / theirs for mine, theirs in zip(times["ours"], times["by leaf"], strict=True))
    print(f"{'ratio':10}{cpu:12.2f}{wall:14.2f}{compiling['ours'] / compiling['by leaf']:15.2f}")


if __name__ == "__main__":
    main()
