"""Downloads against a local server that can break off, lie, refuse and resume."""

import errno
import gzip
import hashlib
import http.server
import re
import threading

import pytest

from dgmlab.data import registry
from dgmlab.data.catalogue import DATASETS, Dataset, File, read_table

BODY = bytes(range(256)) * 4000  # 1,024,000 bytes
SHA256 = hashlib.sha256(BODY).hexdigest()
LATIN = "caf\xe9 \xa3\n".encode("latin-1")


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves server.bodies; understands Range unless server.no_range; cuts answers after server.cut bytes."""

    def do_GET(self):
        server = self.server
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked and not server.no_range else 0
        server.asked.append((self.path, start))
        body = server.bodies.get(self.path)
        if body is None:
            return self.send_error(server.refusal)
        if start and start >= len(body):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        self.wfile.write(body[start:] if server.cut is None else body[start : start + server.cut])

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.bodies, server.asked, server.cut, server.no_range, server.refusal = {"/toy/a.bin": BODY}, [], None, False, 404
    server.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def toy(server, monkeypatch, tmp_path):
    """A data set 'toy' of one file on the local server, and an empty data folder."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DGMLAB_DATA", str(tmp_path))
    monkeypatch.setitem(DATASETS, "toy", _toy(File("sub/a.bin", f"{server.url}/toy/a.bin", SHA256)))
    return tmp_path / "toy"


def _toy(*files):
    return Dataset("toy", files, "none", "nobody", "Put a.bin into toy/sub.")


def test_get_downloads_checks_and_asks_once(toy, server):
    assert registry.check("toy") == [f"{toy / 'sub/a.bin'} is missing."]
    assert registry.get("toy") == toy
    assert (toy / "sub/a.bin").read_bytes() == BODY
    assert registry.check("toy") == [] and registry.find("toy") == toy
    registry.get("toy")
    assert server.asked == [("/toy/a.bin", 0)]
    assert [path.name for path in (toy / "sub").iterdir()] == ["a.bin"]


def test_truncated_download_is_kept_and_resumed(toy, server):
    server.cut = 300_000
    with pytest.raises(ConnectionError, match="expected 1,024,000 bytes, found 300,000. They are kept"):
        registry.get("toy")
    assert not (toy / "sub/a.bin").exists() and (toy / "sub/a.bin.part").stat().st_size == 300_000
    with pytest.raises(ConnectionError, match="found 600,000"):
        registry.get("toy")
    server.cut = None
    registry.get("toy")
    assert (toy / "sub/a.bin").read_bytes() == BODY
    assert [start for _, start in server.asked] == [0, 300_000, 600_000]


def test_server_without_range_starts_again(toy, server):
    server.cut = 300_000
    with pytest.raises(ConnectionError):
        registry.get("toy")
    server.cut, server.no_range = None, True
    registry.get("toy")
    assert (toy / "sub/a.bin").read_bytes() == BODY


def test_whole_part_file_needs_no_more_bytes(toy, server):
    (toy / "sub").mkdir(parents=True)
    (toy / "sub/a.bin.part").write_bytes(BODY)
    registry.get("toy")
    assert (toy / "sub/a.bin").read_bytes() == BODY and not (toy / "sub/a.bin.part").exists()


def test_wrong_checksum_is_removed_and_the_next_try_works(toy, server):
    server.bodies["/toy/a.bin"] = BODY[:-1] + b"x"
    found = hashlib.sha256(server.bodies["/toy/a.bin"]).hexdigest()
    with pytest.raises(ValueError, match=f"wrong checksum .* expected sha256 {SHA256[:12]}, found {found[:12]}. The down"):
        registry.get("toy")
    assert list((toy / "sub").iterdir()) == []
    server.bodies["/toy/a.bin"] = BODY
    registry.get("toy")
    assert registry.check("toy") == []


def test_missing_file_on_the_server(toy, server):
    server.bodies.clear()
    with pytest.raises(FileNotFoundError, match="answered 404 .*The source has moved"):
        registry.get("toy")
    server.refusal = 503
    with pytest.raises(ConnectionError, match="answered 503 .*again later"):
        registry.get("toy")


def test_no_network(toy, server):
    server.shutdown()
    server.server_close()
    with pytest.raises(ConnectionError, match="cannot reach http.*Check the network or proxy"):
        registry.get("toy")


