"""The report of a GPU, on the CPU: the command as a user runs it, what it does when work fails, and its sums."""

import gzip
import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file, save_file

from tests.frameworks import FRAMEWORKS, needs

pytestmark = needs(*FRAMEWORKS)  # it compares both
checks, job, page, plan, report, waits = (
    pytest.importorskip(f"benchmarks.gpu.{name}") for name in ("checks", "job", "page", "plan", "report", "waits")
)
SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "gpu_report.py"
CPU = {"device": "cpu", "deadline": job.Deadline(60)}


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    light = {"OMP_NUM_THREADS": "1", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **light, **environment},
        timeout=600,
    )


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("report")
    done = run("--device", "cpu", "--quick", "--out", str(out))
    assert done.returncode == 0, done.stderr
    (throughput,) = out.glob("*-throughput.json")
    (content,) = set(out.glob("*.json")) - {throughput}
    files = {"content": json.loads(content.read_text()), "throughput": json.loads(throughput.read_text())}
    return files | {"page": (out / "gpu.md").read_text(), "said": done.stderr}


def test_a_quick_report_has_every_part(quick):
    content, said = quick["content"], quick["said"]
    assert content["gpu"] is None and content["not_run"] == []
    assert content["frameworks"]["torch"]["device"] == content["frameworks"]["jax"]["device"] == "cpu"
    (row,) = content["equality"]
    assert (row["check"], row["configuration"], row["holds"]) == ("float64", "dcgan", True)
    (found,) = row["found"].values()
    assert 0 < found["one step"] <= 1e-11 and 0 < found["20 steps"] <= 1e-9
    assert [each["backend"] for each in quick["throughput"]["rows"]] == ["torch", "jax"]
    assert all(each["images_per_second"] > 0 for each in quick["throughput"]["rows"])
    assert all(each["samples_per_second"] > 0 for each in quick["throughput"]["rows"])
    for each in quick["throughput"]["rows"]:
        waiting = each["waits"]
        assert waiting["found"] is None and waiting["kernels"] > 20 and waiting["step_seconds"] > 0
        assert 0 < sum(kernel["share"] for kernel in waiting["longest"]) < 1.000001
    assert "float64 of dcgan: holds" in said and "dcgan, jax, batch 4, float32" in said


def test_the_page_has_a_table_of_each(quick):
    for words in (
        "## Equal",
        "1 of 1 comparisons hold",
        "## Speed",
        "jax / torch",
        "## Where the time goes",
        "without a",
    ):
        assert words in quick["page"]
    assert quick["page"] == page.document(quick["content"], quick["throughput"])


def test_what_there_is_no_time_for_is_named(tmp_path):
    begun = time.monotonic()
    done = run("--device", "cpu", "--minutes", "0.02", "--out", str(tmp_path), "--parts", "equality", "speed")
    assert time.monotonic() - begun < 60
    assert "not run: float64 of dcgan: the time was used up" in done.stderr
    assert "not run: the group of dcgan-64, torch, batch 64, tf32: the time was used up" in done.stderr
    page_text = (tmp_path / "gpu.md").read_text()
    assert "- variants of r3gan-tiny: the time was used up" in page_text and "| no |" not in page_text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--device", "gpu"], "error: device: found gpu, expected a GPU that a framework finds; choices: auto, cpu"),
        (["--minutes", "0"], "error: minutes: found 0.0, expected a number above 0"),
        (["--minutes", "nan"], "error: minutes: found nan, expected a number above 0"),
        (["--out", __file__], f"error: out: found the file {__file__}, expected a folder, which may be new"),
        (["--parts", "sped"], "error: parts: found sped, expected a part of the report; choices: "),
    ],
)
def test_wrong_options_are_one_line(arguments, words):
    done = run("--quick", *arguments, PATH="")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith(words)


def test_every_cell_of_the_plan_can_be_had():
    from benchmarks.naive_runs import check_plain
    from benchmarks.settings import CONTENDERS, configuration
    from gan_parity.configurations import PRESET_CONFIGS

    phases = list(plan.phases(False, plan.PARTS))
    cells = [settings for phase in phases for group in phase.groups for settings in group.cells("gpu")]
    assert {settings.backend for settings in cells} <= set(CONTENDERS)
    for settings in cells:
        config = configuration(settings)
        assert config.training.batch_size == settings.batch_size and config.execution.device == "gpu"
        if CONTENDERS[settings.backend].naive:
            check_plain(config)
    asked = [pair for phase in phases for pair in phase.checks]
    assert len(set(asked)) == len(asked) and {check for check, _ in asked} == set(checks.CHECKS)
    assert {name for check, name in asked if check == "float64"} >= set(PRESET_CONFIGS)
    for _, name in asked:
        assert checks.configuration(name, "gpu").execution.device == "gpu"


