"""A trained generator on the Hugging Face Hub: its folder, the model card, uploading and fetching.

config.json          the network, and the names of its classes as ``id2label``
model.safetensors    its weights, in torch's names and layouts
README.md            the model card: what it was trained on, how good its images are, how to make some
samples.png          64 images of seed 0

The folder has nothing of the machine that it was made on: no path, no name of a user's own data.
"""

import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from gan_shared import manifest
from gan_shared.atomic import check_parents, replacing
from gan_shared.backend import MakeBackend
from gan_shared.checkpoint import BEST, CHECKPOINTS, GENERATOR_WEIGHTS, Checkpoint, described_by
from gan_shared.config import Config
from gan_shared.data.named import NAMED, STACKED
from gan_shared.errors import UserError, one_line, optional_module, printable, unexpected
from gan_shared.evaluate import check_from_latents
from gan_shared.evaluation import Evaluation
from gan_shared.evaluation_table import table
from gan_shared.feature_networks import FEATURE_NETWORKS
from gan_shared.generator_config import CLASS_NAMES
from gan_shared.latents import LatentSource
from gan_shared.option_groups import CUSTOM
from gan_shared.paths import checked
from gan_shared.pictures import save_png
from gan_shared.sample import (
    GRID_SIZE,
    TrainedGenerator,
    generate_images,
    inputs_of,
    load_checkpoints,
    restored,
    sample_grid,
)
from gan_shared.segments import images_seen

CARD, SAMPLES = "README.md", "samples.png"
FILES = ("config.json", GENERATOR_WEIGHTS, CARD, SAMPLES)
# The name of a repository, its owner before it where it is not one's own.
_NAME = r"(?!.*(?:--|\.\.))\w(?:[\w.-]{0,94}\w)?"
REPOSITORY = rf"{_NAME}(?:/{_NAME})?(?<!\.git)"
# Classes that the card lists by name.
LISTED_CLASSES = 50


class Publication(NamedTuple):
    """Where a folder goes.

    Attributes:
        repository: USER/NAME on the Hub, where it is uploaded to; None for nowhere.
        private: whether a repository that is new is for its owner alone.
        license: of the weights, by its identifier on the Hub; None where the card names none.
    """

    repository: str | None = None
    private: bool = False
    license: str | None = None


class Published(NamedTuple):
    """What is written into a folder for the Hub.

    Attributes:
        config: of the run.
        weights: of the generator, by torch's names.
        samples: uint8 (height, width, channel), a grid of images.
        data: name and class names of the training images.
        evaluations: how good the images are, where that is known.
        steps: that it was trained for; 0 where that is not known.
    """

    config: Config
    weights: dict[str, np.ndarray]
    samples: np.ndarray
    data: dict[str, Any]
    evaluations: list[Evaluation]
    steps: int


def export(
    make_backend: MakeBackend, source: Path, out: Path | None, publication: Publication, *, ema: bool = True
) -> str:
    """Write the folder of a trained generator and upload it where that is asked for.

    Args:
        make_backend: the Backend class of gan_torch or gan_jax.
        source: a run folder, a checkpoint folder, or the folder of a generator alone.
        out: a new or empty folder, or one that this has written before; ``generator`` when not given.
        publication: where it goes.
        ema: whether it is the averaged generator.

    Returns:
        What was written and uploaded, a line each.

    Raises:
        UserError: the run cannot be published, or the folder not be written or uploaded.
    """
    if publication.repository is not None:
        _check_repository("push_to", publication.repository)
    out = Path("generator") if out is None else out
    check_folder(out)
    found = load_checkpoints(source, None)
    check_from_latents(found[0].config)
    if len(found) > 1:
        raise unexpected("run", f"{source}, a LAPGAN", "a single generator")
    (loaded,) = found
    config = loaded.config.with_options(device="cpu")
    generator = restored(make_backend, loaded, config)
    part = "generator_ema" if ema else "generator"
    weights = {
        name.removeprefix(f"{part}/"): value for name, value in loaded.tensors.items() if name.startswith(f"{part}/")
    }
    samples = sample_of(generator, loaded.class_names, ema)
    evaluations = evaluations_of(loaded, ema)
    write_folder(out, Published(config, weights, samples, loaded.data, evaluations, loaded.step), publication)
    lines = [f"wrote {out}"]
    if publication.repository is not None:
        try:
            lines.append(f"uploaded to {upload(out, publication)}")
        except UserError as error:
            raise UserError(f"{error}; {out} was written") from error
    return "\n".join(lines)


