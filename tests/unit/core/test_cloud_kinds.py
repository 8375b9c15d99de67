"""AWS, Google Cloud and Azure: no engine of theirs is at hand, so what is made is held against their documentation:
the policy and the templates as a whole, and what is asked of the engine about lifetimes.

https://developer.hashicorp.com/vault/api-docs/secret/aws, .../gcp, .../azure
"""

from typing import Any

import pytest

from secretbinding.devstack.simulator.template import Dependency, render, secret_of
from secretbinding.errors import Denied
from secretbinding.kinds import KINDS, SecretState
from secretbinding.kinds.base import Reading
from secretbinding.models.binding import SecretEntry
from secretbinding.models.key import BindingKey, WorkloadKey
from secretbinding.models.reasons import Reason
from secretbinding.naming import Owner
from secretbinding.ports import LeaseLimits
from secretbinding.render.policy import PolicyDocument, policy_text
from secretbinding.render.template import Change, secret_blocks
from tests.support import builders as make

KEY = BindingKey("files", "payments", "app")
HOUR = 3600.0
DENIED = Denied("no right to it", system="vault")
RENEWAL = 'path "sys/leases/renew" {\n  capabilities = ["update"]\n}\n'


def entry(kind: str, *, env: dict[str, str] | None = None, **spec: Any) -> SecretEntry:
    """An entry of a cloud engine at the mount of its name; a file of the kind's own form unless variables are given."""
    shape: dict[str, Any] = {"env": env} if env else {"files": [{"destination": "secrets/cloud"}]}
    made: dict[str, Any] = {"name": "cloud", kind: {"mount": kind, **spec}, **shape}
    return make.binding(lambda manifest: manifest["spec"]["secrets"].append(made)).spec.secrets[0]


def policy_of(found: SecretEntry) -> str:
    """The policy's text below the mark."""
    rights = KINDS[found.kind_name].rights(found, SecretState(found.kind_name))
    document = PolicyDocument(Owner("test", KEY), WorkloadKey("default", "", "default", "web"), rights)
    return policy_text(document).partition("\n")[2]


def reading_of(found: SecretEntry) -> Reading:
    reading = KINDS[found.kind_name].reading(found, SecretState(found.kind_name), None)
    assert isinstance(reading, Reading)
    return reading


def template_of(found: SecretEntry) -> str:
    (block,) = secret_blocks(KEY, found, reading_of(found), None, Change())
    return block.body


class Engine:
    """What the configuration of an engine says, by path; a mount's lifetimes by its name."""

    def __init__(self, config: dict[str, Any], mount: LeaseLimits | None = None) -> None:
        self.config, self.mount = config, mount
        self.asked: list[str] = []

    def read_engine_config(self, path: str) -> Any:
        self.asked.append(path)
        found = self.config.get(path)
        if isinstance(found, Exception):
            raise found
        return found

    def mount_limits(self, mount: str) -> LeaseLimits | None:
        return self.mount


def observe(found: SecretEntry, config: dict[str, Any], mount: LeaseLimits | None = None) -> SecretState:
    vault: Any = Engine(config, mount)
    return KINDS[found.kind_name].observe(found, vault, ())


AWS_FILE = (
    "[default]\n"
    "aws_access_key_id = {{ .Data.access_key }}\n"
    "aws_secret_access_key = {{ .Data.secret_key }}\n"
    '{{ with index .Data "security_token" }}aws_session_token = {{ . }}\n{{ end }}'
)
ARN = "arn:aws:iam::123456789012:role/deploy"
AZURE_FILE = '{"client_id":{{ .Data.client_id | toJSON }},"client_secret":{{ .Data.client_secret | toJSON }}}\n'


