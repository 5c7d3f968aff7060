"""What the page can be asked: against dense matrices, automatic differentiation and the network."""

import numpy as np
import pytest
import torch
from torch import nn

from framelets.commands.atom_store import LARGEST_RADIUS, AtomStore
from framelets.commands.explanation_grid import explain_grid, grid_places
from framelets.commands.explanation_segment import explain_segment
from framelets.commands.explanation_support import explain_support
from framelets.commands.instrument import InstrumentOptions, instrument
from framelets.commands.pixels import Pixel
from framelets.core import LinearOperator
from framelets.geometry import linearize, partition_segment
from framelets.networks import UNet


class DenseOperator(LinearOperator):
    """A matrix, from images of one shape to measurements of another."""

    def __init__(self, matrix, input_shape, output_shape):
        super().__init__()
        self.matrix, self.input_shape, self.output_shape = matrix, input_shape, output_shape

    def forward(self, x):
        return (x.flatten(-2) @ self.matrix.T).unflatten(-1, self.output_shape)

    def adjoint(self, y):
        return (y.flatten(-2) @ self.matrix).unflatten(-1, self.input_shape)


SIZE = 16
PIXELS = [Pixel("flat", 3, 4), Pixel("edge", 7, 9)]


@pytest.fixture(scope="module")
def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = UNet(width=3, depth=1, pooling="max", normalization="none", residual=True)
    return network.double().eval().requires_grad_(requires_grad=False)


@pytest.fixture(scope="module")
def local(network):
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(1, 1, SIZE, SIZE, dtype=torch.float64, generator=generator)
    return linearize(network, image)


@pytest.fixture(scope="module")
def jacobian(network, local):
    """Rows by automatic differentiation through the network itself."""
    matrix = torch.autograd.functional.jacobian(network, local.image.unsqueeze(0))
    return matrix.reshape(SIZE, SIZE, SIZE, SIZE)


def decoded(store, number):
    """Return an atom in the whole image, and the size of one step of its scale."""
    arrays = {name: array.numpy() for name, array in store.to_arrays().items()}
    start, top, left, height, width, *_ = arrays["atom_places"][number].tolist()
    peak = arrays["atom_values"][number, 0]
    steps = arrays["atom_data"][start : start + height * width].reshape(height, width) / 127
    whole = np.zeros((SIZE, SIZE))
    whole[top : top + height, left : left + width] = peak * np.sign(steps) * steps**2
    return torch.from_numpy(whole)


def test_atom_by_hand():
    atom = torch.zeros(2, SIZE, SIZE)
    atom[0, 8, 8], atom[0, 8, 10], atom[0, 0, 0] = -2.0, 0.5, 0.01
    atom[1, 8, 8] = 1.0
    store = AtomStore()
    store.add(torch.ones(SIZE, SIZE))

    number = store.add(atom, (8, 8))

    arrays = {name: array.tolist() for name, array in store.to_arrays().items()}
    # Within two pixels lies all but 1e-4 / 4.25 of the energy; the least radius is four.
    assert arrays["atom_places"][number] == [SIZE * SIZE, 4, 4, 9, 9, 8, 8, 4]
    row = arrays["atom_data"][SIZE * SIZE + 4 * 9 :][:9]
    assert row == [0, 0, 0, 0, -127, 0, 64, 0, 0]  # round(127 sqrt(0.5 / 2)) is 64
    peak, kept, total = arrays["atom_values"][number]
    assert (peak, total) == (2.0, pytest.approx(-1.49))
    assert kept == pytest.approx(4.25 / 5.2501)  # the second channel counts as lost


def test_wide_atoms_are_cut_and_say_so():
    store = AtomStore()
    store.add(torch.ones(300, 300))
    places, values = (
        store.to_arrays()[name][0].tolist() for name in ("atom_places", "atom_values")
    )
    assert places[3:] == [2 * LARGEST_RADIUS + 1] * 2 + [150, 150, LARGEST_RADIUS]
    assert values[1] == pytest.approx((2 * LARGEST_RADIUS + 1) ** 2 / 300**2)


