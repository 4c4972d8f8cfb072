"""`python -m neurobench` is the command line."""

import sys

from neurobench.errors import NeurobenchError
from neurobench.registry import ensure_ours


def main() -> None:
    """Check that this package is whole, then hand over to the command line."""
    try:
        ensure_ours()
    except NeurobenchError as error:
        sys.stderr.write(f"neurobench: {error}\n")
        sys.exit(error.exit_code)
    from neurobench.cli import main as command_line

    command_line()


if __name__ == "__main__":
    main()
