"""The works that are timed: each stated for jaxelbo, as a bare JAX loop, and for NumPyro where its guides match.

The bare loop is the fastest form that we can write: a flat vector, the negative bound written out with the entropy in
closed form, and the same optax update. Data are made up from a seed; only their sizes matter here.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxelbo

norm = jax.scipy.stats.norm


class Work(NamedTuple):
    """One optimisation problem in up to three wordings, all lowering a negative bound.

    Attributes:
      name: row of the table.
      num_steps: steps of one repeat.
      optimizer: shared by all.
      params: where jaxelbo starts.
      loss_fn: ``(params, key, *data) -> scalar`` for `jaxelbo.fit`.
      bare_params: where the bare loop starts.
      bare_loss: ``(params, key, *data) -> scalar``, written out.
      data: traced arguments of both.
      batch_size: minibatch, drawn by a permutation an epoch, or ``None``.
      numpyro: ``() -> (model, guide, model arguments, number of particles)``, or ``None``.
    """

    name: str
    num_steps: int
    optimizer: optax.GradientTransformation
    params: Any
    loss_fn: Callable[..., jax.Array]
    bare_params: Any
    bare_loss: Callable[..., jax.Array]
    data: tuple[Any, ...]
    batch_size: int | None = None
    numpyro: Callable[[], tuple[Any, ...]] | None = None


def estimator_for(closed_form: bool) -> jaxelbo.Estimator:
    """The bare loop's form of the bound, or the default."""
    return jaxelbo.estimators.closed_form_entropy if closed_form else jaxelbo.estimators.leave_one_out


