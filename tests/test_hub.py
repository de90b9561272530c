"""The Hugging Face Hub: what is published there, and that both backends make the same images of it elsewhere."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load

from gan_shared import checkpoint, hub
from gan_shared.errors import UserError
from tests.fake_hub import TOKEN, FakeHub, serving
from tests.fixtures import ANY, EACH, EVALUATE_MAINS, EXPORT_MAINS, SAMPLE_MAINS, TRAIN_MAINS, gan_class

pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")

SIZE = ["--width", "0.0625", "--latent-size", "8", "--batch-size", "8", "--device", "cpu"]
# Publishes a GAN, and reads one and makes images of it, in a process of its own.
PUSH = """
from pathlib import Path
from gan_{backend} import GAN
print(GAN.load({run!r}).push_to_hub("somebody/in-memory", license="mit"))
"""
FETCH = """
import numpy as np
from gan_{backend} import GAN
gan = GAN.from_pretrained("somebody/digits")
np.save({out!r}, gan.sample(12, labels=np.arange(12) % 10))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A class-conditional run of a folder whose name says something about its owner, evaluated."""
    folder = tmp_path_factory.mktemp("home") / "of-mrs-smith"
    argv = ["--data", "mnist-5k", *SIZE, "--class-conditional", "--steps", "3", "--run-dir", str(folder)]
    assert TRAIN_MAINS[ANY](argv) == 0
    evaluate = [str(folder), "--features", "digits", "--num-images", "20", "--device", "cpu"]
    assert EVALUATE_MAINS[ANY](evaluate) == 0
    assert EVALUATE_MAINS[ANY]([*evaluate, "--truncation", "0.5"]) == 0  # which is not for the card
    return folder


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FakeHub]:
    with serving() as server:
        yield server


def python(server: FakeHub, home: Path, *argv: str, token: str | None = TOKEN) -> subprocess.CompletedProcess[str]:
    """Run Python with the Hub at the server and a home of its own."""
    environment = {**os.environ, "HF_ENDPOINT": server.endpoint, "HF_HOME": str(home / "hf")}
    environment.pop("HF_TOKEN", None)
    environment |= {"HF_TOKEN": token} if token else {}
    return subprocess.run([sys.executable, *argv], capture_output=True, text=True, env=environment, timeout=240)


@pytest.mark.parametrize("backend", EACH)
def test_what_one_uploads_another_fetches(server: FakeHub, run: Path, tmp_path: Path, backend: str):
    out = tmp_path / "folder"
    command = ["-m", f"gan_{backend}.export", str(run), "--to", "hub", "--out", str(out), "--push-to"]
    done = python(server, tmp_path, *command, "somebody/digits", "--private", "--license", "cc0-1.0")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"wrote {out}\nuploaded to {server.endpoint}/somebody/digits\n"
    files = server.repositories["somebody/digits"]
    assert {name: (out / name).read_bytes() for name in hub.FILES} == files and server.private["somebody/digits"]
    fetched = python(server, tmp_path, "-c", FETCH.format(backend=backend, out=str(tmp_path / "made.npy")), token=None)
    assert fetched.returncode == 0, fetched.stderr
    argv = [str(run), "--num-images", "12", "--out", str(tmp_path / "x.npz"), "--device", "cpu"]
    assert SAMPLE_MAINS[backend](argv) == 0
    with np.load(tmp_path / "x.npz") as archive:
        np.testing.assert_array_equal(np.load(tmp_path / "made.npy"), archive["images"])


@pytest.mark.parametrize("backend", EACH)
def test_a_gan_in_memory_is_published(server: FakeHub, run: Path, tmp_path: Path, backend: str):
    done = python(server, tmp_path, "-c", PUSH.format(backend=backend, run=str(run)))
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{server.endpoint}/somebody/in-memory\n" and not server.private["somebody/in-memory"]
    files = server.repositories["somebody/in-memory"]
    assert set(files) == set(hub.FILES) and b'license: "mit"' in files["README.md"]
    tensors, prefix = checkpoint.load_newest(run).tensors, "generator_ema/"
    published = load(files["model.safetensors"])
    assert {f"{prefix}{name}" for name in published} == {name for name in tensors if name.startswith(prefix)}
    for name, value in published.items():
        np.testing.assert_array_equal(value, tensors[f"{prefix}{name}"])


def test_the_hub_refuses(server: FakeHub, run: Path, tmp_path: Path):
    def error(name: str, token: str | None = TOKEN) -> str:
        command = ["-m", f"gan_{ANY}.export", str(run), "--to", "hub", "--out", str(tmp_path / "f"), "--push-to", name]
        done = python(server, tmp_path, *command, token=token)
        assert done.returncode == 2 and done.stderr.startswith(f"error: push_to: {name}: "), done.stderr
        assert done.stderr.endswith(f"; {tmp_path / 'f'} was written\n") and done.stderr.count("\n") == 1
        return done.stderr

    assert "401" in error("somebody/digits", token="hf_wrong")
    server.server_close()  # out of reach
    error("somebody/digits")
    code = f"from gan_{ANY} import GAN\nGAN.from_pretrained('somebody/nothing')"
    done = python(server, tmp_path, "-c", code)
    assert "UserError: source: somebody/nothing: " in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "name", ["a/b/c", "~/mine", "so so", "", "a\0b", "x" * 97, "a--b", "a..b/c", "a/b-", "a/b.git"]
)
def test_what_is_no_name_of_a_repository_is_refused_before_anything_is_written(run: Path, tmp_path: Path, name, capsys):
    out = tmp_path / "folder"
    assert EXPORT_MAINS[ANY]([str(run), "--to", "hub", "--out", str(out), "--push-to", name]) == 2
    expected = (
        f"error: push_to: found {name!r}, expected USER/NAME, each of at most 96 letters, digits and single . _ - "
    )
    expected += "between them\n"
    assert capsys.readouterr().err == expected and not out.exists()
    with pytest.raises(UserError, match="repository: found"):
        gan_class(ANY).load(run).push_to_hub(name)


def test_the_card_says_what_it_is_and_nothing_of_the_machine(run: Path, tmp_path: Path):
    out = tmp_path / "folder"
    export = EXPORT_MAINS[ANY]
    assert export([str(run), "--to", "hub", "--out", str(out)]) == 0
    assert export([str(run), "--to", "hub", "--out", str(out)]) == 0  # again, in the place of the first
    card = (out / "README.md").read_text()
    front, body = card.removeprefix("---\n").split("\n---\n")
    about = dict(line.split(": ", 1) for line in front.splitlines())
    assert {name: json.loads(value) for name, value in about.items()} == {
        "library_name": "twin-gan",
        "pipeline_tag": "unconditional-image-generation",
        "tags": ["gan", "pytorch", "jax"],
    }
    assert (
        "`mnist-5k`. Classes, from number 0: `0`, `1`," in body
        and "trained for 3 steps (24 images) with the loss `bce`" in body
    )
    assert body.count("protocol ") == 1 and "20 images of the averaged generator against" in body
    assert (
        'from gan_torch import GAN\n\ngan = GAN.from_pretrained("FOLDER")' in body and "from gan_jax import GAN" in body
    )
    with Image.open(out / "samples.png") as picture:
        assert min(picture.size) >= 8 * 32
    assert json.loads((out / "config.json").read_text())["id2label"]["9"] == "9"
    everything = b"".join((out / name).read_bytes() for name in hub.FILES)
    assert b"smith" not in everything and str(run.parent).encode() not in everything


def test_class_names_come_along(run: Path, tmp_path: Path):
    out = tmp_path / "folder"
    assert EXPORT_MAINS[ANY]([str(run), "--to", "hub", "--out", str(out)]) == 0
    config = json.loads((out / "config.json").read_text())
    config["id2label"] = {str(number): f"digit {number}" for number in range(10)}
    (out / "config.json").write_text(json.dumps(config))
    few = ["--num-images", "4", "--device", "cpu", "--out"]
    assert SAMPLE_MAINS[ANY]([str(out), *few, str(tmp_path / "a.npz"), "--classes", "digit 7"]) == 0
    assert SAMPLE_MAINS[ANY]([str(run), *few, str(tmp_path / "b.npz"), "--classes", "7"]) == 0
    with np.load(tmp_path / "a.npz") as ours, np.load(tmp_path / "b.npz") as theirs:
        np.testing.assert_array_equal(ours["images"], theirs["images"])
    for wrong in ({"0": "a"}, {str(number): number for number in range(10)}, ["a"] * 10, {"x": "a"}):
        (out / "config.json").write_text(json.dumps(config | {"id2label": wrong}))
        with pytest.raises(UserError, match="found other id2label, expected the name of each class by its number"):
            gan_class(ANY).from_pretrained(out)


def test_damaged_and_hostile_folders_are_refused_in_a_line(run: Path, tmp_path: Path):
    good = tmp_path / "good"
    assert EXPORT_MAINS[ANY]([str(run), "--to", "hub", "--out", str(good)]) == 0

    def refusal(damage: Callable[[Path], object]) -> str:
        folder = shutil.copytree(good, tmp_path / "bad")
        damage(folder)
        with pytest.raises(UserError) as raised:
            gan_class(ANY).from_pretrained(folder, device="cpu")
        shutil.rmtree(folder)
        assert "\n" not in str(raised.value)
        return str(raised.value).replace(f"{folder}/", "")

    def edited(**changes: object) -> Callable[[Path], object]:
        values = json.loads((good / "config.json").read_text()) | changes
        return lambda folder: (folder / "config.json").write_text(json.dumps(values))

    def weights(header: bytes, rest: bytes = b"") -> Callable[[Path], object]:
        content = len(header).to_bytes(8, "little") + header + rest
        return lambda folder: (folder / "model.safetensors").write_bytes(content)

    def pipe(folder: Path) -> None:
        (folder / "config.json").unlink()
        os.mkfifo(folder / "config.json")

    assert refusal(weights(b"{}")) == "model.safetensors: found no tensors, expected the generator's weights"
    eight_bits = b'{"a":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]}}'
    assert refusal(weights(eight_bits, b"0000")).startswith("model.safetensors: found no readable safetensors file")
    assert refusal(edited(channels=None)) == "config.json: channels: found null, expected 1 or 3"
    assert refusal(pipe) == "config.json: found something else than a file, expected a file"
    for source in ("/nothere", "~/nothere", "./nothere", str(good / "README.md"), "a/b/c"):
        with pytest.raises(UserError, match="where there is no folder, expected a folder, or USER/NAME on the Hub"):
            gan_class(ANY).from_pretrained(source)
    with pytest.raises(UserError, match=r"revision: found main, expected none, as .* is a folder here"):
        gan_class(ANY).from_pretrained(good, revision="main")


def test_a_checkpoint_is_no_place_for_a_folder_of_the_hub(run: Path, tmp_path: Path, capsys, monkeypatch):
    generator = checkpoint.newest_checkpoint(run) / "generator_ema"
    assert EXPORT_MAINS[ANY]([str(run), "--to", "hub", "--out", str(generator)]) == 2
    expected = "which holds config.json, expected a new or empty folder, or one that was written here before\n"
    assert capsys.readouterr().err.endswith(expected)
    checkpoint.load_newest(run)
    monkeypatch.chdir(tmp_path)
    assert EXPORT_MAINS[ANY]([str(run), "--to", "hub", "--out", "."]) == 2
    assert capsys.readouterr().err == "error: out: found ., expected the name of a folder\n"


def test_a_folder_with_other_files_is_left_alone(run: Path, tmp_path: Path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match=r"out: found .*, which holds mine.txt, expected a new or empty folder, or"):
        hub.check_folder(tmp_path)
    with pytest.raises(UserError, match="which is a file, expected a folder"):
        hub.check_folder(tmp_path / "mine.txt")
