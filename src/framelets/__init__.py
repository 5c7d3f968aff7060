"""framelets: reconstruct images from incomplete measurements, and explain the networks that do it.

Everything lives in rooms (`framelets.geometry`, `framelets.physics`, ...); the names that most
users need are here and are imported when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from framelets.core import LinearOperator
    from framelets.geometry import LocalMap, linearize
    from framelets.networks import UNet

__version__ = "0.1.0"
__all__ = ["LinearOperator", "LocalMap", "UNet", "__version__", "linearize"]

_ROOMS = {
    "LinearOperator": "framelets.core",
    "LocalMap": "framelets.geometry",
    "UNet": "framelets.networks",
    "linearize": "framelets.geometry",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import a public name from its room when it is first used."""
    if name in _ROOMS:
        return getattr(import_module(_ROOMS[name]), name)
    raise AttributeError(f"module 'framelets' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted(__all__)
