"""--out is looked at before anything is read or computed, and the message names it."""

import subprocess
import sys

import pytest

from fdrn_adapter.writable import check_writable

COMMANDS = {
    "demo": ["--out"],
    "benchmark": ["--models", "graphcut", "--datasets", "GrabCut=none", "--out"],
    "encode": ["--encoder", "distilled_lite0", "--data", "none", "--out"],
    "export": ["--model", "lite-fdrn-context", "--out"],
    "profile": ["--costs", "--out"],
    "segment": ["none.jpg", "--click", "1,1", "--out"],
    "train": ["--data", "none", "--out"],
    "wrap": [__file__],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_out_comes_first(command, tmp_path):
    (tmp_path / "file").touch()
    out = str(tmp_path / "file" / "out.png")
    code = (
        "import sys\nfrom fdrn_adapter import cli\nrc = cli.main(sys.argv[1:])\n"
        "print(rc, 'torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code, command, *COMMANDS[command], out],
                         capture_output=True, text=True, check=True, cwd=tmp_path)
    assert ran.stdout.split() == ["2", "False"], ran.stderr
    assert str(tmp_path / "file") in ran.stderr and len(ran.stderr.splitlines()) == 1


def test_looking_leaves_nothing_behind(tmp_path):
    check_writable(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []
    check_writable(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="file/a cannot be written to"):
        check_writable(tmp_path / "file" / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
