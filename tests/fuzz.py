"""Damaged inputs for every reader: ``python -m tests.fuzz --help``.

Each case is a good file with some bytes changed, chosen by a seed. A reader takes it, or refuses it with a UserError;
anything else is a fault: another exception, no end, or, of formats that carry checksums, other content than before.
"""

import contextlib
import io
import json
import resource
import shutil
import signal
import sys
import tarfile
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tyro
from PIL import Image
from safetensors.numpy import save_file

from benchmarks.machine import cache_in
from gan_shared import checkpoint, lapgan, manifest, runlog
from gan_shared.config import Config
from gan_shared.data import Trusted, data_manifest, load
from gan_shared.data.picture import FORMATS
from gan_shared.data.sources import find_source
from gan_shared.errors import UserError
from gan_shared.generator_config import CLASS_NAMES
from gan_shared.manifest import FILES, read_config
from tests.image_files import cifar_files, idx, noise, tarred

# Seconds that a reader has for one input.
PATIENCE = 30
# Numbers that readers trip over, as little- and big-endian words.
EXTREMES = (0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
CONFIG = Config().with_options(resolution=16, channels=1, width=0.0625, latent_size=8, batch_size=8, steps=4)


class Reader(NamedTuple):
    """One kind of input.

    Attributes:
        make: writes a good one into a folder and returns the files that may be damaged.
        read: reads the folder's content and returns what it holds.
        checked: whether the format has checksums over all of it, so that what is taken is what was written.
    """

    make: Callable[[Path], list[Path]]
    read: Callable[[Path], Any]
    checked: bool = False


class Slow(Exception):
    """A reader did not come to an end."""


def picture(kind: str) -> Callable[[Path], list[Path]]:
    """Return what writes a picture of a format of Pillow's."""

    def make(folder: Path) -> list[Path]:
        path = folder / f"a{FORMATS[kind][0]}"
        Image.fromarray(noise(24, 24, 3)).save(path, format=kind)
        return [path]

    return make


def pixels(folder: Path) -> bytes:
    """Return the images of the set in a folder."""
    return np.array(load(str(folder), 16, 3).images).tobytes()


def of_file(name: str) -> Callable[[Path], bytes]:
    """Return a reader of the set in a file of the folder."""
    return lambda folder: np.array(load(str(folder / name), 16, 1).images).tobytes()


def archive(name: str) -> Callable[[Path], list[Path]]:
    """Return what writes three pictures into an archive, with StyleGAN's list of classes."""

    def make(folder: Path) -> list[Path]:
        files = {}
        for number in range(3):
            stream = io.BytesIO()
            Image.fromarray(noise(16, 16)).save(stream, "PNG")
            files[f"a/{number}.png"] = stream.getvalue()
        listed = [[file, number] for number, file in enumerate(files)]
        files["dataset.json"] = json.dumps({"labels": listed}).encode()
        if name.endswith(".zip"):
            with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED) as out:
                for file, content in files.items():
                    out.writestr(file, content)
        else:
            with tarfile.open(folder / name, "w:gz" if name.endswith("gz") else "w") as out:
                for file, content in files.items():
                    info = tarfile.TarInfo(file)
                    info.size = len(content)
                    out.addfile(info, io.BytesIO(content))
        return [folder / name]

    return make


def written(name: str, write: Callable[[Path], object]) -> Callable[[Path], list[Path]]:
    """Return what writes one file."""

    def make(folder: Path) -> list[Path]:
        write(folder / name)
        return [folder / name]

    return make


def make_checkpoint(folder: Path) -> list[Path]:
    """Write a checkpoint of small tensors; a network that they fit is never built."""
    tensors = {f"{network}/a.weight": noise(3, 4).astype(np.float32) for network in list(FILES)[:3]}
    tensors |= {"optimizer/generator.state.a.weight.exp_avg": np.zeros(3, np.float32)}
    tensors |= {"trainer/step": np.array(2), "trainer/augment_probability": np.zeros((), np.float32)}
    tensors |= {"trainer/augment_signs": np.zeros((), np.float32)}
    data = {"name": "none", "fingerprint": "0", "class_names": ["a", "b"]}
    checkpoint.save(folder, CONFIG, tensors, {"backend": "none"}, data)
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


def read_checkpoint(folder: Path) -> Any:
    """Return all that a checkpoint holds."""
    loaded = checkpoint.load(folder / "checkpoints" / "step-0000002")
    tensors = {name: value.tobytes() for name, value in sorted(loaded.tensors.items())}
    return loaded.config, loaded.step, json.dumps(loaded.data, sort_keys=True), tensors


def make_cache(folder: Path) -> list[Path]:
    """Write a set and decode it; the files of the cache's entry are damaged."""
    np.savez(folder / "a.npz", images=noise(20, 16, 16), labels=np.arange(20) % 3)
    with cache_in(str(folder / "cache")):
        load(str(folder / "a.npz"), 16, 1)
    return [path for path in sorted((folder / "cache").rglob("*")) if path.is_file()]


