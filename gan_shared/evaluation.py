"""How good the images of a generator are: compared with held-out real images, and real images with each other.

A number of this kind means something only beside its protocol (which images, how many, which network, how resized) and
beside its floor: what real images that were not trained on score when they are put in the generator's place. Training
and the command ``evaluate`` call the same ``Evaluator``.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from tqdm import tqdm

from gan_shared import data, metrics
from gan_shared.atomic import replacing
from gan_shared.backend import Backend, FeatureExtractor, Inputs
from gan_shared.config import Config
from gan_shared.data import Dataset, cache
from gan_shared.data.dataset import stack_labels
from gan_shared.draws import Stream, generator, sample_latents
from gan_shared.errors import unexpected
from gan_shared.feature_networks import (
    FeatureNetwork,
    FeatureSet,
    batched,
    default_networks,
    find_networks,
    join,
    load_weights,
    prepare,
)
from gan_shared.image_conditions import is_image_conditional
from gan_shared.sample import MAX_IMAGES, TrainedGenerator, check_request, generate_images

# Images of each set where no number is given, if there are as many: of StackedMNIST what its published numbers are
# counted from (Srivastava et al. 2017), of others what most are.
NUM_IMAGES, STACKED_NUM_IMAGES = 10_000, 26_000
# A digit that the classifier gives a lower probability is counted, but not as one that can be read.
CONFIDENCE = 0.8
# The sets of real images that generated ones are compared with, beside whatever --data takes.
HELD_OUT, TRAINING = "held-out", "training"
# Raised whenever a number would come out otherwise.
PROTOCOL_VERSION = 1
# Real images are chosen by this seed, whatever that of the latents.
REAL_SEED = 0
# On a CPU a larger one is slower: the maps leave its caches.
FEATURE_BATCH = 16


@dataclass(frozen=True)
class EvaluationSettings:
    """What is compared and how.

    Attributes:
        num_images: images N of each set; None for the usual number, or as many as there are.
        real: ``held-out``, ``training``, or what --data takes: the real images that generated ones are compared with.
        features: names of the networks they are compared by; none for the usual ones.
        seed: what the latents follow from.
        batch_size: images that a network is given at once; changes nothing but the time.
        ema: whether the averaged generator is judged.
        inception_weights: file of Inception's weights.
        vgg_weights: file of VGG16's weights.
    """

    num_images: int | None = None
    real: str = HELD_OUT
    features: tuple[str, ...] = ()
    seed: int = 0
    batch_size: int = FEATURE_BATCH
    ema: bool = True
    inception_weights: str | None = None
    vgg_weights: str | None = None

    def check(self) -> None:
        """Refuse numbers that nothing follows from.

        Raises:
            UserError: naming what was found and expected.
        """
        check_request(2 if self.num_images is None else self.num_images, self.seed)
        if self.num_images is not None and self.num_images < 2:
            raise unexpected("num_images", self.num_images, f"a number from 2 to {MAX_IMAGES}")
        if not 1 <= self.batch_size <= MAX_IMAGES:
            raise unexpected("batch_size", self.batch_size, f"a number from 1 to {MAX_IMAGES}")

    def weights_file(self, network: str) -> str | None:
        """Return the file of a network's weights that was named, if any."""
        return {"inception": self.inception_weights, "vgg16": self.vgg_weights}.get(network)


class Evaluation(NamedTuple):
    """The numbers of one generator by one network.

    Attributes:
        network: its name.
        protocol: everything that must be equal where two numbers are compared.
        values: of the generator, by name.
        floors: the same of real images in its place.
        seconds: spent on sampling, features and statistics.
    """

    network: str
    protocol: dict[str, Any]
    values: dict[str, float]
    floors: dict[str, float]
    seconds: dict[str, float]

    @property
    def protocol_hash(self) -> str:
        """The first digits of the sha256 of the protocol."""
        return hash_of(self.protocol)


def hash_of(protocol: dict[str, Any]) -> str:
    """Return the first digits of the sha256 of a protocol."""
    return hashlib.sha256(json.dumps(protocol, sort_keys=True).encode()).hexdigest()[:12]


class RealImages(NamedTuple):
    """The images of a set that take part.

    Attributes:
        dataset: the set.
        rows: int64 (N,) or, of a stacked set, (N, S): which images of it.
    """

    dataset: Dataset
    rows: np.ndarray

    def labels(self) -> np.ndarray | None:
        """Return the class of each image, int64 (N,), or None."""
        labels = self.dataset.labels
        if labels is None:
            return None
        return labels[self.rows] if self.dataset.stacked == 1 else stack_labels(labels[self.rows])

    def batches(self, size: int) -> Iterator[np.ndarray]:
        """Yield the images, uint8 (up to ``size``, H, W, C)."""
        for start in range(0, len(self.rows), size):
            rows, images = self.rows[start : start + size], self.dataset.images
            if self.dataset.stacked == 1:
                yield images[rows]
            else:
                yield np.concatenate([images[column] for column in rows.T], -1)


