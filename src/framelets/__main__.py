"""The command line as `python -m framelets`."""

import sys

from framelets.cli import main

if __name__ == "__main__":
    sys.exit(main())
