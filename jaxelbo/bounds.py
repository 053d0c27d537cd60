"""Bounds on the log evidence: pure functions from log-weights ``[S]`` to a scalar.

Floor 1. A log-weight is log p(x, z) - log q(z) at a draw z of q, in nats. A weight of zero is a log-weight of
``-inf`` and is welcome, in the values and, unless all weights are zero or alpha > 1, in the gradients. Any
function of this form is a bound for the floors above; ``functools.partial(bounds.renyi, alpha=0.5)`` makes a variant.

In expectation over the draws, mean <= importance weighted <= log p(x), the latter rising with S.
"""

import jax
import jax.numpy as jnp

from jaxelbo import checks


def mean(log_weights: jax.Array) -> jax.Array:
    """The evidence lower bound's estimate, the mean log-weight; to be maximised.

    Estimand: E_q[log p(x, z) - log q(z)] = log p(x) - KL(q || p(z|x)). Unbiased for it; a lower bound on log p(x).

    Args:
      log_weights: ``[S]``, in nats.

    Returns:
      Scalar, in nats.

    Raises:
      TypeError, ValueError: log-weights that are not a floating-point array ``[S]``, S at least 1.

    References:
      Jordan, Ghahramani, Jaakkola, Saul (1999), *An Introduction to Variational Methods for Graphical Models*.

    >>> import jax.numpy as jnp
    >>> float(mean(jnp.array([1.0, 3.0])))
    2.0
    """
    _check_log_weights(log_weights)
    return jnp.mean(log_weights)


def importance_weighted(log_weights: jax.Array) -> jax.Array:
    """The importance-weighted bound's estimate, log of the mean weight; to be maximised.

    Estimand: E[log (1/S) sum_s w_s], a lower bound on log p(x) at every S, not below the ELBO and rising to log p(x)
    with S. Unbiased for that estimand; as an estimate of log p(x) it is biased low by about Var(w) / (2 S E[w]^2).

    Args:
      log_weights: ``[S]``, in nats.

    Returns:
      Scalar, in nats; ``-inf`` where every weight is zero.

    Raises:
      TypeError, ValueError: log-weights that are not a floating-point array ``[S]``, S at least 1.

    References:
      Burda, Grosse, Salakhutdinov (2016), *Importance Weighted Autoencoders*.

    >>> import jax.numpy as jnp
    >>> round(float(importance_weighted(jnp.log(jnp.array([1.0, 3.0])))), 4)  # log 2
    0.6931
    """
    _check_log_weights(log_weights)
    return _log_mean_exp(log_weights)


def renyi(log_weights: jax.Array, alpha: jax.Array | float) -> jax.Array:
    """The variational Renyi bound's estimate of order alpha.

    Estimand at S to infinity: log E_q[w^(1 - alpha)] / (1 - alpha) = log p(x) - D_alpha(q || p(z|x)). It falls in
    alpha: alpha = 1 is the ELBO and alpha = 0 is log p(x) (at S draws: `mean` and `importance_weighted`), both
    reached smoothly. For alpha > 0 it is a lower bound, to be maximised. For alpha < 0 the population value is an
    upper bound, to be lowered; its estimate from S draws is biased low (at S = 1 it is the ELBO) and may lie below
    log p(x).

    Args:
      log_weights: ``[S]``, in nats.
      alpha: the order, a finite scalar; may be traced and differentiated in.

    Returns:
      Scalar, in nats.

    Raises:
      TypeError, ValueError: log-weights that are not a floating-point array ``[S]``, S at least 1; an order
        that is not a real scalar.

    References:
      Li, Turner (2016), *Renyi Divergence Variational Inference*.

    >>> import jax.numpy as jnp
    >>> w = jnp.log(jnp.array([1.0, 3.0]))
    >>> [round(float(renyi(w, alpha)), 4) for alpha in (1.0, 0.5, 0.0, -1.0)]
    [0.5493, 0.6238, 0.6931, 0.8047]
    """
    _check_log_weights(log_weights)
    checks.check_real(alpha, "alpha")
    order = 1 - jnp.asarray(alpha, log_weights.dtype)
    # log E[w^t] / t is a mean of log-weights plus t/2 of their variance plus ...: three forms of one smooth function,
    # each where it keeps its digits. `spread` is how far the exponents t log w reach.
    finite = jnp.all(jnp.isfinite(log_weights))
    extent = jnp.where(finite, jnp.max(log_weights) - jnp.min(log_weights), jnp.inf)
    spread = jnp.where(order == 0, 0, jnp.abs(order) * jax.lax.stop_gradient(extent))
    is_series, is_small = spread < 1e-3, spread < 1
    order_safe = jnp.where(is_series, 1, order)
    centre = jnp.mean(log_weights)
    deviation = jnp.where(is_small & finite, log_weights - centre, 0)
    small = jnp.log1p(jnp.mean(jnp.expm1(order_safe * jnp.where(is_series, 0, deviation)))) / order_safe
    is_zero = jnp.isneginf(log_weights)  # kept out of the product, whose derivative in alpha would be 0 times infinity
    scaled = order_safe * jnp.where(is_small | is_zero, 0, log_weights)
    large = _log_mean_exp(jnp.where(is_zero, -jnp.inf * jnp.sign(order_safe), scaled)) / order_safe
    return jnp.where(is_small, centre + jnp.where(is_series, _cumulants(deviation, order), small), large)


