"""The amortised models on which estimators are timed, and how jaxelbo and a hand-written form meet on them.

A batch of 64 rows of 64 bits, a linear encoder and a decoder of one hidden layer, with Bernoulli bits or Gaussian codes
between them.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxelbo
from benchmarks import hand_written
from jaxelbo import bounds, estimators, families

BATCH, PIXELS, HIDDEN = 64, 64, 128


class Case(NamedTuple):
    """One estimator on one problem.

    Attributes:
      name: row of the table.
      params: what both differentiate in.
      ours: ``(params, key, *data) -> scalar`` by jaxelbo.
      hand: ``(params, key, *data) -> scalar`` with the same gradient estimator.
      data: traced arguments of both.
    """

    name: str
    params: Any
    ours: Callable[..., jax.Array]
    hand: Callable[..., jax.Array]
    data: tuple[Any, ...]


def normal(seed: int, *shape: int) -> jax.Array:
    """Weights of a layer, divided by the root of their fan-in."""
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape) / np.sqrt(shape[0]), jnp.float32)


def pictures() -> jax.Array:
    """A batch of bits, ``[B, P]``."""
    return jnp.asarray(np.random.default_rng(0).random((BATCH, PIXELS)) < 0.3, jnp.float32)


def network(inputs: int, codes: int) -> dict[str, Any]:
    """Encoder from pixels to ``codes`` numbers, decoder from ``inputs`` numbers to pixels."""
    decoder = normal(2, inputs, HIDDEN), jnp.zeros(HIDDEN), normal(3, HIDDEN, PIXELS), jnp.zeros(PIXELS)
    return {"encoder": (normal(1, PIXELS, codes), jnp.zeros(codes)), "decoder": decoder}


def encode(encoder: Any, x: jax.Array) -> jax.Array:
    """A linear layer."""
    return x @ encoder[0] + encoder[1]


def log_likelihood(z: jax.Array, decoder: Any, x: jax.Array) -> jax.Array:
    """Of one latent, or of whole arrays of them."""
    w1, b1, w2, b2 = decoder
    logits = jnp.tanh(z @ w1 + b1) @ w2 + b2
    return jnp.sum(x * logits - jax.nn.softplus(logits), axis=-1)


def log_joint_of_bits(z: jax.Array, decoder: Any, x: jax.Array) -> jax.Array:
    """Fair coins before the decoder."""
    return log_likelihood(z, decoder, x) - z.shape[-1] * jnp.log(2.0)


def log_joint_of_codes(z: jax.Array, decoder: Any, x: jax.Array) -> jax.Array:
    """Standard normal codes before the decoder."""
    return log_likelihood(z, decoder, x) - 0.5 * jnp.sum(z**2 + jnp.log(2 * jnp.pi), axis=-1)


def over_batch(one: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """The mean of ``one(encoding, key, params, x)`` over a batch."""

    def value(params: Any, key: jax.Array, x: jax.Array) -> jax.Array:
        keys = jax.random.split(key, x.shape[0])
        return jnp.mean(jax.vmap(lambda q, key, x: one(q, key, params, x))(encode(params["encoder"], x), keys, x))

    return value


def of_bits(
    name: str, estimator: jaxelbo.Estimator, hand: Callable[..., jax.Array], num_samples: int = 4,
    bound: jaxelbo.Bound = bounds.mean, dim: int = 32,
) -> Case:  # fmt: skip
    """A case on bits; ``hand`` takes (logits, decoder, key, log joint, number of samples)."""
    family = families.bernoulli(jnp.zeros(dim))

    def one(logits: jax.Array, key: jax.Array, params: Any, x: jax.Array) -> jax.Array:
        log_joint = functools.partial(log_joint_of_bits, decoder=params["decoder"], x=x)
        q = {"logits": logits}
        return jaxelbo.lower_bound(q, key, log_joint, family, bound=bound, num_samples=num_samples, estimator=estimator)

    def by_hand(params: Any, key: jax.Array, x: jax.Array) -> jax.Array:
        log_joint = functools.partial(log_joint_of_bits, x=x)
        return hand(encode(params["encoder"], x), params["decoder"], key, log_joint, num_samples)

    return Case(name, network(dim, dim), over_batch(one), by_hand, (pictures(),))


def of_relaxed_bits(
    name: str, estimator: Callable[..., jaxelbo.Estimator], hand: Callable[..., jax.Array], tuned: Any, trains: bool,
    num_samples: int = 4, dim: int = 32,
) -> Case:  # fmt: skip
    """A case on bits whose estimator has parameters of its own, (temperature, others), trained or held fixed."""
    family = families.bernoulli(jnp.zeros(dim))

    def split(params: Any) -> Any:
        return params.get("tuned", tuned)

    def one(logits: jax.Array, key: jax.Array, params: Any, x: jax.Array) -> jax.Array:
        log_joint = functools.partial(log_joint_of_bits, decoder=params["decoder"], x=x)
        return jaxelbo.elbo(
            {"logits": logits}, key, log_joint, family, num_samples=num_samples, estimator=estimator(*split(params))
        )

    def by_hand(params: Any, key: jax.Array, x: jax.Array) -> jax.Array:
        log_joint = functools.partial(log_joint_of_bits, x=x)
        return hand(encode(params["encoder"], x), params["decoder"], key, log_joint, num_samples, split(params))

    params = network(dim, dim) | ({"tuned": tuned} if trains else {})
    return Case(name, params, over_batch(one), by_hand, (pictures(),))


def of_codes(
    name: str, estimator: jaxelbo.Estimator, hand: Callable[..., jax.Array], num_samples: int = 4,
    bound: jaxelbo.Bound = bounds.mean, dim: int = 16,
) -> Case:  # fmt: skip
    """A case on Gaussian codes; ``hand`` takes ((loc, log_scale), decoder, key, log joint, number of samples)."""
    family = families.mean_field(jnp.zeros(dim))

    def one(encoding: jax.Array, key: jax.Array, params: Any, x: jax.Array) -> jax.Array:
        loc, log_scale = jnp.split(encoding, 2)
        q = {"loc": loc, "log_scale": log_scale}
        log_joint = functools.partial(log_joint_of_codes, decoder=params["decoder"], x=x)
        return jaxelbo.lower_bound(q, key, log_joint, family, bound=bound, num_samples=num_samples, estimator=estimator)

    def by_hand(params: Any, key: jax.Array, x: jax.Array) -> jax.Array:
        q = jnp.split(encode(params["encoder"], x), 2, axis=-1)
        log_joint = functools.partial(log_joint_of_codes, x=x)
        return hand(q, params["decoder"], key, log_joint, num_samples)

    return Case(name, network(dim, 2 * dim), over_batch(one), by_hand, (pictures(),))


def rebar_by_hand(logits, decoder, key, log_joint, num_samples, tuned) -> jax.Array:
    """The control variate is a multiple of the log-weight at relaxed draws."""
    fixed, model = jax.lax.stop_gradient((logits, decoder))

    def control(scale: jax.Array, z: jax.Array) -> jax.Array:
        return scale * (log_joint(z, model) - hand_written.log_q(z, fixed))

    return hand_written.controlled(logits, decoder, key, log_joint, num_samples, control, tuned)


def control_network(weights: Any, z: jax.Array) -> jax.Array:
    """A small network of the relaxed draws."""
    w1, b1, w2 = weights
    return jnp.tanh(z @ w1 + b1) @ w2


def relax_by_network(temperature: jax.Array, weights: Any) -> jaxelbo.Estimator:
    """RELAX with the small network."""
    return estimators.relax(control_network, weights, temperature)


def relax_by_hand(logits, decoder, key, log_joint, num_samples, tuned) -> jax.Array:
    """RELAX with the small network."""
    return hand_written.controlled(logits, decoder, key, log_joint, num_samples, control_network, tuned)
