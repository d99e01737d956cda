"""Makes ``docs/tutorial.ipynb`` from ``docs/tutorial.py``: the same cells, executed, with what they show."""

import tempfile
from pathlib import Path

import jupytext
from nbclient import NotebookClient

TEXT = Path(__file__).parents[1] / "docs" / "tutorial.py"


def main() -> None:
    """Executes the text and writes the notebook beside it."""
    notebook = jupytext.read(TEXT)
    with tempfile.TemporaryDirectory() as scratch:
        place = {"metadata": {"path": scratch}}
        NotebookClient(notebook, timeout=170, kernel_name="python3", resources=place).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times, which would change at each run
    jupytext.write(notebook, TEXT.with_suffix(".ipynb"), fmt="ipynb")


if __name__ == "__main__":
    main()