def chi(log_weights: jax.Array, n: jax.Array | float) -> jax.Array:
    """The chi upper bound's estimate of order n, which is `renyi` at alpha = 1 - n; to be lowered.

    Estimand at S to infinity: log E_q[w^n] / n >= log p(x) for n >= 1. The estimate from S draws is biased low (at
    S = 1 it is the ELBO) and may lie below log p(x); on the same draws it is never below `importance_weighted`.

    Args:
      log_weights: ``[S]``, in nats.
      n: the order, a finite scalar; may be traced.

    Returns:
      Scalar, in nats.

    Raises:
      TypeError, ValueError: log-weights that are not a floating-point array ``[S]``, S at least 1; an order
        that is not a real scalar.

    References:
      Dieng, Tran, Ranganath, Paisley, Blei (2017), *Variational Inference via chi Upper Bound Minimization*.

    >>> import jax.numpy as jnp
    >>> round(float(chi(jnp.log(jnp.array([1.0, 3.0])), 2)), 4)  # log 5 / 2
    0.8047
    """
    _check_log_weights(log_weights)
    checks.check_real(n, "n")
    return renyi(log_weights, 1 - jnp.asarray(n, log_weights.dtype))


def thermodynamic_left(log_weights: jax.Array, betas: jax.Array) -> jax.Array:
    """The left sum of the thermodynamic integral, a lower bound's estimate; to be maximised.

    Estimand at S to infinity: sum_j (beta_(j+1) - beta_j) E_(beta_j)[log w] <= log p(x), where the expectation is under
    the density proportional to q w^beta, so that log p(x) is the integral over beta from 0 to 1. The S draws are
    self-normalised: biased for that estimand, yet on every set of draws not below `mean` (which is the partition
    [0, 1]) and not above `importance_weighted`, and in expectation a lower bound on log p(x).

    Args:
      log_weights: ``[S]``, in nats.
      betas: partition ``[J + 1]``, rising from 0 to 1; may be traced.

    Returns:
      Scalar, in nats; ``-inf`` where a weight is zero.

    Raises:
      TypeError, ValueError: log-weights that are not a floating-point array ``[S]``, S at least 1; a partition of
        fewer than two points.

    References:
      Masrani, Le, Wood (2019), *The Thermodynamic Variational Objective*.

    >>> import jax.numpy as jnp
    >>> w = jnp.log(jnp.array([1.0, 3.0]))
    >>> round(float(thermodynamic_left(w, jnp.array([0.0, 0.5, 1.0]))), 4)
    0.6229
    """
    _check_log_weights(log_weights)
    betas = _check_partition(betas, log_weights.dtype)
    return jnp.sum(jnp.diff(betas) * _tempered_means(log_weights, betas[:-1]))


