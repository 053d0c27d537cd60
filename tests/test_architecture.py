"""The structure that ARCHITECTURE.md states."""

import ast
import pathlib

import jaxelbo

PACKAGE = pathlib.Path(jaxelbo.__file__).parent
FLOORS = {
    "types": 0, "checks": 0.5,
    "bounds": 1, "bregman": 0.9, "bessel": 1, "courses": 1, "gaussians": 1, "exponential": 1.1, "distributions": 1.2,
    "bijectors": 1.1, "flows": 1.1, "supports": 1.2,
    "gaussian_divergences": 1.3, "mixture_divergences": 1.3,
    "checkpoints": 1, "device_meshes": 1, "line_search": 1, "finite": 1, "flattening": 1, "custom_gradients": 1,
    "mixed_precision": 1, "pareto": 1, "quasi_newton": 1, "quasi_random": 1, "statuses": 1, "streams": 1,
    "surrogates": 1.1, "gaussian_moves": 1.1, "structures": 1.1, "krylov": 1.1, "low_rank_curvature": 1.2,
    "families": 2,
    "tracing": 2.9, "monte_carlo": 3, "validity": 3, "divergences": 3.1, "estimators": 3.1, "f_divergences": 3.2,
    "catalogue": 3.3, "row_terms": 3, "error_bounds": 3, "bound_estimates": 3,
    "objectives": 3.2, "priors": 3.2, "wake_sleep": 3.2, "hard_attention": 3.3,
    "algorithms": 4, "posteriors": 4, "diagnostics": 4, "diagnoses": 4, "calibrations": 4, "gradient_noise": 4,
    "linear_responses": 4,
    "annealing": 4, "evidence_brackets": 4.1,
    "gaussian_fits": 4.5, "low_rank_fits": 4.5, "richer_fits": 4.5, "minibatches": 5,
    "stepping": 5.1, "driving": 5.2, "fitting": 5.3, "inference": 5.3, "multi_path": 5.4, "restarts": 5.4,
    "reporting": 5,
    "attention": 5.9, "conjugate": 5.9, "__init__": 6, "demo": 7, "local_processes": 7, "__main__": 8,
}  # fmt: skip


def imports_of(path):
    """Names below jaxelbo that a file imports, and the names of other packages with their dotted paths."""
    inside, outside = set(), set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            (inside if parts[0] == "jaxelbo" else outside).add(tuple(parts))
    return inside, outside


def test_imports_point_downwards():
    for path in PACKAGE.rglob("*.py"):
        place = path.relative_to(PACKAGE).with_suffix("").parts[0]
        for name in imports_of(path)[0]:
            target = name[1] if len(name) > 1 else "__init__"
            target = target if target in FLOORS else "__init__"
            same_folder = target == place and len(path.relative_to(PACKAGE).parts) > 1
            assert same_folder or FLOORS[target] < FLOORS[place], f"{path}: {'.'.join(name)}"


def test_runtime_packages_alone_and_nothing_private():
    allowed = {"jax", "optax", "chex", "numpy"}
    standard = {
        "argparse",
        "collections",
        "concurrent",
        "contextlib",
        "dataclasses",
        "functools",
        "gzip",
        "hashlib",
        "inspect",
        "itertools",
        "json",
        "math",
        "operator",
        "os",
        "pathlib",
        "re",
        "runpy",
        "socket",
        "statistics",
        "struct",
        "subprocess",
        "sys",
        "time",
        "traceback",
        "warnings",
        "zlib",
    }
    for path in PACKAGE.rglob("*.py"):
        for name in imports_of(path)[1]:
            lazily = path.parts[-2] in ("demo", "attention") or path.name in ("__main__.py", "reporting.py")
            drawn_or_lent = {"rich", "matplotlib", "sklearn"}
            assert name[0] in allowed | standard | {"typing"} or (lazily and name[0] in drawn_or_lent), path
            assert not any(part.startswith("_") and not part.startswith("__") for part in name), f"{path}: {name}"


def test_no_module_has_the_name_of_a_public_function():
    modules = {path.stem for path in PACKAGE.rglob("*.py")}
    functions = set()
    for module in (jaxelbo, jaxelbo.families, jaxelbo.bounds, jaxelbo.estimators, jaxelbo.algorithms):
        functions |= {name for name, value in vars(module).items() if callable(value)}
    assert not modules & functions


def test_files_are_small():
    for path in PACKAGE.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 320, path
