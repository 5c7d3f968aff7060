"""A pytest plugin that pins what a network does to given images between releases.

In `conftest.py`: `pytest_plugins = ["framelets.testing.pytest_plugin"]`. In a test:

    def test_the_release_behaves_as_the_last(pinned_geometry):
        pinned_geometry(load_network(), {"chest": chest, "head": head})

`pytest --framelets-update` writes the figures into a JSON file beside the test, to be committed;
without it they are compared with that file. A missing file fails.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

from framelets.core import refuse_unknown, write_atomically
from framelets.geometry import linearize, local_figures

TOLERANCES = {
    "output_norm": 1e-3,
    "lipschitz_lower": 2e-2,
    "offset_share": 1e-3,
    "active_share": 1e-3,
    "replay_error": 1e-5,
}
"""How far a figure may move: of the first two relative to what it was, of the others absolutely."""

_RELATIVE = {"output_norm", "lipschitz_lower"}
_UPDATE = "--framelets-update"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --framelets-update."""
    parser.getgroup("framelets").addoption(
        _UPDATE, action="store_true", help="Write the figures of pinned_geometry anew."
    )


class PinnedGeometry:
    """Compares the geometry of a network at given images with a file; a fixture makes it.

    Attributes:
        path: The file.
    """

    def __init__(self, path: Path, update: bool) -> None:
        """Take the file and whether to write it."""
        self.path = path
        self._update = update
        self._called = False

    def __call__(
        self,
        network: nn.Module | Callable[[Tensor], Tensor],
        images: Mapping[str, Tensor],
        *,
        forward: Callable[..., Tensor] | None = None,
        tolerances: Mapping[str, float] | None = None,
        pattern: bool = False,
    ) -> None:
        """Fail with a table of what moved, unless every figure at every image is what it was.

        The figures are those of `framelets.geometry.LocalFigures`; `lipschitz_lower` is a certified
        lower bound of K_p, the others are exact.

        Args:
            network: The network, in evaluation mode.
            images: Images with their batch axis of one, by name.
            forward: How to call the network, if not `network(image)`.
            tolerances: In place of some of `TOLERANCES`.
            pattern: Compare the fingerprint of all units too. One unit on the other side of zero
                changes it, and so may another machine.

        Raises:
            ValueError: If a tolerance has no such figure, there is no image, or the fixture was
                called before in this test.
        """
        if self._called:
            raise ValueError("pinned_geometry holds one call; give it all images at once, by name")
        if not images:
            raise ValueError("images must name at least one image, got none")
        self._called = True
        for name in tolerances or {}:
            refuse_unknown("tolerance", name, TOLERANCES)
        allowed = TOLERANCES | dict(tolerances or {})
        found = {name: _figures(network, image, forward, pattern) for name, image in images.items()}
        if self._update:
            content = {"framelets": version("framelets"), "images": found}
            text = json.dumps(content, indent=2, allow_nan=False) + "\n"
            write_atomically(self.path, lambda stream: stream.write(text.encode()))
            return
        moved = _moved(self._read(), found, allowed)
        if moved:
            pytest.fail(
                f"geometry has moved from {self.path.name}:\n{_as_text(moved)}\n"
                f"if this is meant, run pytest {_UPDATE} and commit the file",
                pytrace=False,
            )

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            images = json.loads(self.path.read_text(encoding="utf-8"))["images"]
            return {str(name): dict(figures) for name, figures in images.items()}
        except FileNotFoundError:
            reason = f"there is no file {self.path} to compare with"
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            reason = f"{self.path} is damaged ({error!r})"
        pytest.fail(f"{reason}; run pytest {_UPDATE} and commit it", pytrace=False)


@pytest.fixture
def pinned_geometry(request: pytest.FixtureRequest) -> PinnedGeometry:
    """Compare the geometry of a network with the file `MODULE.TEST.json` beside the test."""
    test = "".join(c if c.isalnum() or c in "-_" else "-" for c in request.node.name).strip("-")
    path = Path(request.path).with_name(f"{request.path.stem}.{test}.json")
    return PinnedGeometry(path, bool(request.config.getoption(_UPDATE)))


def _figures(
    network: nn.Module | Callable[[Tensor], Tensor],
    image: Tensor,
    forward: Callable[..., Tensor] | None,
    pattern: bool,
) -> dict[str, Any]:
    found = asdict(local_figures(linearize(network, image, forward)))
    return {name: found[name] for name in [*TOLERANCES, *["pattern_digest"] * pattern]}


def _moved(
    pinned: Mapping[str, Mapping[str, Any]],
    found: Mapping[str, Mapping[str, Any]],
    allowed: Mapping[str, float],
) -> list[tuple[str, ...]]:
    """List image, figure, what it was, what it is, and how far it may move."""
    moved = []
    for image in {**pinned, **found}:
        was, now = pinned.get(image), found.get(image)
        if was is None or now is None:
            there = ["missing" if figures is None else "present" for figures in (was, now)]
            moved.append((image, "the image", *there, ""))
            continue
        for name, value in now.items():
            limit = _limit(name, was.get(name), allowed)
            if not _close(was.get(name), value, limit):
                words = "equal" if limit is None else f"±{limit:.3g}"
                moved.append((image, name, _cell(was.get(name)), _cell(value), words))
    return moved


def _limit(name: str, was: object, allowed: Mapping[str, float]) -> float | None:
    if name not in allowed or not isinstance(was, (int, float)):
        return None
    return allowed[name] * abs(was) if name in _RELATIVE else allowed[name]


def _close(was: object, now: object, limit: float | None) -> bool:
    if limit is None or not isinstance(was, (int, float)) or not isinstance(now, (int, float)):
        return was == now
    return math.isfinite(was) and abs(now - was) <= limit


def _cell(value: object) -> str:
    return (
        f"{value:.6g}" if isinstance(value, float) else "missing" if value is None else str(value)
    )


def _as_text(rows: list[tuple[str, ...]]) -> str:
    table = [("image", "figure", "was", "is", "allowed"), *rows]
    widths = [max(len(row[i]) for row in table) for i in range(5)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    )
