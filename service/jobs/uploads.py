"""Texts that are uploaded by themselves and named by their digests in jobs: megabytes do not belong in JSON."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine, Text, cast, delete, func, insert, select, update

from service.jobs import tables
from service.jobs.errors import InvalidJobError, TextNotFoundError, TooManyTextsError
from service.jobs.sql_statements import insert_texts, lock_owner
from service.jobs.work import MAX_TEXT_CHARACTERS, UploadedText
from service.platform.clock import utc_now
from service.platform.database import reading, writing

KEPT = timedelta(days=7)
"""A text that no job has named by then is deleted."""
MAX_KEPT = 100
"""Of one owner at a time: 1.6 GB of the largest."""
_FORGOTTEN_AT_ONCE = 20
_UPLOADS, _TEXTS = tables.uploaded_texts.c, tables.job_texts.c


@dataclass(frozen=True)
class OwnTexts:
    """What one owner has uploaded. A digest alone opens nothing: it must be of a text of one's own."""

    engine: Engine
    owner: str

    def require(self, sha256: str) -> None:
        """Refuse the digest of a text that the owner has not uploaded.

        Raises:
            TextNotFoundError: there is none, or it is somebody else's; the answer is the same.
        """
        query = select(_UPLOADS.sha256).where(_UPLOADS.owner == self.owner, _UPLOADS.sha256 == sha256)
        with reading(self.engine) as connection:
            if connection.execute(query).first() is None:
                raise _not_uploaded(sha256)

    def text(self, sha256: str) -> str:
        """Return a text. Raises what `require` raises."""
        query = (
            select(_TEXTS.utf8)
            .join(tables.uploaded_texts, _UPLOADS.sha256 == _TEXTS.sha256)
            .where(_UPLOADS.owner == self.owner, _UPLOADS.sha256 == sha256)
        )
        with reading(self.engine) as connection:
            utf8 = connection.execute(query).scalar_one_or_none()
        if utf8 is None:
            raise _not_uploaded(sha256)
        return bytes(utf8).decode()


class TextUploads:
    """What each owner has uploaded."""

    def __init__(self, engine: Engine, *, clock: Callable[[], datetime] = utc_now) -> None:
        self._engine = engine
        self._clock = clock

    def keep(self, owner: str, utf8: bytes) -> UploadedText:
        """Store a text for an owner and return how to name it; one that is there already is kept for longer.

        Raises:
            InvalidJobError: it is empty, too long or no UTF-8.
            TooManyTextsError: the owner has enough of them.
        """
        text = _decoded(utf8)
        digest, now = hashlib.sha256(utf8).hexdigest(), self._clock()
        with writing(self._engine) as connection:
            lock_owner(connection, owner)
            mine = (_UPLOADS.owner == owner, _UPLOADS.sha256 == digest)
            if connection.execute(update(tables.uploaded_texts).where(*mine).values(uploaded_at=now)).rowcount == 0:
                _require_room(connection, owner)
                values = {"owner": owner, "sha256": digest, "num_bytes": len(utf8), "uploaded_at": now}
                connection.execute(insert(tables.uploaded_texts).values(values))
            insert_texts(connection, {digest: text})
        return UploadedText(sha256=digest, num_bytes=len(utf8), kept_until=now + KEPT)

    def of(self, owner: str) -> "OwnTexts":
        """Return what one owner has uploaded, to be read."""
        return OwnTexts(self._engine, owner)

    def forget_expired(self) -> int:
        """Delete some of the uploads that are too old, with their texts where no job has them. A periodic duty."""
        old = select(_UPLOADS.owner, _UPLOADS.sha256).where(_UPLOADS.uploaded_at < self._clock() - KEPT)
        with writing(self._engine) as connection:
            rows = connection.execute(old.order_by(_UPLOADS.uploaded_at).limit(_FORGOTTEN_AT_ONCE)).all()
            for owner, digest in rows:
                gone = delete(tables.uploaded_texts).where(_UPLOADS.owner == owner, _UPLOADS.sha256 == digest)
                connection.execute(gone)
                _delete_unnamed(connection, digest)
        return len(rows)


def _not_uploaded(sha256: str) -> TextNotFoundError:
    return TextNotFoundError(f"you have uploaded no text with the digest {sha256}; POST /v1/texts first")


def _decoded(utf8: bytes) -> str:
    try:
        text = utf8.decode()
    except UnicodeDecodeError as error:
        raise InvalidJobError(f"the text is not UTF-8 at byte {error.start}; convert it") from None
    if not 0 < len(text) <= MAX_TEXT_CHARACTERS:
        raise InvalidJobError(f"a text has 1 to {MAX_TEXT_CHARACTERS:,} characters; this has {len(text):,}")
    return text


def _require_room(connection: Connection, owner: str) -> None:
    count = select(func.count()).select_from(tables.uploaded_texts).where(_UPLOADS.owner == owner)
    if connection.execute(count).scalar_one() >= MAX_KEPT:
        raise TooManyTextsError(f"you have {MAX_KEPT} uploaded texts; they go {KEPT.days} days after their upload")


def _delete_unnamed(connection: Connection, digest: str) -> None:
    named = select(tables.jobs.c.id).where(cast(tables.jobs.c.work, Text).contains(digest)).limit(1)
    uploaded = select(_UPLOADS.sha256).where(_UPLOADS.sha256 == digest).limit(1)
    if connection.execute(named).first() is None and connection.execute(uploaded).first() is None:
        connection.execute(delete(tables.job_texts).where(_TEXTS.sha256 == digest))
