"""`python -m services.gateway`."""

import sys

from services.gateway.main import main

if __name__ == "__main__":
    sys.exit(main())
