"""The benchmark of quality: rows that are trained and evaluated once, and the page of what is there."""

import json
from pathlib import Path

import pytest

from benchmarks import quality
from benchmarks.quality import Options, Row, Subject
from gan_shared.config import Config
from gan_shared.manifest import write_config
from tests.frameworks import FRAMEWORKS, needs

pytestmark = needs(*FRAMEWORKS)  # a row is of either


@pytest.fixture
def options(tmp_path: Path) -> Options:
    """One row of two steps."""
    return Options(
        sets=("mnist-5k",),
        contenders=("plain",),
        backends=("torch",),
        seeds=(3,),
        part=0.001,
        device="cpu",
        rows=tmp_path / "rows",
        out=tmp_path / "results",
        page=tmp_path / "quality.md",
    )


def finished(data: str, contender: str, backend: str, seed: int, values: dict[str, float]) -> dict:
    """A result as a row leaves it."""
    names = quality.SUBJECTS[data].numbers
    protocol = {"generated_images": 26000, "network": "digits", "features": 384}
    return {
        "row": Row(data, contender, backend, seed, 1.0).name,
        **Row(data, contender, backend, seed, 1.0)._asdict(),
        "preset": quality.SUBJECTS[data].preset if contender == "preset" else "dcgan",
        "machine": {"processor": "Some CPU"},
        "versions": {"torch": "2.0", "jax": "0.9", "numpy": "1.0"},
        "cores": 2,
        "training_seconds": 600.0 * (seed + 1),
        "steps": 10,
        "images_seen": 12345,
        "evaluation": {
            "values": dict.fromkeys(names, 0.0) | values,
            "floors": dict.fromkeys(names, 0.25),
            "protocol": protocol,
            "protocol_hash": "abc",
        },
    }


def test_row_is_trained_evaluated_and_pictured_once(options, all_of_mnist, monkeypatch, capsys) -> None:
    monkeypatch.setitem(quality.SUBJECTS, "mnist-5k", Subject("dcgan", "digits", 40, ("kid", "modes"), 0.5))
    argv = [
        *("--sets", "mnist-5k", "--contenders", "plain", "--backends", "torch", "--seeds", "3", "--part", "0.001"),
        *("--device", "cpu", "--rows", str(options.rows), "--out", str(options.out), "--page", str(options.page)),
    ]
    assert quality.main(argv) == 0, capsys.readouterr().err
    (file,) = options.out.iterdir()
    found = json.loads(file.read_text())
    assert found["steps"] == 2 and found["images_seen"] == 128 and found["seed"] == 3 and found["backend"] == "torch"
    assert found["evaluation"]["protocol"]["generated_images"] == 40 and found["training_seconds"] > 0
    assert found["truncated"]["protocol"] == found["evaluation"]["protocol"] | {"truncation": 0.5}
    assert (options.page.with_suffix("") / f"{found['row']}.png").is_file()
    # A trial is not on the page, and a row that is there is not run again.
    assert "mnist-5k" not in options.page.read_text()
    monkeypatch.setattr(quality, "command", None)
    assert quality.main(argv) == 0


def test_row_that_was_interrupted_goes_on(options) -> None:
    row = Row("mnist", "preset", "jax", 1, 1.0)
    folder = options.rows / row.name
    assert quality.train_arguments(options, row, folder)[:2] == ["train", quality.SUBJECTS["mnist"].preset]
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    assert quality.train_arguments(options, row, folder)[:2] == ["train", "--resume"]
    write_config(folder, Config().with_options(steps=4))
    assert not quality.is_trained(folder)
    (folder / "checkpoints" / "step-0000004").mkdir(parents=True)
    assert quality.is_trained(folder)


def test_failed_row_is_named_and_the_others_go_on(options, monkeypatch, capsys) -> None:
    monkeypatch.setitem(quality.SUBJECTS, "nowhere", Subject("dcgan", "digits", 40, ("modes",)))
    argv = ["--sets", "nowhere", "--contenders", "preset", "--backends", "torch", "--seeds", "0"]
    paths = ["--rows", str(options.rows), "--out", str(options.out), "--page", str(options.page), "--device", "cpu"]
    assert quality.main([*argv, *paths]) == 2
    error, name = capsys.readouterr().err.splitlines()[-1], Row("nowhere", "preset", "torch", 0, 1.0).name
    assert error == f"error: 1 rows failed: {name}"
    assert "where there is no file or folder" in (options.rows / f"{name}.log").read_text()


