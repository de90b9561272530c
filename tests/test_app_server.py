"""The application as a process: its command, attacks on every endpoint that Gradio has, and a real browser."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from threading import Timer
from types import SimpleNamespace
from typing import Any, NamedTuple

import httpx
import numpy as np
import pytest
from PIL import Image

if find_spec("gradio") is None:
    pytest.skip("the extra app is not installed", allow_module_level=True)

from gan_app import auditing, directions, server
from gan_app.access import COOKIE
from gan_app.auditing import Auditor
from gan_app.models import EXAMPLE, EXAMPLE_FOLDER, Models, make, make_blends, reconstruct
from gan_app.pictures import shown as sheet
from gan_app.users import add
from gan_shared.checkpoint import newest_step
from gan_shared.config import Config
from gan_shared.errors import UserError
from gan_shared.latents import LatentSource, blends
from gan_shared.manifest import read_config
from tests.fixtures import ANY, TRAIN_MAINS
from tests.frameworks import HERE

PASSWORDS = {"vera": "correct horse battery", "otto": "battery horse correct"}
SECRET = "what nobody may read"


class Served(NamedTuple):
    """A server that runs.

    Attributes:
        url: of its page.
        folder: its runs are in ``runs`` there, and a file that nobody may read.
    """

    url: str
    folder: Path

    @contextmanager
    def client(self, name: str | None = None) -> Iterator[httpx.Client]:
        """Give a client, which is logged in as somebody where a name is given."""
        with httpx.Client(base_url=self.url, timeout=60) as client:
            if name is not None:
                found = client.post("/login", data={"name": name, "password": PASSWORDS[name]})
                assert found.status_code == 303 and COOKIE in client.cookies
            yield client

    def log(self) -> list[dict[str, Any]]:
        """Return what the server has written down."""
        return [json.loads(line) for line in (self.folder / "runs" / "access.jsonl").read_text().splitlines()]


def serving(folder: Path, *options: str) -> Iterator[Served]:
    """Run a server until the block ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "gan_app.server", str(folder / "runs"), "--port", str(port), "--device", "cpu"]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            while line and "the page is at" not in line:
                line = process.stdout.readline()
            url = line.split()[-1]
            for _ in range(200):
                try:
                    httpx.get(f"{url}/login", verify=False)
                    break
                except httpx.TransportError:
                    time.sleep(0.1)
            yield Served(url, folder)
        finally:
            process.terminate()
            assert process.wait(30) == 143


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of two steps, the newest of which are digits, and a file beside them."""
    path = tmp_path_factory.mktemp("app")
    size = ["--resolution", "16", "--width", "0.0625", "--latent-size", "8", "--batch-size", "8", "--device", "cpu"]
    for name, options in (
        ("inverted", ["vgg-inversion", *size, "--resolution", "32", "--data", "mnist-5k", "--vgg-weights", "random"]),
        ("classes", ["dcgan", *size, "--class-conditional"]),
        ("digits", ["dcgan", *size]),
    ):
        assert TRAIN_MAINS[ANY]([*options, "--steps", "2", "--run-dir", str(path / "runs" / name)]) == 0
    (path / "secret.txt").write_text(SECRET)
    (path / "runs" / "link").symlink_to(path)
    for name, role in (("vera", "viewer"), ("otto", "owner")):
        add(path / "users.json", name, PASSWORDS[name], role)
    return path


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[Served]:
    """A server with users."""
    yield from serving(folder, "--auth-file", str(folder / "users.json"))


# --- the command --------------------------------------------------------------------------------------------


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert server.main(arguments) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") == 1
    return message.removeprefix("error: ").rstrip("\n")


def test_nothing_but_this_machine_is_listened_to_without_credentials(capsys, tmp_path: Path):
    for host in ("0.0.0.0", "192.168.1.1", "::", "example.org"):
        expected = f"host: found {host}, expected 127.0.0.1, or --auth-file or --token for who may enter"
        assert refusal(capsys, str(tmp_path), "--host", host) == expected
    assert refusal(capsys, "--port", "65536").startswith("port: found 65536, expected a number from 0 to 65535")
    assert refusal(capsys, "--token", "--auth-file", "x").startswith("token: found it beside auth_file, expected one")
    assert refusal(capsys, "--auth-file", str(tmp_path / "none")).endswith("expected a file of users")
    assert refusal(capsys, "--ssl-keyfile", "x").startswith("ssl_keyfile: found x, expected a --ssl-certfile")
    (tmp_path / "cert.pem").write_text("no certificate")
    message = refusal(capsys, "--ssl-certfile", str(tmp_path / "cert.pem"))
    assert message.startswith(f"ssl_certfile: found {tmp_path / 'cert.pem'}, expected a certificate and its key (")
    assert not (tmp_path / "access.jsonl").exists()


def test_users_are_added_by_the_command(capsys, tmp_path: Path):
    command = [sys.executable, "-m", "gan_app.server", "--auth-file", str(tmp_path / "users.json"), "--add-user"]
    given: dict[str, Any] = {"capture_output": True, "text": True}
    done = subprocess.run([*command, "anna", "--role", "owner"], input="a long password\n", **given)
    assert done.returncode == 0 and "anna is a user of" in done.stdout and "a long password" not in done.stdout
    done = subprocess.run([*command, "bert"], input="short\n", **given)
    assert done.returncode == 2 and done.stderr == "error: password: found 5 characters, expected 10 to 1,024\n"
    assert list(json.loads((tmp_path / "users.json").read_text())["users"]) == ["anna"]
    assert refusal(capsys, "--add-user", "x").startswith("auth_file: found none, expected a file to add the user to")


# --- runs ---------------------------------------------------------------------------------------------------


def test_the_runs_of_the_folder_are_found_and_no_others(folder: Path):
    models = Models(folder / "runs", HERE, "cpu")
    assert models.names() == ["digits", "classes", "inverted", EXAMPLE]
    assert models.checkpoints("digits") == ["newest", "step-0000002"]
    for name in ("..", "link", "digits/checkpoints", "/etc", "", "digits/../digits"):
        with pytest.raises(UserError, match=r"^run: found .*, expected a run of the list$"):
            models.path(name)
    with pytest.raises(UserError, match=r"^checkpoint: found '\.\./\.\.', expected one of the list$"):
        models.open("digits", "../..", ANY)
    assert Models(folder / "nowhere", HERE, "cpu").names() == [EXAMPLE]


def test_generators_that_are_given_images_are_opened_for_who_has_some(folder: Path):
    models = Models(folder / "runs", HERE, "cpu")
    refused = "its generator is given images; choose one that makes them from latents"
    with pytest.raises(UserError, match=refused):
        models.open("inverted", "newest", ANY)
    opened = models.open("inverted", "newest", ANY, given_images=True)
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    assert reconstruct(opened, image).shape == (32, 32, 3)
    with pytest.raises(UserError, match=refused):  # one that is kept, too
        models.open("inverted", "newest", ANY)


@pytest.mark.parametrize("name", HERE)
def test_the_example_makes_digits_that_differ(name: str):
    models = Models(Path("nowhere"), HERE, "cpu")
    opened = models.open(EXAMPLE, "newest", name)
    assert opened is models.open(EXAMPLE, "newest", name)
    images = np.concatenate(list(make(opened, LatentSource(), 20))).astype(int)
    assert images.shape == (20, 32, 32, 1) and np.abs(images[1:] - images[0]).mean() > 10
    assert (EXAMPLE_FOLDER / "model.safetensors").stat().st_size < 10**6


def test_a_run_that_goes_on_is_opened_anew(folder: Path, tmp_path: Path):
    shutil.copytree(folder / "runs" / "digits", tmp_path / "digits")
    models = Models(tmp_path, HERE, "cpu")
    first = models.open("digits", "newest", ANY)
    assert TRAIN_MAINS[ANY](["--resume", "--run-dir", str(tmp_path / "digits"), "--steps", "3"]) == 0
    second = models.open("digits", "newest", ANY)
    assert (first.loaded[0].step, second.loaded[0].step) == (2, 3)
    assert models.open("digits", "step-0000002", ANY).loaded[0].step == 2


def test_the_direction_that_changes_images_most_is_found(monkeypatch: pytest.MonkeyPatch):
    """Images that follow from three numbers of a latent of eight, by known amounts."""
    patterns, sign = np.zeros((8, 16, 16, 1)), np.where(np.arange(16) < 8, 1, -1)
    patterns[5], patterns[2] = 30 * sign[:, None, None], 15 * sign[None, :, None]
    patterns[0] = 7 * (-1.0) ** np.arange(16)[:, None, None]

    def linear(opened: object, latents: np.ndarray, classes: object) -> np.ndarray:
        return np.clip(128 + np.tensordot(latents, patterns, 1), 0, 255).astype(np.uint8)

    monkeypatch.setattr(directions, "make_of", linear)
    config = Config().with_options(latent_size=8)
    found = directions.principal_directions(SimpleNamespace(config=config), 3)  # type: ignore[arg-type]
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), np.sqrt(8), rtol=1e-6)
    for direction, number in zip(found, (5, 2, 0), strict=True):
        assert abs(direction[number]) > 0.95 * np.sqrt(8)


# --- attacks ------------------------------------------------------------------------------------------------

PARAMETERS = re.compile(r"\{[^}]*\}")


# Prints method and path of every route that Gradio's application has. In a process of its own, as Gradio leaves sockets
# and event loops open. FastAPI keeps the routes of a router that was included apart from the application's own.
LISTING = """
import json
import gradio
from gradio.routes import App

