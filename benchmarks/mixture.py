"""Variational mixtures of Gaussians: `conjugate.gaussian_mixture` against scikit-learn's BayesianGaussianMixture.

    python -m benchmarks.mixture [--repeats 7]

The same priors, the same start and the same precision (float64), so both take the same steps. Both are scored by our
bound, in nats. A row gives both bounds after 300 steps, how many of our steps it took to reach scikit-learn's bound to
a millionth, and wall medians of interleaved repeats for so many steps: ours the first time, with compilation, and
afterwards. The linear algebra of scikit-learn is held to one thread, with which it is fastest on arrays so small.
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
import sklearn
from rich.console import Console
from rich.table import Table
from sklearn import datasets, decomposition
from sklearn.mixture import BayesianGaussianMixture
from threadpoolctl import threadpool_limits

import jaxelbo
from jaxelbo import algorithms, conjugate
from jaxelbo import distributions as d

NUM_STEPS = 300


def irises() -> np.ndarray:
    """``[150, 4]``, columns of unit variance."""
    x = datasets.load_iris().data
    return (x - x.mean(axis=0)) / x.std(axis=0)


def digits(num_columns: int = 8) -> np.ndarray:
    """The first principal components of 1797 pictures ``[1797, D]``, the first of unit variance."""
    x = decomposition.PCA(num_columns, svd_solver="full").fit_transform(datasets.load_digits().data)
    return x / x[:, 0].std()


def model_of(num_components: int, size: int) -> conjugate.ConjugateModel:
    """Few components are wanted: a sparse Dirichlet, and one wide normal-inverse-Wishart for each."""
    component = d.NormalInverseWishart(jnp.zeros(size), 0.1, size + 1.0, 0.5 * jnp.eye(size))
    return conjugate.gaussian_mixture(d.Dirichlet(jnp.full(num_components, 1e-2)), component)


def by_scikit_learn(x: np.ndarray, num_components: int, max_iter: int) -> BayesianGaussianMixture:
    """The same priors: covariance_prior is Psi."""
    model = BayesianGaussianMixture(
        n_components=num_components,
        weight_concentration_prior_type="dirichlet_distribution",
        weight_concentration_prior=1e-2,
        mean_precision_prior=0.1,
        mean_prior=np.zeros(x.shape[1]),
        degrees_of_freedom_prior=x.shape[1] + 1.0,
        covariance_prior=0.25 * np.eye(x.shape[1]),
        reg_covar=0.0,
        tol=0.0,
        max_iter=max_iter,
        random_state=0,
        init_params="random_from_data",
    )
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")
        return model.fit(x)


def naturals_of(fitted: BayesianGaussianMixture) -> dict[str, Any]:
    """The weights and components of a fit by scikit-learn."""
    roots = np.linalg.cholesky(fitted.covariances_ * fitted.degrees_of_freedom_[:, None, None])
    usual = d.NormalInverseWishart(fitted.means_, fitted.mean_precision_, fitted.degrees_of_freedom_, roots)
    components = jax.jit(jax.vmap(d.normal_inverse_wishart.to_natural))(jax.tree.map(jnp.asarray, usual))
    return {"weights": jnp.asarray(fitted.weight_concentration_), "components": components}


def seconds(function: Callable[[], Any]) -> float:
    """Wall time of one call."""
    begin = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - begin


def add_row(table: Table, name: str, x: np.ndarray, num_components: int, repeats: int) -> None:
    """Runs both on one data set."""
    model, data, key = model_of(num_components, x.shape[1]), (jnp.asarray(x),), jax.random.key(0)
    start = model.local_start(*data) | naturals_of(by_scikit_learn(x, num_components, 1))
    algorithm = algorithms.coordinate_ascent(model.expected_log_joint, model.factors)

    def ours(num_steps: int) -> jaxelbo.FitResult:
        return jaxelbo.run_algorithm(start, key, algorithm, num_steps=num_steps, data=data)

    scored = conjugate.for_minibatches(model, num_rows=len(x))
    score = jax.jit(lambda naturals: conjugate.elbo(naturals, scored, *data))
    theirs = float(score(naturals_of(by_scikit_learn(x, num_components, NUM_STEPS))))
    bounds = np.asarray(ours(NUM_STEPS).history.bound)
    num_steps = int(np.argmax(bounds > theirs - 1e-6 * abs(theirs))) + 1
    assert bounds[num_steps - 1] > theirs - 1e-6 * abs(theirs), f"{name}: {bounds[-1]} does not reach {theirs}."
    assert np.all(np.diff(bounds) > -1e-9 * np.abs(bounds[1:]))

    def with_compilation() -> Any:
        jax.clear_caches()
        return ours(num_steps)

    first = seconds(with_compilation)
    times: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(repeats):
        times["ours"].append(seconds(lambda: ours(num_steps)))
        times["theirs"].append(seconds(lambda: by_scikit_learn(x, num_components, num_steps)))
    own, other = (statistics.median(each) for each in times.values())
    sizes = f"{name} {x.shape[0]} x {x.shape[1]}, K = {num_components}"
    figures = f"{bounds[-1]:.4f}", f"{theirs:.4f}", f"{num_steps}", f"{first:.2f}"
    table.add_row(sizes, *figures, f"{1e3 * own:.1f}", f"{1e3 * other:.1f}", f"{other / own:.1f}")


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7, help="interleaved repeats of each program (default 7)")
    repeats = parser.parse_args().repeats
    jax.config.update("jax_enable_x64", True)
    title = f"jax {jax.__version__}, jaxlib {jaxlib.__version__}, scikit-learn {sklearn.__version__}, " + (
        f"{jax.devices()[0].device_kind}"
    )
    table = Table(title=title)
    for heading in ("data", "our bound", "theirs", "steps", "first, s", "ours, ms", "theirs, ms", "ratio"):
        table.add_column(heading, justify="left" if heading == "data" else "right")
    add_row(table, "irises", irises(), 6, repeats)
    add_row(table, "digits", digits(), 30, repeats)
    add_row(table, "digits", digits(20), 30, repeats)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
