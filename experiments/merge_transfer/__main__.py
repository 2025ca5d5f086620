"""Fine-tuning transfer: what one version of a model learned, added to another.

For each seed a base is fine-tuned on a task; later versions of the base are
trained on from it, ever further, and last comes one of another start.  What
fine-tuning changed in the first is added to each of them.

python -m experiments.merge_transfer --config=configs/merge_transfer.py \
  --data_dir=DIR
"""

from typing import Any

from experiments.run import app, runs


def main(run: runs.Run) -> None:
  """Run the experiment of one config."""
  from experiments.merge_transfer import results
  from experiments.run import claims

  config, model = run.config, run.model()
  old = _trained(run, model, "old", 0, {}, begun=None)
  source = _tuned(run, model, "old", old)
  for place, (name, version) in enumerate(config.versions.items()):
    settings = dict(version)
    begun = None if settings.pop("fresh") else old
    new = _trained(run, model, name, 1 + place, settings, begun=begun)
    results.measure(
      run, model, name, (old, source, new, _tuned(run, model, name, new))
    )
  claims.finish(run, results.CLAIM, results.table(run))


def _keys(run: runs.Run, place: int) -> list[Any]:
  """Return a key for each seed."""
  import jax

  keys = [jax.random.fold_in(run.key, s) for s in range(run.config.seeds)]
  return [jax.random.fold_in(key, place) for key in keys]


def _draw(run: runs.Run, task: Any, place: int, settings: Any) -> Any:
  """Return the training data of a task for each seed, [S, N, ...]."""
  import weightspace as ws
  from experiments.bench import tasks

  count = settings.examples
  return ws.stack(
    [tasks.draw(run, task, "train", key, count) for key in _keys(run, place)]
  )


def _trained(
  run: runs.Run, model: Any, name: str, place: int, settings: Any, *, begun: Any
) -> Any:
  """Train one version of the base, as the config's `base` with changes."""
  import weightspace as ws
  from experiments.bench import fine_tuning

  changed = run.config.copy_and_resolve_references()
  changed.base.update(settings)

  def starts(x: Any) -> Any:
    return ws.stack([model.init(key, x[0, :1]) for key in _keys(run, place)])

  def stage() -> Any:
    data = _draw(run, changed.base.task, place, changed.base)
    stack = starts(data["x"]) if begun is None else begun
    own = run._replace(config=changed)
    return fine_tuning.fit(
      own, model, "base", stack, data, stage=f"base-{name}"
    )

  return run.members(f"base-{name}", stage)[0]


def _tuned(run: runs.Run, model: Any, name: str, stack: Any) -> Any:
  """Fine-tune one version of the base on the task."""
  from experiments.bench import fine_tuning

  def stage() -> Any:
    data = _draw(run, run.config.task, 1000, run.config.fine)
    return fine_tuning.fit(run, model, name, stack, data, stage=f"fine-{name}")

  return run.members(f"fine-{name}", stage)[0]


if __name__ == "__main__":
  app.run(main)
