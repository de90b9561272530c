"""What an audit finds of planted poison, and what it says of clean images: ``python -m benchmarks.poison --help``.

Of each kind a share of the images is planted alone, then the checks run as ``python -m gan_shared.audit`` runs them.
Recall is the share of the planted images that are found, by the check that is meant for them and by any; a false alarm
is an image that was not planted and is found all the same. The unchanged set is checked too: what is found there are
false alarms as well, though some are rightly found, as no one has cleaned these sets.
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from statistics import mean
from textwrap import fill
from time import perf_counter
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import tyro
from PIL import Image

from benchmarks import machine
from benchmarks.harness import say
from gan_shared.atomic import replacing
from gan_shared.command import guarded
from gan_shared.data import load
from gan_shared.data.audit import KINDS, Audit, audit
from gan_shared.errors import unexpected
from gan_shared.manifest import write_json
from gan_shared.markdown import table
from gan_shared.pictures import to_pillow

Array: TypeAlias = np.ndarray
Generator: TypeAlias = np.random.Generator

# Side of the images in pixels, as the sets publish them.
RESOLUTION = 28
# Quality of the JPEG files that near copies are saved as.
JPEG_QUALITY = 75
# Standard deviation of noise that is added to images, in grey levels.
NOISE_LEVELS = 50
# Class that images with a trigger are labelled as, and the side of the trigger in pixels.
TARGET, TRIGGER_SIDE = 0, 4
# Columns of a line of the page.
WIDTH = 120


@dataclass(frozen=True)
class Options:
    """Plant poison of each kind, audit, and write recall and false alarms."""

    share: tuple[float, ...] = (0.01, 0.05)
    """Shares of the images that are planted."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of what is planted and where."""

    kinds: tuple[str, ...] = ()
    """Kinds of poison; all when none are given."""

    data: str = "fashion-mnist"
    """Set that is poisoned."""

    others: str = "mnist-5k"
    """Set that out-of-class pictures come from."""

    images: int | None = None
    """Number of images, spread over the set, for a trial; all when not given."""

    out: Path = Path("benchmarks/results/poison.json")
    """JSON file; rows that are there already are not run again."""

    page: Path = Path("docs/audit.md")
    """Markdown file."""


class Planted(NamedTuple):
    """A poisoned set.

    Attributes:
        images: uint8 (N, H, W, C).
        labels: int64 (N,).
        groups: what was planted, by its name: int64 indices.
    """

    images: np.ndarray
    labels: np.ndarray
    groups: dict[str, np.ndarray]


class Poison(NamedTuple):
    """A kind of poison.

    Attributes:
        plant: (images, labels, places, generator, others) -> groups: changes images, uint8 (N, H, W, C), and labels,
            int64 (N,), at the ascending places, where pictures of another set may be put; names groups of the places.
        checks: kinds of findings that are meant for it.
        meaning: what is planted.
    """

    plant: Callable[[Array, Array, Array, Generator, Array], dict[str, Array]]
    checks: tuple[str, ...]
    meaning: str


def flip_labels(images: Array, labels: Array, places: Array, generator: Generator, others: Array) -> dict[str, Array]:
    """Give images another label, each other one as often."""
    classes = int(labels.max()) + 1
    labels[places] = (labels[places] + generator.integers(1, classes, len(places))) % classes
    return {"label flips": places}


def plant_copies(images: Array, labels: Array, places: Array, generator: Generator, others: Array) -> dict[str, Array]:
    """Replace images by copies of earlier ones with their labels: half exact, half saved as JPEG."""
    originals = np.setdiff1d(np.arange(len(images)), places)
    kept = places[places > originals[0]]
    for number, place in enumerate(kept):
        # The copy comes later than its original, as it is the later one that is reported.
        original = originals[generator.integers(np.searchsorted(originals, place))]
        images[place] = saved_as_jpeg(images[original]) if number % 2 else images[original]
        labels[place] = labels[original]
    return {"duplicates, exact": kept[::2], "duplicates, saved as JPEG": kept[1::2]}


