"""How good the presets' images are, in both backends: ``python -m benchmarks.quality --help``.

A row is one training and its evaluation: a data set, a preset or a plain DCGAN that has done as much arithmetic, a
backend and a seed. Rows are kept in folders, one each; what is there already is not run again, and a row that was
interrupted goes on from its last checkpoint. The page is written after every row, from the rows that are there.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from itertools import groupby, product
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import tyro

from benchmarks import machine
from benchmarks.harness import ROOT, say
from gan_shared import presets
from gan_shared.atomic import replacing
from gan_shared.checkpoint import newest_step
from gan_shared.command import guarded
from gan_shared.config import Config
from gan_shared.errors import UserError, unexpected
from gan_shared.evaluation import hash_of
from gan_shared.manifest import read_config, write_json
from gan_shared.markdown import table
from gan_shared.runlog import read_scalars

# The contender beside the presets: Radford et al. 2016, as the preset ``dcgan`` has it.
PLAIN = "dcgan"


class Subject(NamedTuple):
    """A data set that is learned.

    Attributes:
        preset: the preset that is shipped for it.
        network: what images are compared by.
        num_images: generated and real images.
        numbers: the values that the page has, the first of them the one that counts most.
        truncation: of a second evaluation, with truncated latents; None for no second one.
    """

    preset: str
    network: str
    num_images: int
    numbers: tuple[str, ...]
    truncation: float | None = None


DISTANCES = ("kid", "fd", "precision", "recall", "density", "coverage")
SUBJECTS = {
    "stacked-mnist-60k": Subject(
        "stacked-mnist-cpu", "digits", 26_000, ("modes_kl", "modes", "confident_share", "confident_modes"), 2.0
    ),
    "fashion-mnist": Subject("fashion-cpu", "efficientnet-lite0", 10_000, DISTANCES),
    "mnist": Subject("fashion-cpu", "efficientnet-lite0", 10_000, DISTANCES),
}
# How a number is called on the page, what it is multiplied by, and its digits behind the point.
COLUMNS = {
    "modes_kl": ("KL of the modes, nats", 1, 4),
    "modes": ("modes of 1,000", 1, 0),
    "confident_share": ("confident share", 1, 3),
    "confident_modes": ("confident modes", 1, 0),
    "kid": ("KID x 1000", 1000, 2),
    "fd": ("FD", 1, 2),
    "precision": ("precision", 1, 3),
    "recall": ("recall", 1, 3),
    "density": ("density", 1, 3),
    "coverage": ("coverage", 1, 3),
}


@dataclass(frozen=True)
class Options:
    """Train and evaluate, row by row, and write a page of what is there."""

    sets: tuple[str, ...] = tuple(SUBJECTS)
    """Data sets: stacked-mnist-60k, fashion-mnist, mnist, or several."""

    contenders: tuple[str, ...] = ("preset", "plain")
    """What is trained: the preset that is shipped for the set, a plain DCGAN at equal compute, or both."""

    backends: tuple[str, ...] = ("torch", "jax")
    """Backends: torch, jax, or both."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of the runs."""

    part: float = 1.0
    """Part of each run's length, for a trial; rows of different parts are different rows."""

    parallel: int = 1
    """Rows at once; each gets an equal part of the cores."""

    device: str = "auto"
    """Where to compute: cpu, gpu, or auto (a GPU when there is one)."""

    rows: Path = Path("runs/quality")
    """Folder of the runs."""

    out: Path = Path("benchmarks/results/quality")
    """Folder of the results, a JSON file for each row."""

    page: Path = Path("docs/quality.md")
    """Markdown file; a picture of each row is written into a folder of its name beside it."""


class Row(NamedTuple):
    """One training and its evaluation.

    Attributes:
        data: the data set.
        contender: ``preset`` or ``plain``.
        backend: torch or jax.
        seed: of the run.
        part: of the run's length.
    """

    data: str
    contender: str
    backend: str
    seed: int
    part: float

    @property
    def name(self) -> str:
        """The name of its folder and files. Another preset gives other rows, a new option does not.

        A default that changes does not either: its rows are to be removed by hand.
        """
        shortened = "" if self.part == 1 else f"-part-{self.part:g}"
        defaults = Config().to_json()
        chosen = {name: value for name, value in configuration(self).to_json().items() if value != defaults[name]}
        return f"{self.data}-{self.contender}-{self.backend}-{self.seed}{shortened}-{hash_of(chosen)[:6]}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    options = tyro.cli(Options, args=argv)
    return guarded(lambda: run(options), "rows that were finished are kept; the same command goes on")


