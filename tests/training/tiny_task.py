"""A task of a few pixels: undo a fixed gain from noisy samples."""

import torch
from torch import nn


class TinyTask:
    """Learn y = x / 3 from random images of 8 x 8 pixels."""

    name = "tiny"

    @property
    def card(self):
        """Say where the data come from."""
        return {"data": {"source": "random numbers", "license": "none needed"}}

    def network(self, name):
        """Build two small convolutions, with batch norm and dropout to test their states."""
        assert name == "small"
        return nn.Sequential(
            nn.Conv2d(1, 2, 3, padding=1),
            nn.BatchNorm2d(2),
            nn.LeakyReLU(),
            nn.Conv2d(2, 1, 3, padding=1),
        ).append(nn.Dropout(0.01))

    def training_batch(self, step, batch_size, seed):
        """Draw uniform noise."""
        generator = torch.Generator().manual_seed(1000 * seed + step)
        clean = torch.rand(batch_size, 1, 8, 8, generator=generator)
        return 3 * clean, clean

    def loss(self, network, batch):
        """Compute the mean squared error."""
        measurement, reference = batch
        return (network(measurement) - reference).square().mean()

    @torch.no_grad()
    def validate(self, network):
        """Measure the PSNR with peak 1."""
        loss = self.loss(network.eval(), self.training_batch(0, 64, seed=99))
        return {"psnr": float(-10 * loss.log10())}
