"""The house: which module imports which, and what works without the others."""

import runpy
import shutil
import subprocess
import sys

from conftest import ROOT

ALONE = """
import squeezenet
backbone = squeezenet.SqueezeNet(include_top=False, weights=None)
print(squeezenet.replace_head(backbone, classes=5).output_shape)
"""


def test_modules_import_only_what_stands_below_them_and_the_drawing_is_of_today():
    drawn = runpy.run_path(str(ROOT / "docs" / "architecture.py"))["drawn"]
    assert drawn() == (ROOT / "docs" / "architecture.md").read_text(), "run docs/architecture.py"


def test_squeezenet_works_in_another_project(tmp_path):
    shutil.copy(ROOT / "squeezenet.py", tmp_path)
    alone = [sys.executable, "-c", ALONE]
    result = subprocess.run(alone, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stdout == "(None, 5)\n"
