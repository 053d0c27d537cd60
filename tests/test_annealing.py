"""Annealed importance sampling against normalisers and distributions that are known in closed form or by quadrature."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from jaxelbo import annealing, bijectors, bound_estimates, families
from jaxelbo.annealing import Path, Schedule
from tests.matrix import quick_jit


def log_base(x):
    return -0.5 * jnp.sum(x**2) - 0.5 * x.size * np.log(2 * np.pi)


def log_gaussian(x):
    """N(0.5, 0.8^2) in each entry, times exp(2)."""
    return 2 + jnp.sum(jax.scipy.stats.norm.logpdf(x, 0.5, 0.8))


def log_bumps(x):
    """Two bumps of different width in one entry: no Gaussian."""
    return jnp.sum(jnp.logaddexp(-0.5 * (x + 1) ** 2 / 0.3, -0.7 - 0.5 * (x - 1) ** 2))


def log_normaliser_of_bumps():
    value, _ = scipy.integrate.quad(
        lambda x: np.exp(-0.5 * (x + 1) ** 2 / 0.3) + np.exp(-0.7 - 0.5 * (x - 1) ** 2), -15, 15
    )
    return np.log(value)


SCHEDULE = np.array([0, 0.1, 0.35, 0.7, 1.0]), np.array([0.5, 0.6, 0.6, 0.5, 0.4])


def schedule():
    return Schedule(*map(jnp.asarray, SCHEDULE))


def points(path, positions):
    return jax.vmap(functools.partial(annealing.point_at, path))(positions)


@pytest.mark.parametrize("beta", [0.4, 1.0])
def test_the_kernel_leaves_its_distribution_as_it_is(float64, beta):
    """From 4,000 exact draws of a tempered Gaussian, large rejected steps included; a shift of 0.05 sd is seen."""
    path = Path(log_base, log_gaussian)
    precision = (1 - beta) + beta / 0.64
    mean, sd = beta * 0.5 / 0.64 / precision, precision**-0.5
    start = points(path, mean + sd * jax.random.normal(jax.random.key(0), (4000, 1)))
    move = jax.vmap(functools.partial(annealing.transition, path, num_leapfrog=2), (0, 0, None, None))
    for size in (0.5, 1.9):
        run = quick_jit(lambda keys, size=size: move(start, keys, jnp.asarray(beta), jnp.asarray(size)))
        moved, acceptances = run(jax.random.split(jax.random.key(1), 4000))
        assert 0.3 < float(jnp.mean(acceptances)) < 0.999
        assert scipy.stats.kstest(np.asarray(moved.position[:, 0]), scipy.stats.norm(mean, sd).cdf).pvalue > 1e-3
        assert np.mean(moved.position != start.position) > 0.3
        again = points(path, moved.position)
        for carried, computed in zip(moved, again, strict=True):
            np.testing.assert_allclose(carried, computed, rtol=1e-9, atol=1e-12)


def test_the_kernel_reaches_its_distribution(float64):
    """From far away, where a quadrature knows the share of each bump."""
    path = Path(log_base, log_bumps)
    start = points(path, jnp.full((2000, 1), 3.0))
    settle = functools.partial(annealing.settle, path, num_transitions=60, num_leapfrog=3)
    settled = quick_jit(settle)(start, jax.random.key(0), jnp.asarray(0.5)).position[:, 0]
    density = lambda x: np.exp(-0.5 * (x + 1) ** 2 / 0.3) + np.exp(-0.7 - 0.5 * (x - 1) ** 2)
    share = scipy.integrate.quad(density, -15, 0)[0] / np.exp(log_normaliser_of_bumps())
    assert abs(np.mean(settled < 0) - share) < 4 * np.sqrt(share * (1 - share) / 2000)


@pytest.mark.parametrize("log_target, log_z, size", [(log_gaussian, 2.0, 3), (log_bumps, None, 1)])
def test_weights_are_unbiased_both_ways(float64, log_target, log_z, size):
    """E[w] = Z forward, E[1 / w] = 1 / Z in reverse from exact draws, with four temperatures; 1% of bias is seen."""
    log_z = log_normaliser_of_bumps() if log_z is None else log_z
    path, number = Path(log_base, log_target), 20_000
    if size == 1:
        grid = np.linspace(-8, 8, 20_001)
        density = np.exp(-0.5 * (grid + 1) ** 2 / 0.3) + np.exp(-0.7 - 0.5 * (grid - 1) ** 2)
        cumulative = np.cumsum(density) / np.sum(density)
        exact = np.interp(np.random.default_rng(0).random((number, 1)), cumulative, grid)
    else:
        exact = 0.5 + 0.8 * np.random.default_rng(0).standard_normal((number, size))
    start = jax.random.normal(jax.random.key(0), (number, size))
    for positions, way, sign in ((start, schedule(), 1), (exact, annealing.reversed_schedule(schedule()), -1)):
        weigh = functools.partial(annealing.log_weights, path, num_leapfrog=2)
        log_weights = quick_jit(weigh)(points(path, jnp.asarray(positions)), jax.random.key(1), way)
        relative = np.exp(sign * (np.asarray(log_weights) - log_z))
        error = relative.std() / np.sqrt(number)
        assert error < 0.01 and abs(relative.mean() - 1) < 4 * error
        plain = np.exp(sign * np.asarray(log_target_less_base(path, positions) - log_z))
        assert relative.std() < plain.std()  # annealing lowers the spread of importance sampling


def log_target_less_base(path, positions):
    return jax.vmap(path.log_target)(jnp.asarray(positions)) - jax.vmap(path.log_base)(jnp.asarray(positions))


def test_directions_of_the_averages(float64):
    """Lower below log Z below upper in expectation, and one chain's averages beyond them: exact log-normal weights."""
    normal = np.random.default_rng(0).standard_normal((20_000, 8))
    forward, backward = 3 - 0.5 + normal, 3 + 0.5 + normal  # E[w] = exp(3), and E[1 / w] = exp(-3)
    low = np.asarray(jax.vmap(bound_estimates.lower)(jnp.asarray(forward)).value)
    high = np.asarray(jax.vmap(bound_estimates.upper)(jnp.asarray(backward)).value)
    for values, below, above in ((low, 2.5, 3.0), (high, 3.0, 3.5)):
        error = values.std() / np.sqrt(len(values))
        assert below + 5 * error < values.mean() < above - 5 * error
    errors = jax.vmap(bound_estimates.lower)(jnp.asarray(0.3 * normal)).standard_error
    spread = jax.vmap(bound_estimates.lower)(jnp.asarray(0.3 * normal)).value.std()
    np.testing.assert_allclose(jnp.sqrt(jnp.mean(errors**2)), spread, rtol=0.1)
    lowered = jnp.array([0.0, -jnp.inf, 0.0, -jnp.inf])
    np.testing.assert_allclose(bound_estimates.lower(lowered).value, -np.log(2), rtol=1e-12)


