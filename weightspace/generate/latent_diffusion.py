"""Denoising diffusion of vectors: a small network, trained by `train.fit`.

Vectors are models in a basis (`basis`), with or without a condition such as the
classes that each was trained on.

>>> z = jnp.array([[-1.0], [1.0]] * 32)
>>> key = jax.random.key(0)
>>> model = ddpm(z, z, key, steps=20, width=32, epochs=100, batch_size=16)
>>> samples = model.sample(key, jnp.array([[-1.0], [1.0]]))
>>> jnp.sign(samples).tolist()
[[-1.0], [1.0]]
"""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from weightspace import train, trees
from weightspace.generate import denoisers
from weightspace.generate.denoisers import Denoiser
from weightspace.types import Key, Params


@flax.struct.dataclass
class Diffusion:
  """A trained diffusion: what turns noise, step by step, into vectors."""

  params: Params
  kept: jax.Array  # [T], products of 1 - beta
  center: jax.Array  # [d]
  scale: jax.Array  # [d]
  losses: jax.Array  # [epochs], the mean loss of each
  network: Denoiser = flax.struct.field(pytree_node=False)

  def sample(self, key: Key, conditions: jax.Array) -> jax.Array:
    """Return one vector for each condition, by ancestral sampling.

    z_{t-1} = (z_t - beta_t / sqrt(1 - a_t) e(z_t, t, c)) / sqrt(1 - beta_t)
    + sigma_t x, with sigma_t^2 = (1 - a_{t-1}) / (1 - a_t) beta_t and a_t the
    product of 1 - beta up to t.

    Args:
      key: of the noise; each condition has a stream of its own.
      conditions: [K, c], or sets [K, S, c] of any size S where it was trained
        on sets; [K, 0] for a diffusion without.

    Returns:
      [K, d].

    Ho et al. 2020, https://arxiv.org/abs/2006.11239 (algorithm 2).
    """
    count, size = len(conditions), len(self.center)
    _check_conditions(self, conditions)
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(count))
    before = jnp.concatenate([jnp.ones(1), self.kept[:-1]])
    beta = 1.0 - self.kept / before

    def noise(t: Any) -> jax.Array:
      each = jax.vmap(lambda k: jax.random.fold_in(k, t))(keys)
      return jax.vmap(lambda k: jax.random.normal(k, (size,)))(each)

    def step(i: Any, z: jax.Array) -> jax.Array:
      t = len(self.kept) - 1 - i
      e = self._noise_in(z, jnp.full(count, t), conditions)
      mean = (z - beta[t] / jnp.sqrt(1 - self.kept[t]) * e) / jnp.sqrt(
        1 - beta[t]
      )
      spread = jnp.sqrt((1 - before[t]) / (1 - self.kept[t]) * beta[t])
      return mean + spread * noise(t)

    z = jax.lax.fori_loop(0, len(self.kept), step, noise(len(self.kept)))
    return self.center[None] + self.scale[None] * z

  def _noise_in(self, z: jax.Array, t: jax.Array, c: jax.Array) -> jax.Array:
    share = t / len(self.kept)
    return denoisers.noise_in(self.network, self.params, z, share, c)


def _check_conditions(model: Diffusion, conditions: jax.Array) -> None:
  shape = denoisers.condition_shape(model.network, model.params)
  sets = denoisers.ELEMENTS in model.params
  if conditions.ndim != 2 + sets or conditions.shape[-1:] != shape:
    expected = f"[K, {'S, ' * sets}{shape[0]}]"
    raise ValueError(
      f"sample: conditions are {conditions.shape}, expected {expected}"
    )


