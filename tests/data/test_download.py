"""The transfer of a data file, against a server on the loopback that cuts the connection."""

import hashlib
import io
import pickle
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from airepair.cli.main import main
from airepair.data import official_files
from airepair.data.catalogue import OFFICIAL, File
from airepair.data.download import fetch
from airepair.errors import Unavailable

BODY = bytes(range(256)) * 4096  # 1 MiB
MD5 = hashlib.md5(BODY).hexdigest()


class Server(ThreadingHTTPServer):
    """`cuts`: after how many bytes each of the first answers ends; `ranges`: whether Range is
    honoured; `asked`: the Range headers it saw.
    """

    cuts: list[int]
    ranges: bool
    asked: list[str]
    body: bytes


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range", "")
        self.server.asked.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.ranges else 0
        body = self.server.body[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        if start:
            self.send_header(
                "Content-Range", f"bytes {start}-{len(self.server.body) - 1}/{len(self.server.body)}"
            )
        self.end_headers()
        self.wfile.write(body[: self.server.cuts.pop(0)] if self.server.cuts else body)

    def log_message(self, format: str, *args: object) -> None:
        return None


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    found = Server(("127.0.0.1", 0), Handler)
    found.cuts, found.ranges, found.asked, found.body = [], True, [], BODY
    thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield found
    found.shutdown()
    thread.join()
    found.server_close()


def url(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}/file"


def test_a_cut_transfer_goes_on_where_it_ended(server: Server, tmp_path: Path) -> None:
    """Two cuts cost two more requests, each for the missing bytes only, and the file is whole."""
    server.cuts = [300_000, 200_000]
    target = fetch([url(server)], tmp_path / "deep" / "file", MD5)
    assert target.read_bytes() == BODY
    assert server.asked == ["", "bytes=300000-", "bytes=500000-"]
    assert not target.with_name("file.part").exists()


def test_what_arrived_is_kept_for_the_next_run(server: Server, tmp_path: Path) -> None:
    """A run that gives up leaves no file under the final name, and the next run asks for the rest only."""
    server.cuts = [100_000]
    with pytest.raises(Unavailable, match=r"ended after 100,000 of 1,048,576 bytes"):
        fetch([url(server)], tmp_path / "file", MD5, attempts=1)
    assert not (tmp_path / "file").exists()
    fetch([url(server)], tmp_path / "file", MD5)
    assert server.asked[-1] == "bytes=100000-"


def test_a_server_without_ranges_is_read_from_the_start(server: Server, tmp_path: Path) -> None:
    """A 200 answer to a Range request replaces what was there instead of being appended."""
    server.cuts, server.ranges = [100_000], False
    assert fetch([url(server)], tmp_path / "file", MD5).read_bytes() == BODY


def test_a_wrong_file_never_gets_the_final_name(server: Server, tmp_path: Path) -> None:
    """A complete file with another md5 sum is refused, and the sums are named."""
    server.body = BODY[:-1] + b"x"
    with pytest.raises(Unavailable, match=f"expected {MD5}"):
        fetch([url(server)], tmp_path / "file", MD5, attempts=2)
    assert sorted(p.name for p in tmp_path.iterdir() if p.suffix != ".lock") == []


def test_a_longer_wrong_part_does_not_block_the_transfer(server: Server, tmp_path: Path) -> None:
    """A stale part of another file is found out by the md5 sum and thrown away."""
    (tmp_path / "file.part").write_bytes(b"stale" * 10)
    assert fetch([url(server)], tmp_path / "file", MD5).read_bytes() == BODY


def test_a_mirror_takes_over(server: Server, tmp_path: Path) -> None:
    """A first address that does not answer is no obstacle."""
    assert fetch(["http://127.0.0.1:9/nothing", url(server)], tmp_path / "file", MD5).read_bytes() == BODY


def test_data_get_goes_on_in_the_next_run(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command, against a connection that is cut every time: one line says what is kept; run
    again it asks for the rest, checks and unpacks.
    """
    x, y = (
        np.random.default_rng(0).integers(0, 256, (200, 3 * 32 * 32), dtype=np.uint8),
        [k % 100 for k in range(200)],
    )
    batch = pickle.dumps({"data": x, "fine_labels": y})
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name in ("train", "test"):
            member = tarfile.TarInfo(f"cifar-100-python/{name}")
            member.size = len(batch)
            tar.addfile(member, io.BytesIO(batch))
    server.body, md5 = buffer.getvalue(), hashlib.md5(batch).hexdigest()
    file = File("cifar-100-python.tar.gz", (url(server),), hashlib.md5(server.body).hexdigest())
    monkeypatch.setitem(
        OFFICIAL,
        "cifar100",
        replace(OFFICIAL["cifar100"], files=(file,), members=(("train", md5), ("test", md5))),
    )
    monkeypatch.setenv("AIREPAIR_DATA", str(tmp_path))
    server.cuts = [10_000] * 6
    assert main(["data", "get", "cifar100"]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("airepair: cifar-100-python.tar.gz could not be fetched")
    assert last.endswith("; 60,000 bytes are kept and the next try goes on from there")
    assert main(["data", "get", "cifar100"]) == 0
    assert server.asked[-1] == "bytes=60000-"
    assert main(["data", "list"]) == 0
    assert f"cifar100        {tmp_path / 'cifar-100-python'}" in capsys.readouterr().out
    assert np.array_equal(
        official_files.read("cifar100", tmp_path).x_train[0, :, :, 2], x[0, 2048:].reshape(32, 32)
    )


def test_workers_do_not_fetch_twice(server: Server, tmp_path: Path) -> None:
    """Two threads want one file: one request is made."""
    threads = [threading.Thread(target=fetch, args=([url(server)], tmp_path / "file", MD5)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.asked == [""]
