"""Compiled loops of the two interpolations: Joseph's along rays, linear on the detector.

Every kernel is serial and releases the GIL; `_threads` splits its first axis over threads of our
own. numba's own parallel layers kill forked workers or abort when two threads call them. Arrays
have the batch last, so that one weight serves every image of a batch; the loops over it are
written out, as a call that passes arrays costs several times its own sum.

A ray is (start, slope, length, main): it crosses line i of the main axis (rows if main is 0,
columns if 1) at position start + slope i of the other axis, and spends `length` mm between lines.
"""

import inspect
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def _compile(kernel: Callable[..., Any]) -> Callable[..., Any]:
    compiled: Callable[..., Any]
    kernel = inspect.unwrap(kernel)  # run-time type checks wrap functions as they are imported
    try:
        compiled = numba.njit(kernel, cache=True, nogil=True, error_model="numpy")
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        compiled = numba.njit(kernel, nogil=True, error_model="numpy")
    return compiled


@_compile
def _crossings(start: float, slope: float, num_lines: int, size: int) -> tuple[int, int]:
    # The lines i with -1 < start + slope i < size, where interpolation meets at least one pixel.
    # One line more on either side may come by rounding: the kernels check every index.
    if slope == 0.0:
        return (0, num_lines) if -1.0 < start < size else (0, 0)
    one, other = (-1.0 - start) / slope, (size - start) / slope
    low = max(np.ceil(min(one, other)), 0.0)
    high = min(np.floor(max(one, other)) + 1.0, float(num_lines))
    return (int(low), int(high)) if low < high else (0, 0)


@_compile
def _strides(main: float, height: int, width: int) -> tuple[int, int, int, int]:
    # Number of lines, pixels on a line, and strides along and across the main axis.
    if main == 0.0:
        return height, width, width, 1
    return width, height, 1, width


@_compile
def joseph_count(
    first: int, last: int, rays: Array, height: int, width: int, counts: Array
) -> None:
    """Count the pixels of every ray."""
    for r in range(first, last):
        start, slope = rays[r, 0], rays[r, 1]
        num_lines, size, _, _ = _strides(rays[r, 3], height, width)
        low, high = _crossings(start, slope, num_lines, size)
        count = 0
        for i in range(low, high):
            j = int(np.floor(start + slope * i))
            count += (0 <= j < size) + (0 <= j + 1 < size)
        counts[r] = count


@_compile
def joseph_fill(
    first: int,
    last: int,
    rays: Array,
    height: int,
    width: int,
    begins: Array,
    columns: Array,
    values: Array,
) -> None:
    """Write the pixels of every ray and their weights in mm into the rows of a CSR matrix."""
    for r in range(first, last):
        start, slope, length = rays[r, 0], rays[r, 1], rays[r, 2]
        num_lines, size, along, across = _strides(rays[r, 3], height, width)
        low, high = _crossings(start, slope, num_lines, size)
        n = begins[r]
        for i in range(low, high):
            position = start + slope * i
            j = int(np.floor(position))
            fraction = position - j
            if 0 <= j < size:
                columns[n] = i * along + j * across
                values[n] = (1.0 - fraction) * length
                n += 1
            if 0 <= j + 1 < size:
                columns[n] = i * along + (j + 1) * across
                values[n] = fraction * length
                n += 1


@_compile
def joseph_forward(
    first: int, last: int, rays: Array, height: int, width: int, image: Array, line: Array
) -> None:
    """Integrate the image along every ray."""
    num_batch, as_pixel = image.shape[1], image.dtype.type
    line[first:last] = 0.0
    for r in range(first, last):
        start, slope, length = rays[r, 0], rays[r, 1], rays[r, 2]
        num_lines, size, along, across = _strides(rays[r, 3], height, width)
        low, high = _crossings(start, slope, num_lines, size)
        total = 0.0  # in a register: a sum in memory would wait for itself at every crossing
        for i in range(low, high):
            position = start + slope * i
            j = int(np.floor(position))
            fraction = position - j
            pixel = i * along + j * across
            one, other = as_pixel((1.0 - fraction) * length), as_pixel(fraction * length)
            if j >= 0 and j + 1 < size:
                if num_batch == 1:
                    total += one * image[pixel, 0] + other * image[pixel + across, 0]
                else:
                    for b in range(num_batch):
                        line[r, b] += one * image[pixel, b] + other * image[pixel + across, b]
            elif 0 <= j < size:
                for b in range(num_batch):
                    line[r, b] += one * image[pixel, b]
            elif 0 <= j + 1 < size:
                for b in range(num_batch):
                    line[r, b] += other * image[pixel + across, b]
        line[r, 0] += total


@_compile
def joseph_adjoint(
    first: int, last: int, rays: Array, height: int, width: int, line: Array, image: Array
) -> None:
    """Add every ray's value to its pixels; each thread needs an image of its own."""
    num_batch, as_pixel = image.shape[1], image.dtype.type
    for r in range(first, last):
        start, slope, length = rays[r, 0], rays[r, 1], rays[r, 2]
        num_lines, size, along, across = _strides(rays[r, 3], height, width)
        low, high = _crossings(start, slope, num_lines, size)
        for i in range(low, high):
            position = start + slope * i
            j = int(np.floor(position))
            fraction = position - j
            pixel = i * along + j * across
            if 0 <= j < size:
                weight = as_pixel((1.0 - fraction) * length)
                for b in range(num_batch):
                    image[pixel, b] += weight * line[r, b]
            if 0 <= j + 1 < size:
                weight = as_pixel(fraction * length)
                for b in range(num_batch):
                    image[pixel + across, b] += weight * line[r, b]


