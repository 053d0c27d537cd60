"""What the gradient estimators cost against bare JAX and against other libraries, and how noisy they are.

    python -m benchmarks.gradient_estimators [--repeats 15] [--only cost|peers|variance]

Cost: ``jax.grad`` of the bound with each estimator, over the same estimator written by hand. Flops and bytes are what
XLA's cost analysis counts for the compiled program of one gradient: operations as they stand after fusion, an operation
that two fusions both make counting twice, the body of a loop once, random bits too. CPU is process time over all
threads, wall the clock; both are medians of interleaved runs of a scan of as many gradient steps as take about 20 ms. A
ratio is ours over theirs. Bars: 1.03 for flops and bytes, 1.15 for CPU; what lies above is starred.

That the two are one estimator is measured too: "gap" is the distance between their mean gradients over its standard
error (1 if they agree; where the estimator makes no draws, the relative distance), "variance" the ratio of their total
variances, whose own error is a few hundredths.
"""

import argparse
import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
from rich.console import Console
from rich.table import Table

import jaxelbo
from benchmarks import estimator_cases, peers
from benchmarks.step_cost import cost_ratios, interleave

WORK_BAR, TIME_BAR = 1.03, 1.15
Value = Callable[..., jax.Array]


def looped(value: Value, params: Any, data: tuple[Any, ...], length: int) -> Callable[[], Any]:
    """A compiled scan of ``length`` gradient steps of a size that changes nothing."""

    @jax.jit
    def program(params: Any, key: jax.Array, *data: Any) -> Any:
        def step(params: Any, key: jax.Array) -> Any:
            gradient = jax.grad(value)(params, key, *data)
            return jax.tree.map(lambda p, g: p + 1e-9 * g, params, gradient), None

        return jax.lax.scan(step, params, jax.random.split(key, length))[0]

    return functools.partial(program, params, jax.random.key(0), *data)


def length_for(value: Value, params: Any, data: tuple[Any, ...], seconds: float = 0.02) -> int:
    """How many gradients take about so long."""
    gradient, key = jax.jit(jax.grad(value)), jax.random.key(0)
    jax.block_until_ready(gradient(params, key, *data))
    start = time.perf_counter()
    for _ in range(5):
        jax.block_until_ready(gradient(params, key, *data))
    return max(1, round(5 * seconds / (time.perf_counter() - start)))


def moments(value: Value, params: Any, data: tuple[Any, ...], key: jax.Array, count: int) -> tuple[Any, Any]:
    """Mean gradient and variance of one gradient, entry by entry, on a flat vector."""

    @jax.jit
    def program(params: Any, key: jax.Array, *data: Any) -> Any:
        def flat(key: jax.Array) -> jax.Array:
            return jax.flatten_util.ravel_pytree(jax.grad(value)(params, key, *data))[0]

        def step(total: Any, key: jax.Array) -> Any:
            deviation = flat(key) - first
            return (total[0] + deviation, total[1] + deviation**2), None

        keys = jax.random.split(key, count)
        first = flat(keys[0])  # deviations from one gradient, so that one without noise has a variance of zero
        sums, _ = jax.lax.scan(step, (jnp.zeros_like(first), jnp.zeros_like(first)), keys)
        return first, *sums

    first, total, squares = (np.asarray(array, np.float64) for array in program(params, key, *data))
    return first + total / count, np.maximum(squares / count - (total / count) ** 2, 0) * count / (count - 1)


def agreement(ours: Value, theirs: Value, params: Any, data: tuple[Any, ...], count: int = 100) -> tuple[float, float]:
    """Gap and ratio of variances of two gradients, see the module."""
    keys = jax.random.split(jax.random.key(1))
    (mean, variance), (other, other_variance) = (
        moments(value, params, data, key, count) for value, key in zip((ours, theirs), keys, strict=True)
    )
    distance, noise = np.linalg.norm(mean - other), np.sqrt(np.sum(variance + other_variance) / count)
    # A gradient without draws differs from itself by nothing, or by rounding.
    if noise < 1e-6 * np.linalg.norm(mean):
        return float(distance / np.linalg.norm(mean)), float("nan")
    return float(distance / noise), float(np.sum(variance) / np.sum(other_variance))


def starred(ratio: float, bar: float, digits: int) -> str:
    """The ratio, marked where it is above its bar."""
    return f"{ratio:.{digits}f}" + ("*" if round(ratio, digits) > bar else "")


