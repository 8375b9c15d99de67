"""Templates with secrets that end or rotate: what a task gets, and what becomes of it while the task runs."""

from typing import Any

import pytest

from tests.conformance.nomad import MS, SECOND, Nomad, env_template, events, file_template, job, vault_task
from tests.support.pki import PkiEngine
from tests.support.postgres import DatabaseEngine, Postgres

Json = dict[str, Any]
SOON = {"Min": 200 * MS, "Max": SECOND}
"""How long a template waits for further changes; five seconds by default."""
_RESTARTED = ("Restart Signaled", "Template with change_mode restart re-rendered")


@pytest.fixture
def database(nomad: Nomad, postgres: Postgres) -> DatabaseEngine:
    return DatabaseEngine(nomad.stack.openbao, postgres)


@pytest.fixture
def pki(nomad: Nomad) -> PkiEngine:
    return PkiEngine(nomad.stack.openbao)


def allow(nomad: Nomad, name: str, *lines: str) -> None:
    """A policy of these lines (`<capability> <path>`), and a role of the same name that gives it."""
    rules = [line.split(" ", 1) for line in lines]
    text = "\n".join(f'path "{path}" {{ capabilities = ["{capability}"] }}' for capability, path in rules)
    nomad.stack.openbao.put_policy(name, text)
    nomad.stack.openbao.put_jwt_role(name, {"token_policies": [name], "token_period": 1800})


def kept(template: Json, **fields: Any) -> Json:
    """A template that Nomad keeps up to date."""
    return {**template, "Once": False, "ChangeMode": "noop", "Wait": SOON, "Splay": 0, **fields}


def credentials(path: str, **fields: Any) -> Json:
    """A file with user and password."""
    text = f'{{{{ with secret "{path}" }}}}{{{{ .Data.username }}}} {{{{ .Data.password }}}}{{{{ end }}}}'
    return kept(file_template(text), **fields)


def variables(path: str, **fields: Any) -> Json:
    """The same as variables U and P."""
    text = f'{{{{ with secret "{path}" }}}}U={{{{ .Data.username }}}}\nP={{{{ .Data.password }}}}\n{{{{ end }}}}'
    return kept(env_template(text), **fields)


SHOW = 'echo "$U $P" > local/env; exec sleep 3000'


class Seen:
    """What the newest allocation of a job has."""

    def __init__(self, nomad: Nomad, name: str) -> None:
        self._nomad, self._name = nomad, name

    @property
    def allocation(self) -> Json:
        (allocation,) = self._nomad.allocations(self._name)
        return allocation

    def file(self, name: str = "out") -> list[str]:
        return self._nomad.file(self.allocation, f"t/local/{name}").split()

    @property
    def restarts(self) -> int:
        return int(self.allocation["TaskStates"]["t"]["Restarts"])

    def restart(self) -> None:
        """Restart the task in place, and wait until it runs again."""
        before = self.restarts
        self._nomad.api.put(f"/v1/client/allocation/{self.allocation['ID']}/restart", {}).expect(200)
        self._nomad.wait(f"{self._name} to be restarted", lambda: self.restarts > before)
        self._nomad.wait_allocation(self._name, "running")


def run(nomad: Nomad, name: str, role: str, templates: list[Json], script: str = SHOW) -> Seen:
    nomad.register(job(name, vault_task(role, templates, script)))
    nomad.wait_allocation(name, "running")
    return Seen(nomad, name)


def test_a_task_logs_in_to_the_database_with_what_it_gets(
    nomad: Nomad, database: DatabaseEngine, postgres: Postgres, unique: str
) -> None:
    database.static_role(f"{unique}-static")
    database.dynamic_role(unique)
    allow(nomad, unique, f"read database/creds/{unique}", f"read database/static-creds/{unique}-static")
    for path in (f"database/creds/{unique}", f"database/static-creds/{unique}-static"):
        name = path.replace("/", "-")
        seen = run(nomad, name, unique, [credentials(path)])
        user, password = seen.file()
        assert postgres.lets_in(user, password)
        nomad.purge(name)


def test_one_secret_in_two_templates_is_one_lease(nomad: Nomad, database: DatabaseEngine, unique: str) -> None:
    database.dynamic_role(unique)
    allow(nomad, unique, f"read database/creds/{unique}")
    path = f"database/creds/{unique}"
    seen = run(nomad, unique, unique, [credentials(path), variables(path)])
    nomad.wait("the script has run", lambda: seen.file("env"))
    assert seen.file() == seen.file("env")


