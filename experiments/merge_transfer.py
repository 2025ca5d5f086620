"""Fine-tuning transfer: what one version of a model learned, added to another.

For each seed a base is fine-tuned on a task; later versions of the base are
trained on from it, ever further, and last comes one of another start.  What
fine-tuning changed in the first is added to each of them.

python -m experiments.merge_transfer --config=configs/merge_transfer.py \
  --data_dir=DIR
"""

from typing import Any

from experiments import app, runs


def main(run: runs.Run) -> None:
  """Run the experiment of one config."""
  import jax

  import weightspace as ws
  from experiments import fine_tuning, merge_tasks, merge_transfer_results

  config, model = run.config, run.model()
  keys = [jax.random.fold_in(run.key, seed) for seed in range(config.seeds)]

  def draw(task: Any, place: int, settings: Any) -> Any:
    own = [jax.random.fold_in(key, place) for key in keys]
    count = settings.examples
    return ws.stack(
      [merge_tasks.draw(run, task, "train", k, count) for k in own]
    )

  def starts(place: int, x: Any) -> Any:
    own = [jax.random.fold_in(key, place) for key in keys]
    return ws.stack([model.init(key, x[0, :1]) for key in own])

  def train(name: str, place: int, settings: Any, begun: Any) -> Any:
    """Train one version of the base, as the config's `base` with changes."""
    changed = config.copy_and_resolve_references()
    changed.base.update(settings)

    def stage() -> Any:
      data = draw(config.base.task, place, changed.base)
      stack = starts(place, data["x"]) if begun is None else begun
      own = run._replace(config=changed)
      return fine_tuning.fit(own, model, "base", stack, data)

    return run.members(f"base-{name}", stage)[0]

  def tune(name: str, stack: Any) -> Any:
    def stage() -> Any:
      data = draw(config.task, 1000, config.fine)
      return fine_tuning.fit(run, model, name, stack, data)

    return run.members(f"fine-{name}", stage)[0]

  old = train("old", 0, {}, None)
  source = tune("old", old)
  for place, (name, version) in enumerate(config.versions.items()):
    settings = dict(version)
    fresh = settings.pop("fresh")
    new = train(name, 1 + place, settings, None if fresh else old)
    merge_transfer_results.measure(
      run, model, name, (old, source, new, tune(name, new))
    )
  merge_transfer_results.finish(run)


if __name__ == "__main__":
  app.run(main)