@pytest.fixture(scope="module")
def grid(local):
    store = AtomStore()
    return explain_grid(local, store, PIXELS, 3, 4), store


def test_the_grid_covers_the_image_and_the_pixels(grid):
    places = [(point["row"], point["column"]) for point in grid[0]["points"]]
    middles = (2, 8, 13)
    assert places == [(r, c) for r in middles for c in middles] + [(3, 4), (7, 9)]
    assert grid_places((1, 2), 8) == [(0, 0), (0, 1)]  # more than there are pixels


def test_values_are_sums_of_rows_and_parts(grid, local, network, jacobian):
    output = network(local.image.unsqueeze(0))[0, 0]
    for point in grid[0]["points"]:
        at = (point["row"], point["column"])
        by_row = float((jacobian[at] * local.image[0]).sum())
        assert point["linear"] == pytest.approx(by_row, rel=1e-10)
        assert sum(point["parts"]) == pytest.approx(by_row, rel=1e-10)
        assert point["linear"] + point["offset"] == pytest.approx(float(output[at]), rel=1e-10)


def test_atoms_are_rows_and_columns(grid, jacobian):
    found, store = grid
    values = store.to_arrays()["atom_values"]
    for point in found["points"]:
        at = (point["row"], point["column"])
        for name, atom in (("row_atom", jacobian[at]), ("column_atom", jacobian[:, :, *at])):
            shown = decoded(store, point[name])
            peak = float(atom.abs().max())
            inside = shown != 0
            # Half a step of the square root, 1/254, is at most 1/127 of the peak.
            assert float((shown - atom)[inside].abs().max()) <= 1.01 * peak / 127
            kept = float((shown**2).sum() / (atom**2).sum())
            assert kept == pytest.approx(float(values[point[name], 1]), abs=0.01)


def test_pairs_are_the_strongest_of_the_expansion(grid, local):
    found, store = grid
    analysis = local.analysis.to_matrix((1, SIZE, SIZE)).reshape(-1, SIZE * SIZE)
    synthesis = local.synthesis.to_matrix((len(analysis),)).reshape(SIZE, SIZE, -1)
    coefficients = analysis @ local.image.flatten()
    sizes = [torch.Size(tensor["shape"]).numel() for tensor in found["tensors"]]
    assert [tensor["is_image"] for tensor in found["tensors"]] == [True] + [False] * (
        len(sizes) - 1
    )
    for point in found["points"]:
        shares = synthesis[point["row"], point["column"]] * coefficients
        strongest = sorted((float(part.abs().max()) for part in shares.split(sizes)), reverse=True)
        assert [abs(p["contribution"]) for p in point["pairs"]] == pytest.approx(strongest[:4])
        assert strongest[0] == float(shares.abs().max())
        for pair in point["pairs"]:
            shape = found["tensors"][pair["tensor"]]["shape"][1:]
            index = int(np.ravel_multi_index(pair["unit"], shape))
            index += sum(sizes[: pair["tensor"]])
            assert pair["coefficient"] == pytest.approx(float(coefficients[index]), rel=1e-10)
            assert pair["contribution"] == pytest.approx(float(shares[index]), rel=1e-10)
            vectors = (analysis[index].reshape(SIZE, SIZE), synthesis[:, :, index])
            for number, vector in zip(
                (pair["analysis_atom"], pair["synthesis_atom"]), vectors, strict=True
            ):
                shown = decoded(store, number)
                assert float((shown - vector)[shown != 0].abs().max()) < 0.01 * vector.abs().max()


def test_a_network_at_a_scan_is_shown_through_the_scan():
    rng = torch.Generator().manual_seed(0)
    weights = torch.randn(20, 64, dtype=torch.float64, generator=rng)
    back = torch.randn(64, 20, dtype=torch.float64, generator=rng)
    scan = torch.rand(1, 1, 4, 5, dtype=torch.float64, generator=rng)
    projector = DenseOperator(weights, (8, 8), (4, 5))
    local = linearize(lambda y: torch.relu(back @ y.flatten()).reshape(1, 1, 8, 8), scan)
    store = AtomStore()

    found = explain_grid(local, store, [], 2, 2, projector=projector)

    assert found["through_scan"]
    on = (back @ scan.flatten() > 0).double()[:, None]
    through = (on * back @ weights).reshape(8, 8, 8, 8)
    sums = store.to_arrays()["atom_values"][:, 2]
    for point in found["points"]:
        at = (point["row"], point["column"])
        assert float(sums[point["row_atom"]]) == pytest.approx(float(through[at].sum()))
        expected = float(through[:, :, *at].sum())
        assert float(sums[point["column_atom"]]) == pytest.approx(expected)


