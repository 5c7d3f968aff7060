"""Put the shared tiny task within reach: the importlib mode does not look beside a test."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
