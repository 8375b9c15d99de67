"""SSH, transit and Nomad variables: rights, how a task gets it, and what is known of it."""

from typing import Any

import pytest

from secretbinding.errors import Denied
from secretbinding.kinds import KINDS, Pin, Reading, Right, SecretState, Use, look
from secretbinding.models.binding import SecretEntry
from secretbinding.models.kinds import TokenDelivery, TransitOperation
from secretbinding.models.reasons import Reason
from secretbinding.ports import LeaseLimits, VariableMeta
from secretbinding.render.template import secret_identity
from tests.support import builders as make

DENIED = Denied("no right to it", system="vault")
PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGzS+8pq6y1lX5C1b2bq3kqLr9n5nq2n5m7p3G7Yk7sP me@host"
CERTIFICATE = {"key_type": "ca", "ttl": 3600, "max_ttl": 7200}


def entry(kind: str, **spec: Any) -> SecretEntry:
    """An entry with one file, or none for a kind that has nothing to show."""
    shape: dict[str, Any] = {} if kind == "transit" else {"files": [{"destination": "secrets/x"}]}
    made = {"name": "it", kind: spec, **shape}
    return make.binding(lambda manifest: manifest["spec"]["secrets"].append(made)).spec.secrets[0]


def ssh(**spec: Any) -> SecretEntry:
    return entry("ssh", mount="ssh", role="deploy", **spec)


def transit(*operations: str, **spec: Any) -> SecretEntry:
    return entry("transit", mount="transit", key="app", operations=list(operations), **spec)


class Servers:
    """The configuration of engines by path, and Nomad's variables."""

    def __init__(self, config: Any = None, mount: LeaseLimits | None = None, variables: Any = ()) -> None:
        self.config, self.mount, self.variables = config or {}, mount, variables
        self.listed: list[tuple[str, str]] = []

    def read_engine_config(self, path: str) -> Any:
        found = self.config.get(path)
        if isinstance(found, Exception):
            raise found
        return found

    def mount_limits(self, mount: str) -> LeaseLimits | None:
        return self.mount

    def list_variables(self, namespace: str, prefix: str) -> Any:
        self.listed.append((namespace, prefix))
        if isinstance(self.variables, Exception):
            raise self.variables
        return 1, [VariableMeta(namespace, path, index) for path, index in self.variables]


def observe(found: SecretEntry, servers: Servers, namespace: str = "default") -> SecretState:
    vault: Any = servers
    return look(found, vault, vault, namespace)


def reading(found: SecretEntry, pin: Pin | None = None) -> Reading:
    made = KINDS[found.kind_name].reading(found, SecretState(found.kind_name), pin)
    assert isinstance(made, Reading)
    return made


# --- SSH --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "path", "arguments"),
    [
        (ssh(), "ssh/issue/deploy", ("cert_type=user",)),
        (
            ssh(keyType="ec", keyBits=384, validPrincipals=["a", "b"], certType="host", ttl="2h"),
            "ssh/issue/deploy",
            ("valid_principals=a,b", "cert_type=host", "key_type=ec", "key_bits=384", "ttl=7200s"),
        ),
        (ssh(type="Sign", publicKey=PUBLIC), "ssh/sign/deploy", (f"public_key={PUBLIC}", "cert_type=user")),
        (
            ssh(type="OneTimePassword", ip="10.0.0.1", username="me"),
            "ssh/creds/deploy",
            ("ip=10.0.0.1", "username=me"),
        ),
    ],
)
def test_ssh_asks_the_engine_for_what_the_binding_says_and_may_ask_nothing_else(
    found: SecretEntry, path: str, arguments: tuple[str, ...]
) -> None:
    made = reading(found)
    assert (made.path, made.arguments) == (path, arguments)
    assert KINDS["ssh"].rights(found, SecretState("ssh")) == (Right(path, ("update",)),)


def test_a_certificate_is_asked_for_once_in_the_life_of_an_allocation_unless_nomad_is_to_do_it_all() -> None:
    rolled, native = reading(ssh(), Pin(0, "")), reading(ssh())
    assert (rolled.polls, rolled.leased) == (False, False)
    assert (native.polls, native.leased) == (True, False)
    password = reading(ssh(type="OneTimePassword", ip="10.0.0.1"), Pin(0, ""))
    assert (password.polls, password.leased) == (True, True)


@pytest.mark.parametrize(
    ("found", "role", "mount", "seconds"),
    [
        (ssh(), CERTIFICATE, None, 3600),
        (ssh(ttl="90m"), CERTIFICATE, None, 5400),
        (ssh(ttl="9h"), CERTIFICATE, None, 7200),
        (ssh(), {"key_type": "ca", "ttl": 0, "max_ttl": 0}, LeaseLimits(600, 900), 600),
        (ssh(type="OneTimePassword", ip="10.0.0.1"), {"key_type": "otp"}, LeaseLimits(600, 900), 900),
    ],
)
def test_a_certificate_lives_as_long_as_was_asked_for_if_the_role_allows_it(
    found: SecretEntry, role: Any, mount: LeaseLimits | None, seconds: float
) -> None:
    state = observe(found, Servers({"ssh/roles/deploy": role}, mount))
    assert (state.fault, state.lease_seconds) == (None, seconds)


@pytest.mark.parametrize(
    ("found", "config", "reason", "words"),
    [
        (ssh(), {}, Reason.SECRET_NOT_FOUND, "ssh has no role deploy"),
        (ssh(), {"ssh/roles/deploy": DENIED}, Reason.PERMISSION_DENIED, "no right"),
        (ssh(), {"ssh/roles/deploy": {"key_type": "otp"}}, Reason.SECRET_UNREADABLE, "gives no Issue"),
        (
            ssh(type="OneTimePassword", ip="10.0.0.1"),
            {"ssh/roles/deploy": CERTIFICATE},
            Reason.SECRET_UNREADABLE,
            "gives no OneTimePassword",
        ),
    ],
)
def test_what_an_ssh_engine_lacks_is_that_secrets_fault(
    found: SecretEntry, config: Any, reason: Reason, words: str
) -> None:
    fault = observe(found, Servers(config)).fault
    assert fault is not None
    assert fault.reason is reason
    assert words in fault.message


