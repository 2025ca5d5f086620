"""Codes beside qwix's, whose bound is half a level above GLM-130B's."""

import numpy as np
import pytest

from tests import peers
from weightspace import parametrize as p

pytestmark = pytest.mark.engines

CODES = """
import sys, numpy, jax.numpy as jnp, qwix
x = jnp.asarray(numpy.load(sys.argv[1]))
kind = {"4": jnp.int4, "8": jnp.int8}[sys.argv[2]]
how = dict(channelwise_axes=[1], calibration_method=sys.argv[3])
found = qwix.quantize(x, kind, **how)
numpy.save(sys.argv[4], numpy.asarray(found.qvalue).astype(numpy.int8))
numpy.save(sys.argv[5], numpy.asarray(found.scale))
"""


@pytest.fixture(scope="module", autouse=True)
def engine():
  peers.need("qwix")


def of_qwix(folder, x, bits, method):
  names = [str(folder / f"{name}.npy") for name in ("x", "codes", "scale")]
  np.save(names[0], x)
  peers.run(CODES, names[0], str(bits), method, *names[1:])
  return np.load(names[1]), np.load(names[2])


@pytest.mark.parametrize("bits", [4, 8])
def test_codes_are_qwixs_when_its_bound_is_ours(tmp_path, bits):
  x = np.random.default_rng(0).normal(size=(64, 32)).astype(np.float32)
  levels = 2 ** (bits - 1) - 1
  kept = p.quantise(x, bits)
  codes, scale = of_qwix(tmp_path, x, bits, f"absmax,{(levels + 0.5) / levels}")
  np.testing.assert_allclose(scale.reshape(1, -1), kept.scale, rtol=1e-6)
  # The scales differ in their last bit, which moves what lies on a half.
  assert (codes != np.asarray(kept.codes)).mean() < 1e-3


def test_its_own_bound_is_half_a_level_above(tmp_path):
  x = np.random.default_rng(0).normal(size=(64, 32)).astype(np.float32)
  _, scale = of_qwix(tmp_path, x, 4, "absmax")
  ours = np.asarray(p.quantise(x, 4).scale)
  np.testing.assert_allclose(scale.reshape(1, -1) * 7.5, ours * 7, rtol=1e-6)
