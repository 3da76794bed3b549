"""Three kinds of error decide a record's fate: bad input → dead letter, transient → bounded retry, fatal → exit."""

from __future__ import annotations

from enum import StrEnum


class Code(StrEnum):
    """Why a record became a dead letter. The names are part of the public contract."""

    BAD_EVENT = "bad_event"
    MISSING_IMAGE = "missing_image"
    BAD_TEXT = "bad_text"
    FETCH_REFUSED = "fetch_refused"
    FETCH_FAILED = "fetch_failed"
    FETCH_TIMEOUT = "fetch_timeout"
    TOO_LARGE = "too_large"
    DIGEST_MISMATCH = "digest_mismatch"
    UNSUPPORTED_FORMAT = "unsupported_format"
    BAD_IMAGE = "bad_image"
    IMAGE_BOMB = "image_bomb"
    DECODE_CRASHED = "decode_crashed"
    ENGINE_FAILED = "engine_failed"
    PUBLISH_TOO_LARGE = "publish_too_large"


class Stage(StrEnum):
    """The stage that refused a record, in the order in which a record meets them."""

    EVENT = "event"
    TEXT = "text"
    FETCH = "fetch"
    DECODE = "decode"
    ENGINE = "engine"
    PUBLISH = "publish"


class CreativeError(Exception):
    """One creative can't be scored: it goes to the dead letters, and nothing else is touched.

    `message` is written to headers and logs, so it must never hold creative text, a URL's query or userinfo.
    """

    def __init__(self, code: Code, stage: Stage, message: str, *, retryable: bool = False, attempts: int = 1) -> None:
        super().__init__(message)
        self.code = code
        self.stage = stage
        self.message = message
        self.retryable = retryable
        self.attempts = attempts


class OcrError(Exception):
    """The text in an image could not be read: the event is published without it (`partial`).

    `code` is `ocr_failed` or `ocr_timeout`; `message` holds nothing of the image.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class OcrMissingError(Exception):
    """What the chosen OCR needs is not installed; the text says the mend."""


class FatalError(Exception):
    """The worker can't go on. `exit_code` as in the contract: 1 failed, 2 wrong settings, 3 something unavailable."""

    def __init__(self, message: str, *, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code
