"""Tiny training images of which a machine can learn something: smooth stripes."""

import math

import torch

NOISE_STD = 0.1


def striped_images(num=2, size=(48, 40), seed=0):
    """Draw slow waves in random directions, in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = torch.meshgrid(*(torch.arange(n) for n in size), indexing="ij")
    images = []
    for _ in range(num):
        angle, phase = 2 * math.pi * torch.rand(2, generator=generator)
        wave = torch.sin(0.35 * (rows * angle.sin() + columns * angle.cos()) + phase)
        images.append(0.5 + 0.4 * wave)
    return images


def noisy_image(shape=(16, 16), seed=5, dtype=torch.float64):
    """Draw one striped image of this shape with noise."""
    (clean,) = striped_images(1, shape, seed)
    generator = torch.Generator().manual_seed(seed)
    return (clean + NOISE_STD * torch.randn(shape, generator=generator)).to(dtype)


def row_at(machine, image, pixel):
    """Return the row of the machine's linear map at a pixel, by its adjoint."""
    unit = torch.zeros_like(image)
    unit[pixel] = 1
    return machine.linear_map(image).adjoint(unit)
