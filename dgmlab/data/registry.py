"""Corpora on this machine: where they live, how to get them, whether they are whole (`dgmlab data list | get | check`).

The downloader is our own: pooch verifies checksums but starts a broken download again from zero, and huggingface_hub resumes
but only from its own servers. Here a broken download leaves NAME.part, and the next call asks the server for the rest.
"""

import errno
import gzip
import hashlib
import http.client
import os
import sys
import urllib.error
import urllib.request
import zlib
from pathlib import Path

from dgmlab.data.catalogue import DATASETS, Dataset, File
from dgmlab.run import home

__all__ = ["DATASETS", "Dataset", "File", "check", "data_home", "find", "get", "lookup"]

BLOCK = 1 << 18  # bytes read at once
TIMEOUT = 30  # seconds without a byte
GO_ON = "They are kept; run the command again to go on."


def data_home():
    """Folder of the corpora: DGMLAB_DATA, else data/ in `home()`."""
    named = os.environ.get("DGMLAB_DATA")
    return Path(named).expanduser().absolute() if named else home() / "data"


def lookup(name):
    """The Dataset of a name; a wrong one is told which exist."""
    if name not in DATASETS:
        raise KeyError(f"no data set '{name}'; choose one of: {', '.join(DATASETS)}.")
    return DATASETS[name]


def is_here(name):
    """True where the folder of a corpus holds something."""
    return _holds_something(data_home() / lookup(name).name)


def _holds_something(folder):
    return folder.is_dir() and any(folder.iterdir())


def find(name):
    """The folder of a corpus, which must exist and hold something."""
    folder = data_home() / lookup(name).name
    if is_here(name):
        return folder
    if any(file.url for file in DATASETS[name].files):
        advice = f"Run `dgmlab data get {name}`, or set DGMLAB_DATA to the folder that holds {name}/."
    else:
        advice = f"{DATASETS[name].note} DGMLAB_DATA moves the data folder."
    raise FileNotFoundError(f"data set '{name}' was expected at {folder}, found nothing there. {advice}")


def check(name, dest=None):
    """What is wrong with a corpus on disk: files that are missing or differ. -> list of str, empty when all is well"""
    folder = Path(dest or data_home() / lookup(name).name)
    problems = []
    if not lookup(name).files and not _holds_something(folder):
        problems.append(f"{folder} holds no files. {lookup(name).note}")
    for file in lookup(name).files:
        path = folder / file.path
        if not path.is_file():
            problems.append(f"{path} is missing.")
        elif (found := _sha256(path)) != file.sha256:
            problems.append(f"{path} has another checksum: expected {file.sha256[:12]}, found {found[:12]}.")
    return problems


def get(name, dest=None, base_url=None):
    """Download what is missing of a corpus; a download that broke off goes on where it stopped.

    dest      folder, default data_home()/name
    base_url  a mirror: its folder with the files laid out as in the corpus, in place of the registered addresses
    -> Path of the folder
    """
    data, folder = lookup(name), Path(dest or data_home() / name)
    by_hand = []
    for file in data.files:
        path = folder / file.path
        if path.is_file() and _sha256(path) == file.sha256:
            continue
        if path.is_file():
            raise ValueError(
                f"{path} has another checksum: expected {file.sha256[:12]}, found {_sha256(path)[:12]}. "
                "Move it away if you do not need it, then run the command again."
            )
        if base_url:
            _fetch(File(file.path, f"{base_url.rstrip('/')}/{file.path}", file.sha256), path)
        elif file.url:
            _fetch(file, path)
        else:
            by_hand.append(file.path)
    if by_hand or not (data.files or folder.is_dir()):
        files = ", ".join(by_hand) or "the files"
        raise FileNotFoundError(f"{files} of '{name}' cannot be downloaded, expected in {folder}. {data.note}")
    return folder


def _fetch(file, path):
    """Download one file into place: NAME.part, converted, checked, renamed."""
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _download(file.url, part)
        content = _converted(part, file.convert)
        found = _sha256(content)
        if found != file.sha256:
            content.unlink()
            part.unlink(missing_ok=True)
            raise ValueError(
                f"wrong checksum for {file.url}: expected sha256 {file.sha256[:12]}, found {found[:12]}. "
                "The download was removed; run the command again, and if it comes back, the file has changed at its source."
            )
        os.replace(content, path)
        part.unlink(missing_ok=True)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            advice = "Free some space and run the command again: it goes on where it stopped."
            raise OSError(error.errno, f"disk full while writing {part}. {advice}") from None
        raise


def _download(url, part):
    """Append to `part` what is missing of the file at `url`; raise one-line errors, keeping what has arrived."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "dgmlab", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            resumed = answer.status == 206
            have = have if resumed else 0  # a server that does not know Range sends all of it again
            length = answer.headers.get("Content-Length")
            total = None if length is None else have + int(length)
            with open(part, "ab" if resumed else "wb") as target:
                have += _copy(answer, target, have, total, part.name.removesuffix(".part"))
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing after what we have: complete, the checksum will tell
            return
        if error.code >= 500 or error.code == 429:
            raise ConnectionError(f"{url} answered {error.code} ({error.reason}). Run the command again later.") from None
        advice = "The source has moved or wants a login; see the note in `dgmlab data list`, or give a mirror."
        raise FileNotFoundError(f"{url} answered {error.code} ({error.reason}). {advice}") from None
    except urllib.error.URLError as error:
        advice = "Check the network or proxy; what has arrived is kept."
        raise ConnectionError(f"cannot reach {url} ({error.reason}). {advice}") from None
    except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
        have = part.stat().st_size if part.exists() else 0
        raise ConnectionError(f"the connection to {url} broke after {have:,} bytes ({error}). {GO_ON}") from None
    if total is not None and have < total:
        raise ConnectionError(f"{url} broke off: expected {total:,} bytes, found {have:,}. {GO_ON}")


def _copy(answer, target, have, total, label):
    """Copy the body with a progress bar (on a terminal only). -> bytes copied"""
    from tqdm import tqdm

    copied = 0
    with tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=label, disable=not sys.stderr.isatty()) as bar:
        while block := answer.read(BLOCK):
            target.write(block)
            copied += len(block)
            bar.update(len(block))
    return copied


def _converted(part, convert):
    """The downloaded file in its final form, beside the .part (or the .part itself)."""
    if not convert:
        return part
    try:
        raw = part.read_bytes()
        content = gzip.decompress(raw) if convert == "gunzip" else raw.decode("latin-1").encode("utf-8")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        part.unlink()
        name = part.name.removesuffix(".part")
        raise ValueError(f"{name} was not sent as a whole gzip file ({error}). It was removed; run it again.") from None
    target = part.with_name(part.name.removesuffix(".part") + ".new")
    target.write_bytes(content)
    return target


def _sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
