"""Runs every notebook's ``.py`` in full and writes the ``.ipynb``, with its outputs, beside it: ``make notebooks``."""

import pathlib

import jupytext
import nbformat
from nbclient import NotebookClient


def execute(path: pathlib.Path) -> nbformat.NotebookNode:
    """The notebook of a percent-script, run in its own folder."""
    notebook = jupytext.read(path)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(path.parent)}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # time stamps, which would change with each run
    return notebook


def main() -> None:
    """Runs them all."""
    for path in sorted(pathlib.Path(__file__).parent.glob("[0-9]*.py")):
        nbformat.write(execute(path), path.with_suffix(".ipynb"))
        print(path.with_suffix(".ipynb"))


if __name__ == "__main__":
    main()
