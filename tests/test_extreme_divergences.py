"""KL of every pair at extreme parameters: float32 against float64 of the same float32 numbers."""

import functools
import itertools

import jax
import numpy as np
import pytest

from jaxelbo import distributions as d
from jaxelbo import divergences
from tests import distribution_oracles as oracles
from tests.matrix import quick_jit

MIN_ROWS, MAX_ROWS = 40, 6000
SMALLEST = 1e-36
"""Below this float32 has few digits left."""

WISHARTS = (d.Wishart, d.InverseWishart, d.NormalInverseWishart)
SIZE = 3
"""Of vectors and matrices."""

POSITIVE = np.array([1e-6, 1e-3, 0.1, 1.0, 10.0, 1e3, 1e6])
REAL = np.array([-1e6, -1.0, -1e-3, 0.0, 1e-6, 1.0, 1e3, 1e6])
LOG = np.array([-1e6, -14.0, -1.0, 0.0, 1e-6, 1.0, 14.0, 1e6])
ANGLE = np.array([-3.0, -1.0, -1e-3, 0.0, 1e-6, 1.0, 3.1])
ODDS = np.array([-80.0, -30.0, -14.0, -2.0, -1e-3, 0.0, 1e-6, 1.0, 14.0, 30.0, 80.0])
SHAPE = np.append(POSITIVE, [0.999, 1.001, 1.5, 2.0, 2.002])
"""Of a Weibull distribution, some of which are other distributions; and of gammas that are those."""

FIELDS = {
    d.Normal: (REAL, POSITIVE),
    d.LogNormal: (LOG, POSITIVE),
    d.InverseGaussian: (POSITIVE, POSITIVE),
    d.Gamma: (np.append(POSITIVE, [0.999, 1.001, 1.5]), POSITIVE),
    d.InverseGamma: (np.append(POSITIVE, [0.999, 1.001, 1.5]), POSITIVE),
    d.ChiSquared: (np.append(POSITIVE, [1.999, 2.0, 2.002]),),
    d.Exponential: (POSITIVE,),
    d.Beta: (POSITIVE, POSITIVE),
    d.Binomial: (POSITIVE[3:], ODDS),
    d.Poisson: (POSITIVE,),
    d.Geometric: (ODDS,),
    d.NegativeBinomial: (POSITIVE, ODDS),
    d.Laplace: (REAL, POSITIVE),
    d.Pareto: (POSITIVE, np.append(POSITIVE, [0.999, 1.001, 2.002])),
    d.Weibull: (SHAPE, POSITIVE),
    d.Rayleigh: (POSITIVE,),
    d.HalfNormal: (POSITIVE,),
    d.Gumbel: (REAL, POSITIVE),
    d.Cauchy: (REAL, POSITIVE),
    d.StudentT: (np.append(POSITIVE, [2.0, 2.001, 4.0, 30.0]), REAL, POSITIVE),
    d.VonMises: (ANGLE, POSITIVE),
}
"""Of each record of scalars the values of its fields; all combinations are taken."""

VECTORS = {
    d.Dirichlet: lambda rng: (rng.choice(POSITIVE, SIZE),),
    d.Bernoulli: lambda rng: (rng.choice(ODDS, SIZE),),
    d.Categorical: lambda rng: (rng.choice(ODDS, SIZE),),
    d.Multinomial: lambda rng: (rng.choice(POSITIVE[3:]), rng.choice(ODDS, SIZE)),
    d.VonMisesFisher: lambda rng: (direction(rng), rng.choice(POSITIVE)),
    d.Wishart: lambda rng: (degrees(rng), root(rng)),
    d.InverseWishart: lambda rng: (degrees(rng), root(rng)),
    d.NormalGamma: lambda rng: (rng.choice(REAL), *rng.choice(POSITIVE, 3)),
    d.NormalInverseWishart: lambda rng: (rng.choice(REAL, SIZE), rng.choice(POSITIVE), degrees(rng), root(rng)),
    d.Diagonal: lambda rng: (rng.choice(REAL, SIZE), np.log(rng.choice(POSITIVE, SIZE))),
    d.Dense: lambda rng: (
        rng.choice(REAL, SIZE),
        np.log(rng.choice(POSITIVE, SIZE)),
        np.tril(rng.standard_normal((SIZE, SIZE)), -1),
    ),
    d.LowRank: lambda rng: (
        rng.choice(REAL, SIZE),
        np.log(rng.choice(POSITIVE, SIZE)),
        rng.standard_normal((SIZE, 2)),
        np.log(rng.choice(POSITIVE, 2)),
    ),
}
"""And of each other record a random member."""


