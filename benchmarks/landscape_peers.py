"""The peers of the landscape benchmark: loss-landscapes and PyHessian.

They run in a Python that has torch (`--torch_python`), on the weights and data
that are given; where they are not installed they are left out.  PyHessian's
release calls `torch.eig`, which torch no longer has: `density` gets it back,
else it would not run.
"""

import itertools
import sys
from typing import Any

import numpy as np

from benchmarks import contenders


def _load(path: str) -> tuple[Any, Any, Any]:
  """Return the network and the data as torch has them."""
  import torch

  arrays = np.load(path)
  widths = arrays["widths"].tolist()
  layers: list[Any] = []
  for index, (a, b) in enumerate(itertools.pairwise(widths)):
    layer = torch.nn.Linear(a, b)
    kernel = torch.from_numpy(arrays[f"kernel{index}"].T.copy())
    layer.weight.data = kernel
    layer.bias.data = torch.from_numpy(arrays[f"bias{index}"].copy())
    layers += [layer, torch.nn.ReLU()]
  x, y = torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["y"]).long()
  return torch.nn.Sequential(*layers[:-1]), x, y


def plane(path: str, amount: int, reference: float) -> None:
  """Evaluate a random plane of amount x amount points."""
  try:
    import loss_landscapes
    import torch
    from loss_landscapes import metrics
  except ImportError:
    print("loss-landscapes is not installed: left out", file=sys.stderr)
    return
  model, x, y = _load(path)
  loss = metrics.Loss(torch.nn.functional.cross_entropy, x, y)

  def run(steps: int = amount) -> None:
    with torch.no_grad():
      loss_landscapes.random_plane(
        model, loss, 1, steps, "filter", deepcopy_model=True
      )

  run(2)
  contenders.serve(run)


def _hessian(path: str) -> Any:
  """Return PyHessian's operator, or None where it is not installed."""
  try:
    import pyhessian
    import torch
  except ImportError:
    print("PyHessian is not installed: left out", file=sys.stderr)
    return None
  if not hasattr(torch, "eig") or _raises(torch.eig):

    def eig(matrix: Any, eigenvectors: bool = True) -> Any:
      values, vectors = torch.linalg.eigh(matrix)
      return torch.stack([values, 0 * values], 1), vectors

    torch.eig = eig
  model, x, y = _load(path)
  criterion = torch.nn.CrossEntropyLoss()
  return pyhessian.hessian(model, criterion, data=(x, y), cuda=False)


def _raises(eig: Any) -> bool:
  import torch

  try:
    eig(torch.eye(2), eigenvectors=True)
  except (RuntimeError, TypeError):
    return True
  return False


def lanczos(path: str, amount: int, reference: float) -> None:
  """Take Lanczos steps, with its own reorthogonalisation."""
  found = _hessian(path)
  if found:
    contenders.serve(lambda: found.density(iter=amount, n_v=1))


def hutchinson(path: str, amount: int, reference: float) -> None:
  """Take Hutchinson probes; a tolerance of 0 keeps it from stopping."""
  found = _hessian(path)
  if found:
    contenders.serve(lambda: found.trace(maxIter=amount, tol=0.0))


def top(path: str, amount: int, reference: float) -> None:
  """Find the top eigenvalue at the loosest tolerance that is right to 1e-4."""
  found = _hessian(path)
  if not found:
    return

  def run(tolerance: float) -> float:
    return float(found.eigenvalues(maxIter=500, tol=tolerance)[0][0])

  for tolerance in (1e-3, 1e-4, 1e-5, 1e-6, 1e-7):
    value = run(tolerance)
    if abs(value / reference - 1) < 1e-4:
      break
  print(f"power iteration: {value} at tol={tolerance}", file=sys.stderr)
  contenders.serve(lambda: run(tolerance))


RUNS = {"plane": plane, "lanczos": lanczos}
RUNS |= {"hutchinson": hutchinson, "top": top}
