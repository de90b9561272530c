"""A trained generator as a file that programs without this code compute: what the command ``export`` does.

FILE           the network and its weights
FILE.json      what it is given and gives, the names of its classes, where it came from and how it was checked
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gan_shared import manifest
from gan_shared.atomic import check_parents, replacing
from gan_shared.backend import Inputs, MakeBackend
from gan_shared.checkpoint import Checkpoint, described_by
from gan_shared.config import Config
from gan_shared.draws import sample_labels
from gan_shared.errors import UserError, is_whole, optional_module, unexpected
from gan_shared.evaluate import check_from_latents
from gan_shared.latents import LatentSource
from gan_shared.sample import TrainedGenerator, generate_images, load_checkpoints, restored

READERS = Path(__file__).with_name("export_readers")
# Images that are compared where a file takes any number of them: two numbers, so that neither is fixed in it.
CHECKED = (5, 3)
# Grey levels by which an image may differ: one that lies between two levels is rounded to either.
TOLERANCE = 1
# Images of one call, for which a file may be written.
MAX_BATCH = 4096
# Seconds that a check may take.
PATIENCE = 600


class FileFormat(NamedTuple):
    """A kind of file.

    Attributes:
        backend: the one that writes it.
        suffix: of its name.
        packages: that writing it needs beside the framework.
        reader: the program of ``export_readers`` that computes it, with none of this project's code.
        read_by: the package that the reader needs.
        label_type: of the class labels that the function is given.
        any_batch: whether the number of images may be left open.
    """

    backend: str
    suffix: str
    packages: tuple[str, ...]
    reader: str
    read_by: str
    label_type: str
    any_batch: bool = True


FORMATS = {
    "onnx": FileFormat("torch", ".onnx", ("onnx", "onnxscript"), "read_onnx.py", "onnxruntime", "int64"),
    "torch-export": FileFormat("torch", ".pt2", (), "read_torch_export.py", "torch", "int64"),
    "jax-export": FileFormat("jax", ".jax", (), "read_jax_export.py", "jax", "int32"),
    # Compilers of StableHLO want every shape.
    "stablehlo": FileFormat("jax", ".mlirbc", (), "read_stablehlo.py", "jaxlib", "int32", any_batch=False),
}


class Signature(NamedTuple):
    """What an exported function is given and gives, in this order.

    Attributes:
        latents: name and length of the latents of each generator: one, or those of a LAPGAN's pyramid levels, the
            lowest first; float32 (batch, length).
        labels: whether class labels follow, integers (batch,).
        image: height, width and channels of the images, uint8 (batch, height, width, channel).
        batch_size: images of each call; None for any number.
    """

    latents: tuple[tuple[str, int], ...]
    labels: bool
    image: tuple[int, int, int]
    batch_size: int | None

    @property
    def names(self) -> list[str]:
        """Names of all that is given."""
        return [*(name for name, _ in self.latents), *(["labels"] if self.labels else [])]

    def to_json(self, label_type: str) -> dict[str, Any]:
        """Return it as JSON holds it, with the type of the labels."""
        batch = self.batch_size or "batch"
        given = [
            {"name": name, "type": "float32", "shape": [batch, length], "meaning": "numbers from N(0, 1)"}
            for name, length in self.latents
        ]
        if self.labels:
            given.append({"name": "labels", "type": label_type, "shape": [batch], "meaning": "number of the class"})
        made = {"name": "images", "type": "uint8", "shape": [batch, *self.image], "meaning": "0 is black"}
        return {"inputs": given, "output": made}


# (generators, signature, whether the averaged ones, path) writes a file there.
Writer = Callable[[Sequence[TrainedGenerator], Signature, bool, Path], None]


def export(
    make_backend: MakeBackend,
    writers: Mapping[str, Writer],
    source: Path,
    to: str,
    out: Path | None,
    *,
    batch_size: int | None = None,
    ema: bool = True,
    resolution: int | None = None,
) -> str:
    """Write a trained generator as a file, and compare what it computes with what ``sample`` makes.

    Args:
        make_backend: the Backend class of gan_torch or gan_jax.
        writers: what that backend can write.
        source: what ``sample`` takes.
        to: a name of FORMATS.
        out: the file; ``generator`` with the format's suffix when not given.
        batch_size: images of each call of the exported function; any number when not given.
        ema: whether the averaged generator is exported.
        resolution: the pyramid level of a LAPGAN to stop at.

    Returns:
        What was written and how it was checked, a line each.

    Raises:
        UserError: the run or the options cannot be used, a package is missing, or the file computes something else, in
            which case it is not kept.
    """
    chosen = checked_format(to, writers, batch_size)
    out = Path(f"generator{chosen.suffix}") if out is None else out
    check_parents("out", out)
    beside = out.with_name(f"{out.name}.json")
    if out.suffix.lower() != chosen.suffix or out.is_dir():
        raise unexpected("out", out, f"a file whose name ends in {chosen.suffix}, as --to is {to}")
    if beside.is_dir():
        raise unexpected("out", f"{out}, beside the folder {beside.name}", "a place for a file of that name")
    for package in chosen.packages:
        optional_module(package, "to", f"{to}, which needs the package {package}", "export")
    found = load_checkpoints(source, resolution)
    check_from_latents(found[0].config)
    generators = [_in_float32(make_backend, each) for each in found]
    signature = signature_of([each.config for each in found], batch_size)
    with replacing(beside) as note, replacing(out) as temporary, tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / out.name  # readers go by the suffix
        writers[to](generators, signature, ema, file)
        checked = check(file, chosen, generators, signature, ema)
        temporary.write_bytes(file.read_bytes())
        manifest.write_json(note, description(file, to, generators, found, signature, ema) | {"checked": checked})
    if checked is None:
        how = f"not checked, as {chosen.read_by} is not installed"
    else:
        how = f"{checked['images']} images of it in {checked['by']} differ by at most {checked['largest_difference']} "
        how += "grey levels from those of sample"
    return f"wrote {out}\n{how}"


def checked_format(to: str, writers: Mapping[str, Writer], batch_size: int | None) -> FileFormat:
    """Return the kind of file that was asked for.

    Raises:
        UserError: there is none of this name, the other backend writes it, or it needs a batch size.
    """
    if to not in FORMATS:
        raise unexpected("to", repr(to), "a kind of file, or hub", (*writers, "hub"))
    if to not in writers:
        command = f"python -m gan_{FORMATS[to].backend}.export"
        raise unexpected("to", to, f"what this backend writes, or {command}, which reads the same run", writers)
    if batch_size is None and not FORMATS[to].any_batch:
        raise unexpected("batch_size", None, f"the number of images of each call, which {to} fixes")
    if batch_size is not None and (not is_whole(batch_size) or not 1 <= batch_size <= MAX_BATCH):
        raise unexpected("batch_size", batch_size, f"a number from 1 to {MAX_BATCH}")
    return FORMATS[to]


def signature_of(configs: Sequence[Config], batch_size: int | None) -> Signature:
    """Return what an exported function of generators is given and gives.

    Args:
        configs: of a single generator, or of a LAPGAN's, the lowest pyramid level first.
        batch_size: images of each call; None for any number.
    """
    sizes = [(each.data.resolution, each.networks.latent_size) for each in configs]
    names = ["latents"] if len(configs) == 1 else [f"latents_{resolution}" for resolution, _ in sizes]
    latents = tuple(zip(names, (size for _, size in sizes), strict=True))
    return Signature(latents, configs[0].data.class_conditional, configs[-1].image_shape, batch_size)


def example_inputs(signature: Signature, classes: int, count: int) -> list[Inputs]:
    """Return what the first ``count`` images of ``sample`` are made from, by each generator; the classes in turn."""
    labels = sample_labels(count, tuple(range(classes))) if signature.labels else None
    drawn = [LatentSource().draw(count, length, level) for level, (_, length) in enumerate(signature.latents)]
    return [Inputs(latents, labels) for latents in drawn]


def check(
    file: Path, chosen: FileFormat, generators: Sequence[TrainedGenerator], signature: Signature, ema: bool
) -> dict[str, Any] | None:
    """Compute a file in a process of its own and compare its images with those that ``sample`` makes.

    Returns:
        What was compared; None where the package that computes such files is not installed.

    Raises:
        UserError: they differ, or the file cannot be computed.
    """
    if find_spec(chosen.read_by) is None:
        return None
    largest, counts = 0, (signature.batch_size,) if signature.batch_size else CHECKED
    for count in counts:
        inputs = example_inputs(signature, generators[0].backend.config.num_classes, count)
        expected = np.concatenate(list(generate_images(generators, inputs, ema)))
        given = {name: each.latents for (name, _), each in zip(signature.latents, inputs, strict=True)}
        if inputs[0].labels is not None:
            given["labels"] = inputs[0].labels
        found = computed(file, chosen, given)
        if found.dtype != expected.dtype or found.shape != expected.shape:
            raise UserError(
                f"{file.name}: gave {found.dtype} {found.shape}, expected {expected.dtype} {expected.shape}"
            )
        largest = max(largest, int(np.abs(found.astype(int) - expected).max()))
    if largest > TOLERANCE:
        raise UserError(
            f"{file.name}: its images differ by {largest} grey levels from those of sample, expected at most "
            f"{TOLERANCE}: it was not kept"
        )
    by = f"{chosen.read_by} {getattr(import_module(chosen.read_by), '__version__', '')}".rstrip()
    return {"by": by, "images": sum(counts), "largest_difference": largest}


def computed(file: Path, chosen: FileFormat, given: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the images, uint8 (N, H, W, C), that the reader of a kind of file computes from named arrays.

    Raises:
        UserError: it failed; the message ends in its last line.
    """
    with tempfile.TemporaryDirectory() as folder:
        inputs, images = Path(folder) / "inputs.npz", Path(folder) / "images.npy"
        np.savez(inputs, **given)  # type: ignore[arg-type]
        # Isolated: neither this folder nor PYTHONPATH leads it to this project's code.
        command = [sys.executable, "-I", str(READERS / chosen.reader), str(file), str(inputs), str(images)]
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE)
        except subprocess.TimeoutExpired as error:
            raise UserError(f"{file.name}: could not be computed within {PATIENCE} seconds") from error
        if done.returncode:
            last = " ".join(done.stderr.strip().splitlines()[-1:])
            raise UserError(f"{file.name}: could not be computed: {last}")
        return np.load(images, allow_pickle=False)


def description(
    file: Path,
    to: str,
    generators: Sequence[TrainedGenerator],
    found: Sequence[Checkpoint],
    signature: Signature,
    ema: bool,
) -> dict[str, Any]:
    """Return what stands beside an exported file."""
    backend = generators[-1].backend
    return {
        "file": file.name,
        "sha256": manifest.sha256(file),
        "format": to,
        **signature.to_json(FORMATS[to].label_type),
        "class_names": list(found[0].class_names) if signature.labels else [],
        "averaged": ema,
        "step": found[-1].step,
        "checkpoint_sha256": [manifest.sha256(described_by(each.path)) for each in found],
        "written_by": {"backend": backend.name, **backend.versions()},
    }


def _in_float32(make_backend: MakeBackend, loaded: Checkpoint) -> TrainedGenerator:
    """Return a checkpoint's generator on the CPU in float32, which programs elsewhere compute in."""
    tensors = {
        name: value.astype(np.float32) if value.dtype == np.float64 else value for name, value in loaded.tensors.items()
    }
    config = loaded.config.with_options(precision="float32", device="cpu", compile=False, cuda_graph=False)
    return restored(make_backend, loaded._replace(tensors=tensors), config)
