"""Landscapes: the loss around and between trained models.

A config names a study: `connect` (line, plane, spectrum and curve of pairs of
models, trained here or loaded), `laws` (sharpness against the Hessian), `soup`
(soups against ensembles), `lazy` (rich and lazy learning) or `grokking`.

python -m experiments.landscape --config=configs/mode_connectivity.py \\
  --data_dir=DIR
"""

from experiments.run import app, runs


def main(run: runs.Run) -> None:
  """Run the study of one config: measure, then judge and draw."""
  from experiments.landscape import connect, grokking, laws, lazy, soup

  study = {
    "connect": connect,
    "grokking": grokking,
    "laws": laws,
    "lazy": lazy,
    "soup": soup,
  }[run.config.study]
  study.measure(run)
  study.finish(run)


if __name__ == "__main__":
  app.run(main)
