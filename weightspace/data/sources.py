"""Where data sets lie: on this machine first, on their own sites when asked.

A data set's files are looked for under the folder that the caller names, then
in the cache (`$WEIGHTSPACE_DATA`, else `~/.cache/weightspace`), each time in a
sub-folder of the data set's name and then in the folder itself.  A download
happens only on request: it is checked against a SHA-256, written aside and
renamed, so that a file under its own name is always whole.

>>> [place.name for place in places("mnist", "somewhere")][:2]
['mnist', 'somewhere']
"""

import hashlib
import http.client
import io
import os
import pathlib
import tarfile
import tempfile
import urllib.request
from typing import NamedTuple

TIMEOUT = 60.0  # seconds without a byte
IDX_FILES = (
  "train-images-idx3-ubyte.gz",
  "train-labels-idx1-ubyte.gz",
  "t10k-images-idx3-ubyte.gz",
  "t10k-labels-idx1-ubyte.gz",
)
CIFAR_FILES = (
  *(f"cifar-10-batches-bin/data_batch_{k}.bin" for k in range(1, 6)),
  "cifar-10-batches-bin/test_batch.bin",
)


class Remote(NamedTuple):
  """A published file: its address and the SHA-256 of its bytes.

  `members` are the files that a .tar.gz holds for us; empty for a plain file.
  """

  url: str
  sha256: str
  members: tuple[str, ...] = ()


LAYOUTS = {
  "mnist": "gzipped IDX, as on http://yann.lecun.com/exdb/mnist/",
  "fashion_mnist": "gzipped IDX, under MNIST's file names",
  "notmnist": "gzipped IDX, under MNIST's file names (the t10k pair suffices)",
  "cifar10": "the binary version, cifar-10-batches-bin/*.bin",
  "text": "UTF-8 text",
}


def _idx_remotes(site: str, digests: tuple[str, ...]) -> dict[str, Remote]:
  return {f: Remote(site + f, d) for f, d in zip(IDX_FILES, digests)}


_CIFAR = Remote(
  "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
  "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
  CIFAR_FILES,
)

REMOTES: dict[str, dict[str, Remote]] = {
  "mnist": _idx_remotes(
    "http://yann.lecun.com/exdb/mnist/",
    (
      "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
      "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
      "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
      "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
  ),
  "fashion_mnist": _idx_remotes(
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    (
      "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
      "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
      "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
      "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    ),
  ),
  "cifar10": {file: _CIFAR for file in CIFAR_FILES},
  "text": {
    "tinyshakespeare.txt": Remote(
      "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/"
      "tinyshakespeare/input.txt",
      "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    )
  },
}


def cache() -> pathlib.Path:
  """Return the cache folder: `$WEIGHTSPACE_DATA` or `~/.cache/weightspace`."""
  return pathlib.Path(
    os.environ.get("WEIGHTSPACE_DATA") or "~/.cache/weightspace"
  ).expanduser()


def places(
  name: str, data_dir: str | os.PathLike[str] | None
) -> list[pathlib.Path]:
  """Return the folders in which a data set is looked for, in order."""
  roots = [] if data_dir is None else [pathlib.Path(data_dir).expanduser()]
  folders = []
  for root in [*roots, cache()]:
    folders.append(root / name)
    # .../mnist itself holds MNIST, whatever set of the same layout is wanted.
    if root.name == name or root.name not in LAYOUTS:
      folders.append(root)
  return folders


def find(
  name: str,
  files: tuple[str, ...],
  data_dir: str | os.PathLike[str] | None = None,
  download: bool = False,
  optional: tuple[str, ...] = (),
) -> dict[str, pathlib.Path]:
  """Find a data set's files, all in one folder.

  Args:
    name: the data set.
    files: what it consists of, relative to its folder.
    data_dir: a folder to look in before the cache.
    download: whether to fetch what is nowhere into the cache.
    optional: those of `files` that may be absent, all together.

  Returns:
    dict: from each file that is there to its path.

  Raises:
    FileNotFoundError: naming the first missing file, the places looked in and
      the layout expected.
    ValueError: for a download with another checksum.
  """
  looked = places(name, data_dir)
  best: dict[str, pathlib.Path] = {}
  for folder in looked:
    # The second form serves a data_dir that is cifar-10-batches-bin itself.
    for paths in (
      {f: folder / f for f in files},
      {f: folder / pathlib.Path(f).name for f in files},
    ):
      found = {f: path for f, path in paths.items() if path.is_file()}
      if len(found) == len(files) or (
        optional and set(files) - set(found) == set(optional)
      ):
        return found
      best = max(best, found, key=len)
  missing = next(f for f in files if f not in best)
  if download and name in REMOTES and missing in REMOTES[name]:
    return {f: _download(name, f) for f in files}
  raise FileNotFoundError(_not_found(name, missing, looked, best))


def _not_found(
  name: str,
  missing: str,
  looked: list[pathlib.Path],
  found: dict[str, pathlib.Path],
) -> str:
  remote = REMOTES.get(name, {}).get(missing)
  partly = f" (found {next(iter(found.values()))})" if found else ""
  remedy = "No address is known to download it from"
  if remote:
    remedy = f"download=True fetches it from {remote.url}"
  return (
    f"{name}: {missing!r} not found{partly}. Looked in"
    f" {', '.join(map(str, looked))}. Expected layout: {LAYOUTS[name]}."
    f" {remedy}."
  )


def _download(name: str, file: str) -> pathlib.Path:
  path = cache() / name / file
  if path.is_file():
    return path
  remote = REMOTES[name][file]
  data = fetch(remote, f"{name}: {file!r} for {path} ({LAYOUTS[name]})")
  if not remote.members:
    _write(path, data)
  else:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
      for member in remote.members:
        stream = archive.extractfile(member)
        _write(cache() / name / member, stream.read() if stream else b"")
  return path


def fetch(remote: Remote, what: str) -> bytes:
  """Download one file whole and check it.

  Raises:
    FileNotFoundError: when the address does not answer, saying what was wanted.
    ValueError: when the bytes have another SHA-256.
  """
  try:
    with urllib.request.urlopen(remote.url, timeout=TIMEOUT) as response:
      data = response.read()
  except (OSError, http.client.HTTPException) as error:
    raise FileNotFoundError(
      f"{what}: {remote.url} cannot be read ({error}); get the file on a"
      " machine with a network and pass its folder as data_dir"
    ) from error
  digest = hashlib.sha256(data).hexdigest()
  if digest != remote.sha256:
    raise ValueError(
      f"{what}: {remote.url} has SHA-256 {digest}, expected {remote.sha256};"
      " nothing was kept"
    )
  return data


def _write(path: pathlib.Path, data: bytes) -> None:
  """Write aside and rename: a file under its own name is whole."""
  path.parent.mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory(dir=path.parent) as aside:
    part = pathlib.Path(aside) / path.name
    part.write_bytes(data)
    os.replace(part, path)
