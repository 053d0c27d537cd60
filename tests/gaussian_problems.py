"""Log densities whose best Gaussian is known in closed form, and distances between Gaussians, in NumPy."""

import math

import jax.numpy as jnp
import numpy as np

SHAPES = np.array([0.7, 1.5, 4.0, 9.0])
RATES = np.array([2.0, 0.3, 1.0, 5.0])


def log_gammas(latent):
    """Logarithms of independent gamma variables: skewed, with tails like exp(-exp(z))."""
    return jnp.sum(SHAPES * latent - RATES * jnp.exp(latent))


def best_of_log_gammas():
    """Mean and sd that maximise E_q[a z - b exp z] + log sd: b exp(m + s^2 / 2) = a, s^2 = 1 / a; and the bound."""
    mean, sd = np.log(SHAPES / RATES) - 0.5 / SHAPES, SHAPES**-0.5
    elbo = np.sum(SHAPES * mean - SHAPES + np.log(sd) + 0.5 * math.log(2 * math.pi) + 0.5)
    return mean, sd, elbo


def mixing_matrix(size, condition, seed=0):
    """A dense matrix of that condition number."""
    rng = np.random.default_rng(seed)
    left, right = (np.linalg.qr(rng.normal(size=(size, size)))[0] for _ in range(2))
    return left @ np.diag(np.logspace(-0.5, 0.5, size) ** np.log10(condition)) @ right


def mean_and_root(params):
    """Mean and a square root of the covariance, from the parameters of a Gaussian family."""
    params = {name: np.asarray(leaf, np.float64) for name, leaf in params.items()}
    scales = np.exp(params["log_scale"])
    if "unit_tril" not in params:
        return params["loc"], np.diag(scales)
    return params["loc"], scales[:, None] * (np.eye(len(scales)) + np.tril(params["unit_tril"], -1))


def kl_of_gaussians(q, p):
    """KL(q || p) of two pairs (mean, root)."""
    (mean_q, root_q), (mean_p, root_p) = q, p
    root, shift = np.linalg.solve(root_p, root_q), np.linalg.solve(root_p, mean_q - mean_p)
    return 0.5 * (np.sum(root**2) + shift @ shift - len(shift)) - np.linalg.slogdet(root)[1]
