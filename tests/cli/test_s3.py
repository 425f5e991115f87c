"""A local S3 server: data and run folder in a bucket, and what may be wrong with buckets, credentials and networks."""

from __future__ import annotations

import logging
import socket
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest
import s3fs
from moto.server import ThreadedMotoServer
from stores import contents, put_folder
from tiny import EXTRACT, Vreid

from vreid_cli.runtime.objects import ObjectPath, as_path

pytestmark = pytest.mark.slow

KEY, SECRET = "AKIANEVERSHOWTHISKEY", "never/show+this=secret"


@dataclass(frozen=True)
class Server:
    """A server and the environment in which the libraries find it."""

    endpoint: str
    patch: pytest.MonkeyPatch

    def say(self, **variables: str | None) -> None:
        """Change what the libraries find in the environment."""
        for name, value in variables.items():
            if value is None:
                self.patch.delenv(name, raising=False)
            else:
                self.patch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it tells each request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def server(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The server with an empty bucket, and nothing of the developer's own credentials."""
    _ask(endpoint, "reset")
    _ask(endpoint, "reset-auth", b"inf")  # so many requests are answered to anybody
    found = Server(endpoint, monkeypatch)
    found.say(
        AWS_ENDPOINT_URL=endpoint,
        AWS_ACCESS_KEY_ID=KEY,
        AWS_SECRET_ACCESS_KEY=SECRET,
        AWS_DEFAULT_REGION="us-east-1",
        AWS_CONFIG_FILE="nowhere",
        AWS_SHARED_CREDENTIALS_FILE="nowhere",
        AWS_EC2_METADATA_DISABLED="true",
        AWS_PROFILE=None,
        AWS_SESSION_TOKEN=None,
    )
    boto3.client("s3").create_bucket(Bucket="cars")
    yield found
    s3fs.S3FileSystem.clear_instance_cache()


def _ask(endpoint: str, what: str, body: bytes = b"") -> None:
    request = urllib.request.Request(f"{endpoint}/moto-api/{what}", data=body, headers={"Content-Type": "text/plain"})
    urllib.request.urlopen(request).close()


@pytest.fixture
def extract(server: Server, made: Path, weights: Path) -> list[str]:
    """The command, with its data in the bucket."""
    put_folder(made / "data", "s3://cars/data")
    return [*EXTRACT, "--data-dir", "s3://cars/data", "--run-dir", "s3://cars/run", "--weights", str(weights)]


def test_the_whole_job_on_s3_gives_what_it_gives_here(
    vreid: Vreid, extract: list[str], made: Path, server: Server
) -> None:
    here = made / "runs/tracks-resnet18-tiny"
    vreid(*extract, "--workers", "1")
    told = vreid.out + vreid.err
    there = contents("s3://cars/run")
    for split in ("query", "gallery"):
        part = f"features/{split}/part-00000.arrow"
        assert there[part] == (here / part).read_bytes()
    vreid("rank")
    told += vreid.out + vreid.err
    (score,) = vreid.json("evaluate")["results"]
    assert (score["valid_queries"], score["total_queries"]) == (4, 4)
    vreid("show", "--output", "s3://cars/report.html")
    assert b"0001_c002" in as_path("s3://cars/report.html").read_bytes()
    told += vreid("info", "s3://cars/run", "--verify") + vreid("rank", "--show-config") + vreid.err
    vreid(*extract)
    assert "gallery: 15 images in 7 tracks, nothing to compute" in vreid.out
    # Nothing that the libraries know of credentials comes into a file or a message.
    written = b"".join(contents("s3://cars").values())
    for secret in (KEY, SECRET):
        assert secret not in told
        assert secret.encode() not in written


def test_an_extraction_goes_on_and_sees_what_was_replaced(vreid: Vreid, extract: list[str], made: Path) -> None:
    extract += ["--set", "extract.part_images=4"]
    vreid(*extract)
    whole = contents("s3://cars/run/features/gallery")
    folder = as_path("s3://cars/run/features/gallery")
    for name in ("complete.json", "part-00001.arrow"):
        (folder / name).unlink()
    # Another image of the same size in bytes, in the same second: only its entity tag tells.
    image = as_path("s3://cars/data/query/0001_c001/0.png")
    content = bytearray((made / "data/query/0001_c001/0.png").read_bytes())
    content[-20] ^= 1
    Path("other.png").write_bytes(content)
    assert isinstance(image, ObjectPath)
    image.upload(Path("other.png"))
    assert "not complete" in vreid.error("rank", "--run-dir", "s3://cars/run")["message"]
    told = vreid.json(*extract)
    assert contents("s3://cars/run/features/gallery") == whole
    assert told["splits"]["query"]["computed"] or told["skipped"]


def test_what_others_write_is_seen_at_once(server: Server) -> None:
    folder = as_path("s3://cars/folder")
    assert isinstance(folder, ObjectPath)
    for count in (1, 2):
        boto3.client("s3").put_object(Bucket="cars", Key=f"folder/{count}.txt", Body=b"x" * count)
        assert folder.file_names() == [f"{n}.txt" for n in range(1, count + 1)]
        assert len(folder.files_below()) == count
        assert (folder / f"{count}.txt").stat().st_size == count


@pytest.mark.parametrize(
    ("option", "address", "said"),
    [
        ("--data-dir", "s3://nowhere/data", "there is no bucket s3://nowhere"),
        ("--data-dir", "s3://cars/nowhere", "there is no folder s3://cars/nowhere"),
        ("--run-dir", "s3://nowhere/run", "there is no bucket s3://nowhere"),
        ("--data-dir", "s3://Not A Bucket/data", "Invalid bucket name"),
    ],
)
def test_a_wrong_address_is_named(
    vreid: Vreid, server: Server, made: Path, weights: Path, option: str, address: str, said: str
) -> None:
    given = {"--data-dir": str(made / "data"), "--run-dir": "s3://cars/run", "--weights": str(weights), option: address}
    error = vreid.error(*EXTRACT, *(word for pair in given.items() for word in pair))
    assert said in error["message"]
    assert error["file"].startswith(address)


@pytest.mark.parametrize(
    "command",
    [
        ["extract", "--dataset", "tracks", "--data-dir", "s3://cars/data", "--weights", "small"],
        ["rank", "--run-dir", "s3://cars/run"],
        ["rank", "--query-features", "s3://cars/q.npz", "--gallery-features", "s3://cars/g.npz", "--output", "o.json"],
    ],
)
def test_what_keeps_a_store_from_answering_is_told_in_words(vreid: Vreid, server: Server, command: list[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens
        server.say(AWS_ENDPOINT_URL=f"http://127.0.0.1:{taken.getsockname()[1]}", AWS_MAX_ATTEMPTS="1")
        assert "cannot be reached" in _trouble(vreid, command)
    server.say(AWS_ENDPOINT_URL=server.endpoint, AWS_ACCESS_KEY_ID=None, AWS_SECRET_ACCESS_KEY=None)
    assert "no credentials" in _trouble(vreid, command)
    server.say(AWS_PROFILE="nobody")
    assert "no credentials" in _trouble(vreid, command)
    server.say(AWS_PROFILE=None, AWS_ACCESS_KEY_ID=KEY, AWS_SECRET_ACCESS_KEY=SECRET)
    _ask(server.endpoint, "reset-auth", b"0")
    assert "no permission" in _trouble(vreid, command)


def _trouble(vreid: Vreid, command: list[str]) -> str:
    error = vreid.json(*command, code=1)["error"]
    assert error["message"].startswith("s3://cars")
    assert error["hint"]
    assert KEY not in vreid.out + vreid.err
    assert SECRET not in vreid.out + vreid.err
    message: str = error["message"]
    return message


def test_a_part_cut_short_and_an_image_gone_are_named(vreid: Vreid, extract: list[str]) -> None:
    vreid(*extract)
    part = as_path("s3://cars/run/features/gallery/part-00000.arrow")
    Path("short").write_bytes(part.read_bytes()[:1000])
    assert isinstance(part, ObjectPath)
    part.upload(Path("short"))
    error = vreid.error("rank", "--run-dir", "s3://cars/run")
    assert error["message"].startswith(f"{part} is damaged")
    as_path("s3://cars/data/gallery/0009_c001/0.png").unlink()
    vreid(*extract)
    assert "gallery: 14 images in 6 tracks, 14 computed now" in vreid.out
