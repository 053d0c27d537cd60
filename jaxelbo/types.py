"""The words of the toolkit: the records and signatures that every other file shares.

Floor 0. Arrays are written with their shapes in brackets: ``[S]`` samples, ``[D]`` entries of the flat latent,
``[T]`` steps. "latent pytree, leaves ``[S, ...]``" is a latent whose every leaf has a leading sample axis.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeAlias

import chex
import jax

PyTree: TypeAlias = Any
Params: TypeAlias = PyTree
Latent: TypeAlias = PyTree
Key: TypeAlias = chex.PRNGKey

LogJoint: TypeAlias = Callable[[Latent], jax.Array]
"""One latent pytree -> scalar log p(x, z)."""

Bound: TypeAlias = Callable[[jax.Array], jax.Array]
"""Log-weights ``[S]`` -> scalar. Constants are fixed by ``functools.partial``."""


class Family(NamedTuple):
    """An approximating distribution q(z; params), as a record of pure functions.

    Each function speaks of one latent; the caller vmaps. A field that is ``None`` says that this family has no such
    thing, and whoever needs it says so by name.

    Attributes:
      init: ``(key, start=None) -> params``. ``start`` is a latent; ``None`` takes the values of the ``latent_like``
        that the family was made for (zeros where that holds shapes).
      sample: ``(params, key) -> latent``. Gradients flow through reparameterised parts only.
      log_prob: ``(params, latent) -> scalar``, differentiable in both arguments.
      sample_and_log_prob: ``(params, key) -> (latent, scalar)``, equal to the two above; no linear solve.
      score_log_probs: ``(params, latent) -> [P]``, one entry a part whose draw carries no gradient; P = 0 if none.
      entropy: ``(params) -> scalar``, in nats.
      sample_and_scores: ``(params, key) -> (latent, log q(latent), [P])``, the last ``score_log_probs``; for families
        that have all three in one pass and would make two otherwise.
      configurations: ``(params, key) -> (latents [M, ...], log_probs [M])``, all values of the finite parts, with one
        draw of the rest beside each; the log-probabilities are those of the finite parts.
      num_configurations: M, static; 0 where ``configurations`` is ``None``.
      relax: ``(params, key, temperature) -> (hard, relaxed, relaxed_given_hard)``: a draw, its continuous relaxation,
        and a relaxation drawn anew given the draw; reparameterised parts are the same in all three.
      location_and_scale: ``(params) -> (latent, latent)``: mean and standard deviation of every entry, on the user's
        own pytree.
      distribution: ``(params) -> record``: the flat latent's distribution in a closed form of its own
        (``gaussians.Diagonal``, ``finite.Bernoulli``, ...), by whose type ``kl_divergence`` finds its formula.
      unflatten: ``([D]) -> latent``: where the entries of that flat latent lie on the user's own pytree.
      name: what error messages call the family.
    """

    init: Callable[..., Params]
    sample: Callable[[Params, Key], Latent]
    log_prob: Callable[[Params, Latent], jax.Array]
    sample_and_log_prob: Callable[[Params, Key], tuple[Latent, jax.Array]]
    score_log_probs: Callable[[Params, Latent], jax.Array]
    entropy: Callable[[Params], jax.Array] | None = None
    sample_and_scores: Callable[[Params, Key], tuple[Latent, jax.Array, jax.Array]] | None = None
    configurations: Callable[[Params, Key], tuple[Latent, jax.Array]] | None = None
    num_configurations: int = 0
    relax: Callable[..., tuple[Latent, Latent, Latent]] | None = None
    location_and_scale: Callable[[Params], tuple[Latent, Latent]] | None = None
    distribution: Callable[[Params], Any] | None = None
    unflatten: Callable[[jax.Array], Latent] | None = None
    name: str = "without a name"


class Estimator(Protocol):
    """How a bound is differentiated: the value is the bound's estimate, the gradient is the estimator's."""

    def __call__(
        self, params: Params, key: Key, log_joint: LogJoint, family: Family, bound: Bound, num_samples: int, /
    ) -> jax.Array:
        """Returns the scalar."""
        ...


class Estimate(NamedTuple):
    """A Monte Carlo estimate, both entries scalar and in the units of what is estimated."""

    value: jax.Array
    standard_error: jax.Array


def _whole(state: Any) -> Any:
    return state


class Algorithm(NamedTuple):
    """An iterative method as pure functions; nothing in it assumes a gradient or a bound.

    Two algorithms whose functions are equal are the same to the compiler's cache, so a constructor that builds its
    functions with `Applied` compiles once however often it is called.

    Attributes:
      init: ``(params, key, *data) -> state``.
      step: ``(state, key, *data) -> (state, info)``; ``info`` is a pytree that the loop stacks into the history.
      params: ``(state) -> params``.
      vital: ``(state) -> pytree``: the part of the state that must stay finite for a step to count; by default all.
    """

    init: Callable[..., Any]
    step: Callable[..., tuple[Any, Any]]
    params: Callable[[Any], Params]
    vital: Callable[[Any], PyTree] = _whole


@dataclasses.dataclass(frozen=True)
class Applied:
    """``function`` with its first arguments fixed. Unlike ``functools.partial``, equal parts make equal functions."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]

    def __call__(self, *arguments: Any) -> Any:
        """Calls ``function`` on the fixed arguments and these."""
        return self.function(*self.arguments, *arguments)


class FitResult(NamedTuple):
    """What a loop reached.

    Attributes:
      params: the last finite parameters.
      state: what the loss function carries from step to step, or ``None`` where it carries nothing.
      history: the algorithm's ``info``, leaves ``[ceil(T / n), ...]`` with T the number of steps taken, of which each
        n-th is kept from step 0 on (``history_every``, by default 1). For `fit` it has one field, ``loss``.
      num_skipped: how many steps were undone because their info or vital state was not finite, ``[]`` int32.
        ``num_skipped == T`` says that nothing was learned.
      algorithm_state: the algorithm's last state.
    """

    params: Params
    state: Any
    history: Any
    num_skipped: jax.Array
    algorithm_state: Any


class Progress(NamedTuple):
    """What a callback of the loop sees between two chunks.

    Attributes:
      step: steps taken so far.
      num_steps: steps in all.
      params: the parameters now.
      history: ``info`` of this chunk's steps, each n-th of them.
      num_skipped: steps undone so far.
    """

    step: int
    num_steps: int
    params: Params
    history: Any
    num_skipped: int


class Summary(NamedTuple):
    """Marginal summaries of draws, each a pytree like one latent.

    Attributes:
      mean: means.
      sd: standard deviations.
      lower: lower ends of the central intervals.
      upper: upper ends.
    """

    mean: Latent
    sd: Latent
    lower: Latent
    upper: Latent