def read_cache(folder: Path) -> Any:
    """Return the set; its entry is taken or made anew."""
    with cache_in(str(folder / "cache")):
        dataset = load(str(folder / "a.npz"), 16, 1)
        assert dataset.labels is not None and dataset.keys is not None
        arrays = (dataset.images, dataset.labels, dataset.keys)
        return dataset.fingerprint, dataset.class_names, [np.array(each).tobytes() for each in arrays]


def make_list(folder: Path) -> list[Path]:
    """Write a picture and the list of it."""
    picture("PNG")(folder)
    data_manifest.write(find_source(str(folder)), folder / "list.json")
    return [folder / "list.json"]


def read_list(folder: Path) -> bytes:
    """Return the picture, if it is the one that is listed."""
    return np.array(load(str(folder), 16, 3, trusted=Trusted(folder / "list.json")).images).tobytes()


def make_lapgan(folder: Path) -> list[Path]:
    """Write the manifest of a LAPGAN."""
    config = CONFIG.with_options(pyramid_levels=(8, 16), resolution=8)
    lapgan.register(folder / "level-8", config, {"name": "none", "fingerprint": "0"})
    return [folder / "lapgan.json"]


def read_lapgan(folder: Path) -> None:
    """Read it for another level."""
    config = CONFIG.with_options(pyramid_levels=(8, 16), resolution=16)
    lapgan.register(folder / "level-16", config, {"name": "none", "fingerprint": "0"})


def make_lines(folder: Path) -> list[Path]:
    """Write a log of a run."""
    lines = [json.dumps({"step": step, "generator_loss": 0.5 * step}) for step in range(1, 9)]
    (folder / "scalars.jsonl").write_text("\n".join(lines) + "\n")
    return [folder / "scalars.jsonl"]


def read_lines(folder: Path) -> None:
    """Read it, and cut it back."""
    with contextlib.redirect_stderr(io.StringIO()):
        runlog.read_scalars(folder)
        runlog.keep_lines(folder / "scalars.jsonl", 5, lambda line: None)


def make_generator(folder: Path) -> list[Path]:
    """Write the folder of a generator alone, whose weights fit no network."""
    config = CONFIG.with_options(class_conditional=True, num_classes=2)
    values = manifest.network_config(config, "generator") | {CLASS_NAMES: {"0": "a", "1": "b"}}
    manifest.write_json(folder / "config.json", values)
    save_file({"a.weight": noise(3, 4).astype(np.float32)}, folder / "model.safetensors")
    return [folder / "config.json", folder / "model.safetensors"]


def read_generator(folder: Path) -> None:
    """Read its configuration and weights."""
    checkpoint.load_newest(folder)


def make_exclusions(folder: Path) -> list[Path]:
    """Write a set and a list that leaves two of its images out, one by its content too."""
    np.savez(folder / "a.npz", images=noise(6, 16, 16))
    keys = np.array(load(str(folder / "a.npz"), 16, 1).keys)
    (folder / "out.txt").write_text(f"# none of these\n2\n4\t{keys[4]:016x}\n")
    return [folder / "out.txt"]


def read_exclusions(folder: Path) -> None:
    """Read what is left of the set."""
    load(str(folder / "a.npz"), 16, 1, exclude=folder / "out.txt")


def parquet(columns: Mapping[str, list[int]]) -> Callable[[Path], list[Path]]:
    """Return what writes three pictures and further columns as Hugging Face's ``datasets`` does."""

    def make(folder: Path) -> list[Path]:
        import pyarrow.parquet

        stream = io.BytesIO()
        Image.fromarray(noise(16, 16)).save(stream, "PNG")
        table = pyarrow.table({"image": [{"bytes": stream.getvalue(), "path": None}] * 3, **columns})
        pyarrow.parquet.write_table(table, folder / "a.parquet")
        return [folder / "a.parquet"]

    return make


def make_config(folder: Path) -> list[Path]:
    """Write the configuration of a run."""
    runlog.write_config(folder, CONFIG)
    return [folder / "config.json"]