def test_parts_that_are_not_asked_for_are_left_out():
    only = list(plan.phases(False, ("waits",)))
    groups = [group for phase in only for group in phase.groups]
    assert groups and all(group.profiled for group in groups) and not any(phase.checks for phase in only)
    assert not any(group.profiled for phase in plan.phases(False, ("speed",)) for group in phase.groups)


def test_a_difference_does_not_hold(monkeypatch, tmp_path):
    from benchmarks.gpu import equality

    files = equality.states("torch", "dcgan", "cpu", [0, 1, 20], str(tmp_path / "right"))
    off, wrong = tmp_path / "off.safetensors", {}
    state = load_file(files["1"])
    name = next(key for key in state if key.startswith("generator/") and key.endswith("weight"))
    save_file({**state, name: state[name] * (1 + 1e-6)}, off)
    wrong = {**files, "1": str(off)}
    monkeypatch.setattr(checks, "run_all", lambda jobs, deadline: [files, wrong])
    row = checks.check_float64("dcgan", **CPU)
    assert not row["holds"] and 5e-7 < row["found"]["jax to torch, cpu"]["one step"] <= 1e-6
    monkeypatch.setattr(checks, "run_all", lambda jobs, deadline: [files, files])
    assert checks.check_float64("dcgan", **CPU)["holds"]


def test_a_precision_that_one_backend_computes_worse_does_not_hold(monkeypatch):
    def errors(backend: str) -> dict[str, Any]:
        worse = 4.0 if backend == "jax" else 1.0
        return {precision: {"generator/": [worse * floor] * 3} for precision, floor in checks.FLOORS.items()}

    monkeypatch.setattr(checks, "run_all", lambda jobs, deadline: [errors(job.arguments["backend"]) for job in jobs])
    row = checks.check_precisions("dcgan", **CPU)
    assert row["found"] == {"float32": 4.0, "tf32": 4.0, "bfloat16": 4.0} and not row["holds"]


def in_this_process(job: Any, deadline: Any) -> Any:
    """What a job's process would compute; quicker, as both frameworks are here."""
    from benchmarks.gpu import equality

    return getattr(equality, job.work.rpartition(".")[2])(**job.arguments)


@pytest.mark.parametrize("check", ["variants", "carried", "samples", "resumed", "resumed, deterministic"])
def test_a_check_holds_on_a_cpu(monkeypatch, check):
    import torch

    # But for torch.compile, which takes a minute here.
    quick = {name: options for name, options in checks.VARIANTS["torch"].items() if name != "--compile"}
    monkeypatch.setitem(checks.VARIANTS, "torch", quick)
    monkeypatch.setattr(checks, "run", in_this_process)
    monkeypatch.setattr(checks, "run_all", lambda jobs, deadline: [in_this_process(each, deadline) for each in jobs])
    try:
        row = checks.CHECKS[check]("dcgan", **CPU)
    finally:
        torch.use_deterministic_algorithms(False)
    assert row["holds"]
    if check == "variants":
        typed = {"torch --data-on device", "jax --data-on device", "jax --steps-per-call 4"}
        assert row["found"].keys() == typed and all(each["same_bits"] for each in row["found"].values())
    if "resumed" in check:
        assert set(row["found"]) == {f"{each}, {word}" for each in FRAMEWORKS for word in ("repeated", "resumed")}
        assert set(row["found"].values()) == {"the same bits"}


def test_work_that_fails_is_one_line(tmp_path):
    rest = {"device": "cpu", "marks": [0], "folder": str(tmp_path)}
    with pytest.raises(job.JobFailed, match=r"^KeyError: 'gan9000'$"):
        job.run(job.Job("equality.states", {"backend": "torch", "name": "gan9000", **rest}), job.Deadline(60))
    with pytest.raises(job.JobFailed, match=r"^AttributeError"):
        job.run(job.Job("environment.numpy", {}), job.Deadline(60))
    with pytest.raises(job.OutOfTime, match=r"^not begun$"):
        job.run(job.Job("environment.torch", {"device": "cpu"}), job.Deadline(0))
    with pytest.raises(job.OutOfTime, match=r"^ended before it was done$"):
        job.run(job.Job("environment.torch", {"device": "cpu"}), job.Deadline(0.5))
    assert not job._live


def test_a_cell_that_is_late_keeps_the_turns_it_has_had(tmp_path, monkeypatch):
    from benchmarks.harness import LATE, Bench, CellProcess
    from benchmarks.harness import Plan as Timed
    from benchmarks.settings import Settings

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    turned, pids = CellProcess.turn, []

    def turn(self: CellProcess) -> None:
        turned(self)
        pids.append(self._process.pid)
        self.end_at(time.monotonic())  # late from now on
        time.sleep(0.5)

    monkeypatch.setattr(CellProcess, "turn", turn)
    cell = Settings("dcgan", "torch", 4, width=0.0625, resolution=16, device="cpu")
    bench = Bench("throughput", tmp_path / "late.json", Timed(rounds=3, steps_per_round=1, start_together=True))
    bench.measure([cell], seconds=100, profiled=True)
    (row,) = bench.rows
    assert row["rounds"] == 1 and row["images_per_second"] > 0 and row["peak_host_bytes"] is None
    assert row["waits"] == {"error": LATE} and row["flops_per_image"] > 0
    assert json.loads((tmp_path / "late.json").read_text())["rows"] == [row]
    assert len(pids) == 1 and not Path(f"/proc/{pids[0]}").exists()


