"""What algorithms that fit a Gaussian ask of their log joint and family."""

from typing import Any

import jax

from jaxelbo import checks, gaussian_moves, gaussians
from jaxelbo.gaussian_moves import Place
from jaxelbo.types import Family, LogJoint, Params

FORMS = {gaussians.Dense: "full_rank", gaussians.Diagonal: "mean_field"}
ALL_FORMS = FORMS | {gaussians.LowRank: "low_rank"}


def check_gaussian(log_joint: LogJoint, family: Family, forms: dict[type, str] = FORMS) -> type:
    """Requires a function and a Gaussian family of a form that is supported; returns it: the record's type."""
    checks.check_callable(log_joint, "log_joint")
    return form_of(family, forms)


def form_of(family: Family, forms: dict[type, str]) -> type:
    """The record type of a Gaussian family, refused by name where it is none of ``forms``."""
    checks.check_family(family)
    form = None
    if family.distribution is not None:
        form = type(jax.eval_shape(lambda: _distribution(family)))
    if form not in forms:
        choices = " or ".join(f"families.{name}" for name in forms.values())
        raise ValueError(f"family must be {choices} of a latent, got {family.name}; raise the elbo of others with fit.")
    return form


def _distribution(family: Family) -> Any:
    return family.distribution(family.init(jax.random.key(0)))  # for its type: nothing is drawn


def first_place(family: Family, params: Params) -> Place:
    """The Gaussian that an algorithm starts from, of params that are the family's."""
    checks.check_params(params, family)
    return gaussian_moves.place_of(family.distribution(params))


def params_of(state: Any) -> Params:
    """The family's params, of a state that holds a ``place``."""
    return gaussian_moves.gaussian_of(state.place.loc, state.place.factor)._asdict()


def place_of(state: Any) -> Place:
    """The part of such a state that must stay finite."""
    return state.place
