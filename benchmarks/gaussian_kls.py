"""KL of many pairs of Gaussians with full covariance, value and gradient: jaxelbo beside NumPyro, TFP and distrax.

    python -m benchmarks.gaussian_kls [--pairs 20000] [--size 32] [--repeats 15]

Each library runs in a process of its own, since the gradient of some never ends; they take turns within one run. A
library that is not installed is left out. Times are wall medians of a compiled call, inputs on the device.
"""

import argparse
import importlib.util
import multiprocessing
import statistics
import time
from multiprocessing.connection import Connection
from typing import Any

LIMIT_S = 60.0
LIBRARIES = {"jaxelbo": "jaxelbo", "NumPyro": "numpyro", "TFP": "tensorflow_probability", "distrax": "distrax"}


def kl_function(library: str) -> Any:
    """``(q, p) -> KL`` of batches of the library's own parameters."""
    import jax

    if library == "jaxelbo":
        from jaxelbo import divergences
        from jaxelbo.distributions import Dense

        return jax.vmap(lambda q, p: divergences.between(Dense(*q), Dense(*p)))
    if library == "NumPyro":
        from numpyro.distributions import MultivariateNormal, kl_divergence

        return lambda q, p: kl_divergence(
            MultivariateNormal(q[0], scale_tril=q[1]), MultivariateNormal(p[0], scale_tril=p[1])
        )
    if library == "TFP":
        from tensorflow_probability.substrates.jax.distributions import MultivariateNormalTriL as make
    else:
        from distrax import MultivariateNormalTri as make
    return lambda q, p: make(*q).kl_divergence(make(*p))


def serve(library: str, num_pairs: int, size: int, pipe: Connection) -> None:
    """Compiles the value and its gradient, then answers each name that comes with the seconds of one call."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    rng = np.random.default_rng(0)

    def parameters() -> tuple[jax.Array, ...]:
        """Location and scale_tril; for ours the diagonal apart, as its families hold it."""
        loc, log_scale = rng.normal(size=(num_pairs, size)), 0.3 * rng.normal(size=(num_pairs, size))
        unit_tril = np.tril(0.3 * rng.normal(size=(num_pairs, size, size)), -1) + np.eye(size)
        apart, together = (loc, log_scale, unit_tril), (loc, np.exp(log_scale)[..., None] * unit_tril)
        return tuple(jnp.asarray(leaf, "float32") for leaf in (apart if library == "jaxelbo" else together))

    q, p = parameters(), parameters()
    batch = kl_function(library)

    def total(q: Any, p: Any) -> jax.Array:
        return jnp.sum(batch(q, p))

    programs = {"value": jax.jit(batch), "gradient": jax.jit(jax.value_and_grad(total, argnums=(0, 1)))}
    while True:
        name = pipe.recv()
        start = time.perf_counter()
        result = jax.block_until_ready(programs[name](q, p))
        seconds = time.perf_counter() - start
        pipe.send((seconds, float(jnp.sum(result) if name == "value" else result[0])))


def main() -> None:
    """Prints the medians, and ratios to ours."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=20_000, help="how many pairs (default 20000)")
    parser.add_argument("--size", type=int, default=32, help="dimension D (default 32)")
    parser.add_argument("--repeats", type=int, default=15, help="calls of each, in turn (default 15)")
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    for name in ("value", "gradient"):
        pipes, workers, times, values = {}, {}, {}, {}
        for library, module in LIBRARIES.items():
            if importlib.util.find_spec(module) is None:
                print(f"{library} is not installed")
                continue
            pipes[library], theirs = context.Pipe()
            arguments = (library, options.pairs, options.size, theirs)
            workers[library] = context.Process(target=serve, args=arguments, daemon=True)
            workers[library].start()
            times[library] = []
        for repeat in range(options.repeats + 1):  # the first compiles
            for library in list(pipes):
                pipes[library].send(name)
                if not pipes[library].poll(LIMIT_S):
                    workers.pop(library).kill()
                    pipes.pop(library)
                    continue
                seconds, values[library] = pipes[library].recv()
                if repeat:
                    times[library].append(seconds)
        for worker in workers.values():
            worker.kill()
        ours = statistics.median(times["jaxelbo"])
        print(f"{name}: {options.pairs:,} pairs, D = {options.size}")
        for library, seconds in times.items():
            if library in pipes:
                median = statistics.median(seconds)
                print(f"  {library:8}{1e3 * median:9.1f} ms{median / ours:7.2f} x ours   sum {values[library]:.6g}")
            else:
                print(f"  {library:8} did not end within {LIMIT_S:.0f} s")


if __name__ == "__main__":
    main()
