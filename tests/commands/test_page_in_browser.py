"""The page as a reader uses it, in headless Chromium: clicked, dragged, walked, on a phone."""

import json
import re

import numpy as np
import pytest
import torch
from playwright.sync_api import sync_playwright

from framelets.commands.explanation import ImageCard, Subject, write_explanation
from framelets.commands.instrument import InstrumentOptions
from framelets.commands.pixels import Pixel
from framelets.commands.user_networks import LoadedNetwork
from framelets.core import RunFolder
from framelets.networks import UNet
from framelets.report import write_report
from framelets.testing import CHROMIUM_OPTIONS, chromium_path

SIZE = 24
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder with the page of a small network."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = (
            UNet(width=3, depth=1, normalization="none").eval().requires_grad_(requires_grad=False)
        )
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, SIZE, SIZE, generator=generator)
    folder = RunFolder(tmp_path_factory.mktemp("page") / "run")
    write_explanation(
        folder,
        [Subject(LoadedNetwork("small", module, "made for a test"), image)],
        ImageCard("noise"),
        [Pixel("edge", 11, 13)],
        command="framelets explain",
        num_singular_values=2,
        interactive=InstrumentOptions(grid=3, num_pairs=2, num_boundaries=4),
    )
    write_report(folder.path)
    return folder


@pytest.fixture(scope="module")
def network(run):
    return run.read_json("geometry.json")["networks"][0]


@pytest.fixture(scope="module")
def browser():
    path = chromium_path()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(CHROMIUM_OPTIONS))
        yield browser
        browser.close()


@pytest.fixture
def opened(browser, run):
    """Opens the page; whatever the browser complains of or asks for fails the test."""
    contexts, complaints = [], []

    def open_page(**options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: complaints.append(request.url))
        page.goto(run.file("report.html").resolve().as_uri())
        if options.get("java_script_enabled", True):
            page.wait_for_selector("html[data-ready=true]", state="attached")
        return page

    yield open_page
    for context in contexts:
        context.close()
    asked = [text for text in complaints if not text.startswith("data:")]
    assert len(asked) == len(contexts), asked  # the page itself, and nothing else
    assert all(text.endswith("report.html") for text in asked)


def chosen(page):
    """Return the chosen pixel, and the value of the output that the page shows there."""
    words = page.locator("#grid-0 .facts").inner_text()
    row, column = re.search(r"Row (\d+), column (\d+)", words).groups()
    shown = re.search(r"output f\(x\)\[p\]\s+(\S+)", words)[1]
    return (int(row), int(column)), float(shown.replace("\N{MINUS SIGN}", "-"))


def place(page, row, column):
    box = page.locator("#grid-0 .picker img").bounding_box()
    return (
        box["x"] + (column + 0.5) / SIZE * box["width"],
        box["y"] + (row + 0.5) / SIZE * box["height"],
    )


def test_a_click_shows_the_nearest_pixel_of_the_grid(opened, run):
    page = opened()
    output = run.read_npz("geometry.npz")["0.output"][0]
    assert chosen(page)[0] == (11, 13)  # the pixel of the page, at first
    page.locator("#grid-0 .picker").scroll_into_view_if_needed()
    for near, at in (((5, 6), (4, 4)), ((21, 1), (20, 4))):
        page.mouse.click(*place(page, *near))
        assert chosen(page)[0] == at
        assert chosen(page)[1] == pytest.approx(float(output[at]), rel=1e-3)
    assert page.locator("#grid-0 [data-part=atoms] canvas").count() == 2
    assert page.locator("#grid-0 [data-part=pairs] canvas").count() == 4


def test_dragging_and_arrow_keys_move_the_pixel(opened):
    page = opened()
    page.locator("#grid-0 .picker").scroll_into_view_if_needed()
    page.mouse.move(*place(page, 4, 4))
    page.mouse.down()
    assert chosen(page)[0] == (4, 4)
    page.mouse.move(*place(page, 19, 19), steps=4)
    assert chosen(page)[0] == (20, 20)
    page.mouse.up()
    page.mouse.move(*place(page, 4, 4))
    assert chosen(page)[0] == (20, 20)

    page.locator("#grid-0 .picker").focus()
    for key, at in (("ArrowUp", (12, 20)), ("ArrowUp", (4, 20)), ("ArrowUp", (4, 20))):
        page.keyboard.press(key)
        assert chosen(page)[0] == at
    page.keyboard.press("ArrowLeft")
    assert chosen(page)[0] == (4, 12)


