"""Google's emulator of its own storage on loopback, and what it leaves out of the XML interface.

obstore speaks XML to Google's storage, TensorStore JSON. Of the XML the emulator takes gets,
and puts with their conditions; the rest is translated here to its JSON interface, by
Google's reference of the XML one.
"""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import threading
from base64 import b64decode
from contextlib import contextmanager
from datetime import datetime
from email.utils import format_datetime
from functools import partial
from urllib.parse import parse_qsl, quote, urlsplit
from uuid import uuid4
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import pytest

from tests.object_store import (
    SECRET,
    Answer,
    Faults,
    Server,
    answers,
    ask,
    failing_proxy,
    free_port,
)

BEARER = ("authorization", f"Bearer {SECRET}")  # the emulator asks for none
SMALLEST_PART = 5 * 2**20  # of an upload in parts, but for its last


def environment(address):
    """What reaches a server in place of Google's."""
    return {
        "GOOGLE_BASE_URL": address,
        "GOOGLE_BEARER_TOKEN": SECRET,
        "AWS_ALLOW_HTTP": "true",
        "TENSORSTORE_GCS_HTTP_URL": address,
        "GOOGLE_AUTH_TOKEN_FOR_TESTING": SECRET,
    }


@contextmanager
def google_server():
    """Runs the emulator in processes of its own; gives its address."""
    command = shutil.which("storage-testbench")
    if command is None:
        pytest.skip(
            "Google's emulator is not on PyPI: "
            "pipx install git+https://github.com/googleapis/storage-testbench"
        )
    port = free_port()
    address = f"http://localhost:{port}"
    with subprocess.Popen(
        [command, "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # it starts a process that serves
    ) as server:
        try:
            answers(address)
            bucket = json.dumps({"name": "bucket"}).encode()
            ask(address, "POST", "/storage/v1/b?project=p", bucket)
            with failing_proxy(address, Faults(), ask=XmlInterface()) as whole:
                yield Server("gs", whole, environment)
        finally:
            os.killpg(server.pid, signal.SIGKILL)


class XmlInterface:
    """Asks the emulator; what it lacks of the XML interface is made of its JSON one."""

    def __init__(self):
        self._writing = threading.Lock()  # so that the state that is told is that of the put
        self._uploads = {}

    def __call__(self, address, method, path, body, headers):
        to = partial(ask, address)
        url = urlsplit(path)
        bucket, _, key = url.path.lstrip("/").partition("/")
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        if BEARER not in [(name.lower(), value) for name, value in headers]:
            return Answer(401, [], b"<Error><Code>AuthenticationRequired</Code></Error>")
        if bucket in ("storage", "upload", "download"):
            return to(method, path, body, headers)
        if not key:
            return _listed(to("GET", f"/storage/v1/b/{bucket}/o?prefix={quote(query['prefix'])}"))
        if "uploads" in query or "uploadId" in query:
            return self._in_parts(to, method, url.path, query, body)
        return self._whole(to, method, url.path, body, headers)

    def _whole(self, to, method, path, body=b"", headers=()):
        bucket, _, key = path.lstrip("/").partition("/")
        entry = f"/storage/v1/b/{bucket}/o/{key}"
        if method in ("GET", "HEAD"):
            return _described(to(method, path, body, headers), to, entry)
        with self._writing:
            if method == "DELETE":
                answer = to(method, entry)
                return Answer(204, [], b"") if answer.status == 200 else answer
            return _described(to(method, path, body, headers), to, entry)

    def _in_parts(self, to, method, path, query, body):
        if "uploads" in query:
            upload = uuid4().hex
            self._uploads[upload] = {}
            return _xml("InitiateMultipartUploadResult", f"<UploadId>{upload}</UploadId>")
        parts = self._uploads.get(query["uploadId"])
        if parts is None:  # completed, or given up
            return Answer(404, [], b"<Error><Code>NoSuchUpload</Code></Error>")
        if method == "PUT":
            parts[query["partNumber"]] = body
            return Answer(200, [("ETag", f'"{hashlib.md5(body).hexdigest()}"')], b"")
        del self._uploads[query["uploadId"]]
        if method == "DELETE":
            return Answer(204, [], b"")
        chosen = [parts[n.text] for n in ElementTree.fromstring(body).iter("PartNumber")]
        if any(len(part) < SMALLEST_PART for part in chosen[:-1]):
            return Answer(400, [], b"<Error><Code>EntityTooSmall</Code></Error>")
        headers = dict(self._whole(to, "PUT", path, b"".join(chosen)).headers)
        state = [("x-goog-generation", headers["x-goog-generation"])]
        return _xml("CompleteMultipartUploadResult", f"<ETag>{headers['ETag']}</ETag>", state)


def _described(answer, to, entry):
    """Adds the headers by which a client knows what it got or put."""
    if answer.status >= 300:
        return answer
    generation = dict(answer.headers).get("x-goog-generation")
    found = to("GET", f"{entry}?generation={generation}" if generation else entry)
    if found.status != 200:  # deleted meanwhile
        return found
    state = json.loads(found.data)
    changed = format_datetime(datetime.fromisoformat(state["updated"]), usegmt=True)
    tag = b64decode(state["md5Hash"]).hex()
    headers = [("ETag", f'"{tag}"'), ("Last-Modified", changed)]
    if generation is None:
        headers.append(("x-goog-generation", state["generation"]))
    return answer._replace(headers=[*answer.headers, *headers])


def _listed(answer):
    if answer.status != 200:
        return answer
    entries = "".join(
        f"<Contents><Key>{escape(item['name'])}</Key><Size>{item['size']}</Size>"
        f"<LastModified>{item['updated']}</LastModified><ETag>{item['etag']}</ETag></Contents>"
        for item in json.loads(answer.data).get("items", ())
    )
    return _xml("ListBucketResult", entries)


def _xml(name, content, headers=()):
    return Answer(200, list(headers), f"<{name}>{content}</{name}>".encode())
