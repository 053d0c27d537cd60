"""Distributions as records of parameters: their exponential families, and closed-form KL divergences between them.

Floor 1. A record such as ``Gamma(concentration, rate)`` holds arrays; the exponential family of the same name in small
letters, such as ``gamma``, takes it to natural parameters and back. `CLOSED_FORMS` is the one table of pairs:
`divergences.between` reads it, DISTRIBUTIONS.md and the tests are made from it. `Product`, `Copies` and `Transformed`
make distributions of others, and a pair of these has KL where its parts have.

>>> import jax.numpy as jnp, jaxelbo
>>> q, p = Gamma(jnp.array(2.0), jnp.array(1.0)), Gamma(jnp.array(1.0), jnp.array(1.0))
>>> round(float(jaxelbo.divergences.between(q, p)), 4)  # digamma(2)
0.4228
"""

from jaxelbo.distributions.closed_forms import CLOSED_FORMS, EXPONENTIAL_FAMILIES
from jaxelbo.distributions.counts import (
    Binomial,
    Geometric,
    Multinomial,
    NegativeBinomial,
    Poisson,
    bernoulli,
    binomial,
    categorical,
    geometric,
    multinomial,
    negative_binomial,
    poisson,
)
from jaxelbo.distributions.directions import VonMises, VonMisesFisher, von_mises, von_mises_fisher
from jaxelbo.distributions.gammas import (
    ChiSquared,
    Exponential,
    Gamma,
    InverseGamma,
    chi_squared,
    exponential,
    gamma,
    inverse_gamma,
)
from jaxelbo.distributions.lines import Cauchy, Gumbel, StudentT, Uniform
from jaxelbo.distributions.matrices import (
    InverseWishart,
    NormalGamma,
    NormalInverseWishart,
    Wishart,
    inverse_wishart,
    normal_gamma,
    normal_inverse_wishart,
    wishart,
)
from jaxelbo.distributions.normals import (
    InverseGaussian,
    LogNormal,
    Normal,
    diagonal_normal,
    inverse_gaussian,
    log_normal,
    multivariate_normal,
    normal,
    normal_of_known_scale,
)
from jaxelbo.distributions.proportions import Beta, Dirichlet, beta, dirichlet
from jaxelbo.distributions.scales import (
    HalfNormal,
    Laplace,
    Pareto,
    Rayleigh,
    Weibull,
    laplace,
    pareto,
    rayleigh,
    weibull,
)
from jaxelbo.distributions.transformed import Transformed
from jaxelbo.finite import Bernoulli, Categorical, Copies, Product
from jaxelbo.gaussians import Dense, Diagonal, LowRank

__all__ = [
    "CLOSED_FORMS",
    "EXPONENTIAL_FAMILIES",
    "Bernoulli",
    "Beta",
    "Binomial",
    "Categorical",
    "Cauchy",
    "ChiSquared",
    "Copies",
    "Dense",
    "Diagonal",
    "Dirichlet",
    "Exponential",
    "Gamma",
    "Geometric",
    "Gumbel",
    "HalfNormal",
    "InverseGamma",
    "InverseGaussian",
    "InverseWishart",
    "Laplace",
    "LogNormal",
    "LowRank",
    "Multinomial",
    "NegativeBinomial",
    "Normal",
    "NormalGamma",
    "NormalInverseWishart",
    "Pareto",
    "Poisson",
    "Product",
    "Rayleigh",
    "StudentT",
    "Transformed",
    "Uniform",
    "VonMises",
    "VonMisesFisher",
    "Weibull",
    "Wishart",
    "bernoulli",
    "beta",
    "binomial",
    "categorical",
    "chi_squared",
    "diagonal_normal",
    "dirichlet",
    "exponential",
    "gamma",
    "geometric",
    "inverse_gamma",
    "inverse_gaussian",
    "inverse_wishart",
    "laplace",
    "log_normal",
    "multinomial",
    "multivariate_normal",
    "negative_binomial",
    "normal",
    "normal_gamma",
    "normal_inverse_wishart",
    "normal_of_known_scale",
    "pareto",
    "poisson",
    "rayleigh",
    "von_mises",
    "von_mises_fisher",
    "weibull",
    "wishart",
]