def test_the_canvas_has_the_colors_of_the_atom(opened, run, network):
    page = opened()
    point = network["grid"]["points"][-1]
    arrays = run.read_npz("geometry.npz")
    start, top, left, height, width, row, column, radius = arrays["0.atom_places"][
        point["row_atom"]
    ].tolist()
    atom = arrays["0.atom_data"][start : start + height * width].reshape(height, width)
    assert point["row_atom"] != 0
    pixels = page.locator("#grid-0 [data-part=atoms] canvas").first.evaluate(
        "c => [c.width, ...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"
    )
    side = 2 * radius + 1
    assert pixels[0] == side
    drawn = np.array(pixels[1:]).reshape(side, side, 4)
    drawn = drawn[top - row + radius :, left - column + radius :][:height, :width]
    red, blue = drawn[..., 0], drawn[..., 2]
    assert (drawn[..., 3] == 255).all()
    assert (red[atom > 20] > blue[atom > 20]).all()  # positive is red
    assert (red[atom < -20] < blue[atom < -20]).all()
    assert np.abs(drawn[atom == 0][:, :3].astype(int) - 247).max() <= 1  # zero is white
    assert (atom > 20).any()
    assert (atom < -20).any()


def test_walking_along_the_segment(opened, network):
    page = opened()
    segment = network["segment"]
    facts, slider = page.locator("#segment-0 .facts"), page.locator("#segment-0 input")
    assert "Boundary 1 of 4" in facts.inner_text()
    assert page.get_by_label("Previous boundary").is_disabled()
    page.get_by_label("Next boundary").click()
    slider.focus()
    page.keyboard.press("ArrowRight")
    words = facts.inner_text()
    assert "Boundary 3 of 4" in words
    active = [boundary["num_active"] for boundary in segment["boundaries"][1:3]]
    assert "{:,} → {:,}".format(*active) in words
    assert page.locator("#segment-0 [data-part=rows] canvas").count() == 3
    page.keyboard.press("End")
    assert page.get_by_label("Next boundary").is_disabled()

    plot = page.locator("#segment-0 svg")
    plot.click(position={"x": 68, "y": 100})  # the left end: the first boundary
    assert "Boundary 1 of 4" in facts.inner_text()
    page.locator("#segment-0 summary").click()
    by_layer = page.locator("#segment-0 [data-part=layers] tbody tr").all_inner_texts()
    counts = [int(row.split("\t")[1].replace(",", "")) for row in by_layer]
    assert sum(counts) == segment["boundaries"][0]["num_active"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_fits_a_phone(opened, scheme):
    page = opened(viewport=PHONE, color_scheme=scheme, has_touch=True)
    page.locator("#grid-0 .picker").scroll_into_view_if_needed()
    page.touchscreen.tap(*place(page, 4, 20))
    assert chosen(page)[0] == (4, 20)
    page.get_by_label("Next boundary").tap()
    assert "Boundary 2 of 4" in page.locator("#segment-0 .facts").inner_text()
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    page.set_viewport_size({"width": 844, "height": 390})  # turned
    assert page.evaluate("document.documentElement.scrollWidth") == 844
    assert page.locator("#segment-0 svg").get_attribute("viewBox").startswith("0 0 6")


def test_reads_well_without_javascript(opened):
    page = opened(java_script_enabled=False)
    words = page.locator("main").inner_text()
    assert "With JavaScript a pixel can be clicked here" in words
    assert "All 4 boundaries" in words
    assert not page.locator("#grid-0").is_visible()
    assert not page.locator("#segment-0").is_visible()


def test_everything_is_in_the_data(run, network):
    text = run.file("report.html").read_text()
    data = json.loads(re.search(r'id="instrument-data-0">(.*?)</script>', text, re.DOTALL)[1])
    assert data["grid"] == network["grid"]
    assert data["segment"] == network["segment"]