# --- transit ----------------------------------------------------------------------------------------------------------


def test_each_operation_is_one_path_and_none_lets_a_task_make_a_key_or_export_one() -> None:
    every = tuple(str(operation) for operation in TransitOperation)
    rights = KINDS["transit"].rights(transit(*every), SecretState("transit"))
    assert {right.path: right.capabilities for right in rights} == {
        "transit/encrypt/app": ("update",),
        "transit/decrypt/app": ("update",),
        "transit/rewrap/app": ("update",),
        "transit/sign/app": ("update",),
        "transit/verify/app": ("update",),
        "transit/hmac/app": ("update",),
        "transit/datakey/plaintext/app": ("update",),
        "transit/datakey/wrapped/app": ("update",),
        "transit/keys/app": ("read",),
    }
    (only,) = KINDS["transit"].rights(transit("Verify"), SecretState("transit"))
    assert only == Right("transit/verify/app", ("update",))


def test_a_right_is_used_by_the_task_itself_with_its_token() -> None:
    made = KINDS["transit"].reading(transit("Sign", token="Env"), SecretState("transit"), None)
    assert made == Use("transit key app of transit", TokenDelivery.ENV)


@pytest.mark.parametrize(
    ("found", "key", "words"),
    [
        (transit("Encrypt", "Sign"), {"type": "aes256-gcm96", "supports_signing": False}, "does not allow Sign"),
        (transit("Encrypt"), {"type": "ed25519", "supports_encryption": False}, "does not allow Encrypt"),
        (transit("Rewrap"), {"type": "ed25519", "supports_decryption": False}, "does not allow Rewrap"),
    ],
)
def test_a_key_that_cannot_do_it_is_a_fault(found: SecretEntry, key: Any, words: str) -> None:
    fault = observe(found, Servers({"transit/keys/app": key})).fault
    assert fault is not None
    assert words in fault.message


@pytest.mark.parametrize("key", [{"supports_signing": True}, {}])
def test_a_key_that_can_do_it_or_does_not_tell_is_none(key: Any) -> None:
    assert observe(transit("Sign", "Hmac"), Servers({"transit/keys/app": key})).fault is None


@pytest.mark.parametrize(
    ("config", "reason"),
    [({}, Reason.SECRET_NOT_FOUND), ({"transit/keys/app": DENIED}, Reason.PERMISSION_DENIED)],
)
def test_a_key_that_is_not_there_or_not_shown_is_a_fault(config: Any, reason: Reason) -> None:
    fault = observe(transit("Sign"), Servers(config)).fault
    assert fault is not None
    assert fault.reason is reason


# --- Nomad variables --------------------------------------------------------------------------------------------------


def variable(**spec: Any) -> SecretEntry:
    return entry("nomadVariable", path="nomad/jobs/web", **spec)


def test_a_variables_index_is_its_revision_and_its_values_are_not_read() -> None:
    servers = Servers(variables=[("nomad/jobs/web", 42), ("nomad/jobs/web-other", 99)])
    state = observe(variable(), servers, "team")
    assert (state.revision, state.fault, state.fields) == (Pin.revision("index-42"), None, {})
    assert servers.listed == [("team", "nomad/jobs/web")]


def test_a_variable_of_another_namespace_is_looked_for_and_read_there() -> None:
    servers = Servers(variables=[("nomad/jobs/web", 1)])
    found = variable(namespace="shared", accessGranted=True)
    observe(found, servers, "team")
    assert servers.listed == [("shared", "nomad/jobs/web")]
    assert reading(found).path == "nomad/jobs/web@shared"


@pytest.mark.parametrize(
    ("variables", "reason"),
    [([("nomad/jobs/web-other", 1)], Reason.SECRET_NOT_FOUND), (DENIED, Reason.PERMISSION_DENIED)],
)
def test_a_variable_that_is_not_listed_is_a_fault(variables: Any, reason: Reason) -> None:
    fault = observe(variable(), Servers(variables=variables)).fault
    assert fault is not None
    assert fault.reason is reason


def test_a_variable_is_read_once_unless_nomad_is_to_do_it_all_and_vault_grants_nothing_for_it() -> None:
    rolled, native = reading(variable(), Pin.revision("index-42")), reading(variable())
    assert (rolled.function, rolled.path, rolled.data) == ("nomadVar", "nomad/jobs/web", ".ItemsMap")
    assert (rolled.polls, native.polls) == (False, True)
    assert KINDS["nomadVariable"].rights(variable(), SecretState("nomad")) == ()


# --- all of them ------------------------------------------------------------------------------------------------------


def test_what_a_secret_is_does_not_depend_on_its_shape_in_the_task_and_its_digest_stays_over_releases() -> None:
    made = make.binding(make.kv("app"), make.database(), make.pki(), make.generic()).spec.secrets
    assert [secret_identity(one)[:8] for one in made] == ["xx75dlss", "xjem44iw", "suloluwd", "4xgyldca"]
    same = make.binding(make.kv("app", files=[{"destination": "x"}], version=3)).spec.secrets[0]
    assert secret_identity(same) == secret_identity(made[0])


def test_every_kind_of_the_model_is_one_that_the_controller_knows() -> None:
    from secretbinding.models.secrets import KINDS as MODELS

    assert set(KINDS) == set(MODELS)
