"""The report as a page: ``docs/gpu.md``."""

from collections.abc import Iterator
from typing import Any

from benchmarks import report as tables
from benchmarks.expect import PEAKS, least_seconds
from benchmarks.settings import CONTENDERS
from gan_shared.markdown import table

Content = dict[str, Any]
TOGETHER = (
    "Cells of one preset, batch and precision took turns. They were compiled at the same time, so that compiling took "
    "each of them longer than alone, and libraries that try their kernels did so beside others."
)


def document(content: Content, throughput: Content) -> str:
    """Return the whole page as Markdown.

    Args:
        content: what ``report.py`` has found.
        throughput: the result of its timed cells; empty where none was timed.
    """
    parts = ["# On a GPU", "Written by `python scripts/gpu_report.py`.", *_environment(content)]
    if content["quick"]:
        parts += ["At toy sizes, which show that the command works: no figure below means more than that."]
    if content["equality"]:
        parts += ["## Equal", *_equality(content["equality"])]
    if throughput:
        parts += ["## Speed", *([] if content["quick"] else [TOGETHER]), *_speed(throughput)]
    profiled = [row for row in throughput.get("rows", ()) if "waits" in row]
    if profiled:
        parts += ["## Where the time goes", *_waits(profiled)]
    if content["not_run"]:
        parts += ["## Not run", "\n".join(f"- {each}" for each in content["not_run"])]
    return "\n\n".join(parts) + "\n"


def _environment(content: Content) -> Iterator[str]:
    """Yield where and when the report was made."""
    machine, gpu = content["machine"], content["gpu"]
    versions = ", ".join(f"{name} {number}" for name, number in sorted(content["versions"].items()))
    device = "without a GPU" if gpu is None else ", ".join(f"{name} {value}" for name, value in gpu.items())
    yield f"{machine['date'][:10]}, on {machine['processor']} ({machine['cores']} cores), {device}: {versions}."
    rows = [
        (framework, name, str(value))
        for framework, facts in content["frameworks"].items()
        for name, value in facts.items()
    ]
    if rows:
        yield table(("framework", "setting", "value"), rows)


def _equality(rows: list[Content]) -> Iterator[str]:
    """Yield what was compared and how far it was apart."""
    held = sum(row.get("holds", False) for row in rows)
    yield f"{held} of {len(rows)} comparisons hold; `benchmarks/gpu/checks.py` says what each of them compares."
    cells = []
    for row in sorted(rows, key=lambda row: (row["check"], row["configuration"])):
        found = row.get("error") or _text(row["found"])
        holds = "failed" if "error" in row else _yes(row["holds"])
        cells.append((row["check"], row["configuration"], found, _text(row.get("limit", "")), holds))
    yield table(("check", "configuration", "found", "limit", "holds"), cells)


def _speed(throughput: Content) -> Iterator[str]:
    """Yield the tables of the timed cells, and what the paper model of the GPU says beside each."""
    yield from tables.throughput(throughput)
    yield from tables.probes(throughput)
    yield from tables.failures(throughput)
    if any(row.get("peak_device_bytes") for row in throughput["rows"]):
        yield (
            "Beside the paper model of an H100 ([expected.md](expected.md)), launches left out where no kernel is "
            "launched from Python. The model lets every operation read and write memory for itself, so fused kernels "
            "may be faster than it."
        )
        yield table(("preset", "batch", "precision", "backend", "images/s", "on paper", "share"), _paper(throughput))
    sampled = [
        (row["preset"], row["precision"], row["backend"], f"{row['samples_per_second']:,.0f}")
        for row in throughput["rows"]
        if row.get("samples_per_second")
    ]
    if sampled:
        yield "Sampling 64 images at a time, with the copy to the host:"
        yield table(("preset", "precision", "backend", "images/s"), sampled)


def _paper(throughput: Content) -> Iterator[tuple[str, ...]]:
    """Yield the cells of measured speeds beside those of the paper model."""
    for row in throughput["rows"]:
        if row.get("flops_per_image") is None or row["precision"] not in PEAKS:
            continue
        batch = row["batch_size"]
        work = batch * row["flops_per_image"], batch * row["bytes_per_image"], row["operations_per_step"]
        times = least_seconds(*work, row["precision"])
        contender = CONTENDERS[row["backend"]]
        launched = contender.framework == "torch" and not {"compile", "cuda_graph"} & contender.options.keys()
        on_paper = batch / max(time for name, time in times.items() if launched or name != "launches")
        speed = row["images_per_second"]
        about = row["preset"], str(batch), row["precision"], row["backend"]
        yield *about, f"{speed:,.0f}", f"{on_paper:,.0f}", f"{speed / on_paper:.0%}"


def _waits(rows: list[Content]) -> Iterator[str]:
    """Yield where the time of single steps goes."""
    cells, longest = [], []
    for row in rows:
        about, found = (row["preset"], str(row["batch_size"]), row["precision"], row["backend"]), row["waits"]
        if "error" in found:
            cells.append((*about, found["error"], "", "", "", ""))
            continue
        times = (f"{1000 * found[name]:.2f}" for name in ("step_seconds", "kernel_seconds"))
        detected = found["found"] or "none detected"
        cells.append((*about, detected, *times, f"{found['kernels']:.0f}", f"{found['busy']:.0%}"))
        names = "; ".join(f"{each['name']} {each['share']:.0%}" for each in found["longest"][:5])
        longest.append((about[0], about[3], names.replace("|", "\\|")))
    header = ("preset", "batch", "precision", "backend", "hidden wait", "step (ms)", "kernels (ms)", "kernels", "busy")
    yield table(header, cells)
    yield (
        "*Hidden wait*: a synchronisation inside a step (PyTorch), an implicit transfer (JAX); each framework detects "
        "only that. *Busy*: the kernels' time, as a part of a step's without a profiler. The kernels that take longest:"
    )
    yield table(("preset", "backend", "kernels, share of their time"), longest)


def _text(value: Any) -> str:
    """Return numbers, or mappings of them, in a table's cell."""
    if isinstance(value, dict):
        return "; ".join(f"{name}: {_text(inner)}" for name, inner in value.items())
    if isinstance(value, bool):
        return _yes(value)
    return f"{value:.2g}" if isinstance(value, float) else str(value)


def _yes(value: bool) -> str:
    return "yes" if value else "no"
