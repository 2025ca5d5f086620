"""Functions of parameters as users write them, for the symmetry tests.

Each entry is (apply, shapes, input, names): the names are the sizes of what can
be permuted, blocks first, sorted.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

X = np.random.default_rng(0).normal(size=(2, 6)).astype(np.float32)
IMAGES = np.random.default_rng(1).normal(size=(2, 8, 8, 2)).astype(np.float32)
STEPS = np.random.default_rng(2).normal(size=(2, 5, 6)).astype(np.float32)
TOKENS = np.array([[0, 3, 1], [2, 2, 4]])


def dense(p, name, x):
  return x @ p[name] + p[name + "_b"]


def mlp(p, x):
  x = jax.nn.relu(jnp.dot(x, p["a"]) + p["b"])
  return jax.nn.gelu(x @ p["c"]) @ p["d"]


def conv(x, k, stride=1, groups=1, pad="SAME"):
  return jax.lax.conv_general_dilated(
    x, k, (stride, stride), pad, feature_group_count=groups,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )  # fmt: skip


def pool(x):
  return jax.lax.reduce_window(
    x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"
  )


def conv_flatten(p, x):
  x = pool(jax.nn.relu(conv(x, p["k"]) + p["kb"]))
  x = pool(jax.nn.relu(conv(x, p["l"])))
  return jax.nn.relu(x.reshape(x.shape[0], -1) @ p["m"]) @ p["o"]


def depthwise(p, x):
  x = jax.nn.relu(conv(x, p["in"]))
  x = conv(x, p["deep"], groups=x.shape[-1])
  return conv(x, p["out"]).mean((1, 2))


def padded_shortcut(p, x):
  x = conv(x, p["a"])
  y = conv(jax.nn.relu(x), p["b"])
  return (
    jax.nn.relu(y + jnp.pad(x, ((0, 0),) * 3 + ((2, 2),))).mean((1, 2)) @ p["o"]
  )


def residual(p, x):
  x = x @ p["in"]
  for w, v in zip(p["w"], p["v"]):
    x = x + jnp.tanh(x @ w) @ v
  return x @ p["out"]


def scanned(p, x):
  def block(x, layer):
    return x + jnp.tanh(x @ layer["w"] + layer["b"]) @ layer["v"], None

  return jax.lax.scan(block, x @ p["in"], p["layers"])[0] @ p["out"]


def looped(p, x):
  x = x @ p["in"]
  for k in range(3):
    x = x + jnp.tanh(x @ p["w"][k]) @ p["v"][k]
  return x @ p["out"]


def heads_einsum(p, x):
  q, k, v = (jnp.einsum("btd,dhk->bthk", x, p[n]) for n in "qkv")
  w = jax.nn.softmax(jnp.einsum("bthk,bshk->bhts", q, k) / 2.0)
  return jnp.einsum("bhts,bshk,hko->bto", w, v, p["o"])


def heads_reshape(p, x):
  def split(y):
    return y.reshape(*y.shape[:2], 2, -1).transpose(0, 2, 1, 3)

  q, k, v = (split(dense(p, n, x)) for n in "qkv")
  scores = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
  mask = jnp.tril(jnp.ones((x.shape[1],) * 2, bool))
  w = jax.nn.softmax(jnp.where(mask, scores, -1e9))
  y = (w @ v).transpose(0, 2, 1, 3).reshape(*x.shape[:2], -1)
  return y @ p["o"]


def fused(p, x):
  q, k, v = jnp.split(x @ p["qkv"], 3, axis=-1)
  w = jax.nn.softmax(q @ k.swapaxes(1, 2))
  return (w @ v) @ p["o"]


def fused_heads(p, x):
  y = (x @ p["qkv"]).reshape(*x.shape[:2], 3, 2, 4)
  q, k, v = (y[:, :, i] for i in range(3))
  w = jax.nn.softmax(jnp.einsum("bthk,bshk->bhts", q, k))
  y = jnp.einsum("bhts,bshk->bthk", w, v)
  return y.reshape(*x.shape[:2], -1) @ p["o"]


def grouped(p, x):
  q = (x @ p["q"]).reshape(*x.shape[:2], 4, 3)
  k = (x @ p["k"]).reshape(*x.shape[:2], 2, 3)
  v = (x @ p["v"]).reshape(*x.shape[:2], 2, 3)
  k, v = jnp.repeat(k, 2, axis=2), jnp.repeat(v, 2, axis=2)
  w = jax.nn.softmax(jnp.einsum("bthk,bshk->bhts", q, k))
  y = jnp.einsum("bhts,bshk->bthk", w, v)
  return y.reshape(*x.shape[:2], -1) @ p["o"]


def normed_heads(p, x):
  def normed(y, scale):
    return y / jnp.sqrt((y**2).mean(-1, keepdims=True) + 1e-6) * scale

  q, k, v = (jnp.einsum("btd,dhk->bthk", x, p[n]) for n in "qkv")
  q, k = normed(q, p["sq"]), normed(k, p["sk"])
  y = jax.nn.dot_product_attention(q, k, v)
  return jnp.einsum("bthk,hko->bto", y, p["o"])


def rnn(p, x):
  def step(h, x):
    h = jnp.tanh(x @ p["in"] + h @ p["h"] + p["b"])
    return h, h @ p["out"]

  start = jnp.zeros((x.shape[0], p["h"].shape[0]))
  return jax.lax.scan(step, start, x.swapaxes(0, 1))[1]


def lstm(p, x):
  def step(carry, x):
    h, c = carry
    i, f, g, o = jnp.split(x @ p["in"] + h @ p["h"] + p["b"], 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return (h, c), None

  start = jnp.zeros((2, 4))
  (h, _), _ = jax.lax.scan(step, (start, start), x.swapaxes(0, 1))
  return h @ p["out"]


def tied(p, x):
  h = p["table"][x]
  h = h + jnp.tanh(h @ p["w"]) @ p["v"]
  return h @ p["table"].T


def gated(p, x):
  a, b = jnp.split(x @ p["up"], 2, axis=-1)
  return (jax.nn.silu(a) * b) @ p["down"]


def experts(p, x):
  gates = jax.nn.softmax(x @ p["router"])
  best, chosen = jax.lax.top_k(gates, 2)
  gates = (jax.nn.one_hot(chosen, 3) * best[..., None]).sum(-2)
  h = jax.nn.relu(jnp.einsum("bd,edf->bef", x, p["up"]))
  return jnp.einsum("bef,efo,be->bo", h, p["down"], gates)


def looked_up_experts(p, x):
  chosen = jnp.argmax(x @ p["router"], axis=-1)
  h = jax.nn.relu(jnp.einsum("bd,bdf->bf", x, p["up"][chosen]))
  return jnp.einsum("bf,bfo->bo", h, p["down"][chosen])


def group_norm(p, x):
  x = x @ p["in"]
  y = x.reshape(x.shape[0], 2, 3)
  y = (y - y.mean(-1, keepdims=True)) / (y.std(-1, keepdims=True) + 1e-3)
  return jax.nn.relu(y.reshape(x.shape) * p["s"]) @ p["out"]


def batch_norm(p, x):
  y = x @ p["params"]["w"]
  mean, var = p["batch_stats"]["mean"], p["batch_stats"]["var"]
  y = (y - mean) * jax.lax.rsqrt(var + 1e-5) * p["params"]["s"]
  return jax.nn.relu(y) @ p["params"]["o"]


def dense_net(p, x):
  h = jax.nn.relu(x @ p["a"])
  g = jax.nn.relu(jnp.concatenate([x, h], -1) @ p["b"])
  return jnp.concatenate([x, h, g], -1) @ p["c"]


def mixer(p, x):
  y = x @ p["in"]
  y = y + (jnp.tanh(y.swapaxes(1, 2) @ p["t"]) @ p["u"]).swapaxes(1, 2)
  return (y + jnp.tanh(y @ p["c"]) @ p["d"]).mean(1) @ p["out"]


def reshaped(p, x):
  h = jnp.tanh(x @ p["a"]).reshape(x.shape[0], 2, 4)
  return jnp.exp(h).reshape(x.shape[0], 8) @ p["b"]


def maxout(p, x):
  return (x @ p["a"]).reshape(x.shape[0], 4, 3).max(-1) @ p["b"]


def ensemble(p, x):
  one = lambda w, v: jnp.tanh(x @ w) @ v  # noqa: E731
  return jax.vmap(one)(p["w"], p["v"])


def low_rank(p, x):
  return jax.nn.relu(x @ (p["w"] + p["a"] @ p["b"])) @ p["o"]


def branches(p, x):
  h = jnp.tanh(x @ p["a"])
  h = jax.lax.cond(h.sum() > 0, lambda h: h @ p["w"], lambda h: h @ p["v"], h)
  h = jax.lax.fori_loop(0, 3, lambda i, h: jnp.sin(h) * (i + 1), h)
  return jax.checkpoint(lambda h: jnp.tanh(h) @ p["o"])(h)


def split_heads(p, x):
  y = x @ p["qkv"] + p["b"]
  q, k, v = jnp.split(y, [12, 18], axis=-1)
  q = q.reshape(*x.shape[:2], 4, 3)
  k, v = (z.reshape(*x.shape[:2], 2, -1) for z in (k, v))
  k, v = (jnp.tile(z, (1, 1, 2, 1)) for z in (k, v))
  w = jax.nn.softmax(jnp.einsum("bthk,bshk->bhts", q, k))
  y = jnp.einsum("bhts,bshk->bthk", w, v)
  return y.reshape(*x.shape[:2], -1) @ p["o"]


def rotated_pairs(p, x):
  def rotated(y):
    at = jnp.arange(y.shape[1])[:, None] / 10.0 ** jnp.arange(2)
    cos, sin = jnp.cos(at)[:, None], jnp.sin(at)[:, None]
    a, b = y[..., ::2], y[..., 1::2]
    pair = jnp.stack([a * cos - b * sin, b * cos + a * sin], -1)
    return pair.reshape(y.shape)

  q, k, v = ((x @ p[n]).reshape(*x.shape[:2], 2, 4) for n in "qkv")
  w = jnp.einsum("bthk,bshk->bhts", rotated(q), rotated(k))
  y = jnp.einsum("bhts,bshk->bthk", jax.nn.softmax(w), v)
  return y.reshape(*x.shape[:2], -1) @ p["o"]


def gated_pairs(p, x):
  y = x @ p["up"]
  return (jax.nn.silu(y[..., ::2]) * y[..., 1::2]) @ p["down"]


def stacked(p, x):
  h = jnp.stack([jnp.tanh(x @ p["a"]), jnp.tanh(x @ p["b"])], axis=1)
  first, second = jnp.unstack(h, axis=1)
  return jnp.einsum("bkd,kdo->bo", h, p["m"]) + first * second @ p["o"]


def windows(p, x):
  y = conv(x, p["in"])
  w = y.reshape(-1, 2, 4, 2, 4, 6).transpose(0, 1, 3, 2, 4, 5)
  w = jnp.roll(w.reshape(-1, 16, 6), 3, axis=1)
  w = w + jnp.tanh(w @ p["a"]) @ p["b"]
  w = w.reshape(-1, 2, 2, 4, 4, 6).transpose(0, 1, 3, 2, 4, 5)
  return w.reshape(y.shape).mean((1, 2)) @ p["out"]


def positions(p, x):
  h = p["table"][x] + p["at"][: x.shape[1]]
  return (h + jnp.tanh(h @ p["w"]) @ p["v"]) @ p["out"]


def fourier(p, x):
  return jnp.tanh(jnp.fft.fft(x @ p["a"], axis=1).real) @ p["b"]


def ordered(p, x):
  h = jnp.cumsum(x @ p["a"], -1)
  return jnp.sort(x @ p["c"], -1) @ p["d"] + h @ p["b"]


CASES = {
  "mlp": (mlp, {"a": (6, 5), "b": (5,), "c": (5, 4), "d": (4, 3)}, X,
          [(4,), (5,)]),
  "conv_flatten": (conv_flatten, {"k": (3, 3, 2, 4), "kb": (4,),
                   "l": (3, 3, 4, 5), "m": (20, 6), "o": (6, 3)}, IMAGES,
                   [(4,), (5,), (6,)]),
  "depthwise": (depthwise, {"in": (1, 1, 2, 4), "deep": (3, 3, 1, 8),
                "out": (1, 1, 8, 3)}, IMAGES, [(4,), (4, 2)]),
  "padded_shortcut": (padded_shortcut, {"a": (3, 3, 2, 4), "b": (3, 3, 4, 8),
                      "o": (8, 3)}, IMAGES, [(2,), (2,), (4,)]),
  "residual": (residual, {"in": (6, 4), "w": [(4, 5), (4, 7)],
               "v": [(5, 4), (7, 4)], "out": (4, 2)}, X, [(4,), (5,), (7,)]),
  "scanned": (scanned, {"in": (6, 4), "out": (4, 2), "layers": {
              "w": (3, 4, 5), "b": (3, 5), "v": (3, 5, 4)}}, X, [(3, 5), (4,)]),
  "looped": (looped, {"in": (6, 4), "w": (3, 4, 5), "v": (3, 5, 4),
             "out": (4, 2)}, X, None),
  "heads_einsum": (heads_einsum, {"q": (6, 2, 4), "k": (6, 2, 4),
                   "v": (6, 2, 3), "o": (2, 3, 6)}, STEPS,
                   [(2,), (2, 3), (2, 4)]),
  "heads_reshape": (heads_reshape, {"q": (6, 8), "k": (6, 8), "v": (6, 6),
                    "q_b": (8,), "k_b": (8,), "v_b": (6,), "o": (6, 6)}, STEPS,
                    [(2,), (2, 3), (2, 4)]),
  "fused": (fused, {"qkv": (6, 15), "o": (5, 6)}, STEPS, [(5,), (5,)]),
  "fused_heads": (fused_heads, {"qkv": (6, 24), "o": (8, 6)}, STEPS, None),
  "grouped": (grouped, {"q": (6, 12), "k": (6, 6), "v": (6, 6), "o": (12, 6)},
              STEPS, [(2,), (2, 2), (2, 3), (2, 3)]),
  "normed_heads": (normed_heads, {"q": (6, 2, 4), "k": (6, 2, 4),
                   "v": (6, 2, 4), "sq": (4,), "sk": (4,), "o": (2, 4, 6)},
                   STEPS, [(2,), (2, 4), (4,)]),
  "rnn": (rnn, {"in": (6, 4), "h": (4, 4), "b": (4,), "out": (4, 2)}, STEPS,
          [(4,)]),
  "lstm": (lstm, {"in": (6, 16), "h": (4, 16), "b": (16,), "out": (4, 2)},
           STEPS, [(4,)]),
  "tied": (tied, {"table": (5, 4), "w": (4, 6), "v": (6, 4)}, TOKENS,
           [(4,), (6,)]),
  "gated": (gated, {"up": (6, 10), "down": (5, 2)}, X, [(5,)]),
  "experts": (experts, {"router": (6, 3), "up": (3, 6, 5), "down": (3, 5, 2)},
              X, [(3,), (3, 5)]),
  "looked_up_experts": (looked_up_experts, {"router": (6, 3), "up": (3, 6, 5),
                        "down": (3, 5, 2)}, X, None),
  "group_norm": (group_norm, {"in": (6, 6), "s": (6,), "out": (6, 2)}, X,
                 [(2,), (2, 3)]),
  "batch_norm": (batch_norm, {"params": {"w": (6, 5), "s": (5,), "o": (5, 2)},
                 "batch_stats": {"mean": (5,), "var": (5,)}}, X, [(5,)]),
  "dense_net": (dense_net, {"a": (6, 4), "b": (10, 3), "c": (13, 2)}, X,
                [(3,), (4,)]),
  "mixer": (mixer, {"in": (6, 4), "t": (5, 7), "u": (7, 5), "c": (4, 3),
            "d": (3, 4), "out": (4, 2)}, STEPS, [(3,), (4,), (7,)]),
  "reshaped": (reshaped, {"a": (6, 8), "b": (8, 2)}, X, [(8,)]),
  "maxout": (maxout, {"a": (6, 12), "b": (4, 2)}, X, [(4,), (4, 3)]),
  "ensemble": (ensemble, {"w": (3, 6, 5), "v": (3, 5, 2)}, X, [(3, 5)]),
  "low_rank": (low_rank, {"w": (6, 5), "a": (6, 2), "b": (2, 5), "o": (5, 3)},
               X, [(2,), (5,)]),
  "branches": (branches, {"a": (6, 5), "w": (5, 4), "v": (5, 4), "o": (4, 2)},
               X, [(4,), (5,)]),
  "split_heads": (split_heads, {"qkv": (6, 24), "b": (24,), "o": (12, 6)},
                  STEPS, [(2,), (2, 2), (2, 3), (2, 3)]),
  "rotated_pairs": (rotated_pairs, {"q": (6, 8), "k": (6, 8), "v": (6, 8),
                    "o": (8, 6)}, STEPS, [(2,), (2, 4)]),
  "gated_pairs": (gated_pairs, {"up": (6, 10), "down": (5, 2)}, X, [(5,)]),
  "stacked": (stacked, {"a": (6, 4), "b": (6, 4), "m": (2, 4, 3), "o": (4, 3)},
              X, [(4,)]),
  "windows": (windows, {"in": (1, 1, 2, 6), "a": (6, 5), "b": (5, 6),
              "out": (6, 2)}, IMAGES, [(5,), (6,)]),
  "positions": (positions, {"table": (5, 4), "at": (8, 4), "w": (4, 6),
                "v": (6, 4), "out": (4, 2)}, TOKENS, [(4,), (6,)]),
  "fourier": (fourier, {"a": (6, 4), "b": (4, 2)}, STEPS, None),
  "ordered": (ordered, {"a": (6, 4), "b": (4, 2), "c": (6, 3), "d": (3, 2)}, X,
              None),
}  # fmt: skip


def build(name):
  """Return (apply, parameters, input, expected shapes of the names)."""
  apply, shapes, x, names = CASES[name]
  random = np.random.default_rng(7)
  params = jax.tree.map(
    lambda shape: random.normal(size=shape).astype(np.float32),
    shapes,
    is_leaf=lambda s: isinstance(s, tuple),
  )
  if "batch_stats" in params:
    params["batch_stats"]["var"] = np.abs(params["batch_stats"]["var"])

  @functools.wraps(apply)
  def free(p, x):
    with jax.numpy_rank_promotion("allow"):  # users add biases as they are
      return apply(p, x)

  return free, params, x, names
