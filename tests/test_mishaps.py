"""What happens beside a run: another process in its folder, a full disk, files that somebody edited, odd names."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from gan_shared import checkpoint, interrupt, runlog
from gan_shared.errors import UserError
from gan_shared.manifest import sha256
from tests.fixtures import ANY, EACH, backend_class, edit_manifest, gan_class, own_modules
from tests.fixtures import TRAIN_MAINS as MAINS
from tests.test_train import SIZE, begin, digits, errors, resume

__all__ = ["digits"]
NAMES = pytest.mark.parametrize("name", EACH)


@pytest.fixture
def run(digits, tmp_path) -> Path:
    """A run of two steps."""
    assert begin(ANY, tmp_path / "run", digits, 2) == 0
    return tmp_path / "run"


def edit_tensors(folder: Path, file: str, **values: np.ndarray) -> None:
    """Change tensors of a checkpoint's file, and the manifest's hash with them."""
    save_file(load_file(folder / file) | values, folder / file)
    hashes = json.loads((folder / "manifest.json").read_text())["sha256"]
    edit_manifest(folder, sha256=hashes | {file: sha256(folder / file)})


def test_a_run_that_another_process_began_meanwhile_is_left_alone(capsys, monkeypatch, digits, tmp_path):
    """Both found the folder empty; the slower one decodes while the faster one trains to its end."""
    backend = backend_class(ANY)
    folder, first_state = tmp_path / "run", backend.init

    def slowly(self):
        monkeypatch.setattr(backend, "init", first_state)
        assert begin(ANY, folder, digits, 2, "--seed", "1") == 0
        return first_state(self)

    monkeypatch.setattr(backend, "init", slowly)
    assert begin(ANY, folder, digits, 4, "--seed", "2") == 2
    assert errors(capsys).startswith(f"error: run_dir: found {folder}, which is not empty")
    assert checkpoint.load_newest(folder).config.training.seed == 1 and checkpoint.newest_step(folder) == 2
    assert len(runlog.read_scalars(folder)) == 1


def test_a_run_that_another_process_went_on_with_meanwhile_is_left_alone(capsys, monkeypatch, run):
    backend = backend_class(ANY)
    restore = backend.restore

    def slowly(self, tensors):
        monkeypatch.setattr(backend, "restore", restore)
        assert resume(ANY, run, "--steps", "3") == 0
        return restore(self, tensors)

    monkeypatch.setattr(backend, "restore", slowly)
    assert resume(ANY, run, "--steps", "4") == 2
    assert errors(capsys).startswith(f"error: run_dir: another process has trained in {run} meanwhile")
    assert checkpoint.newest_step(run) == 3


def test_a_run_folder_may_be_called_like_a_checkpoint(digits, tmp_path):
    folder = tmp_path / "step-0000007"
    assert begin(ANY, folder, digits, 1) == 0
    assert resume(ANY, folder, "--steps", "2") == 0
    assert checkpoint.load_newest(folder).step == 2


def test_the_checkpoints_may_lie_elsewhere(run, tmp_path):
    (run / "checkpoints").rename(tmp_path / "elsewhere")
    (run / "checkpoints").symlink_to(tmp_path / "elsewhere")
    assert resume(ANY, run, "--steps", "3") == 0
    assert checkpoint.newest_step(run) == 3


def test_what_a_killed_process_was_saving_is_removed(run):
    leftover = run / "checkpoints" / ".step-0000003.0123abcd.partial"
    (leftover / "generator").mkdir(parents=True)
    assert resume(ANY, run, "--steps", "3") == 0
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["step-0000002", "step-0000003"]


@pytest.mark.parametrize("step", [np.nan, np.inf, 2.0])
def test_a_step_that_is_no_whole_number_is_refused(capsys, run, step):
    edit_tensors(checkpoint.newest_checkpoint(run), "trainer.safetensors", step=np.array(step))
    assert resume(ANY, run, "--steps", "3") == 2
    assert "not finite" in (message := errors(capsys)) or "found step" in message


def test_weights_that_are_not_finite_are_refused_even_where_their_hash_is_right(capsys, run, tmp_path):
    folder = checkpoint.newest_checkpoint(run)
    weights = load_file(folder / "generator/model.safetensors")
    edit_tensors(folder, "generator/model.safetensors", **{"stem.conv.weight": weights["stem.conv.weight"] * np.nan})
    assert resume(ANY, run, "--steps", "3") == 2
    message = errors(capsys)
    assert "found 1 tensors that are not finite (generator/stem.conv.weight first)" in message
    assert "there is no good checkpoint of this run yet" in message


def test_a_manifest_of_a_class_conditional_run_without_num_classes_is_refused(run):
    folder = checkpoint.newest_checkpoint(run)
    config = json.loads((folder / "manifest.json").read_text())["config"]
    edit_manifest(folder, config=config | {"class_conditional": True, "num_classes": None})
    with pytest.raises(UserError, match=r"manifest.json: num_classes: found null, expected their number"):
        checkpoint.load(folder)


@pytest.mark.parametrize("line", ['{"step": Infinity}', "[" * 100_000])
def test_lines_of_scalars_that_mean_nothing_are_dropped(run, line):
    with (run / "scalars.jsonl").open("a") as file:
        file.write(line + "\n")
    assert resume(ANY, run, "--steps", "3") == 0
    assert [each["step"] for each in runlog.read_scalars(run)] == [2, 3]


def test_a_full_disk_is_an_error_that_names_the_file_and_the_last_checkpoint(capsys, monkeypatch, run):
    def full(path, image):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(runlog, "save_png", full)
    assert resume(ANY, run, "--steps", "4", "--sample-every", "1") == 2
    message, file = errors(capsys), run / "samples" / "step-0000003.png"
    assert message.startswith(f"error: {file}: could not be written: No space left on device; the last good checkpoint")


def test_a_state_that_is_not_finite_is_not_drawn(capsys, digits, tmp_path):
    wild = ["--generator-optimizer", "sgd", "--discriminator-optimizer", "sgd", "--loss", "mse"]
    rates = ["--generator-learning-rate", "1e3", "--discriminator-learning-rate", "1e3"]
    every = ["--sample-every", "1", "--save-every", "50", "--log-every", "50"]
    assert begin(ANY, tmp_path / "run", digits, 50, *wild, *rates, *every) == 2
    first = int(errors(capsys).split("step ")[1].split(":")[0])
    drawn = [int(path.stem.removeprefix("step-")) for path in (tmp_path / "run" / "samples").iterdir()]
    assert all(step < first for step in drawn)


def test_a_run_folder_whose_name_is_not_text_is_refused(capsys, digits, tmp_path):
    assert begin(ANY, tmp_path / os.fsdecode(b"na\xffme"), digits, 1) == 2
    assert "expected a name that is valid UTF-8" in errors(capsys)
    assert list(tmp_path.iterdir()) == []


def test_data_that_are_a_circle_of_links_are_refused(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    assert MAINS[ANY](["--data", "loop"]) == 2
    assert errors(capsys).startswith("error: ")


def test_a_missing_palette_is_an_error_that_names_the_file(capsys, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(8):
        file = folder / f"{i}.png"
        Image.fromarray(np.full((16, 16), i, np.uint8)).convert("P").save(file)
        data = file.read_bytes()
        start = data.index(b"PLTE") - 4
        length = int.from_bytes(data[start : start + 4], "big") + 12
        file.write_bytes(data[:start] + data[start + length :])
    assert begin(ANY, tmp_path / "run", folder, 1) == 2
    assert f"{folder}: 8 of 8 pictures cannot be used: {folder / '0.png'}: found a picture that cannot" in errors(
        capsys
    )


@pytest.mark.parametrize("closed", ["2>&-", "2>/dev/full"])
def test_a_terminal_that_cannot_be_written_to_ends_no_run(digits, tmp_path, closed):
    if closed == "2>/dev/full" and not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    size = "--resolution 16 --width 0.0625 --latent-size 8 --batch-size 8 --device cpu --steps 1"
    command = f"{sys.executable} -m gan_{ANY}.train --data {digits} {size} --run-dir {tmp_path / 'run'} {closed}"
    subprocess.run(command, shell=True, timeout=240)
    assert checkpoint.newest_step(tmp_path / "run") == 1


def test_a_profile_that_cannot_be_written_is_an_error_at_once(capsys, run):
    (run / "profile").write_text("mine")
    assert resume(ANY, run, "--steps", "9", "--profile") == 2
    assert errors(capsys).startswith(f"error: profile: found the file {run / 'profile'}, expected a folder")
    assert checkpoint.newest_step(run) == 2


@pytest.mark.torch
def test_a_step_is_not_compiled_without_a_compiler(capsys, monkeypatch, digits, tmp_path):
    from torch._inductor import cpp_builder

    def none():
        raise RuntimeError("No working C++ compiler found")

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", none)
    assert begin("torch", tmp_path / "run", digits, 1, "--compile") == 2
    assert errors(capsys).startswith("error: compile: found no C++ compiler, expected g++ or clang++ on the PATH")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("resolution", [-5, 0, 2**31])
@NAMES
def test_a_size_that_no_image_has_is_refused_for_modules_of_ones_own_too(capsys, tmp_path, name, resolution):
    custom = ["--generator", "custom", "--discriminator", "custom", "--resolution", str(resolution)]
    assert MAINS[name]([*custom, "--run-dir", str(tmp_path / "run")]) == 2
    assert errors(capsys) == f"error: resolution: found {resolution}, expected a number from 8 to 16384"


def test_a_gan_is_not_saved_under_the_name_of_another_step(tmp_path):
    gan = gan_class(ANY)(resolution=16, width=0.0625, latent_size=8, batch_size=8, device="cpu")
    with pytest.raises(UserError, match=r"a folder not named for step 9, as 0 are done"):
        gan.save(tmp_path / "checkpoints" / "step-0000009")
    assert list(tmp_path.iterdir()) == []


def test_images_of_different_lengths_are_refused():
    gan = gan_class(ANY)(resolution=16, width=0.0625, latent_size=8, batch_size=8, device="cpu")
    with pytest.raises(UserError, match=r"images: found lists of different lengths, expected an array of one shape"):
        gan.fit([[1, 2], [3]])  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match=r"steps: found 2199023255552, expected a number from 1 to 1099511627776"):
        gan.fit(np.zeros((9, 16, 16), np.uint8), steps=2**41)


@pytest.mark.torch
def test_modules_that_share_or_keep_weights_are_trained_as_they_are():
    import torch

    from tests.modules_torch import HalfFrozen, Tied

    images = np.random.default_rng(0).integers(0, 256, (16, 16, 16), np.uint8)
    options: dict[str, Any] = {"resolution": 16, "latent_size": 8, "batch_size": 8, "device": "cpu"}
    gan = gan_class("torch")(Tied(), HalfFrozen(), ema_half_life_nimg=8.0, **options)
    begin_at = {key: value.clone() for key, value in gan.generator.state_dict().items()}
    kept = gan.discriminator.state_dict()["still.weight"].clone()
    gan.fit(images, steps=1)
    for key, current in gan.generator.state_dict().items():
        # Half of the way, whether shared or not.
        torch.testing.assert_close(gan.generator_ema.state_dict()[key], (begin_at[key] + current) / 2)
        assert not torch.equal(begin_at[key], current)
    gan.fit(images, steps=1)
    assert torch.equal(gan.discriminator.state_dict()["still.weight"], kept)


@NAMES
def test_a_generator_of_rows_is_refused(name):
    with pytest.raises(UserError, match=r"generator: found images 2 x 256, expected 2 x 16 x 16 x 1"):
        gan_class(name)(
            own_modules(name).Rows(), resolution=16, latent_size=8, batch_size=8, width=0.0625, device="cpu"
        )


@NAMES
def test_a_discriminator_without_parameters_stays_as_it_is(name):
    options: dict[str, Any] = {"resolution": 16, "latent_size": 8, "batch_size": 8, "width": 0.0625, "device": "cpu"}
    gan = gan_class(name)(discriminator=own_modules(name).Nothing(), **options)
    gan = gan.fit(np.zeros((8, 16, 16), np.uint8), steps=1)
    assert gan.steps_done == 1


@pytest.mark.parametrize("package", ["gan_torch", "gan_jax"])
@pytest.mark.parametrize(("entry", "argv"), [("train", []), ("sample", ["runs/nothing"])])
def test_a_framework_that_is_not_installed_is_an_error_of_one_line(package, entry, argv):
    framework = package.removeprefix("gan_")
    program = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == {framework!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
from {package} import {entry}
sys.exit({entry}.main({argv}))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=240)
    assert done.returncode == 2 and done.stdout == ""
    expected = f"it installed: pip install -e '.[{framework}]', or the other backend"
    assert done.stderr == f"error: {framework}: found no such package, expected {expected}\n"


def test_ctrl_c_is_held_back_until_a_block_ends_and_a_second_one_is_not(capfd):
    reached = []
    with pytest.raises(KeyboardInterrupt), interrupt.deferred():
        os.kill(os.getpid(), signal.SIGINT)
        reached.append("the end")
    assert reached == ["the end"] and "Ctrl-C again stops at once" in capfd.readouterr().err
    with pytest.raises(KeyboardInterrupt), interrupt.deferred():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the second one stops at once")
    with interrupt.deferred():
        pass


@NAMES
def test_ctrl_c_where_an_exception_would_be_lost_still_ends_the_run(name, digits, tmp_path):
    """JAX calls back while rubbish is collected, and what is raised there is lost: the run went on to its end."""
    argv = ["--data", str(digits), *SIZE, "--steps", "2", "--run-dir", str(tmp_path / "run")]
    program = f"""