def available(dataset: Dataset) -> int:
    """Return how many different images a set has."""
    return len(dataset.images) ** dataset.stacked


def choose(dataset: Dataset, count: int) -> RealImages:
    """Choose ``count`` images of a set: always the same ones, in the order of the set."""
    random = generator(REAL_SEED, 0, Stream.REAL_IMAGES)
    if dataset.stacked > 1:
        return RealImages(dataset, random.integers(len(dataset.images), size=(count, dataset.stacked)))
    return RealImages(dataset, np.sort(random.permutation(len(dataset.images))[:count]))


class Evaluator:
    """Judges the generators of one run. Real images are found, and their features computed, once.

    Args:
        config: the run, its channels known; of a LAPGAN that of the highest level that is made.
        settings: what is compared.
        fingerprint: of the run's training images; None where that is not to be compared.
        progress: whether a progress bar may be shown.

    Raises:
        UserError: the numbers, the real images or the networks that were asked for are not there.
    """

    def __init__(
        self, config: Config, settings: EvaluationSettings, fingerprint: str | None = None, progress: bool = True
    ) -> None:
        settings.check()
        self.config, self.settings, self._progress = config, settings, progress
        self.networks = find_networks(settings.features or default_networks(config.execution.data))
        # Before the images, which may have to be decoded.
        self._weights = [load_weights(each, settings.weights_file(each.name)) for each in self.networks]
        training, held_out = find_real_images(config, settings.real)
        if fingerprint is not None and training.fingerprint != fingerprint:
            found = f"other images in {config.execution.data} than those that the run was trained on"
            raise unexpected("data", found, "the same, or --data for where they are now")
        count = self._count(training, held_out)
        self.training, self.held_out = choose(training, count), choose(held_out, count)
        judged_by_training = settings.real == TRAINING
        self.reference = self.training if judged_by_training else self.held_out
        self.labels = self._labels() if config.data.class_conditional else None
        self._real: dict[str, tuple[FeatureSet, FeatureSet, dict[str, float]]] = {}

    def _count(self, training: Dataset, held_out: Dataset) -> int:
        """Return the number of images N of each set."""
        asked, most = self.settings.num_images, min(available(training), available(held_out))
        if asked is None:
            return min(most, STACKED_NUM_IMAGES if training.stacked > 1 else NUM_IMAGES)
        if asked > most:
            found = f"{asked}, with {available(held_out)} held-out and {available(training)} training images"
            raise unexpected("num_images", found, f"at most {most}, as all sets are of one size")
        return asked

    def _labels(self) -> np.ndarray:
        """Return the classes that a class-conditional generator is asked for: those of the real images.

        Raises:
            UserError: they have no labels, or those of other classes.
        """
        labels, classes = self.reference.labels(), len(self.reference.dataset.class_names)
        name = self.reference.dataset.name
        if labels is None:
            raise unexpected("real", f"no labels in {name}", "labels, as the generator is class-conditional")
        if classes > self.config.num_classes:
            raise unexpected("real", f"{classes} classes in {name}", f"the {self.config.num_classes} of the run")
        return labels

    def evaluate(self, generators: Sequence[TrainedGenerator], seed: int | None = None) -> list[Evaluation]:
        """Return the numbers of a generator, or of a LAPGAN's generators together, by each network.

        Args:
            generators: see ``sample.generate_images``.
            seed: of the latents, where it is not that of the settings.
        """
        backend = generators[-1].backend
        return [
            self._evaluate(network, tensors, sha256, generators, backend, self.settings.seed if seed is None else seed)
            for network, (tensors, sha256) in zip(self.networks, self._weights, strict=True)
        ]

    def _evaluate(
        self,
        network: FeatureNetwork,
        tensors: dict[str, np.ndarray],
        sha256: str,
        generators: Sequence[TrainedGenerator],
        backend: Backend,
        seed: int,
    ) -> Evaluation:
        """Return the numbers by one network."""
        protocol = self.protocol(network, sha256)
        clock = _Clock()
        extract = backend.feature_extractor(network.name, tensors)
        training, held_out, floors = self._real_sets(network, extract, protocol)
        inputs = self.inputs([each.backend.config for each in generators], seed)
        images = clock.timed("sampling", generate_images(generators, inputs, self.settings.ema))
        made = self._features(network, extract, images, clock, "generated images")
        begun = perf_counter()
        reference = training if self.settings.real == TRAINING else held_out
        values = scores(made, reference, training, self._modes(network))
        seconds = {**clock.seconds, "statistics": perf_counter() - begun}
        return Evaluation(network.name, protocol, values, floors, seconds)

    def inputs(self, configs: Sequence[Config], seed: int) -> list[Inputs]:
        """Return what the images are made from: image i from the seed, i and its class alone."""
        count = len(self.reference.rows)
        return [
            Inputs(
                sample_latents(seed, count, config.networks.latent_size, level, Stream.EVALUATION),
                self.labels if config.data.class_conditional else None,
            )
            for level, config in enumerate(configs)
        ]

    def protocols(self) -> list[dict[str, Any]]:
        """Return the protocol of each network."""
        return [self.protocol(each, sha256) for each, (_, sha256) in zip(self.networks, self._weights, strict=True)]

    def protocol(self, network: FeatureNetwork, sha256: str) -> dict[str, Any]:
        """Return everything that must be equal where two numbers are compared."""
        count, size = len(self.reference.rows), self._feature_size(network)
        return {
            "version": PROTOCOL_VERSION,
            "network": network.name,
            "network_sha256": sha256,
            "layer": network.layer,
            "features": size,
            "input_size": network.size,
            "resize": network.resize,
            "scaling": network.scaling,
            "quantisation": "uint8",
            "generated_images": count,
            "real_images": count,
            "real": self.settings.real if self.settings.real in (HELD_OUT, TRAINING) else "other",
            "training_fingerprint": self.training.dataset.fingerprint,
            "held_out_fingerprint": self.held_out.dataset.fingerprint,
            "resolution": self.config.data.resolution,
            "channels": self.config.data.channels,
            "labels": "those of the real images" if self.labels is not None else None,
            "ema": self.settings.ema,
            "covariance": "divided by N - 1",
            "kernel": "(x.y / d + 1)^3, unbiased",
            "kernel_subsets": metrics.KERNEL_SUBSETS,
            "kernel_subset_size": min(metrics.KERNEL_SUBSET_SIZE, count),
            "kernel_seed": metrics.KERNEL_SEED,
            "neighbours_of_precision_and_recall": metrics.RECALL_NEIGHBOURS,
            "neighbours_of_density_and_coverage": metrics.COVERAGE_NEIGHBOURS,
            "confidence": CONFIDENCE if self._modes(network) else None,
        }

    def _feature_size(self, network: FeatureNetwork) -> int:
        """Return the length d of an image's features."""
        return network.features * ((self.config.data.channels or 1) if network.channelwise else 1)

    def _modes(self, network: FeatureNetwork) -> int | None:
        """Return how many modes a network tells apart: the digits of every channel; None where it counts none."""
        return 10 ** (self.config.data.channels or 1) if network.name == "digits" else None

    def _real_sets(
        self, network: FeatureNetwork, extract: FeatureExtractor, protocol: dict[str, Any]
    ) -> tuple[FeatureSet, FeatureSet, dict[str, float]]:
        """Return training images, held-out images and the floors, computed once and then read from the cache.

        The floors put the real images that are not the reference in the place of generated ones. Their distance to the
        nearest training image is that of the held-out ones in any case.
        """
        if network.name not in self._real:
            # Nothing of the generator takes part.
            key = hash_of({name: value for name, value in protocol.items() if name not in ("ema", "labels")})
            path = cache.root() / "evaluation" / f"{key}.safetensors"
            found = _read_sets(path)
            if found is None:
                clock, size = _Clock(), self.settings.batch_size
                training, held_out = (
                    self._features(network, extract, real.batches(size), clock, f"{name} images")
                    for name, real in (("training", self.training), ("held-out", self.held_out))
                )
                pair = (held_out, training) if self.settings.real == TRAINING else (training, held_out)
                floors = scores(*pair, training, self._modes(network), held_out)
                found = training, held_out, floors
                _write_sets(path, *found)
            self._real[network.name] = found
        return self._real[network.name]

    def _features(
        self,
        network: FeatureNetwork,
        extract: FeatureExtractor,
        images: Iterable[np.ndarray],
        clock: "_Clock",
        what: str,
    ) -> FeatureSet:
        """Return what a network makes of as many images as take part; they are never held together."""
        size, channels = self.settings.batch_size, self.config.data.channels or 1
        sets = []
        with tqdm(
            total=len(self.reference.rows),
            desc=f"{network.title}: {what}",
            unit=" images",
            delay=2.0,
            disable=self._quiet,
        ) as bar:
            for batch in batched(images, size):
                begun = perf_counter()
                # The last one is filled up from the first: one shape, so one compilation.
                full = np.resize(batch, (size, *batch.shape[1:]))
                features, logits = extract(prepare(network, full))
                sets.append(_first(join(network, features, logits, channels), len(batch)))
                clock.seconds["features"] += perf_counter() - begun
                bar.update(len(batch))
        return FeatureSet(*(np.concatenate(parts) for parts in zip(*sets, strict=True)))

    @property
    def _quiet(self) -> bool | None:
        """What tqdm's ``disable`` is: None shows a bar in a terminal only."""
        return None if self._progress else True


