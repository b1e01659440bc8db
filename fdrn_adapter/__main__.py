"""`python -m fdrn_adapter` is `fdrn`."""

import sys

from fdrn_adapter.cli import main

if __name__ == "__main__":
    sys.exit(main())
