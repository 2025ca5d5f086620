"""The recipes: each name that is imported here is registered by that alone.

It becomes `ws.merge.NAME`, an entry of `RECIPES` (and so of YAML files, configs
and the tests over all recipes) and a row of docs/methods.md.

>>> RECIPES["ties"] is ties
True
"""
# ruff: noqa: F401, each import is an entry of RECIPES

from weightspace.merge.methods.breadcrumbs_della import breadcrumbs, della
from weightspace.merge.methods.consensus_masks import consensus, emr, tall
from weightspace.merge.methods.dare import dare, dare_ties
from weightspace.merge.methods.fisher import fisher
from weightspace.merge.methods.iso_tsv import iso_c, iso_cts, tsv
from weightspace.merge.methods.karcher import karcher, multislerp
from weightspace.merge.methods.linear import linear, uniform, wise_ft
from weightspace.merge.methods.model_stock import model_stock, nearswap
from weightspace.merge.methods.opcm import opcm
from weightspace.merge.methods.pcb_sce import pcb, sce
from weightspace.merge.methods.ram import ram
from weightspace.merge.methods.regmean import regmean
from weightspace.merge.methods.rescaling import (
  norm_matched,
  variance_corrected,
  weight_aligned,
)
from weightspace.merge.methods.slerp import nuslerp, slerp
from weightspace.merge.methods.task_arithmetic import (
  magmax,
  task_arithmetic,
  transfer,
)
from weightspace.merge.methods.ties import ties
from weightspace.merge.methods.wudi import optmerge, wudi

# From a name to its factory, which returns a Recipe or a OneByOne.
RECIPES = {
  name: value for name, value in sorted(vars().items()) if callable(value)
}