def publish(generator: TrainedGenerator, class_names: Sequence[str], publication: Publication) -> str:
    """Upload an averaged generator that is in memory to a repository, and return its address.

    Raises:
        UserError: its network has no name, or the Hub refuses it or cannot be reached.
    """
    _check_repository("repository", publication.repository)
    backend, state = generator
    tensors, prefix = backend.export(state), "generator_ema/"
    weights = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    data, steps = {"name": manifest.MEMORY, "class_names": class_names}, int(tensors["trainer/step"])
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / str(publication.repository).split("/")[-1]
        check_named(backend.config)
        published = Published(backend.config, weights, sample_of(generator, class_names, True), data, [], steps)
        write_folder(folder, published, publication)
        return upload(folder, publication)


def sample_of(generator: TrainedGenerator, class_names: Sequence[str], ema: bool) -> np.ndarray:
    """Return a grid of 64 images of seed 0, uint8 (height, width, channel)."""
    config = generator.backend.config
    (inputs,) = inputs_of([config], LatentSource(), GRID_SIZE, tuple(range(config.num_classes)))
    made = np.concatenate(list(generate_images([generator], [inputs], ema)))
    return sample_grid(config, made, inputs, class_names)


def evaluations_of(loaded: Checkpoint, ema: bool) -> list[Evaluation]:
    """Return the numbers that the run's folder has of this checkpoint, one evaluation of each protocol."""
    path = loaded.path.resolve()
    home = path.parent.parent if path.parent.name in (CHECKPOINTS, BEST) else path
    own, found = [manifest.sha256(described_by(path))], {}
    for file in sorted((home / "evaluation").glob("*.json")):
        record = manifest.read_json(file)
        if record.get("checkpoint_sha256") != own or record.get("network") not in FEATURE_NETWORKS:
            continue
        try:
            evaluation = Evaluation(*(record[name] for name in Evaluation._fields))
            protocol = evaluation.protocol
            of_this_generator = protocol["ema"] == ema and "truncation" not in protocol  # as the card's images are made
        except (KeyError, TypeError) as error:
            raise unexpected(str(file), f"no {error}", "a whole evaluation") from error
        if of_this_generator:
            found[evaluation.protocol_hash] = evaluation
    return list(found.values())


def check_folder(folder: Path) -> None:
    """Refuse a folder whose files are not such that were written here.

    Raises:
        UserError: naming it.
    """
    check_parents("out", folder)
    if folder.exists() and not folder.is_dir():
        raise unexpected("out", f"{folder}, which is a file", "a folder")
    if not folder.name:
        raise unexpected("out", folder, "the name of a folder")
    found = sorted(each.name for each in folder.iterdir()) if folder.exists() else []
    others = [name for name in found if name not in FILES]
    # A checkpoint's generator has two files of these names, and no card.
    if found and (others or CARD not in found):
        expected = "a new or empty folder, or one that was written here before"
        raise unexpected("out", f"{folder}, which holds {(others or found)[0]}", expected)


def check_named(config: Config) -> None:
    """Refuse a generator that nobody could build from a configuration.

    Raises:
        UserError: it is a module of the user's own.
    """
    if config.networks.generator == CUSTOM:
        raise unexpected("generator", "a module of your own", "a network with a name, which others can build too")


def write_folder(folder: Path, published: Published, publication: Publication) -> None:
    """Write the files of a generator, all or none."""
    config, names = published.config, tuple(published.data.get("class_names", ()))
    values = manifest.network_config(config, "generator")
    if names and config.data.class_conditional:
        values |= {CLASS_NAMES: {str(number): name for number, name in enumerate(names)}}
    with replacing(folder) as temporary:
        temporary.mkdir()
        manifest.write_json(temporary / "config.json", values)
        weights = temporary / GENERATOR_WEIGHTS
        try:
            save_file(published.weights, weights, metadata={"format": "pt"})
        except SafetensorError as error:  # a full disk
            raise UserError(f"{folder}: could not be written: {error}") from error
        # safetensors makes its files for their owner alone; these are shared like any other.
        weights.chmod(temporary.stat().st_mode & 0o666)
        save_png(temporary / SAMPLES, published.samples)
        (temporary / CARD).write_text(card(published, publication, folder.name), encoding="utf-8")


def card(published: Published, publication: Publication, title: str) -> str:
    """Return the model card as the Hub reads it: YAML between two lines, then Markdown."""
    config, data = published.config, published.data
    known = data["name"] in (*NAMED, *STACKED)
    about: dict[str, Any] = {
        "library_name": "twin-gan",
        "pipeline_tag": "unconditional-image-generation",
        "tags": ["gan", "pytorch", "jax"],
    }
    if publication.license is not None:
        about["license"] = publication.license
    front = "\n".join(f"{name}: {json.dumps(value)}" for name, value in about.items())
    height, width, channels = config.image_shape
    colours = "grey" if channels == 1 else "RGB"
    trained_on = f"`{data['name']}`." if known else "Images of its author."
    trained = ""
    if published.steps:  # of a generator that came alone it is not known
        seen = f"{images_seen(config, published.steps):,} images"
        trained = f", trained for {published.steps:,} steps ({seen}) with the loss `{config.objective.loss}`"
    made_by = f"`{config.networks.generator}`, width {config.networks.width:g}"
    lines = [
        f"---\n{front}\n---",
        f"# {title}",
        f"A GAN's generator ({made_by}) that makes {colours} images of {height}x{width} pixels{trained}.",
        f"![64 images of seed 0]({SAMPLES})",
        f"## Data\n\n{trained_on}{_classes(config, data)}",
        f"## How good it is\n\n{_numbers(published.evaluations)}",
        f"## Use\n\n{_snippets(publication)}",
    ]
    return "\n\n".join(lines) + "\n"


