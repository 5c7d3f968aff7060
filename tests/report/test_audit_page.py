"""The page of an audit: one file that loads nothing, with every figure and what it is worth."""

import json
from html.parser import HTMLParser

import numpy as np
import pytest

from framelets.core import RunFolder
from framelets.report import write_audit
from framelets.report.audit import figure_text, symbols

COLUMNS = {
    "replay_error": ("replay error", "exact", True),
    "offset_share": ("offset", "exact", True),
    "lipschitz_lower": ("K_p at least", "certified lower bound", True),
    "lipschitz_upper": ("K_p at most", "probabilistic bound", True),
    "segment_norm": ("segment", "exact", False),
}


def audit_of(names, **changes):
    images = [
        {
            "image": name,
            "words": f"{name}, 16 x 12 pixels",
            "shape": [1, 16, 12],
            "output_shape": [1, 16, 12],
            "figures": {
                "replay_error": 1e-7 * (i + 1),
                "offset_share": 0.1 * (i + 1),
                "lipschitz_lower": 1.5 + i,
                "lipschitz_upper": 1.51 + i if i else None,
                "pattern_digest": f"{i:032x}",
            },
        }
        for i, name in enumerate(names)
    ]
    summary = {
        name: {
            "mean": 0.15,
            "spread": None,
            "smallest": 0.1,
            "largest": images[-1]["figures"].get(name) or 0.0,
            "worst_image": names[-1],
            "num_images": len(names),
            "worth": worth,
        }
        for name, (_, worth, _) in COLUMNS.items()
    }
    content = {
        "command": "framelets audit net --images slices",
        "seed": 7,
        "network": "net",
        "source": "weights from w.safetensors",
        "num_parameters": 1234,
        "precision": "float32",
        "folder": "slices",
        "scan": "",
        "thresholds": dict.fromkeys(["max_lipschitz", "max_offset_share", "max_replay_error"]),
        "columns": {
            name: {"label": label, "worth": worth, "meaning": "words", "worst": 1, "shown": shown}
            for name, (label, worth, shown) in COLUMNS.items()
        },
        "images": images,
        "failed": [],
        "summary": summary,
        "num_patterns": len(names),
        "worst": [
            {
                "image": names[-1],
                "reason": "largest K_p",
                "singular_value": 2.504,
                "residual": 0.004,
                "norm": 0.12,
                "measured_gain": 1.9,
            }
        ],
        "perturbation": 0.01,
        "levels": {"levels": [], "unpoolings": []},
        "failures": [],
        "undecided": [],
        "not_done": ["Boundaries were not looked for."],
    }
    return content | changes


class Page(HTMLParser):
    """Tags, words and the size of the page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self._style = [], "", False
        self.feed(text)
        self.words = " ".join(self.words.split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._style = tag == "style"

    def handle_endtag(self, tag):  # noqa: ARG002
        self._style = False

    def handle_data(self, data):
        self.words += "" if self._style else data


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write the page of an audit; its charts, which take seconds, only where a test says so."""

    def write(names=("a.png", "b.png"), charts=False, **changes):
        if not charts:
            monkeypatch.setattr("framelets.report.audit._CHARTS", {})
        folder = RunFolder(tmp_path)
        rng = np.random.default_rng(0)
        arrays = {
            key: rng.normal(size=(1, 16, 12)).astype(np.float32)
            for key in ("image", "output", "offset", "right", "left")
        }
        folder.write_npz(f"images/{names[-1]}.npz", **arrays)
        folder.write_json("audit.json", audit_of(names, **changes))
        path = write_audit(tmp_path)
        assert path == tmp_path / "audit.html"
        return Page(path.read_text(encoding="utf-8"))

    return write


def test_loads_nothing_and_describes_every_picture(write):
    page = write(charts=True)
    for tag, attributes in page.tags:
        for name in ("src", "srcset"):
            if name in attributes:
                assert attributes[name].startswith("data:image/png;base64,"), tag
        if "href" in attributes:
            assert attributes["href"].startswith("#")
        if tag == "img":
            assert attributes["alt"]
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object"}
    charts = [attributes["alt"] for tag, attributes in page.tags if tag == "img"][5:]
    assert len(charts) == 3  # K_p, offset, replay error: what these images have
    assert "over 2 images, from 1.5 to 2.5, median 2" in charts[0]


def test_every_figure_with_what_it_is_worth(write):
    page = write()
    for words in (
        "Audit of net",
        "Research software, not a medical device.",
        "certified lower bound",
        "probabilistic bound",
        "Kp at least",
        "10 %",
        "Not done: Boundaries were not looked for.",
        "gain that was measured with a perturbation of norm 0.12: 1.9",
        "no proof of robustness",
        "framelets audit net --images slices",
        "1,234 parameters",
    ):
        assert words in page.words, words
    assert "Fails." not in page.words
    assert "No threshold" not in page.words
    assert "segment" not in page.words.split("What the figures are worth")[1].split("Summary")[0]


def test_thresholds_and_failures_are_told(write):
    limits = {"max_lipschitz": 2.0, "max_offset_share": None, "max_replay_error": None}
    page = write(thresholds=limits, failures=["b.png: K_p is at least 2.5"])
    assert "Fails. b.png: Kp is at least 2.5" in page.words.replace("Fails.b", "Fails. b")

    page = write(
        thresholds=limits,
        undecided=["a.png: K_p may exceed"],
        failed=[{"image": "<b>.png", "error": "is empty"}],
    )
    assert "No threshold is exceeded for certain." in page.words
    assert "a.png: Kp may exceed" in page.words
    assert "<b>.png: is empty" in page.words  # escaped: a name is no markup


def test_long_tables_are_cut_and_say_so(write):
    page = write(names=[f"{i:03d}.png" for i in range(203)])

    assert "The first 200 of 203; audit.csv has all." in page.words
    assert "199.png" in page.words
    assert "201.png" not in page.words


def test_numbers_and_symbols():
    assert str(figure_text(0.345, "offset_share")) == "34 %"
    assert str(figure_text(12345, "num_boundaries")) == "12,345"
    assert str(figure_text(1.23456, "lipschitz_lower")) == "1.235"
    assert str(figure_text(None, "offset_share")) == "&ndash;"
    assert str(symbols("P_N <b>")) == '<span class="math">P<sub>N</sub></span> &lt;b&gt;'


def test_refuses_a_folder_without_an_audit(tmp_path):
    with pytest.raises(FileNotFoundError, match="no run folder"):
        write_audit(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"has no audit\.json"):
        write_audit(tmp_path)
    (tmp_path / "audit.json").write_text(json.dumps({})[:1])
    with pytest.raises(ValueError, match="not JSON"):
        write_audit(tmp_path)
