"""Evaluation while a run trains: its curve, and the checkpoint that was best."""

import json
from collections.abc import Mapping
from typing import Any

from gan_shared import checkpoint, manifest
from gan_shared.atomic import replacing
from gan_shared.config import Config
from gan_shared.data.named import STACKED
from gan_shared.errors import UserError
from gan_shared.evaluate import curves, record, store
from gan_shared.evaluation import Evaluation, EvaluationSettings, Evaluator, hash_of
from gan_shared.hooks import Event
from gan_shared.runlog import METRICS, RunLog
from gan_shared.sample import TrainedGenerator

# What a run is compared by while it trains, where its modes are not counted by the thousand.
NETWORK = "efficientnet-lite0"
# Beside the best checkpoint: how good it was, and by which protocol.
SCORE = "score.json"


def settings_while_training(config: Config, **changes: Any) -> EvaluationSettings:
    """Return what a run is compared by while it trains: one network, as each of them costs time."""
    network = "digits" if config.execution.data in STACKED else NETWORK
    return EvaluationSettings(features=(network,), **changes)


def to_minimise(values: Mapping[str, float]) -> float:
    """Return the number that the best checkpoint has the smallest of.

    KID, as it is unbiased for the few images that are made while a run trains; of digits the divergence of their modes.
    """
    return values["modes_kl" if "modes_kl" in values else "kid"]


class EvaluationHook:
    """An action for ``Every``: evaluates, adds to the curve, keeps the best checkpoint, returns numbers to be logged.

    Args:
        evaluator: what evaluates the run, by one network.
        runlog: the run's folder.
    """

    def __init__(self, evaluator: Evaluator, runlog: RunLog) -> None:
        self._evaluator, self._runlog = evaluator, runlog
        self._score = runlog.run_dir / checkpoint.BEST / SCORE
        self._best: float | None = None
        self._found_best = False

    def __call__(self, event: Event) -> dict[str, float]:
        """Evaluate the generator of an event."""
        if not self._found_best:
            self._best, self._found_best = self._score_of_best(event), True
        (found,) = self._evaluator.evaluate([TrainedGenerator(event.backend, event.state)])
        entry = record(found, event.config, event.step, self._evaluator, event.backend)
        with self._runlog.writing(METRICS):
            store(self._runlog.run_dir, entry)
        if self._best is None or to_minimise(found.values) < self._best:
            self._best = to_minimise(found.values)
            self._runlog.save_best(event)
            with self._runlog.writing(f"{checkpoint.BEST}/{SCORE}"):
                self._write_score(event.step, found)
        return curves(entry)

    def _write_score(self, step: int, found: Evaluation) -> None:
        """Write how good the best checkpoint is."""
        score = {"step": step, "protocol_hash": found.protocol_hash, "score": to_minimise(found.values)}
        with replacing(self._score) as temporary:
            manifest.write_json(temporary, score)

    def _score_of_best(self, event: Event) -> float | None:
        """Return how good the best checkpoint is that is there; it is evaluated anew where the protocol has changed."""
        folders = checkpoint.folders(self._runlog.run_dir, checkpoint.BEST)
        if not folders:
            return None
        try:
            score = json.loads(self._score.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            score = {}
        (protocol,) = self._evaluator.protocols()
        wanted = {"step": checkpoint.step_of(folders[-1]), "protocol_hash": hash_of(protocol)}
        if isinstance(score, dict) and wanted.items() <= score.items() and isinstance(score.get("score"), float):
            return score["score"]
        try:
            state = event.backend.restore(checkpoint.load(folders[-1]).tensors)
        except UserError:
            return None
        (found,) = self._evaluator.evaluate([TrainedGenerator(event.backend, state)])
        self._write_score(wanted["step"], found)
        return to_minimise(found.values)
