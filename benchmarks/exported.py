"""What is lost and gained by exporting: all formats of some runs in one table, and the page in Chromium.

    pip install -r tests/requirements.txt
    npm ci --ignore-scripts --prefix transfer/web
    python -m benchmarks.exported logs/frozen/NAME logs/full/NAME ...

Writes benchmarks/exported.json and .md; a run that is there already is not measured again. Each
runtime has one thread. The page's first answer is timed from opening the page; its milliseconds cover
the network alone, the median of 50 images.
"""

import contextlib
import functools
import http.server
import shutil
import statistics
import tempfile
import threading
from pathlib import Path

from PIL import Image

import export
from benchmarks import report
from transfer import card, files, formats, page, runs, terminal

RESULTS = Path(__file__).with_name("exported.json")
COLUMNS = (
    "run", "format", "bytes", "ms per image", "times LiteRT's speed", "max difference", "agreement", "accuracy",
)  # fmt: skip
IMAGES = 50


def main(arguments=None):
    parser = terminal.Parser(description="Exports runs to every format.")
    parser.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="folder of a run")
    asked = parser.parse_args(arguments)
    if not page.has_runtime():
        terminal.stop(f"the page needs ONNX Runtime: {page.INSTALL} transfer/web")
    export.one_thread()
    terminal.import_keras()
    rows = report.Rows(RESULTS)
    for folder in asked.runs:
        what = {"model": files.digest(folder / "model.keras")}
        rows.measured(what, functools.partial(measure, runs.read(folder)))
        write(rows.rows, RESULTS)
    print(tables(rows.rows))


def measure(run):
    dataset = runs.images_of([run])
    with tempfile.TemporaryDirectory() as made:
        rows, failed = export.convert(run, dataset, list(formats.FORMATS), Path(made), max_drop=1)
        if failed:
            raise failed[0]
        card.write(Path(made), run, dataset, rows)
        first, milliseconds = open_page(Path(made), dataset.validation.images[:IMAGES])
    config = run.config
    return {
        "run": f"{run.metrics['regime']}, {config['head']}",
        "image_size": config["image_size"],
        "data": dataset.description,
        "images": len(rows[0].labels),
        "first_answer": first,
        "page_milliseconds": milliseconds,
        "formats": [
            {
                "format": row.name,
                "bytes": row.measured.bytes,
                "milliseconds": 1000 * row.measured.seconds,
                "difference": row.difference,
                "agreement": row.agreement,
                "accuracy": row.accuracy,
            }
            for row in rows
        ],
    }


def tables(rows):
    lines = []
    for row in rows:
        (litert,) = [each for each in row["formats"] if each["format"] == "litert"]
        lines += [
            (
                row["run"],
                each["format"],
                f"{each['bytes']:,}",
                card.milliseconds(each["milliseconds"]),
                f"{litert['milliseconds'] / each['milliseconds']:.2f}",
                f"{each['difference']:.1g}",
                f"{each['agreement']:.2%}",
                f"{each['accuracy']:.4f}",
            )
            for each in row["formats"]
        ]
    pages = [
        f"- {row['run']}, {row['image_size']} px: first answer {row['first_answer']:.2f} s after "
        f"opening, then {card.milliseconds(row['page_milliseconds'])} ms per image"
        for row in rows
    ]
    table = terminal.markdown_table(COLUMNS, lines)
    return table + "\n\nThe page, in headless Chromium:\n\n" + "\n".join(pages)


def write(rows, path):
    commits, machines, data = (
        report.listed((row[key] for row in rows), "; ") for key in ("commit", "machine", "data")
    )
    images = report.listed(f"{row['images']:,}" for row in rows)
    about = (
        "# What is lost and gained by exporting\n\n"
        f"Made by `python -m benchmarks.exported RUN ...` on commit {commits}, {machines}: "
        f"runs on {data}, verified on {images} validation images. "
        "Milliseconds are those of one image on one thread."
    )
    report.write(path, about, tables(rows))


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextlib.contextmanager
def served(folder):
    """Serves a folder, as `python -m http.server` does; returns its address."""
    handler = functools.partial(Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def open_page(folder, images):
    """Opens the page in headless Chromium, and shows images to it.

    Returns:
        Seconds from opening it to the first answer, and median milliseconds of the network.
    """
    from selenium import webdriver
    from selenium.webdriver.support.ui import WebDriverWait

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in ("headless=new", "no-sandbox"):
        options.add_argument(f"--{argument}")
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    with (
        served(folder) as address,
        webdriver.Chrome(options, service) as driver,
        tempfile.TemporaryDirectory() as pictures,
    ):
        driver.get(address)
        first, times = None, []
        for number, image in enumerate(images):
            path = Path(pictures, f"{number}.png")
            Image.fromarray(image).save(path)
            wait = WebDriverWait(driver, 60, 0.02)
            wait.until(lambda _: driver.execute_script("return session && !choose.disabled"))
            driver.find_element("id", "file").send_keys(str(path))
            wait.until(
                lambda _, name=path.name: driver.execute_script(
                    "return answer?.name === arguments[0]", name
                )
            )
            first = first or driver.execute_script("return performance.now()") / 1000
            times.append(driver.execute_script("return answer.milliseconds"))
    return first, statistics.median(times)


if __name__ == "__main__":
    main()