def logistic_regression(num_rows: int = 5_000, dim: int = 50) -> Work:
    """Mean field, one draw."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(num_rows, dim)).astype(np.float32)
    y = (rng.random(num_rows) < 1 / (1 + np.exp(-x[:, 0]))).astype(np.float32)
    family = jaxelbo.families.mean_field(jax.ShapeDtypeStruct((dim,), jnp.float32))

    def log_joint(z: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
        logits = x @ z
        return jnp.sum(y * logits - jax.nn.softplus(logits)) - 0.5 * jnp.sum(z**2)

    def loss_fn(params: Any, key: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
        return -jaxelbo.elbo(params, key, functools.partial(log_joint, x=x, y=y), family, num_samples=1)

    def bare_loss(params: Any, key: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
        loc, log_scale = params
        z = loc + jnp.exp(log_scale) * jax.random.normal(key, loc.shape)
        return -log_joint(z, x, y) - jnp.sum(log_scale)

    def numpyro_form() -> tuple[Any, ...]:
        import numpyro
        from numpyro import distributions as dist
        from numpyro.infer.autoguide import AutoNormal

        def model(x: jax.Array, y: jax.Array) -> None:
            z = numpyro.sample("z", dist.Normal(0, 1).expand([dim]).to_event(1))
            numpyro.sample("y", dist.Bernoulli(logits=x @ z), obs=y)

        return model, AutoNormal(model), (x, y), 1

    bare_params = jnp.zeros(dim), jnp.full(dim, jnp.log(0.1))
    params = family.init(jax.random.key(0))
    return Work(
        f"logistic regression, D = {dim}, N = {num_rows:,}", 1_000, optax.adam(1e-2), params, loss_fn, bare_params,
        bare_loss, (x, y), None, numpyro_form,
    )  # fmt: skip


def minibatch_regression(closed_form: bool = False) -> Work:
    """Logistic regression again, 256 rows of 60,000 a step, one permutation an epoch."""
    full = logistic_regression(num_rows=60_000)
    scale, dim = 60_000 / 256, 50
    family = jaxelbo.families.mean_field(jax.ShapeDtypeStruct((dim,), jnp.float32))

    def log_joint(z: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
        logits = x @ z
        return scale * jnp.sum(y * logits - jax.nn.softplus(logits)) - 0.5 * jnp.sum(z**2)

    def loss_fn(params: Any, key: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
        target = functools.partial(log_joint, x=x, y=y)
        return -jaxelbo.elbo(params, key, target, family, num_samples=1, estimator=estimator_for(closed_form))

    def bare_loss(params: Any, key: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
        loc, log_scale = params
        z = loc + jnp.exp(log_scale) * jax.random.normal(key, loc.shape)
        return -log_joint(z, x, y) - jnp.sum(log_scale)

    return full._replace(
        name="minibatch of 256 from 60,000 rows", num_steps=4_680, loss_fn=loss_fn, bare_loss=bare_loss, batch_size=256,
        numpyro=None,
    )  # fmt: skip


def hierarchical(num_groups: int = 1_000, closed_form: bool = False) -> Work:
    """Normal means with unknown spread, mean field, one draw."""
    rng = np.random.default_rng(1)
    y = rng.normal(size=num_groups).astype(np.float32) * 2
    like = {"mu": 0.0, "log_tau": 0.0, "theta": jax.ShapeDtypeStruct((num_groups,), jnp.float32)}
    family = jaxelbo.families.mean_field(like)

    def density(mu: jax.Array, log_tau: jax.Array, theta: jax.Array, y: jax.Array) -> jax.Array:
        likelihood = jnp.sum(norm.logpdf(y, theta, 1.0)) + jnp.sum(norm.logpdf(theta, mu, jnp.exp(log_tau)))
        return likelihood + norm.logpdf(mu, 0.0, 5.0) + norm.logpdf(log_tau, 0.0, 1.0)

    def loss_fn(params: Any, key: jax.Array, y: jax.Array) -> jax.Array:
        log_joint = lambda z: density(z["mu"], z["log_tau"], z["theta"], y)  # noqa: E731
        return -jaxelbo.elbo(params, key, log_joint, family, num_samples=1, estimator=estimator_for(closed_form))

    def bare_loss(params: Any, key: jax.Array, y: jax.Array) -> jax.Array:
        loc, log_scale = params
        z = loc + jnp.exp(log_scale) * jax.random.normal(key, loc.shape)
        log_tau, mu, theta = jax.lax.split(z, (1, 1, num_groups))  # faster than slices, whose transposes are padded
        return -density(mu[0], log_tau[0], theta, y) - jnp.sum(log_scale)

    def numpyro_form() -> tuple[Any, ...]:
        import numpyro
        from numpyro import distributions as dist
        from numpyro.infer.autoguide import AutoNormal

        def model(y: jax.Array) -> None:
            mu = numpyro.sample("mu", dist.Normal(0, 5))
            log_tau = numpyro.sample("log_tau", dist.Normal(0, 1))
            with numpyro.plate("groups", num_groups):
                theta = numpyro.sample("theta", dist.Normal(mu, jnp.exp(log_tau)))
                numpyro.sample("y", dist.Normal(theta, 1), obs=y)

        return model, AutoNormal(model), (y,), 1

    bare_params = jnp.zeros(num_groups + 2), jnp.full(num_groups + 2, jnp.log(0.1))
    return Work(
        f"hierarchical, {num_groups:,} groups, mean field", 4_000, optax.adam(1e-2), family.init(jax.random.key(0)),
        loss_fn, bare_params, bare_loss, (y,), None, numpyro_form,
    )  # fmt: skip


def correlated_gaussian(dim: int = 200, num_samples: int = 8) -> Work:
    """Full rank."""
    rng = np.random.default_rng(2)
    root = rng.normal(size=(dim, dim)) / np.sqrt(dim)
    precision = (root @ root.T + 0.1 * np.eye(dim)).astype(np.float32)
    family = jaxelbo.families.full_rank(jax.ShapeDtypeStruct((dim,), jnp.float32))

    def loss_fn(params: Any, key: jax.Array, precision: jax.Array) -> jax.Array:
        log_joint = lambda z: -0.5 * z @ precision @ z  # noqa: E731
        return -jaxelbo.elbo(params, key, log_joint, family, num_samples=num_samples)

    def bare_loss(params: Any, key: jax.Array, precision: jax.Array) -> jax.Array:
        loc, log_scale, unit_tril = params
        noise = jax.random.normal(key, (num_samples, dim))
        z = loc + jnp.exp(log_scale) * (noise + noise @ jnp.tril(unit_tril, -1).T)
        return 0.5 * jnp.mean(jnp.sum(z @ precision * z, axis=1)) - jnp.sum(log_scale)

    def numpyro_form() -> tuple[Any, ...]:
        import numpyro
        from numpyro import distributions as dist
        from numpyro.infer.autoguide import AutoMultivariateNormal

        def model(precision: jax.Array) -> None:
            z = numpyro.sample("z", dist.ImproperUniform(dist.constraints.real_vector, (), (dim,)))
            numpyro.factor("density", -0.5 * z @ precision @ z)

        return model, AutoMultivariateNormal(model), (precision,), num_samples

    bare_params = jnp.zeros(dim), jnp.full(dim, jnp.log(0.1)), jnp.zeros((dim, dim))
    return Work(
        f"correlated Gaussian, full rank, D = {dim}, {num_samples} draws", 500, optax.adam(1e-2),
        family.init(jax.random.key(0)), loss_fn, bare_params, bare_loss, (precision,), None, numpyro_form,
    )  # fmt: skip


def autoencoder(num_samples: int = 1, batch: int = 128, pixels: int = 64, hidden: int = 128, code: int = 16) -> Work:
    """One minibatch of a variational autoencoder on 8x8 images; the importance-weighted bound where num_samples > 1."""
    rng = np.random.default_rng(3)
    x = (rng.random((batch, pixels)) < 0.3).astype(np.float32)
    family = jaxelbo.families.mean_field(jax.ShapeDtypeStruct((code,), jnp.float32))
    bound = jaxelbo.bounds.mean if num_samples == 1 else jaxelbo.bounds.importance_weighted

    def dense(sizes: list[int]) -> list[tuple[np.ndarray, np.ndarray]]:
        return [
            (rng.normal(size=(m, n)).astype(np.float32) / np.sqrt(m), np.zeros(n, np.float32))
            for m, n in itertools.pairwise(sizes)
        ]

    def apply(layers: Any, h: jax.Array) -> jax.Array:
        (w1, b1), (w2, b2) = layers
        return jnp.tanh(h @ w1 + b1) @ w2 + b2

    def log_joint(z: jax.Array, decoder: Any, x: jax.Array) -> jax.Array:
        logits = apply(decoder, z)
        likelihood = jnp.sum(x * logits - jax.nn.softplus(logits), axis=-1)
        return likelihood - 0.5 * jnp.sum(z**2, axis=-1) - 0.5 * code * jnp.log(2 * jnp.pi)

    def loss_fn(params: Any, key: jax.Array, x: jax.Array) -> jax.Array:
        def one(x: jax.Array, key: jax.Array) -> jax.Array:
            loc, log_scale = jnp.split(apply(params["encoder"], x), 2)
            target = functools.partial(log_joint, decoder=params["decoder"], x=x)
            q = {"loc": loc, "log_scale": log_scale}
            return jaxelbo.lower_bound(q, key, target, family, bound=bound, num_samples=num_samples)

        return -jnp.mean(jax.vmap(one)(x, jax.random.split(key, batch)))

    def bare_loss(params: Any, key: jax.Array, x: jax.Array) -> jax.Array:
        loc, log_scale = jnp.split(apply(params["encoder"], x), 2, axis=-1)
        shape = (batch, code) if num_samples == 1 else (num_samples, batch, code)
        noise = jax.random.normal(key, shape)
        log_p = log_joint(loc + jnp.exp(log_scale) * noise, params["decoder"], x)
        if num_samples == 1:
            return -jnp.mean(log_p + jnp.sum(log_scale, axis=-1) + 0.5 * code * (1 + jnp.log(2 * jnp.pi)))
        log_q = -0.5 * jnp.sum(noise**2, axis=-1) - jnp.sum(log_scale, axis=-1) - 0.5 * code * jnp.log(2 * jnp.pi)
        return -jnp.mean(jax.nn.logsumexp(log_p - log_q, axis=0) - jnp.log(num_samples))

    def numpyro_form() -> tuple[Any, ...]:
        import numpyro
        from numpyro import distributions as dist

        def model(x: jax.Array) -> None:
            decoder = numpyro.param("decoder", params["decoder"])
            with numpyro.plate("rows", batch):
                z = numpyro.sample("z", dist.Normal(0, 1).expand([code]).to_event(1))
                numpyro.sample("x", dist.Bernoulli(logits=apply(decoder, z)).to_event(1), obs=x)

        def guide(x: jax.Array) -> None:
            encoder = numpyro.param("encoder", params["encoder"])
            loc, log_scale = jnp.split(apply(encoder, x), 2, axis=-1)
            with numpyro.plate("rows", batch):
                numpyro.sample("z", dist.Normal(loc, jnp.exp(log_scale)).to_event(1))

        return model, guide, (x,), 1

    params = {"encoder": dense([pixels, hidden, 2 * code]), "decoder": dense([code, hidden, pixels])}
    params = jax.tree.map(jnp.asarray, params)
    name = "autoencoder, minibatch of 128" if num_samples == 1 else f"the same, importance weighted, K = {num_samples}"
    steps = 500 if num_samples == 1 else 20
    numpyro_or_none = numpyro_form if num_samples == 1 else None
    return Work(
        name, steps, optax.adam(1e-3), params, loss_fn, params, bare_loss, (x,), None, numpyro_or_none
    )  # fmt: skip


def many_leaves(num_leaves: int = 100, leaf_size: int = 10) -> Work:
    """A latent of many leaves; here the bare loop draws and optimises leaf by leaf, as a pytree invites one to."""
    names = [f"leaf_{index:03d}" for index in range(num_leaves)]
    like = {name: jax.ShapeDtypeStruct((leaf_size,), jnp.float32) for name in names}
    family = jaxelbo.families.mean_field(like)

    def log_joint(z: Any) -> jax.Array:
        return sum(-0.5 * jnp.sum((z[name] - 1.0) ** 2) for name in names)

    def loss_fn(params: Any, key: jax.Array) -> jax.Array:
        return -jaxelbo.elbo(params, key, log_joint, family, num_samples=1)

    def bare_loss(params: Any, key: jax.Array) -> jax.Array:
        loc, log_scale = params
        keys = jax.random.split(key, num_leaves)
        z = {
            name: loc[name] + jnp.exp(log_scale[name]) * jax.random.normal(keys[index], (leaf_size,))
            for index, name in enumerate(names)
        }
        return -log_joint(z) - sum(jnp.sum(log_scale[name]) for name in names)

    bare_params = {name: jnp.zeros(leaf_size) for name in names}, {name: jnp.zeros(leaf_size) for name in names}
    return Work(
        f"{num_leaves} leaves, against leaf by leaf", 1_000, optax.adam(1e-2), family.init(jax.random.key(0)), loss_fn,
        bare_params, bare_loss, (),
    )  # fmt: skip


def small_fits(num_rows: int = 200, dim: int = 10) -> Work:
    """One of 256 small regressions, for ``vmap``."""
    return logistic_regression(num_rows, dim)._replace(name="256 fits under vmap", num_steps=200, numpyro=None)


WORKS = (
    logistic_regression,
    hierarchical,
    correlated_gaussian,
    autoencoder,
    functools.partial(autoencoder, num_samples=50),
    minibatch_regression,
)
