"""Merging: models in, one model out.

Recipes are chains of steps over a Stack; selections choose the coefficients of
a mean from a score.

>>> import weightspace as ws
>>> stack = ws.stack([{"w": 1.0}, {"w": 3.0}])
>>> ws.merge.uniform()(stack)["w"].item()
2.0
"""

from weightspace.merge import signatures
from weightspace.merge.adapters import Adapter, product, run_adapters
from weightspace.merge.around_base import model_stock, nearswap
from weightspace.merge.averages import linear, uniform, wise_ft
from weightspace.merge.coefficients import adamerging, atlas
from weightspace.merge.comparisons import Comparison, compare
from weightspace.merge.competition import pcb, sce
from weightspace.merge.composition import Coefficients
from weightspace.merge.compression import LowRank, compress, expand, truncated
from weightspace.merge.corrections import (
  norm_matched,
  variance_corrected,
  variance_ratio,
  weight_aligned,
)
from weightspace.merge.deltas import apply, delta, pack, unpack
from weightspace.merge.directions import karcher, multislerp
from weightspace.merge.drops import dare, dare_ties, drop
from weightspace.merge.feature_diversity import (
  false_false_true,
  output_ensemble,
  overconfidence,
)
from weightspace.merge.fisher_mean import fisher, fisher_coefficients
from weightspace.merge.learned_soup import Learned, learned
from weightspace.merge.meshes import on_mesh
from weightspace.merge.mixtures import (
  Merged,
  expand_experts,
  expert_cost,
  group_experts,
  merge_experts,
)
from weightspace.merge.nested import nested_merge
from weightspace.merge.one_by_one import opcm
from weightspace.merge.pareto import (
  Front,
  above_chord,
  line_front,
  pareto_front,
)
from weightspace.merge.part_ratios import adaptive_average
from weightspace.merge.parts import by_part, only
from weightspace.merge.provenance import guard
from weightspace.merge.quadratics import interference, optmerge, wudi
from weightspace.merge.quantised import Quantised, dequantise, quantise, smaller
from weightspace.merge.ranks import breadcrumbs, della
from weightspace.merge.recipe import Recipe, chain, on_deltas, run
from weightspace.merge.regression import gram_ranks, regmean
from weightspace.merge.report import Report, report
from weightspace.merge.reversible import (
  Reversible,
  reconstruct,
  rmm,
  stored_share,
)
from weightspace.merge.schedules import gradient, per_layer
from weightspace.merge.shared import run_shared
from weightspace.merge.shared_masks import (
  Masked,
  consensus,
  emr,
  masked,
  tall,
)
from weightspace.merge.signs import disjoint, ties
from weightspace.merge.soups import Selection, Trial, greedy, pruned
from weightspace.merge.sparse_ranks import (
  LowRankSparse,
  dense,
  low_rank_sparse,
  stable_rank,
  stored,
)
from weightspace.merge.spectral import iso_c, iso_cts, tsv
from weightspace.merge.spherical import nuslerp, slerp
from weightspace.merge.steps import At, Step, reduction
from weightspace.merge.streaming import stream, stream_parts
from weightspace.merge.task_vectors import magmax, task_arithmetic, transfer
from weightspace.merge.tasks import Part, plan
from weightspace.merge.through_merged import regmean_pp
from weightspace.merge.trims import trim
from weightspace.merge.unique import ram
from weightspace.mixes import evaluate_mixes
from weightspace.searches import evolve
from weightspace.tuning import tune

RECIPES = {
  "breadcrumbs": breadcrumbs,
  "consensus": consensus,
  "dare": dare,
  "dare_ties": dare_ties,
  "della": della,
  "emr": emr,
  "fisher": fisher,
  "iso_c": iso_c,
  "iso_cts": iso_cts,
  "karcher": karcher,
  "linear": linear,
  "magmax": magmax,
  "model_stock": model_stock,
  "multislerp": multislerp,
  "nearswap": nearswap,
  "norm_matched": norm_matched,
  "nuslerp": nuslerp,
  "opcm": opcm,
  "optmerge": optmerge,
  "pcb": pcb,
  "ram": ram,
  "regmean": regmean,
  "sce": sce,
  "slerp": slerp,
  "tall": tall,
  "task_arithmetic": task_arithmetic,
  "ties": ties,
  "transfer": transfer,
  "tsv": tsv,
  "uniform": uniform,
  "variance_corrected": variance_corrected,
  "weight_aligned": weight_aligned,
  "wise_ft": wise_ft,
  "wudi": wudi,
}

__all__ = [
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
  "breadcrumbs",
  "by_part",
  "chain",
  "compare",
  "compress",
  "consensus",
  "dare",
  "dare_ties",
  "della",
  "delta",
  "dense",
  "dequantise",
  "disjoint",
  "drop",
  "emr",
  "evaluate_mixes",
  "evolve",
  "expand",
  "expand_experts",
  "expert_cost",
  "false_false_true",
  "fisher",
  "fisher_coefficients",
  "gradient",
  "gram_ranks",
  "greedy",
  "group_experts",
  "guard",
  "interference",
  "iso_c",
  "iso_cts",
  "karcher",
  "learned",
  "line_front",
  "linear",
  "low_rank_sparse",
  "magmax",
  "masked",
  "merge_experts",
  "model_stock",
  "multislerp",
  "nearswap",
  "nested_merge",
  "norm_matched",
  "nuslerp",
  "on_deltas",
  "on_mesh",
  "only",
  "opcm",
  "optmerge",
  "output_ensemble",
  "overconfidence",
  "pack",
  "pareto_front",
  "pcb",
  "per_layer",
  "plan",
  "product",
  "pruned",
  "quantise",
  "ram",
  "reconstruct",
  "reduction",
  "regmean",
  "regmean_pp",
  "report",
  "rmm",
  "run",
  "run_adapters",
  "run_shared",
  "sce",
  "signatures",
  "slerp",
  "smaller",
  "stable_rank",
  "stored",
  "stored_share",
  "stream",
  "stream_parts",
  "tall",
  "task_arithmetic",
  "ties",
  "transfer",
  "trim",
  "truncated",
  "tsv",
  "tune",
  "uniform",
  "unpack",
  "variance_corrected",
  "variance_ratio",
  "weight_aligned",
  "wise_ft",
  "wudi",
]