def ddpm(
  z: jax.Array,
  conditions: jax.Array | None,
  key: Key,
  *,
  steps: int = 100,
  width: int = 256,
  layers: int = 2,
  epochs: int = 500,
  batch_size: int = 64,
  learning_rate: float = 1e-3,
  betas: tuple[float, float] | None = None,
) -> Diffusion:
  """Train a denoising diffusion on vectors, each under its condition.

  E |e - e_theta(sqrt(a_t) z + sqrt(1 - a_t) e, t, c)|^2, z standardised.

  Args:
    z: [M, d], such as the coordinates of `basis`.
    conditions: [M, c], what each came from, such as its classes; [M, S, c],
      sets of S vectors, such as images of its classes in a basis; None for
      none.
    key: draws the network, the batches and the noise.
    steps: T of the diffusion.
    width: of the network's hidden layers.
    layers: how many.
    epochs: passes over z.
    batch_size: at most M.
    learning_rate: of Adam, down to 0 along a cosine.
    betas: first and last beta, between which their square roots are linear;
      None for (0.0015, 0.0155) times 1000 / steps, at most 0.5: the paper's
      for 1000 steps.

  Returns:
    Diffusion, whose `sample(key, conditions)` gives vectors.

  Raises:
    ValueError: for NaN, shapes that do not fit, or numbers out of range.

  Ho et al. 2020, https://arxiv.org/abs/2006.11239; for weights: Soro et al.
  2024, https://arxiv.org/abs/2402.18153, whose network is a UNet and whose
  latent space is that of an autoencoder.
  """
  z = jnp.asarray(z, jnp.float32)
  c = jnp.zeros((len(z), 0)) if conditions is None else jnp.asarray(conditions)
  kept = kept_shares(steps, betas)
  _check(z, c, batch_size)
  center, deviation = z.mean(0), z.std(0)
  scale = jnp.where(deviation > 0, deviation, 1.0)
  network = Denoiser(width, layers, z.shape[1])
  begin, noise = jax.random.split(key)
  params = denoisers.initial(network, begin, z[:1], jnp.zeros(1), c[:1])
  total = epochs * (len(z) // batch_size)

  def prepare(key: Key, batch: Any) -> Any:
    at, of = jax.random.split(key)
    t = jax.random.randint(at, (batch_size,), 0, steps)
    return batch | {"t": t, "e": jax.random.normal(of, batch["z"].shape)}

  def loss(params: Params, batch: Any) -> jax.Array:
    share = kept_shares(steps, betas)[batch["t"]][:, None]
    noisy = jnp.sqrt(share) * batch["z"] + jnp.sqrt(1 - share) * batch["e"]
    told = denoisers.noise_in(
      network, params, noisy, batch["t"] / steps, batch["c"]
    )
    return ((told - batch["e"]) ** 2).mean(-1)

  data = {"z": (z - center[None]) / scale[None], "c": c}
  fitted = train.fit(
    loss,
    params,
    optax.adam(optax.cosine_decay_schedule(learning_rate, total)),
    data,
    key=noise,
    epochs=epochs,
    batch_size=batch_size,
    prepare=prepare,
  )
  losses = jnp.asarray(fitted.losses.mean(1))
  return Diffusion(fitted.params, kept, center, scale, losses, network)


def kept_shares(
  steps: int, betas: tuple[float, float] | None = None
) -> jax.Array:
  """Return a_t = prod_{s <= t} (1 - beta_s), sqrt(beta) linear, [T].

  >>> kept_shares(2, (0.25, 0.25)).tolist()
  [0.75, 0.5625]

  Rombach et al. 2022, https://arxiv.org/abs/2112.10752 (its code's "linear").
  """
  if steps < 2:
    raise ValueError(f"ddpm: steps is {steps}, expected at least 2")
  if betas is None:
    ends = np.minimum(np.array([0.0015, 0.0155]) * 1000 / steps, 0.5)
  else:
    ends = np.array(betas, float)
  if ends.shape != (2,) or not (0 < ends[0] <= ends[1] < 1):
    raise ValueError(f"ddpm: betas are {betas}, expected 0 < first <= last < 1")
  first, last = np.sqrt(ends).tolist()
  beta = np.linspace(first, last, steps) ** 2
  return jnp.asarray(np.cumprod(1.0 - beta), jnp.float32)


def _check(z: jax.Array, c: jax.Array, batch_size: int) -> None:
  if z.ndim != 2 or c.ndim not in (2, 3) or len(c) != len(z):
    raise ValueError(
      f"ddpm: z {z.shape} and conditions {c.shape}, expected [M, d], and [M, c]"
      " or [M, S, c]"
    )
  if not 1 <= batch_size <= len(z):
    raise ValueError(
      f"ddpm: batch_size is {batch_size}, expected 1 to {len(z)}"
    )
  trees.check_finite({"z": z, "conditions": c}, "ddpm")
