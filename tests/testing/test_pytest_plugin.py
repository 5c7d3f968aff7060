"""The fixture `pinned_geometry`: writes on demand, fails readably, never creates by itself."""

import json

import pytest

pytest_plugins = ["pytester"]

TEST = """
import torch
from torch import nn

def make(gain, bias=0.5):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 1, 3))
    with torch.no_grad():
        network[2].weight.mul_(gain)
        network[2].bias.fill_(bias)
    return network.eval()

def images(*names):
    generator = torch.Generator().manual_seed(0)
    return {{name: torch.rand(1, 1, 9, 9, generator=generator) for name in names}}

def test_release(pinned_geometry):
    pinned_geometry(make({gain}), images({names}) {options})
"""
FILE = "test_model.test_release.json"


@pytest.fixture
def run(pytester):
    def run(*words, gain=1.0, names="'chest', 'head'", options=""):
        pytester.makepyfile(test_model=TEST.format(gain=gain, names=names, options=options))
        plugin = ["-p", "framelets.testing.pytest_plugin", "-p", "no:cacheprovider"]
        return pytester.runpytest(*plugin, *words)

    return run


def test_writes_when_told_to_and_compares(run, pytester):
    run("--framelets-update").assert_outcomes(passed=1)
    content = json.loads((pytester.path / FILE).read_text())
    assert list(content["images"]) == ["chest", "head"]
    assert set(content["images"]["chest"]) == {
        "output_norm",
        "lipschitz_lower",
        "offset_share",
        "active_share",
        "replay_error",
    }
    before = (pytester.path / FILE).read_bytes()

    run().assert_outcomes(passed=1)
    run(gain=1.0001).assert_outcomes(passed=1)  # within the tolerances

    assert (pytester.path / FILE).read_bytes() == before


def test_a_missing_file_fails_and_is_not_made(run, pytester):
    result = run()

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*there is no file*run pytest --framelets-update*"])
    assert not (pytester.path / FILE).exists()


def test_what_moved_is_told_by_image_and_figure(run):
    run("--framelets-update").assert_outcomes(passed=1)
    result = run(gain=1.1)

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            f"*geometry has moved from {FILE}*",
            "*image *figure *was *is *allowed*",
            "*chest *lipschitz_lower *±*",
            "*head *output_norm *±*",
            "*if this is meant, run pytest --framelets-update*",
        ]
    )
    assert "active_share" not in result.stdout.str()  # the first layer is the same
    assert "Traceback" not in result.stdout.str()


def test_other_images_fail(run):
    run("--framelets-update").assert_outcomes(passed=1)
    result = run(names="'chest', 'knee'")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*head*present*missing*", "*knee*missing*present*"])


def test_tolerances_and_patterns(run, pytester):
    run("--framelets-update", options=", pattern=True").assert_outcomes(passed=1)
    wide = ", tolerances={'lipschitz_lower': 0.2, 'output_norm': 0.2, 'offset_share': 0.2}"
    run(gain=1.1, options=wide + ", pattern=True").assert_outcomes(passed=1)
    content = json.loads((pytester.path / FILE).read_text())
    content["images"]["head"]["pattern_digest"] = "0" * 32
    (pytester.path / FILE).write_text(json.dumps(content))

    result = run(options=", pattern=True")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*head*pattern_digest*000000*equal*"])
    run().assert_outcomes(passed=1)


def test_a_damaged_file_fails(run, pytester):
    (pytester.path / FILE).write_text("{}")
    result = run()

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*is damaged*"])


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        ("", "", "*images must name at least one image*"),
        ("'chest'", ", tolerances={'gain': 1}", "*tolerance*'gain'*"),
    ],
)
def test_refuses(run, names, options, message):
    result = run(names=names, options=options)

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([message])
