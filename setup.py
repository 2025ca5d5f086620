"""The package: `pip install .`; `.[data,figures]` adds what the demo needs."""

import pathlib
import re

import setuptools

ROOT = pathlib.Path(__file__).parent
FACE = (ROOT / "weightspace/__init__.py").read_text()
VERSION = re.search(r'^__version__ = "(.+)"$', FACE, re.M)
assert VERSION is not None
# Experiments and configs lie in a wheel under the package's own name, so that
# it takes no other name of the environment (weightspace/scripts runs them).
BESIDE = {
  "weightspace.scripts.experiments": "experiments",
  "weightspace.scripts.configs": "configs",
}
LIBRARY = setuptools.find_packages(include=["weightspace", "weightspace.*"])
SCRIPTS = [
  f"weightspace.scripts.{name}"
  for name in setuptools.find_packages(
    include=["experiments", "experiments.*", "configs", "configs.*"]
  )
]

EXTRAS = {
  "data": ["scikit-learn>=1.5"],
  "figures": ["matplotlib>=3.9"],
  # Launchers of sweeps (experiments/sweeping/launchers/).
  "ray": ["ray>=2.60"],
  "slurm": ["submitit>=1.5"],
  # Trackers of runs (experiments/run/trackers.py).
  "tensorboard": ["tensorboardX>=2.6"],
  "wandb": ["wandb>=0.20"],
  "dev": [
    "hypothesis>=6.100",
    "import-linter>=2.3",
    "mypy>=1.15",
    "pytest>=8",
    "pytest-xdist>=3.6",
    "ruff>=0.9",
  ],
  # Other tools that tests run or compare with, at these versions.
  "engines": [
    "mergekit==0.1.5",
    "pandas>=2",
    "peft>=0.17",
    "pyarrow>=15",
    "qwix==0.1.8",
    "ray==2.60.0",
    "submitit==1.5.4",
    "tensorboardX==2.6.5",
    "torch==2.13.0",
    "transformers>=5",
    "wandb>=0.20",
  ],
}

setuptools.setup(
  name="weightspace",
  version=VERSION[1],
  description="Experiments in weight space as pure pytree transforms in JAX.",
  long_description=(ROOT / "README.md").read_text(),
  long_description_content_type="text/markdown",
  author="The weightspace developers",
  license="Apache-2.0",
  license_files=["LICENSE"],
  keywords=[
    "jax",
    "model merging",
    "model soups",
    "permutation matching",
    "loss landscape",
    "weight averaging",
  ],
  classifiers=[
    "Development Status :: 4 - Beta",
    "Intended Audience :: Science/Research",
    "Operating System :: POSIX",
    "Programming Language :: Python :: 3",
    "Programming Language :: Python :: 3.11",
    "Programming Language :: Python :: 3.12",
    "Programming Language :: Python :: 3.13",
    "Topic :: Scientific/Engineering :: Artificial Intelligence",
    "Typing :: Typed",
  ],
  python_requires=">=3.11",
  packages=[*LIBRARY, *SCRIPTS],
  package_dir=BESIDE,
  package_data={
    "weightspace": ["py.typed"],
    "weightspace.scripts.experiments": ["**/*.txt", "**/*.js"],
  },
  install_requires=[
    "absl-py>=2.3",
    "flax>=0.12.8",
    "jax>=0.10.2",
    "ml_collections>=1.1",
    "numpy>=2",
    "optax>=0.2.8",
    "orbax-checkpoint>=0.12.8",
    "pyyaml>=6",
    "rich>=13",
    "safetensors>=0.5",
    "scipy>=1.14",
  ],
  extras_require=EXTRAS,
  entry_points={
    "console_scripts": [
      "weightspace-demo = weightspace.scripts:demo",
      "weightspace-merge = weightspace.cli.command:console",
      "weightspace-reproduce = weightspace.scripts:reproduce",
    ]
  },
)