def direction(rng):
    vector = rng.choice([-1.0, 0.0, 1e-6, 1e-3, 1.0], SIZE)
    return vector / np.linalg.norm(vector) if np.any(vector) else np.eye(SIZE)[0]


def degrees(rng):
    return SIZE - 1 + rng.choice(POSITIVE)


def root(rng):
    return rng.choice(POSITIVE, SIZE)[:, None] * (np.eye(SIZE) + np.tril(rng.standard_normal((SIZE, SIZE)), -1))


def is_proper(record):
    return type(record) is not d.Uniform or record.low < record.high


@functools.cache
def members(kind):
    """Records of float32 numbers."""
    if kind is d.Uniform:
        found = [(low, low + width) for low, width in itertools.product(REAL, POSITIVE)]
    elif kind in FIELDS:
        found = list(itertools.product(*FIELDS[kind]))
    else:
        rng = np.random.default_rng(0)
        found = [VECTORS[kind](rng) for _ in range(50)]
    records = (kind(*(np.asarray(leaf, np.float32) for leaf in leaves)) for leaves in found)
    return [record for record in records if is_proper(record)]


def beside(record):
    """Close to it: every parameter by a thousandth."""
    moved = {}
    for index, (field, leaf) in enumerate(zip(record._fields, record, strict=True)):
        rise, sign = np.float32(1e-3), (-1) ** index
        if field == "total_count" or (field == "loc" and type(record) is d.VonMisesFisher):
            continue
        if field == "directions":  # of which the span alone counts
            sign = sign * np.resize([1, -1, -1, -1, 1], leaf.shape)
        least = SIZE - 1 if field == "df" and type(record) in WISHARTS else 0
        moved[field] = np.float32(least + (leaf - least) * (1 + rise * sign))
    return record._replace(**moved)


def rows(pair):
    """Pairs of records, as one batch: of any members, and of close ones."""
    both = itertools.product(members(pair[0]), members(pair[1]))
    both = [(q, p) for q, p in both if getattr(q, "total_count", 0) == getattr(p, "total_count", 0)]
    if len(both) > MAX_ROWS:
        chosen = np.random.default_rng(1).choice(len(both), MAX_ROWS, replace=False)
        both = [both[index] for index in chosen]
    if pair[0] is pair[1]:
        both += [(q, p) for q in members(pair[0]) for p in [beside(q)] if is_proper(p)]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *both)


@pytest.mark.parametrize("pair", [oracles.marked(pair) for pair in oracles.PAIRS])
def test_single_precision(pair):
    """Within a thousandth of the float64 value, infinite only where that is beyond float32, never NaN or negative."""
    batch, run = rows(pair), jax.vmap(divergences._between)
    single = np.asarray(quick_jit(run)(*batch))
    with jax.enable_x64(True):
        double = np.asarray(quick_jit(run)(*jax.tree.map(lambda leaf: leaf.astype(np.float64), batch)))
    assert single.dtype == np.float32 and len(single) >= MIN_ROWS
    assert not np.any(np.isnan(double)) and np.all(double >= 0)
    is_over = double > np.finfo(np.float32).max
    np.testing.assert_array_equal(np.isinf(single), is_over)
    np.testing.assert_allclose(single[~is_over], double[~is_over], rtol=1e-3, atol=SMALLEST)


def test_every_record_has_a_grid():
    kinds = {kind for pair in d.CLOSED_FORMS for kind in pair}
    assert kinds == FIELDS.keys() | VECTORS.keys() | {d.Uniform}
    for kind in FIELDS:
        assert len(FIELDS[kind]) == len(kind._fields)
