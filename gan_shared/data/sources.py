"""From what the user typed to a decoded set: a name in the table, or a path whose kind follows from its name."""

import os
import stat
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from gan_shared.data import archive, arrays, cifar, folder, idx, parquet
from gan_shared.data.cache import cached
from gan_shared.data.collection import visible
from gan_shared.data.data_manifest import expecting
from gan_shared.data.dataset import Dataset, stack_digits
from gan_shared.data.exclusion import rows_of
from gan_shared.data.holdout import Part
from gan_shared.data.named import NAMED, STACKED, TEST
from gan_shared.data.source import Source, reading, reason
from gan_shared.errors import unexpected

FILES = (".npy", ".npz", parquet.SUFFIX, *archive.SUFFIXES, "IDX (*idx3-ubyte, *idx3-ubyte.gz)")


class Trusted(NamedTuple):
    """The list of pictures that a set must hold.

    Attributes:
        manifest: its file.
        key: file of the public key that it must be signed with, or None.
    """

    manifest: Path
    key: Path | None = None


def load(
    data: str,
    resolution: int,
    channels: int | None,
    holdout: float = 0.0,
    trusted: Trusted | None = None,
    exclude: Path | None = None,
) -> Dataset:
    """Return the training images of a set, decoded and mapped from the cache; the first time decodes it.

    Args:
        data: a name (mnist-5k, mnist, fashion-mnist, cifar10, stacked-mnist, stacked-mnist-60k) or a path. A name
            wins over a file called alike, which ``./name`` reaches.
        resolution: height and width of the images in pixels.
        channels: 1, 3, or None for what the source has: its own for arrays, RGB for folders of pictures.
            A stacked set has 3 and shares the cache entry of the grey digits.
        holdout: share of the images at a path that is left out, from 0 up to, not including, 1; see ``holdout.py``.
        trusted: the list of pictures that the set must hold; see ``data_manifest.py``.
        exclude: a list of images that are left out; see ``exclusion.py``.

    Raises:
        UserError: there is no such set, or not in those colours, or it is damaged, or the disk cannot hold it; or a
            holdout of a named set, or one that leaves no image on one side; or it is not what the lists say.
    """
    _check_holdout(data, holdout)
    if data in STACKED:
        _check_colours(data, channels)
        return stack_digits(load(STACKED[data], resolution, 1, trusted=trusted, exclude=exclude), data)
    return _loaded(_source(data, trusted), data, resolution, channels, Part(holdout, False), exclude)


def load_held_out(
    data: str,
    resolution: int,
    channels: int | None,
    holdout: float = 0.0,
    trusted: Trusted | None = None,
    exclude: Path | None = None,
) -> Dataset:
    """Return images like those that ``load`` returns, none of which is among them, to evaluate with.

    Of a named set they are its published test split (of mnist-5k, which is a part of MNIST's training images, and of
    the stacked sets that of MNIST); at a path the part that the holdout has left out. Both have the labels and class
    names of their set.

    Args:
        data: see ``load``.
        resolution: likewise.
        channels: likewise.
        holdout: that of the training images.
        trusted: see ``load``; a published test split is no part of such a list.
        exclude: likewise; a published test split is left as it is.

    Raises:
        UserError: see ``load``; or a path without a holdout.
    """
    _check_holdout(data, holdout)
    if data in STACKED:
        _check_colours(data, channels)
        return stack_digits(load_held_out(STACKED[data], resolution, 1), data)
    if data in TEST:
        return _loaded(TEST[data](), data, resolution, channels)
    if not holdout:
        found = f"no held-out images of {data}, as the holdout is 0"
        raise unexpected("data", found, "images that were not trained on", ("train with --holdout", "--real DATA"))
    return _loaded(_source(data, trusted), data, resolution, channels, Part(holdout, True), exclude)


def has_held_out(data: str, holdout: float = 0.0) -> bool:
    """Return whether ``load_held_out`` finds images: a test split, or what a holdout has left out."""
    return holdout > 0 or data in TEST or data in STACKED


