"""Shipped weights: present, small, described, loadable, and better than what they start from."""

import pytest

from framelets.tasks import SHIPPED_WEIGHTS, SparseViewCT, load_plan, load_shipped, model_card
from framelets.tasks.ct_simulation import fixed_scan, measurement_of
from framelets.tasks.shipped import weights_path


@pytest.mark.parametrize("name", SHIPPED_WEIGHTS)
def test_weights_are_small_and_described(name):
    card = model_card(name)
    plan = load_plan(name)

    assert weights_path(name).stat().st_size < 4_000_000
    assert card["command"] == f"framelets train {name}"
    assert card["config"]["num_steps"] == plan.training.num_steps == card["num_steps"]
    assert card["config"]["learning_rate"] == plan.training.learning_rate
    assert set(card["data"]) == {"source", "license", "never trained on"}
    assert card["validation"]["psnr"] > card["validation"]["fbp_psnr"] + 3


@pytest.fixture(scope="module")
def unseen():
    return fixed_scan(60, 3, seed=123456)


@pytest.mark.parametrize("name", SHIPPED_WEIGHTS)
def test_network_beats_filtered_back_projection_on_unseen_images(name, unseen):
    network = load_shipped(name)
    scale = unseen.scale[:, None, None]
    measurement = measurement_of(scale * unseen.sinogram, unseen.scan)

    image = SparseViewCT().reconstruct(measurement, name.split("/")[1], unseen.grid)

    def psnr(made):
        return -10 * (made - unseen.reference).square().mean((-2, -1)).log10()

    assert not network.training
    assert float((psnr(image / scale) - psnr(unseen.fbp)).mean()) > 3


def test_load_refuses_unknown_names():
    with pytest.raises(ValueError, match="did you mean 'sparse-view-ct/unet'"):
        load_shipped("sparse-view-ct/une")
    with pytest.raises(ValueError, match="weights must be one of"):
        model_card("nothing")
