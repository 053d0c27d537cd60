"""Which estimator is right for which family and bound: one table, from which errors, documentation and tests are made.

Floor 3. A row says what an estimator asks of the family, of the bound and of the number of samples, how it is biased if
it is, and whether its second derivative is right. Nothing here knows an estimator's code; an estimator of a user's own
is not in the table and not checked.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax

from jaxelbo import bounds, checks, finite, gaussians
from jaxelbo.types import Bound, Family, Key, Params


class Traits(NamedTuple):
    """What an estimator may ask of a family, read at trace time.

    Attributes:
      num_scores: P, how many parts carry no gradient through their draws.
      has_entropy: whether the entropy has a closed form.
      num_configurations: how many values the finite parts have together; 0 if they cannot be listed.
      can_relax: whether draws have a continuous relaxation.
      distribution: the type of the closed-form distribution, or ``None``.
    """

    num_scores: int
    has_entropy: bool
    num_configurations: int
    can_relax: bool
    distribution: type | None


class Need(NamedTuple):
    """Something an estimator asks of a family: a test of its traits, and the words for it."""

    holds: Callable[[Traits], bool]
    words: str


class Rule(NamedTuple):
    """One row of the table.

    Attributes:
      needs: what is asked of the family.
      bounds: the bounds that it holds for; ``None`` for all, a user's own too.
      min_samples: the least S where some part carries no gradient.
      max_configurations: the most configurations that it lists on its own account.
      max_samples: of a family with so many configurations, the most S.
      bias: how the gradient is biased, or "" where it is not.
      second_derivative: of what families the second derivative of the value is right in the mean.
    """

    needs: tuple[Need, ...] = ()
    bounds: tuple[Bound, ...] | None = None
    min_samples: int = 1
    max_configurations: int | None = None
    max_samples: Callable[[int], int] | None = None
    bias: str = ""
    second_derivative: Callable[[Traits], bool] = lambda traits: False


def is_reparameterised(traits: Traits) -> bool:
    """Whether gradients flow through every draw."""
    return traits.num_scores == 0


def _always(traits: Traits) -> bool:
    del traits
    return True


_PATH = Need(is_reparameterised, "a family all of whose draws carry gradients")
_SCORES = Need(lambda traits: traits.num_scores > 0, "a family with parts whose draws carry no gradient")
_ENTROPY = Need(lambda traits: traits.has_entropy, "a family with an entropy in closed form")
_LIST = Need(lambda traits: traits.num_configurations > 0, "a family whose discrete parts can be listed")
_RELAXATION = Need(lambda traits: traits.can_relax, "a family that can be relaxed (bernoulli, one_hot_categorical)")
_BERNOULLI = Need(lambda traits: traits.distribution is finite.Bernoulli, "the bernoulli family")
_MEASURES = Need(
    lambda traits: traits.distribution in (gaussians.Diagonal, finite.Bernoulli), "the mean_field or bernoulli family"
)
_INDEPENDENT = Need(lambda traits: traits.distribution is not None, "a family whose parts are independent")
_MEAN = (bounds.mean,)

RULES: dict[str, Rule] = {
    "leave_one_out": Rule(min_samples=2, second_derivative=is_reparameterised),
    "pathwise": Rule(needs=(_PATH,), second_derivative=_always),
    "sticking_the_landing": Rule(needs=(_PATH,), bounds=_MEAN),
    "doubly_reparameterised": Rule(needs=(_PATH,)),
    "closed_form_entropy": Rule(
        needs=(_ENTROPY,), bounds=_MEAN, min_samples=2, second_derivative=is_reparameterised
    ),
    "score_function": Rule(second_derivative=is_reparameterised),
    "with_baseline": Rule(second_derivative=is_reparameterised),
    "learned_baseline": Rule(second_derivative=is_reparameterised),
    "moving_average": Rule(second_derivative=is_reparameterised),
    "nvil": Rule(
        needs=(_SCORES,), bias="the score part is divided by its signal's running standard deviation, where above 1"
    ),
    "reward_to_go": Rule(needs=(_SCORES,), bounds=_MEAN, min_samples=2),
    "rao_blackwellised": Rule(needs=(_SCORES, _INDEPENDENT), bounds=_MEAN, min_samples=2),
    "enumeration": Rule(
        needs=(_LIST,), bounds=_MEAN, max_configurations=finite.MAX_CONFIGURATIONS, second_derivative=_always),
    "without_replacement": Rule(
        needs=(_LIST,), bounds=_MEAN, min_samples=2, max_configurations=finite.MAX_CONFIGURATIONS,
        max_samples=lambda num_configurations: min(finite.MAX_SET, num_configurations),
    ),
    "gumbel_softmax": Rule(
        needs=(_RELAXATION,), bias="value and gradient are those of the bound of the relaxed draws"
    ),
    "straight_through": Rule(
        needs=(_RELAXATION,), bias="the gradient of the relaxed draws taken at the hard ones is no value's gradient"
    ),
    "rebar": Rule(needs=(_RELAXATION,), bounds=_MEAN),
    "relax": Rule(needs=(_RELAXATION,), bounds=_MEAN),
    "arm": Rule(needs=(_BERNOULLI,), bounds=_MEAN),
    "disarm": Rule(needs=(_BERNOULLI,), bounds=_MEAN),
    "measure_valued": Rule(needs=(_MEASURES,), bounds=_MEAN),
    "wake_phase": Rule(bias="for the model's parameters alone: the gradient in params is zero by design"),
    "reweighted_wake_phase": Rule(
        bounds=(bounds.importance_weighted,),
        bias="in params the gradient of -KL(p(z|x) || q), by self-normalised weights, with a bias of order 1/S",
    ),
}  # fmt: skip
"""The table: name of the estimator in ``jaxelbo.estimators`` -> its row."""

BOUNDS: dict[str, Callable[..., jax.Array]] = {
    bound.__name__: bound
    for bound in (
        bounds.mean, bounds.importance_weighted, bounds.renyi, bounds.chi, bounds.thermodynamic_left,
        bounds.thermodynamic_right, bounds.jackknife,
    )
}  # fmt: skip

KINDS: dict[str, Traits] = {
    "Gaussian, mean field": Traits(0, True, 0, False, gaussians.Diagonal),
    "Gaussian, full rank": Traits(0, True, 0, False, gaussians.Dense),
    "Gaussian, detached": Traits(1, True, 0, False, gaussians.Diagonal),
    "flow": Traits(0, False, 0, False, None),
    "Bernoulli": Traits(3, True, 8, True, finite.Bernoulli),
    "categorical, one index": Traits(1, True, 4, False, finite.Categorical),
    "categorical, one-hot": Traits(1, True, 4, True, finite.Categorical),
    "independent, of one-hot": Traits(2, True, 9, True, finite.Copies),
    "joint, continuous and Bernoulli": Traits(2, True, 4, True, finite.Product),
    "conditional, mixture": Traits(1, False, 2, False, None),
    "sequential, of Bernoulli": Traits(3, False, 8, False, None),
}
"""The kinds of family of the documentation and of the test matrix, by their traits."""


def traits_of(params: Params, key: Key, family: Family) -> Traits:
    """Reads the traits of a family at these params, from shapes alone."""

    def read(params: Params, key: Key) -> tuple:
        record = family.distribution(params) if family.distribution is not None else None
        return family.score_log_probs(params, family.sample(params, key)), record

    scores, record = jax.eval_shape(read, params, key)
    return Traits(
        num_scores=scores.shape[0],
        has_entropy=family.entropy is not None,
        num_configurations=family.num_configurations,
        can_relax=family.relax is not None,
        distribution=None if record is None else type(record),
    )


def refusal(name: str, traits: Traits, bound: Bound, num_samples: int) -> str:
    """Why this triple is refused, in words, or "" where it is not."""
    rule = RULES[name]
    for need in rule.needs:
        if not need.holds(traits):
            return f"needs {need.words}"
    if rule.bounds is not None and bound not in rule.bounds:
        names = " or ".join(f"bounds.{valid.__name__}" for valid in rule.bounds)
        return f"holds for {names} alone, got {bound_name(bound)}"
    if traits.num_scores > 0 and num_samples < rule.min_samples:
        return f"needs num_samples of at least {rule.min_samples} where draws carry no gradient, got {num_samples}"
    return ""


def excess(name: str, traits: Traits, num_samples: int) -> str:
    """What is too large for this estimator, in words, or "" where nothing is."""
    rule, size = RULES[name], traits.num_configurations
    if rule.max_configurations is not None and size > rule.max_configurations:
        return (
            f"there are {checks.format_count(size)} configurations, more than the limit of {rule.max_configurations:,}"
        )
    if rule.max_samples is not None and num_samples > rule.max_samples(size):
        return f"num_samples must be at most {rule.max_samples(size)} for {size:,} configurations, got {num_samples}"
    return ""


def alternatives(traits: Traits, bound: Bound, num_samples: int) -> list[str]:
    """The unbiased estimators that hold for this family, bound and number of samples, as they are."""
    return [
        name
        for name, rule in RULES.items()
        if not (rule.bias or refusal(name, traits, bound, num_samples) or excess(name, traits, num_samples))
    ]


def check(name: str, params: Params, key: Key, family: Family, bound: Bound, num_samples: int) -> Traits:
    """Raises where the table refuses the triple, naming what holds instead; returns the family's traits."""
    checks.check_params(params, family)
    checks.check_key(key)
    checks.check_bound(bound)
    num_samples = checks.check_count(num_samples, "num_samples")
    traits = traits_of(params, key, family)
    reason = refusal(name, traits, bound, num_samples)
    if reason:
        valid = ", ".join(alternatives(traits, bound, num_samples)) or f"none with num_samples = {num_samples}"
        parts = f" ({traits.num_scores} parts without gradient)" if traits.num_scores else ""
        raise ValueError(
            f"estimators.{name} {reason}; the family is {family.name}{parts}. Estimators that hold: {valid}."
        )
    return traits


def bound_name(bound: Bound) -> str:
    """What messages call a bound; a partial application by its function."""
    function = bound.func if isinstance(bound, functools.partial) else bound
    name = getattr(function, "__name__", checks.describe(bound))
    return f"bounds.{name}" if function in BOUNDS.values() else name


def markdown() -> str:
    """The table as documentation: a row an estimator, a column a kind of family, and what holds of its bounds."""
    head = ["estimator", *KINDS, "bounds", "second derivative", "bias"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, rule in RULES.items():
        bound = rule.bounds[0] if rule.bounds else bounds.mean
        row = [f"`{name}`"]
        for traits in KINDS.values():
            reason = refusal(name, traits, bound, 2)
            row.append("refused" if reason else "biased" if rule.bias else "valid")
        row.append("any" if rule.bounds is None else ", ".join(f"`{valid.__name__}`" for valid in rule.bounds))
        right = [rule.second_derivative(traits) for traits in KINDS.values()]
        row.append("right" if all(right) else "wrong" if not any(right) else "right where reparameterised")
        lines.append("| " + " | ".join([*row, rule.bias or "none"]) + " |")
    return "\n".join(lines) + "\n"
