"""Log joints that are sums over rows of data: on minibatches with the right scale, and on all rows in little memory.

Floor 3.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxelbo import checks, mixed_precision
from jaxelbo.types import Latent, PyTree


def log_joint_of_rows(
    log_prior: Callable[[Latent], jax.Array],
    log_likelihood: Callable[..., jax.Array],
    *,
    num_rows: int,
    compute_dtype: jax.typing.DTypeLike | None = None,
) -> Callable[..., jax.Array]:
    """The log joint as a function of the latent and some of the rows: log p(z) + N / B sum_b log p(x_b | z).

    B is the number of rows that come, N that of all rows. Over rows chosen at random the mean is the log joint of all
    of them, and so is the mean over the batches of an epoch, each counted by its rows, a shorter last one too. So every
    bound made of it by `elbo` is unbiased; other bounds of log-weights are not linear in it, and are not.

    With latents of each row beside those of all, let ``log_likelihood`` be the row's own bound, the `elbo` of its
    latent at a key that comes as data with the row: its KL is then scaled like the likelihood, that of the others is
    counted once.

    Args:
      log_prior: latent -> scalar log p(z), counted once.
      log_likelihood: ``(latent, *row) -> scalar`` log p(x_n | z) of one row, each array without its leading axis.
      num_rows: N, static.
      compute_dtype: where given, such as ``jnp.bfloat16``, the terms of the rows are computed in it, from latent and
        rows rounded to it, and added in the latent's own dtype. The gradient in the latent is computed likewise, in
        blocks of 64 rows, each with a copy of the latent. What ``log_likelihood`` closes over stays as it is.

    Returns:
      ``(latent, *batch) -> scalar``, arrays of the batch ``[B, ...]``; N rows give the log joint itself.

    Raises:
      TypeError, ValueError: naming the argument; when used, a batch without rows or of more rows than N.

    References:
      Hoffman, Blei, Wang, Paisley (2013), *Stochastic Variational Inference*;
      Micikevicius et al. (2018), *Mixed Precision Training*.

    >>> import jax.numpy as jnp
    >>> normal = jax.scipy.stats.norm.logpdf
    >>> log_joint = log_joint_of_rows(lambda z: normal(z), lambda z, x: normal(x, z), num_rows=4)
    >>> x = jnp.array([1.0, 2.0, 3.0, 4.0])
    >>> halves = (log_joint(0.5, x[:2]) + log_joint(0.5, x[2:])) / 2
    >>> bool(jnp.isclose(halves, log_joint(0.5, x)))
    True
    """
    checks.check_callable(log_prior, "log_prior")
    checks.check_callable(log_likelihood, "log_likelihood")
    num_rows = checks.check_count(num_rows, "num_rows")
    total = _sum_of_terms(log_likelihood, compute_dtype)

    def log_joint(latent: Latent, *batch: PyTree) -> jax.Array:
        size = _num_rows(batch, "batch")
        if size > num_rows:
            raise ValueError(f"batch must have at most num_rows = {num_rows} rows, got {size}.")
        prior = checks.check_scalar(log_prior(latent), "log_prior")
        return prior + num_rows / size * total(latent, batch)

    return log_joint


def sum_over_rows(
    log_likelihood: Callable[..., jax.Array],
    latent: PyTree,
    *data: PyTree,
    rows_at_once: int,
    compute_dtype: jax.typing.DTypeLike | None = None,
) -> jax.Array:
    """The sum of a function over all rows, so many at a time, in memory for these alone; its gradient too.

    The gradient of each piece is computed from its rows anew on the way back, once more the work of a forward pass, and
    is that of the plain sum to rounding.

    Args:
      log_likelihood: ``(latent, *row) -> scalar`` of one row.
      latent: what all rows share, any pytree; differentiated.
      *data: pytrees of arrays ``[N, ...]``.
      rows_at_once: static; the last piece may be shorter.
      compute_dtype: as for `log_joint_of_rows`.

    Returns:
      The sum, a scalar.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Griewank (1992), *Achieving Logarithmic Growth of Temporal and Spatial Complexity in Reverse Automatic
      Differentiation*.

    >>> import jax.numpy as jnp
    >>> x = jnp.arange(5.0)
    >>> square = lambda z, x: (x - z) ** 2
    >>> float(sum_over_rows(square, 1.0, x, rows_at_once=2)), float(jnp.sum((x - 1.0) ** 2))
    (15.0, 15.0)
    """
    checks.check_callable(log_likelihood, "log_likelihood")
    rows_at_once = checks.check_count(rows_at_once, "rows_at_once")
    size = _num_rows(data, "data")
    total = _sum_of_terms(log_likelihood, compute_dtype)

    piece = jax.checkpoint(total)
    whole, rest = divmod(size, rows_at_once)
    arrays = jax.tree.map(jnp.asarray, data)
    parts = []
    if whole:
        cut = jax.tree.map(
            lambda leaf: leaf[: whole * rows_at_once].reshape(whole, rows_at_once, *leaf.shape[1:]), arrays
        )
        zero = jnp.zeros((), jax.eval_shape(piece, latent, jax.tree.map(lambda leaf: leaf[0], cut)).dtype)
        parts.append(jax.lax.scan(lambda total, rows: (total + piece(latent, rows), None), zero, cut)[0])
    if rest:
        parts.append(piece(latent, jax.tree.map(lambda leaf: leaf[whole * rows_at_once :], arrays)))
    return sum(parts[1:], parts[0])


def _sum_of_terms(
    log_likelihood: Callable[..., jax.Array], compute_dtype: jax.typing.DTypeLike | None
) -> Callable[[PyTree, tuple[Any, ...]], jax.Array]:
    """``(latent, rows) -> scalar``, the sum over the rows."""

    def term(latent: PyTree, row: tuple[Any, ...]) -> jax.Array:
        return checks.check_scalar(log_likelihood(latent, *row), "log_likelihood")

    if compute_dtype is None:
        return lambda latent, rows: jnp.sum(jax.vmap(lambda *row: term(latent, row))(*rows))
    mixed_precision.check_dtype(compute_dtype, "compute_dtype")
    return mixed_precision.sum_of_terms(term, compute_dtype)


def _num_rows(arrays: tuple[PyTree, ...], name: str) -> int:
    leaves = jax.tree.leaves(arrays)
    if not leaves:
        raise ValueError(f"{name} must hold at least one array, got none.")
    if not jnp.ndim(leaves[0]) or not jnp.shape(leaves[0])[0]:
        raise ValueError(f"{name} must have a leading axis of at least one row, got shape {jnp.shape(leaves[0])}.")
    size = jnp.shape(leaves[0])[0]
    checks.check_leading_axis(arrays, size, name, "rows")
    return size
