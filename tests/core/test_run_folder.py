"""Run folders: locks that die with their process, files that appear whole, honest records."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch

import framelets.core.run_folder as run_folder_module
from framelets.core.run_folder import (
    RunFolder,
    RunFolderLockedError,
    read_arrays,
    write_atomically,
)

HOLD_LOCK = """
import sys, time
from framelets.core.run_folder import RunFolder
with RunFolder(sys.argv[1]).lock("train"):
    print("locked", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "run")


@pytest.fixture
def holder(folder):
    """A process that holds the lock of the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD_LOCK, str(folder.path)], stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout.readline() == "locked\n"
        yield process
        process.kill()


def names(folder):
    return sorted(path.name for path in folder.path.iterdir())


def test_round_trips(folder):
    image = torch.arange(6.0).reshape(2, 3)
    folder.write_json("metrics.json", {"psnr_db": np.float64(31.5), "views": image[0]})
    folder.write_text("config.toml", "unit = 'µm'\n")
    folder.write_bytes("checkpoint/state.pt", b"\0\1")
    folder.write_npz("reconstruction.npz", unet=image, note="1/mm", peak=0.5)

    assert folder.read_json("metrics.json") == {"psnr_db": 31.5, "views": [0.0, 1.0, 2.0]}
    assert folder.read_text("config.toml") == "unit = 'µm'\n"
    assert folder.read_bytes("checkpoint/state.pt") == b"\0\1"
    arrays = folder.read_npz("reconstruction.npz")
    np.testing.assert_array_equal(arrays["unet"], image.numpy())
    assert (str(arrays["note"]), float(arrays["peak"])) == ("1/mm", 0.5)
    assert folder.has("config.toml")
    assert not folder.has("report.html")
    assert names(folder) == ["checkpoint", "config.toml", "metrics.json", "reconstruction.npz"]


def test_files_obey_the_umask(folder):
    previous = os.umask(0o027)
    try:
        folder.write_text("a.txt", "")
    finally:
        os.umask(previous)

    assert folder.file("a.txt").stat().st_mode & 0o777 == 0o640


def test_second_process_is_refused_and_told_who(folder, holder):
    wanted = re.escape(f"in use by process {holder.pid} on ") + r".*\(stage train, since 20.*choose"
    with pytest.raises(RunFolderLockedError, match=wanted), folder.lock("explain"):
        pass


def test_lock_ends_with_a_killed_process(folder, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    leftover = folder.path / ".metrics.json.0123abcd.partial"
    leftover.touch()

    with folder.lock("explain"):
        assert f"process {os.getpid()}" in (folder.path / ".lock").read_text()
        assert not leftover.exists()


def test_lock_can_be_taken_again(folder):
    for stage in ("simulate", "train"):
        with folder.lock(stage):
            pass

    with (
        folder.lock("train"),
        pytest.raises(RunFolderLockedError, match="stage train"),
        RunFolder(folder.path).lock("explain"),
    ):
        pass


def test_failed_write_keeps_the_old_file(folder):
    folder.write_text("metrics.json", "old")

    def fill_disk(stream):
        stream.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=r"cannot write .*metrics.json: No space left .* unchanged"):
        write_atomically(folder.file("metrics.json"), fill_disk)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(folder.file("metrics.json"), lambda _: signal.raise_signal(signal.SIGINT))

    assert folder.read_text("metrics.json") == "old"
    assert names(folder) == ["metrics.json"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is full")  # noqa: PTH110
def test_full_disk_is_one_clear_line(folder, monkeypatch):
    # The kernel's own failure at flush, not a simulated one.
    monkeypatch.setattr(run_folder_module.Path, "open", lambda *_: open("/dev/full", "wb"))  # noqa: PTH123, SIM115

    with pytest.raises(OSError, match="No space left on device") as caught:
        folder.write_text("metrics.json", "new")

    assert caught.value.errno == errno.ENOSPC
    assert names(folder) == []


def test_run_json_records_and_keeps_history(folder):
    folder.write_run_json(["framelets", "train", "a.toml"], seed=3, stage="train")
    folder.write_run_json("framelets explain", seed=None)

    record = folder.read_json("run.json")
    assert record["schema_version"] == 1
    assert (record["command"], record["seed"]) == ("framelets explain", None)
    assert record["versions"]["torch"] == torch.__version__
    assert record["machine"]["cores"] == os.cpu_count()
    assert record["machine"]["memory_bytes"] > 2**28
    assert set(record) >= {"time", "git"}
    (earlier,) = record["earlier"]
    assert (earlier["command"], earlier["stage"]) == ("framelets train a.toml", "train")


def test_git_state_of_a_checkout(tmp_path, monkeypatch):
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    source = tmp_path / "run_folder.py"
    source.write_text("")
    monkeypatch.setattr(run_folder_module, "__file__", str(source))
    subprocess.run([*git, "init", "-q"], check=True)
    assert run_folder_module._git_state() is None  # a package that the repository does not track
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "first"], check=True)

    state = run_folder_module._git_state()
    source.write_text("# changed")

    assert state["clean"]
    assert re.fullmatch("[0-9a-f]{40}", state["commit"])
    assert run_folder_module._git_state() == state | {"clean": False}


@pytest.mark.parametrize("name", ["/etc/passwd", "../other.json", "a/../../b", ""])
def test_refuses_names_outside_the_folder(folder, name):
    with pytest.raises(ValueError, match="must stay inside the run folder"):
        folder.write_text(name, "")


def test_refuses_what_json_and_npz_cannot_hold(folder):
    with pytest.raises(ValueError, match=r"metrics.json cannot hold .*write None or text"):
        folder.write_json("metrics.json", {"psnr_db": float("inf")})
    with pytest.raises(TypeError, match="JSON cannot hold object"):
        folder.write_json("metrics.json", object())
    with pytest.raises(TypeError, match="list must be an array of numbers or text, got list"):
        folder.write_npz("a.npz", list=[object()])
    assert names(folder) == []


def test_read_refuses_missing_and_broken_files(folder):
    folder.write_text("metrics.json", '{"psnr')
    with pytest.raises(FileNotFoundError, match=r"has no run.json; it has metrics.json"):
        folder.read_json("run.json")
    with pytest.raises(FileNotFoundError, match=r"has no geometry.npz"):
        folder.read_npz("geometry.npz")
    with pytest.raises(ValueError, match=r"metrics.json is not JSON"):
        folder.read_json("metrics.json")


def test_refuses_a_file_as_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="run folder must be a folder, got the file"):
        RunFolder(tmp_path / "file")
    with pytest.raises(OSError, match="cannot make run folder"):
        RunFolder(tmp_path / "file" / "run")


def test_read_arrays_refuses_hostile_archives(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, image=np.random.default_rng(0).normal(size=(40, 40)))
    whole = path.read_bytes()
    for broken in (b"", whole[:100], whole[: len(whole) // 2], whole[500:], b"PK\x03\x04text"):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match="damaged, cut short or no npz archive"):
            read_arrays(path)
    path.write_bytes(whole[:500] + bytes(100) + whole[600:])  # a flipped part in the middle
    with pytest.raises(ValueError, match="damaged, cut short or no npz archive"):
        read_arrays(path)
    np.savez(path, image=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match=r"pickled Python objects.*np.savez"):
        read_arrays(path)
    np.savez_compressed(path, image=np.zeros(2**20))
    with pytest.raises(ValueError, match=r"unpacks to .* more than the allowed"):
        read_arrays(path, max_bytes=2**20)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", json.dumps({}))
    with pytest.raises(ValueError, match=r"notes.txt: "):
        read_arrays(path)