@pytest.mark.parametrize(
    ("found", "policy", "template"),
    [
        pytest.param(
            entry("aws", role="deploy"),
            'path "aws/creds/deploy" {\n  capabilities = ["read"]\n}\n\n' + RENEWAL,
            '{{ with secret "aws/creds/deploy" }}' + AWS_FILE + "{{ end }}",
            id="aws",
        ),
        pytest.param(
            entry("aws", role="deploy", sts=True, roleArn=ARN, sessionName="web", ttl="90m"),
            'path "aws/sts/deploy" {\n  capabilities = ["update"]\n}\n',
            f'{{{{ with secret "aws/sts/deploy" "role_arn={ARN}" "role_session_name=web" "ttl=5400s" }}}}'
            + AWS_FILE
            + "{{ end }}",
            id="aws sts",
        ),
        pytest.param(
            entry("aws", role="deploy", sts=True),
            'path "aws/sts/deploy" {\n  capabilities = ["read"]\n}\n',
            '{{ with secret "aws/sts/deploy" }}' + AWS_FILE + "{{ end }}",
            id="aws sts without parameters",
        ),
        pytest.param(
            entry("gcp", roleset="viewer"),
            'path "gcp/roleset/viewer/token" {\n  capabilities = ["read"]\n}\n',
            '{{ with secret "gcp/roleset/viewer/token" }}{{ .Data.token }}{{ end }}',
            id="gcp token",
        ),
        pytest.param(
            entry("gcp", staticAccount="viewer", type="Key"),
            'path "gcp/static-account/viewer/key" {\n  capabilities = ["read"]\n}\n\n' + RENEWAL,
            '{{ with secret "gcp/static-account/viewer/key" }}{{ .Data.private_key_data | base64Decode }}{{ end }}',
            id="gcp key",
        ),
        pytest.param(
            entry("gcp", roleset="viewer", type="Key", ttl="2h"),
            'path "gcp/roleset/viewer/key" {\n  capabilities = ["update"]\n}\n\n' + RENEWAL,
            '{{ with secret "gcp/roleset/viewer/key" "ttl=7200s" }}'
            "{{ .Data.private_key_data | base64Decode }}{{ end }}",
            id="gcp key with a lifetime",
        ),
        pytest.param(
            entry("gcp", impersonatedAccount="viewer"),
            'path "gcp/impersonated-account/viewer/token" {\n  capabilities = ["read"]\n}\n',
            '{{ with secret "gcp/impersonated-account/viewer/token" }}{{ .Data.token }}{{ end }}',
            id="gcp impersonated",
        ),
        pytest.param(
            entry("azure", role="deploy"),
            'path "azure/creds/deploy" {\n  capabilities = ["read"]\n}\n\n' + RENEWAL,
            '{{ with secret "azure/creds/deploy" }}' + AZURE_FILE + "{{ end }}",
            id="azure",
        ),
    ],
)
def test_the_policy_and_the_file_of_each(found: SecretEntry, policy: str, template: str) -> None:
    assert policy_of(found) == policy
    assert template_of(found) == template


@pytest.mark.parametrize(
    ("found", "answer", "text"),
    [
        (
            entry("aws", role="deploy"),
            {"access_key": "AKIA", "secret_key": "wJalr", "security_token": None},
            "[default]\naws_access_key_id = AKIA\naws_secret_access_key = wJalr\n",
        ),
        (
            entry("aws", role="deploy", sts=True),
            {"access_key": "ASIA", "secret_key": "wJalr", "security_token": "IQoJ"},
            "[default]\naws_access_key_id = ASIA\naws_secret_access_key = wJalr\naws_session_token = IQoJ\n",
        ),
        (entry("gcp", roleset="x"), {"token": "ya29", "token_ttl": 3599, "expires_at_seconds": 1}, "ya29"),
        (entry("gcp", roleset="x", type="Key"), {"private_key_data": "eyJhIjogImIifQ=="}, '{"a": "b"}'),
        (
            entry("azure", role="x"),
            {"client_id": "408bf248", "client_secret": '9Pf"'},
            '{"client_id":"408bf248","client_secret":"9Pf\\""}\n',
        ),
    ],
)
def test_what_a_task_gets_for_the_answers_that_are_documented(
    found: SecretEntry, answer: dict[str, Any], text: str
) -> None:
    reading = reading_of(found)
    asked = Dependency.of([reading.path, *reading.arguments])
    made = render(template_of(found), {asked: secret_of({"data": answer})}, {}, error_on_missing_key=True)
    assert made.text == text


