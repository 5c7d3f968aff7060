"""Crops to fit to and crops to choose by: noise, parts, randomness."""

import pytest
import torch

from framelets.machines.denoising_task import DenoisingTask
from framelets.machines.training_side import TrainingSide


def test_parts_do_not_overlap_and_noise_is_as_said():
    rows = torch.arange(40.0)[:, None].expand(40, 30) / 40
    side = TrainingSide([rows], 0.05)
    generator = torch.Generator().manual_seed(0)

    fit = side.draw(400, (3, 5), generator)
    choose = side.draw(400, (3, 5), generator, "choose")

    assert fit[1].shape == (400, 3, 5)
    assert float(fit[1].max()) == pytest.approx(29 / 40)
    assert float(choose[1].min()) == pytest.approx(30 / 40)
    noise = fit[0] - fit[1]
    assert float(noise.std()) == pytest.approx(0.05, rel=0.05)


def test_batches_are_functions_of_seed_and_step():
    side = TrainingSide([torch.rand(32, 32, generator=torch.Generator().manual_seed(0))], 0.1)
    task = DenoisingTask(side, torch.nn.Identity, (8, 8))

    one, same, next_one = (task.training_batch(step, 4, seed=3) for step in (7, 7, 8))

    assert one[0].shape == (4, 1, 8, 8)
    assert torch.equal(one[0], same[0])
    assert not torch.equal(one[1], next_one[1])


def test_validation_is_the_psnr_of_the_held_out_crops():
    side = TrainingSide([torch.zeros(64, 64)], 0.1)
    task = DenoisingTask(side, torch.nn.Identity, (8, 8))

    # The identity leaves the noise: 10 log10(1 / 0.1^2) = 20 dB.
    assert task.validate(torch.nn.Identity())["psnr"] == pytest.approx(20, abs=0.5)


def test_training_side_refuses_what_it_cannot_draw_from():
    with pytest.raises(ValueError, match="at least one training image"):
        TrainingSide([], 0.1)
    with pytest.raises(ValueError, match=r"noise_std must be positive, got 0"):
        TrainingSide([torch.zeros(8, 8)], 0.0)
    side = TrainingSide([torch.zeros(8, 8)], 0.1)
    with pytest.raises(ValueError, match=r"choose part of \(3, 3\) pixels, got \(2, 8\)"):
        side.draw(1, (3, 3), torch.Generator(), "choose")
    with pytest.raises(ValueError, match="part must be one of choose, fit"):
        side.draw(1, (3, 3), torch.Generator(), "chose")
