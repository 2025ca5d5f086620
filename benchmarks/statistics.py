"""Statistics of a model: exact Fisher and Gram matrices, as ratios in one run.

Fisher: `ws.statistics.fisher` against a vmap of per-example gradients, one for
each label, squared (`naive`, in parts that fit in cache), on an MLP (every
linear map is used once per example), on a convolutional network and on a
language model (many tokens per example).  The floor of the MLP is the matrix
products of one forward pass, of one backward pass for each label, and of the
squared inputs with the squared gradients, and nothing else.  Gram:
`ws.statistics.gram` against a forward pass plus the products X'X.

  python -m benchmarks.statistics
"""

import argparse
import sys
from typing import Any

from benchmarks import contenders, report

WIDTHS = (784, 256, 256, 10)
LABELS = 32  # gradients of an example at a time in the naive form
PART = 25  # examples of the naive form at a time: of 10, 25, 100 the quickest
CASES = {"mlp": 1000, "cnn": 200, "lm": 32}  # examples
GRAM = {"mlp": 10_000, "cnn": 500, "lm": 500}
SIZES = (30, 100, 300, 1000)  # of the figure, on the MLP
START = ["-m", "benchmarks.statistics", "--contender"]


def problem(case: str, examples: int) -> tuple[Any, Any, Any]:
  """Return apply, parameters and inputs."""
  import jax

  import weightspace as ws

  key = jax.random.key(0)
  if case == "lm":
    model = ws.models.build("lm", vocab=32, width=64, layers=2)
    x = jax.random.randint(key, (examples, 16), 0, 32)
  elif case == "cnn":
    model = ws.models.build("vgg", widths=(8, 16), depths=(1, 1))
    x = jax.random.normal(key, (examples, 28, 28, 1))
  else:
    model = ws.models.build("mlp", hidden=WIDTHS[1:-1], classes=WIDTHS[-1])
    x = jax.random.normal(key, (examples, WIDTHS[0]))
  return model.apply, model.init(key, x), x


def fisher(case: str, examples: int) -> None:
  """Be `ws.statistics.fisher`."""
  import jax

  import weightspace as ws

  apply, params, x = problem(case, examples)

  def run() -> None:
    jax.block_until_ready(ws.statistics.fisher(apply, params, x))

  run()
  contenders.serve(run)


def naive(case: str, examples: int) -> None:
  """Be the vmap of per-example gradients, for every label."""
  import jax
  import jax.numpy as jnp

  apply, params, x = problem(case, examples)

  def one(params: Any, x: Any) -> Any:
    def logs(params: Any) -> Any:
      return jax.nn.log_softmax(apply(params, x[None])[0]).ravel()

    rows, pull = jax.vjp(logs, params)
    wide = max(n for n in range(1, LABELS + 1) if rows.size % n == 0)
    parts = (jnp.eye(rows.size), jnp.exp(rows))
    parts = jax.tree.map(lambda v: v.reshape(-1, wide, *v.shape[1:]), parts)

    def add(total: Any, part: Any) -> Any:
      (slopes,) = jax.vmap(pull)(part[0])
      more = jax.tree.map(lambda g: jnp.tensordot(part[1], g**2, 1), slopes)
      return jax.tree.map(jnp.add, total, more), None

    zeros = jax.tree.map(jnp.zeros_like, params)
    return jax.lax.scan(add, zeros, parts)[0]

  @jax.jit
  def sums(params: Any, x: Any) -> Any:
    found = jax.vmap(one, (None, 0))(params, x)
    return jax.tree.map(lambda f: f.sum(0), found)

  # The gradients of a language model for every token and label are large.
  part = 1 if case == "lm" else PART

  def run() -> None:
    total = sums(params, x[:part])
    for start in range(part, len(x), part):
      more = sums(params, x[start : start + part])
      total = jax.tree.map(jnp.add, total, more)
    jax.block_until_ready(total)

  jax.block_until_ready(jax.tree.map(jnp.add, *[sums(params, x[:part])] * 2))
  contenders.serve(run)


def floor(case: str, examples: int) -> None:
  """Be the matrix products of the MLP's closed form."""
  import jax
  import jax.numpy as jnp

  _, params, x = problem(case, examples)
  names = [f"Dense_{i}" for i in range(len(WIDTHS) - 1)]
  weights = [params[name]["kernel"] for name in names]
  labels = WIDTHS[-1]

  @jax.jit
  def products(weights: Any, x: Any) -> Any:
    rows, out = [x], []
    for w in weights:
      rows.append(rows[-1] @ w)
    back = jnp.tile(rows[-1], (labels, 1))
    for w, row in zip(weights[::-1], rows[-2::-1]):
      out.append(row.T @ back[: len(x)])
      back = back @ w.T if w is not weights[0] else back
    return [y[0, 0] for y in jax.lax.optimization_barrier([*out, back])]

  def run() -> None:
    jax.block_until_ready(products(weights, x))

  run()
  contenders.serve(run)


def gram(case: str, examples: int) -> None:
  """Be `ws.statistics.gram`."""
  import jax

  import weightspace as ws

  apply, params, x = problem(case, examples)

  def run() -> None:
    jax.block_until_ready(ws.statistics.gram(apply, params, x))

  run()
  contenders.serve(run)


def forward(case: str, examples: int) -> None:
  """Be a forward pass."""
  import jax

  apply, params, x = problem(case, examples)
  apply = jax.jit(apply)

  def run() -> None:
    jax.block_until_ready(apply(params, x))

  run()
  contenders.serve(run)


