"""What forbids conditions of reconstruction, by the counts of channels and positions alone.

Each obstacle names the condition that it is about: a layer can miss one and reconstruct by another.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class LayerCounts:
    """Channels, taps and positions of a layer; no skip has no channels."""

    num_taps: int
    in_channels: int
    out_channels: int
    skip_channels: int
    num_positions: int
    num_pooled: int

    def obstacles(self, skip: str, padding: str) -> list[str]:
        """Say in words what the counts forbid."""
        found = []
        channels = self.out_channels + (self.skip_channels if skip == "own filters" else 0)
        of_skip = " with those of the skip" if skip == "own filters" else ""
        rows = self.num_taps * self.in_channels
        coefficients = self.out_channels * self.num_pooled + self.skip_channels * self.num_positions
        if self.num_pooled < self.num_positions:
            found.append(
                f"pooling keeps {self.num_pooled} of {self.num_positions} positions, the rank of "
                "Phi~ Phi^T at most, so it is no multiple of I; keep all subbands (HaarFilterBank) "
                "or use the dual frame of a skip"
            )
        if channels < rows:
            found.append(
                f"channels{of_skip} ({channels}) are fewer than taps times input channels "
                f"({rows}), so the filter condition lacks rank"
            )
        if channels < self.in_channels:
            found.append(
                f"channels{of_skip} ({channels}) are fewer than input channels "
                f"({self.in_channels}), so the condition at each frequency lacks rank"
            )
        if coefficients < self.in_channels * self.num_positions:
            found.append(
                f"coefficients ({coefficients}) are fewer than entries "
                f"({self.in_channels * self.num_positions}), so nothing reconstructs"
            )
        if padding == "zeros" and self.num_taps > 1:
            found.append(
                "with zeros beyond the ends, filters lose taps there: filters that satisfy the "
                "filter condition make the layer I in the interior only"
            )
        return found
