"""Questions that may stay unanswered."""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from secretbinding.errors import Denied, SecretBindingError
from secretbinding.ops.doctor.facts import Fact, Unknown

K = TypeVar("K")
T = TypeVar("T")

_THREADS = 4


def ask(question: Callable[[], T]) -> Fact[T]:
    """The answer, or why there is none."""
    try:
        return question()
    except SecretBindingError as error:
        return unknown(error)


def unknown(error: SecretBindingError) -> Unknown:
    """Why something could not be found out."""
    return Unknown(error.message, error.remedy, denied=isinstance(error, Denied))


def ask_each(keys: Iterable[K], question: Callable[[K], T]) -> Mapping[K, Fact[T]]:
    """The answers to one question about many things, asked a few at a time."""
    names = list(dict.fromkeys(keys))
    with ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="doctor") as pool:
        return dict(zip(names, pool.map(lambda name: ask(lambda: question(name)), names), strict=True))


def known(answers: Mapping[K, Fact[T]]) -> Fact[Mapping[K, T]]:
    """All answers; the first that is missing instead, since a part of them proves nothing."""
    for answer in answers.values():
        if isinstance(answer, Unknown):
            return answer
    return {key: answer for key, answer in answers.items() if not isinstance(answer, Unknown)}