@pytest.fixture(scope="module")
def segment(network, local):
    store = AtomStore()
    leading = torch.ones(SIZE * SIZE, dtype=torch.float64)
    found = explain_segment(
        network, local, store, PIXELS, "noise", leading=leading, num_boundaries=6, seed=3
    )
    return found, store


def noise_direction(local):
    noise = torch.randn(local.image.shape, generator=torch.Generator().manual_seed(3)).double()
    window = torch.zeros_like(noise)
    window[:, 3:12, 5:14] = 1  # 9 x 9 pixels around the edge
    return (noise * window).unsqueeze(0)


def test_the_segment_crosses_what_the_partition_finds(segment, network, local):
    found, _ = segment
    direction = noise_direction(local)
    direction *= found["wanted"] / direction.norm()
    partition = partition_segment(network, local.image.unsqueeze(0), direction)
    positions = [boundary["position"] for boundary in found["boundaries"]]

    assert len(positions) == 6
    scale = float(direction.norm())
    assert positions == pytest.approx((scale * partition.positions[:6]).tolist(), rel=1e-9)
    assert found["length"] > positions[-1]
    assert found["gains"] == pytest.approx((partition.slope_norms[:7] / scale).tolist(), rel=1e-6)


def test_units_are_counted_on_every_piece(segment, network, local):
    found, _ = segment
    direction = noise_direction(local)
    direction /= direction.norm()
    ends = [0.0, *(b["position"] for b in found["boundaries"]), found["length"]]
    counts = [found["num_active"], *(b["num_active"] for b in found["boundaries"])]
    assert {u["to"] for b in found["boundaries"] for u in b["switches"]} <= {"on", "off", ""}
    for k, expected in enumerate(counts):
        middle = local.image.unsqueeze(0) + direction * (ends[k] + ends[k + 1]) / 2
        assert linearize(network, middle).activation_pattern.num_active == expected


def test_rows_of_the_pieces_are_gradients_and_give_the_slopes(segment, network, local):
    found, store = segment
    assert (found["row"], found["column"]) == (7, 9)
    assert found["slope_error"] < 1e-6
    direction = noise_direction(local)
    direction /= direction.norm()
    ends = [0.0, *(b["position"] for b in found["boundaries"]), found["length"]]
    rows = []
    for k, number in enumerate(found["rows"]):
        middle = local.image.unsqueeze(0) + direction * (ends[k] + ends[k + 1]) / 2
        rows.append(
            torch.autograd.functional.jacobian(lambda x: network(x)[0, 0, 7, 9], middle)[0, 0]
        )
        shown = decoded(store, number)
        assert float((shown - rows[-1]).abs().max()) < 0.01 * rows[-1].abs().max()
        slope = float((rows[-1] * direction[0, 0]).sum())
        assert found["pixel_slopes"][k] == pytest.approx(slope, rel=1e-9)
    for k, change in enumerate(found["changes"]):
        share = float((rows[k + 1] - rows[k]).norm() / rows[k + 1].norm())
        assert change["share"] == pytest.approx(share, abs=1e-12)
        since_start = float((rows[k + 1] - rows[0]).norm() / rows[k + 1].norm())
        assert change["since_start"] == pytest.approx(since_start, abs=1e-12)


@pytest.mark.parametrize(("kind", "words"), [("scaling", "brighter"), ("singular", "singular")])
def test_other_directions(kind, words, network, local):
    leading = torch.ones(SIZE * SIZE, dtype=torch.float64)
    store = AtomStore()
    found = explain_segment(
        network, local, store, PIXELS, kind, leading=leading, num_boundaries=2, norm=0.5
    )
    assert words in found["direction"]
    assert found["wanted"] == 0.5
    assert len(found["boundaries"]) == 2


