"""Where a recurrent system looks next: a Gaussian about a mean within the image, or about that of its proposal.

Attention.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Draw(NamedTuple):
    """One location ``[2]``, held fixed for differentiation, and its log densities.

    Attributes:
      location: across and down, the image is [-1, 1]^2; noise may lead out of it.
      log_prob: log density of the location under the policy.
      log_proposal: under the proposal that drew it.
    """

    location: jax.Array
    log_prob: jax.Array
    log_proposal: jax.Array


def draw(towards: jax.Array, correction: jax.Array | None, noise: jax.Array, scale: float) -> Draw:
    """The location at ``noise`` (of standard deviation ``scale``) from the mean of policy or proposal.

    ``tanh(towards)`` is the policy's mean; where a ``correction`` is given, ``tanh(towards + correction)`` is the
    proposal's, and the location is drawn about that.
    """
    mean = jnp.tanh(towards)
    proposed = mean if correction is None else jnp.tanh(towards + correction)
    location = jax.lax.stop_gradient(proposed + noise)
    log_prob = jnp.sum(jax.scipy.stats.norm.logpdf(location, mean, scale))
    log_proposal = jnp.sum(jax.scipy.stats.norm.logpdf(location, proposed, scale))
    return Draw(location, log_prob, log_proposal)