def print_costs(repeats: int, names: str) -> None:
    """The table of costs, for the cases whose names contain ``names``."""
    table = Table(
        "estimator", "by hand, us", "flops", "bytes", "CPU", "wall", "gap", "variance", title=title("by hand")
    )
    for case in estimator_cases.cases():
        if names not in case.name:
            continue
        key = jax.random.key(0)
        flops, size = cost_ratios(
            *(jax.jit(jax.grad(f)).lower(case.params, key, *case.data).compile() for f in (case.ours, case.hand))
        )
        length = length_for(case.hand, case.params, case.data)
        programs = {
            name: looped(value, case.params, case.data, length)
            for name, value in (("ours", case.ours), ("hand", case.hand))
        }
        times = interleave(programs, repeats)
        (cpu, wall), (hand_cpu, hand_wall) = times["ours"], times["hand"]
        gap, variance = agreement(case.ours, case.hand, case.params, case.data)
        table.add_row(
            case.name, f"{1e6 * hand_wall / length:.0f}", starred(flops, WORK_BAR, 3), starred(size, WORK_BAR, 3),
            starred(cpu / hand_cpu, TIME_BAR, 2), f"{wall / hand_wall:.2f}", f"{gap:.2g}", f"{variance:.2f}",
        )  # fmt: skip
    Console(width=120).print(table)


def print_variances() -> None:
    """Two gradient reports: on bits and on a continuous latent."""
    rng = np.random.default_rng(0)
    coupling = jnp.asarray(rng.normal(size=(10, 10)) / 2, jnp.float32)
    field = jnp.asarray(rng.normal(size=10), jnp.float32)
    bits = jaxelbo.families.bernoulli(jnp.zeros(10))
    params = {"logits": jnp.asarray(rng.normal(size=10) / 2, jnp.float32)}
    print("10 bits, log joint z' W z + b' z, S = 4")
    jaxelbo.print_gradient_report(
        jaxelbo.gradient_report(params, jax.random.key(0), lambda z: z @ coupling @ z + field @ z, bits)
    )
    gaussian = jaxelbo.families.mean_field(jnp.zeros(10), initial_scale=0.5)

    def log_joint(z: jax.Array) -> jax.Array:  # Student's t on mixed coordinates
        return -2.5 * jnp.sum(jnp.log1p((z + coupling @ z - field) ** 2 / 4))

    print("10 Gaussian coordinates, log joint of Student's t on mixed coordinates, S = 4")
    jaxelbo.print_gradient_report(
        jaxelbo.gradient_report(gaussian.init(jax.random.key(0)), jax.random.key(1), log_joint, gaussian)
    )


def print_peers(repeats: int) -> None:
    """The table against other libraries."""
    columns = "problem", "library", "ours, us", "CPU", "wall", "flops", "bytes", "gap", "variance"
    table = Table(*columns, title=title("the library over ours"))
    for case in peers.cases():
        if case.theirs is None:
            table.add_row(case.name, f"{case.library}: not installed")
            continue
        length = length_for(case.ours, case.params, case.data)
        programs = {
            name: looped(value, case.params, case.data, length)
            for name, value in (("ours", case.ours), ("theirs", case.theirs))
        }
        times = interleave(programs, repeats)
        (cpu, wall), (their_cpu, their_wall) = times["ours"], times["theirs"]
        flops, size = cost_ratios(
            *(
                jax.jit(jax.grad(f)).lower(case.params, jax.random.key(0), *case.data).compile()
                for f in (case.theirs, case.ours)
            )
        )
        gap, variance = agreement(case.theirs, case.ours, case.params, case.data)
        table.add_row(
            case.name, case.library, f"{1e6 * wall / length:.0f}", f"{their_cpu / cpu:.2f}", f"{their_wall / wall:.2f}",
            f"{flops:.3f}", f"{size:.3f}", f"{gap:.2g}", f"{variance:.2f}",
        )  # fmt: skip
    Console(width=140).print(table)


def title(what: str) -> str:
    """Versions and device."""
    device = jax.devices()[0].device_kind
    return f"gradients, ratios to {what}; jax {jax.__version__}, jaxlib {jaxlib.__version__}, {device}"


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15, help="interleaved repeats of each program (default 15)")
    parser.add_argument("--only", choices=("cost", "peers", "variance"), help="one table alone")
    parser.add_argument("--names", default="", help="of the costs, those whose names contain this")
    arguments = parser.parse_args()
    if arguments.only in (None, "cost"):
        print_costs(arguments.repeats, arguments.names)
    if arguments.only in (None, "variance"):
        print_variances()
    if arguments.only in (None, "peers"):
        print_peers(arguments.repeats)


if __name__ == "__main__":
    main()
