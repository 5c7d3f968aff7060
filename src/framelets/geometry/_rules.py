"""The rule of every operation that can be recorded."""

from framelets.geometry._linear_rules import LINEAR_RULES, Rule
from framelets.geometry._normalization_rules import NORMALIZATION_RULES
from framelets.geometry._product_rules import PRODUCT_RULES
from framelets.geometry._slope_rules import SLOPE_RULES

SUPPORTED: dict[str, Rule] = LINEAR_RULES | PRODUCT_RULES | NORMALIZATION_RULES | SLOPE_RULES
"""From an operation's name (in `torch.ops.aten`) to its rule."""
