"""Where a store lies: a local folder, or objects that a URL names.

Credentials come from the usual environment (``AWS_*``, ``GOOGLE_*``) alone. An address
that carries some is refused before anything keeps or repeats it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

from pipeline.files import check_utf8
from store_schema.extras import extra
from store_schema.problems import StoreError

if TYPE_CHECKING:
    from obstore.store import GCSStore, S3Store

STORE_CACHE: Final = "DCMNET_STORE_CACHE"
"""Environment variable of the folder that keeps what is streamed of stores by URL."""

_SCHEMES: Final = ("s3", "gs")
_CLIENT: Final = {"timeout": "60s", "connect_timeout": "10s"}
RETRIES: Final[dict[str, Any]] = {"max_retries": 8, "retry_timeout": timedelta(minutes=2)}
# The same for TensorStore, which would otherwise retry for a quarter of an hour.
REQUEST_RETRIES: Final = {"max_retries": 8, "initial_delay": "100ms", "max_delay": "15s"}
# TensorStore waits without end for an answer that stops coming; only this changes it.
_PATIENCE: Final = {
    "TENSORSTORE_CURL_CONNECT_TIMEOUT_SECONDS": "10",
    "TENSORSTORE_CURL_LOW_SPEED_LIMIT_BYTES": "1",
    "TENSORSTORE_CURL_LOW_SPEED_TIME_SECONDS": "60",
}
_STATUS: Final = re.compile(r"status code: (\d{3}[\w ]*)")


@dataclass(frozen=True)
class ObjectLocation:
    """Objects with a common prefix in a bucket.

    Attributes:
        scheme: ``s3`` or ``gs``.
        bucket: Name of the bucket.
        prefix: What the keys begin with, without the slash at its end.
    """

    scheme: str
    bucket: str
    prefix: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}/{self.prefix}"

    @property
    def name(self) -> str:
        """Last part of the address."""
        return self.prefix.rpartition("/")[2]

    def objects(self) -> GCSStore | S3Store:
        """Returns the client; it repeats what failed for a passing reason.

        Raises:
            ConfigError: The extra ``cloud`` is not installed.
            StoreError: The environment does not say how to reach the objects.
        """
        with extra("cloud", str(self)):
            from obstore.store import GCSStore, S3Store
        kind = S3Store if self.scheme == "s3" else GCSStore
        # Options of the client take the place of what the environment says of it.
        allowed = os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true")
        options: dict[str, Any] = {
            "client_options": {**_CLIENT, "allow_http": allowed},
            "retry_config": RETRIES,
        }
        with unreachable_explained(self):
            return kind.from_url(str(self), **options)

    def kvstore(self, path: str) -> dict[str, Any]:
        """Returns TensorStore's specification of the objects below a path of the store."""
        for name, value in _PATIENCE.items():
            os.environ.setdefault(name, value)
        spec: dict[str, Any] = {"bucket": self.bucket, "path": f"{self.prefix}/{path}/"}
        if self.scheme == "gs":
            return {"driver": "gcs", **spec}
        if os.environ.get("AWS_ACCESS_KEY_ID"):  # else it looks for files, and logs those missing
            spec["aws_credentials"] = {"type": "environment"}
        elif os.environ.get("AWS_SKIP_SIGNATURE", "").lower() in ("1", "true"):
            spec["aws_credentials"] = {"type": "anonymous"}
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        if endpoint:
            # Without a region TensorStore asks Amazon for it, which knows nothing of this bucket.
            spec |= {"endpoint": endpoint, "aws_region": region or "us-east-1"}
        elif region:
            spec["aws_region"] = region
        return {"driver": "s3", **spec}


def location(store: str | Path) -> Path | ObjectLocation:
    """Returns where a store lies.

    Args:
        store: Path, or URL that begins with ``file://``, ``s3://`` or ``gs://``.

    Raises:
        StoreError: It is neither, or holds more than an address, or is not UTF-8.
    """
    text = str(store)
    if "://" not in text:
        check_utf8(Path(store).absolute())
        return Path(store)
    parts = urlsplit(text)
    if parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path.strip("/"):
        return Path(unquote(parts.path))
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise StoreError.of(
            shown,
            wrong="the address has a user, a query or a fragment",
            consequence="it was not opened: credentials would be kept with it",
            remedy="Give credentials by the environment (AWS_*, GOOGLE_*)",
        )
    if parts.scheme not in _SCHEMES or not parts.netloc or not parts.path.strip("/"):
        raise StoreError.of(
            shown,
            wrong=f"this is no place of a store, with the scheme {parts.scheme!r} and the path "
            f"{parts.path!r}",
            consequence="it is not known where the store is",
            remedy="Give a path, or file:///PATH, s3://BUCKET/PATH or gs://BUCKET/PATH",
        )
    return ObjectLocation(parts.scheme, parts.netloc, parts.path.strip("/"))


@contextmanager
def unreachable_explained(place: ObjectLocation) -> Iterator[None]:
    """Says in words what stands between here and the objects.

    Of the client's own words only the status is repeated; others quote requests.

    Raises:
        StoreError: They cannot be reached.
    """
    try:
        yield
    except Exception as error:
        if type(error).__module__.partition(".")[0] != "obstore":
            raise
        status = _STATUS.search(str(error))
        failed = "no answer" if type(error).__name__ == "GenericError" else type(error).__name__
        raise unanswered(place, status[1].strip() if status else failed) from None


def unanswered(place: ObjectLocation, received: str) -> StoreError:
    """Returns the error that says the objects cannot be reached."""
    return StoreError.of(
        str(place),
        wrong=f"the object store does not answer: {received}",
        consequence="nothing of it was changed that readers see",
        remedy="Check credentials, region and address in AWS_* or GOOGLE_*; try again",
    )
