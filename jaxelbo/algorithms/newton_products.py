"""Newton's climb by Hessian-vector products: for latents of so many entries that no matrix D x D can be made."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxelbo import checks, krylov
from jaxelbo.algorithms import climbs
from jaxelbo.algorithms.climbs import LogDensity
from jaxelbo.types import Algorithm, Key, LogJoint

MAX_PRODUCTS, TOLERANCE, NUM_PROBES = 64, 0.05, 8
LENGTHS = (1.0, 4.0, 16.0, 0.25, 0.06, 4e-3, 1.5e-5)


class Climb(NamedTuple):
    """Where a climb stands.

    Attributes:
      point: ``[D]``.
      value: log density there, in nats.
      decrement: gradient times Newton step at the point before, in squared standard deviations.
      is_improved: whether the last step found a higher point.
      scale: 1 over the root of the diagonal of -H as probes have shown it so far, ``[D]``. Probes are taken in units of
        the last one: entries whose scales differ by orders of magnitude hide one another's curvature.
      num_products: gradients and Hessian-vector products so far.
    """

    point: jax.Array
    value: jax.Array
    scale: jax.Array
    decrement: jax.Array
    is_improved: jax.Array
    num_products: jax.Array


def start(log_density: LogDensity, point: jax.Array) -> Climb:
    """A climb before its first step."""
    infinite = jnp.asarray(jnp.inf, point.dtype)
    return Climb(point, log_density(point), jnp.ones_like(point), infinite, jnp.asarray(True), jnp.zeros((), jnp.int32))


def climb(log_density: LogDensity, at: Climb, key: Key) -> Climb:
    """One Newton step by conjugate gradients, preconditioned by the diagonal of -H as a few probes show it.

    It costs at most ``MAX_PRODUCTS + NUM_PROBES + 1`` gradients and ``len(LENGTHS)`` values.
    """
    size = at.point.size
    gradient_at = jax.grad(log_density)
    curvature = lambda vector: -jax.jvp(gradient_at, (at.point,), (vector,))[1]  # noqa: E731
    in_units = lambda vector: at.scale * curvature(at.scale * vector)  # noqa: E731
    diagonal = krylov.diagonal(in_units, key, NUM_PROBES, size, at.point.dtype)
    scale = at.scale / jnp.sqrt(positive(diagonal))
    gradient = gradient_at(at.point)
    step, num_products = krylov.newton_step(curvature, gradient, scale**2, MAX_PRODUCTS, TOLERANCE)
    candidates = at.point[None] + jnp.asarray(LENGTHS, step.dtype)[:, None] * step[None]
    found = jax.lax.map(log_density, candidates)
    found = jnp.where(jnp.isfinite(found), found, -jnp.inf)
    best = jnp.argmax(found)
    is_improved = found[best] > at.value
    return Climb(
        jnp.where(is_improved, candidates[best], at.point),
        jnp.where(is_improved, found[best], at.value),
        scale,
        jnp.vdot(gradient, step),
        is_improved,
        at.num_products + num_products + 1 + min(size, NUM_PROBES),
    )


def positive(diagonal: jax.Array) -> jax.Array:
    """A diagonal's size where that says something, else 1; the noise of few probes may turn the sign of an entry."""
    magnitude = jnp.abs(diagonal)
    return jnp.where(jnp.isfinite(magnitude) & (magnitude > jnp.finfo(magnitude.dtype).tiny), magnitude, 1)


def newton_cg(log_joint: LogJoint) -> Algorithm:
    """Climbs towards a mode by Newton steps whose linear systems are solved by conjugate gradients (Newton-CG).

    Memory is of order D. A step takes at most 73 gradients (a Hessian-vector product counts as one) and 7 values; where
    a direction of negative curvature is met, it goes along that. For a few hundred entries or fewer see `newton`, whose
    steps do not depend on the coordinates of the latent.

    Args:
      log_joint: latent pytree -> scalar log p(x, z), in nats; further arguments are ``data``.

    Returns:
      The `Algorithm`, started from a latent; its ``info`` is a `climbs.NewtonInfo`.

    Raises:
      TypeError, ValueError: at trace time, naming the argument.

    References:
      Nocedal, Wright (2006), *Numerical Optimization*, chapter 7;
      Steihaug (1983), *The Conjugate Gradient Method and Trust Regions in Large Scale Optimization*.

    >>> import jax, jax.numpy as jnp, jaxelbo
    >>> algorithm = newton_cg(lambda z: -jnp.sum(jnp.cosh(z - 3.0)))
    >>> result = jaxelbo.run_algorithm(jnp.zeros(10_000), jax.random.key(0), algorithm, num_steps=8)
    >>> bool(jnp.allclose(result.params, 3.0, atol=1e-2))
    True
    """
    checks.check_callable(log_joint, "log_joint")
    return climbs.climbing(log_joint, start, climb)
