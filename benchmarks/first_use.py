"""The first fit of a fresh process: XLA programs compiled, and CPU seconds from process start to the last step.

    python -m benchmarks.first_use [--repeats 5]

Each row is a program of its own, as a user would write it: imports, data, 500 steps, one number printed. A second fit
with new data of the same shapes follows, whose compilations are counted alone.
"""

import argparse
import compileall
import importlib.util
import resource
import statistics
import subprocess
import sys

PRELUDE = """
import jax, jax.numpy as jnp, optax, chex
import numpy as np
count = [0]
jax.monitoring.register_event_duration_secs_listener(
    lambda name, *_, **__: count.__setitem__(0, count[0] + name.endswith("backend_compile_duration")))
rng = np.random.default_rng(0)
x = rng.normal(size=(5000, 50)).astype(np.float32)
y = (rng.random(5000) < 0.5).astype(np.float32)
"""

OURS = """
import jaxelbo, resource
family = jaxelbo.families.mean_field(jnp.zeros(50))
optimizer = optax.adam(1e-2)

def log_joint(z, x, y):
    logits = x @ z
    return jnp.sum(y * logits - jax.nn.softplus(logits)) - 0.5 * jnp.sum(z**2)

def loss_fn(params, key, x, y):
    return -jaxelbo.elbo(params, key, lambda z: log_joint(z, x, y), family, num_samples=1)

def fit(x, y):
    params, key = family.init(jax.random.key(0)), jax.random.key(1)
    return jaxelbo.fit(params, key, loss_fn, optimizer, num_steps=500, data=(x, y)).history.loss
"""

BARE = """
import resource
optimizer = optax.adam(1e-2)

def loss_fn(params, key, x, y):
    loc, log_scale = params
    logits = x @ (z := loc + jnp.exp(log_scale) * jax.random.normal(key, loc.shape))
    return 0.5 * jnp.sum(z**2) - jnp.sum(y * logits - jax.nn.softplus(logits)) - jnp.sum(log_scale)

@jax.jit
def run(params, key, x, y):
    def body(carry, key):
        params, state = carry
        loss, gradient = jax.value_and_grad(loss_fn)(params, key, x, y)
        updates, state = optimizer.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), loss
    return jax.lax.scan(body, (params, optimizer.init(params)), jax.random.split(key, 500))

def fit(x, y):
    return run((jnp.zeros(50), jnp.full(50, jnp.log(0.1))), jax.random.key(1), x, y)[1]
"""

NUMPYRO = """
import numpyro, resource
from numpyro import distributions as dist
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal

def model(x, y):
    z = numpyro.sample("z", dist.Normal(0, 1).expand([50]).to_event(1))
    numpyro.sample("y", dist.Bernoulli(logits=x @ z), obs=y)

svi = SVI(model, AutoNormal(model), optax.adam(1e-2), Trace_ELBO())

def fit(x, y):
    return svi.run(jax.random.key(1), 500, x, y, progress_bar=False).losses
"""

ENDING = """
jax.block_until_ready(fit(x, y))
usage = resource.getrusage(resource.RUSAGE_SELF)
first, seconds = count[0], usage.ru_utime + usage.ru_stime
x, y = np.flip(x), np.flip(y)
jax.block_until_ready(fit(x, y))
print(first, count[0] - first, seconds)
"""

IMPORT_OURS = """
import time
begin = time.process_time()
import jax, optax, chex
between = time.process_time()
import jaxelbo
print(between - begin, time.process_time() - between)
"""


def measure(body: str) -> tuple[int, int, float]:
    """Programs to the first fit, programs of the second, CPU seconds to the first."""
    command = [sys.executable, "-c", PRELUDE + body + ENDING]
    first, second, seconds = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return int(first), int(second), float(seconds)


def import_seconds() -> tuple[float, float]:
    """CPU seconds of ``import jax, optax, chex``, and those that ``import jaxelbo`` adds.

    With bytecode for both, as installed packages have it, also where PYTHONDONTWRITEBYTECODE is set.
    """
    (package,) = importlib.util.find_spec("jaxelbo").submodule_search_locations
    compileall.compile_dir(package, quiet=1)
    command = [sys.executable, "-c", IMPORT_OURS]
    needed, added = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(needed), float(added)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="interleaved processes of each kind (default 5)")
    repeats = parser.parse_args().repeats
    bodies = {"bare": BARE, "jaxelbo": OURS, "numpyro": NUMPYRO}
    rows = {name: [] for name in bodies}
    for _ in range(repeats):
        for name, body in bodies.items():
            rows[name].append(measure(body))
    bare = statistics.median(row[2] for row in rows["bare"])
    print(f"{'':10}{'programs':>10}{'of a refit':>12}{'CPU s':>8}{'ratio':>8}")
    for name, results in rows.items():
        seconds = statistics.median(row[2] for row in results)
        print(f"{name:10}{results[0][0]:10}{results[0][1]:12}{seconds:8.2f}{seconds / bare:8.2f}")
    needed, added = map(statistics.median, zip(*(import_seconds() for _ in range(repeats)), strict=True))
    print(f"import jaxelbo adds {added:.3f} s to {needed:.3f} s of jax, optax, chex")
    print(f"{resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024} MiB peak")


if __name__ == "__main__":
    main()