def thermodynamic_right(log_weights: jax.Array, betas: jax.Array) -> jax.Array:
    """The right sum of the thermodynamic integral, an upper bound's estimate; to be lowered.

    Estimand at S to infinity: sum_j (beta_(j+1) - beta_j) E_(beta_(j+1))[log w] >= log p(x), see `thermodynamic_left`.
    The estimate from S draws is biased low (at S = 1 it is the ELBO) and may lie below log p(x); on the same draws it
    is never below `importance_weighted`.

    Args:
      log_weights: ``[S]``, in nats.
      betas: partition ``[J + 1]``, rising from 0 to 1; may be traced.

    Returns:
      Scalar, in nats.

    Raises:
      TypeError, ValueError: as `thermodynamic_left`.

    References:
      Masrani, Le, Wood (2019), *The Thermodynamic Variational Objective*.

    >>> import jax.numpy as jnp
    >>> w = jnp.log(jnp.array([1.0, 3.0]))
    >>> round(float(thermodynamic_right(w, jnp.array([0.0, 0.5, 1.0]))), 4)
    0.7602
    """
    _check_log_weights(log_weights)
    betas = _check_partition(betas, log_weights.dtype)
    return jnp.sum(jnp.diff(betas) * _tempered_means(log_weights, betas[1:]))


def jackknife(log_weights: jax.Array) -> jax.Array:
    """The importance-weighted bound freed of its bias of order 1/S: an estimate of log p(x), no bound.

    Estimand: log p(x) up to a bias of order 1/S^2, of either sign. Estimator: S times `importance_weighted` less
    (S - 1) times its mean over the S sets that leave one draw out. Its variance is larger than that of
    `importance_weighted`, and raising it need not raise log p(x).

    Args:
      log_weights: ``[S]``, in nats, S at least 2.

    Returns:
      Scalar, in nats.

    Raises:
      TypeError, ValueError: log-weights that are not a floating-point array ``[S]``, S at least 2.

    References:
      Nowozin (2018), *Debiasing Evidence Approximations: On Importance-Weighted Autoencoders and Jackknife Variational
      Inference*.

    >>> import jax.numpy as jnp
    >>> round(float(jackknife(jnp.log(jnp.array([1.0, 3.0])))), 4)  # 2 log 2 - log(3) / 2
    0.837
    """
    _check_log_weights(log_weights)
    size = log_weights.shape[0]
    if size < 2:
        raise ValueError("bounds.jackknife leaves one draw out: log_weights must hold at least two samples, got one.")
    others = jnp.where(jnp.eye(size, dtype=bool), -jnp.inf, log_weights[None, :])
    left_out = jax.nn.logsumexp(others, axis=1) - jnp.log(jnp.asarray(size - 1, log_weights.dtype))
    return size * _log_mean_exp(log_weights) - (size - 1) * jnp.mean(left_out)


def _tempered_means(log_weights: jax.Array, betas: jax.Array) -> jax.Array:
    """Self-normalised expectations of log w under q w^beta, ``[J]``; weights of zero count at beta = 0 alone."""
    is_zero = jnp.isneginf(log_weights)[None, :]
    finite = jnp.where(is_zero, 0, log_weights[None, :])
    probabilities = jax.nn.softmax(jnp.where(is_zero & (betas[:, None] > 0), -jnp.inf, betas[:, None] * finite), axis=1)
    means = jnp.sum(probabilities * finite, axis=1)
    return jnp.where(jnp.any(is_zero) & (betas == 0), -jnp.inf, means)


def _check_partition(betas: jax.Array, dtype: jax.typing.DTypeLike) -> jax.Array:
    if jnp.ndim(betas) != 1 or jnp.shape(betas)[0] < 2:
        raise ValueError(f"betas must be a partition [J + 1] of 0 to 1, got shape {jnp.shape(betas)}.")
    return jnp.asarray(betas, dtype)


def _log_mean_exp(log_weights: jax.Array) -> jax.Array:
    return jax.nn.logsumexp(log_weights) - jnp.log(jnp.asarray(log_weights.shape[0], log_weights.dtype))


def _cumulants(deviation: jax.Array, order: jax.Array) -> jax.Array:
    """The function log E[exp(t d)] / t for d of mean 0, by three cumulants; what is left out is of order t^4."""
    second, third, fourth = (jnp.mean(deviation**power) for power in (2, 3, 4))
    return order * (second / 2 + order * (third / 6 + order * (fourth - 3 * second**2) / 24))


def _check_log_weights(log_weights: jax.Array) -> None:
    if not hasattr(log_weights, "dtype") or not jnp.issubdtype(log_weights.dtype, jnp.floating):
        raise TypeError(f"log_weights must be a floating-point array, got {checks.describe(log_weights)}.")
    if log_weights.ndim != 1:
        raise ValueError(f"log_weights must have shape [S], got {log_weights.shape}; vmap over the other axes.")
    if log_weights.shape[0] == 0:
        raise ValueError("log_weights must hold at least one sample, got shape (0,).")