with gradio.Blocks(analytics_enabled=False) as blocks:
    gradio.Button().click(lambda: None, api_name="generate")
routes = []
for route in App.create_app(blocks).routes:
    routes += route.original_router.routes if hasattr(route, "original_router") else [route]
print(json.dumps([[method, route.path] for route in routes for method in getattr(route, "methods", None) or ["GET"]]))
"""


def every_endpoint() -> list[tuple[str, str]]:
    """List method and path of every route that Gradio's application has."""
    done = subprocess.run([sys.executable, "-c", LISTING], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    return sorted({(method, PARAMETERS.sub("generate", path) or "/") for method, path in found})


def test_no_endpoint_is_reached_without_a_session(served: Served):
    endpoints = every_endpoint()
    assert len(endpoints) > 60 and ("POST", "/gradio_api/queue/join") in endpoints
    with served.client() as client:
        for method, path in endpoints:
            own = path.rstrip("/") in ("/login", "/logout")
            status = client.request(method, path).status_code
            assert status in ((200, 303, 401, 405) if own else (401,)), (method, path, status)
        assert client.post("/login", data={"username": "vera", "password": PASSWORDS["vera"]}).status_code == 401


TRAVERSALS = [
    "/gradio_api/file={secret}",
    "/gradio_api/file=../secret.txt",
    "/gradio_api/file=..%2f..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
    "/gradio_api/file=/etc/passwd",
    "/gradio_api/file=/proc/self/environ",
    "/gradio_api/file=file:///etc/passwd",
    "/gradio_api/file=http://127.0.0.1:1/",
    "/gradio_api/file={runs}/access.jsonl",
    "/gradio_api/file={runs}/digits/config.json",
    "/gradio_api/file={runs}/link/secret.txt",
    "/assets/../../../../../../../../etc/passwd",
    "/assets/..%2f..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
    "/static/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "/svelte/../../../../../etc/passwd",
    "/gradio_api/proxy=http://127.0.0.1:1/",
]


@pytest.mark.parametrize("attack", TRAVERSALS)
def test_no_file_of_the_machine_is_served(served: Served, attack: str):
    path = attack.format(secret=served.folder / "secret.txt", runs=served.folder / "runs")
    with served.client("otto") as client:
        found = client.get(path)
    assert found.status_code in (400, 403, 404, 422), found.text[:200]
    assert SECRET not in found.text and "root:" not in found.text and "PATH=" not in found.text


def call(client: httpx.Client, served: Served, name: str, data: list[Any], choose: str = "") -> dict[str, Any]:
    """Call a handler of the page by its name, as its script does, and return the last event; see ``events``."""
    *_, last = events(client, name, data, choose)
    return last


def events(client: httpx.Client, name: str, data: list[Any], choose: str = "") -> Iterator[dict[str, Any]]:
    """Call a handler of the page by its name, as its script does, and yield its answers as they come.

    Where a run is chosen, what depends on it is looked up first: its checkpoints and classes.
    """
    config = client.get("/config").json()
    called = next(each for each in config["dependencies"] if each["api_name"] == name)
    session = os.urandom(8).hex()
    if choose:
        run, checkpoint, _, classes, *_ = called["inputs"]
        lists = {"inputs": [run], "outputs": [checkpoint, classes]}
        looked = next(each for each in config["dependencies"] if {key: each[key] for key in lists} == lists)
        (found,) = answers(client, looked["id"], [choose], session)
        assert found["success"], found
    yield from answers(client, called["id"], data, session)


def answers(client: httpx.Client, function: int, data: list[Any], session: str) -> Iterator[dict[str, Any]]:
    """Call a handler of the page by its number, and yield what it answers."""
    body = {"data": data, "fn_index": function, "session_hash": session}
    joined = client.post("/gradio_api/queue/join", json=body)
    if joined.status_code != 200:
        yield {"status": joined.status_code, "text": joined.text}
        return
    with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as stream:
        for line in stream.iter_lines():
            event = json.loads(line.removeprefix("data:")) if line.startswith("data:") else {}
            if event.get("msg") == "process_generating":
                yield event
            if event.get("msg") == "process_completed":
                yield event
                return
    raise AssertionError("the stream ended without an answer")


def error(event: dict[str, Any]) -> str:
    """Return the sentence that a handler answered with."""
    assert event["success"] is False, event
    return event["output"]["error"]


GOOD = ["digits", "newest", ANY, [], "0-3", 4, 3, True]


# Opens more pages than are kept, in a process of its own: Gradio leaves things behind that pytest would see.
PAGES = """
import sys
from pathlib import Path
from threading import Semaphore
from gradio.routes import App
from gan_app.auditing import Auditor
from gan_app.context import Context, Limits
from gan_app.models import Models
from gan_app.page import OPEN_PAGES, build
from gan_app.record import AccessLog
from gan_app.training import Trainer
folder = Path(sys.argv[1])
trainer, auditor = Trainer(folder, "cpu", 1.0), Auditor(1.0)
models = Models(folder, [sys.argv[2]], "cpu")
context = Context(models, AccessLog(None), Limits(), trainer, auditor, folder / "made", Semaphore(1))
kept = App.create_app(build(context, with_login=False)).state_holder
for number in range(OPEN_PAGES + 2):
    kept[f"page {number}"]
print(len(kept.session_data), OPEN_PAGES, "page 0" in kept)
"""


def test_pages_that_were_opened_long_ago_are_forgotten(tmp_path: Path):
    """Gradio keeps a third of a megabyte for each page that was ever opened, up to a number."""
    command = [sys.executable, "-c", PAGES, str(tmp_path), ANY]
    environment = {**os.environ, "GRADIO_ANALYTICS_ENABLED": "False"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)
    assert done.stdout == "500 500 False\n", done.stderr


def test_a_viewer_makes_images_and_mistakes_are_sentences(served: Served):
    with served.client("vera") as client:
        event = call(client, served, "generate", GOOD)
        assert event["success"], event
        for place, value, message in (
            # Lists and sliders are held to by Gradio already, before the application's own checks.
            (0, "../secret.txt", "Value: ../secret.txt is not in the list of choices: ['digits', "),
            (1, "../../..", "Value: ../../.. is not in the list of choices: ['newest'"),
            (2, "os", "Value: 'os' (type: <class 'str'>) is not in the list of choices: "),
            (4, "0-99999999999", "seeds: found more than 256, expected fewer"),
            (4, "0-255,256", "seeds: found more than 256, expected fewer"),
            (4, "__import__('os')", "seeds: found \"__import__('os')\", expected whole numbers and ranges of them"),
            (6, -1, "Value -1 is less than minimum value 0.1."),
        ):
            data = [*GOOD[:place], value, *GOOD[place + 1 :]]
            assert error(call(client, served, "generate", data)).startswith(message)
        data = [*GOOD[:4], "7", 10**9, *GOOD[6:]]
        assert "256" in error(call(client, served, "generate", data))
    assert {"generate", "logged in"} <= {line["event"] for line in served.log() if line["user"] == "vera"}


def test_a_walk_has_a_frame_for_each_of_its_seeds_at_most(served: Served):
    with served.client("vera") as client:
        for seeds, message in (
            ("0-999999", "seeds: found more than 300, expected fewer"),
            ("0-9", "frames: found 4, expected at least the 10 seeds, as each is a frame"),
            ("5", "seeds: found one, expected two or more to walk between"),
        ):
            assert error(call(client, served, "walk", ["digits", "newest", ANY, [], seeds, 4, "GIF"])) == message
        assert call(client, served, "walk", ["digits", "newest", ANY, [], "1, 2", 300, "GIF"])["success"]


@pytest.mark.skipif(len(HERE) < 2, reason="both frameworks are compared")
def test_both_backends_make_the_same_images_on_the_page(served: Served):
    with served.client("vera") as client:
        event = call(client, served, "compare", ["digits", "newest", [], "0-15"])
    assert event["success"], event
    (largest,) = re.findall(r"Largest difference: (\d+) of 255", event["output"]["data"][3])
    assert int(largest) <= 1  # one grey level between the frameworks' float32


BLEND = ["classes", "newest", ANY, ["0", "3", "7"], 1, 4]


def test_a_blend_leads_from_class_to_class(served: Served):
    with served.client("vera") as client:
        event = call(client, served, "blend", BLEND, "classes")
        assert event["success"], event
        for place, value, message in (
            (0, "digits", "run: found digits, expected one whose generator is class-conditional"),
            (0, "inverted", "step-0000002: its generator is given images"),
            (3, ["0"], "classes: found 1, expected two or more to blend"),
            (3, ["0", "10"], "Value: '10' (type: <class 'str'>) is not in the list of choices"),
            (4, -1, "Value -1 is less than minimum value 0"),
            (5, 17, "Value 17 is greater than maximum value 16"),
        ):
            data = [*BLEND[:place], value, *BLEND[place + 1 :]]
            if place == 0:
                data[3] = []
            assert error(call(client, served, "blend", data, data[0])).startswith(message)
    opened = Models(served.folder / "runs", HERE, "cpu").open("classes", "newest", ANY)
    made = np.concatenate(list(make(opened, LatentSource(seeds=(1, 1)), 2, ["0", "3"])))
    weights = blends((0, 3), 3, 10)
    found = make_blends(opened, LatentSource(1), weights).astype(int)
    assert found.shape == (3, 16, 16, 1) and np.abs(found[[0, 2]] - made).max() <= 1


def test_a_blend_of_a_lapgan_is_made_by_all_of_its_levels(tmp_path: Path):
    size = ["--width", "0.0625", "--latent-size", "8", "--batch-size", "8", "--device", "cpu", "--steps", "2"]
    for level in ("8", "16"):
        given = ["lapgan", *size, "--pyramid-levels", "8", "16", "--resolution", level, "--class-conditional"]
        assert TRAIN_MAINS[ANY]([*given, "--run-dir", str(tmp_path / "two" / f"level-{level}")]) == 0
    opened = Models(tmp_path, HERE, "cpu").open("two", "newest", ANY)
    made = np.concatenate(list(make(opened, LatentSource(), 1, ["4"]))).astype(int)
    found = make_blends(opened, LatentSource(), blends((4, 5), 3, 10))
    assert len(opened.generators) == 2 and found.shape == (3, 16, 16, 1) and np.abs(found[0] - made[0]).max() <= 1


def uploaded(client: httpx.Client, name: str, content: bytes) -> tuple[Path, dict[str, Any]]:
    """Upload a file, and return where it lies and what stands for it in a request."""
    (path,) = client.post("/gradio_api/upload", files={"files": (name, content)}).json()
    return Path(path), {"path": path, "orig_name": name, "meta": {"_type": "gradio.FileData"}}


def drawn(size: int = 20, mode: str = "RGB") -> bytes:
    """Return a picture file: a gradient."""
    content = BytesIO()
    Image.linear_gradient("L").resize((size, size)).convert(mode).save(content, format="PNG")
    return content.getvalue()


def reconstruction(client: httpx.Client, served: Served, run: str, file: Any, steps: int = 20) -> dict[str, Any]:
    """Ask for a reconstruction, and return the last event."""
    return call(client, served, "reconstruct", [run, "newest", ANY, [], file, steps, 0])


def test_a_picture_is_reconstructed_and_not_kept(served: Served):
    with served.client("otto") as client:
        for run, said in (
            ("digits", r"20 steps: \d+\.\d of 255 grey levels apart \(root mean square\)$"),
            ("classes", r"20 steps: .*, class \d$"),
            ("inverted", r"Made of the picture itself\.$"),
        ):
            path, given = uploaded(client, "a.png", drawn())
            event = reconstruction(client, served, run, given)
            assert event["success"], event
            *pictures, text, download, file = event["output"]["data"]
            assert re.match(said, text) and file is None and not path.exists()
            sides = {Image.open(BytesIO(client.get(each["url"]).content)).size for each in pictures}
            assert len(pictures) == 3 and len(sides) == 1
            with np.load(BytesIO(client.get(download["value"]["url"]).content)) as arrays:
                assert arrays["input_images"].shape == arrays["images"].shape
                assert set(arrays) == {"images", "input_images"} | ({"latents"} if run != "inverted" else set()) | (
                    {"labels"} if run == "classes" else set()
                )
    assert "reconstruct" in {line["event"] for line in served.log() if line["user"] == "otto"}


def test_a_reconstruction_comes_nearer_and_is_stopped(served: Served):
    with served.client("otto") as client, served.client("otto") as other:
        assert error(call(other, served, "stop_reconstruction", [])) == "nothing of yours is being reconstructed"
        _, given = uploaded(client, "a.png", drawn())
        coming = events(client, "reconstruct", [EXAMPLE, "newest", ANY, [], given, 1000, 0])
        first = next(coming)
        assert call(other, served, "stop_reconstruction", [])["success"]
        *_, last = [first, *coming]
        assert last["success"], last
        steps, apart = re.match(r"(\d+) of 1000 steps: ([\d.]+) of 255", last["output"]["data"][3]).groups()  # type: ignore[union-attr]
        (before,) = re.findall(r"0 of 1000 steps: ([\d.]+) of 255", first["output"]["data"][3])
        assert 0 <= int(steps) < 1000 and float(apart) <= float(before)
        assert last["output"]["data"][4]["interactive"] is True
        # Whoever comes next does not wait for what was stopped.
        assert call(other, served, "generate", GOOD)["success"]
        assert error(call(other, served, "stop_reconstruction", [])) == "nothing of yours is being reconstructed"


def test_pictures_that_cannot_be_reconstructed_are_refused_and_not_kept(served: Served):
    bomb = BytesIO()
    Image.new("1", (30_000, 30_000)).save(bomb, format="PNG")
    with served.client("otto") as client:
        for name, content, message in (
            ("a.png", b"no picture", "a.png: found a picture that cannot be decoded (no known format), expected a"),
            ("b.png", drawn()[:100], "b.png: found a picture that cannot be decoded"),
            ("c.png", drawn(4), "c.png: found 4 x 4 pixels, expected at least 8 pixels on each side and at most 80,0"),
            ("bomb.png", bomb.getvalue(), "bomb.png: found too large a picture (Image size (900000000 pixels)"),
            ("<img src=x onerror=alert(1)>.png", b"no picture", "img src=x onerror=alert(1).png: found a picture that"),
            ("a.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "a.svg: found a picture that cannot be"),
        ):
            path, given = uploaded(client, name, content)
            found = error(reconstruction(client, served, "digits", given))
            assert found.startswith(message) and not path.exists(), found
        path, given = uploaded(client, "a.png", drawn())
        data = ["digits", "newest", ANY, [], given, 1001, 0]
        assert error(call(client, served, "reconstruct", data)).startswith("Value 1001 is greater than maximum value")
        expected = "picture: found none, expected one to upload"
        assert error(reconstruction(client, served, "digits", None)).startswith(expected)
        # Files of the server that were never uploaded, and addresses.
        for each in (served.folder / "secret.txt", "/etc/passwd", "http://files.example.org/a.png"):
            given = {"path": str(each), "meta": {"_type": "gradio.FileData"}}
            found = error(reconstruction(client, served, "digits", given))
            assert SECRET not in found and "decoded" not in found
            assert not isinstance(each, Path) or each.exists()


def test_a_viewer_may_not_reconstruct(served: Served):
    with served.client("vera") as client, served.client("otto") as owner:
        found = client.post("/gradio_api/upload", files={"files": ("a.png", drawn())})
        assert found.status_code == 403
        _, given = uploaded(owner, "a.png", drawn())
        assert error(reconstruction(client, served, "digits", given)) == "Only owners may reconstruct."
        assert error(call(client, served, "stop_reconstruction", [])) == "Only owners may stop reconstruction."


HOSTILE = "<img src=x onerror=alert(1)>"


def test_the_images_of_a_run_are_audited_when_an_owner_asks(served: Served):
    with served.client("vera") as client, served.client("otto") as owner:
        assert error(call(client, served, "audit", ["digits"])) == "Only owners may audit."
        assert call(client, served, "show_run", ["digits"])["output"]["data"][4]["visible"] is False
        event = call(owner, served, "audit", ["digits"])
        assert event["success"], event
        accordion, sheet, findings = event["output"]["data"]
        assert accordion["visible"] and owner.get(sheet["url"]).headers["content-type"] == "image/png"
        kinds = {row[0]: row[1] for row in findings["data"]}
        assert "duplicate" in kinds and "outlier" in kinds
        # Now a viewer sees it, too.
        assert call(client, served, "show_run", ["digits"])["output"]["data"][6]["data"] == findings["data"]
        assert error(call(owner, served, "audit", [EXAMPLE])).endswith("expected a run of the folder")
    assert (served.folder / "runs" / "digits" / "audit" / "audit.json").is_file()


def test_reports_of_strangers_are_text_or_nothing(tmp_path: Path):
    report = {
        "kinds": {"duplicate": {"count": 2}, HOSTILE: {"count": 1}},
        "findings": [{"kind": "duplicate", "name": f"{HOSTILE}\n{number}", "index": number} for number in range(9)],
        "warnings": [HOSTILE],
    }
    file = tmp_path / auditing.FOLDER / "audit.json"
    file.parent.mkdir()
    file.write_text(json.dumps(report))
    first, second = auditing.table(tmp_path)
    assert first[:2] == ["duplicate", 2] and first[3].count(HOSTILE) == 3 and "\n" not in first[3]
    assert second == ["warning", "", HOSTILE, ""]
    for text in ("", "[]", "{", '{"kinds": 1}', '{"kinds": {}, "findings": [1], "warnings": []}', "[" * 10**5):
        file.write_text(text)
        assert auditing.table(tmp_path) == []
    (tmp_path / "elsewhere.json").write_text(json.dumps(report))
    file.unlink()
    file.symlink_to(tmp_path / "elsewhere.json")
    assert auditing.table(tmp_path) == []


def test_an_audit_is_of_what_a_run_is_trained_on_and_takes_so_long_at_most(folder: Path, tmp_path: Path):
    run = tmp_path / "digits"
    shutil.copytree(folder / "runs" / "digits", run, ignore=shutil.ignore_patterns(auditing.FOLDER))
    assert auditing.arguments(run) == ["mnist-5k", "--resolution", "16", "--channels", "1"]
    with pytest.raises(UserError, match=r"^the audit took more than 0 seconds"):
        Auditor(0.01).run(run)
    auditor = Auditor(60.0)
    Timer(0.5, auditor.close).start()  # as when the server ends
    begun = time.monotonic()
    with pytest.raises(UserError, match=r"^the audit was ended$"):
        auditor.run(run)
    assert time.monotonic() - begun < 30 and not (run / "audit").exists()
    config = json.loads((run / "config.json").read_text())
    for data, message in (
        ("--out=/elsewhere", r"^data: found '--out=/elsewhere', expected a name or a path of images$"),
        (str(tmp_path / "nowhere"), r"^data: found .*nowhere"),
    ):
        (run / "config.json").write_text(json.dumps(config | {"data": data}))
        with pytest.raises(UserError, match=message):
            Auditor(60.0).run(run)
    with pytest.raises(UserError, match=r"^run: found checkpoints, a checkpoint alone, expected a run"):
        auditing.arguments(run / "checkpoints")


TRAINING = ["new", "dcgan", "mnist-5k", None, "16", "8", 2, ANY]


def test_a_viewer_may_not_train_stop_or_delete(served: Served):
    with served.client("vera") as client:
        for name, data, action in (
            ("train", TRAINING, "train"),
            ("stop_training", [], "stop training"),
            ("go_on_training", ["digits", 9, ANY], "go on training"),
            ("delete_run", ["digits"], "delete run"),
        ):
            assert error(call(client, served, name, data)) == f"Only owners may {action}."
    assert (served.folder / "runs" / "digits").is_dir() and not (served.folder / "runs" / "new").exists()


def test_names_of_runs_lead_nowhere_else(served: Served):
    with served.client("otto") as client, served.client("vera") as viewer:
        for name in ("../out", "a/b", "", ".hidden", "/elsewhere/x", "a\0b", "x" * 65, "~"):
            message = error(call(client, served, "train", [name, *TRAINING[1:]]))
            assert message.startswith("name: found ") and "letters, digits, dots" in message
        assert "a name that no run has" in error(call(client, served, "train", ["digits", *TRAINING[1:]]))
        for name in ("..", "link/..", "/etc", "", EXAMPLE, ".app", "link"):
            assert "name: found " in error(call(client, served, "delete_run", [name]))
            assert "expected a run of the" in error(call(client, served, "go_on_training", [name, 9, ANY]))
        for place, value, message in (
            (1, "rm", "Value: rm is not in the list of choices"),
            (2, "/etc", "Value: '/etc'"),
            (4, "16; rm -rf /", "resolution: found '16; rm -rf /', expected a whole number"),
            (5, "-1", "batch_size: found '-1', expected a whole number, or nothing"),
            (6, 10**9, "steps: found 1000000000, expected a number from 1 to 1,000,000"),
        ):
            found = error(call(client, served, "train", [*TRAINING[:place], value, *TRAINING[place + 1 :]]))
            assert found.startswith(message)
        # Files of the server that were never uploaded.
        for path in (served.folder / "secret.txt", "/etc/passwd", served.folder / "runs" / "access.jsonl"):
            given = [{"path": str(path), "meta": {"_type": "gradio.FileData"}}]
            data = ["new", "dcgan", "my pictures", given, "16", "", 2, ANY]
            assert SECRET not in error(call(client, served, "train", data))
            assert Path(path).exists()
        # Nor anything from elsewhere, whoever asks.
        given = [{"path": "http://files.example.org/a.zip", "meta": {"_type": "gradio.FileData"}}]
        for each in (client, viewer):
            data = ["new", "dcgan", "my pictures", given, "16", "", 2, ANY]
            assert "fetches nothing" in error(call(each, served, "train", data))
    assert sorted(path.name for path in served.folder.iterdir()) == ["runs", "secret.txt", "users.json"]
    assert not (served.folder / "runs" / "new").exists()


def test_uploads_that_cannot_be_used_are_refused_and_not_kept(served: Served):
    bomb = BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(700 * 10**6))
    with served.client("otto") as client:
        for name, content, message in (
            ("a.png", b"no picture", "1 of 1 pictures cannot be used"),
            ("a.zip", b"no archive", "found an unreadable file"),
            ("bomb.zip", bomb.getvalue(), "700,000,000 bytes, expected a file of at most"),
            ("a.npy", b"\x93NUMPY\x01\x00", "a.npy"),
        ):
            (path,) = client.post("/gradio_api/upload", files={"files": (name, content)}).json()
            given = [{"path": path, "orig_name": name, "meta": {"_type": "gradio.FileData"}}]
            found = error(call(client, served, "train", ["new", "dcgan", "my pictures", given, "16", "", 2, ANY]))
            assert message in found
            assert not (served.folder / "runs" / ".app" / "uploads" / "new").exists() and not Path(path).exists()


def test_the_server_goes_on_after_all_that(served: Served):
    with served.client("otto") as client:
        found = client.post("/gradio_api/upload", files={"files": ("../../x.png", b"no picture")})
        assert found.status_code == 200 and ".." not in found.json()[0]
        assert not (served.folder / "x.png").exists()
        assert client.get("/").status_code == 200
    assert SECRET not in (served.folder / "runs" / "access.jsonl").read_text()
    assert not any(password in json.dumps(served.log()) for password in PASSWORDS.values())


# --- a browser ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, where it and Playwright are installed."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the extra app is not installed")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium is installed")
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield chromium
        chromium.close()


def shown(page: Any, label: str) -> np.ndarray:
    """Wait for the picture under a label and return its pixels."""
    picture = page.locator(f".block:has(label:text-is('{label}')) img, .block:has-text('{label}') img").first
    picture.wait_for(timeout=60_000)
    content = page.request.get(picture.get_attribute("src")).body()
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"shown-{os.getpid()}.png"
    path.write_bytes(content)
    with Image.open(path) as found:
        pixels = np.asarray(found.convert("RGB"))
    path.unlink()
    return pixels


def log_in(page: Any, name: str, password: str) -> None:
    """Fill the form of the login and send it."""
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()


@pytest.fixture
def page(served: Served, browser: Any) -> Iterator[Any]:
    """The page as the owner has it."""
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    opened = context.new_page()
    opened.goto(served.url)
    log_in(opened, "otto", PASSWORDS["otto"])
    opened.get_by_role("tab", name="Generate").wait_for()
    yield opened
    context.close()


def press(page: Any, tab: str, button: str) -> Any:
    """Open a tab, press a button, and return the tab."""
    page.get_by_role("tab", name=tab).click()
    opened = page.get_by_role("tabpanel").filter(visible=True).first
    opened.get_by_role("button", name=button, exact=True).click()
    return opened


def test_a_run_that_begins_while_the_page_is_open_is_found(served: Served, page: Any):
    shutil.copytree(served.folder / "runs" / "digits", served.folder / "runs" / "later")
    try:
        tab = press(page, "Generate", "Look again")
        tab.get_by_label("Run", exact=True).click()
        page.get_by_role("option", name="later").click()
        tab.get_by_label("Checkpoint", exact=True).click()
        page.get_by_role("option", name="step-0000002").click()
        tab.get_by_role("button", name="Generate", exact=True).click()
        assert shown(page, "Images").shape == (666, 666, 3)
    finally:
        shutil.rmtree(served.folder / "runs" / "later")


def test_what_a_server_began_ends_with_it(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A training saves its state, and the folder of uploads and downloads is gone."""
    shutil.copytree(folder / "runs" / "digits", tmp_path / "runs" / "digits")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    for running in serving(tmp_path):
        with running.client() as client:
            data = ["long", "dcgan", "mnist-5k", None, "16", "8", 10**6, ANY]
            assert call(client, running, "train", data)["success"]
            for _ in range(300):
                if (tmp_path / "runs" / "long" / "scalars.jsonl").exists():
                    break
                time.sleep(0.1)
        assert any((tmp_path / "temporary").iterdir())
    assert not any((tmp_path / "temporary").iterdir())
    assert newest_step(tmp_path / "runs" / "long") > 0


def test_a_walk_and_a_direction(page: Any):
    tab = press(page, "Explore", "Walk")
    tab.locator("img").filter(visible=True).first.wait_for(timeout=60_000)
    tab.get_by_label("MP4").check()
    tab.get_by_role("button", name="Walk", exact=True).click()
    tab.locator("video").first.wait_for(timeout=60_000)
    tab.get_by_role("button", name="Show", exact=True).click()
    tab.locator("img").filter(visible=True).first.wait_for(timeout=60_000)
    assert page.get_by_text("Error", exact=True).count() == 0


@pytest.mark.skipif(len(HERE) < 2, reason="both frameworks are compared")
def test_both_backends_stand_side_by_side(page: Any):
    tab = press(page, "Compare", "Compare")
    tab.get_by_text("Largest difference").wait_for(timeout=60_000)
    assert tab.locator("img").count() == 3


def test_a_run_is_described(page: Any):
    tab = press(page, "Runs", "Show")
    tab.locator("img").first.wait_for(timeout=60_000)
    tab.get_by_text("discriminator_norm").first.wait_for()


def test_an_owner_trains_on_uploaded_pictures_goes_on_and_deletes(served: Served, page: Any, tmp_path: Path):
    for number in range(40):
        noise = np.random.default_rng(number).integers(0, 256, (16, 16, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{number}.png")
    page.get_by_role("tab", name="Train").click()
    tab = page.get_by_role("tabpanel").filter(visible=True).first
    tab.get_by_label("Name of the run", exact=True).fill("mine")
    tab.get_by_label("my pictures").check()
    tab.locator("input[type=file]").set_input_files(sorted(tmp_path.glob("*.png")))
    tab.locator(".file-preview tr").nth(39).wait_for(timeout=30_000)
    tab.get_by_label("Resolution").fill("16")
    tab.get_by_label("Batch size").fill("8")
    tab.get_by_label("Steps").fill("30")
    tab.get_by_role("button", name="Train", exact=True).click()
    tab.get_by_text("mine is done. trained 30 steps").wait_for(timeout=120_000)
    tab.locator("img").filter(visible=True).first.wait_for()
    run = served.folder / "runs" / "mine"
    assert newest_step(run) == 30 and read_config(run).data.resolution == 16
    tab.get_by_label("Steps").fill("33")
    tab.get_by_role("button", name="Go on").click()
    tab.get_by_text("mine is done. trained 33 steps").wait_for(timeout=120_000)
    uploads = served.folder / "runs" / ".app" / "uploads" / "mine"
    assert len(list(uploads.iterdir())) == 40
    tab.get_by_text("Delete a run").click()
    tab.get_by_label("Name of the run, once more").fill("mine")
    tab.get_by_role("button", name="Delete", exact=True).click()
    tab.get_by_text("mine is deleted.").wait_for()
    assert not run.exists() and not uploads.exists()
    events = [line["event"] for line in served.log() if line["user"] == "otto"]
    assert {"train", "go on training", "delete run"} <= set(events)


def test_an_uploaded_picture_is_reconstructed_and_a_stop_keeps_what_there_is(page: Any, tmp_path: Path):
    (tmp_path / "gradient.png").write_bytes(drawn())
    page.get_by_role("tab", name="Reconstruct").click()
    tab = page.get_by_role("tabpanel").filter(visible=True).first
    tab.locator("input[type=file]").set_input_files(tmp_path / "gradient.png")
    tab.locator(".file-preview tr").first.wait_for(timeout=30_000)
    tab.get_by_label("number input for Steps").fill("40")
    tab.get_by_role("button", name="Reconstruct", exact=True).click()
    said = tab.get_by_label("Progress")
    page.wait_for_function(
        "() => [...document.querySelectorAll('textarea')].some(each => /^40 steps: [0-9.]+ of 255/.test(each.value))",
        timeout=60_000,
    )
    assert tab.locator("img").filter(visible=True).count() == 3
    assert tab.locator(".file-preview tr").count() == 0  # it is gone, and has to be uploaded anew
    with page.expect_download() as download:
        tab.get_by_role("button", name="Download NPZ").click()
    with np.load(download.value.path()) as arrays:
        assert arrays["latents"].shape == (1, 8) and arrays["images"].shape == (1, 16, 16, 1)
    # Once more, with a thousand steps on the example, which take seconds.
    tab.get_by_label("Run", exact=True).click()
    page.get_by_role("option", name=EXAMPLE).click()
    tab.locator("input[type=file]").set_input_files(tmp_path / "gradient.png")
    tab.locator(".file-preview tr").first.wait_for(timeout=30_000)
    tab.get_by_label("number input for Steps").fill("1000")
    tab.get_by_role("button", name="Reconstruct", exact=True).click()
    page.wait_for_function(
        "() => [...document.querySelectorAll('textarea')].some(each => / of 1000 steps: /.test(each.value))",
        timeout=60_000,
    )
    tab.get_by_role("button", name="Stop", exact=True).click()
    tab.locator(".file-preview tr").first.wait_for(state="detached", timeout=30_000)
    assert re.match(r"\d+ of 1000 steps: ", said.input_value())
    assert page.get_by_text("Error", exact=True).count() == 0


def test_a_blend_between_classes_that_are_chosen(page: Any):
    page.get_by_role("tab", name="Explore").click()
    tab = page.get_by_role("tabpanel").filter(visible=True).first
    tab.get_by_label("Run", exact=True).click()
    page.get_by_role("option", name="classes").click()
    tab.get_by_label("Classes, in turn").click()
    page.get_by_role("option", name="3", exact=True).click()
    page.get_by_role("option", name="7", exact=True).click()
    page.keyboard.press("Escape")
    tab.get_by_role("button", name="Blend", exact=True).click()
    assert shown(page, "Blend").shape[1] > 5 * shown(page, "Blend").shape[0]


def test_an_audit_in_the_browser_shows_names_as_text(served: Served, page: Any):
    run = served.folder / "runs" / "hostile"
    shutil.copytree(served.folder / "runs" / "digits", run)
    try:
        (run / "audit").mkdir(exist_ok=True)
        Image.new("L", (20, 20)).save(run / "audit" / "audit.png")
        finding = {"kind": "duplicate", "name": HOSTILE, "index": 0}
        report = {"kinds": {"duplicate": {"count": 1}}, "findings": [finding], "warnings": [HOSTILE]}
        (run / "audit" / "audit.json").write_text(json.dumps(report))
        alerts = list[str]()
        page.on("dialog", lambda dialog: (alerts.append(dialog.message), dialog.dismiss()))
        tab = press(page, "Runs", "Look again")
        tab.get_by_label("Run", exact=True).click()
        page.get_by_role("option", name="hostile").click()
        tab.get_by_role("button", name="Show", exact=True).click()
        tab.get_by_text("Audit of its images").click()
        tab.get_by_text(HOSTILE).filter(visible=True).first.wait_for()
        assert page.locator("img[src=x]").count() == 0 and not alerts
    finally:
        shutil.rmtree(run)


def test_a_viewer_sees_no_tab_to_train_or_to_upload(served: Served, browser: Any):
    page = browser.new_page()
    page.goto(served.url)
    log_in(page, "vera", PASSWORDS["vera"])
    page.get_by_role("tab", name="Runs").wait_for()
    page.wait_for_timeout(2000)
    for name in ("Train", "Reconstruct"):
        assert page.get_by_role("tab", name=name).count() == 0
    page.get_by_role("tab", name="Runs").click()
    assert page.get_by_role("button", name="Audit its images").count() == 0
    page.close()


def test_a_person_logs_in_makes_images_and_logs_out(served: Served, browser: Any):
    page = browser.new_page()
    page.goto(served.url)
    assert page.url.endswith("/login")
    log_in(page, "vera", "a wrong password")
    assert page.get_by_role("alert").inner_text() == "Wrong name or password."
    log_in(page, "vera", PASSWORDS["vera"])
    page.get_by_role("tab", name="Generate").wait_for()
    page.get_by_role("button", name="Generate", exact=True).click()
    pixels = shown(page, "Images")
    opened = Models(served.folder / "runs", HERE, "cpu").open("digits", "newest", HERE[0])
    expected = np.concatenate(list(make(opened, LatentSource(seeds=tuple(range(16))), 16)))
    np.testing.assert_array_equal(pixels, sheet(expected))
    page.get_by_role("button", name="Download ZIP").wait_for()
    assert page.get_by_role("button", name="Share").count() == 0
    page.get_by_role("button", name="Log out").click()
    page.wait_for_url("**/login")
    page.goto(served.url)
    assert page.url.endswith("/login")
    page.close()
