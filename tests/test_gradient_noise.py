import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxelbo
from jaxelbo import bounds, estimators, families, gradient_noise

KEY = jax.random.key(0)
FAMILY = families.bernoulli(jnp.zeros(2))
PARAMS = {"logits": jnp.array([0.4, -0.3])}


def log_joint(z):
    return 2 * z[0] - z[1] + z[0] * z[1]


def test_figures_are_those_of_the_gradients():
    """Variance and signal-to-noise of the plain score function at one draw, by listing the four draws."""
    choices = {"plain": estimators.score_function, "exact": estimators.enumeration}
    report = jaxelbo.gradient_report(
        PARAMS, KEY, log_joint, FAMILY, choices, num_samples=1, num_replicates=40_000, num_timings=2
    )
    plain, exact = report.rows
    probability = np.asarray(jax.nn.sigmoid(PARAMS["logits"]), np.float64)
    values, scores, chances = [], [], []
    for z in np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float64):
        log_q = np.sum(np.log(np.where(z, probability, 1 - probability)))
        values.append(2 * z[0] - z[1] + z[0] * z[1] - log_q)
        scores.append(z - probability)
        chances.append(np.exp(log_q))
    gradients = np.array(values)[:, None] * np.array(scores)
    mean = np.array(chances) @ gradients
    variance = np.array(chances) @ np.sum((gradients - mean) ** 2, axis=1)
    np.testing.assert_allclose(plain.variance, variance, rtol=0.05)
    np.testing.assert_allclose(plain.signal_to_noise["logits"], np.linalg.norm(mean) / np.sqrt(variance), rtol=0.05)
    np.testing.assert_allclose(exact.mean["logits"], mean, rtol=1e-5)
    assert exact.variance < 1e-9 and plain.seconds > 0
    np.testing.assert_allclose(plain.variance_times_seconds, plain.variance * plain.seconds)


@pytest.mark.parametrize(
    ("name", "family", "count"),
    [
        ("leave_one_out", FAMILY, 3),
        ("enumeration", FAMILY, 4),
        pytest.param("arm", FAMILY, 6, marks=pytest.mark.matrix),
        pytest.param("measure_valued", FAMILY, 3 + 3 * 2, marks=pytest.mark.matrix),
        pytest.param("without_replacement", FAMILY, 3, marks=pytest.mark.matrix),
        pytest.param("doubly_reparameterised", families.mean_field(jnp.zeros(2)), 6, marks=pytest.mark.matrix),
    ],
)  # fmt: skip
def test_evaluations_are_counted(name, family, count):
    choices = {name: getattr(estimators, name)}
    report = jaxelbo.gradient_report(
        family.init(KEY), KEY, log_joint, family, choices, num_samples=3, num_replicates=2, num_timings=1
    )
    assert report.rows[0].evaluations == count


def test_defaults_hold_or_are_refused_by_name(capsys):
    choices = {name: gradient_noise.ESTIMATORS[name] for name in ("leave_one_out", "pathwise", "arm")}
    report = jaxelbo.gradient_report(
        PARAMS, KEY, log_joint, FAMILY, choices, bound=bounds.importance_weighted, num_replicates=10, num_timings=1
    )
    assert [row.name for row in report.rows] == ["leave_one_out"]
    assert "holds for bounds.mean alone" in report.refused["arm"]
    jaxelbo.print_gradient_report(report)
    printed = capsys.readouterr().out
    assert "leave_one_out" in printed and "refused here: pathwise, arm" in printed


def test_bad_input():
    call = functools.partial(jaxelbo.gradient_report, PARAMS, KEY, log_joint, FAMILY)
    with pytest.raises(ValueError, match=r"no estimator holds for this problem: estimators.pathwise needs"):
        call({"pathwise": estimators.pathwise})
    with pytest.raises(TypeError, match=r"estimators\['x'\] must be a function"):
        call({"x": 3})
    with pytest.raises(ValueError, match="num_replicates must be at least 2"):
        call(num_replicates=1)
    with pytest.raises(TypeError, match="must be called outside jit"):
        jax.jit(lambda p: jaxelbo.gradient_report(p, KEY, log_joint, FAMILY))(PARAMS)


def test_a_mistake_in_the_log_joint_is_no_refusal():
    family = families.bernoulli(jnp.zeros(3))
    with pytest.raises(TypeError, match=r"dot_general|matmul|incompatible"):
        jaxelbo.gradient_report(family.init(KEY), KEY, lambda z: z @ jnp.zeros(4), family)


def test_ratio_without_variance_is_infinite():
    family = families.bernoulli(jnp.zeros(3))
    choices = {"wake": jaxelbo.estimators.wake_phase}
    report = jaxelbo.gradient_report(family.init(KEY), KEY, jnp.sum, family, choices, num_replicates=2, num_timings=1)
    assert report.rows[0].signal_to_noise["logits"] == jnp.inf
