"""Conjugate models for `algorithms.coordinate_ascent`, each written as one function of mean parameters.

Built on the public functions of the toolkit alone. No model has update rules of its own: an update is the gradient of
the expected log joint in a factor's mean parameters.
"""

from jaxelbo.conjugate.gaussian_mixtures import gaussian_mixture
from jaxelbo.conjugate.hidden_markov import hidden_markov_model, markov_chain
from jaxelbo.conjugate.models import ConjugateModel, elbo, for_minibatches
from jaxelbo.conjugate.observations import ObservationModel, categorical_observations, gaussian_observations
from jaxelbo.conjugate.relevance_determination import relevance_regression
from jaxelbo.conjugate.topics import latent_dirichlet_allocation, padded_documents

__all__ = [
    "ConjugateModel",
    "ObservationModel",
    "categorical_observations",
    "elbo",
    "for_minibatches",
    "gaussian_mixture",
    "gaussian_observations",
    "hidden_markov_model",
    "latent_dirichlet_allocation",
    "markov_chain",
    "padded_documents",
    "relevance_regression",
]
