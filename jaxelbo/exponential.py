"""Exponential families, once: p(x) = h(x) exp(<eta, T(x)> - A(eta)), and what follows from the log-normaliser A.

Floor 1. With mu = E[T(x)] = grad A(eta): the KL divergence is a Bregman divergence of A, the Fisher information its
Hessian, the natural gradient the gradient in mu, a conjugate update an addition of natural parameters. Members are in
`distributions`; a user's own is one more record.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp

from jaxelbo import checks
from jaxelbo.gaussians import product

Natural = Any
"""A pytree of natural parameters eta; mean parameters mu and statistics T(x) have the same structure."""

MAX_STEPS, MAX_HALVINGS = 100, 30


class ExponentialFamily(NamedTuple):
    """One exponential family with all its known constants.

    Attributes:
      name: for messages.
      log_normalizer: A, natural -> scalar.
      statistics: T, x -> a pytree like natural.
      log_base: x -> log h(x), scalar.
      to_natural: the usual parameters, a record of `distributions`, -> natural.
      to_usual: and back.
      guess: mean -> natural, where the search for the natural parameters of given mean parameters starts; exact where
        a closed form is known.
      expected_log_base: natural, mean -> E[log h(x)], scalar; ``None`` where that has no closed form.
      contains: natural -> whether A is finite there.
    """

    name: str
    log_normalizer: Callable[[Natural], jax.Array]
    statistics: Callable[[Any], Natural]
    log_base: Callable[[Any], jax.Array]
    to_natural: Callable[[Any], Natural]
    to_usual: Callable[[Natural], Any]
    guess: Callable[[Natural], Natural]
    expected_log_base: Callable[[Natural, Natural], jax.Array] | None
    contains: Callable[[Natural], jax.Array]


def copies(family: ExponentialFamily) -> ExponentialFamily:
    """The family of independent members, all of whose arrays have one more leading axis; copies of copies have two."""

    def summed(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
        return lambda *arguments: jnp.sum(jax.vmap(function)(*arguments))

    return ExponentialFamily(
        name=f"copies of {family.name}",
        log_normalizer=summed(family.log_normalizer),
        statistics=jax.vmap(family.statistics),
        log_base=summed(family.log_base),
        to_natural=jax.vmap(family.to_natural),
        to_usual=jax.vmap(family.to_usual),
        guess=jax.vmap(family.guess),
        expected_log_base=None if family.expected_log_base is None else summed(family.expected_log_base),
        contains=lambda natural: jnp.all(jax.vmap(family.contains)(natural)),
    )


def log_prob(natural: Natural, family: ExponentialFamily, x: Any) -> jax.Array:
    """Log density or log-probability of x, in nats."""
    check_proper(natural, family)
    return inner(natural, family.statistics(x)) - family.log_normalizer(natural) + family.log_base(x)


def mean_parameters(natural: Natural, family: ExponentialFamily) -> Natural:
    """The mean mu = E[T(x)] = grad A(eta)."""
    check_proper(natural, family)
    return jax.grad(family.log_normalizer)(natural)


def natural_parameters(mean: Natural, family: ExponentialFamily) -> Natural:
    """The natural parameters of given mean parameters: the eta that raises <eta, mu> - A(eta) most.

    Newton's method from the family's guess, with halved steps where one leaves the domain or does not lead up. Its
    fixed point does not depend on the guess. Not differentiated: d eta = (Fisher information)^-1 d mu.
    """
    flat_mean, unflatten = jax.flatten_util.ravel_pytree(mean)

    def height(flat: jax.Array) -> jax.Array:
        natural = unflatten(flat)
        value = jnp.vdot(flat, flat_mean) - family.log_normalizer(natural)
        return jnp.where(family.contains(natural) & ~jnp.isnan(value), value, -jnp.inf)

    def slope(flat: jax.Array) -> jax.Array:
        return flat_mean - jax.grad(lambda flat: family.log_normalizer(unflatten(flat)))(flat)

    def body(carry: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        flat, count, _ = carry
        gradient, curvature = slope(flat), jax.hessian(lambda flat: family.log_normalizer(unflatten(flat)))(flat)
        step = jnp.linalg.solve(curvature, gradient)
        here, gain = height(flat), jnp.vdot(gradient, step)

        def is_too_long(at: tuple[jax.Array, jax.Array]) -> jax.Array:
            length, num_halvings = at
            is_higher = height(flat + length * step) > here + 1e-4 * length * gain - rounding(here)
            return ~is_higher & (num_halvings < MAX_HALVINGS)

        first = (jnp.ones_like(here), jnp.zeros((), jnp.int32))
        length, _ = jax.lax.while_loop(is_too_long, lambda at: (0.5 * at[0], at[1] + 1), first)
        return flat + length * step, count + 1, gain

    def rounding(value: jax.Array) -> jax.Array:
        return 16 * jnp.finfo(value.dtype).eps * jnp.maximum(1, jnp.abs(value))

    def goes_on(carry: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        _, count, gain = carry
        return (count < MAX_STEPS) & (gain > jnp.finfo(gain.dtype).eps ** 2)

    start = jax.flatten_util.ravel_pytree(family.guess(mean))[0]
    flat, _, _ = jax.lax.while_loop(goes_on, body, (start, jnp.zeros((), jnp.int32), jnp.asarray(jnp.inf, start.dtype)))
    return unflatten(jax.lax.stop_gradient(flat))


def kl_divergence(natural_q: Natural, natural_p: Natural, family: ExponentialFamily) -> jax.Array:
    """KL(q || p) in nats, A(eta_p) - A(eta_q) - <eta_p - eta_q, mu_q>.

    It loses digits where both are close or large; `divergences.between` has a form without that for each member.
    """
    check_proper(natural_q, family, "natural_q")
    check_proper(natural_p, family, "natural_p")
    mean, gap = mean_parameters(natural_q, family), jax.tree.map(jnp.subtract, natural_p, natural_q)
    return family.log_normalizer(natural_p) - family.log_normalizer(natural_q) - inner(gap, mean)


def cross_entropy(natural_q: Natural, natural_p: Natural, family: ExponentialFamily) -> jax.Array:
    """-E_q[log p(x)] in nats, where E[log h(x)] has a closed form; refused by name where not."""
    if family.expected_log_base is None:
        raise ValueError(
            f"The entropy of {family.name} has no closed form: its base measure has no closed mean. kl_divergence has."
        )
    mean = mean_parameters(natural_q, family)
    return family.log_normalizer(natural_p) - inner(natural_p, mean) - family.expected_log_base(natural_q, mean)


def entropy(natural: Natural, family: ExponentialFamily) -> jax.Array:
    """Entropy in nats, where E[log h(x)] has a closed form."""
    return cross_entropy(natural, natural, family)


def fisher_information(natural: Natural, family: ExponentialFamily) -> jax.Array:
    """The Hessian of A, ``[N, N]`` over the natural parameters as one vector: the covariance of T(x)."""
    flat, unflatten = jax.flatten_util.ravel_pytree(natural)
    return jax.hessian(lambda flat: family.log_normalizer(unflatten(flat)))(flat)


def natural_gradient(natural: Natural, gradient: Natural, family: ExponentialFamily) -> Natural:
    """The gradient in mean parameters of what has this gradient in natural ones.

    A step along it in the natural parameters is a natural-gradient step. Overcomplete parameters would have a singular
    Fisher information; the members here are minimal.
    """
    checks.check_like(gradient, natural, "gradient", "natural")
    flat, unflatten = jax.flatten_util.ravel_pytree(gradient)
    return unflatten(jnp.linalg.solve(fisher_information(natural, family), flat))


def conjugate_update(natural: Natural, *statistics: Natural) -> Natural:
    """The natural parameters of a posterior: those of the prior, and what the data add to each."""
    for each in statistics:
        checks.check_like(each, natural, "statistics", "natural")
    return jax.tree.map(lambda *terms: sum(terms[1:], terms[0]), natural, *statistics)


def check_proper(natural: Natural, family: ExponentialFamily, name: str = "natural") -> None:
    """Requires natural parameters where A is finite, as far as their values are known."""
    checks.check_float_leaves(natural, name)
    if checks.is_known(natural) and not bool(family.contains(natural)):
        raise ValueError(f"{name} must be natural parameters of a proper {family.name} distribution, got {natural}.")


def inner(left: Natural, right: Natural) -> jax.Array:
    """The inner product of two pytrees of the same structure."""
    flat = (jax.flatten_util.ravel_pytree(tree)[0] for tree in (left, right))
    return product(*flat)
