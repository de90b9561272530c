"""The report's run: phases in the order of the plan until the time is used up, each result written at once."""

from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from json import dumps
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.cell import summary
from benchmarks.gpu import environment, page
from benchmarks.gpu.checks import CHECKS
from benchmarks.gpu.job import Deadline, Job, JobFailed, OutOfTime, end_all, run
from benchmarks.gpu.plan import PARTS, QUICK_SIZE, QUICKLY_TIMED, TIMED, Group, Phase, phases
from benchmarks.harness import LATE, RESULTS, ROOT, Bench, say, title
from benchmarks.settings import available, missing
from gan_shared.atomic import replacing
from gan_shared.errors import unexpected

# Cells are not begun any more when so many seconds are left: they would compile and not be timed.
LEAST_SECONDS = 60.0
OUT_OF_TIME = "the time was used up"
# Where a report is written that is none of a GPU, or not a whole one.
ELSEWHERE = Path("gpu-report")


@dataclass(frozen=True)
class Options:
    """What a report is asked for.

    Attributes:
        out: folder of the results and the page; those of the repository for a whole run on a GPU when not given.
        minutes: after which nothing more is begun, and what runs is ended.
        parts: of ``plan.PARTS``.
        device: cpu, gpu, or auto.
        quick: whether toy sizes show that the command works.
    """

    out: Path | None = None
    minutes: float = 8.0
    parts: tuple[str, ...] = PARTS
    device: str = "auto"
    quick: bool = False


class Report:
    """What is known so far.

    Args:
        folder: of the JSON files.
        page_file: the Markdown file.
        content: what is known before anything is compared; see ``environment.py``.
        device: the name of the device, after which the files are named.
    """

    def __init__(self, folder: Path, page_file: Path, content: dict[str, Any], device: str) -> None:
        self.file = folder / f"{machine.slug(device)}.json"
        self.throughput_file = folder / f"{machine.slug(device)}-throughput.json"
        self.page_file = page_file
        self.content = {"benchmark": "gpu", **content, "equality": [], "not_run": []}
        self.throughput: dict[str, Any] = {}

    def not_run(self, what: str, why: str) -> None:
        """Write down what was left out."""
        self.content["not_run"].append(f"{what}: {why}")
        say(f"not run: {what}: {why}")

    def write(self) -> None:
        """Write the JSON file and the page."""
        for path, text in (
            (self.file, dumps(self.content, indent=1) + "\n"),
            (self.page_file, page.document(self.content, self.throughput)),
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary:
                temporary.write_text(text, encoding="utf-8")


def main(options: Options) -> int:
    """Run a report and return the exit status: 1 where a comparison does not hold or work has failed.

    Raises:
        UserError: an option is wrong, or no framework is installed.
    """
    check(options)
    backends = available(("torch", "jax"), say)
    deadline = Deadline(60 * options.minutes)
    facts = {backend: _facts(backend, options.device, deadline) for backend in backends}
    names = [each["device"] for each in facts.values() if each.get("device", "cpu") != "cpu"]
    if options.device == "gpu" and not names:
        raise unexpected("device", "gpu", "a GPU that a framework finds", ("auto", "cpu"))
    report = _report(options, facts, names[0] if names else None)
    report.write()
    bench = Bench("throughput", report.throughput_file, QUICKLY_TIMED if options.quick else TIMED)
    for phase in phases(options.quick, options.parts):
        _check(phase, report, backends, "gpu" if names else "cpu", deadline)
        for group in phase.groups:
            _time(group, report, bench, QUICK_SIZE if options.quick else {}, "gpu" if names else "cpu", deadline)
    say(f"wrote {report.file}, {report.page_file}{f', {report.throughput_file}' if report.throughput else ''}")
    rows = [*report.content["equality"], *report.throughput.get("rows", ()), *facts.values()]
    return int(any(not row.get("holds", True) or row.get("error", LATE) != LATE for row in rows))


def check(options: Options) -> None:
    """Refuse options that cannot work.

    Raises:
        UserError: naming the first.
    """
    for part in options.parts:
        if part not in PARTS:
            raise unexpected("parts", part, "a part of the report", PARTS)
    if not options.minutes > 0:
        raise unexpected("minutes", options.minutes, "a number above 0")
    if options.out is not None and options.out.exists() and not options.out.is_dir():
        raise unexpected("out", f"the file {options.out}", "a folder, which may be new")


def _report(options: Options, facts: dict[str, Any], gpu: str | None) -> Report:
    """Return the report of a device, as yet empty."""
    whole = gpu is not None and not options.quick and set(options.parts) == set(PARTS)
    folder = options.out or (RESULTS / "gpu" if whole else ELSEWHERE)
    page_file = ROOT / "docs" / "gpu.md" if whole and options.out is None else folder / "gpu.md"
    host = environment.host() if gpu else {**environment.host(), "gpu": None}
    content = {**host, "frameworks": facts, "quick": options.quick}
    return Report(folder, page_file, content, gpu or host["machine"]["processor"])


def _facts(backend: str, device: str, deadline: Deadline) -> dict[str, Any]:
    """Return what a framework reports of itself and its device, or why it does not."""
    try:
        # Where there is no GPU, a framework is asked what it does without one.
        return run(Job(f"environment.{backend}", {"device": "auto" if device == "gpu" else device}), deadline)
    except JobFailed as error:
        say(f"{backend}: failed: {error}")
        return {"error": str(error)}


def _check(phase: Phase, report: Report, backends: tuple[str, ...], device: str, deadline: Deadline) -> None:
    """Run the checks of a phase, as many at a time as there are processes free, and add their rows as they come."""
    if len(backends) < 2:
        for check, name in phase.checks:
            report.not_run(f"{check} of {name}", "it compares both backends")
        return
    pool = ThreadPoolExecutor(max(1, len(phase.checks)))
    try:
        futures = {pool.submit(CHECKS[check], name, device, deadline): (check, name) for check, name in phase.checks}
        for future in as_completed(futures):
            check, name = futures[future]
            try:
                row = future.result()
            except OutOfTime:
                report.not_run(f"{check} of {name}", OUT_OF_TIME)
                continue
            except JobFailed as error:
                row = {"error": str(error)}
            except Exception as error:  # whatever it is, the others go on
                row = {"error": summary(error)}
            report.content["equality"].append({"check": check, "configuration": name, **row})
            say(f"{check} of {name}: {row.get('error') or ('holds' if row['holds'] else 'does not hold')}")
            report.write()
    except BaseException:  # Ctrl-C: what runs would go on to its end, and what waits would begin
        deadline.end()
        pool.shutdown(wait=False, cancel_futures=True)
        end_all()
        raise
    pool.shutdown()
    report.write()


def _time(group: Group, report: Report, bench: Bench, size: dict[str, Any], device: str, deadline: Deadline) -> None:
    """Let the cells of a group take turns, if there is time, and add what they measured."""
    cells = [each for each in group.cells(device, **size) if not missing(each.backend)]
    if device == "cpu":
        cells = [each for each in cells if each.backend != "torch-graph"]
    if not cells:
        return
    what = f"the group of {title(cells[0])}"
    if deadline.left() < LEAST_SECONDS:
        report.not_run(what, OUT_OF_TIME)
        return
    try:
        bench.measure(cells, seconds=deadline.left(), profiled=group.profiled)
    except OSError as error:  # a process could not be started, or a file not be written
        report.not_run(what, summary(error))
    report.throughput = bench.content()
    report.write()
