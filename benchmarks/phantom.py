"""The modified Shepp-Logan phantom and its exact line integrals; NumPy only.

x points right and y up, toward row 0; the line (angle, u) is x cos angle + y sin angle = u. The
line integral of an ellipse with semi-axes a and b, turned by phi and centered at (x0, y0), is
2 density a b sqrt(r^2 - s^2) / r^2 with r^2 = a^2 cos^2(angle - phi) + b^2 sin^2(angle - phi) and
s = u - x0 cos angle - y0 sin angle.

References:
    P. A. Toft, "The Radon transform: theory and implementation", 1996, appendix B.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

# density, a, b, x0, y0 as parts of half the image, phi in degrees
_ELLIPSES = [
    (1.0, 0.69, 0.92, 0.0, 0.0, 0),
    (-0.8, 0.6624, 0.874, 0.0, -0.0184, 0),
    (-0.2, 0.11, 0.31, 0.22, 0.0, -18),
    (-0.2, 0.16, 0.41, -0.22, 0.0, 18),
    (0.1, 0.21, 0.25, 0.0, 0.35, 0),
    (0.1, 0.046, 0.046, 0.0, 0.1, 0),
    (0.1, 0.046, 0.046, 0.0, -0.1, 0),
    (0.1, 0.046, 0.023, -0.08, -0.605, 0),
    (0.1, 0.023, 0.023, 0.0, -0.606, 0),
    (0.1, 0.023, 0.046, 0.06, -0.605, 0),
]
_OVERSAMPLING = 4


def phantom_image(size: int) -> NDArray[np.float64]:
    """Average the phantom over the pixels of a size x size image."""
    num = size * _OVERSAMPLING
    x = (np.arange(num) + 0.5) / num * 2 - 1
    x, y = x[None, :], -x[:, None]
    image = np.zeros((num, num))
    for density, a, b, x0, y0, phi_deg in _ELLIPSES:
        cosine, sine = np.cos(np.deg2rad(phi_deg)), np.sin(np.deg2rad(phi_deg))
        along = (x - x0) * cosine + (y - y0) * sine
        across = (y - y0) * cosine - (x - x0) * sine
        image += density * ((along / a) ** 2 + (across / b) ** 2 <= 1)
    return image.reshape(size, _OVERSAMPLING, size, _OVERSAMPLING).mean(axis=(1, 3))


def phantom_integrals(angles: ArrayLike, u: ArrayLike, size: int) -> NDArray[np.float64]:
    """Integrate the phantom along lines; lengths are in pixels of a size x size image.

    Args:
        angles: Angles of the normals of the lines, in radians.
        u: Signed distances from the center, in pixels; broadcast against the angles.
        size: Height and width of the image in pixels.

    Returns:
        The line integrals.
    """
    half = size / 2
    angles, u = np.asarray(angles), np.asarray(u) / half
    total = np.zeros(np.broadcast_shapes(angles.shape, u.shape))
    for density, a, b, x0, y0, phi_deg in _ELLIPSES:
        turned = angles - np.deg2rad(phi_deg)
        r2 = (a * np.cos(turned)) ** 2 + (b * np.sin(turned)) ** 2
        s = u - x0 * np.cos(angles) - y0 * np.sin(angles)
        total += 2 * density * a * b * np.sqrt(np.clip(r2 - s**2, 0, None)) / r2
    return total * half
