"""What an experiment is given."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


def _silent(name: str) -> Callable[[float], None]:  # noqa: ARG001
    return lambda _: None


@dataclass(frozen=True)
class ExperimentOptions:
    """How to run an experiment.

    Attributes:
        data_folder: Where the measured data lie; default: the environment variable
            `FRAMELETS_DATA`, then `shared/data` beside the current folder's parent.
        quick: Few images only: shows that it runs, proves nothing.
        seed: Seed of all randomness.
        command: The command line, kept with the results.
        stages: Called with the name of a stage that begins; gives where to report its progress.
        weights: Folders of other trainings, each of run folders, to be measured beside the
            shipped weights.
    """

    data_folder: Path | None = None
    quick: bool = False
    seed: int = 0
    command: str = ""
    stages: Callable[[str], Callable[[float], None]] = _silent
    weights: Sequence[Path] = ()

    def find_data(self, files: Sequence[str] = ()) -> Path:
        """Give the folder of measured data.

        Args:
            files: What it must hold.

        Raises:
            FileNotFoundError: If there is no such folder, or a file is not in it.
        """
        named = self.data_folder or os.environ.get("FRAMELETS_DATA")
        folder = Path(named) if named else Path("..") / "shared" / "data"
        if not folder.is_dir():
            raise FileNotFoundError(
                f"there is no folder of measured data {folder}; "
                "give --data, or set the environment variable FRAMELETS_DATA to it"
            )
        missing = [name for name in files if not (folder / name).is_file()]
        if missing:
            raise FileNotFoundError(
                f"folder {folder} has {len(files) - len(missing)} of the {len(files)} files of "
                f"measured data that are needed; missing: {', '.join(missing)}"
            )
        return folder
