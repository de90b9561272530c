"""What an audit found, as JSON, as a page of pictures and as text."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from gan_shared.data.audit import KINDS, Audit, Finding
from gan_shared.data.audit.findings import SMALL_IS_STRONG
from gan_shared.data.dataset import Dataset
from gan_shared.data.exclusion import line_of
from gan_shared.pictures import GAP_VALUE, captioned, grid

FORMAT_VERSION = 1
# Pictures of each kind on the page, in a row, and the side in pixels to which small ones are enlarged.
SHOWN, COLUMNS, SIDE = 48, 16, 56
# Names in the summary of each kind.
NAMED = 3
# Kinds whose pictures stand beside the one that they resemble.
PAIRED = ("duplicate", "near-duplicate", "contradicting-labels")


class Audited(NamedTuple):
    """A set and what was found in it.

    Attributes:
        dataset: the set.
        audit: what the checks found.
        names: of each image, or empty.
        sizes: int64 (N, 2), width and height of each picture in its file; None where they are not known.
        features: what classes were compared by.
    """

    dataset: Dataset
    audit: Audit
    names: Sequence[str]
    sizes: np.ndarray | None
    features: str

    def name(self, index: int) -> str:
        """Return what an image is called, or its number."""
        return self.names[index] if self.names else f"image {index}"

    def label(self, index: int) -> str | None:
        """Return the name of an image's class."""
        labels, names = self.dataset.labels, self.dataset.class_names
        if labels is None:
            return None
        return names[labels[index]] if self.dataset.stacked == 1 and names else str(labels[index])

    def strongest(self, kind: str, count: int) -> list[Finding]:
        """Return the findings of a kind that are the strongest reasons to look, those first."""
        found = [each for each in self.audit.findings if each.kind == kind]
        sign = 1 if kind in SMALL_IS_STRONG else -1
        return sorted(found, key=lambda each: (sign * each.score, each.image))[:count]


def as_json(audited: Audited) -> dict[str, Any]:
    """Return everything that was found. Equal sets give equal JSON, but for the seconds."""
    dataset, found = audited.dataset, audited.audit
    count, height, width, channels = dataset.images.shape
    return {
        "format_version": FORMAT_VERSION,
        "data": dataset.name,
        "fingerprint": dataset.fingerprint,
        "images": count,
        "height": height,
        "width": width,
        "channels": channels,
        "classes": _classes(audited),
        "sizes": _sizes(audited.sizes),
        "features": audited.features,
        "warnings": found.warnings,
        "kinds": {kind: {"count": number, "meaning": KINDS[kind]} for kind, number in found.counts().items()},
        "patches": [
            {
                **patch.box._asdict(),
                "images": len(patch.images),
                "times_as_often_as_nearby": round(patch.ratio, 2),
                "classes": _classes(audited, patch.images),
            }
            for patch in found.patches
        ],
        "findings": [_finding(audited, each) for each in found.findings],
        "seconds": found.seconds,
    }


def _finding(audited: Audited, finding: Finding) -> dict[str, Any]:
    """Return one finding; what is not known is left out."""
    values: dict[str, Any] = {"kind": finding.kind, "score": round(finding.score, 5)}
    keys = audited.dataset.keys
    for part, index in (("", finding.image), ("related_", finding.related)):
        if index is None:
            continue
        values |= {f"{part}index": index}
        values |= {f"{part}name": audited.names[index]} if audited.names else {}
        values |= {f"{part}key": f"{int(keys[index]):016x}"} if keys is not None else {}
        values |= {f"{part}class": audited.label(index)} if audited.dataset.labels is not None else {}
    return values | ({"note": finding.note} if finding.note else {})


def _classes(audited: Audited, indices: np.ndarray | None = None) -> dict[str, int]:
    """Return the number of images of each class, of all images or of some; empty without labels."""
    labels = audited.dataset.labels
    if labels is None:
        return {}
    counts = np.bincount(labels if indices is None else labels[indices], minlength=int(labels.max()) + 1)
    names = audited.dataset.class_names if audited.dataset.stacked == 1 else ()
    counted = {names[i] if i < len(names) else str(i): int(number) for i, number in enumerate(counts)}
    return counted if indices is None else {name: number for name, number in counted.items() if number}


