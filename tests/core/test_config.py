"""Configurations: defaults, files, overrides, round trips, and one clear line for a mistake."""

import dataclasses
from pathlib import Path
from typing import Literal

import pytest

from framelets.core.config import dump_config, load_config


@dataclasses.dataclass(frozen=True)
class Scan:
    """A nested table."""

    num_views: tuple[int, ...] = (60, 120)
    detector_spacing_mm: float = 0.2
    kind: Literal["parallel", "fan"] = "fan"


@dataclasses.dataclass(frozen=True)
class Config:
    """A field of every kind."""

    seed: int = 0
    title: str = "a"
    photons_per_ray: float | None = 1e5
    residual: bool = False
    window: tuple[float, float] = (0.0, 1.0)
    weights: Path | None = None
    size: int | str = "auto"
    scan: Scan = dataclasses.field(default_factory=Scan)
    loss: dict[str, float] = dataclasses.field(default_factory=dict)
    scans: tuple[Scan, ...] = ()

    def __post_init__(self):
        """Refuse as configurations do."""
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, got {self.seed}")


@dataclasses.dataclass(frozen=True)
class Needy:
    """A field without default."""

    path: str


@pytest.fixture
def load(tmp_path):
    def load_text(text, overrides=None, cls=Config):
        path = tmp_path / "config.toml"
        path.write_text(text, encoding="utf-8")
        return load_config(cls, path, overrides)

    return load_text


def test_defaults():
    assert load_config(Config) == Config()
    assert load_config(Config, None, {}) == Config()


def test_file_and_overrides(load):
    config = load(
        """
        seed = 7
        photons_per_ray = 20_000
        weights = "a/b.safetensors"
        window = [0, 0.05]
        size = 4
        loss.l1 = 1
        [scan]
        num_views = [30]
        kind = "parallel"
        [[scans]]
        kind = "fan"
        """,
        {"scan.num_views": [90, 60], "scan": {"detector_spacing_mm": 1}, "seed": 8},
    )

    assert config == Config(
        seed=8,
        photons_per_ray=20000.0,
        weights=Path("a/b.safetensors"),
        window=(0.0, 0.05),
        size=4,
        scan=Scan(num_views=(90, 60), detector_spacing_mm=1.0, kind="parallel"),
        loss={"l1": 1.0},
        scans=(Scan(),),
    )
    assert isinstance(config.scan.detector_spacing_mm, float)


@pytest.mark.parametrize(
    "config",
    [
        Config(),
        Config(photons_per_ray=None, weights=Path("w"), residual=True, size=3),
        Config(title='quote " and \n line µ', scan=Scan((1,), 1e-9), scans=(Scan(), Scan(()))),
        Config(loss={"l1": 1.0, "a b": float("inf")}, window=(-1e300, 1 / 3)),
    ],
    ids=range(4),
)
def test_dump_round_trips(config, load):
    assert load(dump_config(config)) == config


def test_none_in_a_file(load):
    assert load('photons_per_ray = "none"').photons_per_ray is None
    assert load("", {"photons_per_ray": None}).photons_per_ray is None


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("sed = 1", ValueError, r"config key in .*toml must be .*got 'sed'; did you mean 'seed'"),
        ("scan.num_view = [1]", ValueError, r"\[scan\] key in .*did you mean 'num_views'"),
        ("seed = 1.5", TypeError, r"seed in .* must be a whole number, got 1.5 \(a number\)"),
        ("seed = true", TypeError, r"seed .* whole number, got True \(true or false\)"),
        ("residual = 1", TypeError, "residual .* must be true or false, got 1"),
        ("title = 3", TypeError, "title .* must be text, got 3"),
        ('photons_per_ray = "many"', TypeError, r"photons_per_ray .* a number, got 'many' \(text"),
        ("photons_per_ray = nan", ValueError, "photons_per_ray .* must be a number, got nan"),
        ("window = [1]", ValueError, "window .* must have 2 entries, got 1"),
        ("window = 1.0", TypeError, "window .* must be an array, got 1.0"),
        ('window = [0, "b"]', TypeError, r"window\[1\] .* must be a number, got 'b'"),
        ("scan = 3", TypeError, "scan .* must be a table, got 3"),
        ('scan.kind = "fann"', ValueError, "kind .* fan, parallel, got 'fann'; did you mean 'fan'"),
        ("scan.kind = 1", ValueError, "scan.kind .* must be one of fan, parallel, got '1'"),
        ("loss = 1", TypeError, "loss .* must be a table"),
        ("size = 1.5", TypeError, "size .* must be a whole number or text, got 1.5"),
        ("seed = -1", ValueError, "seed must not be negative, got -1"),
        ("seed = 1\na b", ValueError, "config.toml is not TOML: .*line 2"),
    ],
)
def test_refuses_mistakes_with_one_line(load, text, error, message):
    with pytest.raises(error, match=message) as caught:
        load(text)
    assert "\n" not in str(caught.value)


def test_refuses_missing_and_unreadable_files(tmp_path, load):
    with pytest.raises(FileNotFoundError, match=r"there is no config file .*absent.toml"):
        load_config(Config, tmp_path / "absent.toml")
    with pytest.raises(IsADirectoryError, match="must be a file, got the folder"):
        load_config(Config, tmp_path)
    (tmp_path / "latin.toml").write_bytes(b'title = "\xe9"')
    with pytest.raises(ValueError, match="not a text file in UTF-8"):
        load_config(Config, tmp_path / "latin.toml")
    with pytest.raises(ValueError, match="key path is missing in"):
        load("", cls=Needy)


def test_overrides_refuse_as_files_do():
    with pytest.raises(ValueError, match=r"\[scan\] key must be one of .*did you mean 'kind'"):
        load_config(Config, None, {"scan.kin": "fan"})
    with pytest.raises(TypeError, match=r"seed must be a table to set seed.x, got 3"):
        load_config(Config, None, {"seed": 3, "seed.x": 1})


def test_dump_refuses_other_things():
    with pytest.raises(TypeError, match="config must be an instance of a dataclass"):
        dump_config({"seed": 1})
    with pytest.raises(TypeError, match="config must be an instance of a dataclass"):
        dump_config(Config)
