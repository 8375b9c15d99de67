"""Logs: one stream, text or JSON, the libraries kept quiet, and no local variable in a traceback."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from secretbinding import logs


@pytest.fixture(autouse=True)
def _logging_is_put_back() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


def written(level: str, form: str) -> tuple[io.StringIO, structlog.typing.FilteringBoundLogger]:
    stream = io.StringIO()
    logs.configure(level, form, stream)
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    return stream, logger


def test_json_is_one_object_a_line() -> None:
    stream, log = written("INFO", "json")
    log.info("done", binding="a/b")
    logging.getLogger("other").warning("from %s", "elsewhere")
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (first["event"], first["binding"], first["level"]) == ("done", "a/b", "info")
    assert (second["event"], second["level"]) == ("from elsewhere", "warning")
    assert first["timestamp"].endswith("Z")


def test_text_has_no_colors_on_what_is_no_terminal() -> None:
    stream, log = written("INFO", "text")
    log.warning("careful", binding="a/b")
    assert "careful binding=a/b" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def test_lower_levels_are_left_out() -> None:
    stream, log = written("WARNING", "text")
    log.info("chatter")
    logging.getLogger("other").info("chatter")
    assert stream.getvalue() == ""


@pytest.mark.parametrize("name", ["urllib3.connectionpool", "kopf.objects", "httpx", "lightkube"])
def test_the_libraries_stay_quiet_even_when_we_are_not(name: str) -> None:
    stream, _ = written("DEBUG", "text")
    logging.getLogger(name).info("body: hvs.SECRET")
    logging.getLogger(name).debug("body: hvs.SECRET")
    assert stream.getvalue() == ""


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_traceback_shows_no_local_variables(form: str) -> None:
    stream, log = written("INFO", form)

    def fail() -> None:
        token = "hvs." + "SECRET"
        raise ValueError(len(token))

    try:
        fail()
    except ValueError:
        log.exception("failed")
    assert "ValueError" in stream.getvalue()
    assert "hvs.SECRET" not in stream.getvalue()
