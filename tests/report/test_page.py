"""The page: one file that loads nothing, with every number of the folder and words for pictures."""

import base64
import io
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image as PillowImage

from framelets.core import RunFolder
from framelets.report import write_report


class Page(HTMLParser):
    """The parts of a page that the tests ask for."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.headings = [], "", []
        self._open = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        if "style" in self._open:
            return
        self.words += data
        if self._open and self._open[-1] in ("h1", "h2", "h3"):
            self.headings.append(data.strip())

    def all(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]


def read_page(run):
    text = write_report(run).read_text(encoding="utf-8")
    page = Page(text)
    page.text = text
    page.words = " ".join(page.words.split())
    return page


def decode(uri):
    content = base64.b64decode(uri.split(",")[1])
    return np.asarray(PillowImage.open(io.BytesIO(content)).convert("L"))


@pytest.fixture(scope="module")
def full_page(full_run):
    return read_page(full_run.path)


def test_loads_nothing(full_page):
    for tag, attributes in full_page.tags:
        for name in ("src", "srcset"):
            if name in attributes:
                assert attributes[name].startswith("data:image/png;base64,"), tag
        if "href" in attributes:
            assert attributes["href"].startswith("#")
    assert not {tag for tag, _ in full_page.tags} & {"script", "link", "iframe", "object", "base"}
    assert "url(" not in full_page.text
    assert "@import" not in full_page.text


def test_every_picture_has_words(full_page):
    pictures = full_page.all("img")
    assert len(pictures) > 30
    assert all(len(picture["alt"]) > 10 for picture in pictures)


def test_links_lead_somewhere(full_page):
    places = {attributes["id"] for _, attributes in full_page.tags if "id" in attributes}
    assert {link["href"][1:] for link in full_page.all("a")} <= places


def test_numbers_of_the_folder_are_there(full_page):
    for expected in (
        "21.25",  # PSNR of the baseline
        "31.75",
        "+10.5 dB against FBP",
        "0.5900",  # a loss, beside the wins
        "3.1 \u00d7 10\u22127",  # replay error
        "1.875",  # K_p, at least
        "1.893",  # K_p, at most
        "probability 0.99",
        "4,410 of 9,000",
        "87 recorded operations",
        "96 products",
        "0123456789abcdef",
        "241,000",
        "one window for all",
        "0 to 0.03 1/mm",
        "Seed 7",
        "framelets explain unet --at image.npy",
    ):
        assert expected in full_page.words, expected


def test_the_scan_and_the_methods_are_described(full_page):
    before, after = full_page.words.split("source to detector553.74 mm")
    assert before.count("The scan") == 1  # its section, and none below it
    assert "The reconstructions" not in before
    assert "FBP: filtered back-projection" in after


def test_without_a_reference_there_is_no_talk_of_metrics(run_folder, content):
    content.write_reconstruction(run_folder)
    metrics = run_folder.read_json("metrics.json")
    rows = {name: {"seconds": row["seconds"]} for name, row in metrics["rows"].items()}
    run_folder.write_json("metrics.json", metrics | {"rows": rows})
    arrays = run_folder.read_npz("reconstruction.npz")
    del arrays["reference"]
    run_folder.write_npz("reconstruction.npz", **arrays)

    page = read_page(run_folder.path)

    assert "Time and size" in page.headings
    assert not any(word in page.words for word in ("PSNR", "SSIM", "NMSE", "better than"))


@pytest.mark.parametrize(("factor", "shared"), [(2.0, True), (0.5, True), (50.0, False)])
def test_the_window_of_the_input_shows_the_input(factor, shared, run_folder, content):
    content.write_geometry(run_folder, baseline=False)
    arrays = run_folder.read_npz("geometry.npz")
    ramp = np.linspace(0, 1, arrays["0.image"].size).reshape(arrays["0.image"].shape)
    run_folder.write_npz("geometry.npz", **(arrays | {"0.image": factor * ramp, "0.output": ramp}))

    page = read_page(run_folder.path)

    pictures = {p["alt"]: decode(p["src"]) for p in page.all("img") if "image/png" in p["src"]}
    for alt in ("The image given to the network.", "The network's output."):
        assert np.ptp(pictures[alt].astype(int)) > 100
        assert (pictures[alt] == 255).mean() < 0.1  # little is clipped
    assert ("image x, on a scale of its own" in page.words) is not shared


def test_figures_from_scan_to_image_say_so(run_folder, content):
    content.write_geometry(run_folder, ("unrolled",), baseline=False)
    assert "from scan to image" not in read_page(run_folder.path).words
    geometry = run_folder.read_json("geometry.json")
    geometry["networks"][0]["input_is_scan"] = True
    run_folder.write_json("geometry.json", geometry)

    words = read_page(run_folder.path).words

    assert "at least, from scan to image" in words
    assert "1.893 from scan to image, the norm" in words


def test_offset_share_is_that_of_the_norms(full_page):
    # 1 / 8 of the output's norm; the linear part measures 7.9 / 8.
    assert "measures 99 % and the offset b 12 %" in full_page.words


def test_wins_and_losses_are_marked(full_page):
    # TV wins all three, the U-Net two of three against FBP.
    verdicts = [a.get("class") for tag, a in full_page.tags if tag == "span" and "title" in a]
    assert verdicts.count("better") == 5
    assert verdicts.count("worse") == 1


def test_frame_bounds_are_put_into_words(full_page):
    assert "keeps everything, but weighs some signals 2 times others" in full_page.words
    assert "Parseval: keeps every signal's energy" in full_page.words
    assert "loses part of the signal" in full_page.words


def test_headings_in_order(full_page):
    assert full_page.headings == [
        "A scan and its reconstructions",
        "The scan",
        "The reconstructions",
        "Figures of merit",
        "What the network did to this image",
        "The output, taken apart",
        "Frame bounds of the levels",
        "What it amplifies: singular values and vectors",
        "How far a small change can go:",
        "Atoms: what one pixel is made of",
        "Which units are on",
        "How this page was made",
    ]


def test_says_that_it_is_no_medical_device(full_page):
    assert full_page.words.count("Research software, not a medical device.") == 2


def test_is_the_same_when_written_again(full_page, full_run):
    assert read_page(full_run.path).text == full_page.text


def test_only_reconstructions(run_folder, content):
    content.write_reconstruction(run_folder)

    page = read_page(run_folder.path)

    assert "The reconstructions" in page.headings
    assert "What the network did" not in page.words


def test_two_networks_side_by_side(run_folder, content):
    content.write_geometry(run_folder, ("plain", "dual-frame"), baseline=False)

    page = read_page(run_folder.path)

    assert "What plain and dual-frame did to this image" in page.words
    assert page.words.count("Replaying the 87 recorded operations") == 2
    assert "The scan" not in page.headings


def test_several_channels_and_complex_images_are_announced(run_folder, content):
    content.write_geometry(run_folder, channels=3, baseline=False)
    arrays = run_folder.read_npz("geometry.npz")
    run_folder.write_npz("geometry.npz", **(arrays | {"0.output": arrays["0.output"] * 1j}))

    page = read_page(run_folder.path)

    assert "Of several channels, pictures show the first." in page.words
    assert "pictures show magnitudes" in page.words


def test_a_bad_replay_is_a_warning_and_names_are_escaped(run_folder, content):
    content.write_geometry(run_folder, ("<script>alert(1)</script>",), baseline=False)
    geometry = run_folder.read_json("geometry.json")
    geometry["networks"][0]["replay_error"] = 0.25
    run_folder.write_json("geometry.json", geometry)

    page = read_page(run_folder.path)

    assert "more than rounding explains: read the rest with care" in page.words
    assert "exact up to rounding" not in page.words
    assert "<script>" not in page.text


def test_training_log(run_folder):
    lines = ["step,seconds,learning_rate,loss,gradient_norm,validation_psnr"]
    lines += [f"{step},1,0.1,{1 / step},1,{'30.5' if step == 40 else ''}" for step in (20, 40)]
    run_folder.write_text("log.csv", "\n".join(lines))

    page = read_page(run_folder.path)

    assert "Training loss over 40 steps" in page.words
    assert any("30.50 dB" in picture["alt"] for picture in page.all("img"))


def test_refuses_a_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no run folder"):
        write_report(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_refuses_a_folder_with_nothing_to_show(run_folder):
    with pytest.raises(FileNotFoundError, match="holds nothing to show; run framelets"):
        write_report(run_folder.path)


def test_refuses_a_damaged_archive(run_folder):
    run_folder.write_bytes("reconstruction.npz", b"PK\x03\x04 cut short")
    with pytest.raises(ValueError, match="damaged"):
        write_report(run_folder.path)


def test_refuses_pickled_objects(run_folder):
    np.savez(run_folder.path / "reconstruction.npz", fbp=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="pickled Python objects"):
        write_report(RunFolder(run_folder.path).path)
