"""How fast the twins are, beside plain implementations of the same work and beside the machine's own limit.

``throughput``, ``scaling``, ``input`` and ``startup`` measure and write JSON; ``report`` makes tables and plots of it.
All are run as modules from the root of the repository: ``python -m benchmarks.throughput --help``. Below them stand
``harness`` (the parent of the measured processes) and ``cell`` (a measured process, which imports the one framework
that it measures and no other).
"""
