"""What comes of a server that hangs, fails, stops half way or serves something else."""

import http.server
import shutil
import threading

import h5py
import pytest
from conftest import WEIGHTS

import squeezenet
from transfer import downloads

pytestmark = pytest.mark.real


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server on 127.0.0.1 that is both publishers; `answers` says what each request gets."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            server.asked.append(self.path)
            answer = server.answers.pop(0) if server.answers else 500
            if answer == "hang":
                released.wait(20)
            elif isinstance(answer, int):
                self.send_error(answer)
            else:
                body, sent = answer
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[:sent])

        def log_message(self, *arguments):
            pass

    released = threading.Event()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked, server.answers = [], []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(squeezenet, "WEIGHTS_URL", f"{base}/first/")
    monkeypatch.setattr(squeezenet, "SECOND_URL", f"{base}/second/")
    monkeypatch.setattr(downloads, "TIMEOUT", 0.5)
    monkeypatch.setattr(downloads, "WAITS", (0.01, 0.02))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    yield server
    released.set()
    server.shutdown()


def whole():
    content = WEIGHTS.read_bytes()
    return content, len(content)


def test_is_kept_under_its_name_and_not_asked_for_again(server, tmp_path):
    server.answers = [whole()]
    path = squeezenet.imagenet_weights(attempt=downloads.patiently)
    assert path == tmp_path / "home" / "models" / WEIGHTS.name
    assert path.read_bytes() == WEIGHTS.read_bytes()
    squeezenet.imagenet_weights(attempt=downloads.patiently)
    assert server.asked == [f"/first/{WEIGHTS.name}"]


@pytest.mark.parametrize(
    "trouble", ["hang", 500, (b"x" * 1000, 1000), (WEIGHTS.name.encode() * 99, 500)]
)
@pytest.mark.slow
def test_goes_on_to_the_second_publisher(server, tmp_path, trouble):
    server.answers = [trouble, whole()]
    assert squeezenet.imagenet_weights().read_bytes() == WEIGHTS.read_bytes()
    assert [path.split("/")[1] for path in server.asked] == ["first", "second"]
    assert len(list((tmp_path / "home" / "models").iterdir())) == 1


def test_the_second_publishers_bytes_differ_but_not_the_numbers(server, tmp_path):
    other = shutil.copy(WEIGHTS, tmp_path / "other.h5")
    with h5py.File(other, "a") as file:
        file.attrs["publisher"] = "another"
    content = other.read_bytes()
    server.answers = [500, (content, len(content))]
    squeezenet.SqueezeNet(include_top=False)
    squeezenet.SqueezeNet(include_top=False)
    assert len(server.asked) == 2
    with h5py.File(other, "a") as file:
        layer = file[file.attrs["layer_names"][1]]
        layer[layer.attrs["weight_names"][0]][0] += 1
    assert squeezenet.numbers_hash(other) not in squeezenet.WEIGHTS_NUMBERS.values()


def test_tries_three_times_then_says_what_to_do(server, tmp_path, capsys):
    with pytest.raises(OSError) as refused:
        squeezenet.imagenet_weights(attempt=downloads.patiently)
    assert len(server.asked) == 6
    message = str(refused.value)
    for words in (
        squeezenet.WEIGHTS_URL,
        WEIGHTS.name,
        "17154246284f",
        str(tmp_path / "home"),
        "500",
    ):
        assert words in message
    assert capsys.readouterr().out.count("download    failed") == 2
    assert not list((tmp_path / "home" / "models").iterdir())


def test_a_folder_that_cannot_be_written_to_is_named(server, tmp_path, monkeypatch):
    """Keras would download into /tmp instead."""
    monkeypatch.setattr(squeezenet.os, "access", lambda *_: False)
    folder = tmp_path / "home" / "models"
    with pytest.raises(OSError, match=f"{folder} can't be written to"):
        squeezenet.imagenet_weights(attempt=downloads.patiently)
    assert not server.asked


def test_a_third_try_may_succeed(server):
    server.answers = [500, 500, "hang", 500, whole()]
    assert (
        squeezenet.imagenet_weights(attempt=downloads.patiently).read_bytes()
        == WEIGHTS.read_bytes()
    )
