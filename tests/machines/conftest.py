"""Put the shared images within reach: the importlib mode does not look beside a test."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
