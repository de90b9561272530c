"""Look at a set of images before it is trained on: ``python -m gan_shared.audit --help``.

OUT/audit.json    every finding, by what the image's content is known by and its name; balance, sizes, limits
OUT/audit.png     the images with the strongest findings of each kind
OUT/exclude.txt   all images with findings, a line each, for --exclude of train: remove the lines of those to keep

Findings are reasons to look, not verdicts: the exit status is 0 with them and without, and no image is removed.
"""

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from gan_shared import audit_report, feature_weights
from gan_shared.atomic import check_parents, replacing
from gan_shared.audit_report import Audited
from gan_shared.backend import FeatureExtractor
from gan_shared.command import guarded
from gan_shared.data import check_outside, load
from gan_shared.data.audit import KINDS, audit
from gan_shared.data.audit.checks import MIN_SIDE
from gan_shared.data.audit.sizes import enlarged_pictures, picture_sizes
from gan_shared.data.dataset import Dataset
from gan_shared.data.named import STACKED
from gan_shared.data.sources import find_source
from gan_shared.errors import printable, unexpected
from gan_shared.feature_networks import FEATURE_NETWORKS, load_weights, prepare
from gan_shared.interrupt import handling, stop_at_once
from gan_shared.manifest import write_json
from gan_shared.paths import expanded
from gan_shared.pictures import save_png
from gan_shared.progress_bar import progress_bar

NETWORK = FEATURE_NETWORKS["efficientnet-lite0"]
FEATURES = ("auto", NETWORK.name, "pixels")
BACKENDS = ("torch", "jax")
# Images beyond which the network is only used when it is asked for: on two cores it takes a minute for some 8,000.
MAX_AUTO = 10_000
# Images that the network is given at a time.
BATCH = 64


