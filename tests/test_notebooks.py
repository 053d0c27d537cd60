import pathlib

import jupytext
import nbformat
import pytest

from notebooks import execute

NOTEBOOKS = sorted((pathlib.Path(__file__).parent.parent / "notebooks").glob("[0-9]*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path, monkeypatch):
    """In its short mode; each asserts its own headline numbers."""
    monkeypatch.setenv("JAXELBO_SHORT", "1")
    execute.execute(path)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_notebook_is_the_scripts(path):
    """The .ipynb holds the same cells as the .py, with outputs."""
    stored = nbformat.read(path.with_suffix(".ipynb"), as_version=4)
    script = jupytext.read(path)
    assert [cell.source for cell in stored.cells] == [cell.source for cell in script.cells]
    assert sum(bool(cell.get("outputs")) for cell in stored.cells) >= 5
    assert not any(output.output_type == "error" for cell in stored.cells for output in cell.get("outputs", []))
