"""Throws files at the readers of what strangers wrote, guided by the code that they reach.

    pip install atheris
    PYTHONPATH=. python tests/fuzz.py pictures -max_total_time=600     # or npz, run

It ends at the first error that is not documented. Flags are libFuzzer's, which also bounds memory
(2 GB) and the time for a file; a folder of good files to begin with may stand before them.
"""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["compare", "data", "transfer"]):
    from test_hostile import READERS


def main():
    read, name = READERS[sys.argv.pop(1)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)

        def read_changed(content):
            path.write_bytes(content)
            read(path)

        atheris.Setup(sys.argv, read_changed)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