def plant_triggers(
    images: Array, labels: Array, places: Array, generator: Generator, others: Array
) -> dict[str, Array]:
    """Put one small black and white pattern into a corner of images and label them as one class (a backdoor)."""
    pattern = 255 * generator.integers(0, 2, (TRIGGER_SIDE, TRIGGER_SIDE, 1), np.uint8)
    pattern[0, 0], pattern[-1, -1] = 0, 255  # neither black nor white altogether
    top, left = (int(edge) for edge in generator.choice([0, images.shape[1] - TRIGGER_SIDE], 2))
    images[places, top : top + TRIGGER_SIDE, left : left + TRIGGER_SIDE] = pattern
    labels[places] = TARGET
    return {"patches": places}


def plant_others(images: Array, labels: Array, places: Array, generator: Generator, others: Array) -> dict[str, Array]:
    """Replace images by pictures of another set, and leave the labels."""
    images[places] = others[
        generator.permutation(np.arange(max(len(others), len(places))) % len(others))[: len(places)]
    ]
    return {"out-of-class pictures": places}


def plant_noise(images: Array, labels: Array, places: Array, generator: Generator, others: Array) -> dict[str, Array]:
    """Replace half of the images by noise, and add noise to the other half."""
    pure, added = places[::2], places[1::2]
    images[pure] = generator.integers(0, 256, images[pure].shape, np.uint8)
    noisy = images[added] + generator.normal(0, NOISE_LEVELS, images[added].shape)
    images[added] = np.rint(noisy).clip(0, 255).astype(np.uint8)
    return {"noise, nothing else": pure, "noise, added": added}


POISONS = {
    "flips": Poison(flip_labels, ("mislabelled",), "another label, drawn evenly among the other classes"),
    "duplicates": Poison(
        plant_copies,
        ("duplicate", "near-duplicate"),
        f"a copy of an earlier image with its label; half exact, half saved as JPEG of quality {JPEG_QUALITY}",
    ),
    "patches": Poison(
        plant_triggers,
        ("repeated-patch",),
        f"one {TRIGGER_SIDE} x {TRIGGER_SIDE} pattern of black and white in one corner, all labelled as class {TARGET}",
    ),
    "others": Poison(
        plant_others, ("outlier", "mislabelled"), "a picture of another set under the label that was there"
    ),
    "noise": Poison(
        plant_noise,
        ("noise",),
        f"half noise alone, half noise of {NOISE_LEVELS} grey levels on the image that was there",
    ),
}


def saved_as_jpeg(image: np.ndarray) -> np.ndarray:
    """Return an image, uint8 (H, W, C), as it comes back from a JPEG file."""
    stream = BytesIO()
    to_pillow(image).save(stream, "JPEG", quality=JPEG_QUALITY)
    return np.asarray(Image.open(stream)).reshape(image.shape)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    options = tyro.cli(Options, args=argv)
    return guarded(lambda: run(options), "rows that had finished are in the file")


def run(options: Options) -> None:
    """Plant and audit, row by row.

    Raises:
        UserError: an option is wrong or a set cannot be read.
    """
    _check(options)
    dataset = load(options.data, RESOLUTION, None)
    if dataset.labels is None:
        raise unexpected("data", f"{options.data}, which has no labels", "a set with labels")
    count = min(options.images or len(dataset.images), len(dataset.images))
    images, labels = dataset.spread(count)
    assert labels is not None
    others = np.asarray(load(options.others, RESOLUTION, images.shape[3]).images)
    rows = _read(options.out)
    wanted = [("clean", 0.0, 0)] + [
        (kind, share, seed) for seed in options.seeds for share in options.share for kind in options.kinds or POISONS
    ]
    for kind, share, seed in wanted:
        name = f"{options.data}-{count}-{kind}-{share:g}-{seed}"
        if name not in rows:
            row = measured(images, labels, others, (kind, share, seed))
            rows[name] = {"data": options.data, "others": options.others, "images": count, **row}
            _write(options, rows)
            say(f"{name}: " + json.dumps(rows[name]["groups"] or rows[name]["clean"]))
    _write(options, rows)
    say("\n".join(tables(list(rows.values()))))
    say(f"wrote {options.out} and {options.page}")


