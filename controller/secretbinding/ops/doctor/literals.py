"""Literal secrets in the environment of a task: told by name and by shape, with few false alarms. Pure.

A name alone is not enough, nor is a value: `SECRET_NAME=app-tls` is no secret, and neither is a long hexadecimal text.
What is reported is a value whose shape only credentials have, or a name that asks for a secret together with a value
that could be one.
"""

import re
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

# Shapes that only credentials have.
_SHAPES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("a private key", re.compile(r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----")),
    (
        "a Vault token",
        re.compile(r"(?<![A-Za-z0-9._-])(?:hv[sbr]\.[A-Za-z0-9_-]{20,}|[sbr]\.[A-Za-z0-9]{24})(?![\w.])"),
    ),
    ("an AWS access key", re.compile(r"\b(?:AKIA|ASIA)[A-Z2-7]{16}\b")),
    ("a GitHub token", re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{40,})\b")),
    ("a GitLab token", re.compile(r"\bgl(?:pat|dt|rt|ptt|cbt)-[A-Za-z0-9_-]{20,}")),
    ("a Slack token", re.compile(r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}")),
    ("a Stripe key", re.compile(r"\b[sr]k_(?:live|test)_[A-Za-z0-9]{16,}\b")),
    ("a Google API key", re.compile(r"\bAIza[A-Za-z0-9_-]{35}\b")),
    ("a SendGrid key", re.compile(r"\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}\b")),
    ("an npm token", re.compile(r"\bnpm_[A-Za-z0-9]{36}\b")),
    ("a signed token (JWT)", re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{16,}")),
    ("a connection string with a key", re.compile(r"(?i)\b(?:AccountKey|SharedAccessKey)=[A-Za-z0-9+/]{20,}={0,2}")),
    ("a connection string with a password", re.compile(r"(?i)(?:^|[;?&\s])(?:password|pwd)=(?![$<{*])[^;&\s]{3,}")),
    (
        "an option with a password",
        re.compile(
            r"(?i)(?:^|[\s\"'])(?:-D|--?)[\w.-]*(?:password|passwd|api-?key)=(?![$<{*/\s]|file:|env:)[^\s\"']{3,}"
        ),
    ),
    ("Basic credentials", re.compile(r"(?i)\bbasic\s+[A-Za-z0-9+/]{12,}={0,2}\s*$")),
    ("a bearer token", re.compile(r"(?i)\bbearer\s+[A-Za-z0-9._~+/-]{16,}=*\s*$")),
)

_WORDS = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[0-9]+")
# What a name ends with that asks for a secret. Words that follow make it speak of something about a secret: its file,
# its age, its policy.
_ENDS = frozenset(
    {
        "PASSWORD", "PASSWD", "PASSPHRASE", "PASS", "PWD", "SECRET", "CREDENTIAL", "CREDENTIALS", "TOKEN", "APIKEY",
        "APITOKEN", "SALT", "PSK", "DSN", "PW", "BINDPW",
    }
)  # fmt: skip
# Of these ends, a number of four digits and more is a secret too.
_PASSWORDS = frozenset({"PASSWORD", "PASSWD", "PASSPHRASE", "PASS", "PWD", "PW"})
# A secret of these is an object, told by its name.
_OBJECTS_OF = frozenset({"K8S", "KUBERNETES", "PULL", "VAULT", "OPENBAO", "NAMESPACE"})
_OBJECT = re.compile(r"[a-z][a-z0-9]*(?:[./_-][a-z0-9]+)*\Z")
_KEYS = frozenset(
    {
        "API", "ACCESS", "PRIVATE", "SECRET", "ENCRYPTION", "SIGNING", "MASTER", "ACCOUNT", "LICENSE", "HMAC", "APP",
        "PRESHARED", "SHARED", "FERNET", "INTEGRATION", "SERVICE", "ADMIN", "AUTH", "STORAGE", "TLS", "SSL",
    }
)  # fmt: skip
_JOINED = re.compile(
    r"(?:PASSWORD|PASSWD|PASSPHRASE|SECRET|(?:API|ACCESS|SECRET|PRIVATE|ENCRYPTION|MASTER|SIGNING)KEY|(?:AUTH|ACCESS|API)TOKEN"
    r"|(?:DB|USER|ROOT|ADMIN|SMTP|MAIL)PASS)\Z"
)
# What may follow all the same.
_AFTER = frozenset(
    {"BASE", "BASE64", "OLD", "NEW", "CURRENT", "PREVIOUS", "PRIMARY", "SECONDARY", "PROD", "DEV", "TEST", "STAGING"}
)
_NOT_SECRET = frozenset({"PUBLIC", "PUB", "PUBLISHABLE", "SITE"})
_ABOUT_FIRST = frozenset(
    {"NO", "HIDE", "MASK", "SHOW", "USE", "DISABLE", "ENABLE", "REQUIRE", "SKIP", "HAS", "IS", "ALLOW", "MAX", "MIN"}
)

_SWITCH = re.compile(
    r"(?i)(?:true|false|yes|no|on|off|none|null|nil|auto|default|enabled|disabled|required|optional)\Z"
)
_NUMBER = re.compile(r"[0-9.]{1,5}\Z")
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ns|us|ms|s|m|h|d))+\Z")
# A path of one segment is one in small letters only: anything else after a slash may be a password.
_PATH = re.compile(
    r"(?:~|\.{1,2})/[\w./@%+-]*\Z|/[\w.@%+-]+/[\w./@%+-]*\Z|/[a-z._-]*\Z|(?:secrets|local|alloc)/[\w./-]+\Z|[A-Za-z]:\\"
)
_POINTER = re.compile(
    r"(?:file|env|vault|ref\+\w+|aws-secretsmanager|awssm|gcpsm|ssm|op|sops|secretref|azurekeyvault|arn:aws[\w-]*:\w+)"
    r"[:|]|projects/[\w-]+/secrets/"
)
_VAULT_PATH = re.compile(r"(?:secret|kv|database|pki|transit)/[\w./-]+(?:#\w+)?\Z")
_PLACEHOLDER = re.compile(
    r"(?i)(?:<[^<>]*>|\[[^\[\]]*\]|\*{3,}|x{3,}|\.{3}|redacted|placeholder|todo|tbd|n/?a|unset|empty|dummy)\Z"
)
_HEADER = re.compile(r"X(?:-[A-Za-z]+)+\Z|(?:Proxy-)?Authorization\Z|Cookie\Z|[A-Z]+[a-z]*-(?:CSRF|XSRF)-Token\Z")
_INTERPOLATED = re.compile(r"\$\{[^}]*\}|\{\{.*\}\}|\$\([^)]*\)|\$[A-Z_][A-Z0-9_]*\Z")


def literal_secret(name: str, value: str) -> str:
    """What makes an environment variable look like a literal secret, without a word of its value; "" for one that does
    not."""
    text = value.strip()
    if not text or _INTERPOLATED.fullmatch(text):
        return ""
    for what, shape in _SHAPES:
        if shape.search(text):
            return f"its value has the shape of {what}"
    if _password_in_url(text):
        return "its value is a URL with a password in it"
    if _asks_for_secret(name) and _could_be_secret(text, name) and not _is_name(name, text):
        return "its name asks for a secret, and its value is written out"
    return ""


def literal_secrets(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables that look like literal secrets, with what makes them look so."""
    found = {name: literal_secret(name, value) for name, value in variables.items()}
    return {name: why for name, why in sorted(found.items()) if why}


def _words(name: str) -> list[str]:
    return [word.upper() for word in _WORDS.findall(name.replace("-", "_"))]


def _asks_for_secret(name: str) -> bool:
    words = _words(name)
    while words and (words[-1].isdigit() or words[-1] in _AFTER):
        words.pop()
    if not words or words[0] in _ABOUT_FIRST or _NOT_SECRET & set(words):
        return False
    if words[-1] == "KEY":
        return len(words) > 1 and words[-2] in _KEYS
    return words[-1] in _ENDS or _JOINED.search(words[-1]) is not None


def _is_name(name: str, text: str) -> bool:
    """The name of a header, or of an object that holds a secret."""
    words = _words(name)
    of_object = len(words) > 1 and words[-1] == "SECRET" and bool(_OBJECTS_OF & set(words[:-1]))
    # The digit of K8S parts it in three.
    of_object = of_object or (words[-1:] == ["SECRET"] and "K8S" in name.upper().split("_"))
    return _HEADER.match(text) is not None or (of_object and _OBJECT.match(text) is not None)


def _could_be_secret(text: str, name: str) -> bool:
    digits = _NUMBER.match(text) is not None
    if digits and len(text) >= 4 and text.isdigit() and _PASSWORDS & set(_words(name)[-1:]):
        return True
    if len(text) < 3 or _SWITCH.match(text) or digits or _DURATION.match(text):
        return False
    if _PATH.match(text) or _POINTER.match(text) or _VAULT_PATH.match(text) or _PLACEHOLDER.match(text):
        return False
    if _INTERPOLATED.search(text):
        return False
    parts = urlsplit(text) if "://" in text else None
    # An address without a password is none; what looks like a sentence is a description.
    return parts is None and text.count(" ") < 3


def _password_in_url(text: str) -> bool:
    """`scheme://user:password@host`, unless the password is filled in by something."""
    if "://" not in text:
        return False
    try:
        password = urlsplit(text).password
    except ValueError:
        return False
    if not password:
        return False
    shown = unquote(password)
    return not (_INTERPOLATED.search(shown) or _PLACEHOLDER.match(shown))
