"""The notebook of the documentation runs from its first cell to its last."""

import sys
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[1] / "docs" / "first_clicks.ipynb"


@pytest.mark.slow  # .ci/run asks for it
def test_the_notebook_runs(ritm, tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    pytest.importorskip("timm")
    pytest.importorskip("skimage")
    # A kernel of this interpreter, whatever others are installed for the user.
    spec = tmp_path / "kernels" / "python3"
    spec.mkdir(parents=True)
    (spec / "kernel.json").write_text(
        f'{{"argv": ["{sys.executable}", "-m", "ipykernel_launcher", "-f", "{{connection_file}}"],'
        ' "display_name": "Python 3", "language": "python"}'
    )
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(c.outputs for c in notebook.cells if c.cell_type == "code"), "kept without"
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    outputs = [c.outputs for c in notebook.cells if c.cell_type == "code"]
    assert all(o["output_type"] != "error" for cell in outputs for o in cell)
    woman, with_helmet, without = eval(outputs[1][0]["data"]["text/plain"], {
        "np": __import__("numpy")})
    assert 0.02 < woman < 0.5 and without < with_helmet < 0.6
    assert "image/png" in outputs[-1][0]["data"]