def check_outside(option: str, path: Path, data: str) -> None:
    """Refuse to write into a folder of pictures, where what is written would be images of the set.

    Args:
        option: what the path was given by.
        path: where something is to be written.
        data: see ``load``.

    Raises:
        UserError: naming both.
    """
    folder = os.path.expanduser(data)
    if data in NAMED or data in STACKED or not os.path.isdir(folder):
        return
    for absolute in (os.path.abspath, os.path.realpath):  # links in a set are followed
        below = os.path.relpath(absolute(path), absolute(folder)).replace(os.sep, "/")
        if not below.startswith("..") and visible(below) and find_source(data).names:
            choices = [f"--{option.replace('_', '-')} DIR for another folder"]
            raise unexpected(option, path, f"a place outside of {data}, whose pictures are the images", choices)


def _source(data: str, trusted: Trusted | None) -> Source:
    """Return the source that a name or a path stands for, which is to hold what a list says."""
    source = find_source(data)
    return source if trusted is None else expecting(source, trusted.manifest, trusted.key)


WHOLE = Part(0.0, False)


def _loaded(
    source: Source,
    data: str,
    resolution: int,
    channels: int | None,
    part: Part = WHOLE,
    exclude: Path | None = None,
) -> Dataset:
    """Return a source or a part of it from the cache, in its own colours where none are asked for."""
    colours = source.channels if channels is None else channels
    if exclude is not None:
        whole = cached(source, data, resolution, colours)
        names = source.names if len(source.names) == len(whole.images) else ()
        part = part._replace(excluded=rows_of(exclude, names, np.array(whole.keys)))
    found = cached(source, data, resolution, colours, None if part == WHOLE else part)
    if not part.excluded:
        return found
    about = f"{len(part.excluded):,} left out by {exclude}"
    return found._replace(about=f"{found.about}; {about}" if found.about else about)


def _check_holdout(data: str, holdout: float) -> None:
    """Refuse a holdout of a set that has a test split."""
    if holdout and (data in NAMED or data in STACKED):
        raise unexpected("holdout", f"{holdout:g} beside data {data}", "0, as that set has a test split of its own")


def _check_colours(data: str, channels: int | None) -> None:
    """Refuse a stacked set in grey."""
    if channels not in (None, 3):
        raise unexpected("channels", channels, f"3 (RGB), as data {data} has a digit in each of three channels")


def find_source(data: str) -> Source:
    """Return the source that a name or a path stands for, of which at most a header has been read.

    Raises:
        UserError: there is none, or its kind is unknown.
    """
    if data in NAMED:
        return NAMED[data]()
    path = Path(data)
    try:
        path = path.expanduser()
        mode = os.stat(path).st_mode if data else 0
    except (FileNotFoundError, NotADirectoryError):
        mode = 0
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: the ~name of an unknown user
        raise unexpected("data", f"{data!r} ({reason(error)})", "a path that can be read") from error
    if not mode:
        raise unexpected("data", f"{data!r}, where there is no file or folder", "a path or a name", (*NAMED, *STACKED))
    if stat.S_ISDIR(mode):
        return _in_folder(path)
    if stat.S_ISREG(mode):
        return _in_file(path)
    raise unexpected("data", f"{data!r}, which is a pipe or a device", "a file or a folder")


def _in_folder(path: Path) -> Source:
    """Return the source in a folder: the files of CIFAR-10 or of an MNIST, or else pictures."""
    with reading(path, "a folder that can be listed"):
        names = set(os.listdir(path))
    if "data_batch_1.bin" in names:
        return cifar.source(path)
    for name in ("train-images-idx3-ubyte", "train-images-idx3-ubyte.gz"):
        if name in names:
            return idx.source(path / name)
    return folder.source(path)


def _in_file(path: Path) -> Source:
    """Return the source in a file, whose kind follows from its name."""
    name = path.name.lower()
    if name.endswith(".npy"):
        return arrays.npy_source(path)
    if name.endswith(".npz"):
        return arrays.npz_source(path)
    if archive.is_archive(name):
        names = archive.names_in(path)
        if any(cifar.TRAINING.fullmatch(PurePosixPath(each).name) for each in names):
            return cifar.source(path)
        return archive.source(path, names)
    if name.endswith(parquet.SUFFIX):
        return parquet.source(path.parent, [path.name])
    if "idx" in name:
        return idx.source(path)
    found = f"a file of unknown kind ({path.suffix or 'no suffix'})"
    raise unexpected(str(path), found, "a folder of pictures or a file of a known kind", FILES)