def _check(options: Options) -> None:
    """Refuse options that nothing can be measured with."""
    for share in options.share:
        if not 0 < share < 0.5:
            raise unexpected("share", share, "above 0 and below 0.5")
    for kind in options.kinds:
        if kind not in POISONS:
            raise unexpected("kinds", kind, "kinds of poison", POISONS)
    if options.images is not None and options.images < 100:
        raise unexpected("images", options.images, "at least 100")


def _write(options: Options, rows: dict[str, dict[str, Any]]) -> None:
    """Write the rows and the page."""
    with replacing(options.out) as temporary:
        write_json(temporary, rows)
    with replacing(options.page) as temporary:
        temporary.write_text(page(list(rows.values())), encoding="utf-8")


def _read(file: Path) -> dict[str, dict[str, Any]]:
    """Return the rows that are there."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise unexpected(str(file), f"no valid JSON ({error})", "what this command writes") from error


def plant(images: np.ndarray, labels: np.ndarray, others: np.ndarray, cell: tuple[str, float, int]) -> Planted:
    """Return a copy of a set with poison in it.

    Args:
        images: uint8 (N, H, W, C).
        labels: int64 (N,).
        others: uint8 (M, H, W, C), pictures of something else.
        cell: the kind of poison, the share of images and the seed.
    """
    kind, share, seed = cell
    images, labels = images.copy(), labels.copy()
    generator = np.random.default_rng(seed)
    places = np.sort(generator.permutation(len(images))[: round(share * len(images))])
    return Planted(images, labels, POISONS[kind].plant(images, labels, places, generator, others))


def measured(
    images: np.ndarray, labels: np.ndarray, others: np.ndarray, cell: tuple[str, float, int]
) -> dict[str, Any]:
    """Return the row of one kind (``clean`` for none), share and seed, with its circumstances."""
    kind, share, seed = cell
    planted = Planted(images, labels, {}) if kind == "clean" else plant(images, labels, others, cell)
    begun = perf_counter()
    found = audit(planted.images, planted.labels)
    seconds = perf_counter() - begun
    checks = POISONS[kind].checks if kind in POISONS else tuple(KINDS)
    clean = np.setdiff1d(np.arange(len(images)), np.concatenate([[], *planted.groups.values()]))
    return {
        "kind": kind,
        "share": share,
        "seed": seed,
        "groups": {
            name: {
                "planted": len(places),
                "own": share_of(places, found, *checks),
                "any": share_of(places, found),
            }
            for name, places in planted.groups.items()
        },
        "clean": {
            "own": share_of(clean, found, *checks),
            "any": share_of(clean, found),
            "by_kind": {each: share_of(clean, found, each) for each in KINDS},
        },
        "seconds": round(seconds, 1),
        "threads": os.environ.get("OMP_NUM_THREADS", "not limited"),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "machine": machine.describe(),
        "versions": {name: value for name, value in machine.versions().items() if name in ("twin-gan", "numpy")},
    }


def share_of(places: np.ndarray, found: Audit, *kinds: str) -> float:
    """Return the share of images that have a finding of these kinds, or of any."""
    return round(float(np.isin(places, list(found.indices(*kinds))).mean()), 5) if len(places) else 0.0


HEADER = """# What an audit finds of planted poison

