"""A unit that costs nothing: it adds one line, and may fail or take its time.

The line is what shows that a unit ran to completion once.
"""

import json
import os
import pathlib
import sys
import time


def read(argv: list[str]) -> dict[str, str]:
  """Return the flags, with the config's argument among them."""
  flags = dict(word[2:].split("=", 1) for word in argv)
  given = flags.get("config", "").partition(":")[2]
  for pair in filter(None, given.split(",")):
    name, _, value = pair.partition("=")
    flags.setdefault(f"config.{name}", value)
  flags.setdefault("config.seconds", "0")
  return flags


def main(argv: list[str]) -> None:
  flags = read(argv)
  folder = pathlib.Path(flags["workdir"], "quick", "run")
  folder.mkdir(parents=True, exist_ok=True)
  time.sleep(float(flags["config.seconds"]))
  if flags.get("config.kind") == "always fails":
    raise SystemExit("this unit fails always")
  if flags.get("config.kind") == "fails once" and not (folder / "x").exists():
    (folder / "x").touch()
    raise SystemExit("this unit fails once")
  seed = int(flags["config.seed"])
  aside = folder / ".result.writing"
  aside.write_text(json.dumps({"seed": seed, "square": seed**2}))
  with open(folder / "completed.txt", "a") as lines:
    lines.write(f"{os.getpid()}\n")
  os.replace(aside, folder / "result.json")


if __name__ == "__main__":
  main(sys.argv[1:])