def run(options: Options) -> None:
    """Run the rows that are missing and write the page.

    Raises:
        UserError: an option names something unknown, or rows failed.
    """
    check(options)
    rows = [
        Row(data, contender, backend, seed, options.part)
        for data, seed, backend, contender in product(options.sets, options.seeds, options.backends, options.contenders)
    ]
    missing = [row for row in rows if not result_file(options, row).is_file()]
    say(f"{len(rows) - len(missing)} of {len(rows)} rows are there")
    failed = []
    with ThreadPoolExecutor(options.parallel) as pool:
        shares = core_shares(options.parallel)
        running = {pool.submit(measure, options, row, shares): row for row in missing}
        try:
            for done in as_completed(running):
                try:
                    done.result()
                except UserError as error:
                    failed.append(running[done].name)
                    say(f"{running[done].name}: {error}")
                write_page(options)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    write_page(options)
    print(f"wrote {options.page}")
    if failed:
        raise UserError(f"{len(failed)} rows failed: {', '.join(failed)}")


def check(options: Options) -> None:
    """Refuse unknown names and numbers that nothing can be done with.

    Raises:
        UserError: naming the option.
    """
    for field, given, known in (
        ("sets", options.sets, tuple(SUBJECTS)),
        ("contenders", options.contenders, ("preset", "plain")),
        ("backends", options.backends, ("torch", "jax")),
    ):
        for name in given:
            if name not in known:
                raise unexpected(field, name, "a known one", known)
    if not 0 < options.part <= 1:
        raise unexpected("part", options.part, "above 0, at most 1")
    if options.parallel < 1:
        raise unexpected("parallel", options.parallel, "1 or more")


