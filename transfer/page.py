"""The page that runs an exported model in a browser: its files, and ONNX Runtime, which it needs."""

import shutil
from pathlib import Path

from transfer import files

SOURCE = Path(__file__).parent / "web"
FILES = ("index.html", "page.css", "page.js", "resize.js", "package.json", "package-lock.json")
# Where npm installs ONNX Runtime Web, and which of its files the page loads.
MODULES = "node_modules"
RUNTIME = tuple(
    f"onnxruntime-web/{name}"
    for name in (
        "package.json",
        "dist/ort.wasm.min.mjs",
        "dist/ort-wasm-simd-threaded.mjs",
        "dist/ort-wasm-simd-threaded.wasm",
    )
)
INSTALL = "npm ci --ignore-scripts --prefix"


def write(folder: Path) -> None:
    """Copies the page, and ONNX Runtime if npm has installed the version that it needs."""
    for name in FILES:
        shutil.copyfile(SOURCE / name, folder / name)
    if has_runtime():
        for name in RUNTIME:
            target = folder / MODULES / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(SOURCE / MODULES / name, target)


def has_runtime() -> bool:
    """Says whether npm has installed the ONNX Runtime that the page needs; npm has checked its hash."""
    needed = files.read_json(SOURCE / "package.json")["dependencies"]["onnxruntime-web"]
    try:
        found = files.read_json(SOURCE / MODULES / RUNTIME[0])["version"]
    except (OSError, ValueError, KeyError):
        return False
    return found == needed and all((SOURCE / MODULES / name).exists() for name in RUNTIME)