@_compile
def _detector_position(
    matrix: Array, row: int, column: int, power: int, num_detectors: int
) -> tuple[int, float, float]:
    # The detector pair (j, j + 1) that a pixel projects between, and its two weights.
    inverse = 1.0 / (matrix[1, 0] * column + (matrix[1, 1] * row + matrix[1, 2]))
    position = (matrix[0, 0] * column + (matrix[0, 1] * row + matrix[0, 2])) * inverse
    if not -1.0 < position < num_detectors:
        return -2, 0.0, 0.0
    weight = 1.0
    if power > 0:
        weight = inverse
    if power > 1:
        weight *= inverse
    j = int(np.floor(position))
    fraction = position - j
    return j, (1.0 - fraction) * weight, fraction * weight


@_compile
def pixel_count(
    first: int,
    last: int,
    matrices: Array,
    power: int,
    width: int,
    num_detectors: int,
    counts: Array,
) -> None:
    """Count the detector elements of every pixel in image rows first to last."""
    for row in range(first, last):
        for column in range(width):
            count = 0
            for v in range(len(matrices)):
                j, _, _ = _detector_position(matrices[v], row, column, power, num_detectors)
                count += (0 <= j < num_detectors) + (0 <= j + 1 < num_detectors)
            counts[row * width + column] = count


@_compile
def pixel_fill(
    first: int,
    last: int,
    matrices: Array,
    power: int,
    width: int,
    num_detectors: int,
    begins: Array,
    columns: Array,
    values: Array,
) -> None:
    """Write the detector elements of every pixel and their weights into rows of a CSR matrix."""
    for row in range(first, last):
        for column in range(width):
            n = begins[row * width + column]
            for v in range(len(matrices)):
                j, one, other = _detector_position(matrices[v], row, column, power, num_detectors)
                if 0 <= j < num_detectors:
                    columns[n] = v * num_detectors + j
                    values[n] = one
                    n += 1
                if 0 <= j + 1 < num_detectors:
                    columns[n] = v * num_detectors + j + 1
                    values[n] = other
                    n += 1


@_compile
def pixel_forward(
    first: int,
    last: int,
    matrices: Array,
    power: int,
    width: int,
    num_detectors: int,
    sinogram: Array,
    image: Array,
) -> None:
    """Sum over the views what the detector shows where each pixel of rows first to last falls."""
    num_batch, as_pixel = image.shape[1], image.dtype.type
    image[first * width : last * width] = 0.0
    for row in range(first, last):
        for v in range(len(matrices)):
            matrix = matrices[v]
            for column in range(width):
                j, one, other = _detector_position(matrix, row, column, power, num_detectors)
                pixel, element = row * width + column, v * num_detectors + j
                one, other = as_pixel(one), as_pixel(other)
                if j >= 0 and j + 1 < num_detectors:
                    for b in range(num_batch):
                        image[pixel, b] += (
                            one * sinogram[element, b] + other * sinogram[element + 1, b]
                        )
                elif 0 <= j < num_detectors:
                    for b in range(num_batch):
                        image[pixel, b] += one * sinogram[element, b]
                elif 0 <= j + 1 < num_detectors:
                    for b in range(num_batch):
                        image[pixel, b] += other * sinogram[element + 1, b]


@_compile
def pixel_adjoint(
    first: int,
    last: int,
    matrices: Array,
    power: int,
    width: int,
    num_detectors: int,
    image: Array,
    sinogram: Array,
) -> None:
    """Add every pixel to the detector elements of views first to last that it projects between."""
    num_batch, as_pixel = image.shape[1], image.dtype.type
    sinogram[first * num_detectors : last * num_detectors] = 0.0
    for v in range(first, last):
        matrix = matrices[v]
        for row in range(len(image) // width):
            for column in range(width):
                j, one, other = _detector_position(matrix, row, column, power, num_detectors)
                pixel, element = row * width + column, v * num_detectors + j
                one, other = as_pixel(one), as_pixel(other)
                if 0 <= j < num_detectors:
                    for b in range(num_batch):
                        sinogram[element, b] += one * image[pixel, b]
                if 0 <= j + 1 < num_detectors:
                    for b in range(num_batch):
                        sinogram[element + 1, b] += other * image[pixel, b]


@_compile
def transpose(
    crow: Array,
    columns: Array,
    values: Array,
    crow_transposed: Array,
    columns_transposed: Array,
    values_transposed: Array,
) -> None:
    """Transpose a CSR matrix by a counting sort; `crow_transposed` comes in as zeros."""
    for column in columns:
        crow_transposed[column + 1] += 1
    for i in range(len(crow_transposed) - 1):
        crow_transposed[i + 1] += crow_transposed[i]
    place = crow_transposed[:-1].copy()
    for r in range(len(crow) - 1):
        for n in range(crow[r], crow[r + 1]):
            target = place[columns[n]]
            columns_transposed[target] = r
            values_transposed[target] = values[n]
            place[columns[n]] = target + 1