def test_full_disk_is_said_and_what_came_is_kept(toy, server, monkeypatch):
    real = registry._copy

    def full(answer, target, *args):
        target.write(answer.read(1000))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(registry, "_copy", full)
    with pytest.raises(OSError, match="disk full while writing .*a.bin.part. Free some space") as caught:
        registry.get("toy")
    assert caught.value.errno == errno.ENOSPC
    monkeypatch.setattr(registry, "_copy", real)
    registry.get("toy")
    assert server.asked[-1] == ("/toy/a.bin", 1000) and registry.check("toy") == []


def test_a_changed_file_on_disk_is_never_overwritten(toy, server):
    (toy / "sub").mkdir(parents=True)
    (toy / "sub/a.bin").write_bytes(b"mine")
    assert "has another checksum" in registry.check("toy")[0]
    with pytest.raises(ValueError, match="another checksum.*Move it away"):
        registry.get("toy")
    assert (toy / "sub/a.bin").read_bytes() == b"mine" and server.asked == []


def test_packed_and_latin_files_are_converted(toy, server, monkeypatch):
    server.bodies.update({"/b.txt.gz": gzip.compress(BODY), "/c.txt": LATIN, "/d.txt.gz": gzip.compress(BODY)[:100]})
    utf8 = hashlib.sha256("caf\xe9 \xa3\n".encode()).hexdigest()
    files = read_table(f"b.txt =.gz {SHA256}\nc.txt =latin1 {utf8}", server.url)
    monkeypatch.setitem(DATASETS, "toy", _toy(*files))
    registry.get("toy")
    assert (toy / "b.txt").read_bytes() == BODY and (toy / "c.txt").read_text(encoding="utf-8") == "caf\xe9 \xa3\n"
    assert sorted(path.name for path in toy.iterdir()) == ["b.txt", "c.txt"]
    monkeypatch.setitem(DATASETS, "toy", _toy(*read_table(f"d.txt =.gz {SHA256}", server.url)))
    with pytest.raises(ValueError, match="d.txt was not sent as a whole gzip file"):
        registry.get("toy")


def test_a_mirror_and_a_folder_of_choice(toy, server, tmp_path):
    server.bodies["/mirror/sub/a.bin"] = BODY
    assert registry.get("toy", dest=tmp_path / "here", base_url=f"{server.url}/mirror/") == tmp_path / "here"
    assert registry.check("toy", dest=tmp_path / "here") == [] and registry.check("toy") != []


def test_files_without_an_address_are_asked_for_in_words(toy, server, monkeypatch):
    here, by_hand = DATASETS["toy"].files[0], File("by_hand.txt", None, SHA256)
    monkeypatch.setitem(DATASETS, "toy", _toy(by_hand, here))
    with pytest.raises(FileNotFoundError, match="by_hand.txt of 'toy' cannot be downloaded.*Put a.bin into toy/sub."):
        registry.get("toy")
    assert (toy / "sub/a.bin").exists()


def test_missing_data_says_where_and_how(toy):
    with pytest.raises(FileNotFoundError, match="'toy' was expected at .*toy, found nothing there. Run `dgmlab data get toy`"):
        registry.find("toy")
    with pytest.raises(FileNotFoundError, match="'yahoo' was expected at .*Put train.txt.*DGMLAB_DATA"):
        registry.find("yahoo")
    with pytest.raises(KeyError, match="no data set 'ptbb'; choose one of: ptb, snli"):
        registry.get("ptbb")


def test_data_home_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("DGMLAB_DATA", str(tmp_path / "d"))
    assert registry.data_home() == tmp_path / "d"
    monkeypatch.delenv("DGMLAB_DATA")
    monkeypatch.setenv("DGMLAB_HOME", str(tmp_path))
    assert registry.data_home() == tmp_path.resolve() / "data"


@pytest.mark.parametrize("name", DATASETS)
def test_every_entry_is_complete(name):
    data = DATASETS[name]
    assert data.name == name and data.licence and data.citation and data.note
    assert len({file.path for file in data.files}) == len(data.files)
    for file in data.files:
        assert re.fullmatch("[0-9a-f]{64}", file.sha256)
        assert file.url is None or re.match(r"https://[a-z.]+/\S+$", file.url)
        assert not file.path.startswith("/") and ".." not in file.path


def test_classifiers_have_the_sums_that_their_reader_wants():
    from dgmlab.metrics.extractors import CLASSIFIERS

    assert {file.path: file.sha256 for file in DATASETS["classifiers"].files} == {
        f"{name}_cifar10.safetensors": sha256 for name, (_, sha256) in CLASSIFIERS.items()}
