"""Every family and every support, each by an example: what FAMILIES.md and the battery of tests are made from.

Floor 3.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxelbo import bijectors, divergences, families, structures, supports, validity
from jaxelbo.bijectors import Bijector
from jaxelbo.types import Family, Key, Latent, Params


class Example(NamedTuple):
    """A family of few numbers.

    Attributes:
      make: () -> `Family`.
      support: of its latent, as `supports.constraint_of` reads it.
      latent: what the latents of such a family are, in words.
    """

    make: Callable[[], Family]
    support: supports.Supports
    latent: str


REAL, POSITIVE, UNIT = "real numbers", "positive numbers", "numbers in (0, 1)"
_PAIR = (2,)


def _of(constructor: Callable[..., Family]) -> Callable[[], Family]:
    return lambda: constructor(jnp.zeros(_PAIR))


def _given(params: Params, latent: Latent) -> Params:
    return {"loc": params["slope"] * latent[None], "log_scale": params["log_scale"]}


def _given_the_last(params: Params, carry: jax.Array, latent: Latent) -> tuple[jax.Array, Params]:
    return carry, _given(params, latent)


def _slope(key: Key) -> Params:
    del key
    return {"slope": jnp.ones(1), "log_scale": jnp.zeros(1)}


FAMILIES: dict[str, Example] = {
    "mean_field": Example(_of(families.mean_field), None, REAL),
    "full_rank": Example(_of(families.full_rank), None, REAL),
    "low_rank": Example(lambda: families.low_rank(jnp.zeros(_PAIR), rank=1), None, REAL),
    "structured": Example(
        lambda: families.structured(jnp.zeros(_PAIR), structures.chain(jnp.zeros(_PAIR))), None, REAL
    ),
    "student_t": Example(_of(families.student_t), None, REAL),
    "laplace": Example(_of(families.laplace), None, REAL),
    "log_normal": Example(lambda: families.log_normal(jnp.ones(_PAIR)), bijectors.positive, POSITIVE),
    "gamma": Example(lambda: families.gamma(jnp.ones(_PAIR)), bijectors.positive, POSITIVE),
    "beta": Example(lambda: families.beta(jnp.full(_PAIR, 0.5)), bijectors.unit_interval, UNIT),
    "dirichlet": Example(lambda: families.dirichlet(jnp.full(3, 1 / 3)), bijectors.simplex, "proportions"),
    "mixture": Example(lambda: families.mixture(families.full_rank(jnp.zeros(_PAIR)), 2), None, REAL),
    "affine_coupling_flow": Example(
        lambda: families.affine_coupling_flow(jnp.zeros(_PAIR), num_layers=2, width=3), None, REAL
    ),
    "spline_flow": Example(
        lambda: families.spline_flow(jnp.zeros(_PAIR), num_layers=2, width=3, num_bins=4), None, REAL
    ),
    "autoregressive_flow": Example(
        lambda: families.autoregressive_flow(jnp.zeros(_PAIR), num_layers=2, width=3), None, REAL
    ),
    "planar_flow": Example(lambda: families.planar_flow(jnp.zeros(_PAIR), num_layers=2), None, REAL),
    "bernoulli": Example(_of(families.bernoulli), None, "zeros and ones"),
    "categorical": Example(lambda: families.categorical(3), None, "one of K categories, by its index"),
    "one_hot_categorical": Example(lambda: families.one_hot_categorical(3), None, "one of K categories, one-hot"),
    "point_mass": Example(_of(families.point_mass), None, "one value, a mode"),
    "constrained": Example(
        lambda: families.constrained(families.full_rank, jnp.ones(_PAIR), bijectors.positive_softplus),
        bijectors.positive_softplus,
        "what its supports allow",
    ),
    "pushforward": Example(
        lambda: families.pushforward(
            families.mean_field(jnp.zeros(_PAIR)),
            supports.constraint_of(jnp.full(_PAIR, 0.5), bijectors.unit_interval),
        ),
        bijectors.unit_interval,
        "what its supports allow",
    ),
    "independent": Example(lambda: families.independent(families.mean_field(0.0), 2), None, "copies of a family's"),
    "joint": Example(
        lambda: families.joint({"rate": families.gamma(1.0), "x": families.mean_field(0.0)}),
        {"rate": bijectors.positive},
        "a pytree of families' own",
    ),
    "conditional": Example(
        lambda: families.conditional(families.mean_field(0.0), families.mean_field(0.0), _given, _slope),
        None,
        "a pair, the second given the first",
    ),
    "sequential": Example(
        lambda: families.sequential(
            families.mean_field(0.0), _given_the_last, lambda params: jnp.zeros(()), _slope, num_steps=2
        ),
        None,
        "a sequence, each step given those before",
    ),
    "whitened": Example(
        lambda: families.whitened(families.student_t(jnp.zeros(_PAIR)), families.full_rank(jnp.zeros(_PAIR))),
        None,
        "a family's own, in a Gaussian's coordinates",
    ),
    "detached": Example(
        lambda: families.detached(families.mean_field(jnp.zeros(_PAIR))), None, "a family's own, without gradients"
    ),
}
"""By the name in ``jaxelbo.families``."""


SUPPORTS: dict[str, tuple[Bijector, tuple[int, ...], str]] = {
    "real": (bijectors.real, (), "all real numbers, where nothing is said"),
    "positive": (bijectors.positive, (), "x > 0, by exp"),
    "positive_softplus": (bijectors.positive_softplus, (), "x > 0, by log(1 + exp)"),
    "greater_than": (bijectors.greater_than(0.0), (), "x > low"),
    "less_than": (bijectors.less_than(0.0), (), "x < high"),
    "interval": (bijectors.interval(0.0, 1.0), (), "low < x < high"),
    "unit_interval": (bijectors.unit_interval, (), "0 < x < 1"),
    "simplex": (bijectors.simplex, (3,), "proportions: positive with sum 1"),
    "ordered": (bijectors.ordered, (3,), "rising numbers"),
    "positive_ordered": (bijectors.positive_ordered, (3,), "rising positive numbers"),
    "sphere": (bijectors.sphere, (3,), "unit vectors"),
    "lower_cholesky": (bijectors.lower_cholesky, (3, 3), "lower triangles with positive diagonals"),
    "correlation_cholesky": (bijectors.correlation_cholesky, (3, 3), "Cholesky factors of correlation matrices"),
    "correlation": (bijectors.correlation, (3, 3), "correlation matrices"),
    "positive_definite": (bijectors.positive_definite, (3, 3), "positive definite matrices"),
}
"""By the name in ``jaxelbo.bijectors``: an example, the shape of a value with K = 3, and the values in words."""


def markdown() -> str:
    """What FAMILIES.md holds."""
    rows = [
        "# Families and supports",
        "",
        "Written by `catalogue.markdown` from the tables in code; DISTRIBUTIONS.md lists the pairs with a closed KL.",
        "",
        "## Families, `jaxelbo.families`",
        "",
        "Of `independent`, `joint`, `conditional`, ... the row is that of the example in `catalogue.FAMILIES`: they",
        "have what their parts have. KL is with another of the same family.",
        "",
        "| family | latents | draws with gradients | entropy | closed KL | values listed | relaxed | mean, sd |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, example in FAMILIES.items():
        family = example.make()
        params = jax.eval_shape(family.init, jax.random.key(0))
        traits = validity.traits_of(params, jax.random.key(0), family)
        kl = jax.eval_shape(lambda params: divergences.closed_form_or_none(params, params, family, family), params)  # noqa: B023
        has = (
            validity.is_reparameterised(traits),
            traits.has_entropy,
            kl is not None,
            traits.num_configurations > 0,
            traits.can_relax,
            family.location_and_scale is not None,
        )
        draws = "but for the logits" if name == "mixture" else "yes" if has[0] else "no"
        cells = [draws, *("yes" if each else "no" for each in has[1:])]
        rows.append(f"| `{name}` | {example.latent} | {' | '.join(cells)} |")
    rows += [
        "",
        "## Supports, `jaxelbo.bijectors`",
        "",
        "For `support=` of `infer`, `families.constrained` and `supports`: a pytree of these. Axes before the last",
        "ones are copies.",
        "",
        "| support | values | shape | unconstrained |",
        "|---|---|---|---|",
    ]
    for name, (bijector, shape, words) in SUPPORTS.items():
        axes = ", ".join(["K"] * len(shape))
        free = {0: "", 2: "K - 1", 3: "K", 6: "K (K + 1) / 2"}
        size = (*bijector.unconstrained_shape(shape), 0)[0] if shape else 0
        unconstrained = "K (K - 1) / 2" if name.startswith("correlation") else free[size]
        rows.append(f"| `{name}` | {words} | [{axes}] | [{unconstrained}] |")
    return "\n".join(rows) + "\n"
