"""The command line: help, exit codes, one line for a mistake, JSON, signals."""

import json
import os
import signal
import subprocess
import sys

import pytest

from framelets import cli
from framelets.core import Result

COMMANDS = [
    "demo",
    "simulate",
    "reconstruct",
    "explain",
    "lint",
    "audit",
    "train",
    "evaluate",
    "reproduce",
    "report",
    "list",
]


@pytest.fixture
def evaluate(monkeypatch):
    """Put something else in place of what `evaluate` calls."""

    def replace(function):
        monkeypatch.setattr("framelets.commands.evaluate.evaluate", function)

    return replace


def raising(error):
    def function(_):
        raise error

    return function


def one_line(captured):
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("framelets: ")
    return line


def test_help_names_every_command(capsys):
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(command in text for command in COMMANDS)
    assert "not a medical device" in " ".join(text.split())


def test_no_arguments_show_help(capsys):
    assert cli.main([]) == 0
    assert "Usage" in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_has_an_example_and_json(command, capsys):
    assert cli.main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"framelets {command}" in text
    assert "Example" in text
    assert "--json" in text


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("framelets ")


def run_python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_starting_does_not_wait_for_torch():
    code = "import sys, framelets.cli; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert run_python(code).returncode == 0


def test_a_missing_file_does_not_wait_for_torch():
    words = ["reconstruct", "no-scan.npz"]
    code = f"import sys, framelets.cli as c; print(c.main({words}), 'torch' in sys.modules)"
    result = run_python(code)

    assert result.stdout.split() == ["2", "False"]
    assert "no-scan.npz" in result.stderr


def test_only_training_waits_for_lightning():
    names = ["demo", "simulate", "reconstruct", "explain", "lint", "audit", "train", "reproduce"]
    modules = ", ".join(f"framelets.commands.{name}" for name in names)
    late = "{'lightning_fabric', 'tensorboard', 'torchmetrics'}"
    result = run_python(f"import sys, {modules}; print({late} & set(sys.modules))")

    assert result.stdout.strip() == "set()"


def test_runs_as_a_module():
    command = [sys.executable, "-m", "framelets", "--version"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.startswith("framelets ")


def test_json_is_all_there_is_on_stdout(evaluate, capsys):
    evaluate(lambda runs: Result("metrics", {"runs": [str(run) for run in runs]}))

    assert cli.main(["evaluate", "a", "b", "--json"]) == 0

    assert json.loads(capsys.readouterr().out) == {"runs": ["a", "b"]}


def test_tables_notes_and_files_are_printed(evaluate, capsys, tmp_path):
    table = ("title", ["method", "PSNR"], [["fbp", 20.5]])
    page = tmp_path / ("a-long-name-" * 12)
    evaluate(lambda _: Result("", {}, [table], notes=["[a note]"], files={"report": page}))

    assert cli.main(["evaluate", "a"]) == 0

    text = capsys.readouterr().out
    assert "fbp" in text
    assert "20.5" in text
    assert "[a note]" in text
    assert f"report: {page}\n" in text  # whole, to be copied


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["reconstrukt"], "reconstruct"),
        (["reconstruct", "scan.npz", "--vews", "3"], "--views"),
        (["reconstruct", "--views", "many", "scan.npz"], "--views"),
        (["reconstruct", "absent.npz"], "'absent.npz' does not exist"),
        (["reconstruct"], "scan"),
    ],
)
def test_refuses_a_wrong_command_line(words, message, capsys):
    assert cli.main(words) == 2
    assert message in one_line(capsys.readouterr())


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("size must be 3,\n got 4"), "size must be 3, got 4"),
        (TypeError("network must be a module"), "network must be a module"),
        (FileNotFoundError("there is no scan x"), "there is no scan x"),
        (PermissionError(13, "Permission denied", "/root/x"), "/root/x: Permission denied"),
        (ModuleNotFoundError("No module named 'finufft'", name="finufft"), "pip install finufft"),
        (MemoryError("12 GB"), "not enough memory: 12 GB"),
    ],
)
def test_refuses_a_mistake_in_one_line(error, message, evaluate, capsys):
    evaluate(raising(error))
    assert cli.main(["evaluate", "a"]) == 2
    assert message in one_line(capsys.readouterr())


def test_a_fault_of_ours_is_not_hidden(evaluate):
    evaluate(raising(RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main(["evaluate", "a"])


def test_traceback_shows_where_an_error_arose(evaluate, monkeypatch):
    monkeypatch.setenv("FRAMELETS_TRACEBACK", "0")  # set by the option; restored afterwards
    evaluate(raising(ValueError("wrong")))
    with pytest.raises(ValueError, match="wrong"):
        cli.main(["--traceback", "evaluate", "a"])


def test_an_interrupted_command_without_a_rest_promises_nothing(evaluate, capsys):
    evaluate(raising(KeyboardInterrupt()))
    assert cli.main(["evaluate", "a"]) == 130
    assert one_line(capsys.readouterr()) == "framelets: interrupted; nothing was kept"


@pytest.mark.parametrize(
    ("words", "called", "left"),
    [
        (["train", "sparse-view-ct/unet", "--run", "r"], "train.train", "--run r goes on"),
        (["train", "sparse-view-ct/unet"], "train.train", "--run runs/train-sparse-view-ct-unet"),
        (["reproduce", "x"], "reproduce.reproduce", "--run runs/reproduce-x goes on"),
        (["reconstruct", ".", "--run", "r"], "reconstruct.reconstruct", "--run r goes on"),
        (["reconstruct", "scan.npz"], "reconstruct.reconstruct", "nothing was kept"),
        (["explain", "a:b", "--at", "scan.npz"], "explain.explain", "nothing was kept"),
        (["demo", "--run", "r"], "demo.demo", "page in r was not written; run the command again"),
    ],
)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_command_says_what_is_left(
    words, called, left, number, code, monkeypatch, tmp_path, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scan.npz").write_bytes(b"")
    module, function = called.split(".")
    monkeypatch.setattr(
        f"framelets.commands.{module}.{function}",
        lambda *_, **__: signal.raise_signal(number),
    )

    assert cli.main(words) == code

    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("framelets: interrupted; ")
    assert left in line


def test_termination_ends_the_command_and_restores_the_handler(evaluate, capsys):
    before = signal.getsignal(signal.SIGTERM)
    evaluate(lambda _: os.kill(os.getpid(), signal.SIGTERM))

    assert cli.main(["evaluate", "a"]) == 143

    assert "interrupted; nothing was kept" in one_line(capsys.readouterr())
    assert signal.getsignal(signal.SIGTERM) is before
