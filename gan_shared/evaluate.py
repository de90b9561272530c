"""A run and a protocol to numbers: what the command ``evaluate`` does, and what it leaves in the run folder.

evaluation/STEP-PROTOCOL-SEED.json    the numbers by one network, with everything that they depend on
metrics.jsonl                         the same in one line each, oldest first
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gan_shared import lapgan, manifest
from gan_shared.atomic import replacing
from gan_shared.backend import MakeBackend
from gan_shared.checkpoint import BEST, CHECKPOINTS, Checkpoint
from gan_shared.config import Config
from gan_shared.errors import UserError
from gan_shared.evaluation import Evaluation, EvaluationSettings, Evaluator
from gan_shared.evaluation_table import table
from gan_shared.sample import load_checkpoints, restored
from gan_shared.schedules import images_seen
from gan_shared.tensorboard_log import TensorBoardLog

METRICS = "metrics.jsonl"


class Judged(NamedTuple):
    """A checkpoint that is evaluated.

    Attributes:
        source: what the user named.
        loaded: its checkpoint, or those of a LAPGAN's levels.
        evaluator: what judges it.
    """

    source: Path
    loaded: list[Checkpoint]
    evaluator: Evaluator

    @property
    def home(self) -> Path:
        """The folder that numbers are written to: the run's, or that of a checkpoint by itself."""
        if lapgan.is_lapgan(self.source):
            return self.source
        path = self.loaded[0].path
        return path.parent.parent if path.parent.name in (CHECKPOINTS, BEST) else path

    @property
    def title(self) -> str:
        """What tables call it."""
        return f"{self.source} at step {self.loaded[-1].step}"


def evaluate(
    make_backend: MakeBackend,
    source: Path,
    settings: EvaluationSettings,
    *,
    against: Path | None = None,
    data: str | None = None,
    device: str = "auto",
    resolution: int | None = None,
) -> str:
    """Evaluate a run, write its numbers into its folder, and return them as a table.

    Args:
        make_backend: the Backend class of gan_torch or gan_jax; either reads the other's checkpoints.
        source: a run folder (its newest checkpoint), a checkpoint folder, or the folder of a LAPGAN.
        settings: what is compared and how.
        against: another one, by the same protocol, beside it in the table.
        data: where the run's images are now, if they are not where they were in training.
        device: where to compute.
        resolution: the pyramid level of a LAPGAN to stop at.

    Raises:
        UserError: the run, the images or the networks cannot be used, or two runs cannot be compared.
    """
    changed: dict[str, Any] = {"device": device} | ({} if data is None else {"data": data})
    runs = [_found(each, settings, changed, resolution) for each in (source, against) if each is not None]
    check_comparable(runs)
    found = []
    for judged in runs:
        configs = [each.config.with_options(**changed) for each in judged.loaded]
        generators = [restored(make_backend, each, config) for each, config in zip(judged.loaded, configs, strict=True)]
        evaluations = judged.evaluator.evaluate(generators)
        backend = generators[-1].backend
        for each in evaluations:
            last = judged.loaded[-1]
            more = {
                "checkpoint_sha256": manifest.sha256(last.path / "manifest.json"),
                "written_by": {"backend": backend.name, **backend.versions()},
            }
            store(judged.home, record(each, last.config, last.step, settings.seed, more))
        found.append(evaluations)
    return table([each.title for each in runs], found)


def _found(source: Path, settings: EvaluationSettings, changed: Mapping[str, Any], resolution: int | None) -> Judged:
    """Read a run's checkpoint and find the images that it is compared with."""
    loaded = load_checkpoints(source, resolution)
    config = loaded[-1].config.with_options(**changed)
    # A lower level of a LAPGAN was trained on the same images at another size.
    same_size = config.data.resolution == config.data_resolution
    return Judged(source, loaded, Evaluator(config, settings, loaded[-1].data["fingerprint"] if same_size else None))


def check_comparable(runs: Sequence[Judged]) -> None:
    """Refuse runs whose numbers would have other protocols.

    Raises:
        UserError: listing what differs.
    """
    first, *others = ([dict(protocol) for protocol in each.evaluator.protocols()] for each in runs)
    for judged, protocols in zip(runs[1:], others, strict=True):
        if len(protocols) != len(first):
            raise UserError(f"against: {judged.source} is judged by other networks; --features names some for both")
        for mine, other in zip(first, protocols, strict=True):
            different = [f"{name} ({mine[name]}, {other[name]})" for name in mine if mine[name] != other[name]]
            if different:
                raise UserError(
                    f"against: the protocols of {runs[0].source} and {judged.source} differ in "
                    f"{', '.join(different)}: their numbers cannot be compared"
                )


def record(
    evaluation: Evaluation, config: Config, step: int, seed: int, more: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return an evaluation with everything that it depends on, as JSON holds it.

    Args:
        evaluation: the numbers.
        config: the run.
        step: steps done.
        seed: of the latents.
        more: what else is to be kept.
    """
    return {
        "step": step,
        "images_seen": images_seen(config, step),
        "seed": seed,
        "precision": config.training.precision,
        **(more or {}),
        "network": evaluation.network,
        "protocol_hash": evaluation.protocol_hash,
        "protocol": evaluation.protocol,
        "values": evaluation.values,
        "floors": evaluation.floors,
        "seconds": {name: round(value, 3) for name, value in evaluation.seconds.items()},
    }


def store(home: Path, entry: Mapping[str, Any]) -> None:
    """Write a record whole, add it to the run's curve, and to TensorBoard's where the run has one."""
    target = home / "evaluation" / f"{entry['step']:07d}-{entry['protocol_hash']}-{entry['seed']}.json"
    with replacing(target) as temporary:
        manifest.write_json(temporary, entry)
    append(home, entry)
    if (home / "tensorboard").is_dir():
        log = TensorBoardLog(home / "tensorboard", print)
        log.scalars(entry["step"], scalars(entry["network"], entry["values"]))
        log.close()


def scalars(network: str, values: Mapping[str, float]) -> dict[str, float]:
    """Return numbers by the names of their curves."""
    return {f"evaluation/{network}/{name}": value for name, value in values.items()}


def append(home: Path, entry: Mapping[str, Any]) -> None:
    """Add a record to the run's curve: one line, written at once, as a training process may write there too."""
    names = ("step", "images_seen", "network", "protocol_hash", "seed")
    line = {**{name: entry[name] for name in names}, "num_images": entry["protocol"]["generated_images"]}
    with (home / METRICS).open("a", encoding="utf-8") as file:
        file.write(json.dumps({**line, **entry["values"]}) + "\n")