class _Clock:
    """Adds up where the time goes."""

    def __init__(self) -> None:
        self.seconds = {"sampling": 0.0, "features": 0.0}

    def timed(self, name: str, items: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield items, and add up how long each was waited for."""
        while True:
            begun = perf_counter()
            item = list(islice(items, 1))
            self.seconds[name] += perf_counter() - begun
            if not item:
                return
            yield item[0]


def find_real_images(config: Config, real: str) -> tuple[Dataset, Dataset]:
    """Return a run's training images and real images that it was not trained on.

    Args:
        config: the run.
        real: ``held-out`` and ``training`` for those that the run's data have, or what --data takes.

    Raises:
        UserError: there are none.
    """
    if is_image_conditional(config):
        raise unexpected("run", "an image-conditional generator", "one that makes images from latents, or a LAPGAN")
    resolution, channels, holdout = config.data.resolution, config.data.channels, config.data.holdout
    # First what may be missing.
    if real in (HELD_OUT, TRAINING):
        held_out = data.load_held_out(config.execution.data, resolution, channels, holdout)
    else:
        held_out = data.load(real, resolution, channels)
    return data.load(config.execution.data, resolution, channels, holdout), held_out


def scores(
    judged: FeatureSet,
    reference: FeatureSet,
    training: FeatureSet,
    modes: int | None,
    neighbours_of: FeatureSet | None = None,
) -> dict[str, float]:
    """Return all numbers of one set against a reference, by name.

    Args:
        judged: the images that are judged.
        reference: the real images that they are compared with.
        training: training images; a generator that copies lies near them.
        modes: how many classes are counted; None for none.
        neighbours_of: the images whose distance to the training images is taken, where it is not the judged ones.
    """
    first, second = judged.features, reference.features
    size = min(metrics.KERNEL_SUBSET_SIZE, len(first))
    subsets = metrics.kernel_distances_of_subsets(first, second, size=size)
    values = {
        "frechet_distance": metrics.frechet_distance_between(first, second),
        "kernel_distance": metrics.kernel_distance(first, second),
        "kernel_distance_subsets": float(subsets.mean()),
        "kernel_distance_deviation": float(subsets.std()),
        **metrics.coverage(first, second)._asdict(),
        "nearest_training": float(
            np.median(metrics.nearest_distances((neighbours_of or judged).features, training.features))
        ),
    }
    if modes is not None:
        counted, sure = metrics.modes(judged.classes, modes), judged.confidence > CONFIDENCE
        values |= {
            "modes": counted.found,
            "mode_divergence": counted.divergence,
            "confident_share": float(sure.mean()),
            "confident_modes": len(np.unique(judged.classes[sure])),
        }
    return values


def _first(made: FeatureSet, count: int) -> FeatureSet:
    """Return the first rows of a set."""
    return FeatureSet(*(part[:count] for part in made))


def _read_sets(path: Any) -> tuple[FeatureSet, FeatureSet, dict[str, float]] | None:
    """Return the sets and floors that were written before; None where there are none, or the file is damaged."""
    try:
        with safe_open(path, framework="numpy") as file:
            training, held_out = (
                FeatureSet(*(file.get_tensor(f"{name}.{part}") for part in FeatureSet._fields))
                for name in (TRAINING, HELD_OUT)
            )
            return training, held_out, json.loads(file.metadata()["floors"])
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return None


def _write_sets(path: Any, training: FeatureSet, held_out: FeatureSet, floors: dict[str, float]) -> None:
    """Write sets and floors for the next time; a full disk costs only that they are computed again."""
    tensors = {
        f"{name}.{part}": np.ascontiguousarray(value)
        for name, each in ((TRAINING, training), (HELD_OUT, held_out))
        for part, value in each._asdict().items()
    }
    try:
        with replacing(path) as temporary:
            save_file(tensors, temporary, metadata={"floors": json.dumps(floors)})
    except (OSError, SafetensorError):
        return
