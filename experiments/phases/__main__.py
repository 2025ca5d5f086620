"""Phases: a grid of models over width and batch size, and what each cell is.

In each cell a few networks are trained from independent starts, and one more
pair from one start; loss, Hessian, mode connectivity, similarity, and what
averaging and matching gain are measured, and give the cell its phase.

python -m experiments.phases --config=configs/phases_digits.py
"""

from typing import Any

from experiments.run import app, runs


def main(run: runs.Run) -> None:
  """Train and measure every cell that is not done yet; then judge."""
  from experiments.bench import classifiers
  from experiments.phases import results

  model_data = classifiers.data(run)[1:]
  noisy = noise(run, model_data[0])
  for width in run.config.widths:
    for batch in run.config.batches:
      cell(run, noisy, model_data[1], width, batch)
  results.finish(run)


def noise(run: runs.Run, train: Any) -> Any:
  """Return the training data with a share of labels drawn anew."""
  import jax

  import weightspace as ws

  share = run.config.label_noise
  if not share:
    return train
  key = jax.random.fold_in(run.key, 99)
  labels = ws.data.flip_labels(key, train["y"], share, run.config.classes)
  return train | {"y": jax.numpy.asarray(labels)}


def cell(
  run: runs.Run, train: Any, test: Any, width: float, batch: int
) -> None:
  """Train the networks of one cell and log its measures, once."""
  import jax

  import weightspace as ws
  from experiments.bench import classifiers, text
  from experiments.phases import cells
  from experiments.run import claims

  config = run.config
  if claims.only(run, "done", width=f"{width:g}", batch=batch):
    return
  named: dict[str, Any] = {"width": width}
  if config.model.name == "mlp":
    named = {"hidden": (width,) * config.depth}
  model = ws.models.build(**config.model, **named)
  key = jax.random.fold_in(
    jax.random.fold_in(run.key, round(1000 * width)), batch
  )

  def begin() -> Any:
    stack = text.starts(model, train["x"], key, config.seeds)
    # Two more from the start of the first, told apart by their batches.
    twin = jax.tree.map(lambda x: x[:1], stack)
    return jax.tree.map(lambda x, y: jax.numpy.concatenate([x, y]), stack, twin)

  settings = config.train.copy_and_resolve_references()
  settings.batch_size = batch
  name = f"width{width}-batch{batch}"
  loss = classifiers.risk(model)
  stack = classifiers.fit(
    run, name, loss, begin, train, settings=settings, key=key
  )
  cells.measure(run, model, stack, train, test, place=(width, batch), key=key)
  run.log(width=f"{width:g}", batch=batch, done=True)


if __name__ == "__main__":
  app.run(main)
