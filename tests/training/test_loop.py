"""The loop on a task of a few pixels: it learns, stops, goes on exactly, and says what is wrong."""

import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace

import pytest
import torch
from tiny_task import TinyTask

from framelets.core.run_folder import RunFolder
from framelets.training import RunConfig, Task, load_weights, train
from framelets.training.loop import read_log

CONFIG = RunConfig(
    network="small",
    num_steps=30,
    warmup_steps=5,
    batch_size=4,
    learning_rate=1e-2,
    log_every=5,
    validate_every=10,
    checkpoint_every=7,
    accelerator="cpu",
)


def assert_equal_states(first, second):
    for name, value in first.state_dict().items():
        torch.testing.assert_close(value, second.state_dict()[name], rtol=0, atol=0)


class StopAt(TinyTask):
    """A task whose batch of one step sends this process a signal."""

    def __init__(self, step, number):
        """Name the step and the signal."""
        self._step, self._number = step, number

    def training_batch(self, step, batch_size, seed):
        """Draw the same batches, but send the signal first."""
        if step == self._step:
            os.kill(os.getpid(), self._number)
        return super().training_batch(step, batch_size, seed)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = RunFolder(tmp_path_factory.mktemp("whole"))
    return folder, train(TinyTask(), CONFIG, folder, progress=False)


def test_tiny_task_is_a_task():
    assert isinstance(TinyTask(), Task)


@pytest.mark.parametrize("settings", [{}, {"optimizer": "sgd"}, {"average_decay": 0.0}], ids=str)
def test_network_learns(settings, tmp_path):
    config = replace(CONFIG, num_steps=300, checkpoint_every=300, **settings)
    torch.manual_seed(config.seed)
    untrained = TinyTask().validate(TinyTask().network("small"))

    result = train(TinyTask(), config, RunFolder(tmp_path), progress=False)

    assert result.finished
    assert result.num_steps == 300
    assert result.figures["psnr"] > untrained["psnr"] + 10


def test_run_leaves_logs_and_weights(uninterrupted):
    folder, result = uninterrupted
    rows = read_log(folder.path / "log.csv")
    state, card = load_weights(folder.path / "weights.safetensors")

    assert [row["step"] for row in rows] == [5, 10, 15, 20, 25, 30]
    assert [row["step"] for row in rows if "validation_psnr" in row] == [10, 20, 30]
    assert rows[-1]["validation_psnr"] == pytest.approx(result.figures["psnr"], rel=1e-5)
    assert list((folder.path / "tensorboard").glob("events*"))
    assert state.keys() == result.network.state_dict().keys()
    assert card["config"]["learning_rate"] == CONFIG.learning_rate
    assert card["data"] == {"source": "random numbers", "license": "none needed"}
    assert card["num_parameters"] == result.num_parameters == 20 + 4 + 19


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_leaves_a_state_that_resumes_exactly(number, uninterrupted, tmp_path):
    whole, result = uninterrupted
    folder = RunFolder(tmp_path)
    delivered = []
    before = signal.signal(number, lambda *_: delivered.append(number))
    try:
        stopped = train(StopAt(11, number), CONFIG, folder, progress=False)
    finally:
        signal.signal(number, before)

    assert delivered == [number]
    assert (stopped.finished, stopped.num_steps) == (False, 12)
    assert not folder.has("weights.safetensors")

    resumed = train(TinyTask(), CONFIG, folder, progress=False)

    assert_equal_states(resumed.network, result.network)
    assert resumed.figures == result.figures
    rows, wanted = (read_log(f.path / "log.csv") for f in (folder, whole))
    for row in (*rows, *wanted):
        del row["seconds"]
    assert rows == wanted


def test_kill_loses_what_followed_the_last_checkpoint(uninterrupted, tmp_path):
    script = """
        import os, signal, sys
        sys.path.insert(0, sys.argv[2])
        from test_loop import CONFIG, StopAt, RunFolder, train
        train(StopAt(17, signal.SIGKILL), CONFIG, RunFolder(sys.argv[1]), progress=False)
    """
    here = os.path.dirname(__file__)  # noqa: PTH120
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path), here]
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.run(command, env=os.environ | threads, timeout=120, check=False)

    assert process.returncode == -signal.SIGKILL
    state = torch.load(tmp_path / "checkpoint" / "last.pt", weights_only=True)
    assert state["step"] == 14
    resumed = train(TinyTask(), CONFIG, RunFolder(tmp_path), progress=False)
    assert_equal_states(resumed.network, uninterrupted[1].network)


def test_time_limit_leaves_a_resumable_state(tmp_path):
    config = replace(CONFIG, max_seconds=1e-9)
    folder = RunFolder(tmp_path)

    first = train(TinyTask(), config, folder, progress=False)
    second = train(TinyTask(), config, folder, progress=False)

    assert (first.finished, first.num_steps, second.num_steps) == (False, 1, 2)


def test_finished_run_is_not_trained_again(uninterrupted):
    folder, result = uninterrupted

    again = train(TinyTask(), CONFIG, folder, progress=False)

    assert_equal_states(again.network, result.network)
    assert again.figures == result.figures


def test_progress_bar_shows_loss_and_psnr(tmp_path, capsys):
    train(TinyTask(), CONFIG, RunFolder(tmp_path))

    captured = capsys.readouterr()
    assert captured.out == ""
    assert "PSNR" in captured.err
    assert "30/30" in captured.err


def test_resume_refuses_other_settings(uninterrupted):
    folder, _ = uninterrupted
    config = replace(CONFIG, learning_rate=1e-4)

    with pytest.raises(ValueError, match=r"learning_rate = 0\.01, not 0\.0001; resume with"):
        train(TinyTask(), config, folder, progress=False)


def test_loop_refuses_a_loss_that_is_not_finite(tmp_path):
    class Broken(TinyTask):
        def loss(self, network, batch):
            return super().loss(network, batch) * float("nan")

    with pytest.raises(ValueError, match="not finite at step 0"):
        train(Broken(), CONFIG, RunFolder(tmp_path), progress=False)


def test_loop_refuses_a_folder_in_use(tmp_path):
    folder = RunFolder(tmp_path)

    with folder.lock("reconstruct"), pytest.raises(OSError, match="reconstruct"):
        train(TinyTask(), CONFIG, RunFolder(tmp_path), progress=False)
