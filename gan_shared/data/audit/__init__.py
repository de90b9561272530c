"""Checks of a set of images before it is trained on: what each finds, and nothing is removed.

``checks.audit`` runs all of them on arrays, in NumPy. ``duplicates``: the same pixels, nearly the same, one picture
under several labels. ``pixels``: constant, noisy and enlarged images. ``patches``: a patch that many images have at one
place. ``classes``: labels that an image does not look like, outliers of a class, balance. ``features`` is what the
last two compare images by.
"""

from gan_shared.data.audit.checks import Audit, audit
from gan_shared.data.audit.findings import KINDS, Finding

__all__ = ["KINDS", "Audit", "Finding", "audit"]
