"""The tutorial runs from its first cell to its last, and the notebook is the text that is reviewed."""

from pathlib import Path

import pytest

jupytext = pytest.importorskip("jupytext")
nbclient = pytest.importorskip("nbclient")

TEXT = Path(__file__).parents[1] / "docs" / "tutorial.py"


def test_the_notebook_is_its_text() -> None:
    text, notebook = jupytext.read(TEXT), jupytext.read(TEXT.with_suffix(".ipynb"))
    assert [(cell.cell_type, cell.source) for cell in text.cells] == [
        (cell.cell_type, cell.source) for cell in notebook.cells
    ]
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in shown)
    assert not any(output.output_type == "error" for output in shown)
    assert not any("/tmp/" in str(output) or "/home/" in str(output) for output in shown)


@pytest.mark.filterwarnings("ignore")  # of the notebook's own tools, as they start a kernel
def test_it_runs(tmp_path: Path) -> None:
    notebook = jupytext.read(TEXT)
    place = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=170, kernel_name="python3", resources=place).execute()
