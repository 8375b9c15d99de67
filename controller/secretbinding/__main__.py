"""`python -m secretbinding` is the command line."""

import sys

from secretbinding.cli import main

if __name__ == "__main__":
    sys.exit(main())
