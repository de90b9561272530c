"""Bring a VGG16's published weights into the file that ``--vgg-weights`` names: ``python scripts/vgg_weights.py``.

They are torchvision's IMAGENET1K_V1, fetched and verified by torchvision (528 MB), or a state dict that is there
already, which is read without unpickling anything but tensors. Both backends read the file.
"""

import argparse
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import environment

NEEDED = ("gan_shared", "torch")


def main(argv: list[str] | None = None) -> int:
    """Enter an environment that has torchvision, write the file, return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state-dict", type=Path, help="torchvision's vgg16-397923af.pth, where it is there already")
    parser.add_argument("--out", type=Path, help="file to write (default: vgg16.safetensors in the cache folder)")
    arguments = parser.parse_args(argv)
    needed = NEEDED if arguments.state_dict else (*NEEDED, "torchvision")
    if not all(find_spec(name) for name in needed):
        python = environment.ensure("torch", "vgg")
        return environment.run([str(python), __file__, *(sys.argv[1:] if argv is None else argv)])
    from gan_shared.errors import UserError, one_line

    try:
        written = convert(arguments.state_dict, arguments.out)
    except (UserError, OSError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    print(f"wrote {written}; train with: python -m gan_torch.train vgg-inversion --data FOLDER --vgg-weights {written}")
    return 0


def convert(state_dict: Path | None, out: Path | None) -> Path:
    """Write a VGG16's tensors as safetensors, by torchvision's names, and return the file.

    Args:
        state_dict: the file of a state dict; torchvision fetches one when not given.
        out: the file to write; ``vgg16.safetensors`` in the cache folder when not given.

    Raises:
        UserError: there are no weights to be had, or they are not a VGG16's.
    """
    from safetensors.numpy import save_file

    from gan_shared import vgg16
    from gan_shared.atomic import replacing
    from gan_shared.data import cache

    found = fetch() if state_dict is None else read(state_dict)
    tensors = {name: value.float().numpy() for name, value in found.items() if name in vgg16.shapes("fc6")}
    vgg16.check(tensors, vgg16.shapes("fc6"), str(state_dict or "torchvision"))
    target = out or cache.root() / "vgg16.safetensors"
    with replacing(target) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})
    return target


def fetch() -> Mapping[str, Any]:
    """Let torchvision fetch and verify its state dict.

    Raises:
        UserError: it cannot be fetched.
    """
    from torchvision.models import VGG16_Weights

    from gan_shared.errors import unexpected

    weights = VGG16_Weights.IMAGENET1K_V1
    try:
        return weights.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: another hash
        expected = "a network, or --state-dict FILE with a copy brought from elsewhere"
        raise unexpected("vgg16", f"no weights at {weights.url} ({error})", expected) from error


def read(path: Path) -> Mapping[str, Any]:
    """Read a state dict; of the pickle in it nothing but tensors is taken.

    Raises:
        UserError: there is none.
    """
    import torch

    from gan_shared.errors import unexpected

    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged or hostile file trips is the file's fault
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise unexpected("state_dict", f"{path}, which cannot be read ({reason})", "a state dict") from error
    if not isinstance(found, Mapping) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise unexpected("state_dict", f"{path}, which holds something else", "a state dict of torchvision's vgg16")
    return found


if __name__ == "__main__":
    sys.exit(main())