@pytest.mark.parametrize("data", quality.SUBJECTS)
def test_plain_run_has_the_arithmetic_of_the_preset(data) -> None:
    from benchmarks.work import count

    channels = 3 if data.startswith("stacked") else 1
    runs = [quality.configuration(Row(data, contender, "torch", 0, 1.0)) for contender in ("preset", "plain")]
    assert runs[0].data.resolution == runs[1].data.resolution  # or their numbers are of two protocols
    work = [count(each.with_options(channels=channels)).flops * each.execution.steps for each in runs]
    assert work[1] == pytest.approx(work[0], rel=1e-3)  # steps are whole


def test_page_has_means_spreads_and_floors() -> None:
    values = [{"modes_kl": divergence, "modes": 1000} for divergence in (0.1, 0.2, 0.3)]
    data = "stacked-mnist-60k"
    found = [finished(data, "preset", "torch", seed, value) for seed, value in enumerate(values)]
    found.append(finished(data, "plain", "jax", 0, {"modes": 12}))
    lines = quality.page(found, "quality").splitlines()
    preset, plain, floor = (line for line in lines if line.startswith(("| `", "| real")))
    assert preset.startswith(
        "| `stacked-mnist-cpu` | torch | abc | 0 1 2 | 12,345 | 20 (10 to 30) on 2 cores | 0.2000 (0.1000 to 0.3000) |"
    )
    assert plain.startswith("| `dcgan` | jax | abc | 0 | 12,345 | 10 on 2 cores | 0.0000 | 12 |")
    assert floor.startswith("| real images |  | abc |  |  |  | 0.2500 |")
    name = Row(data, "preset", "torch", 0, 1.0).name
    assert f"![{name}](quality/{name}.png)" in lines
    # Minutes of one core and of two are no means of each other.
    lines = quality.page([found[0], found[1] | {"cores": 1}], "quality").splitlines()
    assert any("| 0 1 | 12,345 | 20 on 1 core; 10 on 2 cores |" in line for line in lines)
    # Numbers of another protocol are not averaged with these, and rows of a preset as it was before are left out.
    other = finished(data, "preset", "torch", 3, {"modes": 7})
    other["evaluation"]["protocol_hash"] = "xyz"
    old = finished(data, "preset", "torch", 4, {"modes": 8}) | {"row": "stacked-mnist-60k-preset-torch-4-000000"}
    lines = quality.page([*found, other, old], "quality").splitlines()
    assert sum(line.startswith("| `stacked-mnist-cpu` | torch") for line in lines) == 2
    assert not any("| 8 |" in line for line in lines)


def test_page_has_truncated_latents_apart_and_real_images_once() -> None:
    found = finished("stacked-mnist-60k", "preset", "torch", 0, {"modes": 900})
    protocol = found["evaluation"]["protocol"] | {"truncation": 1.5}
    values = found["evaluation"]["values"] | {"modes": 800}
    found["truncated"] = found["evaluation"] | {"protocol": protocol, "protocol_hash": "def", "values": values}
    lines = [line for line in quality.page([found], "quality").splitlines() if line.startswith("| ")]
    assert [line.split(" | ")[0] for line in lines] == [
        "| trained",
        "| ---",
        "| `stacked-mnist-cpu`",
        "| `stacked-mnist-cpu`, truncation 1.5",
        "| real images",
    ]
    # Of several contenders and backends those without truncation come first.
    several = []
    for contender, backend in (("plain", "torch"), ("preset", "jax"), ("preset", "torch")):
        each = finished("stacked-mnist-60k", contender, backend, 0, {})
        several.append(each | {"truncated": found["truncated"]})
    rows = [line for line in quality.page(several, "quality").splitlines() if line.startswith("| `")]
    assert [(row.split(" | ")[0], row.split(" | ")[1]) for row in rows] == [
        ("| `stacked-mnist-cpu`", "torch"),
        ("| `stacked-mnist-cpu`", "jax"),
        ("| `stacked-mnist-cpu`, truncation 1.5", "torch"),
        ("| `stacked-mnist-cpu`, truncation 1.5", "jax"),
        ("| `dcgan`", "torch"),
        ("| `dcgan`, truncation 1.5", "torch"),
    ]
    assert "| abc | 0 | 12,345 | 10 on 2 cores | 0.0000 | 900 |" in lines[2]
    assert "| def |" in lines[3] and "| 800 |" in lines[3]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--sets", "cifar"], "sets: found cifar, expected a known one; choices: stacked-mnist-60k"),
        (["--contenders", "best"], "contenders: found best"),
        (["--backends", "tensorflow"], "backends: found tensorflow"),
        (["--part", "0"], "part: found 0"),
        (["--parallel", "0"], "parallel: found 0"),
    ],
)
def test_refusals(argv, message, capsys) -> None:
    assert quality.main(argv) == 2
    assert message in capsys.readouterr().err
