"""Independent entries with tails heavier than a Gaussian's: Laplace, Student-t."""

import math

import jax
import jax.numpy as jnp
from jax.scipy.stats import laplace as laplace_density

from jaxelbo import distributions
from jaxelbo.distributions import lines
from jaxelbo.families import entrywise
from jaxelbo.types import Family, Key, Latent


def laplace(latent_like: Latent, *, initial_scale: float = 0.1) -> Family:
    """Independent Laplace distributions, over any pytree of floating-point leaves.

    Its params are ``{"loc": [D], "log_scale": [D]}``; the standard deviation is sqrt(2) times the scale.

    Args, Returns, Raises: as `families.mean_field`.

    >>> import jax
    >>> family = laplace({"a": 1.0})
    >>> round(float(family.entropy(family.init(jax.random.key(0)))), 3)  # 1 + log(2 x 0.1 / sqrt(2))
    -0.956
    """
    return entrywise.family_of("laplace", latent_like, initial_scale, _LAPLACE, 0.0, jnp.isfinite, "finite")


def student_t(latent_like: Latent, *, initial_scale: float = 0.1) -> Family:
    """Independent Student-t distributions, over any pytree of floating-point leaves.

    Its params are ``{"log_df": [D], "loc": [D], "log_scale": [D]}``, at the start with ten degrees of freedom. Tails
    are heavier than a Gaussian's, which importance weights like.

    Args, Returns, Raises: as `families.mean_field`.

    >>> import jax
    >>> family = student_t({"a": 1.0})
    >>> round(float(family.location_and_scale(family.init(jax.random.key(0)))[1]["a"]), 3)
    0.1
    """
    return entrywise.family_of("student_t", latent_like, initial_scale, _STUDENT_T, 0.0, jnp.isfinite, "finite")


def _draw_t(record: distributions.StudentT, key: Key) -> jax.Array:
    # By log-gamma: the implicit gradient of `jax.random.t` overflows where the gamma variable under it is tiny.
    key_normal, key_gamma = jax.random.split(key)
    half = 0.5 * record.df
    log_width = 0.5 * (jnp.log(half) - jax.random.loggamma(key_gamma, half, (), half.dtype))
    return record.loc + record.scale * jnp.exp(log_width) * jax.random.normal(key_normal, (), half.dtype)


def _moments_of_t(record: distributions.StudentT) -> tuple[jax.Array, jax.Array]:
    has_variance = record.df > 2
    ratio = record.df / jnp.where(has_variance, record.df - 2, 1)
    return record.loc, jnp.where(has_variance, record.scale * jnp.sqrt(ratio), jnp.inf)


_LAPLACE = entrywise.Entry(
    start=lambda mean, scale: {"loc": mean, "log_scale": jnp.full_like(mean, math.log(scale / math.sqrt(2)))},
    record=lambda params: distributions.Laplace(*entrywise.loc_scale(params)),
    draw=lambda record, key: record.loc + record.scale * jax.random.laplace(key, (), record.loc.dtype),
    log_density=lambda record, value: laplace_density.logpdf(value, record.loc, record.scale),
    entropy=lambda record: 1 + jnp.log(2 * record.scale),
    moments=lambda record: (record.loc, math.sqrt(2) * record.scale),
)
_STUDENT_T = entrywise.Entry(
    start=lambda mean, scale: {
        "log_df": jnp.full_like(mean, math.log(10.0)),
        "loc": mean,
        "log_scale": jnp.full_like(mean, math.log(scale * math.sqrt(0.8))),
    },
    record=lambda params: distributions.StudentT(jnp.exp(params["log_df"]), *entrywise.loc_scale(params)),
    draw=_draw_t,
    log_density=lines.log_density_student_t,
    entropy=lines.entropy_student_t,
    moments=_moments_of_t,
)
