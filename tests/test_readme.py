import pathlib
import re

import jax

import jaxelbo

ROOT = pathlib.Path(__file__).parent.parent


def test_readme_examples_run(capsys):
    """The first finds a posterior near the data's mean of 2.075."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    fit, posterior, support, questions, devices, rows, robust, discrete, conjugate = blocks
    scope = {}
    exec(compile(fit, "README.md", "exec"), scope)
    assert "Summary(mean=" in capsys.readouterr().out
    location, _ = scope["family"].location_and_scale(scope["result"].params)
    assert abs(location["mean"] - 2.075) < 0.2
    exec(compile(posterior, "README.md", "exec"), scope)
    assert str(scope["result"].status) == "converged"
    assert abs(float(scope["result"].family.location_and_scale(scope["result"].params)[0]["mean"]) - 2.075) < 0.2
    exec(compile(support, "README.md", "exec"), scope)
    rate = scope["rate"]
    latents = jaxelbo.draws(rate.params, jax.random.key(1), rate.family, num_samples=10_000)
    assert str(rate.status) == "converged" and abs(latents["rate"].mean() - 16 / 6) < 0.05
    exec(compile(questions, "README.md", "exec"), scope)
    assert "too narrow in latent['mean']" in str(scope["found"].verdict)  # four data have a posterior with heavy tails
    bracket = scope["bracket"]
    error = (bracket.lower.standard_error**2 + bracket.upper.standard_error**2) ** 0.5
    assert abs(bracket.gap) < 0.1 + 4 * error
    exec(compile(devices, "README.md", "exec"), scope)
    assert len(scope["result"].history.loss) == 200
    exec(compile(rows, "README.md", "exec"), scope)
    # With q(z_n) around slope x_n and no shift, q's best centre c and slope s: 2 s mean(x^2) = mean(x^2) + c mean(x).
    x, centre = scope["rows"], float(scope["result"].params["centre"]["loc"][0])
    assert abs(float(scope["result"].params["slope"]) - (0.5 + 0.5 * centre * float(x.mean() / (x**2).mean()))) < 0.05
    assert abs(centre - float(scope["result"].params["slope"] * x.sum()) / 501) < 0.1
    exec(compile(robust, "README.md", "exec"), scope)
    assert len(scope["result"].history.loss) < 20_000 and abs(float(scope["result"].params["loc"][0]) - 3.0) < 0.2
    exec(compile(discrete, "README.md", "exec"), scope)
    assert scope["gradient"]["slope"]["loc"][0] > 0  # towards data around 2
    exec(compile(conjugate, "README.md", "exec"), scope)
    bounds = scope["result"].history.bound
    assert bool(jax.numpy.all(jax.numpy.diff(bounds) > -1e-4))


def test_readme_table_names_files_that_exist():
    files = re.findall(r"`(jaxelbo/[\w/]+\.py)`", (ROOT / "README.md").read_text())
    assert len(files) > 10 and all((ROOT / file).exists() for file in files)


def test_every_promise_has_its_tests():
    """Those that RELIABILITY.md names are there, and every row names one."""
    rows = [line for line in (ROOT / "RELIABILITY.md").read_text().splitlines() if line.startswith("|")][2:]
    assert len(rows) > 20
    for row in rows:
        named = re.findall(r"`(tests/\w+\.py)::(\w+)`", row)
        assert named, row
        for path, name in named:
            assert f"def {name}(" in (ROOT / path).read_text(), (path, name)
