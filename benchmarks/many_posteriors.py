"""Many small posteriors by one compiled ``vmap(infer)``, beside as many calls of one compiled function.

    python -m benchmarks.many_posteriors [--posteriors 256] [--latents 4]

Log gammas, a data set each, float64, both compiled before they are timed: the
ratio of the times, the largest KL of a pair in nats, and how many statuses differ.
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np

import jaxelbo


def kl_of_pair(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> float:
    """KL of two full-rank Gaussians by their params."""

    def root(params: dict[str, np.ndarray]) -> np.ndarray:
        lower = np.eye(len(params["loc"])) + np.tril(params["unit_tril"], -1)
        return np.exp(params["log_scale"])[:, None] * lower

    inner = np.linalg.solve(root(second), root(first))
    shift = np.linalg.solve(root(second), first["loc"] - second["loc"])
    return 0.5 * (np.sum(inner**2) + shift @ shift - len(shift)) - np.linalg.slogdet(inner)[1]


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--posteriors", type=int, default=256)
    parser.add_argument("--latents", type=int, default=4)
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    count, size = options.posteriors, options.latents
    rates = jax.random.gamma(jax.random.key(0), 3.0, (count, size)) + 0.5
    keys = jax.random.split(jax.random.key(1), count)

    def of_one(rates: jax.Array, key: jax.Array) -> jaxelbo.Inference:
        return jaxelbo.infer(lambda z: jnp.sum(3 * z - rates * jnp.exp(z)), jnp.zeros(size), key)

    alone, together = jax.jit(of_one), jax.jit(jax.vmap(of_one))
    jax.block_until_ready((alone(rates[0], keys[0]), together(rates, keys)))
    ratios = []
    for _ in range(3):
        before = time.perf_counter()
        batch = jax.block_until_ready(together(rates, keys))
        between = time.perf_counter()
        singles = [jax.block_until_ready(alone(rates[index], keys[index])) for index in range(count)]
        after = time.perf_counter()
        ratios.append(((between - before) / (after - between), between - before, after - between))
    ratio, seconds, seconds_alone = sorted(ratios)[1]
    batch_params = jax.tree.map(np.asarray, batch.params)
    worst = max(
        kl_of_pair({name: leaf[index] for name, leaf in batch_params.items()}, jax.tree.map(np.asarray, single.params))
        for index, single in enumerate(singles)
    )
    different = sum(int(batch.status.code[index]) != int(single.status.code) for index, single in enumerate(singles))
    print(
        f"{count} posteriors of {size} entries, {jax.default_backend()}, jax {jax.__version__}: "
        f"together {seconds:.2f} s, one by one {seconds_alone:.2f} s, ratio {ratio:.3f}; "
        f"largest KL of a pair {worst:.2g} nats, {different} statuses differ"
    )


if __name__ == "__main__":
    main()
