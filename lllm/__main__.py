"""`python -m lllm` is `lllm`."""

import sys

from lllm.cli import main

if __name__ == "__main__":
    sys.exit(main())