@dataclass(frozen=True)
class Options:
    """Check a set of images: duplicates, contradicting labels, outliers, repeated patches, noise, constant ones."""

    data: Annotated[str, tyro.conf.Positional]
    """A named set, a folder or archive of pictures, or an array file; what --data of train takes."""

    resolution: int = 32
    """Height and width in pixels that images are checked at."""

    channels: int | None = None
    """1 (grey) or 3 (RGB); what the source has when not given."""

    features: str = "auto"
    """What classes are compared by: efficientnet-lite0, or pixels (small patches of the images). auto is the network
    for up to 10,000 images where its weights and a framework are installed, else pixels."""

    backend: str | None = None
    """What computes the network: torch or jax; the first that is installed when not given."""

    out: Path = Path("audit")
    """Folder of audit.json, audit.png and exclude.txt."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    options = tyro.cli(Options, args=argv)

    def work() -> None:
        with handling(stop_at_once):  # what is half-written is removed
            run(replace(options, out=expanded(options.out)))

    return guarded(work)


def run(options: Options) -> None:
    """Check a set, write what was found and print a summary.

    Raises:
        UserError: an option is wrong, or the set cannot be read.
    """
    _check_options(options)
    dataset = load(options.data, options.resolution, options.channels)
    source = None if options.data in STACKED else find_source(options.data)
    features, described_by = _features(dataset, options)
    with progress_bar(total=4, desc="audit", unit=" checks") as bar:

        def said(check: str) -> None:
            bar.set_postfix_str(check)
            bar.update()

        class_names = dataset.class_names if dataset.stacked == 1 else ()  # the digits are checked, not their triples
        found = audit(dataset.images, dataset.labels, class_names, features=features, said=said)
    sizes = None if source is None else picture_sizes(source)
    if sizes is not None:
        # The file says how large a picture was; its decoded pixels only let it be guessed.
        of_files = enlarged_pictures(sizes, options.resolution)
        known = {each.image for each in of_files}
        kept = [each for each in found.findings if each.kind != "enlarged" or each.image not in known]
        order = list(KINDS)
        findings = sorted([*kept, *of_files], key=lambda each: (order.index(each.kind), each.image))
        found = found._replace(findings=findings)
    names = source.names if source is not None and len(source.names) == len(dataset.images) else ()
    audited = Audited(dataset, found, names, sizes, described_by)
    with replacing(options.out / "audit.json") as temporary:
        write_json(temporary, audit_report.as_json(audited))
    save_png(options.out / "audit.png", audit_report.page(audited))
    with replacing(options.out / "exclude.txt") as temporary:
        temporary.write_bytes(audit_report.exclusion(audited).encode("utf-8", "surrogateescape"))
    for line in audit_report.summary(audited).splitlines():
        print(printable(line))
    print(printable(f"wrote audit.json, audit.png and exclude.txt in {options.out}"))


def _check_options(options: Options) -> None:
    """Refuse what can be refused before anything is decoded."""
    if options.resolution < MIN_SIDE:
        raise unexpected("resolution", options.resolution, f"at least {MIN_SIDE} pixels")
    if options.channels not in (None, 1, 3):
        raise unexpected("channels", options.channels, "1 (grey) or 3 (RGB)")
    if options.features not in FEATURES:
        raise unexpected("features", repr(options.features), "what images can be compared by", FEATURES)
    if options.backend is not None and options.features == "pixels":
        raise unexpected("backend", options.backend, "none, as pixels need no network")
    if options.backend is not None and options.backend not in BACKENDS:
        raise unexpected("backend", repr(options.backend), "a backend", BACKENDS)
    check_parents("out", options.out / "audit.json")
    check_outside("out", options.out, options.data)


def installed_backends() -> tuple[str, ...]:
    """Return the backends whose frameworks are installed."""
    return tuple(name for name in BACKENDS if find_spec(f"gan_{name}") and find_spec(name))


def _features(dataset: Dataset, options: Options) -> tuple[np.ndarray | None, str]:
    """Return the network's features of a set, float32 (N, D), or None for those of its pixels; and what they are.

    Raises:
        UserError: the network is asked for and its weights or a framework are not there.
    """
    chosen = options.features
    if chosen == "auto":
        there = feature_weights.default_path(NETWORK.name).is_file() and bool(installed_backends())
        chosen = NETWORK.name if there and len(dataset.images) <= MAX_AUTO else "pixels"
    if chosen == "pixels":
        return None, "pixels"
    backend = options.backend or next(iter(installed_backends()), None)
    if backend not in installed_backends():
        expected = "a framework that is installed, or --features pixels"
        raise unexpected("backend", backend or "no framework", expected, installed_backends())
    tensors, _ = load_weights(NETWORK, None)
    return network_features(dataset.images, find_extractor(backend, tensors)), f"{NETWORK.name} ({backend})"


def find_extractor(backend: str, tensors: dict[str, np.ndarray]) -> FeatureExtractor:
    """Import a framework, which takes seconds, and return its function from prepared images to features.

    Law 2 (docs/design.md): by name, and only when it is called, as this package works without either.
    """
    device = importlib.import_module(f"gan_{backend}.backend").find_device("auto")
    extractor = importlib.import_module(f"gan_{backend}.features.extractor").feature_extractor
    return extractor(NETWORK.name, tensors, device)


def network_features(images: np.ndarray, extract: FeatureExtractor) -> np.ndarray:
    """Return what a network makes of images, uint8 (N, H, W, C): float32 (N, D)."""
    features = np.empty((len(images), NETWORK.features), np.float32)
    with progress_bar(total=len(images), desc=NETWORK.title, unit=" images") as bar:
        for start in range(0, len(images), BATCH):
            batch = np.asarray(images[start : start + BATCH])
            # The last one is filled up from the first: one shape, so one compilation.
            made, _ = extract(prepare(NETWORK, np.resize(batch, (BATCH, *batch.shape[1:]))))
            features[start : start + len(batch)] = made[: len(batch)]
            bar.update(len(batch))
    return features


if __name__ == "__main__":
    sys.exit(main())
