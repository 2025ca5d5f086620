"""WiSE-FT: interpolate a pre-trained and a fine-tuned model.

For each seed a base is trained on a mix of domains and fine-tuned on one of
them, plainly or on softened labels (BANG).  The way between the two is measured
in the domain of fine-tuning and outside of it.

python -m experiments.wise_ft --config=configs/wise_ft.py --data_dir=DIR
"""

from typing import Any

from experiments.run import app, runs


def main(run: runs.Run) -> None:
  """Run the experiment of one config."""
  import jax

  import weightspace as ws
  from experiments.bench import fine_tuning
  from experiments.run import claims
  from experiments.wise_ft import results
  from experiments.wise_ft.claims import CLAIMS, table

  config = run.config
  splits, model = run.data(), run.model()
  keys = [jax.random.fold_in(run.key, seed) for seed in range(config.seeds)]

  def begin() -> tuple[Any, list[Any]]:
    data = fine_tuning.sets(splits.train, keys, config.base)
    stack = ws.stack([model.init(key, data["x"][0, :1]) for key in keys])
    return fine_tuning.fit(run, model, "base", stack, data, stage="base")

  base, _ = run.members("base", begin)
  for variant in config.variants:

    def tune(variant: str = variant) -> tuple[Any, list[Any]]:
      data = fine_tuning.sets(splits.train, keys, config.fine)
      return fine_tuning.fit(run, model, variant, base, data, stage=variant)

    fine, _ = run.members(variant, tune)
    results.measure(run, model, splits, variant, base, fine=fine)
  claims.finish(run, CLAIMS[config.judge], table(run))


if __name__ == "__main__":
  app.run(main)