def _classes(config: Config, data: dict[str, Any]) -> str:
    """Return a sentence on the classes, empty where there are none to choose from."""
    names = data.get("class_names", ())
    if not config.data.class_conditional or not names:
        return ""
    listed = ", ".join(f"`{printable(name).replace('`', '')}`" for name in names[:LISTED_CLASSES])
    more = f" and {len(names) - LISTED_CLASSES:,} more" if len(names) > LISTED_CLASSES else ""
    return f" Classes, from number 0: {listed}{more}."


def _numbers(evaluations: Sequence[Evaluation]) -> str:
    """Return tables of the numbers, each with the protocol that it depends on."""
    if not evaluations:
        return "Not evaluated."
    shown = "\n\n".join(table(["this generator"], [[each]]) for each in evaluations)
    return f"Beside real images in its place. Numbers of other protocols cannot be compared.\n\n```\n{shown}\n```"


def _snippets(publication: Publication) -> str:
    """Return how images are made in either framework."""
    source = publication.repository or "FOLDER"
    return "\n\n".join(
        f"In {framework}:\n\n```python\nfrom {package} import GAN\n\ngan = GAN.from_pretrained({json.dumps(source)})\n"
        "images = gan.sample(64)  # uint8 (image, height, width, channel)\n```"
        for framework, package in (("PyTorch", "gan_torch"), ("JAX", "gan_jax"))
    )


def _check_repository(field: str, repository: object) -> None:
    """Refuse what the Hub can call no repository.

    Raises:
        UserError: naming it.
    """
    if not isinstance(repository, str) or not re.fullmatch(REPOSITORY, repository, re.ASCII):
        expected = "USER/NAME, each of at most 96 letters, digits and single . _ - between them"
        raise unexpected(field, repr(repository), expected)


def upload(folder: Path, publication: Publication) -> str:
    """Upload a folder to its repository, which is made where there is none, and return its address.

    Raises:
        UserError: the Hub refuses it, or cannot be reached.
    """
    hub = optional_module("huggingface_hub", "push_to", f"{publication.repository}, which needs huggingface_hub", "hub")
    with _answers_of_the_hub("push_to", publication.repository):
        api = hub.HfApi(library_name="twin-gan")
        repository = api.create_repo(publication.repository, private=publication.private, exist_ok=True)
        api.upload_folder(
            repo_id=repository.repo_id,
            folder_path=folder,
            allow_patterns=list(FILES),
            commit_message="A generator of twin-gan",
        )
    return str(repository)


@contextmanager
def fetched(source: str | Path, revision: str | None = None) -> Iterator[Path]:
    """Yield the folder of a generator: one that is there, or a repository of the Hub, which is fetched.

    Args:
        source: a folder, or USER/NAME on the Hub.
        revision: branch, tag or commit of the repository; its newest when not given.

    Raises:
        UserError: there is neither, or the Hub cannot be reached.
    """
    folder = checked("source", source)
    if folder.is_dir():
        if revision is not None:
            raise unexpected("revision", revision, f"none, as {source} is a folder here")
        yield folder
        return
    if not re.fullmatch(REPOSITORY, str(source), re.ASCII) or folder.exists():
        raise unexpected("source", f"{source}, where there is no folder", "a folder, or USER/NAME on the Hub")
    hub = optional_module("huggingface_hub", "source", f"{source}, which is no folder here", "hub")
    with _answers_of_the_hub("source", source):
        cached = Path(hub.snapshot_download(str(source), revision=revision, allow_patterns=list(FILES)))
    with tempfile.TemporaryDirectory() as parent:
        # The Hub's cache has links, which are refused where a folder may come from a stranger.
        folder = shutil.copytree(cached, Path(parent) / "generator")
        try:
            yield folder
        except UserError as error:
            raise UserError(str(error).replace(str(folder), str(source))) from error


@contextmanager
def _answers_of_the_hub(field: str, repository: object) -> Iterator[None]:
    """Turn what the Hub and the network answer into mistakes of the user.

    Raises:
        UserError: naming the repository.
    """
    try:
        yield
    except Exception as error:  # those of its transport are others from version to version
        raise UserError(f"{field}: {repository}: {one_line(error) or type(error).__name__}") from error