import os, signal, sys
from gan_shared import cli
def find():
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt:
        pass
    from gan_{name}.backend import Backend
    return Backend
sys.exit(cli.train(find, {argv}))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=240)
    assert done.returncode == 130 and "stopped at once" in done.stderr
    assert not (tmp_path / "run").exists()


def labelled(folder: Path) -> list[str]:
    """Write six pictures in two classes, and return the options of a run that learns the classes."""
    for number in range(6):
        path = folder / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (16, 16), 40 * number).save(path)
    return ["dcgan", "--data", str(folder), "--class-conditional", *SIZE, "--resolution", "16", "--batch-size", "4"]


def test_a_class_that_was_renamed_is_not_gone_on_with(capsys, tmp_path):
    argv = [*labelled(tmp_path / "pets"), "--run-dir", str(tmp_path / "run"), "--steps"]
    assert MAINS[ANY]([*argv, "1"]) == 0
    (tmp_path / "pets" / "cat").rename(tmp_path / "pets" / "ape")
    assert MAINS[ANY](["--resume", "--run-dir", str(tmp_path / "run"), "--steps", "2"]) == 2
    expected = f"data: found the class ape in {tmp_path / 'pets'}, expected cat, as the run has it"
    assert errors(capsys).endswith(expected)


def test_classes_that_a_manifest_has_no_name_for_go_by_their_numbers(tmp_path):
    argv = [*labelled(tmp_path / "pets"), "--run-dir", str(tmp_path / "run"), "--steps", "1"]
    assert MAINS[ANY](argv) == 0
    folder = checkpoint.newest_checkpoint(tmp_path / "run")
    data = json.loads((folder / "manifest.json").read_text())["data"]
    edit_manifest(folder, data=data | {"class_names": ["cat"]})
    assert checkpoint.load(folder).class_names == ("cat", "1")


