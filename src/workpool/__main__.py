"""`python -m workpool`: the command `workpool`."""

import sys

from workpool.cli import main

if __name__ == "__main__":
    sys.exit(main())
