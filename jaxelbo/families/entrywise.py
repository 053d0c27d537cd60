"""Families of independent entries of one kind: what they share.

All are reparameterised. The members are in `bounded_entries` and `heavy_tails`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxelbo import checks, exponential, finite, flattening
from jaxelbo.families import flat_latents, gaussian
from jaxelbo.types import Family, Key, Latent, Params


class Entry(NamedTuple):
    """One entry: everything is of scalars.

    Attributes:
      start: (mean, scale) -> dict of params.
      record: params -> a record of `distributions`.
      draw: (record, key) -> value, differentiable in the record.
      log_density: (record, value) -> scalar.
      entropy: record -> scalar.
      moments: record -> mean and standard deviation.
    """

    start: Callable[[jax.Array, float], dict[str, jax.Array]]
    record: Callable[[dict[str, jax.Array]], Any]
    draw: Callable[[Any, Key], jax.Array]
    log_density: Callable[[Any, jax.Array], jax.Array]
    entropy: Callable[[Any], jax.Array]
    moments: Callable[[Any], tuple[jax.Array, jax.Array]]


def family_of(
    name: str,
    latent_like: Latent,
    initial_scale: float,
    entry: Entry,
    default: float,
    contains: Callable[[jax.Array], jax.Array],
    words: str,
) -> Family:
    """The family of all entries of a latent, from one of them."""
    layout = flattening.layout_of(latent_like)
    gaussian.check_initial_scale(initial_scale)

    def init(key: Key, start: Latent | None = None) -> Params:
        del key
        start = flattening.values_of(latent_like, default) if start is None else start
        flat = flattening.flatten(layout, start, "start")
        if checks.is_known(flat) and not bool(jnp.all(contains(flat))):
            raise ValueError(f"The start of families.{name} must be {words} in every entry, got {flat}.")
        return jax.vmap(lambda mean: entry.start(mean, initial_scale))(flat)

    def records(params: Params) -> Any:
        return jax.vmap(entry.record)(params)

    def draw(params: Params, key: Key) -> tuple[jax.Array, jax.Array]:
        of_each = records(params)
        flat = jax.vmap(entry.draw)(of_each, jax.random.split(key, layout.size))
        return flat, jnp.sum(jax.vmap(entry.log_density)(of_each, flat))

    def log_density(params: Params, flat: jax.Array) -> jax.Array:
        return jnp.sum(jax.vmap(entry.log_density)(records(params), flat))

    def entropy(params: Params) -> jax.Array:
        return jnp.sum(jax.vmap(entry.entropy)(records(params)))

    def moments(params: Params) -> tuple[jax.Array, jax.Array]:
        return jax.vmap(entry.moments)(records(params))

    def distribution(params: Params) -> finite.Copies:
        return finite.Copies(records(params))

    return flat_latents.reparameterised(
        name, layout, init, draw, log_density, entropy=entropy, moments=moments, distribution=distribution
    )


def of_exponential(family: exponential.ExponentialFamily) -> dict[str, Callable[..., jax.Array]]:
    """Log density and entropy of an `Entry` that is of an exponential family."""
    return {
        "log_density": lambda record, value: exponential.log_prob(family.to_natural(record), family, value),
        "entropy": lambda record: exponential.entropy(family.to_natural(record), family),
    }


def loc_scale(params: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
    """The usual parameters of a location and a log scale."""
    return params["loc"], jnp.exp(params["log_scale"])
