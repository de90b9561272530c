"""Evaluations as a table for people."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from gan_shared.evaluation import Evaluation
from gan_shared.feature_networks import FEATURE_NETWORKS


class Row(NamedTuple):
    """How a number is shown.

    Attributes:
        title: what it is, with its unit.
        shown: the number as text.
    """

    title: Callable[[Evaluation], str]
    shown: Callable[[float], str]


def _plain(title: str, digits: int, scale: float = 1.0) -> Row:
    """Return a row with a title of its own and so many digits behind the point."""
    return Row(lambda _: title, lambda value: f"{scale * value:.{digits}f}")


ROWS = {
    "frechet_distance": Row(lambda each: FEATURE_NETWORKS[each.network].distance, lambda value: f"{value:.3f}"),
    "kernel_distance": _plain("KID x 1000, all pairs", 3, 1000),
    "kernel_distance_subsets": Row(
        lambda each: (
            f"KID x 1000, mean of {each.protocol['kernel_subsets']} subsets of {each.protocol['kernel_subset_size']:,}"
        ),
        lambda value: f"{1000 * value:.3f}",
    ),
    "kernel_distance_deviation": _plain("  their standard deviation", 3, 1000),
    "precision": Row(
        lambda each: f"precision (k = {each.protocol['neighbours_of_precision_and_recall']})", lambda v: f"{v:.3f}"
    ),
    "recall": Row(
        lambda each: f"recall (k = {each.protocol['neighbours_of_precision_and_recall']})", lambda v: f"{v:.3f}"
    ),
    "density": Row(
        lambda each: f"density (k = {each.protocol['neighbours_of_density_and_coverage']})", lambda v: f"{v:.3f}"
    ),
    "coverage": Row(
        lambda each: f"coverage (k = {each.protocol['neighbours_of_density_and_coverage']})", lambda v: f"{v:.3f}"
    ),
    "nearest_training": _plain("distance to the nearest training image, median", 3),
    "modes": _plain("modes found", 0),
    "mode_divergence": _plain("KL of the modes from equal shares, nats", 4),
    "confident_share": _plain("share of images with all digits sure", 4),
    "confident_modes": _plain("modes found among those", 0),
}


def table(titles: Sequence[str], found: Sequence[Sequence[Evaluation]]) -> str:
    """Return the numbers of one run or several, which have the same protocols, beside their floors.

    Args:
        titles: of the runs.
        found: the evaluations of each run, by the same networks in the same order.
    """
    return "\n\n".join(_block(titles, each) for each in zip(*found, strict=True))


def _block(titles: Sequence[str], evaluations: Sequence[Evaluation]) -> str:
    """Return the numbers by one network."""
    first = evaluations[0]
    few = first.protocol["generated_images"] <= first.protocol["features"]
    names = [name for name in ROWS if name in first.values]
    if few:  # the distance that is unbiased comes first
        names.sort(key=lambda name: name == "frechet_distance")
    header = ["", *titles, "real images", *(["above real"] if len(titles) == 1 else [])]
    lines = [header]
    for name in names:
        row, floor = ROWS[name], first.floors[name]
        values = [each.values[name] for each in evaluations]
        shown = [row.shown(value) for value in (*values, floor)]
        if len(titles) == 1:
            shown.append("" if name == "kernel_distance_deviation" else row.shown(values[0] - floor))
        lines.append([row.title(first), *shown])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shown = ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in lines]
    note = (
        []
        if not few
        else [
            f"N = {first.protocol['generated_images']} is not above the {first.protocol['features']} features: "
            f"{ROWS['frechet_distance'].title(first)} is far above its value for many images; compare KID"
        ]
    )
    return "\n".join([*shown, *note, protocol_line(first)])


def protocol_line(evaluation: Evaluation) -> str:
    """Return how the numbers were made, in one line."""
    protocol, network = evaluation.protocol, FEATURE_NETWORKS[evaluation.network]
    seconds = ", ".join(f"{name} {value:.0f} s" for name, value in evaluation.seconds.items())
    return (
        f"protocol {evaluation.protocol_hash}: {protocol['generated_images']:,} images of the "
        f"{'averaged ' if protocol['ema'] else ''}generator "
        f"against {protocol['real_images']:,} {protocol['real']} ones; "
        f"{network.title} ({protocol['network_sha256'][:12]}), {protocol['features']} features ({network.layer}), "
        f"{protocol['input_size']} pixels, {protocol['resize']}; {seconds}"
    )
