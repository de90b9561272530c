"""Scalars and pictures for TensorBoard: one event file, written with TensorBoard's own records and messages."""

import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from time import time
from typing import BinaryIO

from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.plugins.scalar.summary_v2 import scalar_pb
from tensorboard.summary.writer.record_writer import RecordWriter

# Format of the events of a file, which its first event names.
FILE_VERSION = "brain.Event:2"


class TensorBoardLog:
    """Writer of an event file. The first error of the file is reported, and the run goes on without it.

    Records are written in the caller's thread. TensorBoard's ``EventFileWriter`` gives them to a thread of its own,
    through a queue: a second Ctrl-C that comes while its lock is taken leaves it taken, and closing the writer then
    waits for ever; and the thread's own error with the folder ends the run.

    Args:
        folder: where the file is written; made when missing.
        warn: called with one line when the file cannot be written.
    """

    def __init__(self, folder: Path, warn: Callable[[str], None]) -> None:
        self._folder, self._warn = folder, warn
        self._file: BinaryIO | None = None
        with self._guarded():
            folder.mkdir(exist_ok=True)
            self._file = _new_file(folder)
        self._write(Event(wall_time=time(), file_version=FILE_VERSION))

    def scalars(self, step: int, numbers: Mapping[str, float]) -> None:
        """Write numbers by name."""
        values = [value for name, number in numbers.items() for value in scalar_pb(name, number).value]
        self._write(Event(wall_time=time(), step=step, summary=Summary(value=values)))

    def picture(self, step: int, name: str, png: bytes, shape: tuple[int, ...]) -> None:
        """Write a PNG of an image of ``shape`` (height, width, channels); the channels are its colours, 1 or 3."""
        height, width, channels = shape
        image = Summary.Image(height=height, width=width, colorspace=channels, encoded_image_string=png)
        self._write(Event(wall_time=time(), step=step, summary=Summary(value=[Summary.Value(tag=name, image=image)])))

    def close(self) -> None:
        """Close the file."""
        with self._guarded():
            if self._file is not None:
                self._file.close()

    def _write(self, event: Event) -> None:
        """Write one event, so that it can be read at once."""
        with self._guarded():
            if self._file is not None:
                RecordWriter(self._file).write(event.SerializeToString())
                self._file.flush()

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Report an error of the block's writing, and write nothing more."""
        try:
            yield
        except OSError as error:
            if self._file is not None:
                with suppress(OSError):
                    self._file.close()
            self._file = None
            self._warn(f"{self._folder}: could not be written: {error.strerror}; the run goes on without TensorBoard")


def _new_file(folder: Path) -> BinaryIO:
    """Create an event file with a name of its own: a run may be resumed by the same process in the same second."""
    for number in count():
        name = f"events.out.tfevents.{int(time()):010d}.{socket.gethostname()}.{os.getpid()}.{number}"
        with suppress(FileExistsError):
            return (folder / name).open("xb")
    raise AssertionError("some name is free")
