"""The weights of the networks that evaluation takes features from: from a published state dict to a file that is read.

Batch normalisations are folded into the convolutions before them, so that no backend computes any. The files are
written by ``scripts/feature_weights.py``.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from gan_shared.atomic import replacing
from gan_shared.data import cache
from gan_shared.errors import UserError, unexpected
from gan_shared.feature_plans import EPSILON, FEATURE_PLANS, published_shapes, shapes

PARTS = ("weight", "bias")
# Weights that another script writes, below the cache folder.
FILES = {"vgg16": "vgg16.safetensors"}
SCRIPTS = {"vgg16": "vgg_weights.py"}
# Of networks whose published weights exist in one version: the file that ``write`` makes of them.
SHA256 = {
    "efficientnet-lite0": "0123adc55b8158f59e6fba443569d541b14b68e964619362014330d7517d142d",
    "digits": "e0e51139dbff2f1c28060c6f1215b03d24ad242021c9aed47a05375648a25b5c",
}


def default_path(network: str) -> Path:
    """Return where a network's weights lie when no file is named: here, or where its script puts them in the cache."""
    if network == "digits":
        return Path(__file__).parent / "weights" / "digits.safetensors"
    return cache.root() / FILES.get(network, f"features/{network}.safetensors")


def fold(
    state: Mapping[str, np.ndarray], network: str, source: str, dtype: DTypeLike = np.float32
) -> dict[str, np.ndarray]:
    """Fold the batch normalisations of a published network into its convolutions, in float64.

    With scale s = weight / sqrt(running_var + epsilon), a kernel is multiplied by s and its bias is
    bias - s running_mean.

    Args:
        state: the network's tensors by their published names; ``num_batches_tracked`` is ignored, and a last layer
            without a bias has one of zeros.
        network: a name of ``FEATURE_PLANS``.
        source: where the tensors come from, for errors.
        dtype: of the result.

    Returns:
        The tensors by the names of ``feature_plans.shapes``.

    Raises:
        UserError: naming a tensor that is missing, too many, of another shape, or not finite.
    """
    plan = FEATURE_PLANS[network]
    *_, classifier = plan.linears
    bias = f"{classifier.name}.bias"
    given = {name: value for name, value in state.items() if not name.endswith(".num_batches_tracked")}
    given.setdefault(bias, np.zeros(classifier.outputs))
    _check(given, published_shapes(network), network, source)
    double = {name: np.asarray(value, np.float64) for name, value in given.items()}
    folded = {}
    with np.errstate(all="ignore"):  # what comes of a negative variance or of huge numbers is refused below
        for each in plan.convolutions:
            norm, norm_bias, mean, variance = (
                double[f"{each.norm}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")
            )
            scale = norm / np.sqrt(variance + EPSILON)
            folded[f"{each.name}.weight"] = double[f"{each.name}.weight"] * scale[:, None, None, None]
            folded[f"{each.name}.bias"] = norm_bias - scale * mean
        folded |= {f"{each.name}.{part}": double[f"{each.name}.{part}"] for each in plan.linears for part in PARTS}
        result = {name: value.astype(dtype) for name, value in folded.items()}
    _check(result, shapes(network), network, f"{source}, folded")
    return result


def write(tensors: Mapping[str, np.ndarray], network: str, target: Path) -> None:
    """Write a network's folded tensors as a safetensors file, which is complete and accepted by ``load`` or not there.

    The same tensors give the same bytes: safetensors orders them by name.

    Raises:
        UserError: ``load`` refuses what was written.
    """
    with replacing(target) as temporary:
        save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, temporary)
        # safetensors makes its files for their owner alone; these are shared like any other.
        temporary.chmod(target.parent.stat().st_mode & 0o666)
        load(temporary, network)


def load(path: Path, network: str) -> tuple[dict[str, np.ndarray], str]:
    """Read a network's folded weights.

    Args:
        path: the file that ``scripts/feature_weights.py`` writes.
        network: a name of ``FEATURE_PLANS``.

    Returns:
        The tensors by the names of ``feature_plans.shapes``, float32 in torch's layout, and the file's sha256.

    Raises:
        UserError: there is no such file, or it holds something else.
    """
    if not path.is_file():
        raise _refused(f"no file {path}", network)
    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        tensors = load_file(path)
    except (SafetensorError, OSError, TypeError, AttributeError) as error:  # the last two: a type that NumPy has not
        raise _refused(f"{path}, which cannot be read ({error})", network) from error
    _check(tensors, shapes(network), network, str(path))
    for name, value in tensors.items():
        if value.dtype != np.float32:
            raise unexpected(network, f"{name} of {value.dtype} in {path}", "float32")
    if sha256 != SHA256.get(network, sha256):
        raise _refused(f"{path} with sha256 {sha256}", network, f"sha256 {SHA256[network]}, ")
    return tensors, sha256


def _check(tensors: Mapping[str, np.ndarray], wanted: Mapping[str, tuple[int, ...]], network: str, source: str) -> None:
    """Refuse what is not this network, which has neither fewer tensors nor more.

    EfficientNet-B0 has all tensors of EfficientNet-Lite0 in the same shapes, and others.
    """
    for name, shape in wanted.items():
        if name not in tensors:
            raise unexpected(network, f"no {name} in {source}", f"the tensors of {network}")
        found = tensors[name]
        if found.shape != shape:
            raise unexpected(network, f"{name} of shape {found.shape} in {source}", f"{shape} for {network}")
        if not np.isfinite(found).all():
            raise unexpected(network, f"{name} with values that are not finite in {source}", "finite weights")
    for name in tensors:
        if name not in wanted:
            raise unexpected(network, f"{name} in {source}", f"the tensors of {network} alone")


def _refused(found: str, network: str, expected: str = "") -> UserError:
    """Build the error of a file that the script would write anew."""
    script = SCRIPTS.get(network, f"feature_weights.py {network}")
    how = (
        "the file that comes with twin-gan" if network == "digits" else f"the file that python scripts/{script} writes"
    )
    return unexpected(network, found, expected + how)
