"""The `fdrn` command: exit codes, one-line errors, lazy imports, arguments passed through."""

import os
import signal
import subprocess
import sys
import warnings

import pytest

from fdrn_adapter import __version__, cli, zoo
from fdrn_adapter.commands import zoo as zoo_command


def test_nothing_heavy_is_imported_for_help():
    code = (
        "import sys; from fdrn_adapter import cli; cli.make_parser(None).format_help();"
        "print([m for m in sys.modules if m in "
        "('fdrn_adapter.commands.demo', 'fdrn_adapter.commands.complexity',"
        " 'fdrn_adapter.launcher', 'matplotlib', 'skimage', 'timm', 'ritm_annotation', 'isegm')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_of_no_command_waits_for_torch():
    code = """
import contextlib, io, sys
from fdrn_adapter import cli
for command in cli.COMMANDS:
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        cli.main([command, "--help"])
    print(command, len(out.getvalue()) > 100, {"torch", "cv2", "matplotlib"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:-1] == [f"{name} True set()" for name in cli.COMMANDS]


def test_python_m_is_the_command():
    command = [sys.executable, "-m", "fdrn_adapter", "zoo"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "H2-hrnet18s" in done.stdout


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith(f"fdrn_adapter {__version__}, torch ")


def test_without_a_command_help_and_exit_code_2(capsys):
    assert cli.main([]) == 2
    out, err = capsys.readouterr()
    assert out == "" and all(name in err for name in cli.COMMANDS)


@pytest.mark.parametrize("command", sorted(cli.COMMANDS))
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([command, "--help"])
    assert stop.value.code == 0
    assert f"usage: fdrn {command}" in capsys.readouterr().out


def test_unknown_command_lists_them(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["tune"])
    assert stop.value.code == 2
    assert "complexity" in capsys.readouterr().err


def test_errors_are_one_line_and_exit_code_2(capsys):
    assert cli.main(["complexity", "--models", "RITM-hrnet19"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("fdrn: error: There is no 'RITM-hrnet19' in the zoo.")
    assert len(err.strip().splitlines()) == 1


def test_debug_shows_the_traceback():
    with pytest.raises(ValueError, match="RITM-hrnet19"):
        cli.main(["--debug", "complexity", "--models", "RITM-hrnet19"])


@pytest.mark.parametrize("error", [RuntimeError, OSError, zoo.NoCodeBaseError])
def test_what_counts_as_an_error_of_the_user(monkeypatch, capsys, error):
    def fail(args):
        raise error("no such thing")

    monkeypatch.setattr(zoo_command, "main", fail)
    assert cli.main(["zoo"]) == 2
    assert capsys.readouterr().err == "fdrn: error: no such thing\n"


@pytest.mark.parametrize(("words", "start"), [
    (["zoo"], "fdrn: warning: slow today\n"), (["--debug", "zoo"], __file__),
])
def test_warnings_are_one_line_without_our_source(monkeypatch, capsys, words, start):
    before = warnings.formatwarning

    def warn(args):  # as Python does; pytest would take the warning itself
        print(warnings.formatwarning("slow today", UserWarning, __file__, 1, ""), file=sys.stderr)
        return 0

    monkeypatch.setattr(zoo_command, "main", warn)
    assert cli.main(words) == 0
    assert capsys.readouterr().err.startswith(start)
    assert warnings.formatwarning is before


def test_a_bug_of_ours_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(zoo_command, "main", lambda args: {}["key"])
    with pytest.raises(KeyError):
        cli.main(["zoo"])


def test_ctrl_c(monkeypatch, capsys):
    def interrupted(args):
        raise KeyboardInterrupt

    monkeypatch.setattr(zoo_command, "main", interrupted)
    assert cli.main(["zoo"]) == 130
    assert capsys.readouterr().err == "\nfdrn zoo: interrupted\n"


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_in_a_real_process():
    code = (
        "import os, signal, sys; from fdrn_adapter import cli;"
        "from fdrn_adapter.commands import zoo;"
        "zoo.main = lambda args: os.kill(os.getpid(), signal.SIGINT) or 0;"
        "sys.exit(cli.main(['zoo']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (128 + signal.SIGINT, "\nfdrn zoo: interrupted\n")


def test_run_leaves_the_scripts_arguments_alone():
    theirs = ["--version", "--debug", "-h", "--gpus=0", "demo", "--codebase", "x"]
    argv = ["run", "--codebase", "ritm", "demo.py", *theirs]
    args = cli.make_parser("run").parse_args(argv)
    assert (args.codebase, args.script, args.arguments) == ("ritm", "demo.py", theirs)
    assert not args.version and not args.debug


def test_errors_in_a_users_script_keep_their_traceback(monkeypatch):
    from fdrn_adapter import launcher

    def script_fails(args):
        raise ValueError("in the script")

    monkeypatch.setattr(launcher, "main", script_fails)
    with pytest.raises(ValueError, match="in the script"):
        cli.main(["run", "--codebase", "x", "train.py"])


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX pipes")
def test_a_reader_that_stops_reading_is_no_error():
    buffered = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-m", "fdrn_adapter", "zoo"], stdout=write,
                          stderr=subprocess.PIPE, text=True, env=buffered)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["nofile.pth", "folder/nofile", "./none.pt"])
def test_a_missing_file_is_said_to_be_one(name, tmp_path, capsys):
    assert cli.main(["export", "--model", name, "--out", str(tmp_path)]) == 2
    assert f"There is no file {name}" in capsys.readouterr().err


def test_a_folder_of_a_training_is_no_network_but_holds_one(tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.pth").touch()
    assert cli.main(["export", "--model", str(tmp_path / "run"), "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert f"Did you mean '{tmp_path / 'run' / 'model.pth'}'?" in said and "config.json" in said


def test_a_command_misspelt_is_guessed(capsys):
    assert cli.main(["annotat", "DIR"]) == 2
    assert "no command 'annotat'; did you mean 'annotate'?" in capsys.readouterr().err