def _sizes(sizes: np.ndarray | None) -> dict[str, list[int]] | None:
    """Return the smallest, the median and the largest of pictures' shorter and longer sides, in pixels."""
    if sizes is None:
        return None
    return {
        name: [int(side.min()), int(np.median(side)), int(side.max())]
        for name, side in (("shorter_side", sizes.min(1)), ("longer_side", sizes.max(1)))
    }


def exclusion(audited: Audited) -> str:
    """Return the list that leaves out all images with findings, by kind; an image is named once."""
    keys, listed, lines = audited.dataset.keys, set[int](), list[str]()
    for kind in KINDS:
        found = sorted({each.image for each in audited.audit.findings if each.kind == kind} - listed)
        lines += [f"# {kind}: {KINDS[kind]}"] if found else []
        names = audited.names or [""] * len(audited.dataset.images)
        lines += [line_of(image, names[image], None if keys is None else int(keys[image])) for image in found]
        listed.update(found)
    return "".join(f"{line}\n" for line in lines)


def page(audited: Audited) -> np.ndarray:
    """Return a picture of the strongest findings of each kind: uint8 (H, W, C)."""
    images = audited.dataset.images
    factor = max(1, SIDE // images.shape[1])
    parts = []
    for kind, number in audited.audit.counts().items():
        shown = audited.strongest(kind, SHOWN)
        if not shown:
            continue
        paired = kind in PAIRED
        indices = [each.image for each in shown[: SHOWN // 2 if paired else SHOWN]]
        if paired:
            partners = [each.image if each.related is None else each.related for each in shown[: SHOWN // 2]]
            indices = [index for pair in zip(indices, partners, strict=True) for index in pair]
        pictures = np.stack([images[index] for index in indices]).repeat(factor, 1).repeat(factor, 2)
        caption = f"{kind}: {number:,} of {len(images):,}{', each beside what it resembles' if paired else ''}"
        parts.append(captioned(grid(pictures, COLUMNS), caption))
    if not parts:
        blank = np.full((1, SIDE, images.shape[3]), GAP_VALUE, np.uint8)
        return captioned(blank, f"nothing found in {len(images):,} images")
    widest = max(part.shape[1] for part in parts)
    padded = [np.pad(part, ((0, 0), (0, widest - part.shape[1]), (0, 0)), constant_values=GAP_VALUE) for part in parts]
    return np.concatenate(padded)


def summary(audited: Audited) -> str:
    """Return what a person reads: the set, its balance, and of each kind the number and a few names."""
    dataset, found = audited.dataset, audited.audit
    count, height, width, channels = dataset.images.shape
    classes = _classes(audited)
    lines = [
        f"{dataset.name}: {count:,} images of {height} x {width} x {channels}"
        + (f" in {len(classes)} classes of {min(classes.values()):,} to {max(classes.values()):,}" if classes else "")
        + f"; classes compared by {audited.features}; {sum(found.seconds.values()):.0f} s"
    ]
    if audited.sizes is not None:
        least, median, most = (_sizes(audited.sizes) or {})["shorter_side"]
        lines.append(f"  shorter sides of the files: {least} to {most} pixels, median {median}")
    lines += [f"  {warning}" for warning in found.warnings]
    for kind, number in found.counts().items():
        examples = ", ".join(audited.name(each.image) for each in audited.strongest(kind, NAMED))
        lines.append(
            f"  {kind:<21}{number:>8,}  {number / count:>7.2%}  {KINDS[kind]}{f': {examples}' if number else ''}"
        )
    for patch in found.patches[:NAMED]:
        classes_there = _classes(audited, patch.images)
        most = max(classes_there, key=lambda name: classes_there[name]) if classes_there else ""
        lines.append(
            f"  patch at {patch.box.words}: in {len(patch.images):,} images"
            + (f", {classes_there[most]:,} of them {most}" if most else "")
        )
    return "\n".join(lines)
