"""What every test runs under: CPU, eight simulated devices, strict ranks."""

import os
import pathlib

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Thousands of small programs run once each: compile them quickly.
os.environ["XLA_FLAGS"] = " ".join(
  (os.environ.get("XLA_FLAGS", ""), "--xla_backend_optimization_level=0")
).strip()

import jax

ROOT = pathlib.Path(__file__).parents[1]
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_compilation_cache_dir", str(ROOT / ".jax_cache"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
