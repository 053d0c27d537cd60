"""Families of independent entries that are no Gaussians: gamma, beta, log-normal, Laplace, Student-t.

All are reparameterised; draws of gamma and beta have implicit gradients, by which a draw follows its distribution
function as the parameters move (Figurnov, Mohamed, Mnih, 2018).
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import digamma, gammaln
from jax.scipy.stats import laplace as laplace_density
from jax.scipy.stats import t as t_density

from jaxelbo import checks, distributions, exponential, finite, flattening
from jaxelbo.families import gaussian
from jaxelbo.types import Family, Key, Latent, Params


class _Entry(NamedTuple):
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
    return _family("gamma", latent_like, initial_scale, _GAMMA, 1.0, lambda value: value > 0, "positive")


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
    return _family("beta", latent_like, initial_scale, _BETA, 0.5, is_inside, "between 0 and 1")


def log_normal(latent_like: Latent, *, initial_scale: float = 0.1) -> Family:
    """Independent log-normal distributions, over any pytree of positive leaves.

    Its params are ``{"loc": [D], "log_scale": [D]}`` of the logarithms.

    Args, Returns, Raises: as `gamma`.

    >>> import jax
    >>> family = log_normal(3.0)
    >>> bool(family.sample(family.init(jax.random.key(0)), jax.random.key(1)) > 0)
    True
    """
    return _family("log_normal", latent_like, initial_scale, _LOG_NORMAL, 1.0, lambda value: value > 0, "positive")


def laplace(latent_like: Latent, *, initial_scale: float = 0.1) -> Family:
    """Independent Laplace distributions, over any pytree of floating-point leaves.

    Its params are ``{"loc": [D], "log_scale": [D]}``; the standard deviation is sqrt(2) times the scale.

    Args, Returns, Raises: as `families.mean_field`.

    >>> import jax
    >>> family = laplace({"a": 1.0})
    >>> round(float(family.entropy(family.init(jax.random.key(0)))), 3)  # 1 + log(2 x 0.1 / sqrt(2))
    -0.956
    """
    return _family("laplace", latent_like, initial_scale, _LAPLACE, 0.0, jnp.isfinite, "finite")


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
    return _family("student_t", latent_like, initial_scale, _STUDENT_T, 0.0, jnp.isfinite, "finite")


def _family(
    name: str,
    latent_like: Latent,
    initial_scale: float,
    entry: _Entry,
    default: float,
    contains: Callable[[jax.Array], jax.Array],
    words: str,
) -> Family:
    layout = flattening.layout_of(latent_like)
    gaussian.check_initial_scale(initial_scale)

    def init(key: Key, start: Latent | None = None) -> Params:
        del key
        if start is None:
            start = jax.tree.map(
                lambda leaf: (
                    jnp.full(leaf.shape, default, leaf.dtype) if isinstance(leaf, jax.ShapeDtypeStruct) else leaf
                ),
                latent_like,
            )
        flat = flattening.flatten(layout, start, "start")
        if not checks.is_traced((flat, jnp.zeros(()))) and not bool(jnp.all(contains(flat))):
            raise ValueError(f"The start of families.{name} must be {words} in every entry, got {flat}.")
        return jax.vmap(lambda mean: entry.start(mean, initial_scale))(flat)

    def records(params: Params) -> Any:
        return jax.vmap(entry.record)(params)

    def sample(params: Params, key: Key) -> Latent:
        return sample_and_log_prob(params, key)[0]

    def log_prob(params: Params, latent: Latent) -> jax.Array:
        return jnp.sum(jax.vmap(entry.log_density)(records(params), flattening.flatten(layout, latent)))

    def sample_and_log_prob(params: Params, key: Key) -> tuple[Latent, jax.Array]:
        of_each = records(params)
        flat = jax.vmap(entry.draw)(of_each, jax.random.split(key, layout.size))
        return flattening.unflatten(layout, flat), jnp.sum(jax.vmap(entry.log_density)(of_each, flat))

    def score_log_probs(params: Params, latent: Latent) -> jax.Array:
        del params, latent
        return jnp.zeros((0,), layout.dtype)

    def entropy(params: Params) -> jax.Array:
        return jnp.sum(jax.vmap(entry.entropy)(records(params)))

    def location_and_scale(params: Params) -> tuple[Latent, Latent]:
        mean, scale = jax.vmap(entry.moments)(records(params))
        return flattening.unflatten(layout, mean), flattening.unflatten(layout, scale)

    return Family(
        name=name,
        init=init,
        sample=sample,
        log_prob=log_prob,
        sample_and_log_prob=sample_and_log_prob,
        score_log_probs=score_log_probs,
        entropy=entropy,
        location_and_scale=location_and_scale,
        distribution=lambda params: finite.Copies(records(params)),
        unflatten=lambda flat: flattening.unflatten(layout, flat),
    )


def _filled(leaf: Any, default: float) -> Any:
    is_shape = isinstance(leaf, jax.ShapeDtypeStruct)
    return jnp.full(leaf.shape, default, leaf.dtype) if is_shape else leaf


def _exponential(family: exponential.ExponentialFamily) -> dict[str, Callable[..., jax.Array]]:
    return {
        "log_density": lambda record, value: exponential.log_prob(family.to_natural(record), family, value),
        "entropy": lambda record: exponential.entropy(family.to_natural(record), family),
    }


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


def _loc_scale(params: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
    return params["loc"], jnp.exp(params["log_scale"])


def _entropy_of_t(record: distributions.StudentT) -> jax.Array:
    half = 0.5 * record.df
    log_beta = gammaln(half) + 0.5 * math.log(math.pi) - gammaln(half + 0.5)
    slope = digamma(half + 0.5) - digamma(half)
    return (half + 0.5) * slope + 0.5 * jnp.log(record.df) + log_beta + jnp.log(record.scale)


def _moments_of_t(record: distributions.StudentT) -> tuple[jax.Array, jax.Array]:
    has_variance = record.df > 2
    ratio = record.df / jnp.where(has_variance, record.df - 2, 1)
    return record.loc, jnp.where(has_variance, record.scale * jnp.sqrt(ratio), jnp.inf)


_GAMMA = _Entry(
    start=lambda mean, scale: {
        "log_concentration": jnp.full_like(mean, -2 * math.log(scale)),
        "log_rate": -2 * math.log(scale) - jnp.log(mean),
    },
    record=lambda params: distributions.Gamma(jnp.exp(params["log_concentration"]), jnp.exp(params["log_rate"])),
    draw=_draw_gamma,
    moments=lambda record: (record.concentration / record.rate, jnp.sqrt(record.concentration) / record.rate),
    **_exponential(distributions.gamma),
)
_BETA = _Entry(
    start=_start_of_beta,
    record=lambda params: distributions.Beta(
        jnp.exp(params["log_concentration1"]), jnp.exp(params["log_concentration0"])
    ),
    draw=_draw_beta,
    moments=_moments_of_beta,
    **_exponential(distributions.beta),
)
_LOG_NORMAL = _Entry(
    start=_start_of_log_normal,
    record=lambda params: distributions.LogNormal(*_loc_scale(params)),
    draw=lambda record, key: jnp.exp(record.loc + record.scale * jax.random.normal(key, (), record.loc.dtype)),
    moments=_moments_of_log_normal,
    **_exponential(distributions.log_normal),
)
_LAPLACE = _Entry(
    start=lambda mean, scale: {"loc": mean, "log_scale": jnp.full_like(mean, math.log(scale / math.sqrt(2)))},
    record=lambda params: distributions.Laplace(*_loc_scale(params)),
    draw=lambda record, key: record.loc + record.scale * jax.random.laplace(key, (), record.loc.dtype),
    log_density=lambda record, value: laplace_density.logpdf(value, record.loc, record.scale),
    entropy=lambda record: 1 + jnp.log(2 * record.scale),
    moments=lambda record: (record.loc, math.sqrt(2) * record.scale),
)
_STUDENT_T = _Entry(
    start=lambda mean, scale: {
        "log_df": jnp.full_like(mean, math.log(10.0)),
        "loc": mean,
        "log_scale": jnp.full_like(mean, math.log(scale * math.sqrt(0.8))),
    },
    record=lambda params: distributions.StudentT(jnp.exp(params["log_df"]), *_loc_scale(params)),
    draw=lambda record, key: record.loc + record.scale * jax.random.t(key, record.df, (), record.df.dtype),
    log_density=lambda record, value: t_density.logpdf(value, record.df, record.loc, record.scale),
    entropy=_entropy_of_t,
    moments=_moments_of_t,
)
