"""What a conjugate model is: one function of mean parameters, and the exponential families that these belong to.

`algorithms.coordinate_ascent` raises its bound and needs nothing else; `for_minibatches` leaves local factors out.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxelbo import checks, exponential
from jaxelbo.exponential import ExponentialFamily, Natural
from jaxelbo.types import Key

Naturals = dict[str, Natural]
"""Natural parameters of the factors, by name."""

Means = dict[str, Natural]
"""Mean parameters of the factors, by name."""


class ConjugateModel(NamedTuple):
    """A model that is conjugate factor by factor, q(z) a product of members of exponential families.

    Attributes:
      expected_log_joint: ``(means, *data) -> scalar``, E_q[log p(x, z)] in nats without the base measures, as
        `algorithms.coordinate_ascent` takes it.
      shared_terms: ``(means) -> scalar``, the part of it without data or local factors; the rest is a sum over rows.
      factors: an `ExponentialFamily` a name, in the order of the updates.
      local: the names of the factors with a row for each row of the data; the others are global.
      local_start: ``(*data) -> naturals`` of the local factors.
      start: ``(key, *data) -> naturals`` of all factors, where coordinate ascent may start; checks the data's values.
    """

    expected_log_joint: Callable[..., jax.Array]
    shared_terms: Callable[[Means], jax.Array]
    factors: dict[str, ExponentialFamily]
    local: tuple[str, ...]
    local_start: Callable[..., Naturals]
    start: Callable[..., Naturals]


def elbo(naturals: Naturals, model: ConjugateModel, *data: Any) -> jax.Array:
    """The bound E_q[log p(x, z)] + H[q] on log p(x) in nats, at most that; base measures cancel and are in neither.

    Args:
      naturals: natural parameters of all factors.
      model: the `ConjugateModel`.
      *data: as its ``expected_log_joint`` takes them.

    Returns:
      A scalar, differentiable in ``naturals``.

    Raises:
      TypeError, ValueError: naming the argument.

    >>> import jax.numpy as jnp
    >>> from jaxelbo import conjugate, distributions as d
    >>> model = conjugate.relevance_regression(d.Gamma(jnp.ones(1), jnp.ones(1)), d.Gamma(1.0, 1.0))
    >>> data = jnp.ones((3, 1)), jnp.array([1.0, 2.0, 3.0])
    >>> elbo(model.start(jax.random.key(0), *data), model, *data).shape
    ()
    """
    check_model(model)
    if not isinstance(naturals, dict) or set(naturals) != set(model.factors):
        found = sorted(naturals) if isinstance(naturals, dict) else checks.describe(naturals)
        raise ValueError(f"naturals must hold natural parameters of {sorted(model.factors)}, got {found}.")
    means = {name: exponential.mean_parameters(naturals[name], family) for name, family in model.factors.items()}
    bound = checks.check_scalar(model.expected_log_joint(means, *data), "expected_log_joint")
    return bound + own_terms(naturals, means, model.factors)


def for_minibatches(model: ConjugateModel, *, num_rows: int, num_inner_steps: int = 1) -> ConjugateModel:
    """The same model with its local factors at their best for the rest, and the sum over rows scaled to all of them.

    Its bound, no lower than that of the whole model, is a function of the global factors alone, and its value on some
    of the rows estimates that on all without bias; with `algorithms.coordinate_ascent` and a falling ``step_size`` this
    is stochastic variational inference. The local factors take ``num_inner_steps`` coordinate steps from
    ``model.local_start``. One makes them optimal where there is one local factor in which the expected log joint is
    linear, as in mixtures and hidden Markov models; topics need some more. At the optimum the bound does not change
    with them to first order, so no gradient goes through.

    Args:
      model: the `ConjugateModel`; one without local factors is scaled and nothing else.
      num_rows: N, rows of all the data, static.
      num_inner_steps: static, at least 1.

    Returns:
      A `ConjugateModel` whose factors are the global ones.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Hoffman, Blei, Wang, Paisley (2013), *Stochastic Variational Inference*.

    >>> import jax.numpy as jnp, jaxelbo
    >>> from jaxelbo import conjugate, distributions as d
    >>> x = jnp.concatenate([jnp.linspace(-4.0, -2.0, 50), jnp.linspace(3.0, 5.0, 50)])[:, None]
    >>> component = d.NormalInverseWishart(jnp.zeros(1), 0.1, 2.0, jnp.eye(1))
    >>> model = for_minibatches(conjugate.gaussian_mixture(d.Dirichlet(jnp.ones(2)), component), num_rows=100)
    >>> slow = lambda count: (count + 1.0) ** -0.7
    >>> algorithm = jaxelbo.algorithms.coordinate_ascent(model.expected_log_joint, model.factors, step_size=slow)
    >>> key = jax.random.key(0)
    >>> result = jaxelbo.run_algorithm(model.start(key, x), key, algorithm, num_steps=50, data=(x,), batch_size=10)
    >>> components = jax.vmap(d.normal_inverse_wishart.to_usual)(result.params["components"])
    >>> sorted(round(float(loc)) for loc in components.loc[:, 0])
    [-3, 4]
    """
    check_model(model)
    checks.check_count(num_rows, "num_rows")
    checks.check_count(num_inner_steps, "num_inner_steps")
    shared = {name: family for name, family in model.factors.items() if name not in model.local}
    local = {name: model.factors[name] for name in model.local}

    def expected_log_joint(means: Means, *data: Any) -> jax.Array:
        held = jax.lax.stop_gradient(means)
        naturals = model.local_start(*data)
        own = {name: exponential.mean_parameters(naturals[name], family) for name, family in local.items()}
        for_all = lambda own: model.expected_log_joint(held | own, *data)  # noqa: E731

        def one_round(_: int, carry: tuple[Naturals, Means]) -> tuple[Naturals, Means]:
            naturals, own = carry
            for name, family in local.items():
                best = jax.grad(lambda mean, own=own, name=name: for_all(own | {name: mean}))(own[name])
                naturals = naturals | {name: best}
                own = own | {name: exponential.mean_parameters(best, family)}
            return naturals, own

        if num_inner_steps == 1:
            naturals, own = one_round(0, (naturals, own))
        else:
            naturals, own = jax.lax.fori_loop(0, num_inner_steps, one_round, (naturals, own))
        naturals, own = jax.lax.stop_gradient((naturals, own))
        of_shared = model.shared_terms(means)
        of_rows = model.expected_log_joint(means | own, *data) - of_shared + own_terms(naturals, own, local)
        return of_shared + num_rows / jax.tree.leaves(data)[0].shape[0] * of_rows

    def start(key: Key, *data: Any) -> Naturals:
        naturals = model.start(key, *data)
        return {name: naturals[name] for name in shared}

    return ConjugateModel(expected_log_joint, model.shared_terms, shared, (), lambda *data: {}, start)


def prior_terms(means: Means, priors: Naturals, factors: dict[str, ExponentialFamily]) -> jax.Array:
    """E_q[log p(z)] of factors whose priors have known natural parameters, in nats, without the base measures."""
    terms = [
        exponential.inner(prior, means[name]) - factors[name].log_normalizer(prior) for name, prior in priors.items()
    ]
    return jnp.sum(jnp.stack(terms))


def own_terms(naturals: Naturals, means: Means, factors: dict[str, ExponentialFamily]) -> jax.Array | float:
    """The entropies of these factors in nats, without the base measures."""
    terms = (
        family.log_normalizer(naturals[name]) - exponential.inner(naturals[name], means[name])
        for name, family in factors.items()
    )
    return sum(terms, 0.0)


def best_naturals(expected_log_joint: Callable[..., jax.Array], priors: Naturals, known: Means, *data: Any) -> Naturals:
    """The global factors at their best for known mean parameters of the local ones.

    Right where no two global factors stand in one term, so that the gradient does not depend on where it is taken.
    """
    zeros = jax.tree.map(jnp.zeros_like, priors)
    return jax.grad(lambda means: expected_log_joint(means | known, *data))(zeros)


def natural_of(record: Any, kind: type, family: ExponentialFamily, name: str) -> Natural:
    """The natural parameters of a prior, a record of `distributions` whose values are checked where they are known."""
    if not isinstance(record, kind):
        raise TypeError(f"{name} must be a distributions.{kind.__name__}, got {checks.describe(record)}.")
    checks.check_float_leaves(record, name)
    for path, leaf in zip(checks.leaf_names(record, name), jax.tree.leaves(record), strict=True):
        if jnp.size(leaf) == 0:
            raise ValueError(f"{path} must not be empty, got shape {jnp.shape(leaf)}.")
    record = jax.tree.map(lambda leaf: jnp.asarray(leaf, checks.canonical_dtype(leaf)), record)
    natural, is_proper = jax.jit(lambda record: _natural_and_check(record, family))(record)
    if checks.is_known(is_proper) and not bool(is_proper):
        raise ValueError(f"{name} must be a proper {family.name} distribution, got {record}.")
    return natural


def _natural_and_check(record: Any, family: ExponentialFamily) -> tuple[Natural, jax.Array]:
    natural = family.to_natural(record)
    return natural, family.contains(natural)


def repeated(natural: Natural, num_copies: int) -> Natural:
    """The same natural parameters for each of some copies."""
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (num_copies, *leaf.shape)), natural)


def check_model(model: ConjugateModel) -> None:
    """Requires a `ConjugateModel`, not the function that makes one."""
    if not isinstance(model, ConjugateModel):
        hint = "; call it with its priors first" if callable(model) else ""
        raise TypeError(f"model must be a ConjugateModel, got {checks.describe(model)}{hint}.")
