"""What the tests of conjugate models share: runs, and exact evidences in NumPy."""

import functools

import jax
import numpy as np
from scipy import special

import jaxelbo
from jaxelbo import algorithms, conjugate
from tests.matrix import quick_jit

KEY = jax.random.key(0)


def run(model, start, *data, num_steps, step_size=1.0, batch_size=None):
    algorithm = algorithms.coordinate_ascent(model.expected_log_joint, model.factors, step_size=step_size)
    return jaxelbo.run_algorithm(start, KEY, algorithm, num_steps=num_steps, data=data, batch_size=batch_size)


def ascend(model, start, *data, **options):
    """`run`, in a program that compiles fast."""
    return quick_jit(functools.partial(run, model, **options))(start, *data)


def fitted(model, *data, **options):
    return ascend(model, model.start(KEY, *data), *data, **options)


def assert_rises(bounds):
    assert np.all(np.diff(bounds) > -1e-9 * np.abs(bounds[1:]))


def elbo(naturals, model, *data):
    return float(quick_jit(lambda naturals: conjugate.elbo(naturals, model, *data))(naturals))


def dirichlet_evidence(counts, concentration):
    """log E[prod p_k^counts_k], summed over leading axes."""
    of = lambda a: np.sum(special.gammaln(a)) - np.sum(special.gammaln(np.sum(a, axis=-1)))
    return of(concentration + counts) - of(np.broadcast_to(concentration, np.shape(counts)))


def normal_evidence(rows, prior):
    """log marginal likelihood of rows under a normal-inverse-Wishart prior; Murphy (2007), equation 266."""
    count, size = rows.shape
    if count == 0:
        return 0.0
    loc, kappa, df, root = map(np.asarray, prior)
    mean = rows.mean(axis=0)
    scatter = (rows - mean).T @ (rows - mean)
    shift = (mean - loc)[:, None]
    before = root @ root.T
    after = before + scatter + kappa * count / (kappa + count) * shift @ shift.T
    value = special.multigammaln((df + count) / 2, size) - special.multigammaln(df / 2, size)
    value += df / 2 * np.linalg.slogdet(before)[1] - (df + count) / 2 * np.linalg.slogdet(after)[1]
    return value + size / 2 * np.log(kappa / (kappa + count)) - count * size / 2 * np.log(np.pi)
