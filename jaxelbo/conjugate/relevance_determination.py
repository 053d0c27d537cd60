"""Linear regression whose weights each have a precision of their own, which grows where data do not need the weight."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxelbo import checks, exponential
from jaxelbo.conjugate import models
from jaxelbo.conjugate.models import ConjugateModel, Means, Naturals
from jaxelbo.distributions import Dense, Gamma, gamma, multivariate_normal
from jaxelbo.distributions.normals import symmetric
from jaxelbo.gaussians import product
from jaxelbo.types import Key


def relevance_regression(relevance: Gamma, noise: Gamma) -> ConjugateModel:
    """Automatic relevance determination: y ~ N(X w, 1 / noise), w_j ~ N(0, 1 / relevance_j).

    q(weights) q(relevance) q(noise). For many rows `for_minibatches` scales the sum over some of them.

    Args:
      relevance: priors of the D precisions of weights, leaves ``[D]``.
      noise: prior of the precision of the noise, scalars.

    Returns:
      The `ConjugateModel`, on data ``(design [N, D], y [N])``; its factors are ``"weights"``, a multivariate normal,
      ``"relevance"``, D copies of a gamma, and ``"noise"``, a gamma. All are global.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      MacKay (1994), *Bayesian Nonlinear Modeling for the Prediction Competition*;
      Bishop (2006), *Pattern Recognition and Machine Learning*, sections 7.2 and 10.3;
      Drugowitsch (2013), *Variational Bayesian Inference for Linear and Logistic Regression*.

    >>> import jax, jax.numpy as jnp, jaxelbo
    >>> design = jax.random.normal(jax.random.key(0), (100, 3))
    >>> y = design @ jnp.array([2.0, 0.0, -1.0]) + 0.1 * jax.random.normal(jax.random.key(1), (100,))
    >>> model = relevance_regression(Gamma(jnp.full(3, 1e-2), jnp.full(3, 1e-2)), Gamma(1e-2, 1e-2))
    >>> algorithm = jaxelbo.algorithms.coordinate_ascent(model.expected_log_joint, model.factors)
    >>> key, data = jax.random.key(2), (design, y)
    >>> result = jaxelbo.run_algorithm(model.start(key, *data), key, algorithm, num_steps=50, data=data)
    >>> fitted = jax.vmap(gamma.to_usual)(result.params["relevance"])
    >>> (fitted.concentration / fitted.rate > 10).tolist()  # which weights are not needed
    [False, True, False]
    """
    factors = {"weights": multivariate_normal, "relevance": exponential.copies(gamma), "noise": gamma}
    of_relevance = models.natural_of(relevance, Gamma, factors["relevance"], "relevance")
    for name, leaf in zip(relevance._fields, of_relevance, strict=True):
        checks.check_floating(leaf, f"relevance.{name}", ("D",))
    of_noise = models.natural_of(noise, Gamma, gamma, "noise")
    for name, leaf in zip(noise._fields, of_noise, strict=True):
        checks.check_floating(leaf, f"noise.{name}", ())
    priors = {"relevance": of_relevance, "noise": of_noise}
    size, dtype = of_relevance[0].size, of_relevance[0].dtype

    def expected_log_joint(means: Means, design: Any, y: Any) -> jax.Array:
        design, y = check(design, y)
        loc, triangle = means["weights"]
        log_precision, precision = means["noise"]
        of_square = jnp.vdot(product(design.T, design), symmetric(triangle, size))
        squares = jnp.vdot(y, y) - 2 * jnp.vdot(product(y, design), loc) + of_square
        of_rows = 0.5 * (len(y) * (log_precision - math.log(2 * math.pi)) - precision * squares)
        return of_rows + shared_terms(means)

    def shared_terms(means: Means) -> jax.Array:
        log_relevance, precision = means["relevance"]
        squares = jnp.diag(symmetric(means["weights"][1], size))
        of_weights = 0.5 * jnp.sum(log_relevance - precision * squares - math.log(2 * math.pi))
        return of_weights + models.prior_terms(means, priors, factors)

    def start(key: Key, design: Any, y: Any) -> Naturals:
        checks.check_key(key)
        return jax.jit(start_from)(*check(design, y))

    def start_from(design: jax.Array, y: jax.Array) -> Naturals:
        standard = Dense(*(jnp.zeros(shape, dtype) for shape in ((size,), (size,), (size, size))))
        spread = Gamma(jnp.ones((), dtype), jnp.var(y) + jnp.finfo(dtype).tiny)
        of_weights = multivariate_normal.to_natural(standard)
        return {"weights": of_weights, "relevance": of_relevance, "noise": gamma.to_natural(spread)}

    def check(design: Any, y: Any) -> tuple[jax.Array, jax.Array]:
        checks.check_floating(design, "design", ("N", "D"))
        checks.check_floating(y, "y", ("N",))
        if design.shape[1] != size or len(design) == 0:
            raise ValueError(f"design must have shape [N, {size}] with at least one row, got {design.shape}.")
        if y.shape != design.shape[:1]:
            raise ValueError(f"y must have shape {design.shape[:1]} as design has rows, got {y.shape}.")
        for name, array in (("design", design), ("y", y)):
            if checks.is_known(array) and not np.all(np.isfinite(array)):
                raise ValueError(f"{name} must be finite, got NaN or infinity in it.")
        return jnp.asarray(design, dtype), jnp.asarray(y, dtype)

    return ConjugateModel(expected_log_joint, shared_terms, factors, (), lambda *data: {}, start)