def test_a_write_with_equal_arguments_is_made_once_so_that_certificate_and_key_belong_together(
    nomad: Nomad, pki: PkiEngine, unique: str
) -> None:
    pki.role(unique)
    allow(nomad, unique, f"update pki/issue/{unique}")
    texts = {
        field: f'{{{{ with secret "pki/issue/{unique}" "common_name=a.example" "ttl=1h" }}}}{expression}{{{{ end }}}}'
        for field, expression in {
            "serial": "{{ .Data.serial_number }}",
            "again": "{{ .Data.serial_number }}",
            "chain": '{{ index .Data "ca_chain" | len }} {{ .Data.issuing_ca | len }} {{ .LeaseID }}',
        }.items()
    }
    templates = [kept(file_template(text), DestPath=f"local/{field}") for field, text in texts.items()]
    # A different argument is another certificate.
    other = (
        f'{{{{ with secret "pki/issue/{unique}" "common_name=b.example" }}}}{{{{ .Data.serial_number }}}}{{{{ end }}}}'
    )
    seen = run(nomad, unique, unique, [*templates, kept(file_template(other), DestPath="local/other")])
    assert seen.file("serial") == seen.file("again") != seen.file("other")
    assert seen.file("chain")[0] == "1"
    assert len(seen.file("chain")) == 2


def test_a_certificate_comes_with_its_key_and_authorities_from_pkicert(
    nomad: Nomad, pki: PkiEngine, unique: str
) -> None:
    pki.role(unique)
    allow(nomad, unique, f"update pki/issue/{unique}")
    inner = "{{ .Cert }}{{ .Key }}{{ .Data.CA }}{{ len .CAChain }}{{ eq .CA .Data.CA }}"
    text = f'{{{{ with pkiCert "pki/issue/{unique}" "common_name=a.example" }}}}{inner}{{{{ end }}}}'
    seen = run(nomad, unique, unique, [kept(file_template(text))])
    found = nomad.file(seen.allocation, "t/local/out")
    assert found.count("-----BEGIN CERTIFICATE-----\n") == 2
    assert found.count("PRIVATE KEY-----\n") == 2
    assert found.endswith("-----END CERTIFICATE-----\n1true")


def test_what_is_missing_is_named_without_its_arguments(nomad: Nomad, pki: PkiEngine, unique: str) -> None:
    pki.role(unique)
    allow(nomad, unique, "read secret/data/none")
    texts = (
        f'{{{{ with secret "pki/issue/{unique}" "common_name=a.example" "ttl=1h" }}}}x{{{{ end }}}}',
        f'{{{{ with secret "pki/issue/{unique}" "" }}}}x{{{{ end }}}}',
    )
    for place, text in enumerate(texts):
        nomad.register(job(f"{unique}-{place}", vault_task(unique, [kept(file_template(text))])))
    for place, digest in enumerate(("f7f40165", "da39a3ee")):
        nomad.wait_event(f"{unique}-{place}", f"Missing: vault.write(pki/issue/{unique} -> {digest})")


def test_a_password_that_vault_rotates_by_itself_reaches_the_task_by_its_change_mode(
    nomad: Nomad, database: DatabaseEngine, postgres: Postgres, unique: str
) -> None:
    path = f"database/static-creds/{unique}"
    allow(nomad, unique, f"read {path}")
    database.static_role(unique, period="10s")
    quiet = run(nomad, f"{unique}-noop", unique, [credentials(path), variables(path)])
    busy = run(nomad, f"{unique}-restart", unique, [variables(path, ChangeMode="restart")])
    script = "trap 'cat local/out > local/signalled' HUP; touch local/ready; while true; do sleep 0.1; done"
    told = run(
        nomad, f"{unique}-signal", unique, [credentials(path, ChangeMode="signal", ChangeSignal="SIGHUP")], script
    )
    nomad.wait("the scripts run", lambda: quiet.file("env") and busy.file("env"))
    first = quiet.file()
    assert quiet.file("env") == first
    nomad.wait("the file is another one", lambda: quiet.file() != first)
    second = quiet.file()
    assert second[1] != first[1]
    assert not postgres.lets_in(*first)
    nomad.wait("the task was restarted", lambda: busy.restarts > 0 and busy.file("env") != first)
    assert _RESTARTED in events(busy.allocation)
    nomad.wait("the task was told", lambda: "t/local/signalled" in _files(nomad, told))
    assert told.file("signalled") != first
    assert (quiet.restarts, told.restarts) == (0, 0)
    assert quiet.file("env") == first
    # The variables are up to date when somebody restarts the task.
    quiet.restart()
    nomad.wait("the variables are other ones", lambda: quiet.file("env") not in ([], first))


def _files(nomad: Nomad, seen: Seen) -> list[str]:
    rows = nomad.api.get(f"/v1/client/fs/ls/{seen.allocation['ID']}", path="t/local").expect(200).json()
    return [f"t/local/{row['Name']}" for row in rows]


