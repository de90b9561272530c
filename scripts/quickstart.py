"""One GAN, two frameworks, a few minutes: ``python scripts/quickstart.py``.

Trains a DCGAN on 5,000 real digits in PyTorch, hands the checkpoint to JAX, checks that both draw the same
images from it, and lets JAX train on. Creates and fills .venv when needed.
"""

import argparse
import sys
from pathlib import Path

import environment

# Half the channels of the dcgan preset: a third of the arithmetic, and digits within minutes on two cores.
WIDTH = 0.5


def main() -> int:
    """Enter the environment, run the tour, return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch-steps", type=int, default=2000, help="steps in PyTorch (default: %(default)s)")
    parser.add_argument("--jax-steps", type=int, default=800, help="further steps in JAX (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="new folder for all results (default: runs/quickstart-N)")
    arguments = parser.parse_args()
    if not environment.inside():
        python = environment.ensure("torch", "jax")
        return environment.run([str(python), __file__, *sys.argv[1:]])
    out = arguments.out or next_free(environment.ROOT / "runs")
    return tour(out, arguments.torch_steps, arguments.jax_steps)


def next_free(folder: Path) -> Path:
    """Return the first ``quickstart-N`` in ``folder`` that does not exist."""
    number = 1
    while (folder / f"quickstart-{number}").exists():
        number += 1
    return folder / f"quickstart-{number}"


def tour(out: Path, torch_steps: int, jax_steps: int) -> int:
    """Train in PyTorch, compare, train on in JAX, and print where the pictures are."""
    import numpy as np

    run, total = out / "run", torch_steps + jax_steps
    print(f"1/3 PyTorch trains {torch_steps} steps", flush=True)
    call("gan_torch.train", "--width", WIDTH, "--run-dir", run, "--steps", torch_steps)
    print("2/3 both draw from PyTorch's checkpoint", flush=True)
    drawn = {}
    for title, package in (("PyTorch", "gan_torch"), ("JAX", "gan_jax")):
        call(f"{package}.sample", run, "--out", out / f"{package}.npz", "--num-images", 64)
        drawn[title] = np.load(out / f"{package}.npz")["images"]
    levels = int(np.abs(drawn["PyTorch"].astype(int) - drawn["JAX"]).max())
    print(f"largest difference of any pixel: {levels} of 255 grey levels", flush=True)
    compare(out / "both.png", drawn, torch_steps, levels)
    if levels > 1:
        print("error: the backends draw different images from one checkpoint", file=sys.stderr)
        return 1
    print(f"3/3 JAX trains on to step {total}", flush=True)
    call("gan_jax.train", "--run-dir", run, "--resume", "--steps", total)
    plot_losses(out / "losses.png", run, torch_steps)
    last = run / "samples" / f"step-{total:07d}.png"
    print("\nlook at:")
    for what, path in (
        ("samples, PyTorch", run / "samples" / f"step-{torch_steps:07d}.png"),
        ("samples, JAX after it", last),
        ("both from one checkpoint", out / "both.png"),
        ("losses", out / "losses.png"),
    ):
        print(f"  {what:<26}{path}")
    return 0


def call(module: str, *arguments: object) -> None:
    """Run ``python -m module`` with its progress bar in this terminal; stop the tour where it fails."""
    status = environment.run([sys.executable, "-m", module, *map(str, arguments)])
    if status:
        sys.exit(status)


def compare(path: Path, drawn: dict, step: int, levels: int) -> None:
    """Draw the images of both backends side by side."""
    from matplotlib.figure import Figure

    from gan_shared.pictures import grid

    figure = Figure(figsize=(10, 5.6), layout="constrained")
    for axes, (title, images) in zip(figure.subplots(1, 2), drawn.items(), strict=True):
        axes.imshow(grid(images).squeeze(), cmap="gray", vmin=0, vmax=255)
        axes.set_title(title)
        axes.axis("off")
    found = f"pixels differ by up to {levels} of 255" if levels else "every pixel is the same"
    figure.suptitle(f"One checkpoint at step {step}, drawn by both: {found}")
    figure.savefig(path, dpi=120)


def plot_losses(path: Path, run: Path, handed_over: int) -> None:
    """Plot both losses over the steps, and where JAX took over."""
    from matplotlib.figure import Figure

    from gan_shared.runlog import read_scalars

    lines = read_scalars(run)
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for name in ("discriminator_loss", "generator_loss"):
        axes.plot([line["step"] for line in lines], [line[name] for line in lines], label=name.replace("_", " "))
    axes.axvline(handed_over, color="black", linestyle=":", label="PyTorch hands over to JAX")
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    sys.exit(main())