def products(case: str, examples: int) -> None:
  """Be the products X'X of the inputs of all linear maps."""
  import jax
  import jax.numpy as jnp

  from weightspace.statistics import map_inputs

  apply, params, x = problem(case, examples)
  maps = map_inputs.checked("gram", apply, params, x)
  seen = jax.jit(
    lambda p, x: [row for _, row in map_inputs.seen(apply, p, x, maps)]
  )
  rows = seen(params, x)

  @jax.jit
  def run_all(rows: Any) -> Any:
    return [jnp.einsum("bti,btj->bij", row, row) for row in rows]

  def run() -> None:
    jax.block_until_ready(run_all(rows))

  run()
  contenders.serve(run)


RUNS = {f.__name__: f for f in (fisher, naive, floor, gram, forward, products)}


def race(names: list[str], case: str, examples: int, repeats: int) -> Any:
  """Return the median turn of each contender."""
  work = [case, str(examples)]
  commands = {name: [sys.executable, *START, name, *work] for name in names}
  turns = contenders.alternate(commands, repeats)
  return {name: contenders.median(all_) for name, all_ in turns.items()}


def fishers(repeats: int, share: float) -> str:
  """Race the Fisher in each case; return a section and write the figure."""
  rows = []
  for case, whole in CASES.items():
    examples = max(1, int(whole * share))
    names = ["fisher", "naive"] + (["floor"] if case == "mlp" else [])
    found = race(names, case, examples, repeats)
    own = found["fisher"]
    rows += [
      (
        f"{case}, {examples} examples: {name}",
        f"{t.cpu:.3f}",
        f"{t.wall:.3f}",
        f"{t.peak:.0f}",
        f"{t.cpu / own.cpu:.2f}",
        f"{t.wall / own.wall:.2f}",
      )
      for name, t in found.items()
    ]
  columns = ["", "CPU s", "wall s", "peak MiB"]
  columns += ["CPU / fisher's", "wall / fisher's"]
  return (
    "## Exact Fisher information\n\nThe expectation over all labels, example by"
    f" example; MLP {'-'.join(map(str, WIDTHS))}, a convolutional network on 28"
    " x 28 (2 convolutions), a language model on 16 tokens of 32; medians of"
    f" {repeats} alternated turns of warm processes. naive: a vmap of"
    " per-example gradients for every label; the targets are at least 8 on the"
    " MLP, 1.5 elsewhere. floor: the closed form's matrix products and nothing"
    f" else.\n\n{report.table(columns, rows)}\n\n"
    f"{report.conditions('jax', 'jaxlib', 'flax')}"
  )


def grams(repeats: int, share: float) -> str:
  """Race the Gram matrices in each case; return a section."""
  rows = []
  for case, whole in GRAM.items():
    examples = max(1, int(whole * share))
    found = race(["gram", "forward", "products"], case, examples, repeats)
    both = found["forward"].cpu + found["products"].cpu
    wall = found["forward"].wall + found["products"].wall
    cells = [f"{found[n].cpu:.3f}" for n in ("gram", "forward", "products")]
    ratios = found["gram"].cpu / both, found["gram"].wall / wall
    rows.append((f"{case}, {examples}", *cells, *(f"{r:.2f}" for r in ratios)))
  columns = ["examples", "gram, CPU s", "forward", "products"]
  columns += ["gram / (both)", "wall / (both)"]
  return (
    "## Gram matrices\n\nOf the inputs of every linear map; the target is at"
    " most 1.2 of a forward pass plus the products X'X, each timed alone;"
    f" medians of {repeats} alternated turns.\n\n"
    f"{report.table(columns, rows)}\n\n"
    f"{report.conditions('jax', 'jaxlib', 'flax')}"
  )


def draw(path: str, repeats: int, share: float) -> None:
  """Draw cost against the number of examples, on log axes."""
  import matplotlib

  matplotlib.use("Agg")
  from matplotlib import pyplot as plt

  sizes = [n for n in SIZES if n <= share * max(SIZES)]
  found = {n: race(["fisher", "naive"], "mlp", n, repeats) for n in sizes}
  figure, axes = plt.subplots(figsize=(5.5, 4.0), layout="constrained")
  for name, marker in (("fisher", "o"), ("naive", "s")):
    wall = [found[n][name].wall for n in sizes]
    label = {"fisher": "closed form", "naive": "vmap of gradients"}[name]
    axes.loglog(sizes, wall, marker=marker, label=label)
  axes.grid(which="both", alpha=0.3)
  axes.legend()
  axes.set(
    xlabel="examples",
    ylabel="seconds",
    title=f"Exact Fisher, MLP {'-'.join(map(str, WIDTHS))}",
  )
  figure.savefig(path, dpi=120)


def main() -> None:
  """Be a contender, or run the benchmark and write its sections."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--repeats", type=int, default=3)
  parser.add_argument("--share", type=float, default=1.0, help="of examples")
  parser.add_argument("--out", default="BENCHMARKS.md")
  parser.add_argument("--figure", default="docs/fisher_cost.png")
  parser.add_argument("--contender", nargs=3, help=argparse.SUPPRESS)
  options = parser.parse_args()
  if options.contender:
    name, case, examples = options.contender
    return RUNS[name](case, int(examples))
  for name, made in (("fisher", fishers), ("gram", grams)):
    section = made(options.repeats, options.share)
    print(section)
    report.write_section(options.out, name, section)
  draw(options.figure, options.repeats, options.share)


if __name__ == "__main__":
  main()
