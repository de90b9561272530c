"""Files and folders that appear whole or not at all."""

import errno
import os
from pathlib import Path

import pytest

from gan_shared.atomic import check_parents, clear_leftovers, replacing
from gan_shared.errors import UserError


class Stop(BaseException):
    """Like Ctrl-C: no Exception."""


def write_folder(folder: Path, text: str) -> None:
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "file").write_text(text)


def content(path: Path) -> dict[str, str]:
    """Every file below a folder, hidden ones included."""
    return {file.relative_to(path).as_posix(): file.read_text() for file in path.rglob("*") if file.is_file()}


def test_nothing_is_at_the_target_before_the_block_ends(tmp_path):
    target = tmp_path / "new" / "deep" / "file"
    with replacing(target) as temporary:
        temporary.write_text("whole")
        assert not target.exists() and temporary.parent == target.parent
    assert content(tmp_path) == {"new/deep/file": "whole"}


def test_a_file_is_replaced(tmp_path):
    target = tmp_path / "file"
    target.write_text("old")
    with replacing(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert content(tmp_path) == {"file": "new"}


@pytest.mark.parametrize("full", [False, True])
def test_a_folder_is_made_or_replaced_as_a_whole(tmp_path, full):
    target = tmp_path / "folder"
    if full:
        write_folder(target, "old")
        (target / "gone").write_text("old")
    with replacing(target) as temporary:
        write_folder(temporary, "new")
    assert content(tmp_path) == {"folder/inner/file": "new"}


@pytest.mark.parametrize("error", [OSError, Stop, KeyboardInterrupt])
@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("old", [False, True])
def test_a_block_that_raises_leaves_the_old_content_and_nothing_else(tmp_path, error, folder, old):
    target = tmp_path / "target"
    if old:
        write_folder(target, "old") if folder else target.write_text("old")
    before = content(tmp_path)
    with pytest.raises(error), replacing(target) as temporary:
        write_folder(temporary, "half") if folder else temporary.write_text("half")
        raise error
    assert content(tmp_path) == before
    assert list(tmp_path.iterdir()) == ([target] if old else [])


@pytest.mark.parametrize(("name", "inside"), [(None, ""), ("{temporary}", ""), ("{temporary}/a", "/a")])
def test_what_cannot_be_written_is_named_as_the_user_knows_it(tmp_path, name, inside):
    """The write of a full disk names no file, and the temporary name is nobody's."""
    target = tmp_path / "target"
    with pytest.raises(OSError, match="No space left") as raised, replacing(target) as temporary:
        names = () if name is None else (name.format(temporary=temporary),)
        raise OSError(errno.ENOSPC, "No space left on device", *names)
    assert raised.value.filename == f"{target}{inside}"
    other = str(tmp_path / "other")
    with pytest.raises(OSError, match="No such file") as raised, replacing(target):
        os.stat(other)
    assert raised.value.filename == other


def test_a_block_that_raises_before_writing_leaves_nothing(tmp_path):
    with pytest.raises(Stop), replacing(tmp_path / "file"):
        raise Stop
    assert not list(tmp_path.iterdir())


def test_a_file_does_not_take_the_place_of_a_folder_nor_the_reverse(tmp_path):
    write_folder(tmp_path / "folder", "old")
    (tmp_path / "file").write_text("old")
    before = content(tmp_path)
    with pytest.raises(OSError), replacing(tmp_path / "folder") as temporary:
        temporary.write_text("new")
    with pytest.raises(OSError), replacing(tmp_path / "file") as temporary:
        write_folder(temporary, "new")
    assert content(tmp_path) == before


@pytest.mark.parametrize("failing", [1, 2])
def test_a_rename_that_fails_leaves_the_old_folder(tmp_path, monkeypatch, failing):
    target = tmp_path / "folder"
    write_folder(target, "old")
    renamed, rename = [], os.replace

    def break_once(source, destination):
        renamed.append(destination)
        if len(renamed) == failing:
            raise OSError("the disk is gone")
        rename(source, destination)

    monkeypatch.setattr(os, "replace", break_once)
    with pytest.raises(OSError, match="the disk is gone"), replacing(target) as temporary:
        write_folder(temporary, "new")
    assert content(tmp_path) == {"folder/inner/file": "old"}


@pytest.mark.skipif(os.name != "posix", reason="folders are opened for flushing on POSIX only")
def test_every_file_and_folder_is_flushed_before_the_rename(tmp_path, monkeypatch):
    events, flush, rename = [], os.fsync, os.replace

    def record_flush(descriptor):
        events.append(os.fstat(descriptor).st_ino)
        flush(descriptor)

    def record_rename(source, destination):
        events.append("rename")
        rename(source, destination)

    monkeypatch.setattr(os, "fsync", record_flush)
    monkeypatch.setattr(os, "replace", record_rename)
    target = tmp_path / "folder"
    with replacing(target) as temporary:
        write_folder(temporary, "new")
    before = set(events[: events.index("rename")])
    assert {(target / part).stat().st_ino for part in ("inner", "inner/file")} <= before
    assert tmp_path.stat().st_ino in events[events.index("rename") :]


def test_a_path_through_a_file_or_a_broken_link_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    (tmp_path / "folder").mkdir()
    for name in ("file", "link"):
        with pytest.raises(UserError, match=f"^out: found .*, below the file .*/{name}, expected a place in a folder$"):
            check_parents("out", tmp_path / name / "deeper" / "x.png")
    check_parents("out", tmp_path / "folder" / "new" / "x.png")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
def test_a_pipe_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for name in ("pipe", "link"):
        with pytest.raises(UserError, match=f"{name}: found a pipe or a device"), replacing(tmp_path / name):
            pytest.fail("begun")
    assert (tmp_path / "pipe").is_fifo() and len(list(tmp_path.iterdir())) == 2


def test_a_link_to_a_folder_is_replaced_and_what_it_leads_to_left_alone(tmp_path):
    write_folder(tmp_path / "there", "old")
    (tmp_path / "link").symlink_to(tmp_path / "there")
    with replacing(tmp_path / "link") as temporary:
        write_folder(temporary, "new")
    assert content(tmp_path) == {"there/inner/file": "old", "link/inner/file": "new"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "there"]


def test_leftovers_that_may_still_be_written_to_are_kept(tmp_path):
    for name in (".old.00000000.partial", ".new.00000000.partial", ".file.00000000.partial"):
        write_folder(tmp_path / name, "half")
    for path in (tmp_path / ".old.00000000.partial", *(tmp_path / ".old.00000000.partial").rglob("*")):
        os.utime(path, (1, 1))
    for path in (tmp_path / ".file.00000000.partial", tmp_path / ".file.00000000.partial" / "inner"):
        os.utime(path, (1, 1))  # but for the file in it
    clear_leftovers(tmp_path, older_than=3600)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".file.00000000.partial", ".new.00000000.partial"]
    clear_leftovers(tmp_path)
    assert not list(tmp_path.iterdir())
