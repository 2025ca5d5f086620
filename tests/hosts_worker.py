"""A population trained by however many processes and devices there are.

python -m tests.hosts_worker FOLDER EPOCHS: process 0 writes what came out.
"""

import pathlib
import sys

import jax
import numpy as np
import optax

from experiments.run import hosts
from weightspace import checkpoints, match, mixes, train
from weightspace.hosts import multihost, startup
from weightspace.match.solvers import frank_wolfe

MEMBERS, EXAMPLES = 8, 24


def loss(params, batch):
  hidden = jax.numpy.tanh(batch["x"] @ params["w"])
  return ((hidden @ params["v"]) - batch["y"]) ** 2


def problem():
  """Return eight starts and a regression."""
  rng = np.random.default_rng(0)
  draw = lambda *shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
  stack = {"w": draw(MEMBERS, 5, 16), "v": draw(MEMBERS, 16)}
  return stack, {"x": draw(EXAMPLES, 5), "y": draw(EXAMPLES)}


def main(folder: pathlib.Path, epochs: int) -> None:
  startup.start()
  mesh = hosts.mesh(hosts.complete({"population": -1}))
  stack, data = problem()
  fitted = train.fit_population(
    loss,
    stack,
    lambda learning_rate: optax.sgd(learning_rate, 0.9),
    data,
    key=jax.random.key(1),
    epochs=epochs,
    batch_size=6,
    hyper={"learning_rate": np.linspace(0.01, 0.05, MEMBERS)},
    mesh=mesh,
    checkpoint=train.Checkpoint(folder / "epochs"),
  )
  eye = np.eye(MEMBERS, dtype=np.float32)
  scores = mixes.evaluate_mixes(fitted.params, eye, loss, data, mesh=mesh)
  tree = {"params": fitted.params, "losses": fitted.losses, "scores": scores}
  axes = match.Axes({"v": "hidden"}, {"hidden": 16}, {})
  first, *rest = [{"v": row} for row in stack["v"]]
  pairs = match.match_pairs(axes, first, rest, jax.random.key(2))
  tree["perms"] = np.stack([pair.perm["hidden"] for pair in pairs])
  frank_wolfe.SHARED = 0  # models of any size
  axes = match.Axes({"v": "hidden", "w": "5 hidden"}, {"hidden": 16}, {})
  many = match.match_many(axes, jax.tree.map(lambda x: x[:4], stack))
  tree["many"] = np.stack([perm["hidden"] for perm in many])
  checkpoints.save(folder / f"after{epochs}", tree, overwrite=True)
  assert multihost.gather("x") == ["x"] * jax.process_count()


if __name__ == "__main__":
  main(pathlib.Path(sys.argv[1]), int(sys.argv[2]))
