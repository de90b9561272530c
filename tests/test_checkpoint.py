"""Checkpoints: what is on the disk, what comes back, and what is refused."""

import errno
import json
import os
import re
import shutil
import struct
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError

from gan_shared import checkpoint, initial
from gan_shared.backend import Batch, StepValues
from gan_shared.config import Config
from gan_shared.draws import draw
from gan_shared.errors import UserError
from gan_shared.manifest import OWN_HASH, own_hash
from gan_shared.schedules import schedule_values
from tests.fixtures import ANY, EACH, backend_class, edit_manifest
from tests.frameworks import HERE, needs

SMALL = Config().with_options(
    width=0.0625, batch_size=8, latent_size=8, resolution=16, channels=1, device="cpu", seed=5
)
DATA = {"name": "numbers", "fingerprint": "0" * 64}
WRITER = {"backend": "torch", "torch": "2.9"}
TENSOR_FILES = {
    "generator/model.safetensors",
    "discriminator/model.safetensors",
    "generator_ema/model.safetensors",
    "optimizer.safetensors",
    "trainer.safetensors",
}
LAYOUT = TENSOR_FILES | {
    "manifest.json",
    "generator/config.json",
    "discriminator/config.json",
    "generator_ema/config.json",
}


def trained(name: str, config: Config = SMALL, steps: int = 2) -> dict[str, np.ndarray]:
    """The state after a few steps on noise: nothing in it is zero or at its initial value."""
    backend = backend_class(name)(config)
    state = backend.init()
    for step in range(steps):
        images = np.random.default_rng(step).integers(0, 256, (1, 8, 16, 16, 1), np.uint8)
        state, _ = backend.steps(
            state, [StepValues(Batch(images, None), draw(config, step), schedule_values(config, step))]
        )
    return backend.export(state)


@pytest.fixture(scope="module")
def states() -> dict[str, dict[str, np.ndarray]]:
    return {name: trained(name) for name in HERE}


@pytest.fixture
def saved(states, tmp_path) -> Path:
    """The folder of a checkpoint at step 2, in a run that has one at step 1 too."""
    older = states[ANY] | {"trainer/step": np.array(1)}
    checkpoint.save(tmp_path / "run", SMALL, older, WRITER, DATA)
    return checkpoint.save(tmp_path / "run", SMALL, states[ANY], WRITER, DATA)


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in files(folder)}


def tensor_bytes(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in contents(folder).items() if name.endswith(".safetensors")}


def refusal(path: Path, read=checkpoint.load) -> str:
    with pytest.raises(UserError) as raised:
        read(path)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_the_folder_holds_these_files_and_no_other(saved):
    assert files(saved) == LAYOUT and saved.name == "step-0000002"
    assert files(saved.parent) == {f"step-000000{i}/{name}" for i in (1, 2) for name in LAYOUT}


def test_the_manifest_describes_the_folder(saved):
    manifest = json.loads((saved / "manifest.json").read_text(encoding="utf-8"))
    hashes = manifest.pop("sha256")
    assert manifest.pop("manifest_sha256") == own_hash({**manifest, "sha256": hashes})
    assert manifest == {
        "format_version": 9,
        "step": 2,
        "images_seen": 16,
        "seed": 5,
        "config": SMALL.to_json(),
        "written_by": WRITER,
        "data": DATA,
    }
    assert hashes == {name: sha256((saved / name).read_bytes()).hexdigest() for name in LAYOUT - {"manifest.json"}}


def test_every_network_has_its_own_configuration(saved):
    shape = {"resolution": 16, "channels": 1, "num_classes": None, "latent_size": 8, "width": 0.0625}
    both = {"network": "dcgan", **shape, "precision": "float32", "activation": None, "output": "tanh"}
    for network in ("generator", "discriminator", "generator_ema"):
        found = json.loads((saved / network / "config.json").read_text())
        if network == "discriminator":
            assert found == {"role": "discriminator", **both, "norm": None}
        else:
            assert found == {"role": "generator", **both}


def test_loading_returns_what_was_saved(saved, states):
    loaded = checkpoint.load(saved)
    assert (loaded.path, loaded.config, loaded.step, loaded.data) == (saved, SMALL, 2, DATA)
    assert loaded.tensors.keys() == states[ANY].keys()
    for name, value in states[ANY].items():
        found = loaded.tensors[name]
        assert found.dtype == value.dtype and found.shape == value.shape, name
        assert found.tobytes() == value.tobytes(), name


