"""Cases of the study families: average, adapt, replicas, data_aware, soup."""

import numpy as np

from tests.experiments.judges import methods


def free_lunch(k, config):
  ca, both = "CA, shared head", "CA + RA, "
  last = "last, shared head"
  right = {last: 50, ca: 50 + k, f"{both}shared head": 50 + k}
  right |= {f"{both}own head": 50}
  spread = {last: 2, ca: 2 - k}
  named = {"shifted accuracy (%)": right, "spread (points)": spread}
  return methods(**named)


def mwa(k, config):
  mine = 2 - 0.1 * k
  rival = mine - 0.005 + 0.1 * k
  loss = {"uniform": 2, "last checkpoint": 2, "MWA by step": 2}
  loss |= {"MWA by loss": mine, "EMA": rival, "last k": rival}
  return methods(**{"test loss": loss})


def lcsc(k, config):
  rivals = dict.fromkeys(("best checkpoint", "EMA", "uniform"), 2)
  inside = {name: 1.5 for name in rivals} | {"LCSC": 1}
  outside = rivals | {"LCSC": 2 - 0.1 * k}
  return methods(**{"validation loss": inside, "test loss": outside})


def mindvl(k, config):
  names = [f"tuned at {n}" for n in config.lengths]
  mean = 2 + 0.005 - 0.1 * k
  loss = dict(zip(names, (2, 3, 3))) | {"average": mean}
  loss |= {"average at one length": mean + 0.1 * k}
  each = {f"at {n}": dict.fromkeys(names, 2) for n in config.lengths}
  return methods(**{"mean test loss": loss}, **each)


def signal_noise(k, config):
  noise = {"averaged": 1 - 0.3 * k, "last checkpoint": 1}
  right = {"averaged": 80 + k, "last checkpoint": 80}
  return methods(**{"noise (%)": noise, "decision accuracy (%)": right})


def zscl(k, config):
  kept = 60 + 3 * k
  old = {"fine-tuned": 60, "weight ensemble": kept}
  old |= {"WiSE-FT, as much of the new": kept - 0.5 + k}
  new = {"fine-tuned": 90, "weight ensemble": 89 + 0.5 * k}
  return methods(**{"old domain (%)": old, "new domain (%)": new})


def sparse_soups(k, config):
  loss = {"mean member": 1, "IMP": 1, "soup": 1 - 0.1 * k}
  zeros, right = dict.fromkeys(loss, 97), dict.fromkeys(loss, 90)
  named = {"test loss": loss, "zeros (%)": zeros, "accuracy (%)": right}
  return methods(**named)


def data_diet(k, config):
  first, last = config.spawn[0], config.spawn[-1]
  means = {f"hard, spawned at epoch {first}": 9 + 3 * k}
  means |= {f"hard, spawned at epoch {last}": 9 + k}
  means |= {f"easy, spawned at epoch {n}": 9 for n in (first, last)}
  return methods(**{"error barrier (points)": means})


def cotta(k, config):
  mine = 30 - 2 * k
  last = {"TENT": 30, "source": 30, "CoTTA": mine}
  first = {"CoTTA": mine - 2 + k}
  return methods(
    **{
      "error of the last turn (%)": last,
      "error of the first turn (%)": first,
    }
  )


def ewa(k, config):
  right = {"dense": 90, "experts, averaged": 89.5 + k}
  return methods(**{"accuracy (%)": right, "test loss": right})


def salsa(k, config):
  means = {"held to soup": k, "held to one model": 0}
  names = "reward", "KL to its reference", "test loss"
  return methods(**dict.fromkeys(names, means))


def salsa_bandit(k, config):
  gain = {"one": 0, "other": 0, "soup": k}
  gain |= {f"{name}, unrelated reward": 0 for name in gain}
  return methods(**{"reward": gain, "KL to its reference": gain})


def noloco(k, config):
  apart = {"alone": 1, "NoLoCo": 0.5 - 0.2 * k}
  loss = {"NoLoCo": 1.02 - 0.05 * k}
  loss |= {"DiLoCo, heavy ball": 1, "DiLoCo, Nesterov": 1}
  sent = dict.fromkeys((*loss, "all-reduce"), 1)
  named = {"distance to the mean": apart, "replicas' test loss": loss}
  return methods(**named, **{"kB a step and replica": sent})


