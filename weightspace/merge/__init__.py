"""Merging: models in, one model out.

Recipes are chains of steps over a Stack; selections choose the coefficients of
a mean from a score.

>>> import weightspace as ws
>>> stack = ws.stack([{"w": 1.0}, {"w": 3.0}])
>>> ws.merge.uniform()(stack)["w"].item()
2.0
"""

from typing import TYPE_CHECKING

from weightspace import faces
from weightspace.merge.core.recipe import Recipe, chain, on_deltas, run
from weightspace.merge.core.steps import At, Step, reduction
from weightspace.merge.core.task_vector import apply, delta, pack, unpack
from weightspace.merge.files.meshes import on_mesh
from weightspace.merge.files.streaming import stream, stream_parts
from weightspace.merge.files.work_items import Part, plan
from weightspace.merge.fitted.adamerging import adamerging, atlas
from weightspace.merge.fitted.ama import adaptive_average
from weightspace.merge.fitted.composition import Coefficients
from weightspace.merge.fitted.learned_soup import Learned, learned
from weightspace.merge.fitted.map_nested import nested_merge
from weightspace.merge.fitted.pareto import (
  Front,
  above_chord,
  line_front,
  pareto_front,
)
from weightspace.merge.fitted.provenance import guard
from weightspace.merge.fitted.soups import Selection, Trial, greedy, pruned
from weightspace.merge.methods import signatures
from weightspace.merge.methods.consensus_masks import Masked, masked
from weightspace.merge.methods.dare import drop
from weightspace.merge.methods.feature_diversity import (
  false_false_true,
  output_ensemble,
  overconfidence,
)
from weightspace.merge.methods.fisher import fisher_coefficients
from weightspace.merge.methods.lora import Adapter, product, run_adapters
from weightspace.merge.methods.low_rank import (
  LowRank,
  compress,
  expand,
  truncated,
)
from weightspace.merge.methods.mixture_of_experts import (
  Merged,
  expand_experts,
  expert_cost,
  group_experts,
  merge_experts,
)
from weightspace.merge.methods.quantised import (
  Quantised,
  dequantise,
  quantise,
  smaller,
)
from weightspace.merge.methods.regmean import gram_ranks
from weightspace.merge.methods.regmean_pp import regmean_pp
from weightspace.merge.methods.rescaling import variance_ratio
from weightspace.merge.methods.reversible import (
  Reversible,
  reconstruct,
  rmm,
  stored_share,
)
from weightspace.merge.methods.shared_leaves import run_shared
from weightspace.merge.methods.sparse_low_rank import (
  LowRankSparse,
  dense,
  low_rank_sparse,
  stable_rank,
  stored,
)
from weightspace.merge.methods.ties import disjoint
from weightspace.merge.methods.trims import trim
from weightspace.merge.methods.wudi import interference
from weightspace.merge.per_leaf.by_layer import gradient, per_layer
from weightspace.merge.per_leaf.by_path import by_part, only
from weightspace.merge.recipes import *  # noqa: F403
from weightspace.merge.recipes import RECIPES
from weightspace.merge.reports.comparisons import Comparison, compare
from weightspace.merge.reports.report import Report, report
from weightspace.mixes.evaluate import evaluate_mixes
from weightspace.search.searches import evolve
from weightspace.search.tuning import tune

__all__ = [
  *RECIPES,
  "RECIPES",
  "Adapter",
  "At",
  "Coefficients",
  "Comparison",
  "Front",
  "Learned",
  "LowRank",
  "LowRankSparse",
  "Masked",
  "Merged",
  "Part",
  "Quantised",
  "Recipe",
  "Report",
  "Reversible",
  "Selection",
  "Step",
  "Trial",
  "above_chord",
  "adamerging",
  "adaptive_average",
  "apply",
  "atlas",
  "by_part",
  "chain",
  "compare",
  "compress",
  "delta",
  "dense",
  "dequantise",
  "disjoint",
  "drop",
  "evaluate_mixes",
  "evolve",
  "expand",
  "expand_experts",
  "expert_cost",
  "false_false_true",
  "fisher_coefficients",
  "gradient",
  "gram_ranks",
  "greedy",
  "group_experts",
  "guard",
  "interference",
  "learned",
  "line_front",
  "low_rank_sparse",
  "masked",
  "merge_experts",
  "nested_merge",
  "on_deltas",
  "on_mesh",
  "only",
  "output_ensemble",
  "overconfidence",
  "pack",
  "pareto_front",
  "per_layer",
  "plan",
  "product",
  "pruned",
  "quantise",
  "reconstruct",
  "reduction",
  "regmean_pp",
  "report",
  "rmm",
  "run",
  "run_adapters",
  "run_shared",
  "signatures",
  "smaller",
  "stable_rank",
  "stored",
  "stored_share",
  "stream",
  "stream_parts",
  "trim",
  "truncated",
  "tune",
  "unpack",
  "variance_ratio",
]

if not TYPE_CHECKING:
  __getattr__, __dir__ = faces.face(__name__, __all__)