WAYS = (("torch",), ("jax",), ("torch", "jax", "torch"), ("jax", "torch", "jax"))


@pytest.mark.parametrize("writer", EACH)
@pytest.mark.parametrize("way", [pytest.param(way, marks=needs(*way)) for way in WAYS])
def test_load_then_save_is_byte_identical(states, tmp_path, writer, way):
    first = last = checkpoint.save(tmp_path / "0", SMALL, states[writer], {"backend": writer}, DATA)
    for i, name in enumerate(way, 1):
        backend = backend_class(name)(SMALL)
        state = backend.restore(checkpoint.load(last).tensors)
        last = checkpoint.save(tmp_path / str(i), SMALL, backend.export(state), {"backend": name}, DATA)
    assert tensor_bytes(last).keys() == TENSOR_FILES
    for name, data in tensor_bytes(first).items():
        assert tensor_bytes(last)[name] == data, name


@pytest.mark.torch
@pytest.mark.jax
def test_float64_passes_through_both_backends_unrounded():
    import jax

    config = SMALL.with_options(precision="float64")
    tensors = trained("torch", config)
    assert tensors["generator/image.weight"].dtype == np.float64
    try:
        backend = backend_class("jax")(config)
        back = backend.export(backend.restore(tensors))
    finally:
        jax.config.update("jax_enable_x64", False)
    for name, value in tensors.items():
        assert back[name].dtype == value.dtype and back[name].tobytes() == value.tobytes(), name


@pytest.mark.parametrize("name", EACH)
def test_every_tensor_that_differs_from_the_model_is_listed(name, states):
    tensors = dict(states[ANY])
    del tensors["generator/image.weight"], tensors["optimizer/discriminator.state.stem.weight.exp_avg"]
    tensors["generator/image.bias"] = np.zeros(1, np.float32)
    tensors["discriminator/stem.weight"] = tensors["discriminator/stem.weight"].transpose(1, 0, 2, 3)
    tensors["generator_ema/stem.norm.bias"] = tensors["generator_ema/stem.norm.bias"].astype(np.float64)
    with pytest.raises(UserError) as raised:
        backend_class(name)(SMALL).restore(tensors)
    message = str(raised.value)
    for fault in (
        "5 tensors differ",
        "generator/image.weight is missing",
        "optimizer/discriminator.state.stem.weight.exp_avg is missing",
        "generator/image.bias is not a tensor of this model",
        "discriminator/stem.weight has shape (1, 4, 4, 4), expected (4, 1, 4, 4)",
        "generator_ema/stem.norm.bias has type float64, expected float32",
    ):
        assert fault in message


@pytest.mark.parametrize("name", sorted(LAYOUT - {"manifest.json"}))
def test_a_changed_byte_is_detected_in_every_file(saved, name):
    data = bytearray((saved / name).read_bytes())
    data[-1] ^= 1
    (saved / name).write_bytes(bytes(data))
    message = refusal(saved)
    assert message.startswith(f"{saved / name}: found sha256 ") and "expected" in message


