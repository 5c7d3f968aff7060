"""Endless random attenuation images to train reconstruction networks on.

A network trained on a fixed pool of a few hundred images learns the pool. Here no image comes
twice: chest CT slices, photographs and drawn objects are warped, re-contrasted and mixed, then get
sharp inserts and texture at the scale of one pixel, so that nothing rewards blur. Every object
lies inside the circle that a scanner sees, and air surrounds it.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from framelets.data._shapes import KINDS, draw_curve, draw_polygon, draw_shape
from framelets.data.packaged import WATER_ATTENUATION, chest_ct, natural_images

MAX_ATTENUATION = 0.06
"""Largest attenuation that is drawn, in 1/mm: dense bone, or a light metal in a hard beam."""

# Attenuation, over that of water, where one tissue ends and the next begins (-925, -500, -30, 150
# and 500 HU), and the typical step there.
_EDGES = (0.075, 0.5, 0.97, 1.15, 1.5)
_STEPS = (0.15, 0.75, 0.13, 0.2, 0.6)
_TABLE = 2048
_LEAST_MEAN = 0.03 * WATER_ATTENUATION


class TrainingImages:
    """An endless iterator over random attenuation images in 1/mm.

    All randomness comes from the generator, so its state is the iterator's: an iterator restored by
    `load_state_dict` goes on bit for bit (with the same machine, threads and version of torch).

    Args:
        height: Rows of an image.
        width: Columns of an image.
        generator: Source of all randomness; must be on the CPU.

    Raises:
        ValueError: If the image has fewer than 16 rows or columns.

    Example:
        >>> images = TrainingImages(64, 64, torch.Generator().manual_seed(0))
        >>> next(images).shape
        torch.Size([64, 64])
    """

    def __init__(self, height: int, width: int, generator: torch.Generator) -> None:
        """Load the images to start from."""
        if min(height, width) < 16:
            raise ValueError(f"height and width must be at least 16, got {(height, width)}")
        self.height, self.width = height, width
        self.generator = generator
        self._radius = min(height, width) / 2  # of the circle that a scanner sees, in pixels
        y = (torch.arange(height) - (height - 1) / 2) / self._radius
        x = (torch.arange(width) - (width - 1) / 2) / self._radius
        self._points = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)  # (x, y)
        distance = torch.linalg.vector_norm(self._points, dim=-1) - 1
        self._inside = (0.5 - distance * self._radius).clamp(0, 1)
        self._waves = _cosines(x), _cosines(y)
        # Cubic interpolation is done once, so that a linear one of the result stays smooth.
        chest = chest_ct().voxels.unsqueeze(1)
        self._chest = torch.nn.functional.interpolate(chest, scale_factor=2, mode="bicubic")
        self._photographs = [image[None, None] for image in natural_images().values()]

    def __iter__(self) -> Iterator[Float[Tensor, "height width"]]:
        """Return itself: there is no end."""
        return self

    def __next__(self) -> Float[Tensor, "height width"]:
        """Draw one image."""
        while True:
            image = self._draw_one()
            if self._chance(0.2):  # a part of one image in another
                part = (self._body_depth(0.3, 0.8) + 0.5).clamp_(0, 1)
                image += part * (self._draw_one() - image)
            image.mul_(self._inside).clamp_(0, MAX_ATTENUATION)
            if image.mean() > _LEAST_MEAN:  # a corner of the chest can be nothing but air
                return image

    def batch(self, num_images: int) -> Float[Tensor, "num_images height width"]:
        """Draw several images."""
        return torch.stack([next(self) for _ in range(num_images)])

    def state_dict(self) -> dict[str, Tensor]:
        """Return all that is needed to go on from here."""
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from where `state_dict` was taken."""
        self.generator.set_state(state["generator"])

    # What an image is of.

    def _draw_one(self) -> Tensor:
        """Draw an image of one kind."""
        return self._choose(
            (0.45, self._draw_chest),
            (0.15, self._draw_photograph),
            (0.25, self._draw_objects),
            (0.15, self._draw_part),
        )()

    def _draw_chest(self) -> Tensor:
        """Draw a warped slice of the chest in new contrasts; what was blurred becomes sharp."""
        index = self._integer(len(self._chest))
        scale = self._uniform(0.75, 1.9) if self._chance(0.6) else self._uniform(0.35, 0.75)
        image = self._sample(self._chest[index : index + 1], scale, padding="zeros")
        image = _look_up(image / (2.5 * WATER_ATTENUATION), self._tissue_curve())
        if self._chance(0.7):
            self._add_texture(image, self._log_uniform(0.004, 0.06))
        self._add_details(image, 1.0)
        if self._chance(0.5):
            self._add_vessels(image)
        return image

    def _draw_photograph(self) -> Tensor:
        """Draw a photograph whose gray values mean attenuation, cut to the shape of a body."""
        photograph = self._photographs[self._integer(len(self._photographs))]
        image = _look_up(self._sample(photograph, self._log_uniform(0.15, 1.0)), self._gray_curve())
        self._add_details(image, 0.5)
        if self._chance(0.8):
            image = self._wrap(image)
        return image

    def _draw_objects(self) -> Tensor:
        """Draw a body that holds many shapes in layers, the large ones first."""
        value = self._uniform(0.4, 1.4) * WATER_ATTENUATION
        image = self._wrap(torch.full((self.height, self.width), value))
        canvas = image.numpy()
        num_shapes = self._integer(70) + 10
        for order in range(num_shapes):
            size = (
                self._radius * 0.4 * math.exp(-2.5 * order / num_shapes) * self._uniform(0.3, 1.0)
            )
            self._insert(canvas, size)
        if self._chance(0.5):
            self._add_texture(image, self._log_uniform(0.004, 0.1))
        self._add_details(image, 1.5)
        return image

    def _draw_part(self) -> Tensor:
        """Draw a machined part: a disk of one material, with holes."""
        image = torch.zeros(self.height, self.width)
        canvas = image.numpy()
        radius = self._uniform(0.6, 0.97) * self._radius
        value = self._uniform(0.6, 2.2) * WATER_ATTENUATION
        spread = (self._radius - radius) * 0.7
        center = (self._uniform(-spread, spread), self._uniform(-spread, spread))
        draw_shape(canvas, "ellipse", center, (radius, radius), 0.0, value)
        for _ in range(self._integer(40) + 1):
            hole = 0.0 if self._chance(0.85) else self._uniform(0.0, 3.0) * WATER_ATTENUATION
            self._insert(canvas, radius * self._log_uniform(0.02, 0.35), hole)
        if self._chance(0.3):
            self._add_texture(image, self._log_uniform(0.002, 0.02))
        if self._chance(0.5):
            self._add_details(image, 0.5, 0.0)
        return image

    # What is put into an image.

    def _insert(self, canvas: np.ndarray, size: float, value: float | None = None) -> None:
        """Draw one random shape of about this size in pixels, somewhere in the circle."""
        if value is None:
            value = self._attenuation()
        distance, angle = self._radius * math.sqrt(self._uniform(0.0, 0.8)), self._uniform(0.0, 7.0)
        center = (distance * math.cos(angle), distance * math.sin(angle))
        if self._chance(0.3):
            num_sides = self._integer(5) + 3
            turns = torch.rand(num_sides, generator=self.generator) * 0.6 + torch.arange(num_sides)
            directions = turns * (2 * math.pi / num_sides)
            normals = torch.stack([directions.cos(), directions.sin()], dim=-1).numpy()
            sides = size * (0.4 + 0.5 * torch.rand(num_sides, generator=self.generator)).numpy()
            draw_polygon(canvas, center, normals, sides, size, value)
        else:
            kind = KINDS[self._integer(len(KINDS))]
            half_axes = (size, max(size * self._log_uniform(0.15, 1.0), 0.4))
            draw_shape(canvas, kind, center, half_axes, self._uniform(0.0, math.pi), value)

    def _add_details(self, image: Tensor, amount: float, value: float | None = None) -> None:
        """Draw small sharp things: specks, rods, slits, and stripes near the resolution limit."""
        for _ in range(int(self._uniform(0.0, 16.0) * amount)):
            self._insert(image.numpy(), self._log_uniform(0.7, 8.0), value)

    def _add_vessels(self, image: Tensor) -> None:
        """Draw lines that wander, taper and branch."""
        value = self._uniform(0.6, 1.6) * WATER_ATTENUATION
        drawn = image.clone()
        pending = []
        for _ in range(self._integer(3) + 1):
            start = (torch.rand(2, generator=self.generator) * 1.2 - 0.6) * self._radius
            thickness = self._log_uniform(1.0, 0.025 * self._radius + 1.5)
            pending.append((start, self._uniform(0.0, 7.0), thickness, 0))
        for start, direction, radius, depth in pending:  # grows while it is read
            turns = torch.randn(10, generator=self.generator).cumsum(0) * 0.15 + direction
            steps = torch.stack([turns.cos(), turns.sin()], -1) * (0.035 * self._radius)
            points = torch.cat([start[None], start + steps.cumsum(0)])
            radii = torch.linspace(radius, 0.6 * radius, len(points))
            draw_curve(drawn.numpy(), points.numpy(), radii.numpy(), value)
            if depth < 2:
                bend = self._uniform(0.2, 0.7)
                for sign in (-1, 1):
                    turned = float(turns[-1]) + sign * bend
                    pending.append((points[-1], turned, 0.7 * radius, depth + 1))
        body = image > 0.03 * WATER_ATTENUATION
        image.copy_(torch.where(body, drawn, image))

    def _add_texture(self, image: Tensor, contrast: float) -> None:
        """Multiply by 1 + contrast t, with t a photograph's fine structure or random grains."""
        if self._chance(0.5):
            photograph = self._photographs[self._integer(len(self._photographs))]
            # One pixel of the photograph or more a pixel of the image: structure without blur.
            pixels = self._uniform(1.0, 2.0) * 2 * self._radius / photograph.shape[-1]
            texture = self._sample(photograph, pixels, elastic=0.0)
            texture = (texture - texture.mean()) / texture.std().clamp(min=1e-3)
        else:
            texture = torch.zeros_like(image)
            for size in (8, 32, 128, 512):
                if size <= min(self.height, self.width):
                    shape = (1, 1, size * self.height // 512 + 4, size * self.width // 512 + 4)
                    grains = torch.randn(shape, generator=self.generator)
                    texture += torch.nn.functional.interpolate(
                        grains, (self.height, self.width), mode="bilinear"
                    )[0, 0] * self._uniform(0.0, 0.8)
        image.mul_((1 + contrast * texture).clamp_(min=0))

    def _wrap(self, image: Tensor) -> Tensor:
        """Cut an image to a body, at times inside a skin and a shell of bone."""
        depth = self._body_depth(0.6, 0.95)
        skin, bone = self._uniform(0.01, 0.08), self._uniform(0.015, 0.08)
        layers: list[tuple[Tensor | float, float]] = [(image, 0.0)]
        if self._chance(0.5):
            tissue = self._uniform(0.8, 1.1) * WATER_ATTENUATION
            shell = self._uniform(1.4, 2.4) * WATER_ATTENUATION
            layers = [(tissue, 0.0), (shell, skin), (image, skin + bone)]
        wrapped = torch.zeros_like(image)
        for value, start in layers:
            wrapped += (depth - start * self._radius + 0.5).clamp_(0, 1) * (value - wrapped)
        return wrapped

    def _body_depth(self, low: float, high: float) -> Tensor:
        """Draw a smooth closed outline and return, about, the distance to it inside, in pixels."""
        a, b = self._uniform(low, high), self._uniform(low, high)
        order = self._uniform(2.0, 3.5)
        angle = self._uniform(0.0, math.pi)
        cosine, sine = math.cos(angle), math.sin(angle)
        rotation = torch.tensor([[cosine / a, -sine / b], [sine / a, cosine / b]])
        points = (self._points @ rotation + self._displacement(0.06)).abs_()
        level = points.pow_(order).sum(-1).pow_(1 / order)
        return (1 - level) * (min(a, b) * self._radius)

    # Warps and contrasts.

    def _sample(
        self, source: Tensor, scale: float, elastic: float = 0.12, padding: str = "reflection"
    ) -> Tensor:
        """Sample a source, mirrored beyond its border, under a random affine and elastic warp.

        The circle's diameter spans `scale` of the source.
        """
        angle, shear = self._uniform(0.0, 2.0 * math.pi), self._uniform(-0.15, 0.15)
        flip = -1.0 if self._chance(0.5) else 1.0
        stretch = self._log_uniform(0.85, 1.18)
        cosine, sine = math.cos(angle), math.sin(angle)
        linear = torch.tensor([[cosine, sine], [-sine, cosine]]) @ torch.tensor(
            [[flip * stretch, shear], [0.0, 1 / stretch]]
        )
        room = max(1 - scale, 0.0) + 0.1
        shift = torch.tensor([self._uniform(-room, room), self._uniform(-room, room)])
        height, width = source.shape[-2:]
        side = torch.tensor([min(height / width, 1.0), min(width / height, 1.0)])
        grid = (self._points @ (linear * scale) + shift) * side
        if elastic:
            grid += self._displacement(elastic * scale)
        return torch.nn.functional.grid_sample(
            source, grid[None], mode="bilinear", padding_mode=padding, align_corners=False
        )[0, 0]

    def _displacement(self, size: float) -> Tensor:
        """Draw a smooth vector field, of this standard deviation where the circle has radius 1."""
        across, down = self._waves
        num = across.shape[1]
        weights = torch.randn(2, num, num, generator=self.generator)
        decay = 1 / (1 + torch.arange(num, dtype=torch.float32) ** 2)
        weights *= decay[:, None] * decay * (size * self._uniform(0.0, 1.0))
        return (down @ weights @ across.mT).permute(1, 2, 0)

    def _tissue_curve(self) -> Tensor:
        """Draw a curve from attenuation to attenuation, with steps where tissues meet."""
        hounsfield_scale = torch.linspace(0, 2.5, _TABLE)
        curve = torch.zeros(_TABLE)
        for edge, step in zip(_EDGES, _STEPS, strict=True):
            place = edge + self._uniform(-0.03, 0.03)
            width = self._log_uniform(0.006, 0.08)
            height = step * self._uniform(0.4, 1.6)
            curve += height * torch.sigmoid((hounsfield_scale - place) / width)
        share = self._uniform(0.5, 1.0)
        air = (hounsfield_scale / 0.06).clamp(max=1)
        curve = (share * curve + (1 - share) * hounsfield_scale) * air
        return curve * (WATER_ATTENUATION * self._uniform(0.8, 1.25))

    def _gray_curve(self) -> Tensor:
        """Draw a curve from gray in [0, 1] to attenuation, sometimes with plateaus."""
        gray = torch.linspace(0, 1, _TABLE)
        if self._chance(0.5):
            gray = 1 - gray
        curve = gray ** self._log_uniform(0.5, 2.0)
        if self._chance(0.4):
            num_levels, width = self._integer(5) + 2, self._log_uniform(0.003, 0.05)
            edges = torch.rand(num_levels, generator=self.generator)
            curve = torch.sigmoid((curve[:, None] - edges) / width).mean(-1)
        low = self._uniform(0.0, 0.6)
        return (low + (self._uniform(0.9, 2.2) - low) * curve) * WATER_ATTENUATION

    def _attenuation(self) -> float:
        """Draw one attenuation: mostly near tissue, at times air, bone or metal."""
        kind = self._uniform(0.0, 1.0)
        if kind < 0.15:
            return 0.0
        low, high = (0.5, 1.5) if kind < 0.75 else (0.2, 2.2) if kind < 0.95 else (2.2, 3.1)
        return self._uniform(low, high) * WATER_ATTENUATION

    # Randomness.

    def _uniform(self, low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=self.generator))

    def _log_uniform(self, low: float, high: float) -> float:
        return low * math.exp(math.log(high / low) * self._uniform(0.0, 1.0))

    def _chance(self, probability: float) -> bool:
        return self._uniform(0.0, 1.0) < probability

    def _integer(self, high: int) -> int:
        return int(torch.randint(high, (), generator=self.generator))

    def _choose(self, *choices: tuple[float, Callable[[], Tensor]]) -> Callable[[], Tensor]:
        remaining = self._uniform(0.0, sum(weight for weight, _ in choices))
        for weight, choice in choices:
            remaining -= weight
            if remaining < 0:
                return choice
        return choices[-1][1]


def _cosines(positions: Tensor) -> Tensor:
    frequencies = torch.arange(6) * (math.pi / 2)
    return torch.cos((positions[:, None] + 1) * frequencies)


def _look_up(values: Tensor, table: Tensor) -> Tensor:
    """Apply a curve, given at evenly spaced points of [0, 1], to the nearest point."""
    index = (values * (len(table) - 1)).round_().clamp_(0, len(table) - 1)
    return table[index.long()]
