"""One command for whoever has a GPU: is it equal there, how fast is it: ``python scripts/gpu_report.py --help``.

``report`` runs the phases of ``plan`` in their order until the time is used up, and writes after each step what it has:

- ``environment``: the device, the versions, the settings, as each framework reports them (``environment.py``),
- ``equality``: states of both backends and of both devices compared (``checks.py``; ``equality.py`` computes them),
- ``speed``: the cells of ``benchmarks.throughput``, in turns (``harness.py``),
- ``waits``: where the time of a step goes in some of these cells (``waits.py``).

Whatever touches a framework runs in a process of its own (``job.py``), one backend in each; states meet as files.
"""