@pytest.mark.parametrize("name", sorted(LAYOUT))
def test_a_file_that_is_cut_short_is_refused_by_name(saved, name):
    data = (saved / name).read_bytes()
    (saved / name).write_bytes(data[: len(data) // 2])
    assert refusal(saved).startswith(f"{saved / name}: ")


@pytest.mark.parametrize("name", sorted(LAYOUT))
def test_a_missing_file_is_refused_by_name(saved, name):
    (saved / name).unlink()
    assert refusal(saved).startswith(f"{saved / name}: ")


@pytest.mark.parametrize("junk", [b"", b"\xff\x00junk", struct.pack("<Q", 2**60) + b"{}"])
def test_a_tensor_file_that_is_none_is_refused_even_where_its_hash_is_right(saved, junk):
    file = saved / "trainer.safetensors"
    file.write_bytes(junk)
    hashes = json.loads((saved / "manifest.json").read_text())["sha256"]
    edit_manifest(saved, sha256=hashes | {"trainer.safetensors": sha256(junk).hexdigest()})
    assert refusal(saved).startswith(f"{file}: found no readable safetensors file")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format_version": 3}', "\x00", "{}"])
def test_a_manifest_that_is_none_is_refused(saved, text):
    (saved / "manifest.json").write_text(text)
    assert refusal(saved).startswith(f"{saved / 'manifest.json'}: found ")


def test_a_manifest_that_is_not_text_is_refused(saved):
    (saved / "manifest.json").write_bytes(b"\xff\xfe\xfa")
    assert refusal(saved).startswith(f"{saved / 'manifest.json'}: found no valid JSON")


@pytest.mark.parametrize("version", [0, 3, 10, "4", 7.0, None])
def test_another_format_version_is_refused(saved, version):
    edit_manifest(saved, format_version=version)
    assert f"found format version {version!r}, expected one that is read; choices: 4, 5, 6, 7, 8, 9" in refusal(saved)


@pytest.mark.parametrize(
    ("field", "value", "found"),
    [
        ("seed", 6, r"manifest_sha256 [0-9a-f]{12}\.\.\."),
        ("step", 1, r"manifest_sha256 [0-9a-f]{12}\.\.\."),
        (OWN_HASH, None, "no manifest_sha256"),
        (OWN_HASH, "0", r"manifest_sha256 0\.\.\."),
    ],
)
def test_a_manifest_that_was_changed_is_refused(saved, field, value, found):
    manifest = json.loads((saved / "manifest.json").read_text())
    (saved / "manifest.json").write_text(json.dumps(manifest | {field: value}))
    message = refusal(saved)
    assert re.search(rf"found {found}, expected [0-9a-f]{{12}}\.\.\.: it has been changed", message)


def test_a_manifest_that_calls_itself_older_is_refused(saved):
    """Version 6 had no hash of itself."""
    edit_manifest(saved, format_version=6)
    assert "expected none in format version 6: it has been changed" in refusal(saved)


@pytest.mark.parametrize("name", ["../../outside", "/etc/passwd", "generator/else.safetensors", "/proc/self/pagemap"])
def test_no_other_file_than_a_checkpoints_own_is_opened(saved, name, monkeypatch):
    hashes = json.loads((saved / "manifest.json").read_text())["sha256"]
    edit_manifest(saved, sha256=hashes | {name: "0" * 64})
    monkeypatch.setattr(checkpoint, "check_hashes", lambda *_: pytest.fail("opened"))
    assert f"found an entry for {name}, expected none" in refusal(saved)


@pytest.mark.skipif(os.name == "nt", reason="Windows makes links for administrators only")
@pytest.mark.parametrize("name", ["trainer.safetensors", "generator/config.json", "manifest.json", "generator"])
def test_links_are_not_followed(saved, tmp_path, name):
    (saved / name).rename(tmp_path / "outside")
    (saved / name).symlink_to(tmp_path / "outside")
    kind = "folder" if name == "generator" else "file"
    assert refusal(saved) == f"{saved / name}: found a link, expected a {kind}"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without named pipes")
def test_a_pipe_is_not_waited_for(saved):
    (saved / "manifest.json").unlink()
    os.mkfifo(saved / "manifest.json")
    assert refusal(saved).startswith(f"{saved / 'manifest.json'}: found something else than a file")


def test_a_file_that_is_longer_than_its_header_says_is_not_read(saved):
    """A sparse file of a terabyte would be hashed for hours."""
    file = saved / "generator" / "model.safetensors"
    os.truncate(file, 2**40)
    found = "found no readable safetensors file (another length than its header says)"
    assert refusal(saved) == f"{file}: {found}, expected the one that the manifest lists"


@pytest.mark.parametrize(
    ("option", "file", "name"),
    [
        ("output_activation", "generator/config.json", "output"),
        ("generator_activation", "generator/config.json", "activation"),
        ("width", "discriminator/config.json", "width"),
    ],
)
def test_options_that_differ_from_the_networks_own_are_refused(saved, option, file, name):
    value = {"output_activation": "sigmoid", "generator_activation": "silu", "width": 0.125}[option]
    edit_manifest(saved, config=SMALL.with_options(**{option: value}).to_json())
    message = refusal(saved)
    # The generator's configuration is compared first.
    assert message.startswith(f"{saved / ('generator/config.json' if option == 'width' else file)}: {name}: found ")
    assert message.endswith(f"expected {value!r} as in manifest.json")


@pytest.mark.parametrize(
    "changes",
    [
        {"step": "2"},
        {"step": None},
        {"step": True},
        {"step": -1},
        {"config": None},
        {"config": {}},
        {"data": "numbers"},
        {"data": {}},
        {"data": {"name": "numbers"}},
        {"sha256": []},
        {"sha256": {}},
        {"sha256": {"trainer.safetensors": 7}},
    ],
    ids=lambda changes: str(changes)[:30],
)
def test_a_manifest_with_a_wrong_field_is_refused(saved, changes):
    edit_manifest(saved, **changes)
    assert refusal(saved).startswith(f"{saved / 'manifest.json'}: ")


def test_a_manifest_that_lists_only_some_files_is_refused(saved):
    hashes = json.loads((saved / "manifest.json").read_text())["sha256"]
    del hashes["optimizer.safetensors"]
    edit_manifest(saved, sha256=hashes)
    assert "optimizer.safetensors" in refusal(saved)


def test_a_step_that_is_not_the_tensors_step_is_refused(saved):
    edit_manifest(saved, step=3)
    assert "step" in refusal(saved)


@pytest.mark.parametrize("name", EACH)
def test_a_checkpoint_without_any_state_of_optimisers_is_read(tmp_path, name):
    """Plain gradient descent keeps none: a file of tensors that holds no tensor."""
    config = SMALL.with_options(generator_optimizer="sgd", discriminator_optimizer="sgd")
    backend = backend_class(name)(config)
    tensors = backend.export(backend.init())
    folder = checkpoint.save(tmp_path, config, tensors, WRITER, DATA)
    assert not [key for key in tensors if key.startswith("optimizer/")]
    assert contents_equal(checkpoint.load(folder).tensors, tensors)


@pytest.mark.parametrize("name", EACH)
def test_a_layout_that_differs_is_refused_before_weights_are_drawn(saved, monkeypatch, name):
    """Options of a stranger may ask for networks larger than the memory."""
    tensors = checkpoint.load(saved).tensors
    monkeypatch.setattr(initial, "tensors", lambda *_: pytest.fail("weights were drawn"))
    with pytest.raises(UserError, match="tensors differ from the model"):
        backend_class(name)(SMALL.with_options(width=0.125)).restore(tensors)
    state = backend_class(name)(SMALL).restore(tensors)
    assert contents_equal(backend_class(name)(SMALL).export(state), tensors)


def contents_equal(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> bool:
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


def test_the_newest_good_one_is_offered_for_a_damaged_one(saved):
    run = saved.parent.parent
    assert checkpoint.newest_checkpoint(run) == saved and checkpoint.load_newest(run).step == 2
    (saved / "trainer.safetensors").unlink()
    message = refusal(run, checkpoint.load_newest)
    older = saved.with_name("step-0000001")
    assert f"the last good checkpoint is {older}: remove {saved.name} to go on from it" in message
    shutil.rmtree(saved)
    assert checkpoint.load_newest(run).step == 1


def test_a_checkpoint_that_a_run_removes_while_it_is_read_gives_way_to_the_next(saved, states, monkeypatch):
    read_hashes = checkpoint.check_hashes

    def overtaken(path: Path, hashes: dict[str, str]) -> None:
        if path == saved and path.exists():
            checkpoint.save(saved.parents[1], SMALL, states[ANY] | {"trainer/step": np.array(3)}, WRITER, DATA)
            shutil.rmtree(saved)
        read_hashes(path, hashes)

    monkeypatch.setattr(checkpoint, "check_hashes", overtaken)
    assert checkpoint.load_newest(saved.parents[1]).step == 3
    # One that is asked for by its name is no other.
    message = refusal(saved, checkpoint.load_newest)
    assert message.startswith(f"{saved}/manifest.json: ") and message.endswith("step-0000003")


def test_where_none_is_good_none_is_offered(saved):
    for folder in saved.parent.iterdir():
        (folder / "manifest.json").write_text("{")
    message = refusal(saved.parent.parent, checkpoint.load_newest)
    assert message.startswith(f"{saved / 'manifest.json'}: ") and "the last good" not in message
    assert "there is no good checkpoint" in checkpoint.last_good(saved.parent.parent)


def test_a_folder_without_checkpoints_is_refused(tmp_path):
    assert refusal(tmp_path, checkpoint.newest_checkpoint).startswith(f"{tmp_path}: found no checkpoint")
    assert refusal(tmp_path / "none", checkpoint.newest_checkpoint).startswith(
        f"{tmp_path / 'none'}: found no such folder"
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["generator/stem.norm.running_var", "generator_ema/image.weight"])
def test_a_state_that_is_not_finite_is_never_saved(saved, states, name, value):
    before = contents(saved.parent)
    broken = states[ANY][name].copy()
    broken.flat[-1] = value
    for step in (2, 3):  # not over the good one, nor beside it
        tensors = states[ANY] | {name: broken, "trainer/step": np.array(step)}
        with pytest.raises(UserError) as raised:
            checkpoint.save(saved.parent.parent, SMALL, tensors, WRITER, DATA)
        assert f"step {step}: " in str(raised.value) and name in str(raised.value)
        assert f"the last good checkpoint is {saved}" in str(raised.value)
    assert contents(saved.parent) == before


@pytest.mark.parametrize("step", [2, 3])
@pytest.mark.parametrize("at", [1, 3, 5])
@pytest.mark.parametrize(
    "failure",  # the second is what safetensors makes of a full disk
    [OSError(errno.ENOSPC, "No space left on device"), SafetensorError("I/O error: No space left on device")],
)
def test_a_write_that_fails_midway_damages_nothing(saved, states, monkeypatch, step, at, failure):
    before = contents(saved.parent)
    calls, write = [], checkpoint.save_file

    def fail_midway(tensors, path, **options):
        calls.append(path)
        if len(calls) == at:
            Path(path).write_bytes(b"half")
            raise failure
        write(tensors, path, **options)

    monkeypatch.setattr(checkpoint, "save_file", fail_midway)
    config = SMALL.with_options(keep_checkpoints=1)
    with pytest.raises(UserError, match=f"step-000000{step}: could not be written: .*No space left") as raised:
        checkpoint.save(saved.parent.parent, config, states[ANY] | {"trainer/step": np.array(step)}, {}, DATA)
    assert f"the last good checkpoint is {saved}" in str(raised.value)
    assert contents(saved.parent) == before


@pytest.mark.parametrize(("keep", "left"), [(0, [8, 9, 10, 11]), (1, [11]), (2, [10, 11]), (9, [8, 9, 10, 11])])
def test_only_the_newest_checkpoints_are_kept(states, tmp_path, keep, left):
    config = SMALL.with_options(keep_checkpoints=keep)
    for step in (8, 9, 10, 11):
        checkpoint.save(tmp_path, config, states[ANY] | {"trainer/step": np.array(step)}, WRITER, DATA)
    assert [path.name for path in checkpoint.folders(tmp_path)] == [f"step-{step:07d}" for step in left]


def test_steps_beyond_seven_digits_stay_in_order(states, tmp_path):
    for step in (10_000_000, 9_999_999):
        checkpoint.save(tmp_path, SMALL, states[ANY] | {"trainer/step": np.array(step)}, WRITER, DATA)
    assert checkpoint.newest_checkpoint(tmp_path).name == "step-10000000"


@pytest.mark.jax
def test_jax_refuses_parameters_that_stepped_apart(states):
    """It keeps one count per network: to take the first and drop the others would change the run."""
    name = "optimizer/generator.state.image.weight.step"
    tensors = states[ANY] | {name: states[ANY][name] + 5}
    with pytest.raises(UserError, match=r"optimizer: found the steps \[2, 7\] among the parameters of the generator"):
        backend_class("jax")(SMALL).restore(tensors)


@pytest.mark.parametrize("name", EACH)
def test_a_good_checkpoint_of_another_model_is_named_and_the_older_one_offered(saved, states, name):
    tensors = dict(states[ANY])
    del tensors["generator/image.weight"]
    run = saved.parent.parent
    checkpoint.save(run, SMALL, tensors | {"trainer/step": np.array(3)}, WRITER, DATA)
    with pytest.raises(UserError) as raised, checkpoint.suggesting_another(checkpoint.newest_checkpoint(run)):
        backend_class(name)(SMALL).restore(checkpoint.load_newest(run).tensors)
    message = str(raised.value)
    assert "generator/image.weight is missing" in message
    assert f"the last good checkpoint is {saved}: remove step-0000003 to go on from it" in message


def test_a_folder_named_for_another_step_is_refused(saved):
    renamed = saved.rename(saved.with_name("step-0000009"))
    assert "found step 2, expected that of its folder step-0000009" in refusal(renamed)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_files_are_as_open_to_others_as_their_folder(saved):
    for path in saved.rglob("*.safetensors"):
        assert path.stat().st_mode & 0o777 == path.parent.stat().st_mode & 0o666
