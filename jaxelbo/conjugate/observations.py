"""What a state or a component says of an observation: expected log-likelihoods, linear in its mean parameters."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np

from jaxelbo import checks
from jaxelbo.conjugate import models
from jaxelbo.distributions import Dirichlet, NormalInverseWishart, dirichlet, normal_inverse_wishart
from jaxelbo.exponential import ExponentialFamily, Natural
from jaxelbo.gaussians import product
from jaxelbo.types import Key


class ObservationModel(NamedTuple):
    """How observations are distributed in each of K components of a mixture or states of a chain.

    Attributes:
      family: of one component's parameters.
      prior: natural parameters of their prior, the same for all components.
      expected_log_likelihoods: ``(means, x) -> [..., K]``, E[log p(x | component k)] for mean parameters with a leading
        axis of K; ``...`` are the leading axes of x.
      assignments: ``(key, x, num_components) -> [..., K]``, proportions where a fit may start.
      check: ``(x, axes) -> array``: x with these leading axes, cast to the prior's dtype; its values are checked where
        they are known.
    """

    family: ExponentialFamily
    prior: Natural
    expected_log_likelihoods: Callable[[Natural, jax.Array], jax.Array]
    assignments: Callable[[Key, jax.Array, int], jax.Array]
    check: Callable[[Any, tuple[str, ...]], jax.Array]


def gaussian_observations(prior: NormalInverseWishart) -> ObservationModel:
    """Vectors ``[..., D]``, normal with a mean and a covariance of their own for each component.

    A fit starts from the nearest of K rows that are drawn far apart (Arthur and Vassilvitskii's k-means++). Squares are
    expanded, so rows should be centred where float32 is used.

    Args:
      prior: of the mean and covariance of each component.

    Returns:
      The `ObservationModel`, its family `distributions.normal_inverse_wishart`.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Murphy (2007), *Conjugate Bayesian Analysis of the Gaussian Distribution*;
      Arthur, Vassilvitskii (2007), *k-means++: The Advantages of Careful Seeding*.

    >>> import jax.numpy as jnp
    >>> from jaxelbo import conjugate
    >>> observed = gaussian_observations(NormalInverseWishart(jnp.zeros(2), 1.0, 3.0, jnp.eye(2)))
    >>> model = conjugate.hidden_markov_model(Dirichlet(jnp.ones(3)), Dirichlet(jnp.ones((3, 3))), observed)
    >>> list(model.factors)
    ['paths', 'first', 'transitions', 'observations']
    """
    if isinstance(prior, NormalInverseWishart):
        size = jnp.size(prior.loc)
        shapes = (size,), (), (), (size, size)
        for name, leaf, shape in zip(prior._fields, prior, shapes, strict=True):
            if jnp.shape(leaf) != shape:
                raise ValueError(f"prior.{name} must have shape {shape}, got {jnp.shape(leaf)}.")
    natural = models.natural_of(prior, NormalInverseWishart, normal_inverse_wishart, "prior")
    size = natural[2].size

    def expected_log_likelihoods(means: Natural, x: jax.Array) -> jax.Array:
        table = jax.vmap(_flat)(means)
        terms = product(jax.vmap(_of_row)(x.reshape(-1, size)), table.T)
        return terms.reshape(*x.shape[:-1], len(table)) - 0.5 * size * math.log(2 * math.pi)

    def check(x: Any, axes: tuple[str, ...]) -> jax.Array:
        checks.check_floating(x, "x", (*axes, "D"))
        if x.shape[-1] != size or x.size == 0:
            rows = ", ".join(axes)
            raise ValueError(f"x must have shape [{rows}, {size}] with at least one row, got {x.shape}.")
        if checks.is_known(x) and not np.all(np.isfinite(x)):
            raise ValueError("x must be finite, got NaN or infinity in it.")
        return jnp.asarray(x, natural[2].dtype)

    return ObservationModel(normal_inverse_wishart, natural, expected_log_likelihoods, _nearest_of_distant_rows, check)


def categorical_observations(prior: Dirichlet) -> ObservationModel:
    """Symbols 0, ..., V - 1 with probabilities of their own for each component.

    Args:
      prior: of each component's probabilities ``[V]``.

    Returns:
      The `ObservationModel`, its family `distributions.dirichlet`.

    Raises:
      TypeError, ValueError: naming the argument.

    >>> import jax.numpy as jnp
    >>> observed = categorical_observations(Dirichlet(jnp.ones(3)))
    >>> observed.expected_log_likelihoods(jnp.log(jnp.array([[0.5, 0.3, 0.2]])), jnp.array([2, 0])).shape
    (2, 1)
    """
    natural = models.natural_of(prior, Dirichlet, dirichlet, "prior")
    checks.check_floating(natural, "prior.concentration", ("V",))

    def assignments(key: Key, x: jax.Array, num_components: int) -> jax.Array:
        # All of one symbol alike, or the law of large numbers would make the components nearly equal.
        return jax.random.dirichlet(key, jnp.ones(num_components, natural.dtype), natural.shape)[x]

    def check(x: Any, axes: tuple[str, ...]) -> jax.Array:
        check_indices(x, "x", axes, natural.size)
        return jnp.asarray(x)

    return ObservationModel(dirichlet, natural, lambda means, x: means.T[x], assignments, check)


def check_indices(x: Any, name: str, axes: tuple[str, ...], size: int) -> None:
    """Requires integers with these axes, at least one, within range where their values are known."""
    if not hasattr(x, "dtype") or not jnp.issubdtype(x.dtype, jnp.integer):
        raise TypeError(f"{name} [{', '.join(axes)}] must be integers, got {checks.describe(x)}.")
    if x.ndim != len(axes) or x.size == 0:
        raise ValueError(f"{name} must have shape [{', '.join(axes)}] and not be empty, got shape {x.shape}.")
    if checks.is_known(x) and not (0 <= np.min(x) and np.max(x) < size):
        raise ValueError(f"{name} must lie between 0 and {size - 1}, got {np.min(x)} to {np.max(x)}.")


def _flat(natural: Natural) -> jax.Array:
    return jax.flatten_util.ravel_pytree(natural)[0]


def _of_row(row: jax.Array) -> jax.Array:
    """What one row adds to natural parameters: those of a prior that counts one observation, which is this row."""
    one, nothing = jnp.ones((), row.dtype), jnp.zeros((row.size, row.size), row.dtype)
    return _flat(normal_inverse_wishart.to_natural(NormalInverseWishart(row, one, one, nothing)))


def _nearest_of_distant_rows(key: Key, x: jax.Array, num_components: int) -> jax.Array:
    """Ones and zeros: each row is of the nearest of K rows, each drawn by its squared distance from those before it."""
    rows = x.reshape(-1, x.shape[-1])
    rows = rows / (jnp.std(rows, axis=0) + jnp.finfo(x.dtype).tiny)[None]
    key_first, *keys = jax.random.split(key, num_components)
    squares_from = lambda row: jnp.sum((rows - row[None]) ** 2, axis=1)  # noqa: E731
    squares = [squares_from(rows[jax.random.randint(key_first, (), 0, len(rows))])]
    for each in keys:
        nearest = jnp.min(jnp.stack(squares), axis=0)
        index = jax.random.categorical(each, jnp.log(nearest + jnp.finfo(x.dtype).tiny))
        squares.append(squares_from(rows[index]))
    nearest = jnp.argmin(jnp.stack(squares), axis=0)
    return jax.nn.one_hot(nearest.reshape(x.shape[:-1]), num_components, dtype=x.dtype)
