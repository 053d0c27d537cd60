"""Hidden Markov models: the hidden path is one factor, whose mean parameters are what forward-backward computes."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxelbo import checks, exponential
from jaxelbo.conjugate import models
from jaxelbo.conjugate.models import ConjugateModel, Means, Naturals
from jaxelbo.conjugate.observations import ObservationModel
from jaxelbo.distributions import Dirichlet, dirichlet
from jaxelbo.exponential import ExponentialFamily, Natural
from jaxelbo.types import Key


def markov_chain(num_states: int) -> ExponentialFamily:
    """Paths x_1, ..., x_T through K states, as an exponential family.

    A path's log weight is first[x_1], the sum of transitions[x_t, x_t+1] and that of emissions[t, x_t]. Natural
    parameters are ``(first [K], transitions [K, K], emissions [T, K])``. The log-normaliser is the forward recursion;
    its gradient, the mean parameters, is forward-backward: probabilities of the first state, expected numbers of
    transitions, probabilities of each state at each time. The form is overcomplete, many natural parameters for one
    distribution. That is enough for what needs mean parameters alone, as coordinate ascent and its natural-gradient
    steps do; but the Fisher information is singular, and `exponential.natural_parameters` of no use.

    Args:
      num_states: K, static, at least 1.

    Returns:
      The `ExponentialFamily`; a path is an integer array ``[T]``, the usual parameters are the natural ones.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Wainwright, Jordan (2008), *Graphical Models, Exponential Families, and Variational Inference*;
      Eisner (2016), *Inside-Outside and Forward-Backward Algorithms Are Just Backprop*.

    >>> import jax.numpy as jnp
    >>> from jaxelbo import exponential
    >>> natural = jnp.zeros(2), jnp.log(jnp.array([[0.9, 0.1], [0.1, 0.9]])), jnp.array([[2.0, 0.0], [0.0, 0.0]])
    >>> _, transitions, states = exponential.mean_parameters(natural, markov_chain(2))
    >>> [round(float(probability), 2) for probability in states[1]]
    [0.8, 0.2]
    """
    checks.check_count(num_states, "num_states")

    def log_normalizer(natural: Natural) -> jax.Array:
        first, transitions, emissions = natural

        def forward(messages: jax.Array, emission: jax.Array) -> tuple[jax.Array, None]:
            return jax.nn.logsumexp(messages[:, None] + transitions, axis=0) + emission, None

        messages, _ = jax.lax.scan(forward, first + emissions[0], emissions[1:])
        return jax.nn.logsumexp(messages)

    def statistics(path: jax.Array) -> Natural:
        states = jax.nn.one_hot(path, num_states)
        return states[0], jnp.matmul(states[:-1].T, states[1:]), states

    return ExponentialFamily(
        name="Markov chain",
        log_normalizer=log_normalizer,
        statistics=statistics,
        log_base=lambda path: jnp.zeros(()),
        to_natural=lambda usual: usual,
        to_usual=lambda natural: natural,
        guess=lambda mean: jax.tree.map(jnp.log, mean),
        expected_log_base=lambda natural, mean: jnp.zeros((), mean[0].dtype),
        contains=lambda natural: jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in natural])),
    )


def hidden_markov_model(first: Dirichlet, transitions: Dirichlet, observed: ObservationModel) -> ConjugateModel:
    """N sequences of T observations, each by one of K states: q(paths) q(first) q(transitions) q(observations).

    A sequence is a row: `for_minibatches` leaves the paths out.

    Args:
      first: prior of the probabilities ``[K]`` of the first state.
      transitions: priors of the rows of the transition matrix, ``concentration [K, K]``.
      observed: what a state says of an observation: `gaussian_observations` or `categorical_observations` of its
        prior, or your own.

    Returns:
      The `ConjugateModel`, on data ``(x,)`` with leading axes ``[N, T, ...]``; its factors are ``"paths"``, N copies of
      a `markov_chain`, ``"first"``, a Dirichlet, ``"transitions"``, K copies of a Dirichlet, and ``"observations"``,
      K copies of ``observed.family``.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      MacKay (1997), *Ensemble Learning for Hidden Markov Models*; Beal (2003), chapter 3;
      Foti, Xu, Laird, Fox (2014), *Stochastic Variational Inference for Hidden Markov Models*.

    >>> import jax, jax.numpy as jnp, jaxelbo
    >>> from jaxelbo.conjugate import categorical_observations
    >>> x = jnp.array([[0, 1] * 20, [1, 0] * 20])
    >>> observed = categorical_observations(Dirichlet(jnp.full(2, 0.5)))
    >>> model = hidden_markov_model(Dirichlet(jnp.ones(2)), Dirichlet(jnp.ones((2, 2))), observed)
    >>> algorithm = jaxelbo.algorithms.coordinate_ascent(model.expected_log_joint, model.factors)
    >>> key = jax.random.key(0)
    >>> result = jaxelbo.run_algorithm(model.start(key, x), key, algorithm, num_steps=100, data=(x,))
    >>> result.params["transitions"].round().tolist()  # it never stays
    [[1.0, 40.0], [40.0, 1.0]]
    """
    of_first = models.natural_of(first, Dirichlet, dirichlet, "first")
    checks.check_floating(of_first, "first.concentration", ("K",))
    num_states = of_first.size
    of_transitions = models.natural_of(transitions, Dirichlet, exponential.copies(dirichlet), "transitions")
    if of_transitions.shape != (num_states, num_states):
        expected = (num_states, num_states)
        raise ValueError(f"transitions.concentration must have shape {expected}, got {of_transitions.shape}.")
    if not isinstance(observed, ObservationModel):
        raise TypeError(f"observed must be an ObservationModel, got {checks.describe(observed)}.")
    factors = {
        "paths": exponential.copies(markov_chain(num_states)),
        "first": dirichlet,
        "transitions": exponential.copies(dirichlet),
        "observations": exponential.copies(observed.family),
    }
    shared = models.repeated(observed.prior, num_states)
    priors = {"first": of_first, "transitions": of_transitions, "observations": shared}

    def expected_log_joint(means: Means, x: Any) -> jax.Array:
        x = observed.check(x, ("N", "T"))
        firsts, moves, states = means["paths"]
        terms = observed.expected_log_likelihoods(means["observations"], x)
        of_paths = jnp.sum(firsts * means["first"][None]) + jnp.sum(moves * means["transitions"][None])
        return jnp.sum(states * terms) + of_paths + shared_terms(means)

    def shared_terms(means: Means) -> jax.Array:
        return models.prior_terms(means, priors, factors)

    def local_start(x: Any) -> Naturals:
        x = observed.check(x, ("N", "T"))
        shapes = (num_states,), (num_states, num_states), (x.shape[1], num_states)
        return {"paths": tuple(jnp.zeros((len(x), *shape), of_first.dtype) for shape in shapes)}

    def start(key: Key, x: Any) -> Naturals:
        checks.check_key(key)
        return jax.jit(start_from)(key, observed.check(x, ("N", "T")))

    def start_from(key: Key, x: jax.Array) -> Naturals:
        states = observed.assignments(key, x, num_states)
        moves = jax.vmap(lambda states: jnp.matmul(states[:-1].T, states[1:]))(states)
        known = {"paths": (states[:, 0], moves, states)}
        return local_start(x) | models.best_naturals(expected_log_joint, priors, known, x)

    return ConjugateModel(expected_log_joint, shared_terms, factors, ("paths",), local_start, start)