def core_shares(parallel: int) -> list[set[int]]:
    """Return the cores of each of so many rows at once; a row takes its share from the list and gives it back."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = sorted(affinity(0)) if affinity else list(range(os.cpu_count() or 1))
    return [set(cores[i::parallel]) or set(cores) for i in range(parallel)]


def measure(options: Options, row: Row, shares: list[set[int]]) -> None:
    """Train a row, evaluate it, take its picture, and write its result.

    Raises:
        UserError: one of the commands failed.
    """
    cores = shares.pop()
    try:
        folder = options.rows / row.name
        if not is_trained(folder):
            say(f"{row.name}: training")
            command(train_arguments(options, row, folder), row, cores, folder)
        subject, device = SUBJECTS[row.data], ["--device", options.device]
        say(f"{row.name}: evaluating")
        count = ["--num-images", str(subject.num_images)]
        shutil.rmtree(folder / "evaluation", ignore_errors=True)
        evaluated = ["evaluate", str(folder), "--features", subject.network, *count, *device]
        command(evaluated, row, cores, folder)
        if subject.truncation is not None:
            command([*evaluated, "--truncation", str(subject.truncation)], row, cores, folder)
        picture = options.page.with_suffix("") / f"{row.name}.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        command(["sample", str(folder), "--out", str(picture), *device], row, cores, folder)
        with replacing(result_file(options, row)) as temporary:
            write_json(temporary, result(row, folder, len(cores)))
        say(f"{row.name}: done")
    finally:
        shares.append(cores)


def is_trained(folder: Path) -> bool:
    """Return whether a row has its last checkpoint."""
    return (folder / "config.json").is_file() and newest_step(folder) >= read_config(folder).execution.steps


def train_arguments(options: Options, row: Row, folder: Path) -> list[str]:
    """Return the command that trains a row, or goes on with it."""
    if (folder / "config.json").is_file():
        return ["train", "--resume", "--run-dir", str(folder), "--device", options.device]
    config = configuration(row)
    steps = max(1, round(row.part * config.execution.steps))
    cadence = max(1, steps // 20)
    return [
        *("train", config.preset, "--data", row.data, "--run-dir", str(folder), "--device", options.device),
        *("--resolution", str(config.data.resolution), "--steps", str(steps), "--seed", str(row.seed)),
        *("--log-every", str(cadence), "--save-every", str(cadence), "--sample-every", str(cadence)),
    ]


@cache
def configuration(row: Row) -> Config:
    """Return the configuration of a row at its full length.

    The plain DCGAN makes images of the same size, so that the protocol is the same, and takes as many steps as have the
    arithmetic of the preset's run: floating-point operations of convolutions and matrix products, counted on tensors
    without values.
    """
    preset = presets.get_preset(SUBJECTS[row.data].preset)
    if row.contender == "preset":
        return preset
    from benchmarks.work import count

    plain = presets.get_preset(PLAIN).with_options(resolution=preset.data.resolution)
    channels = 3 if row.data.startswith("stacked") else 1
    work = [count(each.with_options(channels=channels)).flops for each in (preset, plain)]
    return plain.with_options(steps=round(preset.execution.steps * work[0] / work[1]))


def command(arguments: list[str], row: Row, cores: set[int], folder: Path) -> None:
    """Run one of a backend's commands on some cores; what it prints goes to a file beside the run.

    Raises:
        UserError: it failed; the message ends in its last line.
    """
    name, *rest = arguments
    folder.parent.mkdir(parents=True, exist_ok=True)
    log = folder.with_suffix(".log")
    arguments = [sys.executable, "-m", f"gan_{row.backend}.{name}", *rest]
    environment = {**os.environ, "OMP_NUM_THREADS": str(len(cores))}
    with (
        log.open("a", encoding="utf-8") as stream,
        subprocess.Popen(arguments, cwd=ROOT, stdout=stream, stderr=stream, env=environment) as process,
    ):
        if hasattr(os, "sched_setaffinity"):  # threads that it starts later stay on these cores too
            os.sched_setaffinity(process.pid, cores)
        process.wait()
    if process.returncode:
        last = log.read_text(encoding="utf-8").strip().splitlines()[-1:]
        raise UserError(f"{name} ended with status {process.returncode}: {' '.join(last)} (see {log})")


def result(row: Row, folder: Path, cores: int) -> dict[str, Any]:
    """Return what a finished row is known by."""
    evaluations = [json.loads(path.read_text()) for path in (folder / "evaluation").iterdir()]
    by_truncation = {"truncation" in each["protocol"]: each for each in evaluations}
    assert len(by_truncation) == len(evaluations), "the folder was empty before"
    evaluation = by_truncation[False]
    lines = read_scalars(folder)
    images = [0.0, *(line["images_seen"] for line in lines)]
    seconds = sum(
        (now - before) / line["images_per_second"] for before, now, line in zip(images, images[1:], lines, strict=False)
    )
    return {
        "row": row.name,
        **row._asdict(),
        "preset": json.loads((folder / "config.json").read_text())["preset"],
        "machine": machine.describe(),
        "versions": machine.versions(),
        "cores": cores,
        "training_seconds": round(seconds, 1),
        "steps": evaluation["step"],
        "images_seen": evaluation["images_seen"],
        "evaluation": evaluation,
        "truncated": by_truncation.get(True),
    }


def result_file(options: Options, row: Row) -> Path:
    """Return the file of a row's result."""
    return options.out / f"{row.name}.json"


def write_page(options: Options) -> None:
    """Write the page of all results that are there, whichever of them were asked for now."""
    found = [json.loads(path.read_text()) for path in sorted(options.out.glob("*.json"))]
    with replacing(options.page) as temporary:
        temporary.write_text(page(found, options.page.stem), encoding="utf-8")


def page(found: Sequence[dict[str, Any]], folder: str) -> str:
    """Return the page.

    Args:
        found: results of rows.
        folder: of the pictures, beside the page.
    """
    # Rows of a preset as it was before are not those of the preset.
    whole = [each for each in found if each["part"] == 1 and each["row"] == row_of(each).name]
    parts = [
        HEADER,
        *(section(data, whole, folder) for data in SUBJECTS if any(each["data"] == data for each in whole)),
    ]
    return "\n\n".join(parts) + "\n"


HEADER = """# Quality

Written by `python -m benchmarks.quality`; each line is the mean over seeds, in brackets the least and the greatest. The
plain DCGAN (`dcgan`) has done the same arithmetic as the preset beside it. The last line of each table is what real
images score that were not trained on: nothing can be expected to be better. With truncated latents
([evaluation](evaluation.md)) more images are legible, and the kinds less even."""


