"""Devices by name."""

import torch


def choose_device(name: str) -> torch.device:
    """Return a device by its name; "auto" is the first accelerator, else the processor.

    Raises:
        ValueError: If there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device must be auto or one that torch finds here, such as cpu, got {name!r}: {reason}"
        ) from None
    return device
