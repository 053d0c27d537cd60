"""Simulation-based calibration: is a way of fitting right on data whose latent is known?

Floor 4.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxelbo import checks
from jaxelbo.types import Key, Latent, PyTree

_NUM_TERMS = 100
"""Of the series of the limiting distributions, which is more than float64 needs where they converge slowest."""


class Calibration(NamedTuple):
    """Where the true latents lie among the draws of their fits.

    Attributes:
      positions: a latent, leaves ``[R, ...]``: the share of draws below the truth, ties at random; uniform on (0, 1)
        where the fits are the posteriors. A heap in the middle says that q is too wide, heaps at both ends that it is
        too narrow, one at an end that it is shifted.
      uniform: a latent: p-value of a Kolmogorov-Smirnov test that they are uniform, for each entry.
      symmetric: a latent: p-value of a test that they are symmetric about 1/2, which a shift breaks and a wrong width
        does not.
      p_value: the least of ``uniform`` times the number of entries, at most 1: whether all of it may be chance.
      num_not_finite: fits with a draw that is not finite; their positions mean nothing.
    """

    positions: Latent
    uniform: Latent
    symmetric: Latent
    p_value: jax.Array
    num_not_finite: jax.Array


def simulation_based_calibration(
    key: Key,
    prior_fn: Callable[[Key], Latent],
    simulate_fn: Callable[[Latent, Key], PyTree],
    fit_fn: Callable[[PyTree, Key], Latent],
    *,
    num_simulations: int,
    num_at_once: int | None = None,
) -> Calibration:
    """Draws latents from the prior, data given them, fits each data set, and looks where the truth lies among draws.

    Estimand: the distribution of the truth's position among draws of q over data sets of the prior, uniform for each
    entry where q is the posterior. It tells of marginals on average over data: a fit may pass and be wrong on the data
    at hand, and correlations are not seen.

    Args:
      key: one random key.
      prior_fn: ``key -> latent``, a draw of p(z); floating-point leaves.
      simulate_fn: ``(latent, key) -> data``, a draw of p(x | z).
      fit_fn: ``(data, key) -> latents``, leaves ``[L, ...]``: independent draws of the fit to these data. It is
        vmapped, as `infer` and `fit` may be.
      num_simulations: R, static, at least 10.
      num_at_once: how many fits are vmapped together, by default all.

    Returns:
      `Calibration`.

    Raises:
      TypeError, ValueError: at trace time, naming the argument.

    References:
      Talts, Betancourt, Simpson, Vehtari, Gelman (2018), *Validating Bayesian Inference Algorithms with
      Simulation-Based Calibration*;
      Yao, Vehtari, Simpson, Gelman (2018), *Yes, but Did It Work? Evaluating Variational Inference*;
      Butler (1969), *A Test for Symmetry Using the Sample Distribution Function*.

    >>> import jax
    >>> prior_fn = lambda key: jax.random.normal(key)
    >>> simulate_fn = lambda z, key: z + jax.random.normal(key)
    >>> exact = lambda x, key: x / 2 + jax.random.normal(key, (99,)) / 2**0.5
    >>> narrow = lambda x, key: x / 2 + jax.random.normal(key, (99,)) / 3
    >>> check = lambda fit_fn: simulation_based_calibration(
    ...     jax.random.key(0), prior_fn, simulate_fn, fit_fn, num_simulations=500
    ... )
    >>> bool(check(exact).p_value > 0.01), bool(check(narrow).p_value < 0.01)
    (True, True)
    """
    checks.check_key(key)
    for function, name in ((prior_fn, "prior_fn"), (simulate_fn, "simulate_fn"), (fit_fn, "fit_fn")):
        checks.check_callable(function, name)
    num_simulations = checks.check_count(num_simulations, "num_simulations", minimum=10)
    at_once = num_simulations if num_at_once is None else checks.check_count(num_at_once, "num_at_once")

    def one(key: Key) -> tuple[Latent, jax.Array]:
        key_prior, key_data, key_fit, key_ties = jax.random.split(key, 4)
        truth = prior_fn(key_prior)
        checks.check_float_leaves(truth, "the latent of prior_fn")
        latents = fit_fn(simulate_fn(truth, key_data), key_fit)
        _check_draws(latents, truth)
        ties = jax.random.split(key_ties, len(jax.tree.leaves(truth)))
        keys = jax.tree.unflatten(jax.tree.structure(truth), list(ties))
        sound = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(latents)]
        return jax.tree.map(_position, truth, latents, keys), functools.reduce(jnp.logical_and, sound)

    keys = jax.random.split(key, num_simulations)
    if at_once >= num_simulations:
        positions, is_sound = jax.vmap(one)(keys)
    else:
        positions, is_sound = jax.lax.map(one, keys, batch_size=at_once)
    uniform = jax.tree.map(_over_entries(_p_of_uniform), positions)
    values = jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(uniform)])
    return Calibration(
        positions=positions,
        uniform=uniform,
        symmetric=jax.tree.map(_over_entries(_p_of_symmetric), positions),
        p_value=jnp.minimum(1, jnp.min(values) * values.size),
        num_not_finite=jnp.sum(~is_sound).astype(jnp.int32),
    )


def _check_draws(latents: Any, truth: Latent) -> None:
    if jax.tree.structure(latents) != jax.tree.structure(truth):
        raise ValueError(
            f"fit_fn must return draws with the structure of the latent of prior_fn, {jax.tree.structure(truth)}, got "
            f"{jax.tree.structure(latents)}."
        )
    names = checks.leaf_names(truth, "the draws of fit_fn")
    for name, draws, value in zip(names, jax.tree.leaves(latents), jax.tree.leaves(truth), strict=True):
        if jnp.ndim(draws) != jnp.ndim(value) + 1 or jnp.shape(draws)[1:] != jnp.shape(value):
            raise ValueError(f"{name} must have shape [L, *{jnp.shape(value)}], got {jnp.shape(draws)}.")


def _position(truth: jax.Array, draws: jax.Array, key: Key) -> jax.Array:
    """The rank of the truth among L draws at random within its step: (below + U (ties + 1)) / (L + 1)."""
    truth, draws = jnp.asarray(truth), jnp.asarray(draws)
    below, ties = jnp.sum(draws < truth[None], axis=0), jnp.sum(draws == truth[None], axis=0)
    within = jax.random.uniform(key, truth.shape, truth.dtype)
    return (below + within * (ties + 1)) / (len(draws) + 1)


def _over_entries(test: Callable[[jax.Array], jax.Array]) -> Callable[[jax.Array], jax.Array]:
    """A test of numbers ``[R]`` for each entry of ``[R, ...]``."""

    def of_leaf(leaf: jax.Array) -> jax.Array:
        return jax.vmap(test, in_axes=1)(leaf.reshape(len(leaf), -1)).reshape(leaf.shape[1:])

    return of_leaf


def _p_of_uniform(positions: jax.Array) -> jax.Array:
    """Kolmogorov's test, with Stephens' correction for few numbers."""
    size = positions.size
    ordered, steps = jnp.sort(positions), np.arange(size)
    distance = jnp.maximum(jnp.max((steps + 1) / size - ordered), jnp.max(ordered - steps / size))
    scaled = (np.sqrt(size) + 0.12 + 0.11 / np.sqrt(size)) * distance
    terms = np.arange(1, _NUM_TERMS)
    series = 2 * jnp.sum((-1.0) ** (terms - 1) * jnp.exp(-2 * (terms * jnp.maximum(scaled, 0.2)) ** 2))
    return jnp.clip(series, 0, 1)


def _p_of_symmetric(positions: jax.Array) -> jax.Array:
    """Butler's test: the largest excess of numbers on one side is that of a random walk from the ends inwards."""
    offsets = positions - 0.5
    outwards_in = jnp.argsort(-jnp.abs(offsets))
    walk = jnp.cumsum(jnp.sign(offsets)[outwards_in])
    scaled = jnp.maximum(jnp.max(jnp.abs(walk)) / np.sqrt(positions.size), 0.1)
    odd = 2 * np.arange(_NUM_TERMS) + 1
    signs = (-1.0) ** np.arange(_NUM_TERMS)
    stays = 4 / np.pi * jnp.sum(signs / odd * jnp.exp(-((np.pi * odd) ** 2) / (8 * scaled**2)))
    return jnp.clip(1 - stays, 0, 1)
