"""Evaluation while a run trains: its curve, and the checkpoint that was best."""

import json
from collections.abc import Mapping
from typing import Any

from gan_shared import checkpoint
from gan_shared.config import Config
from gan_shared.evaluate import METRICS, append, record, scalars
from gan_shared.evaluation import EvaluationSettings, Evaluator, hash_of
from gan_shared.hooks import Event
from gan_shared.runlog import RunLog
from gan_shared.sample import TrainedGenerator

# What a run is judged by while it trains, where its modes are not counted by the thousand.
NETWORK = "efficientnet-lite0"
# Sets known by name of which lost modes are the question; their published number is the divergence of the modes.
STACKED = ("stacked-mnist", "stacked-mnist-60k")


def settings_while_training(config: Config, **changes: Any) -> EvaluationSettings:
    """Return what a run is compared by while it trains: one network, as each of them costs time."""
    network = "digits" if config.execution.data in STACKED else NETWORK
    return EvaluationSettings(features=(network,), **changes)


def to_minimise(values: Mapping[str, float]) -> float:
    """Return the number that the best checkpoint has the smallest of.

    KID, as it is unbiased for the few images that are made while a run trains; of stacked digits the divergence of
    their modes.
    """
    return values["mode_divergence" if "mode_divergence" in values else "kernel_distance"]


class EvaluationHook:
    """An action for ``Every``: evaluates, adds to the curve, keeps the best checkpoint, returns numbers to be logged.

    Args:
        evaluator: what judges the run, by one network.
        runlog: the run's folder.
    """

    def __init__(self, evaluator: Evaluator, runlog: RunLog) -> None:
        self._evaluator, self._runlog = evaluator, runlog
        self._best = self._read_best()

    def __call__(self, event: Event) -> dict[str, float]:
        """Evaluate the generator of an event."""
        (found,) = self._evaluator.evaluate([TrainedGenerator(event.backend, event.state)])
        with self._runlog.writing(METRICS):
            append(self._runlog.run_dir, record(found, event.config, event.step, self._evaluator.settings.seed))
        if self._best is None or to_minimise(found.values) < self._best:
            self._best = to_minimise(found.values)
            self._runlog.save_best(event)
        return scalars(found.network, found.values)

    def _read_best(self) -> float | None:
        """Return the number of the best checkpoint that is there; None where none is, or not by this protocol."""
        folders, (protocol,) = checkpoint.folders(self._runlog.run_dir, checkpoint.BEST), self._evaluator.protocols()
        if not folders:
            return None
        wanted = {"step": checkpoint.step_of(folders[-1]), "protocol_hash": hash_of(protocol)}
        lines = (self._runlog.run_dir / METRICS).read_text(encoding="utf-8").splitlines()
        for line in map(json.loads, lines):
            if wanted.items() <= line.items():
                return to_minimise(line)
        return None
