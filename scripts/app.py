"""Make images in a browser: ``python scripts/app.py --help``. Installs what it needs into ``.venv``, the first time."""

import sys

import environment

if __name__ == "__main__":
    python = environment.ensure("torch", "jax", "app")
    sys.exit(environment.run([str(python), "-m", "gan_app.server", *sys.argv[1:]]))
