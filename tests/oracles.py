"""Answers from outside the code under test: NumPy in double precision, quadrature, closed forms."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxelbo


class GaussianModel(NamedTuple):
    """z ~ N(0, prior_sd^2 I), x | z ~ N(design z, noise_sd^2 I), with everything that can be known about it."""

    design: np.ndarray
    x: np.ndarray
    prior_sd: float
    noise_sd: float

    @property
    def posterior(self):
        """Mean [D] and covariance [D, D] of p(z | x)."""
        precision = self.design.T @ self.design / self.noise_sd**2 + np.eye(self.design.shape[1]) / self.prior_sd**2
        covariance = np.linalg.inv(precision)
        return covariance @ self.design.T @ self.x / self.noise_sd**2, (covariance + covariance.T) / 2

    @property
    def log_evidence(self):
        n = len(self.x)
        return gaussian_log_density(
            self.x, np.zeros(n), self.prior_sd**2 * self.design @ self.design.T + self.noise_sd**2 * np.eye(n)
        )

    def log_joint(self, z):
        """For jax, in the dtype of z."""
        design, x = jnp.asarray(self.design, z.dtype), jnp.asarray(self.x, z.dtype)
        residual = (x - jnp.matmul(design, z, precision="highest")) / self.noise_sd
        prior = z / self.prior_sd
        constant = len(self.x) * np.log(self.noise_sd) + len(z) * np.log(self.prior_sd)
        constant += (len(self.x) + len(z)) * np.log(2 * np.pi) / 2
        return -0.5 * (jnp.sum(residual**2) + jnp.sum(prior**2)) - constant

    def log_posterior(self, z):
        """log p(z | x) in double precision."""
        return gaussian_log_density(np.asarray(z, np.float64), *self.posterior)


def gaussian_model(dim, seed=0):
    rng = np.random.default_rng(seed)
    design = rng.normal(size=(2 * dim, dim)) / np.sqrt(dim)
    z = rng.normal(size=dim)
    return GaussianModel(design, design @ z + 0.7 * rng.normal(size=2 * dim), 1.0, 0.7)


def gaussian_log_density(point, mean, covariance):
    scale = np.linalg.cholesky(covariance)
    whitened = np.linalg.solve(scale, point - mean)
    return -0.5 * whitened @ whitened - np.sum(np.log(np.diag(scale))) - len(point) * np.log(2 * np.pi) / 2


def gaussian_kl(mean_q, covariance_q, mean_p, covariance_p):
    precision = np.linalg.inv(covariance_p)
    shift = mean_p - mean_q
    trace = np.trace(precision @ covariance_q)
    log_dets = np.linalg.slogdet(covariance_p)[1] - np.linalg.slogdet(covariance_q)[1]
    return 0.5 * (trace + shift @ precision @ shift - len(shift) + log_dets)


def full_rank_params(mean, covariance, dtype="float32"):
    scale = np.linalg.cholesky(covariance)
    log_scale = np.log(np.diag(scale))
    unit_tril = scale / np.exp(log_scale)[:, None]
    return {
        "loc": jnp.asarray(mean, dtype),
        "log_scale": jnp.asarray(log_scale, dtype),
        "unit_tril": jnp.asarray(unit_tril, dtype),
    }


def covariance_of(params):
    """Covariance [D, D] that a family's params stand for, by the definition in its docstring."""
    scale = np.exp(np.asarray(params["log_scale"], np.float64))
    unit = np.eye(len(scale))
    if "unit_tril" in params:
        unit = unit + np.tril(np.asarray(params["unit_tril"], np.float64), -1)
    root = scale[:, None] * unit
    return root @ root.T


def random_params(family, seed, spread=1.0):
    """Params near the family's start, moved at random."""
    params = family.init(jax.random.key(0))
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: leaf + spread * jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype), params)


def hermite(num_nodes=60):
    """Nodes and weights of the standard normal."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(num_nodes)
    return nodes, weights / np.sqrt(2 * np.pi)


FAMILIES = {"mean_field": jaxelbo.families.mean_field, "full_rank": jaxelbo.families.full_rank}
