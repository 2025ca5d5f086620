"""A Ray cluster on this machine: a head, and two hosts of four chips each.

It is steered by lines on its standard input: `kill` ends the second host's
processes, `add LABEL` brings another, of a slice of that name.  What it did is
lines of the file that is its argument.
"""

import sys

SLICE = "ray.io/tpu-slice-name"


def main(path: str) -> None:
  import ray.cluster_utils  # not there where only doctests are looked for

  cluster = ray.cluster_utils.Cluster(
    initialize_head=True,
    head_node_args={"num_cpus": 1, "include_dashboard": False},
  )

  def host(label):
    chips = {"num_cpus": 2, "resources": {"TPU": 4}}
    return cluster.add_node(**chips, labels={SLICE: label})

  try:
    _, second = host("a"), host("a")
    cluster.wait_for_nodes()
    say(path, cluster.address)
    for line in sys.stdin:
      word, *label = line.split()
      if word == "kill":
        cluster.remove_node(second, allow_graceful=False)
      else:
        second = host(*label)
        cluster.wait_for_nodes()
      say(path, word)
  finally:
    cluster.shutdown()


def say(path: str, word: str) -> None:
  with open(path, "a") as lines:
    lines.write(f"{word}\n")


if __name__ == "__main__":
  main(*sys.argv[1:])
