"""What the parameters of each record must be, and the check of one.

Floor 1.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxelbo import checks, finite, gaussians
from jaxelbo.distributions import counts, directions, gammas, lines, matrices, normals, proportions, scales


class _Domain(NamedTuple):
    """What one parameter must be: in words, its axes, and a test of its value."""

    words: str
    axes: tuple[str, ...]
    contains: Callable[[np.ndarray], bool]


def _is_root(value: np.ndarray) -> bool:
    return bool(np.all(np.diag(value) > 0) and np.all(np.triu(value, 1) == 0) and np.all(np.isfinite(value)))


def _is_unit(value: np.ndarray) -> bool:
    return bool(abs(np.sum(value.astype(float) ** 2) - 1) < 1e-4)


_REAL = _Domain("finite", (), lambda value: bool(np.all(np.isfinite(value))))
_POSITIVE = _Domain("positive and finite", (), lambda value: bool(np.all((value > 0) & np.isfinite(value))))
_LOGITS = _Domain("a log-odds, not NaN", (), lambda value: not np.any(np.isnan(value)))
_ROOT = _Domain("lower triangular with a positive diagonal", ("D", "D"), _is_root)
_UNIT = _Domain("a unit vector", ("D",), _is_unit)


def _along(domain: _Domain, *axes: str) -> _Domain:
    return domain._replace(axes=axes)


DOMAINS: dict[type, dict[str, _Domain]] = {
    normals.Normal: {"loc": _REAL, "scale": _POSITIVE},
    normals.LogNormal: {"loc": _REAL, "scale": _POSITIVE},
    normals.InverseGaussian: {"loc": _POSITIVE, "concentration": _POSITIVE},
    gaussians.Diagonal: {"loc": _along(_REAL, "D"), "log_scale": _along(_REAL, "D")},
    gaussians.Dense: {
        "loc": _along(_REAL, "D"),
        "log_scale": _along(_REAL, "D"),
        "unit_tril": _along(_REAL, "D", "D"),
    },
    gaussians.LowRank: {
        "loc": _along(_REAL, "D"),
        "log_scale": _along(_REAL, "D"),
        "directions": _along(_REAL, "D", "R"),
        "log_stretch": _along(_REAL, "R"),
    },
    gammas.Gamma: {"concentration": _POSITIVE, "rate": _POSITIVE},
    gammas.InverseGamma: {"concentration": _POSITIVE, "scale": _POSITIVE},
    gammas.ChiSquared: {"df": _POSITIVE},
    gammas.Exponential: {"rate": _POSITIVE},
    proportions.Beta: {"concentration1": _POSITIVE, "concentration0": _POSITIVE},
    proportions.Dirichlet: {"concentration": _along(_POSITIVE, "K")},
    finite.Bernoulli: {"logits": _along(_LOGITS, "D")},
    finite.Categorical: {"logits": _along(_LOGITS, "K")},
    counts.Binomial: {"total_count": _POSITIVE, "logits": _LOGITS},
    counts.Multinomial: {"total_count": _POSITIVE, "logits": _along(_LOGITS, "K")},
    counts.Poisson: {"rate": _POSITIVE},
    counts.Geometric: {"logits": _LOGITS},
    counts.NegativeBinomial: {"total_count": _POSITIVE, "logits": _LOGITS},
    scales.Laplace: {"loc": _REAL, "scale": _POSITIVE},
    scales.Pareto: {"minimum": _POSITIVE, "concentration": _POSITIVE},
    scales.Weibull: {"shape": _POSITIVE, "scale": _POSITIVE},
    scales.Rayleigh: {"scale": _POSITIVE},
    scales.HalfNormal: {"scale": _POSITIVE},
    lines.Uniform: {"low": _REAL, "high": _REAL},
    lines.Gumbel: {"loc": _REAL, "scale": _POSITIVE},
    lines.Cauchy: {"loc": _REAL, "scale": _POSITIVE},
    lines.StudentT: {"df": _POSITIVE, "loc": _REAL, "scale": _POSITIVE},
    directions.VonMises: {"loc": _REAL, "concentration": _POSITIVE},
    directions.VonMisesFisher: {"loc": _UNIT, "concentration": _POSITIVE},
    matrices.Wishart: {"df": _POSITIVE, "scale_tril": _ROOT},
    matrices.InverseWishart: {"df": _POSITIVE, "scale_tril": _ROOT},
    matrices.NormalGamma: {"loc": _REAL, "count": _POSITIVE, "concentration": _POSITIVE, "rate": _POSITIVE},
    matrices.NormalInverseWishart: {
        "loc": _along(_REAL, "D"),
        "count": _POSITIVE,
        "df": _POSITIVE,
        "scale_tril": _ROOT,
    },
}


def check_record(record: Any, name: str) -> None:
    """Requires a record of known type: axes and dtypes at trace time, and the domain where values are known."""
    if type(record) not in DOMAINS:
        raise TypeError(f"{name} must be a record of jaxelbo.distributions, got {checks.describe(record)}.")
    sizes: dict[str, int] = {}
    for field, domain in DOMAINS[type(record)].items():
        leaf = f"{name}.{field}"
        value = getattr(record, field)
        checks.check_floating(value, leaf, domain.axes)
        if 0 in jnp.shape(value):
            raise ValueError(f"{leaf} must not be empty, got shape {jnp.shape(value)}.")
        for axis, size in zip(domain.axes, jnp.shape(value), strict=True):
            if sizes.setdefault(axis, size) != size:
                raise ValueError(f"{leaf} must have {axis} = {sizes[axis]}, got shape {jnp.shape(value)}.")
        if not checks.is_traced(value) and not domain.contains(np.asarray(value)):
            raise ValueError(f"{leaf} must be {domain.words}, got {value}.")
    _check_together(record, name)


def _check_together(record: Any, name: str) -> None:
    if checks.is_traced(record):
        return
    if isinstance(record, lines.Uniform) and not record.low < record.high:
        raise ValueError(f"{name}.low must be below {name}.high, got {record.low} and {record.high}.")
    if isinstance(record, matrices.Wishart | matrices.InverseWishart | matrices.NormalInverseWishart):
        least = len(record.scale_tril) - 1
        if not record.df > least:
            raise ValueError(f"{name}.df must be above D - 1 = {least}, got {record.df}.")
