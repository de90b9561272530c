"""The data layer: from a name or a path to decoded images, uint8 NHWC, mapped from the disk.

``sources`` is the entrance and ``cache`` what stands behind it; ``holdout`` divides a set into two parts. Between them
a kind of source each: ``named`` sets (``downloads`` fetches them), a ``folder`` or an ``archive`` of pictures
(``collection`` finds their classes, ``picture`` decodes one), ``arrays`` of NumPy, ``idx`` files and ``cifar``;
``in_memory`` is for what a program holds. A ``data_manifest`` says what a set must hold, an ``exclusion`` what is left
out of it.
"""

from gan_shared.data.dataset import Dataset
from gan_shared.data.sources import Trusted, check_outside, has_held_out, load, load_held_out

__all__ = ["Dataset", "Trusted", "check_outside", "has_held_out", "load", "load_held_out"]
