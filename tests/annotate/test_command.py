"""`fdrn annotate` as people start it."""

import os
import re
import signal
import subprocess
import sys
from importlib import resources
from urllib.request import urlopen

import pytest
from support.annotate_page import network, photographs

import fdrn_adapter

pytest.importorskip("uvicorn")


def test_the_page_is_in_the_package():
    page = resources.files("fdrn_adapter.annotate") / "page"
    names = {path.name for path in page.iterdir()}
    assert {"index.html", "app.js", "style.css"} <= names
    text = "".join(path.read_text(encoding="utf-8") for path in page.iterdir())
    addresses = set(re.findall(r"https?://[\w.]+", text))
    assert addresses == {"http://www.w3.org"}, addresses  # the name of SVG; it is not asked
    imported = set(re.findall(r'from "\./(\w+\.js)"', text))
    assert imported <= names and len(imported) > 8


@pytest.mark.slow
def test_it_starts_says_where_and_stops(tmp_path):
    fdrn_adapter.save(network(), tmp_path / "small.pth")
    folder = photographs(tmp_path / "photos", 2)
    command = [sys.executable, "-m", "fdrn_adapter", "annotate", str(folder), "--no-browser",
               "--port", "0", "--engine", "eager", "--model", str(tmp_path / "small.pth")]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        lines = [process.stdout.readline(), process.stdout.readline()]
        address = re.search(r"2 photographs on (http://127\.0\.0\.1:\d+/)", lines[1])
        assert address, (lines, process.poll())
        assert b"<canvas" in urlopen(address[1]).read()
        second = subprocess.run(command, capture_output=True, text=True)
        assert second.returncode == 2 and "Another process writes annotations" in second.stderr
        process.send_signal(signal.SIGTERM)
        assert process.wait(180) in (0, -signal.SIGTERM)
    finally:
        process.kill()
    assert (folder / "fdrn_annotations" / "states").is_dir()
