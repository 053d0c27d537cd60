"""Bounds on the log evidence read off one set of log-weights, each with its standard error.

Floor 3.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxelbo import checks
from jaxelbo.types import Estimate

MAX_GROUPS, LEAST_BLOCKS = 50, 32
"""Groups of draws left out in turn for a standard error; windows without overlap that one may be read off."""


def lower(log_weights: jax.Array) -> Estimate:
    """The log of the mean weight, a stochastic lower bound on log Z, and its standard error by the delta method.

    By Jensen's inequality E[log mean_n w_n] <= log E[w] = log Z for weights of mean Z, independent or not; it rises
    with the number of independent chains, and lies above the mean of log-weights.
    """
    normalised = jax.nn.log_softmax(log_weights)
    size = jnp.asarray(log_weights.size, log_weights.dtype)
    error = jnp.sqrt(jnp.sum((jnp.exp(normalised) - 1 / size) ** 2) * size / (size - 1))
    return Estimate(jax.nn.logsumexp(log_weights) - jnp.log(size), error)


def upper(log_weights: jax.Array) -> Estimate:
    """Minus the log of the mean of inverse weights, a stochastic upper bound on log Z, and its standard error.

    By Jensen's inequality E[-log mean_n (1 / w_n)] >= -log E[1 / w] = log Z where E[1 / w] = 1 / Z, which holds in
    reverse annealing from exact draws of the target; it falls with the number of independent chains, and lies below
    the mean of log-weights, which is the looser upper bound of one chain.
    """
    inverse = lower(-log_weights)
    return Estimate(-inverse.value, inverse.standard_error)


def importance_weighted_bounds(log_weights: jax.Array) -> Estimate:
    """Importance-weighted bounds of k draws for every k up to S, from one set of draws.

    Estimand: E[log (1/k) sum of k weights], for k = 1 the ELBO. Estimator: its mean over the S windows of k consecutive
    draws on a circle, an incomplete U-statistic, unbiased for every k: its mean over all orders of the draws is
    that over all their subsets of size k, as it is itself at k = 1 and k = S. Time S^2, memory S.

    Standard errors: up to k = S / 32 that of disjoint windows, which overlapping ones do not exceed; beyond, of the
    logarithm of a mean of S weights by the delta method, which is right so far as the weights have a variance.

    ``log_weights [S]`` in nats, -inf a weight of zero; both entries of the `Estimate` are ``[S]``, for k from 1 to S.

    >>> import jax.numpy as jnp
    >>> importance_weighted_bounds(jnp.log(jnp.array([1.0, 3.0]))).value.round(4).tolist()
    [0.5493000149726868, 0.6930999755859375]
    """
    checks.check_floating(log_weights, "log_weights", ("S",))
    size = log_weights.size

    def widen(window: jax.Array, k: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        window = jnp.logaddexp(window, jnp.roll(log_weights, 1 - k))
        return window, (jnp.mean(window), jnp.std(window, ddof=min(1, size - 1)))

    _, (means, spreads) = jax.lax.scan(widen, jnp.full_like(log_weights, -jnp.inf), jnp.arange(1, size + 1))
    counts = jnp.arange(1, size + 1).astype(log_weights.dtype)
    of_blocks = spreads * jnp.sqrt(counts / size)
    errors = jnp.where(counts * LEAST_BLOCKS <= size, of_blocks, lower(log_weights).standard_error)
    return Estimate(means - jnp.log(counts), jnp.where(jnp.isfinite(means), errors, jnp.inf))


def left_out(bound: Callable[[jax.Array], jax.Array], log_weights: jax.Array) -> Estimate:
    """A bound, and its standard error by the jackknife: groups of draws left out in turn."""
    num_groups = min(MAX_GROUPS, log_weights.size)
    length = log_weights.size // num_groups
    values = jax.lax.map(lambda group: bound(jnp.roll(log_weights, -group * length)[length:]), jnp.arange(num_groups))
    error = jnp.std(values) * math.sqrt((log_weights.size - length) / length)
    value = bound(log_weights)
    return Estimate(value, jnp.where(jnp.isfinite(value) & jnp.isfinite(error), error, jnp.inf))
