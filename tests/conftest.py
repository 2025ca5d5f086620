"""What every test runs under: CPU, eight simulated devices, strict ranks."""

import os
import pathlib

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Thousands of small programs run once each: compile them quickly.
os.environ["XLA_FLAGS"] = " ".join(
  (os.environ.get("XLA_FLAGS", ""), "--xla_backend_optimization_level=0")
).strip()

import jax
import pytest

ROOT = pathlib.Path(__file__).parents[1]
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_compilation_cache_dir", str(ROOT / ".jax_cache"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)

MOST = 4 * 2**30  # bytes of a process beyond which programs are forgotten


@pytest.fixture(autouse=True, scope="module")
def _forget_programs():
  """Drop compiled programs after a file of tests where they fill the memory.

  Programs are kept as long as the process lives: a whole run held five GiB in
  each worker.  What is needed again comes from the cache on disk.
  """
  yield
  status = pathlib.Path("/proc/self/statm")
  if status.exists():
    pages = int(status.read_text().split()[1])
    if pages * os.sysconf("SC_PAGE_SIZE") > MOST:
      jax.clear_caches()
