"""The data of the page that its reader can work: cut to a limit, and safe inside a script."""

import json
import re

import numpy as np
import pytest

from framelets.report import write_report
from framelets.report.instrument import cut_atoms

SIDE = 2 * 20 + 1


def with_instrument(folder, content, limit_mb, label="a layer"):
    """Give the network of a run folder noise for atoms, which does not compress."""
    content.write_geometry(folder, baseline=False)
    rng = np.random.default_rng(0)
    num = 24
    data = rng.integers(-127, 128, num * SIDE**2, dtype=np.int8)
    places = [[i * SIDE**2, 2, 2, SIDE, SIDE, 22, 22, 20] for i in range(num)]
    arrays = folder.read_npz("geometry.npz") | {
        "0.atom_data": data,
        "0.atom_places": np.array(places, dtype=np.int32),
        "0.atom_values": np.tile([0.5, 0.96, 1.0], (num, 1)),
    }
    folder.write_npz("geometry.npz", **arrays)
    geometry = folder.read_json("geometry.json")
    point = {"row": 22, "column": 22, "output": 1.0, "linear": 0.9, "offset": 0.1}
    point |= {"row_atom": 0, "column_atom": 1, "parts": [0.9], "pairs": []}
    geometry["page_limit_mb"] = limit_mb
    geometry["networks"][0] |= {
        "grid": {
            "points": [point],
            "tensors": [{"shape": [1, 4, 4], "is_image": False}],
            "through_scan": False,
        },
        "segment": {"missing": label},
    }
    folder.write_json("geometry.json", geometry)


def data_of(text):
    return json.loads(re.search(r'id="instrument-data-0">(.*?)</script>', text, re.DOTALL)[1])


def test_atoms_are_cut_until_the_page_is_small_enough(run_folder, content):
    with_instrument(run_folder, content, limit_mb=15.0)
    whole = write_report(run_folder.path).read_text()
    assert "To keep the page below" not in whole
    assert {place[-1] for place in data_of(whole)["places"]} == {20}

    limit = len(whole.encode()) / 1e6 - 0.01
    geometry = run_folder.read_json("geometry.json")
    run_folder.write_json("geometry.json", geometry | {"page_limit_mb": limit})
    text = write_report(run_folder.path).read_text()

    assert len(text.encode()) <= 1e6 * limit
    assert "they were cut to 33 \N{MULTIPLICATION SIGN} 33 pixels at most" in text
    assert {place[-1] for place in data_of(text)["places"]} == {16}
    kept = np.array(data_of(text)["values"])[:, 1]
    assert kept == pytest.approx(0.96 * 33**2 / SIDE**2, rel=0.1)  # noise: energy goes by area


def test_cut_atoms_by_hand():
    atom = np.arange(9, dtype=np.int8).reshape(3, 3)
    # At the border of the image: the middle (0, 1) of the cut is in the first row.
    places = np.array([[0, 0, 0, 3, 3, 0, 1, 2]])
    data, places, values = cut_atoms(atom.ravel(), places, np.array([[2.0, 0.5, 7.0]]), 1)
    assert data.tolist() == [0, 1, 2, 3, 4, 5]
    assert places.tolist() == [[0, 0, 0, 2, 3, 0, 1, 1]]
    energy = np.arange(9.0) ** 4  # the bytes are square roots
    assert values[0, 1] == pytest.approx(0.5 * energy[:6].sum() / energy.sum())


def test_data_cannot_end_the_script(run_folder, content):
    with_instrument(run_folder, content, 15.0, label="</script><script>alert(1)</script>")
    text = write_report(run_folder.path).read_text()
    assert "alert(1)</script>" not in text
    assert data_of(text)["segment"]["missing"] == "</script><script>alert(1)</script>"


def test_without_its_data_the_page_has_no_script(run_folder, content):
    content.write_geometry(run_folder, baseline=False)
    assert "<script" not in write_report(run_folder.path).read_text()