def test_a_run_does_not_write_into_its_data(capsys, monkeypatch, tmp_path):
    argv = [*labelled(tmp_path / "pets"), "--steps", "1"]
    monkeypatch.chdir(tmp_path / "pets")
    for more in ([], ["--run-dir", str(tmp_path / "pets" / "cat" / "run")]):
        assert MAINS[ANY]([*argv, *more]) == 2
        assert "expected a place outside of" in errors(capsys)
    (tmp_path / "pets" / "out").symlink_to(tmp_path)
    assert MAINS[ANY]([*argv, "--run-dir", "out/run"]) == 2
    assert "choices: --run-dir DIR for another folder" in errors(capsys)
    (tmp_path / "pets" / "out").unlink()
    assert sorted(path.name for path in (tmp_path / "pets").iterdir()) == ["cat", "dog"]
    assert MAINS[ANY]([*argv, "--run-dir", ".runs/1"]) == 0  # hidden, so no part of the data


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
def test_a_pipe_among_a_runs_files_is_not_waited_for(capsys, run):
    os.mkfifo(run / "metrics.jsonl")
    assert resume(ANY, run, "--steps", "3") == 2
    assert "metrics.jsonl: found no plain file, expected a file of JSON lines" in errors(capsys)


def test_a_line_is_added_behind_one_that_was_cut_short(tmp_path):
    file = tmp_path / "metrics.jsonl"
    for before, after in (("", ""), ('{"step": 1}\n', '{"step": 1}\n'), ('{"step": 1', '{"step": 1\n')):
        file.write_text(before)
        runlog.append_line(file, {"step": 2})
        assert file.read_text() == after + '{"step": 2}\n'
