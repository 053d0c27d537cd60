"""Independent entries that are bounded: gamma, beta, log-normal.

Draws of gamma and beta have implicit gradients, by which a draw follows its distribution function as the parameters
move (Figurnov, Mohamed, Mnih, 2018).
"""

import math

import jax
import jax.numpy as jnp

from jaxelbo import distributions
from jaxelbo.families import entrywise
from jaxelbo.types import Family, Key, Latent


def gamma(latent_like: Latent, *, initial_scale: float = 0.1) -> Family:
    """Independent gamma distributions, over any pytree of positive leaves.

    Its params are ``{"log_concentration": [D], "log_rate": [D]}`` on the flat latent of D entries. Draws have implicit
    gradients.

    Args:
      latent_like: a latent, or its shapes; its values, positive, are the means at the start; ones where it holds
        shapes.
      initial_scale: standard deviation at the start over the mean; positive.

    Returns:
      The `Family`. Its ``init`` ignores the key.

    Raises:
      TypeError, ValueError: naming the leaf: one that is not floating-point, a start that is not positive.

    References:
      Figurnov, Mohamed, Mnih (2018), *Implicit Reparameterization Gradients*.

    >>> import jax
    >>> family = gamma({"rate": 2.0})
    >>> location, scale = family.location_and_scale(family.init(jax.random.key(0)))
    >>> round(float(location["rate"]), 3), round(float(scale["rate"]), 3)
    (2.0, 0.2)
    """
    return entrywise.family_of("gamma", latent_like, initial_scale, _GAMMA, 1.0, lambda value: value > 0, "positive")


def beta(latent_like: Latent, *, initial_scale: float = 0.1) -> Family:
    """Independent beta distributions, over any pytree of leaves between 0 and 1.

    Its params are ``{"log_concentration1": [D], "log_concentration0": [D]}`` on the flat latent. Draws have implicit
    gradients.

    Args:
      latent_like: as in `gamma`, between 0 and 1; halves where it holds shapes.
      initial_scale: standard deviation at the start over the largest that the mean allows, below 1.

    Returns, Raises, References: as `gamma`.

    >>> import jax
    >>> family = beta(jax.ShapeDtypeStruct((2,), "float32"))
    >>> family.location_and_scale(family.init(jax.random.key(0)))[0].tolist()
    [0.5, 0.5]
    """
    if initial_scale >= 1:
        raise ValueError(f"initial_scale must be below 1, got {initial_scale}.")
    is_inside = lambda value: (value > 0) & (value < 1)  # noqa: E731
    return entrywise.family_of("beta", latent_like, initial_scale, _BETA, 0.5, is_inside, "between 0 and 1")


def log_normal(latent_like: Latent, *, initial_scale: float = 0.1) -> Family:
    """Independent log-normal distributions, over any pytree of positive leaves.

    Its params are ``{"loc": [D], "log_scale": [D]}`` of the logarithms.

    Args, Returns, Raises: as `gamma`.

    >>> import jax
    >>> family = log_normal(3.0)
    >>> bool(family.sample(family.init(jax.random.key(0)), jax.random.key(1)) > 0)
    True
    """
    return entrywise.family_of(
        "log_normal", latent_like, initial_scale, _LOG_NORMAL, 1.0, lambda value: value > 0, "positive"
    )


def _draw_log_gamma(concentration: jax.Array, key: Key) -> jax.Array:
    """The logarithm of a gamma draw of rate 1, which does not underflow where the concentration is small."""
    return jax.random.loggamma(key, concentration, dtype=concentration.dtype)


def _draw_gamma(record: distributions.Gamma, key: Key) -> jax.Array:
    tiny = jnp.finfo(record.rate.dtype).tiny
    return jnp.maximum(jnp.exp(_draw_log_gamma(record.concentration, key) - jnp.log(record.rate)), tiny)


def _draw_beta(record: distributions.Beta, key: Key) -> jax.Array:
    keys, eps = jax.random.split(key), jnp.finfo(record.concentration1.dtype).eps
    log_odds = _draw_log_gamma(record.concentration1, keys[0]) - _draw_log_gamma(record.concentration0, keys[1])
    return jnp.clip(jax.nn.sigmoid(log_odds), jnp.finfo(eps.dtype).tiny, 1 - eps / 2)


def _moments_of_beta(record: distributions.Beta) -> tuple[jax.Array, jax.Array]:
    total = record.concentration1 + record.concentration0
    mean = record.concentration1 / total
    return mean, jnp.sqrt(mean * (1 - mean) / (total + 1))


def _start_of_beta(mean: jax.Array, scale: float) -> dict[str, jax.Array]:
    total = jnp.log(scale**-2.0 - 1)
    return {"log_concentration1": jnp.log(mean) + total, "log_concentration0": jnp.log1p(-mean) + total}


def _moments_of_log_normal(record: distributions.LogNormal) -> tuple[jax.Array, jax.Array]:
    mean = jnp.exp(record.loc + 0.5 * record.scale**2)
    return mean, mean * jnp.sqrt(jnp.expm1(record.scale**2))


def _start_of_log_normal(mean: jax.Array, scale: float) -> dict[str, jax.Array]:
    variance = math.log1p(scale**2)
    return {"loc": jnp.log(mean) - 0.5 * variance, "log_scale": jnp.full_like(mean, 0.5 * math.log(variance))}


_GAMMA = entrywise.Entry(
    start=lambda mean, scale: {
        "log_concentration": jnp.full_like(mean, -2 * math.log(scale)),
        "log_rate": -2 * math.log(scale) - jnp.log(mean),
    },
    record=lambda params: distributions.Gamma(jnp.exp(params["log_concentration"]), jnp.exp(params["log_rate"])),
    draw=_draw_gamma,
    moments=lambda record: (record.concentration / record.rate, jnp.sqrt(record.concentration) / record.rate),
    **entrywise.of_exponential(distributions.gamma),
)
_BETA = entrywise.Entry(
    start=_start_of_beta,
    record=lambda params: distributions.Beta(
        jnp.exp(params["log_concentration1"]), jnp.exp(params["log_concentration0"])
    ),
    draw=_draw_beta,
    moments=_moments_of_beta,
    **entrywise.of_exponential(distributions.beta),
)
_LOG_NORMAL = entrywise.Entry(
    start=_start_of_log_normal,
    record=lambda params: distributions.LogNormal(*entrywise.loc_scale(params)),
    draw=lambda record, key: jnp.exp(record.loc + record.scale * jax.random.normal(key, (), record.loc.dtype)),
    moments=_moments_of_log_normal,
    **entrywise.of_exponential(distributions.log_normal),
)
