"""One device, eight, and two processes of four: the same numbers to rounding; bad input."""

import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxelbo import device_meshes

ROOT = pathlib.Path(__file__).parent.parent


def start(arguments, num_devices):
    environment = os.environ | {
        "JAX_NUM_CPU_DEVICES": str(num_devices),
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False)


def read(path):
    with np.load(path) as file:
        return dict(file)


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-4), ("float64", 1e-9)])
def test_one_eight_and_two_times_four(tmp_path, dtype, tolerance):
    """300 steps, rows and draws spread: both processes hold the same bits, and what one device reaches."""
    script = ROOT / "tests" / "device_runs.py"
    runs = [
        start([script, tmp_path, dtype], 1),
        start([script, tmp_path, dtype], 8),
        start(["-m", "jaxelbo.local_processes", 2, script, tmp_path, dtype], 4),
    ]
    for run in runs:
        assert run.returncode == 0, run.stderr[-2_000:]
    one, eight, first, second = (
        read(tmp_path / f"{name}.npz") for name in ("0-of-1-1", "0-of-1-8", "0-of-2-8", "1-of-2-8")
    )
    assert len(one["loss"]) == 300 and np.mean(one["loss"][-20:]) < np.mean(one["loss"][:20]) - 100
    for name, expected in one.items():
        assert np.array_equal(first[name], second[name])
        scale = tolerance * max(1, np.max(np.abs(expected)))
        for found in (eight, first):
            assert np.max(np.abs(found[name] - expected)) < scale, name


@pytest.mark.slow
def test_a_checkpoint_of_eight_devices_goes_on_with_two_processes_and_then_with_one(tmp_path):
    """Written once, by the first process; what is reached is what an undisturbed run reaches, to rounding."""
    script = ROOT / "tests" / "device_runs.py"
    for arguments, devices in (
        ([script, tmp_path, "float64", 100], 8),
        (["-m", "jaxelbo.local_processes", 2, script, tmp_path, "float64", 200], 4),
        ([script, tmp_path, "float64", 1_000], 1),
        ([script, tmp_path, "float64"], 1),
    ):
        run = start(arguments, devices)
        assert run.returncode == 0, run.stderr[-2_000:]
        if devices == 1 and len(arguments) == 4:
            resumed = read(tmp_path / "0-of-1-1.npz")
    assert resumed.pop("begin") == 200  # where the run before it ended
    whole = read(tmp_path / "0-of-1-1.npz")
    assert len(resumed["loss"]) == 300 and set(resumed) == {"loss", "loc", "log_scale", "unit_tril"}
    for name, found in resumed.items():
        expected = whole[name if name == "loss" else f"all {name}"]
        assert np.max(np.abs(found - expected)) < 1e-9 * max(1, np.max(np.abs(expected))), name


@pytest.mark.slow
def test_a_process_that_fails_ends_the_others(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import jax, sys, time\nif jax.process_index() == 1:\n    sys.exit(3)\ntime.sleep(300)\n")
    assert start(["-m", "jaxelbo.local_processes", 2, script], 1).returncode == 3


def test_on_the_devices_there_are():
    mesh = device_meshes.device_mesh()
    size = len(jax.devices())
    placed = device_meshes.place_rows({"x": np.ones((2 * size, 3)), "y": jnp.zeros(size)}, mesh)
    assert placed["x"].shape == (2 * size, 3) and placed["x"].sharding.spec == jax.sharding.PartitionSpec("data")
    for key in (jax.random.key(0), jax.random.PRNGKey(0)):
        everywhere = device_meshes.place_everywhere({"key": key, "loc": 1.0}, mesh)
        assert jnp.all(jax.random.bits(everywhere["key"], (3,)) == jax.random.bits(key, (3,)))


def test_bad_input():
    mesh = device_meshes.device_mesh()
    size = len(jax.devices())
    with pytest.raises(ValueError, match=f"num_along_samples must divide the {size} devices, got {size + 1}"):
        device_meshes.device_mesh(num_along_samples=size + 1)
    with pytest.raises(TypeError, match="mesh must be a mesh of device_mesh"):
        device_meshes.place_rows(np.ones(4), "data")
    with pytest.raises(ValueError, match=r"data\['x'\] must have rows"):
        device_meshes.place_rows({"x": 1.0}, mesh)
    with pytest.raises(TypeError, match="data"):
        device_meshes.place_rows({"x": "rows"}, mesh)


@pytest.mark.slow
def test_rows_that_the_devices_do_not_divide():
    code = (
        "import numpy, jaxelbo.device_meshes as d\n"
        "try:\n    d.place_rows({'x': numpy.ones(12)}, d.device_mesh())\n"
        "except ValueError as error:\n    print(error)\n"
    )
    message = start(["-c", code], 8).stdout
    assert "data['x'] must have a number of rows that the 8 devices divide, got 12" in message
