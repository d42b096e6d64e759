"""The code that the commands share; docs/architecture.md shows which module does what."""

import sys
from pathlib import Path

_before = sys.excepthook


def _excepthook(kind, error, traceback):
    """Ends a script in one line if Ctrl-C interrupts it as it imports, or if a package is missing."""
    script = Path(sys.argv[0]).name
    if issubclass(kind, KeyboardInterrupt):
        print(f"{script}: interrupted", file=sys.stderr)
    elif issubclass(kind, ModuleNotFoundError) and sys.prefix == sys.base_prefix:  # not in .venv
        print(
            f'{script}: {error.name} is not installed: run ". .venv/bin/activate" first (make sets '
            ".venv up), or pip install -r requirements.txt",
            file=sys.stderr,
        )
        sys.exit(2)
    else:
        _before(kind, error, traceback)


sys.excepthook = _excepthook