LABELLED = {"images": noise(6, 16, 16), "labels": np.arange(6) % 3}
READERS: dict[str, Reader] = {
    # Lengths of PNG's chunks have no checksum of their own, but each is held to one by what follows.
    **{f"picture {kind}": Reader(picture(kind), pixels, kind == "PNG") for kind in FORMATS if kind != "DIB"},
    "zip": Reader(archive("a.zip"), of_file("a.zip")),
    "tar": Reader(archive("a.tar"), of_file("a.tar")),
    "tar.gz": Reader(archive("a.tar.gz"), of_file("a.tar.gz"), True),
    "npy": Reader(written("a.npy", lambda path: np.save(path, noise(6, 16, 16))), of_file("a.npy")),
    "npz": Reader(written("a.npz", lambda path: np.savez(path, **LABELLED)), of_file("a.npz")),
    "idx": Reader(written("a-idx3", lambda path: path.write_bytes(idx(noise(6, 16, 16)))), of_file("a-idx3")),
    "cifar": Reader(
        written("a.tar.gz", lambda path: tarred(path, cifar_files(np.arange(5, dtype=np.uint8), noise(5, 32, 32, 3)))),
        of_file("a.tar.gz"),
        True,
    ),
    "cache": Reader(make_cache, read_cache, True),
    "checkpoint": Reader(make_checkpoint, read_checkpoint, True),
    "list of pictures": Reader(make_list, read_list),
    "lapgan": Reader(make_lapgan, read_lapgan),
    "log": Reader(make_lines, read_lines),
    "configuration": Reader(make_config, read_config),
    "generator": Reader(make_generator, read_generator),
    "exclusions": Reader(make_exclusions, read_exclusions),
}
if find_spec("pyarrow"):
    READERS["parquet"] = Reader(parquet({}), of_file("a.parquet"))
    READERS["parquet with labels"] = Reader(parquet({"label": [0, 1, 0]}), of_file("a.parquet"))


def damaged(content: bytes, random: np.random.Generator) -> bytes:
    """Return bytes with one to three changes of one of several kinds."""
    result = bytearray(content)
    for _ in range(random.integers(1, 4)):
        place = int(random.integers(0, len(result) + 1))
        kind = random.integers(0, 7)
        if kind == 0 and place < len(result):
            result[place] ^= 1 << int(random.integers(0, 8))
        elif kind == 1 and place < len(result):
            result[place] = int(random.integers(0, 256))
        elif kind == 2:
            del result[place:]
        elif kind == 3:
            result[place:place] = random.bytes(int(random.integers(1, 17)))
        elif kind == 4:
            del result[place : place + int(random.integers(1, 17))]
        elif kind == 5:
            size, order = int(random.choice([2, 4, 8])), ("little", "big")[random.integers(0, 2)]
            number = EXTREMES[random.integers(0, len(EXTREMES))] % 2 ** (8 * size)
            result[place : place + size] = number.to_bytes(size, order)
        else:
            other = int(random.integers(0, len(result) + 1))
            result[place:place] = result[other : other + int(random.integers(1, 65))]
    return bytes(result)


@contextlib.contextmanager
def within(seconds: int) -> Iterator[None]:
    """Raise ``Slow`` in a block that takes longer; in the main thread of a POSIX system."""

    def late(number: int, frame: object) -> None:
        del number, frame
        raise Slow(f"no end after {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def fuzz(name: str, seed: int, folder: Path) -> str:
    """Give a reader one damaged input.

    Args:
        name: of the reader.
        seed: what the damage follows from.
        folder: an empty folder.

    Returns:
        ``taken``, ``refused``, or what went wrong.
    """
    reader, random = READERS[name], np.random.default_rng([seed, *name.encode()])
    with cache_in(str(folder / "cache of all")):
        place = folder / "good"
        place.mkdir()
        files = reader.make(place)
        good = reader.read(place) if reader.checked else None
        shutil.rmtree(folder / "cache of all", ignore_errors=True)
        file = files[random.integers(0, len(files))]
        file.write_bytes(damaged(file.read_bytes(), random))
        try:
            with within(PATIENCE):
                found = reader.read(place)
        except UserError as error:
            return "refused" if "\n" not in str(error) else f"two lines: {error}"
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return "taken" if not reader.checked or found == good else "other content was taken"


@dataclass(frozen=True)
class Options:
    """Give damaged inputs to every reader and count what becomes of them."""

    readers: tuple[str, ...] = ()
    """Names of readers, or parts of them; all of them where none is given."""

    seconds: float = 60.0
    """How long."""

    seed: int = 0
    """The first input's; the next have the numbers that follow."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status: 1 where something went wrong."""
    options = tyro.cli(Options, args=argv)
    names = [name for name in READERS if not options.readers or any(part in name for part in options.readers)]
    counts: dict[str, Counter[str]] = {name: Counter() for name in names}
    faults, seed, end = [], options.seed, time.monotonic() + options.seconds
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    while names and time.monotonic() < end:
        for name in names:
            with tempfile.TemporaryDirectory() as folder:
                outcome = fuzz(name, seed, Path(folder))
            counts[name][outcome if outcome in ("taken", "refused") else "fault"] += 1
            if outcome not in ("taken", "refused"):
                faults.append(f"{name}, seed {seed}: {outcome}")
        seed += 1
    for name in names:
        print(f"{name:20} {dict(counts[name])}")
    growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1000
    total = sum(each.total() for each in counts.values())
    print(f"{total} inputs, {len(faults)} faults, {growth:.0f} MB more memory than at the start")
    for fault in faults:
        print(fault, file=sys.stderr)
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
