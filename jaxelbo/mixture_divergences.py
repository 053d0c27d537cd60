"""KL of two mixtures of Gaussians between two bounds, since it has no closed form.

Floor 1.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxelbo import checks, gaussians
from jaxelbo.distributions import domains
from jaxelbo.gaussians import Gaussian, product


class Mixture(NamedTuple):
    """Components of one kind with unnormalised log weights ``logits [K]``; their arrays are ``[K, ...]``."""

    logits: jax.Array
    components: Gaussian


class KLBounds(NamedTuple):
    """KL(q || p) lies between ``lower`` and ``upper``, in nats."""

    lower: jax.Array
    upper: jax.Array


def kl_bounds(q: Mixture, p: Mixture) -> KLBounds:
    """Bounds of KL(q || p) of two mixtures of Gaussians, from below and from above.

    With D_ab = KL(q_a || p_b) and t_ab the integral of q_a p_b, each bound puts one side of Jensen's inequality or of
    the variational bound in the place of E_q[log q] and the other in that of E_q[log p]; the upper one is the smaller
    of that and of matching components (exact for one component each). No bound is negative. They are loose where
    components overlap in part.

    Args:
      q: a `Mixture` of `gaussians` records of the same form or not.
      p: another over the same vector.

    Returns:
      `KLBounds`, scalars in nats; may be differentiated, as bounds.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Hershey, Olsen (2007), *Approximating the Kullback Leibler Divergence Between Gaussian Mixture Models*;
      Durrieu, Thiran, Kelly (2012), *Lower and Upper Bounds for Approximation of the Kullback-Leibler Divergence*.

    >>> import jax.numpy as jnp
    >>> far = Mixture(jnp.zeros(2), gaussians.Diagonal(jnp.array([[-9.0], [9.0]]), jnp.zeros((2, 1))))
    >>> near = Mixture(jnp.zeros(1), gaussians.Diagonal(jnp.array([[9.0]]), jnp.zeros((1, 1))))
    >>> bounds = kl_bounds(near, far)
    >>> round(float(bounds.lower), 3), round(float(bounds.upper), 3)  # log 2 = 0.693
    (0.54, 0.693)
    """
    for mixture, name in ((q, "q"), (p, "p")):
        if not isinstance(mixture, Mixture):
            raise TypeError(f"{name} must be a Mixture, got {checks.describe(mixture)}.")
        checks.check_floating(mixture.logits, f"{name}.logits", ("K",))
        if not isinstance(mixture.components, Gaussian):
            raise TypeError(
                f"{name}.components must be a record of jaxelbo.gaussians, got {type(mixture.components).__name__}."
            )
        checks.check_leading_axis(mixture.components, mixture.logits.size, f"{name}.components", "K")
        domains.check_record(jax.tree.map(lambda leaf: leaf[0], mixture.components), f"a component of {name}")
    if q.components.loc.shape[1:] != p.components.loc.shape[1:]:
        raise ValueError(
            f"q and p must be of one vector, got components of shapes {q.components.loc.shape[1:]} and "
            f"{p.components.loc.shape[1:]}."
        )
    log_q, log_p = jax.nn.log_softmax(q.logits), jax.nn.log_softmax(p.logits)
    own, other = _kl_of_pairs(q.components, q.components), _kl_of_pairs(q.components, p.components)
    own_overlap, overlap = _log_overlap(q.components, q.components), _log_overlap(q.components, p.components)
    entropies = jax.vmap(gaussians.entropy)(q.components)

    def mixed(log_weights: jax.Array, values: jax.Array) -> jax.Array:
        return jax.nn.logsumexp(log_weights[None] + values, axis=1)

    lower = jnp.sum(jnp.exp(log_q) * (mixed(log_q, -own) - entropies - mixed(log_p, overlap)))
    upper = jnp.sum(jnp.exp(log_q) * (mixed(log_q, own_overlap) + entropies - mixed(log_p, -other)))
    return KLBounds(jnp.maximum(lower, 0), jnp.maximum(jnp.minimum(upper, _matched(log_q, log_p, other)), 0))


NUM_MATCHES = 30


def _matched(log_q: jax.Array, log_p: jax.Array, kl: jax.Array) -> jax.Array:
    """The least over matchings of components of KL of the joint distributions, by coordinate descent."""

    def body(_: int, log_parts_p: jax.Array) -> jax.Array:
        log_parts_q = log_q[:, None] + jax.nn.log_softmax(log_parts_p - kl, axis=1)
        return log_p[None] + jax.nn.log_softmax(log_parts_q, axis=0)

    start = log_p[None] + jnp.zeros_like(kl) - math.log(len(log_q))
    log_parts_p = jax.lax.fori_loop(0, NUM_MATCHES, body, start)
    log_parts_q = log_q[:, None] + jax.nn.log_softmax(log_parts_p - kl, axis=1)
    return jnp.sum(jnp.exp(log_parts_q) * (log_parts_q - log_parts_p + kl))


def _kl_of_pairs(q: Gaussian, p: Gaussian) -> jax.Array:
    return jax.vmap(lambda one: jax.vmap(lambda other: gaussians.kl_divergence(one, other))(p))(q)


def _log_overlap(q: Gaussian, p: Gaussian) -> jax.Array:
    """Log of the integral of q_a p_b, ``[K, L]``: the density of the difference at 0."""

    def of_pair(one: Gaussian, other: Gaussian) -> jax.Array:
        roots = gaussians.root(one), gaussians.root(other)
        chol = jnp.linalg.cholesky(sum(product(root, root.T) for root in roots))
        gap = jax.scipy.linalg.solve_triangular(chol, one.loc - other.loc, lower=True)
        return -0.5 * jnp.sum(gap**2) - jnp.sum(jnp.log(jnp.diag(chol))) - 0.5 * gap.size * math.log(2 * math.pi)

    return jax.vmap(lambda one: jax.vmap(lambda other: of_pair(one, other))(p))(q)