def test_a_password_that_somebody_rotates_is_not_noticed_even_by_a_restart_in_place(
    nomad: Nomad, database: DatabaseEngine, postgres: Postgres, unique: str
) -> None:
    path = f"database/static-creds/{unique}"
    allow(nomad, unique, f"read {path}")
    database.static_role(unique, period="24h")
    seen = run(nomad, unique, unique, [credentials(path), variables(path, ChangeMode="restart")])
    before = seen.file()
    database.rotate(unique)
    assert not postgres.lets_in(*before)
    seen.restart()
    nomad.wait("the script has run", lambda: seen.file("env"))
    assert seen.file() == seen.file("env") == before
    assert seen.restarts == 1
    # A new allocation has the new one.
    nomad.api.put(f"/v1/allocation/{seen.allocation['ID']}/stop", {}).expect(200)
    nomad.wait("another allocation runs", lambda: [one["ID"] for one in nomad.running(unique)] != [])
    newest = nomad.wait("it is another one", lambda: len(nomad.allocations(unique)) > 1 and nomad.running(unique))[0]
    assert postgres.lets_in(*nomad.file(newest, "t/local/out").split())


def test_leases_are_renewed_to_their_end_and_replaced_before_it(
    nomad: Nomad, database: DatabaseEngine, postgres: Postgres, unique: str
) -> None:
    for name, longest in (("short", "10s"), ("long", "1h")):
        database.dynamic_role(f"{unique}-{name}", ttl="4s", max_ttl=longest)
    allow(
        nomad,
        unique,
        f"read database/creds/{unique}-+",
        f"read database/creds/{unique}-short",
        f"read database/creds/{unique}-long",
        "update sys/leases/renew",
    )
    short = run(nomad, f"{unique}-a", unique, [variables(f"database/creds/{unique}-short", ChangeMode="restart")])
    quiet = run(nomad, f"{unique}-b", unique, [credentials(f"database/creds/{unique}-short")])
    long = run(nomad, f"{unique}-c", unique, [credentials(f"database/creds/{unique}-long")])
    nomad.wait("the script has run", lambda: short.file("env"))
    first, silent, lasting = short.file("env"), quiet.file(), long.file()
    nomad.wait("other credentials", lambda: quiet.file() not in ([], silent))
    nomad.wait("a restart with other credentials", lambda: short.restarts > 0 and short.file("env") not in ([], first))
    assert _RESTARTED in events(short.allocation)
    assert postgres.lets_in(*short.file("env"))
    assert quiet.restarts == 0
    assert long.file() == lasting
    assert postgres.lets_in(*lasting)


def test_a_lease_that_the_token_may_not_renew_is_replaced_at_the_end_of_its_first_life(
    nomad: Nomad, database: DatabaseEngine, postgres: Postgres, unique: str
) -> None:
    database.dynamic_role(unique, ttl="6s", max_ttl="1h")
    nomad.stack.openbao.put_policy(unique, f'path "database/creds/{unique}" {{ capabilities = ["read"] }}')
    role = {"token_policies": [unique], "token_period": 1800, "token_no_default_policy": True}
    nomad.stack.openbao.put_jwt_role(unique, role)
    seen = run(nomad, unique, unique, [credentials(f"database/creds/{unique}")])
    first = seen.file()
    nomad.wait("other credentials", lambda: seen.file() not in ([], first))
    assert postgres.lets_in(*seen.file())


@pytest.mark.parametrize("function", ["secret", "pkiCert"])
def test_a_certificate_is_replaced_before_its_end(nomad: Nomad, pki: PkiEngine, unique: str, function: str) -> None:
    pki.role(unique)
    allow(nomad, unique, f"update pki/issue/{unique}")
    field = ".Data.certificate" if function == "secret" else ".Cert"
    asked = f'{function} "pki/issue/{unique}" "common_name=a.example" "ttl=10s"'
    seen = run(nomad, unique, unique, [kept(file_template(f"{{{{ with {asked} }}}}{{{{ {field} }}}}{{{{ end }}}}"))])
    first = seen.file()
    assert first
    nomad.wait("another certificate", lambda: seen.file() not in ([], first))
    assert seen.restarts == 0


def test_a_secret_that_is_read_once_is_not_renewed(
    nomad: Nomad, database: DatabaseEngine, postgres: Postgres, unique: str
) -> None:
    database.dynamic_role(unique, ttl="3s", max_ttl="1h")
    allow(nomad, unique, f"read database/creds/{unique}", "update sys/leases/renew")
    seen = run(nomad, unique, unique, [credentials(f"database/creds/{unique}", Once=True)])
    user, password = seen.file()
    nomad.wait("its user is gone", lambda: not postgres.lets_in(user, password))
    assert seen.file() == [user, password]