def test_a_cell_that_does_not_begin_in_time_is_left_behind(tmp_path):
    from benchmarks.harness import LATE, Bench
    from benchmarks.harness import Plan as Timed
    from benchmarks.settings import Settings

    cell = Settings("dcgan", "torch", 4, width=0.0625, resolution=16, device="cpu")
    bench = Bench("throughput", tmp_path / "late.json", Timed(rounds=1, start_seconds=0.1))
    bench.measure([cell], seconds=100)
    assert [row["error"] for row in bench.rows] == [LATE]


def test_a_check_that_fails_is_a_row_and_the_others_go_on(monkeypatch, tmp_path):
    def failing(error: Exception) -> Any:
        def check(name: str, device: str, deadline: Any) -> Any:
            raise error

        return check

    held = {"found": {"jax to torch, cpu": 0.0}, "limit": 1.0, "holds": True}
    found = {
        "float64": failing(job.JobFailed("RuntimeError: out of memory")),
        "precisions": failing(ValueError("no such tensor")),
        "variants": failing(job.OutOfTime("not begun")),
        "samples": lambda *given: held,
    }
    monkeypatch.setattr(report, "CHECKS", found)
    monkeypatch.setattr(report, "phases", lambda *given: [plan.Phase(checks=tuple((name, "dcgan") for name in found))])
    monkeypatch.setattr(report, "_facts", lambda *given: {"device": "cpu"})
    assert report.main(report.Options(out=tmp_path, parts=("equality",), device="cpu")) == 1
    text = (tmp_path / "gpu.md").read_text()
    assert "1 of 3 comparisons hold" in text
    assert "| float64 | dcgan | RuntimeError: out of memory |  | failed |" in text
    assert "| precisions | dcgan | ValueError: no such tensor |  | failed |" in text
    assert "- variants of dcgan: the time was used up" in text


def test_kernels_are_those_on_the_streams_of_the_gpu(tmp_path):
    def named(pid: int, tid: int | None, name: str) -> dict[str, Any]:
        kind = "process_name" if tid is None else "thread_name"
        return {"ph": "M", "pid": pid, "name": kind, "args": {"name": name}} | ({} if tid is None else {"tid": tid})

    events = [
        named(1, None, "/device:GPU:0"),
        named(1, 7, "Stream #7(Compute)"),
        named(1, 8, "XLA Modules"),
        named(2, None, "/host:CPU"),
        named(2, 1, "python"),
    ]
    ran = [(1, 7, "fusion", 30), (1, 7, "fusion", 10), (1, 7, "gemm", 5), (1, 8, "jit_scan", 90), (2, 1, "call", 70)]
    events += [{"ph": "X", "pid": p, "tid": t, "name": name, "ts": 0, "dur": spent} for p, t, name, spent in ran]
    with gzip.open(tmp_path / "perfetto_trace.json.gz", "wt") as stream:
        json.dump({"traceEvents": events}, stream)
    kernels = waits.read_trace(tmp_path, on_gpu=True)
    assert kernels.seconds == pytest.approx({"fusion": 40e-6, "gemm": 5e-6})
    assert kernels.calls == {"fusion": 2, "gemm": 1}


def test_missing_packages_come_from_wheels(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(SCRIPT.parent)
    script: Any = __import__("gpu_report")
    wheels, folder = tmp_path / "wheels", tmp_path / "installed"
    wheels.mkdir()
    name = "not_there_yet"
    with zipfile.ZipFile(wheels / f"{name}-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{name}.py", "VALUE = 3\n")
        archive.writestr(f"{name}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(
            f"{name}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{name}-1.0.dist-info/RECORD", "")
    (wheels / "numpy-1.0-py3-none-any.whl").touch()  # is there: left alone
    monkeypatch.setattr(script, "PURE", {"numpy": "numpy", name: name.replace("_", "-")})
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setattr(sys, "path", [*sys.path])
    script.install(wheels, folder)
    assert os.environ["PYTHONPATH"] == str(folder) == sys.path[0]
    assert __import__(name).VALUE == 3


def test_a_package_that_is_still_missing_is_named(monkeypatch, capsys):
    monkeypatch.syspath_prepend(SCRIPT.parent)
    script: Any = __import__("gpu_report")
    monkeypatch.setattr(script, "NEEDED", {"numpy": "numpy", "no_such_module": "no-such-package"})
    monkeypatch.setattr(sys, "argv", ["gpu_report.py", "--quick"])
    assert script.main() == 2
    assert capsys.readouterr().err == "error: packages: no-such-package not installed; see --wheels\n"
