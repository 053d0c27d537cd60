"""Mixtures of Gaussians with a Dirichlet and a normal-inverse-Wishart prior; components not needed switch off."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxelbo import checks, exponential
from jaxelbo.conjugate import models
from jaxelbo.conjugate.models import ConjugateModel, Means, Naturals
from jaxelbo.conjugate.observations import gaussian_observations
from jaxelbo.distributions import Dirichlet, NormalInverseWishart, categorical, dirichlet
from jaxelbo.types import Key


def gaussian_mixture(weights: Dirichlet, component: NormalInverseWishart) -> ConjugateModel:
    """Rows ``[N, D]``, each of one of K Gaussians: q(assignments) q(weights) q(components).

    Where ``weights`` has concentrations far below 1, components that the data do not need lose all their rows and go
    back to the prior. `for_minibatches` leaves the assignments out.

    Args:
      weights: prior of the K proportions; K is the length of its ``concentration``.
      component: prior of the mean and covariance of each component, ``loc [D]``.

    Returns:
      The `ConjugateModel`, on data ``(x,)``; its factors are ``"assignments"``, N copies of a categorical distribution
      in minimal form, ``"weights"``, a Dirichlet, and ``"components"``, K copies of a normal-inverse-Wishart.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Attias (2000), *A Variational Bayesian Framework for Graphical Models*;
      Corduneanu, Bishop (2001), *Variational Bayesian Model Selection for Mixture Distributions*;
      Bishop (2006), *Pattern Recognition and Machine Learning*, section 10.2.

    >>> import jax, jax.numpy as jnp, jaxelbo
    >>> x = jnp.concatenate([jnp.linspace(-4.0, -2.0, 50), jnp.linspace(3.0, 5.0, 50)])[:, None]
    >>> component = NormalInverseWishart(jnp.zeros(1), 0.1, 2.0, jnp.eye(1))
    >>> model, key = gaussian_mixture(Dirichlet(jnp.full(5, 1e-2)), component), jax.random.key(0)
    >>> algorithm = jaxelbo.algorithms.coordinate_ascent(model.expected_log_joint, model.factors)
    >>> result = jaxelbo.run_algorithm(model.start(key, x), key, algorithm, num_steps=100, data=(x,))
    >>> int(jnp.sum(dirichlet.to_usual(result.params["weights"]).concentration > 1))  # of five
    2
    """
    of_weights = models.natural_of(weights, Dirichlet, dirichlet, "weights")
    checks.check_floating(of_weights, "weights.concentration", ("K",))
    num_components = of_weights.size
    observed = gaussian_observations(component)
    factors = {
        "assignments": exponential.copies(categorical(num_components)),
        "weights": dirichlet,
        "components": exponential.copies(observed.family),
    }
    priors = {"weights": of_weights, "components": models.repeated(observed.prior, num_components)}

    def expected_log_joint(means: Means, x: jax.Array) -> jax.Array:
        x = observed.check(x, ("N",))
        terms = observed.expected_log_likelihoods(means["components"], x) + means["weights"][None]
        # In minimal form the last component has what the others leave.
        last = terms[:, -1:]
        of_rows = jnp.sum(last) + jnp.sum(means["assignments"] * (terms[:, :-1] - last))
        return of_rows + shared_terms(means)

    def shared_terms(means: Means) -> jax.Array:
        return models.prior_terms(means, priors, factors)

    def local_start(x: jax.Array) -> Naturals:
        x = observed.check(x, ("N",))
        return {"assignments": jnp.zeros((len(x), num_components - 1), x.dtype)}

    def start(key: Key, x: Any) -> Naturals:
        checks.check_key(key)
        return jax.jit(start_from)(key, observed.check(x, ("N",)))

    def start_from(key: Key, x: jax.Array) -> Naturals:
        known = {"assignments": observed.assignments(key, x, num_components)[:, :-1]}
        return local_start(x) | models.best_naturals(expected_log_joint, priors, known, x)

    return ConjugateModel(expected_log_joint, shared_terms, factors, ("assignments",), local_start, start)
