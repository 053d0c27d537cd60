import os
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

import jaxelbo
from jaxelbo import __main__ as main_job
from jaxelbo.demo import eight_schools

# Moments of 10,000 reference draws of this posterior: posteriordb, eight_schools_noncentered (Magnusson et al., 2024).
REFERENCE_MU = (4.4, 3.3)


def run(*arguments, cwd=None):
    command = [sys.executable, "-m", "jaxelbo", *arguments]
    environment = os.environ | {"PYTHONPATH": str(pathlib.Path(jaxelbo.__file__).parent.parent), "COLUMNS": "120"}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=200)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["full_rank", "mean_field"])
def test_prints_posterior_bound_evidence_and_gap(tmp_path, family):
    result = run("--family", family, "--output", "picture.png", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    mean, sd, lower, upper = map(float, re.search(r"mu\s*│([^│]*)│([^│]*)│([^│]*)│([^│]*)│", result.stdout).groups())
    assert abs(mean - REFERENCE_MU[0]) < 0.4 and abs(sd - REFERENCE_MU[1]) < 0.4 and lower < mean < upper
    assert all(f"effect, school {school}" in result.stdout for school in "ABCDEFGH")
    number = r"\s+(-?[\d.]+)"
    bound, bound_error = map(float, re.search(rf"bound{number} \+-{number}", result.stdout).groups())
    evidence, evidence_error = map(float, re.search(rf"log evidence{number} \+-{number}", result.stdout).groups())
    exact = eight_schools.log_evidence()
    assert bound + 3 * bound_error < exact < bound + 0.5
    assert abs(evidence - exact) < 5 * evidence_error < 0.3
    assert abs(float(re.search(rf"gap{number}", result.stdout)[1]) - (evidence - bound)) < 2e-3


def test_log_evidence_by_another_route():
    """Quadrature over tau with SciPy, and a bracket: the reference value of bridge sampling is -31.311 +- 0.005."""
    y, sigma = np.asarray(eight_schools.EFFECTS), np.asarray(eight_schools.STANDARD_ERRORS)

    def density(tau):
        normal = stats.multivariate_normal(np.zeros(8), np.diag(sigma**2 + tau**2) + 25)
        return normal.pdf(y) * stats.halfcauchy(scale=5).pdf(tau)

    value = integrate.quad(density, 0, 50)[0] + integrate.quad(density, 50, np.inf)[0]
    np.testing.assert_allclose(eight_schools.log_evidence(), np.log(value), rtol=1e-6)
    assert abs(eight_schools.log_evidence() - -31.311) < 0.015


def test_log_joint_is_scipys():
    with jax.enable_x64(True):
        latent = {"mu": jnp.asarray(1.5), "log_tau": jnp.asarray(0.7), "eta": jnp.linspace(-1, 1, 8)}
        tau = np.exp(0.7)
        expected = (
            stats.norm(0, 5).logpdf(1.5)
            + stats.halfcauchy(scale=5).logpdf(tau)
            + 0.7
            + stats.norm.logpdf(np.linspace(-1, 1, 8)).sum()
            + stats.norm(1.5 + tau * np.linspace(-1, 1, 8), eight_schools.STANDARD_ERRORS)
            .logpdf(eight_schools.EFFECTS)
            .sum()
        )
        np.testing.assert_allclose(eight_schools.log_joint(latent), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--no-such"], "jaxelbo: unrecognized arguments: --no-such; see python -m jaxelbo --help"),
        (["--steps", "0"], "jaxelbo: argument --steps: must be an integer of at least 1, got '0'; see"),
        (["--steps", "many"], "jaxelbo: argument --steps: must be an integer of at least 1, got 'many'; see"),
        (["--family", "normal"], "jaxelbo: argument --family: invalid choice: 'normal'"),
        (["--output", "no/such/folder/a.png"], "jaxelbo: cannot write no/such/folder/a.png: No such file or directory"),
        (["--output", "."], "jaxelbo: cannot write .: Is a directory"),
    ],
)
def test_mistakes_are_one_line(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main_job.main(arguments)
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert error.startswith(message) and error.count("\n") == 1


def test_help_names_every_option(capsys):
    with pytest.raises(SystemExit) as stop:
        main_job.main(["--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0
    assert all(option in text for option in ("--family", "--steps", "--draws", "--seed", "--output", "default: 3000"))


def test_without_the_extra(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "rich.console", None)
    with pytest.raises(SystemExit):
        main_job.main(["--output", str(tmp_path / "a.png")])
    assert capsys.readouterr().err == 'jaxelbo: rich.console is not installed; pip install "jaxelbo[demo]"\n'
