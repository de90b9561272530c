"""How good the images of a generator are: compared with real images, and real images with each other.

A number of this kind means something only beside its protocol (which images, how many, which network, how resized) and
beside its floor: what real images score when they take the place of the generated ones. Training and the command
``evaluate`` call the same ``Evaluator``.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from gan_shared import metrics, real_features
from gan_shared.backend import Backend, FeatureExtractor, Inputs
from gan_shared.config import Config
from gan_shared.data import Dataset
from gan_shared.draws import Stream, sample_latents
from gan_shared.errors import is_whole, unexpected
from gan_shared.evaluation_scores import CONFIDENCE, NEAREST_QUANTILE, scores, subset_size
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
from gan_shared.latents import MAX_IMAGES, LatentSource, check_request, truncated
from gan_shared.progress_bar import progress_bar
from gan_shared.real_features import RealFeatures
from gan_shared.real_images import HELD_OUT, TRAINING, RealSets, available, choose, find_real_images
from gan_shared.sample import TrainedGenerator, generate_images

# Generated images where no number is given: of StackedMNIST what its published numbers are counted from (Srivastava et
# al. 2017), of others what most are.
NUM_IMAGES, STACKED_NUM_IMAGES = 10_000, 26_000
# Fewer have no neighbour of the order that coverage asks for.
LEAST_IMAGES = metrics.COVERAGE_NEIGHBOURS + 1
# Raised whenever a number would come out otherwise.
PROTOCOL_VERSION = 1
# What a protocol says of the generator; the real images' numbers do not depend on it.
OF_GENERATOR = ("ema", "labels", "truncation")
# On a CPU a larger one is slower: the maps leave its caches.
FEATURE_BATCH = 16


@dataclass(frozen=True)
class EvaluationSettings:
    """What is compared and how.

    Attributes:
        num_images: generated images N, and real ones; None for the usual number, or as many real ones as there are.
        real: ``held-out``, ``training``, or what --data takes: the real images that generated ones are compared with.
        features: names of the networks they are compared by; none for the usual ones.
        seed: what the latents follow from.
        batch_size: images that a network is given at once; changes nothing but the time.
        ema: whether the averaged generator is evaluated.
        truncation: the largest number in a latent; see ``latents.truncated``. None for latents as in training.
        inception_weights: file of Inception's weights.
        vgg_weights: file of VGG16's weights.
    """

    num_images: int | None = None
    real: str = HELD_OUT
    features: tuple[str, ...] = ()
    seed: int = 0
    batch_size: int = FEATURE_BATCH
    ema: bool = True
    truncation: float | None = None
    inception_weights: str | None = None
    vgg_weights: str | None = None

    def check(self) -> None:
        """Refuse numbers that nothing follows from.

        Raises:
            UserError: naming what was found and expected.
        """
        latents = LatentSource(self.seed, truncation=self.truncation)
        check_request(LEAST_IMAGES if self.num_images is None else self.num_images, latents)
        if self.num_images is not None and self.num_images < LEAST_IMAGES:
            raise unexpected("num_images", self.num_images, f"a number from {LEAST_IMAGES} to {MAX_IMAGES}")
        if self.truncation == float("inf"):
            raise unexpected("truncation", self.truncation, "a finite number, or none for latents as in training")
        if not is_whole(self.batch_size) or not 1 <= self.batch_size <= MAX_IMAGES:
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
        floors: the same of real images in its place; empty where there are none that could take it.
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


class Evaluator:
    """Evaluates the generators of one run. Real images are found, and their features computed, once.

    Args:
        config: the run, its channels known; of a LAPGAN that of the highest level that is made.
        settings: what is compared.
        fingerprint: of the run's training images; None where the run does not know them.
        most: the most images of each set, where ``settings`` has no number.

    Raises:
        UserError: the numbers, the real images or the networks that were asked for are not there.
    """

    def __init__(
        self,
        config: Config,
        settings: EvaluationSettings,
        fingerprint: str | None = None,
        most: int | None = None,
    ) -> None:
        settings.check()
        self.config, self.settings = config, settings
        names = settings.features or default_networks(config.execution.data, config.data.channels)
        self.networks = find_networks(names)
        # Before the images, which may have to be decoded.
        self._weights = [load_weights(each, settings.weights_file(each.name)) for each in self.networks]
        training, reals = find_real_images(config, settings.real, fingerprint)
        self.num_images, self.real = self._choose(training, reals, most)
        self.labels = self._labels() if config.data.class_conditional else None
        self.real_features: dict[str, RealFeatures] = {}

    def _choose(self, training: Dataset | None, reals: Dataset | None, most: int | None) -> tuple[int, RealSets]:
        """Return the number of generated images, and the real ones.

        Training images are a reference as a whole, as published distances have it; a stacked set has no whole.
        """
        asked, block = self.settings.num_images, self.config.data_resolution // self.config.data.resolution
        compared = [each for each in (training, reals) if each is not None]
        there = min(map(available, compared))
        usual = STACKED_NUM_IMAGES if compared[0].stacked > 1 else NUM_IMAGES
        if self.settings.real == TRAINING:
            assert training is not None
            count = asked or min(most or usual, usual)
            whole = choose(training, count if training.stacked > 1 else len(training.images), block)
            floor = None if reals is None else choose(reals, min(count, available(reals)), block)
            return count, RealSets(whole, floor, whole)
        if asked is not None and asked > there:
            sizes = " and ".join(f"{available(each)} of {each.name}" for each in compared)
            raise unexpected("num_images", f"{asked}, with {sizes}", f"at most {there}, as all sets are of one size")
        count = asked or min(there, most or usual)
        if count < LEAST_IMAGES:
            raise unexpected("real", f"{count} images", f"{LEAST_IMAGES} or more")
        assert reals is not None
        other = None if training is None else choose(training, count, block)
        return count, RealSets(choose(reals, count, block), other, other)

    def _labels(self) -> np.ndarray:
        """Return the classes that a class-conditional generator is asked for: those of the real images, int64 (N,).

        Raises:
            UserError: they have no labels, or those of other classes.
        """
        reference = self.real.reference
        labels, classes, name = reference.labels(), len(reference.dataset.class_names), reference.dataset.name
        if labels is None:
            raise unexpected("real", f"no labels in {name}", "labels, as the generator is class-conditional")
        if classes > self.config.num_classes:
            raise unexpected("real", f"{classes} classes in {name}", f"the {self.config.num_classes} of the run")
        return np.resize(labels, self.num_images)

    def evaluate(self, generators: Sequence[TrainedGenerator]) -> list[Evaluation]:
        """Return the numbers of a generator, or of a LAPGAN's generators together, by each network.

        Args:
            generators: see ``sample.generate_images``.
        """
        return [
            self._evaluate(network, tensors, protocol, generators)
            for network, (tensors, _), protocol in zip(self.networks, self._weights, self.protocols(), strict=True)
        ]

    def _evaluate(
        self,
        network: FeatureNetwork,
        tensors: dict[str, np.ndarray],
        protocol: dict[str, Any],
        generators: Sequence[TrainedGenerator],
    ) -> Evaluation:
        """Return the numbers by one network."""
        backend: Backend = generators[-1].backend
        extract, clock = backend.feature_extractor(network.name, tensors), _Clock()
        real = self._real_features(network, extract, protocol)
        inputs = self.inputs([each.backend.config for each in generators])
        images = clock.timed("sampling", generate_images(generators, inputs, self.settings.ema))
        made = self._features(network, extract, images, self.num_images, clock, "generated images")
        begun = perf_counter()
        values = scores(made, real.reference, self._training(real), self._modes(network))
        floors = real.floors
        if real.other is not None and floors.keys() != values.keys():  # the cache is older than a number
            floors = self._floors(network, real)
        seconds = {**clock.seconds, "statistics": perf_counter() - begun}
        return Evaluation(network.name, protocol, values, floors, seconds)

    def inputs(self, configs: Sequence[Config]) -> list[Inputs]:
        """Return what the images are made from: image i from the seed, i and its class alone."""
        return [
            Inputs(
                self._latents(config, level),
                self.labels if config.data.class_conditional else None,
            )
            for level, config in enumerate(configs)
        ]

    def _latents(self, config: Config, level: int) -> np.ndarray:
        """Return the latents of one generator, float32 (N, Z)."""
        seed, size = self.settings.seed, config.networks.latent_size
        drawn = sample_latents(seed, self.num_images, size, level, Stream.EVALUATION)
        return truncated(drawn, self.settings.truncation, config.categorical_latents)

    def protocols(self) -> list[dict[str, Any]]:
        """Return of each network everything that must be equal where two numbers are compared."""
        return [self._protocol(each, sha256) for each, (_, sha256) in zip(self.networks, self._weights, strict=True)]

    def _protocol(self, network: FeatureNetwork, sha256: str) -> dict[str, Any]:
        """Return the protocol of one network."""
        reference, other, _ = self.real
        return {
            "version": PROTOCOL_VERSION,
            "network": network.name,
            "network_sha256": sha256,
            "layer": network.layer,
            "features": network.features * ((self.config.data.channels or 1) if network.channelwise else 1),
            "input_size": network.size,
            "resize": network.resize,
            "scaling": network.scaling,
            "quantisation": "uint8",
            "generated_images": self.num_images,
            "real_images": len(reference.rows),
            "real": self.settings.real if self.settings.real in (HELD_OUT, TRAINING) else "other",
            "real_fingerprint": reference.dataset.fingerprint,
            "floor_images": None if other is None else len(other.rows),
            "floor_fingerprint": None if other is None else other.dataset.fingerprint,
            "resolution": self.config.data.resolution,
            "channels": self.config.data.channels,
            "labels": "those of the real images" if self.labels is not None else None,
            "ema": self.settings.ema,
            "covariance": "divided by N - 1",
            "kernel": "(x.y / d + 1)^3, unbiased",
            "kernel_subsets": metrics.KERNEL_SUBSETS,
            "kernel_subset_size": subset_size(self.num_images),
            "kernel_seed": metrics.KERNEL_SEED,
            "neighbours_of_precision_and_recall": metrics.RECALL_NEIGHBOURS,
            "neighbours_of_density_and_coverage": metrics.COVERAGE_NEIGHBOURS,
            "nearest_quantile": NEAREST_QUANTILE,
            "confidence": CONFIDENCE if self._modes(network) else None,
            # Numbers of untruncated latents keep the protocol that they had before there was a choice.
            **({} if self.settings.truncation is None else {"truncation": float(self.settings.truncation)}),
        }

    def _modes(self, network: FeatureNetwork) -> int | None:
        """Return how many modes a network tells apart: the digits of every channel; None where it counts none."""
        return 10 ** (self.config.data.channels or 1) if network.name == "digits" else None

    def _real_features(
        self, network: FeatureNetwork, extract: FeatureExtractor, protocol: dict[str, Any]
    ) -> RealFeatures:
        """Return the features of the real images and the floors, computed once and then read from the cache."""
        if network.name not in self.real_features:
            # Nothing of the generator takes part.
            key = hash_of({name: value for name, value in protocol.items() if name not in OF_GENERATOR})
            found = real_features.read(key)
            if found is None:
                clock, size = _Clock(), self.settings.batch_size
                reference, other = (
                    None
                    if real is None
                    else self._features(
                        network, extract, real.batches(size), len(real.rows), clock, f"images of {real.dataset.name}"
                    )
                    for real in self.real[:2]
                )
                assert reference is not None
                found = RealFeatures(reference, other, {})
                found = found._replace(floors=self._floors(network, found))
                real_features.write(key, found)
            self.real_features[network.name] = found
        return self.real_features[network.name]

    def _training(self, real: RealFeatures) -> FeatureSet | None:
        """Return which of the real sets are training images."""
        if self.real.training is None:
            return None
        return real.reference if self.real.training is self.real.reference else real.other

    def _floors(self, network: FeatureNetwork, real: RealFeatures) -> dict[str, float]:
        """Return what the other real images score in the place of generated ones.

        Their distance to the nearest training image is that of the set which was not trained on.
        """
        if real.other is None:
            return {}
        held_out = real.other if self.real.training is self.real.reference else real.reference
        return scores(real.other, real.reference, self._training(real), self._modes(network), held_out)

    def _features(
        self,
        network: FeatureNetwork,
        extract: FeatureExtractor,
        images: Iterable[np.ndarray],
        count: int,
        clock: "_Clock",
        what: str,
    ) -> FeatureSet:
        """Return what a network makes of ``count`` images; they are never held together."""
        size, channels = self.settings.batch_size, self.config.data.channels or 1
        result: FeatureSet | None = None
        done = 0
        # Below the bar of a run that trains, where there is one, it does not stay.
        with progress_bar(total=count, desc=f"{network.title}: {what}", unit=" images", leave=None) as bar:
            for batch in batched(images, size):
                begun = perf_counter()
                # The last one is filled up from the first: one shape, so one compilation.
                features, logits = extract(prepare(network, np.resize(batch, (size, *batch.shape[1:]))))
                found = join(network, features, logits, channels)
                if result is None:
                    result = FeatureSet(*(np.empty((count, *part.shape[1:]), part.dtype) for part in found))
                for whole, part in zip(result, found, strict=True):
                    whole[done : done + len(batch)] = part[: len(batch)]
                clock.seconds["features"] += perf_counter() - begun
                done += len(batch)
                bar.update(len(batch))
        assert result is not None, "there are no images"
        return result


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