def test_support_is_that_of_the_null_space():
    # A scan that sees the left half only: P_N keeps the right half.
    mask = torch.zeros(SIZE, SIZE, dtype=torch.float64)
    mask[:, : SIZE // 2] = 1
    scan = DenseOperator(torch.diag(mask.flatten()), (SIZE, SIZE), (SIZE, SIZE))
    image = torch.ones(1, 1, SIZE, SIZE, dtype=torch.float64)
    local = linearize(lambda x: 2 * x + 3, image)

    table, maps = explain_support(local, scan, (4 * mask)[None])

    right = (1 - mask)[None].float()
    torch.testing.assert_close(maps["null_linear"], 2 * right, atol=1e-2, rtol=0)
    torch.testing.assert_close(maps["null_offset"], 3 * right, atol=1e-2, rtol=0)
    assert table["null_share"] == pytest.approx(0.5, abs=1e-2)
    assert table["shares"]["determined"] == pytest.approx(0.5 * 16 / 25, abs=1e-2)
    assert max(table["errors"]) < 0.05
    store = AtomStore()
    (point,) = explain_grid(local, store, [], 1, 1, maps=maps)["points"]
    parts = [point[name] for name in ("determined", "contradiction", "null_linear", "null_offset")]
    assert sum(parts) == pytest.approx(point["output"], rel=1e-5)


def missing(network, image, **options):
    local = linearize(network, image)
    if isinstance(network, nn.Module):
        network.requires_grad_(requires_grad=False)
    module = network if isinstance(network, nn.Module) else nn.Identity()
    tables, arrays = instrument(
        module,
        "a network",
        local,
        [Pixel("middle", 2, 2)],
        InstrumentOptions(**options),
        leading=torch.ones(image.numel(), dtype=image.dtype),
    )
    assert len(arrays["atom_places"]) or "missing" in tables["grid"]
    return [tables[name].get("missing", "") for name in ("grid", "segment")]


def test_says_what_is_missing_and_why():
    image = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    none = missing(nn.Identity(), image, grid=0, segment="none")
    assert none == ["it was not asked for (--grid 0)", "it was not asked for (--segment none)"]
    assert missing(nn.SiLU(), image, grid=2)[0] == ""
    assert "not piecewise linear" in missing(nn.SiLU(), image, grid=2)[1]
    assert "units ever switch" in missing(nn.Identity(), image, grid=2)[1]
    assert missing(nn.ReLU(), image[:, :, None])[0] == "the images are not of two dimensions"
    assert missing(lambda x: x * 2, image.to(torch.complex64))[0] == "the images are complex"


def test_several_channels_show_the_first():
    rng = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = nn.Conv2d(3, 4, 3, padding=1), nn.LeakyReLU(), nn.Conv2d(4, 2, 1)
    network = nn.Sequential(*layers).double().requires_grad_(requires_grad=False)
    image = torch.rand(1, 3, 8, 8, dtype=torch.float64, generator=rng)
    local = linearize(network.eval(), image)
    store = AtomStore()

    (point,) = explain_grid(local, store, [], 1, 2)["points"]

    row = torch.autograd.functional.jacobian(lambda x: network(x)[0, 0, 4, 4], image)[0]
    assert point["linear"] == pytest.approx(float((row * image[0]).sum()), rel=1e-10)
    peak, kept, total = store.to_arrays()["atom_values"][point["row_atom"]].tolist()
    assert (peak, total) == pytest.approx((float(row[0].abs().max()), float(row[0].sum())))
    assert kept == pytest.approx(float((row[0] ** 2).sum() / (row**2).sum()))


def test_refuses_an_unknown_direction(network, local):
    with pytest.raises(ValueError, match="noise, none, scaling, singular"):
        explain_segment(
            network,
            local,
            AtomStore(),
            PIXELS,
            "sideways",
            leading=torch.ones(1),
            num_boundaries=2,
        )
