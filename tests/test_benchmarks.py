"""The benchmarks at toy sizes: what they write, that the plain implementations do our work, and the report's sums."""

# Loops over steps run at least once, which pyright cannot know.
# pyright: reportPossiblyUnboundVariable=false

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import harness, machine, report, scaling, startup, throughput
from benchmarks import input as waiting
from benchmarks.harness import Bench, Plan
from benchmarks.settings import Settings, configuration, noise
from gan_shared import presets
from gan_shared.architecture import R3GAN_STAGES
from gan_shared.data.batches import batch_at
from gan_shared.draws import draw
from gan_shared.errors import UserError
from gan_shared.validation import with_data_defaults
from tests.frameworks import FRAMEWORKS, needs

pytestmark = needs(*FRAMEWORKS)  # they compare both
TINY = Settings("dcgan-64", "torch", 4, width=0.0625, device="cpu")
KEYS = {
    "preset",
    "backend",
    "batch_size",
    "precision",
    "resolution",
    "channels",
    "width",
    "device",
    "images_per_second",
    "images_per_second_min",
    "images_per_second_max",
    "images_per_second_quartiles",
    "images_per_second_rounds",
    "share_waiting",
    "rounds",
    "steps_per_round",
    "compile_seconds",
    "first_step_seconds",
    "peak_host_bytes",
    "peak_device_bytes",
    "flops_per_image",
    "bytes_per_image",
    "operations_per_step",
    "samples_per_second",
    "fraction_of_peak",
    "versions",
    "tf32",
}


