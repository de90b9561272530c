"""A run and a protocol to numbers: what the command ``evaluate`` does, and what it leaves in the run folder.

evaluation/STEP-PROTOCOL-SEED-BACKEND.json    the numbers by one network, with everything that they depend on
metrics.jsonl                                 the same in one line each, oldest first
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gan_shared import lapgan, manifest
from gan_shared.atomic import naming, replacing
from gan_shared.backend import Backend, MakeBackend
from gan_shared.checkpoint import BEST, CHECKPOINTS, GENERATOR_WEIGHTS, Checkpoint, described_by
from gan_shared.config import Config
from gan_shared.errors import UserError, one_line, unexpected
from gan_shared.evaluation import Evaluation, EvaluationSettings, Evaluator
from gan_shared.evaluation_table import table
from gan_shared.image_conditions import is_image_conditional
from gan_shared.runlog import METRICS, append_line
from gan_shared.sample import load_checkpoints, restored
from gan_shared.segments import images_seen
from gan_shared.tensorboard_log import TensorBoardLog

# What a run's images are found by.
MOVED = ("data", "data_manifest", "data_key", "exclude")


class EvaluatedRun(NamedTuple):
    """A run that is evaluated.

    Attributes:
        source: what the user named.
        loaded: its checkpoint, or those of a LAPGAN's levels.
        evaluator: what evaluates it.
        knows_images: whether it says which images it was trained on.
    """

    source: Path
    loaded: list[Checkpoint]
    evaluator: Evaluator
    knows_images: bool

    @property
    def home(self) -> Path:
        """The folder that numbers are written to: the run's, or that of a checkpoint by itself."""
        if lapgan.is_lapgan(self.source):
            return self.source
        path = self.loaded[0].path.resolve()
        if described_by(path).name == GENERATOR_WEIGHTS and described_by(path.parent).name != GENERATOR_WEIGHTS:
            path = path.parent  # a generator in its checkpoint, which is no place for other files
        return path.parent.parent if path.parent.name in (CHECKPOINTS, BEST) else path

    @property
    def title(self) -> str:
        """Its name in tables."""
        return f"{self.source} at step {self.loaded[-1].step}"


def evaluate(
    make_backend: MakeBackend,
    source: Path,
    settings: EvaluationSettings,
    *,
    against: Path | None = None,
    moved: Mapping[str, str | None],
    device: str = "auto",
    resolution: int | None = None,
) -> str:
    """Evaluate a run, write its numbers into its folder, and return them as a table.

    Args:
        make_backend: the Backend class of gan_torch or gan_jax; either reads the other's checkpoints.
        source: a run folder (its newest checkpoint), a checkpoint folder, or the folder of a LAPGAN.
        settings: what is compared and how.
        against: another one, by the same protocol, beside it in the table.
        moved: where the files of a run are now, by the names in ``MOVED``; None where they were in training.
        device: where to compute.
        resolution: the pyramid level of a LAPGAN to stop at.

    Returns:
        The table; where the numbers could not be written, a line that says so follows.

    Raises:
        UserError: the run, the images or the networks cannot be used, or two runs cannot be compared.
    """
    changed: dict[str, Any] = {"device": device} | {name: value for name, value in moved.items() if value is not None}
    runs = [_found(each, settings, changed, resolution) for each in (source, against) if each is not None]
    for name in () if any(run.knows_images for run in runs) else MOVED:
        if name in changed:
            raise unexpected(name, changed[name], f"none, as {source} does not know its training images")
    check_comparable(runs)
    found, entries = [], []
    for run in runs:
        configs = [each.config.with_options(**changed) for each in run.loaded]
        generators = [restored(make_backend, each, config) for each, config in zip(run.loaded, configs, strict=True)]
        # Equal protocols have equal real images.
        run.evaluator.real_features = runs[0].evaluator.real_features
        evaluations = run.evaluator.evaluate(generators)
        found.append(evaluations)
        last = run.loaded[-1]
        hashes = [manifest.sha256(described_by(each.path)) for each in run.loaded]
        for each in evaluations:
            entry = record(each, last.config, last.step, run.evaluator, generators[-1].backend)
            entries.append((run.home, entry | {"checkpoint_sha256": hashes}))
    shown = table([each.title for each in runs], found)
    try:
        for home, entry in entries:
            store(home, entry)
            log_to_tensorboard(home, entry)
    except OSError as error:
        shown += f"\nnot kept: {one_line(error)}"
    return shown


