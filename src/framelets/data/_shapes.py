"""Draw sharp shapes into an image: each pixel gets, nearly, the average over its area.

A shape is a signed distance d in pixels, negative inside; the part of a pixel that it covers is
clamp(1/2 - d, 0, 1). Coordinates are pixels from the center of the image, x to the right along
width, y downwards along height. Everything works in place on NumPy memory: for shapes of a few
hundred pixels, the cost of a call decides.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
from jaxtyping import Float32

Canvas = Float32[np.ndarray, "height width"]
Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]
Kind = Literal["ellipse", "box", "capsule", "ring", "bars"]

KINDS: tuple[Kind, ...] = ("ellipse", "box", "capsule", "ring", "bars")


def draw_shape(
    canvas: Canvas,
    kind: Kind,
    center: tuple[float, float],
    half_axes: tuple[float, float],
    angle: float,
    value: float,
    mode: Literal["replace", "add"] = "replace",
) -> None:
    """Draw one shape with a constant value.

    Args:
        canvas: Changed in place.
        kind: The shape; a "ring" is the outline of an ellipse, a quarter of its short half axis
            thick;
            "bars" are stripes across a box with a period of half its short axis.
        center: Position (x, y) in pixels from the center of the canvas.
        half_axes: Half the length along the shape's own x and y, in pixels.
        angle: Rotation in radians, from x towards y.
        value: What the covered pixels take, or gain.
        mode: Whether they take or gain it.
    """
    a, b = half_axes
    cosine, sine = float(np.cos(angle)), float(np.sin(angle))

    def distance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        along, across = cosine * x + sine * y, cosine * y - sine * x
        if kind == "ellipse":
            return _ellipse(along, across, a, b)
        if kind == "ring":
            thickness = max(min(a, b) / 4, 1.0)
            hole = _ellipse(along, across, max(a - thickness, 0.1), max(b - thickness, 0.1))
            return np.asarray(np.maximum(_ellipse(along, across, a, b), -hole))
        if kind == "capsule":
            beyond = np.maximum(np.abs(along) - max(a - b, 0.0), 0)
            return np.asarray(np.sqrt(beyond**2 + across**2) - b)
        box = np.maximum(np.abs(along) - a, np.abs(across) - b)
        if kind == "box":
            return np.asarray(box)
        period = max(min(a, b) / 2, 2.0)
        stripe = np.abs(along / period - np.round(along / period)) * period - period / 4
        return np.asarray(np.maximum(box, stripe))

    _paint(canvas, distance, center, float(np.hypot(a, b)), value, mode)


def draw_polygon(
    canvas: Canvas,
    center: tuple[float, float],
    normals: Float32[np.ndarray, "side 2"],
    distances: Float32[np.ndarray, " side"],
    radius: float,
    value: float,
) -> None:
    """Draw a convex polygon, the part of a disk that lies behind every side.

    Args:
        canvas: Changed in place.
        center: Position (x, y) in pixels from the center of the canvas.
        normals: Unit vector of each side, pointing out.
        distances: Distance of each side from the center, in pixels.
        radius: Radius of the disk in pixels.
        value: What the covered pixels take.
    """

    def distance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        outside = np.sqrt(x**2 + y**2) - radius
        for (normal_x, normal_y), side in zip(normals, distances, strict=True):
            np.maximum(outside, normal_x * x + normal_y * y - side, out=outside)
        return np.asarray(outside)

    _paint(canvas, distance, center, radius, value, "replace")


def draw_curve(
    canvas: Canvas,
    points: Float32[np.ndarray, "point 2"],
    radii: Float32[np.ndarray, " point"],
    value: float,
) -> None:
    """Draw a line of changing thickness through points, as a vessel or a crack.

    Args:
        canvas: Changed in place.
        points: Positions (x, y) in pixels from the center of the canvas.
        radii: Half the thickness at each point in pixels; one thinner than a pixel fades.
        value: What the covered pixels take.
    """
    for start, end, radius in zip(points[:-1], points[1:], radii[:-1], strict=True):
        (x0, y0), step = (start + end) / 2, end - start
        length = float(np.hypot(step[0], step[1])) / 2
        angle = float(np.arctan2(step[1], step[0]))
        half_axes = (length + float(radius), float(radius))
        draw_shape(canvas, "capsule", (float(x0), float(y0)), half_axes, angle, value)


def _ellipse(x: np.ndarray, y: np.ndarray, a: float, b: float) -> np.ndarray:
    # First-order distance: the level function over the length of its gradient.
    x, y = x / a, y / b
    level = x**2 + y**2 - 1
    gradient = 2 * np.sqrt((x / a) ** 2 + (y / b) ** 2) + 1e-6
    return np.asarray(level / gradient)


def _paint(
    canvas: Canvas,
    distance: Distance,
    center: tuple[float, float],
    radius: float,
    value: float,
    mode: Literal["replace", "add"],
) -> None:
    height, width = canvas.shape
    row, column = center[1] + (height - 1) / 2, center[0] + (width - 1) / 2
    top, bottom = max(int(row - radius - 1), 0), min(int(row + radius + 3), height)
    left, right = max(int(column - radius - 1), 0), min(int(column + radius + 3), width)
    if top >= bottom or left >= right:
        return
    y = np.arange(top, bottom, dtype=np.float32)[:, None] - np.float32(row)
    x = np.arange(left, right, dtype=np.float32)[None, :] - np.float32(column)
    coverage = np.clip(0.5 - distance(x, y), 0, 1).astype(np.float32, copy=False)
    window = canvas[top:bottom, left:right]
    window += coverage * (value if mode == "add" else value - window)
