"""Exported generators: computed by programs that cannot import this project, they make the images of sample."""

import json
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gan_shared import export as exporting
from gan_shared import lapgan
from gan_shared.checkpoint import save
from gan_shared.config import Config
from gan_shared.draws import sample_labels
from gan_shared.export import FORMATS, READERS
from gan_shared.latents import LatentSource
from tests.fixtures import ANY, EXPORT_MAINS, SAMPLE_MAINS, backend_class
from tests.frameworks import needs

CONFIG = Config().with_options(
    generator="dcgan", width=0.0625, batch_size=8, latent_size=8, resolution=16, channels=3, device="cpu"
)
CONDITIONAL = CONFIG.with_options(
    generator="r3gan-tiny", discriminator="r3gan-tiny", class_conditional=True, num_classes=3, precision="float64"
)
# Every kind of file, marked with the framework of the backend that writes it.
KINDS = [pytest.param(name, marks=needs(each.backend)) for name, each in FORMATS.items()]
# Refuses to import this project, then runs a reader.
ELSEWHERE = """
import runpy, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("gan_"):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocker())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0])
"""


def saved(folder: Path, config: Config, names: tuple[str, ...] = ()) -> None:
    """Write a checkpoint whose generators make images with contrast, the averaged one others than the other."""
    backend = backend_class(ANY)(config)
    tensors = backend.export(backend.init())
    for network, factor in (("generator", 3.0), ("generator_ema", 5.0)):
        for name, value in tensors.items():
            if name.startswith(f"{network}/") and name.endswith("weight") and value.ndim == 4:
                last = 10 if name.endswith("/image.weight") else 1  # whose input is normalised
                tensors[name] = value * value.dtype.type(factor * last)
    data = {"name": "none", "fingerprint": "0", "class_names": list(names)}
    save(folder, config, tensors | {"trainer/step": np.array(1)}, {"backend": ANY}, data)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    saved(folder, CONFIG)
    return folder