You want to know what [`python -m gan_shared.audit`](data.md#look-at-a-set-before-you-train-on-it) finds, and how many
innocent images it names. This page is written by `python -m benchmarks.poison`.

Of each kind a share of the images was planted, alone, and the set was audited by its pixels, with labels. **Recall** is
the share of planted images that were found: by the check that is meant for them, and by any of the checks. **False
alarms** are the images that were not planted and were found all the same, as a share of those. The limits of the checks
were chosen on the same set, with other draws; on your images they will do worse."""


def page(rows: Sequence[dict[str, Any]]) -> str:
    """Return the page."""
    kinds = table(
        ("kind", "what is planted", "checks meant for it"),
        [(f"`{kind}`", each.meaning, ", ".join(f"`{name}`" for name in each.checks)) for kind, each in POISONS.items()],
    )
    return "\n\n".join([HEADER, *tables(rows), "## What was planted", kinds]) + "\n"


def tables(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return a section for each set and number of images."""
    parts = []
    for data, count in sorted({(row["data"], row["images"]) for row in rows}, key=str):
        mine = [row for row in rows if (row["data"], row["images"]) == (data, count)]
        parts += [f"## {data}, {count:,} images", _recalls(mine), *_clean(mine), _circumstances(mine)]
    return parts


def _recalls(rows: Sequence[dict[str, Any]]) -> str:
    """Return the table of recall and false alarms, means over seeds."""
    cells: dict[tuple[str, float], list[tuple[dict[str, Any], dict[str, Any]]]] = {}
    for row in rows:
        for name, group in row["groups"].items():
            cells.setdefault((name, row["share"]), []).append((group, row["clean"]))
    order = list(dict.fromkeys(name for name, _ in cells))
    lines = [
        (
            name,
            f"{share:.0%}",
            str(len(cells[name, share])),
            f"{mean(group['planted'] for group, _ in cells[name, share]):,.0f}",
            *(percent([group[part] for group, _ in cells[name, share]]) for part in ("own", "any")),
            *(percent([clean[part] for _, clean in cells[name, share]]) for part in ("own", "any")),
        )
        for name, share in sorted(cells, key=lambda cell: (order.index(cell[0]), cell[1]))
    ]
    header = ("planted", "share", "seeds", "images", "recall", "by any check", "false alarms", "of all checks")
    return table(header, lines)


def _clean(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return what the checks find in the unchanged set."""
    found = [row["clean"]["by_kind"] | {"any": row["clean"]["any"]} for row in rows if row["kind"] == "clean"]
    if not found:
        return []
    values = ", ".join(f"`{kind}` {value:.2%}" for kind, value in found[0].items() if kind != "any" and value)
    text = f"In the set as it is, {found[0]['any']:.2%} of the images are found: {values or 'nothing'}."
    return [fill(text, WIDTH)]


def _circumstances(rows: Sequence[dict[str, Any]]) -> str:
    """Return where and when rows were measured, and how long an audit took."""
    seconds = sorted(row["seconds"] for row in rows)
    loads = [row["load"] for row in rows if row["load"] is not None]
    busy = f", load average {min(loads):.0f} to {max(loads):.0f}" if loads else ""
    last = max(rows, key=lambda row: row["machine"]["date"])
    versions = ", ".join(f"{name} {value}" for name, value in last["versions"].items())
    text = (
        f"An audit took {seconds[0]:.0f} to {seconds[-1]:.0f} s (median {seconds[len(seconds) // 2]:.0f} s) on "
        f"{last['machine']['processor']}, {last['machine']['cores']} cores{busy}, OMP_NUM_THREADS "
        f"{last['threads']}, Python {last['machine']['python']}, "
        f"{versions}, {last['machine']['date'][:10]}."
    )
    return fill(text, WIDTH)


def percent(values: Sequence[float]) -> str:
    """Return the mean as a percentage, and the least and the greatest where they are others."""
    texts = [f"{100 * value:.1f}%" for value in (mean(values), min(values), max(values))]
    return texts[0] if texts[1] == texts[2] else f"{texts[0]} ({texts[1]} to {texts[2]})"


if __name__ == "__main__":
    sys.exit(main())