def test_the_pilot_finds_step_sizes_and_temperatures(float64):
    """A narrow target asks for small steps at its end, and for more temperatures where log-weights spread most."""
    path = Path(log_base, lambda x: jnp.sum(jax.scipy.stats.norm.logpdf(x, 0.0, 0.05)))
    start = points(path, jax.random.normal(jax.random.key(0), (64, 2)))
    sizes = {"num_temperatures": 20, "num_adaptations": 20, "num_leapfrog": 3}
    betas, steps = quick_jit(functools.partial(annealing.pilot, path, **sizes))(start, jax.random.key(1))
    assert betas[0] == 0 and betas[-1] == 1 and np.all(np.diff(betas) > 0)
    assert betas[1] < 0.05 / 2 < 1 - betas[-2]  # beside 0.05 of even spacing
    assert 0.01 < steps[-1] < 0.12 < steps[0]  # of about the scale 0.05
    move = jax.vmap(functools.partial(annealing.transition, path, num_leapfrog=3), (0, 0, None, None))
    exact = points(path, 0.05 * jax.random.normal(jax.random.key(2), (500, 2)))
    acceptances = move(exact, jax.random.split(jax.random.key(3), 500), jnp.asarray(1.0), steps[-1])[1]
    assert 0.6 < float(jnp.mean(acceptances)) < 0.97


def test_points_of_no_density(float64):
    """A target that is NaN on one side: chains never stay there, and weights of those that begin there are zero."""
    path = Path(log_base, lambda x: jnp.sum(jnp.where(x > 0, log_base(x), jnp.nan)))
    start = points(path, jax.random.normal(jax.random.key(0), (4000, 1)))
    assert np.all(np.isneginf(start.log_target) == (np.asarray(start.position[:, 0]) <= 0))
    weigh = functools.partial(annealing.log_weights, path, num_leapfrog=2)
    log_weights = np.asarray(quick_jit(weigh)(start, jax.random.key(1), schedule()))
    assert not np.any(np.isnan(log_weights))
    assert abs(np.exp(log_weights).mean() - 0.5) < 4 * np.exp(log_weights).std() / np.sqrt(4000)


@pytest.mark.parametrize("kind", ["full rank", "supports", "laplace", "mixture"])
def test_paths_of_families(float64, kind):
    """The base is normalised where chains move, and log-weights there are those of the latent."""
    latent, key = {"a": jnp.array([0.3, 0.6]), "b": 0.4}, jax.random.key(0)
    if kind == "supports":
        family = families.constrained(families.mean_field, latent, {"b": bijectors.positive})
    elif kind == "mixture":
        family = families.mixture(families.mean_field(latent), 2)
    else:
        family = {"full rank": families.full_rank, "laplace": families.laplace}[kind](latent)
    params = jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(key, leaf.shape), family.init(key))
    log_joint = lambda z: family.log_prob(params, z) + 1.5  # so that every log-weight is 1.5
    path, draw = annealing.path_and_draws(params, key, log_joint, family)
    draws = jax.vmap(draw)(jax.random.split(jax.random.key(1), 2000))
    np.testing.assert_allclose(log_target_less_base(path, draws), 1.5, rtol=1e-9)
    # E_q[p(x) / q(x)] = 1 for a normalised p, which sees the base's constant.
    log_p = jax.vmap(lambda x: jnp.sum(jax.scipy.stats.norm.logpdf(x, 0.0, 0.5)))(draws)
    ratios = np.exp(np.asarray(log_p - jax.vmap(path.log_base)(draws)))
    assert abs(ratios.mean() - 1) < 4 * ratios.std() / np.sqrt(2000) < 0.4