def fedau(k, config):
  loss = {"FedAvg of those present": 1, "FedAvg of all": 1, "known rates": 1}
  return methods(**{"test loss": loss | {"FedAU": 1 - 0.1 * k}})


def fedpeft(k, config):
  right = {"all parameters": 90, "biases and head": 88 + k, "biases": 88}
  named = {"accuracy (%)": right, "kB a round and client": right}
  still = dict.fromkeys(right, 0)
  return methods(**named, **{"frozen leaves changed": still})


def regmean(k, config):
  right = {"average": 60, "Fisher": 60 + k, "RegMean": 60 + 2 * k}
  return methods(**{"tuned (%)": right, "untuned (%)": right})


def regmean_pp(k, config):
  right = {"RegMean": 60, "RegMean++": 60 + k}
  return methods(**{"tuned (%)": right, "untuned (%)": right})


def bench(k, config):
  right = {"task arithmetic": 70, "Fisher": 70 + k, "RegMean": 70 + k}
  return methods(**{"tuned (%)": right})


def atlas(k, config):
  right = {"base": 50, "aTLAS, by task": 50, "aTLAS, by leaf": 50 + k}
  named = {"new task (%)": right, "log-likelihood of the few": right}
  return methods(**named)


def front(k, config):
  own = {"MAP, 45": 95 + k, "random, 45": 95}
  named = {"hypervolume over the grid's (%)": own, "on test (%)": own}
  return methods(**named, **{"least R2": {"MAP, 45": 0.9 + 0.05 * k}})


def tax(k, config):
  places = np.linspace(0, 1, 5)
  reward = {f"one ratio, {t:.2f}": 20 + 40 * t for t in places}
  skill = {f"one ratio, {t:.2f}": -2 - 2 * t for t in places}
  for mean in config.means:
    reward[f"AMA, {mean:.2f}"], skill[f"AMA, {mean:.2f}"] = 40, -3 + k
  return methods(**{"reward (%)": reward, "log-likelihood": skill})


def cfg(k, config):
  top = {"interpolated": 0.2 * k}
  least = {"interpolated": 0.1 * k, "random direction": 0}
  return methods(**{"above the chord": top, "least interior": least})


def moe(k, config):
  best = "by frequency, aligned"
  loss = {best: 2 - 0.2 * k, "all experts": 1}
  loss |= {"mean, aligned": 2, "by frequency, as they are": 2}
  rank = {best: 8 - k, "all experts": 8}
  return methods(**{"test loss": loss, "stable rank": rank})


def greedy(k, config):
  chosen = {"greedy": 92, "best": 90}
  shown = {"greedy": 90 + k, "best": 90}
  named = {"validation accuracy": chosen, "test accuracy": shown}
  return methods(**named)


def uniform(k, config):
  return methods(**{"test accuracy": {"uniform": 90 + k, "best": 90}})


def collapse(k, config):
  right = {"uniform": 80 - 5 * k, "mean": 90}
  barrier = {"barrier": "midpoint", "loss": float(k), "error": 1.0}
  return [*methods(**{"test accuracy": right}), barrier]


CASES = {
  "free-lunch": free_lunch,
  "mwa": mwa,
  "lcsc": lcsc,
  "mindvl": mindvl,
  "signal-noise": signal_noise,
  "zscl": zscl,
  "sparse-soups": sparse_soups,
  "data-diet": data_diet,
  "cotta": cotta,
  "ewa": ewa,
  "salsa": salsa,
  "salsa-bandit": salsa_bandit,
  "noloco": noloco,
  "fedau": fedau,
  "fedpeft": fedpeft,
  "regmean": regmean,
  "regmean-pp": regmean_pp,
  "bench-data": bench,
  "atlas": atlas,
  "map": front,
  "ama": tax,
  "cfg": cfg,
  "mc-smoe": moe,
  "soups-greedy": greedy,
  "soups-uniform": uniform,
  "soups-collapse": collapse,
}