def row_of(found: dict[str, Any]) -> Row:
    """Return the row of a result."""
    return Row(*(found[name] for name in Row._fields))


def section(data: str, found: Sequence[dict[str, Any]], folder: str) -> str:
    """Return the table of one data set, its protocol and its pictures."""
    subject = SUBJECTS[data]
    mine = [each for each in found if each["data"] == data]
    header = (
        "trained",
        "backend",
        "protocol",
        "seeds",
        "images seen",
        "minutes",
        *(COLUMNS[name][0] for name in subject.numbers),
    )
    truncated = [each | {"evaluation": each["truncated"]} for each in mine if each.get("truncated")]
    lines = [line(group, subject) for group in grouped([*mine, *truncated])]
    # Those of truncated latents are the same.
    floors = {each["evaluation"]["protocol_hash"]: each["evaluation"]["floors"] for each in mine}
    real = [
        ("real images", "", protocol, "", "", "", *(shown([floor[name]], name) for name in subject.numbers))
        for protocol, floor in sorted(floors.items())
    ]
    described = mine[0]["evaluation"]["protocol"]
    note = (
        f"{described['generated_images']:,} images of the averaged generator against as many held-out ones, by "
        f"`{described['network']}` ({described['features']} features). "
        + "; ".join(sorted({circumstances(each) for each in mine}))
        + "."
    )
    pictures = "\n".join(f"![{each['row']}]({folder}/{each['row']}.png)" for each in mine if each["seed"] == 0)
    return f"## {data}\n\n{table(header, [*lines, *real])}\n\n{note}\n\n{pictures}"


def grouped(found: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows that differ in the seed alone, presets first."""

    def key(each: dict[str, Any]) -> tuple[bool, bool, bool, str]:
        evaluation = each["evaluation"]
        truncated = "truncation" in evaluation["protocol"]
        return each["contender"] != "preset", truncated, each["backend"] != "torch", evaluation["protocol_hash"]

    for _, group in groupby(sorted(found, key=key), key):
        yield list(group)


def line(group: Sequence[dict[str, Any]], subject: Subject) -> tuple[str, ...]:
    """Return a line of the table: rows that differ in the seed alone."""
    first, values = group[0], [each["evaluation"]["values"] for each in group]
    limit = first["evaluation"]["protocol"].get("truncation")
    return (
        f"`{first['preset']}`" + (f", truncation {limit:g}" if limit else ""),
        first["backend"],
        first["evaluation"]["protocol_hash"],
        " ".join(str(each["seed"]) for each in sorted(group, key=lambda each: each["seed"])),
        f"{first['images_seen']:,}",
        duration(group),
        *(shown([each[name] for each in values], name) for name in subject.numbers),
    )


def duration(group: Sequence[dict[str, Any]]) -> str:
    """Return how many minutes rows took, apart by the number of cores."""
    by_cores: dict[int, list[float]] = {}
    for each in group:
        by_cores.setdefault(each["cores"], []).append(each["training_seconds"] / 60)
    return "; ".join(f"{spread(minutes, 0)} on {counted(cores)}" for cores, minutes in sorted(by_cores.items()))


def counted(cores: int) -> str:
    """Return a number of cores in words."""
    return f"{cores} core{'s' if cores > 1 else ''}"


def shown(values: Iterable[float], name: str) -> str:
    """Return a number of several rows as the page has it."""
    _, scale, digits = COLUMNS[name]
    return spread([scale * value for value in values], digits)


def spread(values: Sequence[float], digits: int) -> str:
    """Return the mean, and the least and the greatest where they are others."""
    texts = [f"{value:.{digits}f}" for value in (mean(values), min(values), max(values))]
    return texts[0] if texts[1] == texts[2] else f"{texts[0]} ({texts[1]} to {texts[2]})"


def circumstances(found: dict[str, Any]) -> str:
    """Return where a row was run, without its date."""
    versions = found["versions"]
    framework = ", ".join(f"{name} {versions[name]}" for name in ("torch", "jax", "flax") if name in versions)
    return f"{found['machine']['processor']}, {counted(found['cores'])}, {framework}"


if __name__ == "__main__":
    sys.exit(main())
