"""The same gradients by other libraries: NumPyro's score function, TensorFlow Probability's VIMCO."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks import estimator_models
from benchmarks.estimator_models import encode, log_joint_of_bits
from jaxelbo import bounds, estimators


class PeerCase(NamedTuple):
    """One problem by jaxelbo and by another library.

    Attributes:
      name: the problem and estimator.
      library: the other library.
      params: what both differentiate in.
      ours: ``(params, key, *data) -> scalar`` by jaxelbo.
      theirs: likewise by the library, or ``None`` where it is not installed.
      data: traced arguments of both.
    """

    name: str
    library: str
    params: Any
    ours: Callable[..., jax.Array]
    theirs: Callable[..., jax.Array] | None
    data: tuple[Any, ...]


def numpyro_score_function(num_samples: int) -> Callable[..., jax.Array] | None:
    """The mean bound a datum by `TraceGraph_ELBO`, which gives each datum its own downstream cost."""
    try:
        import numpyro
        from numpyro import distributions as dist
        from numpyro.infer import TraceGraph_ELBO
    except ImportError:
        return None

    def model(params: Any, x: jax.Array) -> None:
        w1, b1, w2, b2 = params["decoder"]
        with numpyro.plate("rows", x.shape[0]):
            z = numpyro.sample("z", dist.Bernoulli(logits=jnp.zeros(w1.shape[0])).to_event(1))
            numpyro.sample("x", dist.Bernoulli(logits=jnp.tanh(z @ w1 + b1) @ w2 + b2).to_event(1), obs=x)

    def guide(params: Any, x: jax.Array) -> None:
        with numpyro.plate("rows", x.shape[0]):
            numpyro.sample("z", dist.Bernoulli(logits=encode(params["encoder"], x)).to_event(1))

    objective = TraceGraph_ELBO(num_particles=num_samples)

    def value(params: Any, key: jax.Array, x: jax.Array) -> jax.Array:
        return -objective.loss(key, {}, model, guide, params, x) / x.shape[0]

    return value


def tfp_vimco(num_samples: int) -> Callable[..., jax.Array] | None:
    """The mean importance-weighted bound a datum by `csiszar_vimco`, with the usual VIMCO gradient.

    As it stands it cannot be compiled under jax 0.10: its `log_soomean_exp` reshapes to a shape that is itself traced
    ("Shapes must be 1D sequences of concrete values of integer type, got JitTracer"). With ``keepdims`` that function
    makes no such reshape, so it is called so here, from outside the package; nothing else is changed.
    """
    try:
        from tensorflow_probability.substrates import jax as tfp
        from tensorflow_probability.substrates.jax.vi import csiszar_divergence
    except ImportError:
        return None

    def log_soomean_exp(log_weights: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
        without, whole = tfp.stats.log_soomean_exp(log_weights, axis=axis, keepdims=True)
        return without, jnp.squeeze(whole, axis)

    csiszar_divergence.log_soomean_exp = log_soomean_exp

    def value(params: Any, key: jax.Array, x: jax.Array) -> jax.Array:
        # float32 by name: the default dtype of its Bernoulli is int32.
        q = tfp.distributions.Independent(
            tfp.distributions.Bernoulli(logits=encode(params["encoder"], x), dtype=jnp.float32), 1
        )
        log_joint = functools.partial(log_joint_of_bits, decoder=params["decoder"], x=x)
        losses = tfp.vi.csiszar_vimco(tfp.vi.kl_reverse, log_joint, q, num_draws=num_samples, seed=key)
        return -jnp.mean(losses)

    return value


def cases() -> list[PeerCase]:
    """All rows of the table."""
    plain = estimator_models.of_bits("score function, S = 4", estimators.score_function, _unused, 4)
    vimco = estimator_models.of_bits("VIMCO, S = 16", estimators.leave_one_out, _unused, 16, bounds.importance_weighted)
    return [
        PeerCase(plain.name, "NumPyro", plain.params, plain.ours, numpyro_score_function(4), plain.data),
        PeerCase(vimco.name, "TFP", vimco.params, vimco.ours, tfp_vimco(16), vimco.data),
    ]


def _unused(*arguments: Any) -> jax.Array:
    raise NotImplementedError
