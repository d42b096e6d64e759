"""Draws which module imports which, from the imports themselves.

python docs/architecture.py      # writes docs/architecture.md
"""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
HEAD = """# Which module imports which

Made by `python docs/architecture.py` from the imports themselves. Arrows go down only: a module
imports none that stands above it. An import that another arrow implies is not drawn.
"""


def modules():
    """Returns the path of each module of the project, by the name that it is imported by."""
    paths = [*ROOT.glob("*.py"), *ROOT.glob("transfer/[!_]*.py")]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in sorted(paths)}


def imports(path, known):
    """Returns the names of the modules of the project that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found & known


def reached(name, edges, via=()):
    """Returns all modules that one imports, directly or through others.

    Raises:
        ValueError: It imports itself.
    """
    if name in via:
        raise ValueError(f"modules import each other: {' -> '.join([*via, name])}")
    below = [reached(other, edges, (*via, name)) for other in edges[name]]
    return edges[name].union(*below)


def drawn():
    """Returns the content of docs/architecture.md."""
    paths = modules()
    edges = {name: imports(path, paths.keys()) for name, path in paths.items()}
    direct = {
        name: sorted(
            other
            for other in targets
            if not any(other in reached(between, edges) for between in targets)
        )
        for name, targets in edges.items()
    }
    arrows = [f"    {name} --> {other}" for name in direct for other in direct[name]]
    rows = []
    for path in paths.values():
        about = ast.get_docstring(ast.parse(path.read_text())).splitlines()[0]
        rows.append(f"| `{path.relative_to(ROOT)}` | {about} |")
    chart = "\n".join(["```mermaid", "flowchart TD", *arrows, "```"])
    table = "\n".join(["| module | what it is for |", "|---|---|", *rows])
    return f"{HEAD}\n{chart}\n\n{table}\n"


if __name__ == "__main__":
    (ROOT / "docs" / "architecture.md").write_text(drawn())