@pytest.mark.parametrize(
    ("found", "config", "mount", "seconds"),
    [
        pytest.param(
            entry("aws", role="x"),
            {"aws/roles/x": {"credential_type": "iam_user"}, "aws/config/lease": {"lease_max": "48h0m0s"}},
            None,
            48 * HOUR,
            id="a user lives as long as config/lease says",
        ),
        pytest.param(
            entry("aws", role="x"),
            {"aws/roles/x": {"credential_types": ["iam_user"]}},
            LeaseLimits(1, 24 * HOUR),
            24 * HOUR,
            id="or as its mount does",
        ),
        pytest.param(
            entry("aws", role="x"),
            {"aws/roles/x": {"credential_type": "assumed_role", "default_sts_ttl": 1800, "max_sts_ttl": 7200}},
            None,
            1800,
            id="an assumed role as its role says",
        ),
        pytest.param(
            entry("aws", role="x", sts=True),
            {"aws/roles/x": {"credential_type": "assumed_role"}},
            None,
            HOUR,
            id="or an hour",
        ),
        pytest.param(
            entry("aws", role="x", sts=True, ttl="12h"),
            {"aws/roles/x": {"credential_type": "assumed_role", "max_sts_ttl": 7200}},
            None,
            7200,
            id="what is asked for is cut",
        ),
        pytest.param(
            entry("aws", role="x", maxTTL="10h"),
            {"aws/roles/x": {"credential_type": "iam_user"}},
            None,
            10 * HOUR,
            id="the binding says it",
        ),
        pytest.param(entry("gcp", roleset="x"), {"gcp/roleset/x": {}}, None, 0, id="a token in a file is kept fresh"),
        pytest.param(
            entry("gcp", roleset="x", env={"TOKEN": "token"}),
            {"gcp/roleset/x": {"secret_type": "access_token"}},
            None,
            HOUR,
            id="a token in a variable lives an hour",
        ),
        pytest.param(
            entry("gcp", roleset="x", type="Key"),
            {"gcp/roleset/x": {"secret_type": "service_account_key"}, "gcp/config": {"ttl": 3600, "max_ttl": 14400}},
            None,
            4 * HOUR,
            id="a key as the engine says",
        ),
        pytest.param(
            entry("gcp", staticAccount="x", type="Key"),
            {"gcp/static-account/x": {}, "gcp/config": {"ttl": 0, "max_ttl": 0}},
            LeaseLimits(1, 2 * HOUR),
            2 * HOUR,
            id="or its mount",
        ),
        pytest.param(
            entry("azure", role="x"), {"azure/roles/x": {"ttl": 3600, "max_ttl": "24h"}}, None, 24 * HOUR, id="azure"
        ),
        pytest.param(
            entry("azure", role="x"), {"azure/roles/x": {}}, LeaseLimits(1, 7200), 7200, id="azure by its mount"
        ),
        pytest.param(
            entry("azure", role="x", maxTTL="3h"), {"azure/roles/x": DENIED}, None, 3 * HOUR, id="the binding knows"
        ),
        pytest.param(
            entry("aws", role="x", maxTTL="3h"), {"aws/roles/x": DENIED}, None, 3 * HOUR, id="the binding knows, aws"
        ),
        pytest.param(
            entry("gcp", roleset="x", type="Key", maxTTL="3h"),
            {"gcp/roleset/x": DENIED},
            None,
            3 * HOUR,
            id="the binding knows, gcp",
        ),
    ],
)
def test_how_long_it_lives(
    found: SecretEntry, config: dict[str, Any], mount: LeaseLimits | None, seconds: float
) -> None:
    state = observe(found, config, mount)
    assert (state.fault, state.lease_seconds, state.revision) == (None, seconds, None)


@pytest.mark.parametrize(
    ("found", "config", "fields"),
    [
        (entry("aws", role="x"), {"aws/roles/x": {"credential_type": "iam_user"}}, {"access_key", "secret_key"}),
        (
            entry("aws", role="x"),
            {"aws/roles/x": {"credential_type": "federation_token"}},
            {"access_key", "secret_key", "security_token", "session_token"},
        ),
        (entry("gcp", roleset="x"), {"gcp/roleset/x": {}}, {"token", "token_ttl", "expires_at_seconds"}),
        (
            entry("gcp", roleset="x", type="Key", maxTTL="1h"),
            {"gcp/roleset/x": {}},
            {"private_key_data", "key_algorithm", "key_type"},
        ),
        (entry("azure", role="x"), {"azure/roles/x": {}}, {"client_id", "client_secret"}),
    ],
)
def test_the_fields_that_can_become_variables(found: SecretEntry, config: dict[str, Any], fields: set[str]) -> None:
    assert set(observe(found, config, LeaseLimits(1, 1)).fields[0]) == fields


@pytest.mark.parametrize(
    ("found", "config", "reason", "words"),
    [
        (entry("aws", role="x"), {}, Reason.SECRET_NOT_FOUND, "aws has no role x"),
        (entry("azure", role="x"), {}, Reason.SECRET_NOT_FOUND, "azure has no role x"),
        (entry("gcp", staticAccount="x"), {}, Reason.SECRET_NOT_FOUND, "spec.secrets[cloud].gcp.staticAccount"),
        (entry("aws", role="x"), {"aws/roles/x": DENIED}, Reason.PERMISSION_DENIED, "no right"),
        (entry("azure", role="x"), {"azure/roles/x": DENIED}, Reason.PERMISSION_DENIED, "no right"),
        (entry("gcp", roleset="x", type="Key"), {"gcp/roleset/x": DENIED}, Reason.PERMISSION_DENIED, "no right"),
        (
            entry("gcp", roleset="x", type="Key"),
            {"gcp/roleset/x": {"secret_type": "access_token"}},
            Reason.SECRET_UNREADABLE,
            "gives no Key",
        ),
    ],
)
def test_what_the_engine_does_not_have_or_show_is_that_secrets_fault(
    found: SecretEntry, config: dict[str, Any], reason: Reason, words: str
) -> None:
    fault = observe(found, config).fault
    assert fault is not None
    assert fault.reason is reason
    assert words in fault.message


def test_a_token_is_fetched_anew_without_a_restart_and_the_rest_keeps_its_lease() -> None:
    token, key = reading_of(entry("gcp", roleset="x")), reading_of(entry("gcp", roleset="x", type="Key"))
    assert (token.polls, token.followed, token.leased) == (True, True, False)
    assert (key.polls, key.followed, key.leased) == (True, False, True)
