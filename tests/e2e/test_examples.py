"""The examples in `deploy/examples/` are valid, are applied by the command line on both Nomads, bring the task what
they say, and leave nothing behind.

The engines of AWS, Google Cloud, Azure and RabbitMQ are not in OpenBao: there a KV engine of version 1 at their mount
answers what their documentation says.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from secretbinding.kinds import KINDS
from secretbinding.models.loading import parse_manifests
from tests.support.commandline import CommandLine, cli
from tests.support.pki import PkiEngine
from tests.support.postgres import DatabaseEngine, Postgres
from tests.support.servers import Stack
from tests.support.world import NAMESPACE, World, a_job, wait_until

__all__ = ["cli"]

EXAMPLES = Path(__file__).parents[2] / "deploy" / "examples"
# The task shows all that it has; what is empty in its environment shows as well.
SHOW = (
    "{ env; find secrets -type f ! -path '*/nomad-vault/*' | sort | while read -r file;"
    ' do echo "== $file"; cat "$file"; echo; done; } > local/new 2>&1; mv local/new local/seen; exec sleep 3600'
)


class Prepared:
    """What an example needs to be there."""

    def __init__(self, stack: Stack, request: pytest.FixtureRequest) -> None:
        self.stack, self._request = stack, request

    def write(self, path: str, body: Mapping[str, Any] | None = None) -> None:
        self.stack.openbao.api.put(f"/v1/{path}", dict(body or {})).expect(200, 204)

    def mount(self, name: str, kind: str = "kv", **options: Any) -> None:
        mounted = self.stack.openbao.api.get("/v1/sys/mounts").expect(200).json()["data"]
        if f"{name}/" not in mounted:
            self.write(f"sys/mounts/{name}", {"type": kind, **options})

    def kv(self) -> None:
        self.stack.openbao.put_secret("shop/web", {"username": "shop", "password": "it's"})
        self.stack.openbao.put_secret("shop/flags", {"beta": "on"})
        self.mount("kv", options={"version": "1"})
        self.write("kv/shop/legacy", {"token": "abc"})

    def database(self) -> None:
        postgres: Postgres = self._request.getfixturevalue("postgres")
        engine = DatabaseEngine(self.stack.openbao, postgres)
        engine.dynamic_role("app")
        engine.static_role("reporting")
        if postgres.sql("SELECT count(*) FROM pg_roles WHERE rolname = 'batch'") == "0":
            postgres.sql("CREATE ROLE batch WITH LOGIN PASSWORD 'nobody-knows'")

    def pki(self) -> None:
        PkiEngine(self.stack.openbao).role("web")

    def ssh(self) -> None:
        self.mount("ssh", "ssh")
        if self.stack.openbao.api.get("/v1/ssh/config/ca").status != 200:
            self.write("ssh/config/ca", {"generate_signing_key": True, "key_type": "ed25519"})
        users = {"allow_user_certificates": True, "allowed_users": "deploy", "default_user": "deploy", "ttl": "8h"}
        self.write("ssh/roles/deploy", {"key_type": "ca", **users})
        self.write("ssh/roles/once", {"key_type": "otp", "default_user": "root", "cidr_list": "10.0.0.0/8"})

    def transit(self) -> None:
        self.mount("transit", "transit")
        self.write("transit/keys/orders")

    def aws(self) -> None:
        self.mount("aws", options={"version": "1"})
        self.write("aws/roles/deploy", {"credential_type": "iam_user"})
        self.write("aws/creds/deploy", {"access_key": "AKIA1", "secret_key": "wJalr", "security_token": None})
        self.write("aws/roles/reader", {"credential_type": "assumed_role"})
        self.write("aws/sts/reader", {"access_key": "ASIA2", "secret_key": "xKblr", "security_token": "IQoJ"})

    def gcp(self) -> None:
        self.mount("gcp", options={"version": "1"})
        self.write("gcp/roleset/viewer", {"secret_type": "access_token"})
        self.write("gcp/roleset/viewer/token", {"token": "ya29.c", "token_ttl": 3599})
        self.write("gcp/static-account/uploader", {"secret_type": "service_account_key"})
        self.write("gcp/static-account/uploader/key", {"private_key_data": "eyJ0eXBlIjogIngifQ=="})

    def azure(self) -> None:
        self.mount("azure", options={"version": "1"})
        self.write("azure/roles/deploy", {"ttl": 3600, "max_ttl": 86400})
        self.write("azure/creds/deploy", {"client_id": "408bf248", "client_secret": "9Pfda"})

    def nomadvariable(self) -> None:
        path = "nomad/jobs/example-variable"
        body = {"Namespace": NAMESPACE, "Path": path, "Items": {"level": "debug"}}
        self.stack.api.put(f"/v1/var/{path}", body).expect(200)

    def generic(self) -> None:
        self.mount("rabbitmq", options={"version": "1"})
        self.write("rabbitmq/creds/app", {"username": "app-1", "password": "queue"})


# For each example, by binding: what the task has.
SEEN: dict[str, dict[str, list[str]]] = {
    "kv": {
        "example-kv": [
            "DB_USER=shop",
            "DB_PASS=it's",
            "FLAG_BETA=on",
            '== secrets/web.json\n{"password":"it\'s","username":"shop"}',
            "== secrets/env.sh\nexport DB_PASS='it'\\''s'\nexport DB_USER='shop'",
        ],
        "example-kv-v1": ["LEGACY_TOKEN=abc"],
    },
    "database": {
        "example-database": [
            "DB_USER=v-",
            "DB_PASS=",
            "== secrets/reporting.properties\npassword=",
            "username=reporting",
        ],
        "example-database-create": ["DB_USER=v-", "BATCH_PASS="],
    },
    "pki": {
        "example-pki": [
            "== secrets/tls.pem\n-----BEGIN CERTIFICATE",
            "== secrets/tls/ca.pem\n-----BEGIN CERTIFICATE",
            "== secrets/tls/cert.pem\n-----BEGIN CERTIFICATE",
            "== secrets/tls/key.pem\n-----BEGIN",
        ],
        "example-pki-create": ["== secrets/tls.pem\n-----BEGIN CERTIFICATE", "PRIVATE KEY"],
    },
    "ssh": {
        "example-ssh": [
            "== secrets/id\n-----BEGIN OPENSSH PRIVATE KEY",
            "== secrets/id-cert.pub\nssh-ed25519-cert-v01@openssh.com",
            "== secrets/mine-cert.pub\nssh-ed25519-cert-v01@openssh.com",
            "SSH_PASSWORD=",
        ]
    },
    "transit": {"example-transit": ["VAULT_ADDR=http://127.0.0.1:8200", "== secrets/vault_token\n"]},
    "aws": {
        "example-aws": [
            "== secrets/aws\n[default]\naws_access_key_id = AKIA1\naws_secret_access_key = wJalr",
            "AWS_ACCESS_KEY_ID=ASIA2",
            "AWS_SESSION_TOKEN=IQoJ",
            "AWS_SHARED_CREDENTIALS_FILE=secrets/aws",
        ]
    },
    "gcp": {"example-gcp": ["== secrets/token\nya29.c", '== secrets/google.json\n{"type": "x"}']},
    "azure": {"example-azure": ["AZURE_CLIENT_ID=408bf248", "AZURE_CLIENT_SECRET=9Pfda", "AZURE_TENANT_ID=0000"]},
    "nomadVariable": {"example-variable": ["LOG_LEVEL=debug", '== secrets/settings.yaml\n"level": "debug"']},
    "generic": {"example-generic": ["RABBITMQ_USER=app-1", "RABBITMQ_PASS=queue"]},
}


def test_there_is_an_example_of_each_kind() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.yaml")} >= set(KINDS)
    assert set(SEEN) == set(KINDS)


@pytest.fixture
def jobs(stack: Stack) -> Iterator[Callable[[str], None]]:
    """Registers jobs that show what they have; they are gone afterwards."""
    world, names = World(stack), set[str]()

    def register(name: str) -> None:
        job = a_job(name)
        job["TaskGroups"][0]["Tasks"][0]["Config"]["args"] = ["-c", SHOW]
        names.add(name)
        world.register(job)
        world.deployed(name)

    yield register
    for name in names:
        stack.api.delete(f"/v1/job/{name}", purge="true")


def reported(world: World, job: str) -> str:
    wait_until(f"{job} reports", lambda: len(world.seen(job)) == 1)
    return world.seen(job)[0]


@pytest.mark.parametrize("kind", SEEN)
def test_an_example_is_applied_brings_what_it_says_and_leaves_nothing(
    stack: Stack,
    cli: CommandLine,
    jobs: Callable[[str], None],
    request: pytest.FixtureRequest,
    kind: str,
) -> None:
    getattr(Prepared(stack, request), kind.lower())()
    world, file = World(stack), str(EXAMPLES / f"{kind}.yaml")
    cli.use(stack)
    assert cli("validate", "-f", file).code == 0
    for binding in parse_manifests(Path(file).read_text(), file=file):
        jobs(binding.spec.workload.job)
    applied = cli("apply", "-f", file, "--timeout", "60s")
    assert applied.code == 0, applied.err
    for job, texts in SEEN[kind].items():
        seen = reported(world, job)
        missing = [text for text in texts if text not in seen]
        assert not missing, f"{job} lacks {missing}: {json.dumps(seen)}"
        assert "<no value>" not in seen
    again = cli("plan", "-f", file, "--detailed-exitcode")
    assert again.code == 0, again.out + again.err
    deleted = cli("delete", "-f", file, "--timeout", "60s")
    assert deleted.code == 0, deleted.err
    assert world.policies(having="example-") == world.roles(having="example-") == []
    for where in ("database/roles", "database/static-roles", "pki/roles"):
        answer = stack.openbao.api.request("LIST", f"/v1/{where}")
        names = answer.json()["data"]["keys"] if answer.status == 200 else []
        assert [name for name in names if name.startswith("nsb.default.example-")] == []
