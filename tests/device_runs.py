"""A fit over the devices there are, for `test_device_meshes`: `python -m tests.device_runs OUTPUT float32|float64`.

With a third argument it takes up the checkpoint in OUTPUT, if there is one, and ends without a word at that step.
"""

import functools
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxelbo
from jaxelbo import device_meshes, families

NUM_ROWS, NUM_STEPS = 64, 300


def begun(run, output, last, name):
    """To step ``last`` or to the end, from the checkpoint if there is one; says where it began."""
    steps = []

    def callback(report):
        steps.append(report.step)
        if report.step >= last:
            raise SystemExit  # the checkpoint is written on the way out

    begin = (output / "run.npz").exists()
    result = run(checkpoint=output / "run.npz", callback=callback, report_every=10)
    np.savez(output / name, begin=np.asarray(steps[0] if begin else 0), **jax.tree.map(np.asarray, result.params),
             loss=np.asarray(result.history.loss))  # fmt: skip


def main():
    output, dtype = pathlib.Path(sys.argv[1]), sys.argv[2]
    jax.config.update("jax_enable_x64", dtype == "float64")
    rng = np.random.default_rng(0)
    design = rng.normal(size=(NUM_ROWS, 3)).astype(dtype)
    y = (design @ np.array([1.0, -2.0, 0.5]) + 0.3 * rng.normal(size=NUM_ROWS)).astype(dtype)
    family = families.full_rank(jnp.zeros(3, dtype))

    def loss_fn(params, key, design, y):
        def log_joint(z):
            return jnp.sum(jax.scipy.stats.norm.logpdf(y, design @ z, 0.3)) - 0.5 * jnp.sum(z**2)

        return -jaxelbo.elbo(params, key, log_joint, family, num_samples=8)

    mesh = device_meshes.device_mesh(num_along_samples=2 if len(jax.devices()) > 1 else 1)
    own = slice(jax.process_index() * NUM_ROWS // jax.process_count(), None)
    own = slice(own.start, own.start + NUM_ROWS // jax.process_count())
    data = device_meshes.place_rows((design[own], y[own]), mesh)
    start, key = device_meshes.place_everywhere((family.init(jax.random.key(0)), jax.random.key(1)), mesh)
    run = functools.partial(jaxelbo.fit, start, key, loss_fn, optax.adam(0.02), num_steps=NUM_STEPS, data=data)
    name = f"{jax.process_index()}-of-{jax.process_count()}-{len(jax.devices())}.npz"
    if len(sys.argv) > 3:
        with jax.set_mesh(mesh):
            begun(run, output, int(sys.argv[3]), name)
        return
    with jax.set_mesh(mesh):
        result = run()
        batches = jaxelbo.fit(start, key, loss_fn, optax.adam(0.02), num_steps=50, data=data, batch_size=16)
    arrays = {f"{name} {leaf}": np.asarray(fit.params[leaf]) for name, fit in (("all", result), ("batches", batches))
              for leaf in fit.params}  # fmt: skip
    np.savez(output / name, loss=np.asarray(result.history.loss), **arrays)


if __name__ == "__main__":
    main()
