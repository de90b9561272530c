"""What has no tensor in it, written once for both backends.

Law 2 (docs/design.md): nothing in this package imports torch or jax. Arrays that cross into
a backend are NumPy's, and what comes back is NumPy again. ``tests/test_import_laws.py`` proves it in a
process where both frameworks are blocked.
"""

__version__ = "0.1.0"