@pytest.fixture(scope="module")
def conditional(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A class-conditional run in float64, which is exported in float32."""
    folder = tmp_path_factory.mktemp("conditional")
    saved(folder, CONDITIONAL, ("a", "b", "c"))
    return folder


@pytest.fixture(scope="module")
def pyramid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LAPGAN of two levels."""
    folder = tmp_path_factory.mktemp("lapgan")
    for resolution in (8, 16):
        config = CONFIG.with_options(resolution=resolution, pyramid_levels=(8, 16))
        lapgan.register(folder / f"level-{resolution}", config, {"name": "none", "fingerprint": "0"})
        saved(folder / f"level-{resolution}", config)
    return folder


def exported(kind: str, source: Path, out: Path, *more: str) -> dict[str, Any]:
    """Export with the command and return what stands beside the file."""
    assert EXPORT_MAINS[FORMATS[kind].backend]([str(source), "--to", kind, "--out", str(out), *more]) == 0
    return json.loads(out.with_name(f"{out.name}.json").read_text())


def elsewhere(kind: str, file: Path, folder: Path, given: dict[str, np.ndarray]) -> np.ndarray:
    """Compute a file where this project cannot be imported."""
    np.savez(folder / "given.npz", **given)  # type: ignore[arg-type]
    reader = str(READERS / FORMATS[kind].reader)
    command = [sys.executable, "-c", ELSEWHERE, reader, str(file), "given.npz", "made.npy"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return np.load(folder / "made.npy")


def sampled(kind: str, source: Path, folder: Path, count: int, *more: str) -> np.ndarray:
    out = folder / "sampled.npz"
    argv = [str(source), "--num-images", str(count), "--out", str(out), "--device", "cpu", *more]
    assert SAMPLE_MAINS[FORMATS[kind].backend](argv) == 0
    with np.load(out) as archive:
        return archive["images"]


def gap(ours: np.ndarray, theirs: np.ndarray) -> int:
    """The largest difference between two sets of uint8 images, which have contrast."""
    assert ours.dtype == theirs.dtype == np.uint8 and ours.shape == theirs.shape and theirs.std() > 20
    return int(np.abs(ours.astype(int) - theirs).max())


def fixed(kind: str, count: int) -> list[str]:
    """The option that a kind of file needs where it cannot leave the number of images open."""
    return [] if FORMATS[kind].any_batch else ["--batch-size", str(count)]


@pytest.mark.parametrize("kind", KINDS)
def test_any_number_of_images_elsewhere(run: Path, tmp_path: Path, kind: str):
    count = 7  # another than those that the command compares by itself
    file = tmp_path / f"g{FORMATS[kind].suffix}"
    beside = exported(kind, run, file, *fixed(kind, count))
    made = elsewhere(kind, file, tmp_path, {"latents": LatentSource().draw(count, 8)})
    assert gap(made, sampled(kind, run, tmp_path, count)) <= 1
    batch = "batch" if FORMATS[kind].any_batch else count
    assert beside["inputs"] == [
        {"name": "latents", "type": "float32", "shape": [batch, 8], "meaning": "numbers from N(0, 1)"}
    ]
    assert beside["output"]["shape"] == [batch, 16, 16, 3] and beside["checked"]["largest_difference"] <= 1
    assert beside["class_names"] == [] and beside["averaged"] and len(beside["checkpoint_sha256"][0]) == 64


@pytest.mark.parametrize("kind", KINDS)
def test_classes_and_the_generator_that_is_no_average(conditional: Path, tmp_path: Path, kind: str):
    count = 6
    file = tmp_path / f"g{FORMATS[kind].suffix}"
    beside = exported(kind, conditional, file, "--no-ema", *fixed(kind, count))
    labels = sample_labels(count, (2, 0))
    # What sample writes has the images too, and another order.
    given = {"images": np.zeros(3), "labels": labels, "latents": LatentSource().draw(count, 8)}
    made = elsewhere(kind, file, tmp_path, given)
    assert gap(made, sampled(kind, conditional, tmp_path, count, "--no-ema", "--classes", "c", "a")) <= 1
    assert gap(made, sampled(kind, conditional, tmp_path, count, "--classes", "c", "a")) > 5
    assert beside["class_names"] == ["a", "b", "c"] and beside["inputs"][1]["name"] == "labels"
    assert beside["inputs"][1]["type"] == ("int64" if FORMATS[kind].backend == "torch" else "int32")


@pytest.mark.parametrize("kind", [KINDS[0], KINDS[2]])
def test_the_levels_of_a_lapgan_are_one_function(pyramid: Path, tmp_path: Path, kind: str):
    file = tmp_path / f"g{FORMATS[kind].suffix}"
    beside = exported(kind, pyramid, file)
    assert [each["name"] for each in beside["inputs"]] == ["latents_8", "latents_16"]
    given = {name: LatentSource().draw(4, 8, level) for level, name in enumerate(("latents_8", "latents_16"))}
    assert gap(elsewhere(kind, file, tmp_path, given), sampled(kind, pyramid, tmp_path, 4)) <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_computes_something_else_is_not_kept(
    run: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    backend = FORMATS[kind].backend
    module = import_module(f"gan_{backend}.exported")
    right: Callable[..., Any] = module.make_images
    monkeypatch.setattr(module, "make_images", lambda *arguments: 255 - right(*arguments))
    out = tmp_path / f"g{FORMATS[kind].suffix}"
    argv = [str(run), "--to", kind, "--out", str(out), *fixed(kind, 4)]
    assert EXPORT_MAINS[backend](argv) == 2
    error = capsys.readouterr().err
    assert "grey levels from those of sample, expected at most 1: it was not kept" in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.torch
def test_a_file_and_its_description_are_written_together(run: Path, tmp_path: Path, capsys):
    (tmp_path / "x.onnx.json").mkdir()
    message = refused(capsys, "torch", str(run), "--to", "onnx", "--out", str(tmp_path / "x.onnx"))
    assert message.endswith("beside the folder x.onnx.json, expected a place for a file of that name")
    long = tmp_path / f"{'n' * 230}.onnx"  # whose description has too long a name
    assert "ile name too long" in refused(capsys, "torch", str(run), "--to", "onnx", "--out", str(long))
    assert [path.name for path in tmp_path.iterdir()] == ["x.onnx.json"]


def refused(capsys: pytest.CaptureFixture[str], backend: str, *argv: str) -> str:
    capsys.readouterr()
    assert EXPORT_MAINS[backend](list(argv)) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1
    return err.removeprefix("error: ").rstrip("\n")


@pytest.mark.torch
@pytest.mark.jax
def test_what_cannot_be_exported_is_refused_in_a_line(run: Path, pyramid: Path, tmp_path: Path, capsys):
    source = str(run)
    choices = "choices: onnx, torch-export"
    assert refused(capsys, "torch", source, "--to", "x") == (
        f"to: found 'x', expected a kind of file, or hub; {choices}, hub"
    )
    assert refused(capsys, "torch", source, "--to", "stablehlo") == (
        f"to: found stablehlo, expected what this backend writes, or python -m gan_jax.export, which reads the same "
        f"run; {choices}"
    )
    message = refused(capsys, "jax", source, "--to", "stablehlo")
    assert message == "batch_size: found None, expected the number of images of each call, which stablehlo fixes"
    for size in ("0", "-1", "4097"):
        message = refused(capsys, "torch", source, "--to", "onnx", "--batch-size", size)
        assert message == f"batch_size: found {size}, expected a number from 1 to 4096"
    message = refused(capsys, "torch", source, "--to", "onnx", "--out", "g.pt2")
    assert message == "out: found g.pt2, expected a file whose name ends in .onnx, as --to is onnx"
    message = refused(capsys, "torch", source, "--to", "onnx", "--push-to", "a/b")
    assert message == "push_to: found a/b, expected none, as --to is onnx and not hub"
    message = refused(capsys, "torch", source, "--to", "hub", "--batch-size", "3")
    assert message == "batch_size: found 3, expected none, as --to is hub"
    message = refused(capsys, "torch", str(pyramid), "--to", "hub", "--out", str(tmp_path / "f"))
    assert message == f"run: found {pyramid}, a LAPGAN, expected a single generator"
    message = refused(capsys, "jax", str(pyramid / "level-16"), "--to", "jax-export", "--out", str(tmp_path / "g.jax"))
    assert message.startswith("run: found an image-conditional generator, expected one that makes images from latents")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.torch
def test_packages_that_are_missing(run: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch):
    out = tmp_path / "g.onnx"
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    message = refused(capsys, "torch", str(run), "--to", "onnx", "--out", str(out))
    expected = "expected it installed: pip install -e '.[export]'"
    assert message == f"to: found onnx, which needs the package onnxscript, {expected}" and not out.exists()
    monkeypatch.undo()
    monkeypatch.setattr(exporting, "find_spec", lambda name: None)
    assert EXPORT_MAINS["torch"]([str(run), "--to", "onnx", "--out", str(out)]) == 0
    assert capsys.readouterr().out.endswith("not checked, as onnxruntime is not installed\n")
    assert json.loads((tmp_path / "g.onnx.json").read_text())["checked"] is None


def test_readers_are_programs_of_their_own():
    for each in FORMATS.values():
        text = (READERS / each.reader).read_text()
        assert "gan_" not in text and "sys.argv[1:]" in text
    assert sorted(path.name for path in READERS.glob("*.py")) == sorted(each.reader for each in FORMATS.values())