def _found(
    source: Path, settings: EvaluationSettings, changed: Mapping[str, Any], resolution: int | None
) -> EvaluatedRun:
    """Read a run's checkpoint and find the images that it is compared with.

    Raises:
        UserError: its generator is given images, which is none that can be evaluated.
    """
    loaded = load_checkpoints(source, resolution)
    check_from_latents(loaded[0].config)
    config, made_from = loaded[-1].config.with_options(**changed), loaded[-1].data
    fingerprint = None if made_from["name"] == manifest.MEMORY else made_from["fingerprint"]
    return EvaluatedRun(source, loaded, Evaluator(config, settings, fingerprint), fingerprint is not None)


def check_from_latents(config: Config) -> None:
    """Refuse a generator that is given images: whose should it be given?

    Raises:
        UserError: naming what can be evaluated.
    """
    if is_image_conditional(config):
        expected = "one that makes images from latents, or the folder of a LAPGAN's runs"
        raise unexpected("run", "an image-conditional generator", expected)


def check_comparable(runs: Sequence[EvaluatedRun]) -> None:
    """Refuse runs whose numbers would have other protocols.

    Raises:
        UserError: listing what differs.
    """
    first = runs[0].evaluator.protocols()
    for run in runs[1:]:
        protocols = run.evaluator.protocols()
        if [each["network"] for each in protocols] != [each["network"] for each in first]:
            raise UserError(f"against: {run.source} is compared by other networks; --features names those for both")
        for mine, other in zip(first, protocols, strict=True):
            different = [f"{name} ({mine[name]}, {other[name]})" for name in mine if mine[name] != other[name]]
            if different:
                raise UserError(
                    f"against: the protocols of {runs[0].source} and {run.source} differ in "
                    f"{', '.join(different)}: their numbers cannot be compared"
                )


def record(evaluation: Evaluation, config: Config, step: int, evaluator: Evaluator, backend: Backend) -> dict[str, Any]:
    """Return an evaluation with everything that it depends on, as JSON holds it.

    Args:
        evaluation: the numbers.
        config: the run.
        step: steps done.
        evaluator: what made them.
        backend: what computed them.
    """
    labels = evaluator.labels
    return {
        "step": step,
        "images_seen": images_seen(config, step),
        "seed": evaluator.settings.seed,
        "precision": config.training.precision,
        "written_by": {"backend": backend.name, **backend.versions()},
        "network": evaluation.network,
        "protocol_hash": evaluation.protocol_hash,
        "protocol": evaluation.protocol,
        "real": evaluator.real.reference.dataset.name,
        "images_of_each_class": None
        if labels is None
        else [int((labels == each).sum()) for each in range(labels.max() + 1)],
        "values": evaluation.values,
        "floors": evaluation.floors,
        "seconds": {name: round(value, 3) for name, value in evaluation.seconds.items()},
    }


def store(home: Path, entry: Mapping[str, Any]) -> None:
    """Write a record whole, and add it to the run's curve: one line, as a training process may write there too."""
    name = "-".join(
        [f"{entry['step']:07d}", entry["protocol_hash"], str(entry["seed"]), entry["written_by"]["backend"]]
    )
    with replacing(home / "evaluation" / f"{name}.json") as temporary:
        manifest.write_json(temporary, entry)
    line = {name: entry[name] for name in ("step", "images_seen", "network", "protocol_hash", "seed")}
    protocol = entry["protocol"]
    line |= {"backend": entry["written_by"]["backend"], "num_images": protocol["generated_images"]}
    line |= {name: protocol[name] for name in ("truncation",) if name in protocol}
    with naming(home / METRICS):
        append_line(home / METRICS, {**line, **entry["values"], "floors": entry["floors"]})


def curves(entry: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a record by the names of their curves: each protocol has curves of its own."""
    prefix = f"evaluation/{entry['network']}-{entry['protocol_hash']}"
    return {f"{prefix}/{name}": value for name, value in entry["values"].items()}


def log_to_tensorboard(home: Path, entry: Mapping[str, Any]) -> None:
    """Add a record to TensorBoard's curves of a run, where it has any."""
    if (home / "tensorboard").is_dir():
        log = TensorBoardLog(home / "tensorboard", print)
        log.scalars(entry["step"], curves(entry))
        log.close()
