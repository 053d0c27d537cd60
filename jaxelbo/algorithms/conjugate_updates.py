"""Variational Bayes by coordinate ascent on exponential families, and EM, which alternates two parts of one bound.

A conjugate model is said by one function: E_q[log p(x, z)] as a function of the factors' mean parameters. Its gradient
in those of one factor is that factor's best natural parameters, prior and data added up; a step of length below 1
towards them is a natural-gradient step.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxelbo import checks, exponential
from jaxelbo.exponential import ExponentialFamily, Natural
from jaxelbo.types import Algorithm, Applied, Key, Params

Means = dict[str, Natural]
"""Mean parameters of the factors, by name."""


class AscentState(NamedTuple):
    """Natural parameters of the factors by name, and how many steps have been taken."""

    naturals: dict[str, Natural]
    count: jax.Array


class BoundInfo(NamedTuple):
    """The ELBO in nats: after a whole round of updates for `coordinate_ascent`, on the data of that step."""

    bound: jax.Array


def coordinate_ascent(
    expected_log_joint: Callable[..., jax.Array],
    factors: dict[str, ExponentialFamily],
    *,
    step_size: float | Callable[[jax.Array], jax.Array] = 1.0,
) -> Algorithm:
    """Raises the ELBO of a model that is conjugate factor by factor, to be driven by `run_algorithm`.

    A step goes through the factors in order and sets each one's natural parameters to the gradient of
    ``expected_log_joint`` in its mean parameters: with ``step_size`` 1 that is the best this factor can be while the
    others stay, so the bound rises at every step. Below 1 it is a step of natural gradient ascent, and with minibatches
    and a falling ``step_size`` stochastic variational inference: scale the sum over rows by N over their number, and
    leave local factors out by maximising over them (a sum of ``logsumexp``), whose gradient is the same.

    Args:
      expected_log_joint: ``(means, *data) -> scalar``, E_q[log p(x, z)] as a function of the factors' mean parameters,
        ``means[name]`` as `exponential.mean_parameters` gives them, without the terms of their base measures
        E[log h(z)], which the entropy of q cancels. Linear in the mean parameters of each factor.
      factors: an `exponential.ExponentialFamily` a name, in the order of the updates; `exponential.copies` of one for
        a factor with a leading axis.
      step_size: in (0, 1], or a function of the number of steps taken that gives it.

    Returns:
      The `Algorithm`, started from natural parameters by name; its ``info`` is a `BoundInfo`.

    Raises:
      TypeError, ValueError: at trace time, naming the argument.

    References:
      Winn, Bishop (2005), *Variational Message Passing*;
      Hoffman, Blei, Wang, Paisley (2013), *Stochastic Variational Inference*;
      Khan, Lin (2017), *Conjugate-Computation Variational Inference*.

    >>> import jax, jax.numpy as jnp, jaxelbo
    >>> from jaxelbo.distributions import Gamma, gamma
    >>> prior = gamma.to_natural(Gamma(jnp.array(2.0), jnp.array(1.0)))
    >>> counts = jnp.array([3.0, 1.0, 5.0])
    >>> def expected_log_joint(means, counts):
    ...     mean_log, mean = means["rate"]
    ...     return jaxelbo.exponential.inner(prior, means["rate"]) + jnp.sum(counts) * mean_log - counts.size * mean
    >>> algorithm = coordinate_ascent(expected_log_joint, {"rate": gamma})
    >>> result = jaxelbo.run_algorithm({"rate": prior}, jax.random.key(0), algorithm, num_steps=1, data=(counts,))
    >>> [float(value) for value in gamma.to_usual(result.params["rate"])]
    [11.0, 4.0]
    """
    checks.check_callable(expected_log_joint, "expected_log_joint")
    if not isinstance(factors, dict) or not factors:
        raise TypeError(f"factors must be a dict of exponential families, got {checks.describe(factors)}.")
    for name, family in factors.items():
        if not isinstance(family, ExponentialFamily):
            raise TypeError(f"factors[{name!r}] must be an ExponentialFamily, got {checks.describe(family)}.")
    if not callable(step_size) and not 0 < step_size <= 1:
        raise ValueError(f"step_size must be in (0, 1] or a function of the number of steps, got {step_size}.")
    named = tuple(factors.items())
    return Algorithm(
        init=Applied(_init, (tuple(factors),)),
        step=Applied(_ascend, (expected_log_joint, named, step_size)),
        params=_naturals,
        vital=_naturals,
    )


def expectation_maximisation(
    e_step: Callable[..., Params], m_step: Callable[..., Params], bound: Callable[..., jax.Array]
) -> Algorithm:
    """Alternates E and M steps on two pytrees: of q, the variational one, and of the model.

    Where ``e_step`` makes q the exact posterior this is plain EM: the bound touches the log-likelihood after every E
    step, and neither falls. Any other ``e_step`` that raises the bound, such as gradient steps on an amortised q, gives
    variational EM, and ``m_step`` may be gradient steps too.

    Args:
      e_step: ``(variational, model, key, *data) -> variational`` that raises the bound.
      m_step: ``(variational, model, key, *data) -> model`` that raises the bound.
      bound: ``(variational, model, *data) -> scalar``, the ELBO in nats, for the history alone.

    Returns:
      The `Algorithm`, started from ``{"variational": ..., "model": ...}``; its ``info`` is a `StaircaseInfo`.

    Raises:
      TypeError, ValueError: at trace time, naming the argument.

    References:
      Dempster, Laird, Rubin (1977), *Maximum Likelihood from Incomplete Data via the EM Algorithm*;
      Neal, Hinton (1998), *A View of the EM Algorithm that Justifies Incremental, Sparse, and Other Variants*.

    >>> import jax, jax.numpy as jnp, jaxelbo
    >>> x = jnp.array([-2.1, -1.9, 2.0, 2.2])  # two components of unit variance with equal weights
    >>> log_terms = lambda means, x: -0.5 * (x[:, None] - means[None]) ** 2
    >>> e_step = lambda q, means, key, x: jax.nn.softmax(log_terms(means, x), axis=1)
    >>> m_step = lambda q, means, key, x: (q.T @ x) / q.sum(axis=0)
    >>> bound = lambda q, means, x: jnp.sum(q * log_terms(means, x) - jax.scipy.special.xlogy(q, q))
    >>> start = {"variational": jnp.full((4, 2), 0.5), "model": jnp.array([-0.1, 0.1])}
    >>> algorithm = expectation_maximisation(e_step, m_step, bound)
    >>> result = jaxelbo.run_algorithm(start, jax.random.key(0), algorithm, num_steps=50, data=(x,))
    >>> [round(float(mean), 2) for mean in result.params["model"]]
    [-2.0, 2.1]
    """
    for function, name in ((e_step, "e_step"), (m_step, "m_step"), (bound, "bound")):
        checks.check_callable(function, name)
    return Algorithm(init=_both, step=Applied(_alternate, (e_step, m_step, bound)), params=_same)


class StaircaseInfo(NamedTuple):
    """The bound in nats after the E step and after the M step."""

    after_e: jax.Array
    after_m: jax.Array


def _init(names: Sequence[str], params: dict[str, Natural], key: Key, *data: Any) -> AscentState:
    del key, data
    if not isinstance(params, dict) or set(params) != set(names):
        found = sorted(params) if isinstance(params, dict) else checks.describe(params)
        raise ValueError(f"params must hold natural parameters of {sorted(names)}, got {found}.")
    return AscentState(params, jnp.zeros((), jnp.int32))


def _naturals(state: AscentState) -> dict[str, Natural]:
    return state.naturals


def _ascend(
    expected_log_joint: Callable[..., jax.Array],
    named: tuple[tuple[str, ExponentialFamily], ...],
    step_size: float | Callable[[jax.Array], jax.Array],
    state: AscentState,
    key: Key,
    *data: Any,
) -> tuple[AscentState, BoundInfo]:
    del key
    length = step_size(state.count) if callable(step_size) else step_size
    naturals = dict(state.naturals)
    means = {name: exponential.mean_parameters(naturals[name], family) for name, family in named}
    for name, family in named:
        # Keyword by keyword, so that nothing but this factor's own mean parameters is differentiated.
        best = jax.grad(lambda own, name=name: _value(expected_log_joint, means | {name: own}, data))(means[name])
        naturals[name] = jax.tree.map(lambda old, new: old + length * (new - old), naturals[name], best)
        means[name] = exponential.mean_parameters(naturals[name], family)
    bound = _value(expected_log_joint, means, data)
    for name, family in named:
        bound += family.log_normalizer(naturals[name]) - exponential.inner(naturals[name], means[name])
    return AscentState(naturals, state.count + 1), BoundInfo(bound)


def _value(expected_log_joint: Callable[..., jax.Array], means: Means, data: tuple[Any, ...]) -> jax.Array:
    return checks.check_scalar(expected_log_joint(means, *data), "expected_log_joint")


def _both(params: Params, key: Key, *data: Any) -> Params:
    del key, data
    if not isinstance(params, dict) or set(params) != {"variational", "model"}:
        raise ValueError(f'params must be {{"variational": ..., "model": ...}}, got {checks.describe(params)}.')
    return params


def _same(state: Params) -> Params:
    return state


def _alternate(
    e_step: Callable[..., Params],
    m_step: Callable[..., Params],
    bound: Callable[..., jax.Array],
    state: Params,
    key: Key,
    *data: Any,
) -> tuple[Params, StaircaseInfo]:
    key_e, key_m = jax.random.split(key)
    variational = e_step(state["variational"], state["model"], key_e, *data)
    after_e = checks.check_scalar(bound(variational, state["model"], *data), "bound")
    model = m_step(variational, state["model"], key_m, *data)
    after_m = checks.check_scalar(bound(variational, model, *data), "bound")
    return {"variational": variational, "model": model}, StaircaseInfo(after_e, after_m)