@pytest.fixture(autouse=True)
def light(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Compute in one thread, as several would wait for each other on a busy machine, and compile without care."""
    import torch

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_throughput_writes_sane_rows(tmp_path, capsys):
    out = tmp_path / "throughput.json"
    argv = (
        "--presets dcgan --backends torch jax --batch-sizes 8 --width 0.0625 --resolution 16 --rounds 2 --device cpu "
        f"--seconds-per-round 0.05 --probe-size 64 --probe-conv-batch 1 --out {out}"
    )
    assert throughput.main(argv.split()) == 0, capsys.readouterr().err
    result = json.loads(out.read_text())
    assert result["benchmark"] == "throughput"
    assert {"processor", "cores", "memory_bytes", "system", "python", "date"} <= set(result["machine"])
    assert {"torch", "jax", "numpy"} <= set(result["versions"])
    assert [row["backend"] for row in result["rows"]] == ["torch", "jax"]
    assert [probe["framework"] for probe in result["probes"]] == ["torch", "jax"]
    for row in result["rows"]:
        assert set(row) >= KEYS
        speeds = row["images_per_second_rounds"]
        assert len(speeds) == row["rounds"] == 2
        assert row["images_per_second_min"] == min(speeds) > 0 and row["images_per_second_max"] == max(speeds)
        low, high = row["images_per_second_quartiles"]
        assert min(speeds) <= low <= row["images_per_second"] <= high <= max(speeds) < math.inf
        assert row["resolution"] == 16 and row["channels"] == 1 and row["width"] == 0.0625
        assert row["compile_seconds"] >= 0 and 0 < row["first_step_seconds"] < 600
        assert 0 <= row["share_waiting"] < 1 and 0 < row["fraction_of_peak"] < math.inf
        assert row["peak_host_bytes"] > 10**7 and row["peak_device_bytes"] is None
        assert row["device"] == machine.processor() and row["tf32"] is False
    first, second = result["rows"]
    assert first["flops_per_image"] == second["flops_per_image"] > 0
    assert second["compile_seconds"] > 0.1, "no cell may find what another one compiled"


def test_failing_cell_is_a_row_and_the_file_is_written(tmp_path, capsys, monkeypatch):
    def broken(self: harness.CellProcess) -> dict[str, Any]:
        raise harness.CellFailed("RuntimeError: out of memory")

    monkeypatch.setattr(harness.CellProcess, "answer", broken)
    bench = Bench("throughput", tmp_path / "failed.json", Plan(rounds=1))
    bench.measure([TINY])
    (row,) = json.loads((tmp_path / "failed.json").read_text())["rows"]
    assert row["error"] == "RuntimeError: out of memory" and row["backend"] == "torch"
    assert "failed: RuntimeError: out of memory" in capsys.readouterr().err
    assert "- dcgan-64, torch, batch 4: RuntimeError" in "".join(report.failures({"rows": [row]}))


def test_a_cell_says_what_went_wrong_in_one_line(tmp_path):
    bench = Bench("throughput", tmp_path / "refused.json", Plan(rounds=1))
    # Refused in the cell, not before it: the plain implementations have no float64.
    bench.measure([replace(TINY, backend="torch-naive", precision="float64")])
    (row,) = bench.rows
    assert row["error"].startswith("UserError: precision: found float64, expected a type of the plain implementations")


@pytest.mark.parametrize("preset", ["dcgan-64", "r3gan-tiny"])
def test_plain_implementations_do_our_work(preset):
    from benchmarks.naive_torch import Naive as TorchNaive
    from gan_torch.backend import build_networks

    settings = replace(TINY, preset=preset)
    config = configuration(settings)
    ours = [_count(network.parameters()) for network in build_networks(config)[:2]]
    plain = TorchNaive(config)
    assert [_count(network.parameters()) for network in (plain.generator, plain.discriminator)] == ours
    images = noise(config)
    for step in range(2):
        scalars = plain.step(batch_at(images, config, step), draw(config, step))
    plain.wait()
    assert np.isfinite(list(scalars.values())).all() and len(scalars) == 5


@pytest.mark.parametrize("preset", ["dcgan-64", "r3gan-tiny"])
def test_plain_flax_has_our_parameters(preset):
    import jax

    from benchmarks.naive_jax import NETWORKS
    from gan_torch.backend import build_networks

    config = configuration(replace(TINY, preset=preset))
    ours = [_count(network.parameters()) for network in build_networks(config)[:2]]
    inputs = np.zeros((2, config.networks.latent_size), np.float32), np.zeros((2, *config.image_shape), np.float32)
    found, shapes = [], []
    for network, x in zip(NETWORKS[config.networks.generator], inputs, strict=True):
        shape, variables = jax.eval_shape(network(config, np.float32).init_with_output, jax.random.key(0), x)
        found.append(sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"])))
        shapes.append(shape.shape)
    assert found == ours
    assert shapes == [(2, *config.image_shape), (2,)]


def test_plain_flax_trains(monkeypatch):
    import jax

    from benchmarks.naive_jax import Naive as JaxNaive

    config = configuration(replace(TINY, preset="r3gan-tiny", resolution=16))
    # One block at each of two sizes holds all that there is to compile.
    monkeypatch.setitem(R3GAN_STAGES, "r3gan-tiny", {4: (96, 1), 8: (64, 1)})
    jax.config.update("jax_disable_most_optimizations", True)  # compiles sooner
    try:
        plain, images = JaxNaive(config), noise(config)
        for step in range(2):
            scalars = plain.step(batch_at(images, config, step), draw(config, step))
        plain.wait()
    finally:
        jax.config.update("jax_disable_most_optimizations", False)
    assert np.isfinite([float(value) for value in scalars.values()]).all()
    assert float(scalars["penalty"]) > 0


def test_flops_are_those_of_the_layers():
    from benchmarks.flops import work_of

    settings = replace(TINY, preset="dcgan", resolution=16, width=1 / 64)
    # Channels 2 and 1 at 4x4 and 8x8; the stem reads 100 latents. Multiplications of one forward.
    generator = 100 * 2 * 16 + 2 * 1 * 16 * 16 + 1 * 1 * 16 * 64
    discriminator = 1 * 1 * 16 * 64 + 1 * 2 * 16 * 16 + 2 * 1 * 16
    # Forwards: two of the generator (the latents are fresh), three of the discriminator. Backward: weights of the
    # discriminator on reals and fakes; its inputs there but for the images; its inputs alone for the generator, and
    # the generator's weights and inputs but for the latents.
    image = 1 * 1 * 16 * 64
    expected = 2 * generator + 3 * discriminator + 2 * (2 * discriminator - image) + discriminator
    expected += 2 * generator - 100 * 2 * 16
    exact, halved = work_of(settings), work_of(replace(settings, precision="bfloat16"))
    assert exact["flops_per_image"] == halved["flops_per_image"] == 2 * expected
    # Weights and their updates stay float32, and casts move bytes of their own.
    assert 0.5 < halved["bytes_per_image"] / exact["bytes_per_image"] < 1.5
    penalised = work_of(replace(TINY, preset="r3gan-tiny", resolution=16))
    assert penalised["flops_per_image"] > 0, "second derivatives are counted too"


def _count(parameters) -> int:
    return sum(parameter.numel() for parameter in parameters)


def _row(backend: str, speeds: list[float], **more: Any) -> dict[str, Any]:
    return {
        "preset": "dcgan-64",
        "backend": backend,
        "batch_size": 64,
        "precision": "float32",
        "resolution": 64,
        "width": 1.0,
        "device": "Some CPU",
        "images_per_second": sorted(speeds)[1],
        "images_per_second_min": min(speeds),
        "images_per_second_max": max(speeds),
        "images_per_second_rounds": speeds,
        "compile_seconds": 1.25,
        "first_step_seconds": 5.0,
        "peak_host_bytes": 10**9,
        "peak_device_bytes": None,
        "fraction_of_peak": 0.5,
        **more,
    }


@pytest.fixture
def result(tmp_path: Path) -> Path:
    rows = [_row("torch", [80.0, 60.0, 70.0]), _row("jax", [40.0, 45.0, 35.0])]
    machine = {
        "processor": "Some CPU",
        "cores": 2,
        "memory_bytes": 2**34,
        "system": "Linux",
        "python": "3.11",
        "date": "2026-01-02T03:04:05+00:00",
    }
    probe = {"framework": "torch", "precision": "float32"}
    probe |= {"matmul_flops_per_second": 2.5e11, "conv_flops_per_second": 2e11}
    content = {
        "benchmark": "throughput",
        "machine": machine,
        "versions": {"torch": "2"},
        "probes": [probe],
        "rows": [*rows, {**rows[0], "backend": "torch-compile", "error": "no compiler"}],
    }
    file = tmp_path / "result.json"
    file.write_text(json.dumps(content))
    return file


def test_report_has_the_ratio_and_the_same_text_again(result, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    out = tmp_path / "docs" / "performance.md"
    assert report.main([str(result), "--readme", str(readme), "--out", str(out)]) == 0
    # Medians 40 / 70; rounds 40/80, 45/60, 35/70.
    assert "| dcgan-64 | 64 | float32 | jax / torch | 0.57 (0.50 to 0.75) |" in out.read_text()
    assert "torch | 70.0 (60.0 to 80.0) | 50% | 1.2 | 5.0 | 1000 |  |" in out.read_text()
    assert "| torch | float32 | 250 | 200 |" in out.read_text()
    assert "torch-compile, batch 64: no compiler" in out.read_text()
    assert "Some CPU, 2 cores, 16 GiB of memory" in out.read_text() and "2026-01-02" in out.read_text()
    text = readme.read_text()
    assert text.startswith(f"before\n{report.BEGIN}\n") and text.endswith(f"{report.END}\nafter\n")
    assert "0.57 (0.50 to 0.75)" in text and "old" not in text
    first = [path.read_bytes() for path in sorted(out.parent.iterdir())]
    assert report.main([str(result), "--readme", str(readme), "--out", str(out)]) == 0
    assert [path.read_bytes() for path in sorted(out.parent.iterdir())] == first and len(first) == 2
    assert readme.read_text() == text


def test_report_draws_sweeps_and_has_tables_of_input_and_startup(result, tmp_path):
    content = json.loads(result.read_text())
    rows = [_row(name, [4.0, 5.0, 6.0], width=width) for name in ("torch", "jax") for width in (0.5, 1.0)]
    kinds = {
        "scaling": [{**row, "sweep": "width"} for row in rows],
        "input": [
            {
                **_row("jax", [4.0, 5.0, 6.0]),
                "data": "digits",
                "data_on": "device",
                "share_waiting": 0.01,
                "share_waiting_rounds": [0.0, 0.02],
                "decode_seconds_per_image": 0.0015,
            }
        ],
        "startup": [
            {
                **_row("jax", [4.0, 5.0, 6.0]),
                "variant": "jax warm",
                "first_step_seconds_min": 4.0,
                "first_step_seconds_max": 6.0,
                "import_seconds": 2.0,
            }
        ],
    }
    files = []
    for kind, rows in kinds.items():
        files.append(tmp_path / f"{kind}.json")
        files[-1].write_text(json.dumps({**content, "benchmark": kind, "probes": [], "rows": rows}))
    out = tmp_path / "docs" / "performance.md"
    assert report.main([*map(str, files), "--out", str(out)]) == 0
    text = out.read_text()
    assert "### By width" in text and "![performance-scaling](performance-scaling.png)" in text
    assert "| digits | dcgan-64 | 64 | jax | device | 1.0% (0.0% to 2.0%) | 5.0 (4.0 to 6.0) | 1.50 |" in text
    assert "| dcgan-64 | 64 | jax warm | 5.0 (4.0 to 6.0) | 2.0 |" in text


def test_wrong_values_are_one_line(result, tmp_path, capsys):
    readme = tmp_path / "README.md"
    readme.write_text(f"{report.BEGIN}\nno end\n")
    assert report.main([str(result), "--readme", str(readme), "--out", str(tmp_path / "report.md")]) == 2
    assert "error: " in (line := capsys.readouterr().err) and "no place for the tables" in line
    assert line.count("\n") == 1 and not (tmp_path / "report.md").exists()
    result.write_text("{}")
    assert report.main([str(result)]) == 2
    assert "found no result, expected JSON that a benchmark wrote" in capsys.readouterr().err
    assert throughput.main(["--backends", "numpy"]) == 2
    assert "error: backends: found numpy, expected what can be measured; choices: torch" in capsys.readouterr().err
    assert throughput.main(["--presets", "dcgan-65"]) == 2
    assert "error: preset: found 'dcgan-65'" in capsys.readouterr().err
    assert scaling.main(["--resolutions", "30"]) == 2
    assert "error: resolution: found 30" in capsys.readouterr().err
    assert startup.main(["--backends", "jax-naive"]) == 2
    assert "our own backends" in capsys.readouterr().err
    with pytest.raises(UserError, match="rounds: found 0, expected at least 1"):
        Bench("throughput", None, Plan(rounds=0))


def test_photographs_are_cut_and_decoded(tmp_path):
    waiting.make_photographs(tmp_path / "pictures", 3)
    settings = Settings("dcgan", "torch", 2, resolution=256, data=str(tmp_path / "pictures"))
    decoding = waiting.decode(settings, str(tmp_path / "cache"))
    assert decoding.images == 3 and decoding.cold_seconds > 0 and (tmp_path / "cache" / "decoded").is_dir()


def test_device_names_become_file_names():
    assert machine.slug("AMD EPYC 7763 64-Core Processor") == "amd-epyc-7763-64-core-processor"
    assert machine.slug("Intel(R) Xeon(R) CPU @ 2.20GHz") == "intel-xeon-cpu-2-20ghz"


def test_what_is_expected_of_a_gpu_is_the_slowest_of_three_times(tmp_path):
    from benchmarks import expect
    from benchmarks.work import count

    assert expect.main(["article", "--out", str(tmp_path / "expected.md")]) == 0
    lines = [line for line in (tmp_path / "expected.md").read_text().splitlines() if line.startswith("| article")]
    work = count(with_data_defaults(presets.get_preset("article"), 1, 10))
    # A few million FLOP in some hundred small operations: it is the launches that cost, 5 microseconds each.
    assert len(lines) == 3 and all("launches |" in line for line in lines)
    assert f"| {64 / (work.operations * 5e-6):,.0f} (" in lines[0] and work.bytes > work.flops / 100


def test_work_of_penalties_in_every_other_step_is_half_that_of_all():
    from benchmarks.work import count

    config = presets.get_preset("fashion-cpu").with_options(channels=1)
    every, other, none = (
        count(each).flops for each in (config, config.with_options(penalty_every=2), config.without_penalties())
    )
    assert none < other < every and 2 * other == every + none


def test_where_nothing_can_be_measured_no_result_is_touched(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("benchmarks.settings.find_spec", lambda name: None)
    out = tmp_path / "result.json"
    out.write_text("mine")
    assert throughput.main(["--backends", "torch", "--out", str(out)]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message == "error: backends: found torch, expected at least one whose packages are installed"
    assert out.read_text() == "mine"
