"""Eight schools: did coaching raise test scores, and by how much in each school?

Data: effects of coaching on SAT-V scores with their standard errors, in points, from eight randomised experiments of
the Educational Testing Service; Rubin (1981), *Estimation in Parallel Randomized Experiments*, table 1.
Model: Gelman, Carlin, Stern, Dunson, Vehtari, Rubin (2013), *Bayesian Data Analysis*, section 5.5, non-centred:

    mu ~ N(0, 5),  tau ~ half-Cauchy(5),  eta_j ~ N(0, 1),  effect_j = mu + tau eta_j,  y_j ~ N(effect_j, sigma_j).
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxelbo.types import Latent

SCHOOLS = tuple("ABCDEFGH")
EFFECTS = (28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0)
STANDARD_ERRORS = (15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0)

LATENT_LIKE = {
    "mu": jax.ShapeDtypeStruct((), "float32"),
    "log_tau": jax.ShapeDtypeStruct((), "float32"),
    "eta": jax.ShapeDtypeStruct((8,), "float32"),
}


def log_joint(latent: Latent) -> jax.Array:
    """Log p(y, mu, log_tau, eta), with the Jacobian of log_tau; scalar, in nats."""
    normal = jax.scipy.stats.norm.logpdf
    log_tau = latent["log_tau"]
    # half-Cauchy(5) at tau = exp(log_tau), times tau
    prior_tau = jnp.log(2 / jnp.pi) + log_tau - jnp.log(5.0) - jax.nn.softplus(2 * (log_tau - jnp.log(5.0)))
    prior = normal(latent["mu"], 0.0, 5.0) + prior_tau + jnp.sum(normal(latent["eta"]))
    likelihood = normal(jnp.asarray(EFFECTS), effects(latent), jnp.asarray(STANDARD_ERRORS))
    return prior + jnp.sum(likelihood)


def effects(latent: Latent) -> jax.Array:
    """The true effect in each school, ``[8]``, in points."""
    return latent["mu"] + jnp.exp(latent["log_tau"]) * latent["eta"]


def log_evidence(num_nodes: int = 4_000) -> float:
    """Log p(y) by quadrature: given tau all else is Gaussian, so one integral is left."""
    y, variance = np.asarray(EFFECTS), np.asarray(STANDARD_ERRORS) ** 2
    log_tau = np.linspace(-15, 15, num_nodes)
    terms = np.empty(num_nodes)
    for index, tau in enumerate(np.exp(log_tau)):
        covariance = np.diag(variance + tau**2) + 25.0
        quadratic = y @ np.linalg.solve(covariance, y)
        log_likelihood = -0.5 * (quadratic + np.linalg.slogdet(covariance)[1] + len(y) * np.log(2 * np.pi))
        terms[index] = log_likelihood + np.log(2 / (np.pi * 5) / (1 + (tau / 5) ** 2)) + np.log(tau)
    top = terms.max()
    return float(top + np.log(np.trapezoid(np.exp(terms - top), log_tau)))
