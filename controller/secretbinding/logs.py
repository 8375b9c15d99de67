"""Logging: structlog to standard error, as text or as JSON, with the libraries' own loggers held at WARNING."""

import logging
import os
import sys
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor

from secretbinding import tracing

# At DEBUG and INFO these write whole bodies, headers and patches, which may hold secrets.
QUIET = (
    *("urllib3", "requests", "httpx", "httpx2", "httpcore", "httpcore2", "asyncio"),
    *("hvac", "nomad", "kopf", "lightkube", "stamina", "opentelemetry"),
)


def configure(level: str = "INFO", form: str = "text", stream: TextIO | None = None) -> None:
    """Send all logs, those of the standard library's `logging` included, to `stream` (standard error by default).

    `level` is DEBUG, INFO, WARNING or ERROR; `form` is `text` or `json`. May be called again.
    """
    target = stream if stream is not None else sys.stderr
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        _traced,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if form == "json":
        shared.append(structlog.processors.format_exc_info)
    renderer = _renderer(form, target)
    number = logging.getLevelNamesMapping()[level]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=target),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processor=renderer, foreign_pre_chain=shared))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(number)
    for name in QUIET:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))


def _traced(logger: object, method: str, event: EventDict) -> EventDict:
    """The line with `trace_id` and `span_id`, where what it tells of is traced."""
    for name, value in tracing.ids().items():
        event.setdefault(name, value)
    return event


def _renderer(form: str, target: TextIO) -> Processor:
    if form == "json":
        return structlog.processors.JSONRenderer(sort_keys=True, default=str)
    colors = target.isatty() and not os.environ.get("NO_COLOR")
    # Plain tracebacks: the usual formatter shows local variables, and those may be secrets.
    return structlog.dev.ConsoleRenderer(
        colors=colors, pad_event_to=0, exception_formatter=structlog.dev.plain_traceback
    )
