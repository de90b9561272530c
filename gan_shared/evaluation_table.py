"""Evaluations as a table for people."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

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


def _with_neighbours(name: str, protocol_name: str) -> Row:
    """Return the row of a number that depends on an order of neighbours."""
    return Row(lambda each: f"{name} (k = {each.protocol[protocol_name]})", lambda value: f"{value:.3f}")


ROWS = {
    "fd": Row(lambda each: FEATURE_NETWORKS[each.network].distance, lambda value: f"{value:.3f}"),
    "kid": _plain("KID x 1000, all pairs", 3, 1000),
    "kid_subsets": Row(
        lambda each: (
            f"KID x 1000, mean of {each.protocol['kernel_subsets']} subsets of {each.protocol['kernel_subset_size']:,}"
        ),
        lambda value: f"{1000 * value:.3f}",
    ),
    "kid_subsets_deviation": _plain("  standard deviation of one subset", 3, 1000),
    "precision": _with_neighbours("precision", "neighbours_of_precision_and_recall"),
    "recall": _with_neighbours("recall", "neighbours_of_precision_and_recall"),
    "density": _with_neighbours("density", "neighbours_of_density_and_coverage"),
    "coverage": _with_neighbours("coverage", "neighbours_of_density_and_coverage"),
    "nearest_training": Row(
        lambda each: (
            f"distance to the nearest training image, {100 * each.protocol['nearest_quantile']:.0f}% are nearer"
        ),
        lambda value: f"{value:.3f}",
    ),
    "modes": _plain("modes found", 0),
    "modes_kl": _plain("KL of the modes from equal shares, nats", 4),
    "confident_share": Row(
        lambda each: f"share of images with every digit above {each.protocol['confidence']}",
        lambda value: f"{value:.4f}",
    ),
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
    least = min(first.protocol["generated_images"], first.protocol["real_images"])
    few = least <= first.protocol["features"]
    names = [name for name in ROWS if name in first.values]
    if few:  # the distance that is unbiased comes first
        names.sort(key=lambda name: name == "fd")
    header = ["", *titles, "real images", *(["difference"] if len(titles) == 1 else [])]
    lines = [header]
    for name in names:
        row, floor = ROWS[name], first.floors.get(name)
        values = [each.values[name] for each in evaluations]
        shown = [*map(row.shown, values), "-" if floor is None else row.shown(floor)]
        if len(titles) == 1:
            # A deviation is no distance, so its difference says nothing.
            if floor is None or name == "kid_subsets_deviation":
                shown.append("")
            else:
                shown.append(row.shown(values[0] - floor))
        lines.append([row.title(first), *shown])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shown = ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in lines]
    if few:
        shown.append(
            f"N = {least} is not above the {first.protocol['features']} features: "
            f"{ROWS['fd'].title(first)} is far above its value for many images; compare KID"
        )
    return "\n".join([*shown, protocol_line(first)])


def truncation(protocol: Mapping[str, Any]) -> str:
    """Return how the latents were truncated, to stand behind the generator; nothing where they were not."""
    return f", truncation {protocol['truncation']:g}," if "truncation" in protocol else ""


def protocol_line(evaluation: Evaluation) -> str:
    """Return how the numbers were made, in one line."""
    protocol, network = evaluation.protocol, FEATURE_NETWORKS[evaluation.network]
    seconds = ", ".join(f"{name} {value:.0f} s" for name, value in evaluation.seconds.items())
    return (
        f"protocol {evaluation.protocol_hash}: {protocol['generated_images']:,} images of the "
        f"{'averaged ' if protocol['ema'] else ''}generator{truncation(protocol)} "
        f"against {protocol['real_images']:,} {protocol['real']} images; "
        f"{network.title} ({protocol['network_sha256'][:12]}), {protocol['features']} features ({network.layer}), "
        f"{protocol['input_size']} pixels, {protocol['resize']}; {seconds}"
    )
