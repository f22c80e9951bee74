"""Requests of objects, made again where their answer broke off in the middle.

The client repeats what was refused, came late or did not connect, but not what breaks off
in the text of an answer: of a listing, of a refusal, of an upload that begins.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeAlias

import obstore
from obstore.exceptions import GenericError
from obstore.store import GCSStore, S3Store
from tenacity import (
    AsyncRetrying,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_after_delay,
    wait_random_exponential,
)
from typing_extensions import override
from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import ObjectStore

from pipeline.store.location import RETRIES, ObjectLocation, unreachable_explained

Objects: TypeAlias = GCSStore | S3Store


def _broke_off(error: BaseException) -> bool:
    """Whether the client ended without a verdict, and not because it repeated to the end."""
    text = str(error)
    return (
        isinstance(error, GenericError)
        and "status code:" not in text
        and f"after {RETRIES['max_retries']} retries" not in text
    )


def _is_unknown(error: BaseException) -> bool:
    """Whether an upload in parts is known no more: its last request went through unanswered."""
    return isinstance(error, FileNotFoundError) or "NoSuchUpload" in str(error)


_POLICY: Final[dict[str, Any]] = {
    "retry": retry_if_exception(_broke_off),
    "stop": stop_after_attempt(5) | stop_after_delay(RETRIES["retry_timeout"]),
    "wait": wait_random_exponential(multiplier=0.1, max=5),
    "reraise": True,
}
# Else Google serves what anyone may read from a cache, for an hour after it was replaced.
FRESH: Final[Any] = {"Cache-Control": "no-cache"}
retried = Retrying(**_POLICY)
"""Calls a function, and calls it again where an answer broke off."""


_UPLOADS: Final = retried.copy(
    retry=retry_if_exception(lambda error: _broke_off(error) or _is_unknown(error))
)


def upload(objects: Objects, key: str, file: Path) -> None:
    """Puts a file, in parts if it is large, whose bucket is there."""
    _UPLOADS(obstore.put, objects, key, file, attributes=FRESH)


def remove(objects: Objects, key: str) -> None:
    """Deletes an object, if it is there.

    Google's storage, unlike S3, refuses to delete what is not there: so it does where an
    earlier try went through and only its answer was lost.
    """
    with suppress(FileNotFoundError):
        retried(obstore.delete, objects, key)


class ReadObjects(ObjectStore[Objects]):
    """The objects of a store, as zarr reads them."""

    def __init__(self, place: ObjectLocation) -> None:
        super().__init__(place.objects(), read_only=True)
        self._place = place

    @override
    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        with unreachable_explained(self._place):
            return await AsyncRetrying(**_POLICY)(super().get, key, prototype, byte_range)
