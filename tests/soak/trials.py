"""What is done to running tasks, and what became of them: four trials, each on servers of its own."""

import json
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from secretbinding.models.reasons import ConditionType
from tests.soak.observed import JobStory, Observer, clock
from tests.soak.site import RUNNING, SHORT_PERIOD, SHORT_TOKENS, STOPPED, Case, Site
from tests.support.postgres import DatabaseEngine, Postgres, find_postgres
from tests.support.world import wait_until

NEVER_NOW = {"kind": "Deny", "schedule": "* * * * *", "duration": "2m"}


@dataclass(slots=True)
class Report:
    """What a trial saw.

    Attributes:
        cases: by name, what is done to each.
        stories: by case, what happened to its job.
        reasons: by case, the reasons of Ready and RotationHealthy that its controller gave last, where it ran.
        steps: what was done, and after how many seconds.
        logins: by case with database credentials: for some moments, whether those of each running task were any good.
    """

    cases: dict[str, str] = field(default_factory=dict)
    stories: dict[str, JobStory] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    steps: list[tuple[float, str]] = field(default_factory=list)
    logins: dict[str, list[tuple[str, list[bool]]]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "steps": self.steps,
            "cases": {
                name: {
                    "what": self.cases[name],
                    "reasons": self.reasons.get(name),
                    "logins": self.logins.get(name),
                    **story.to_json(),
                }
                for name, story in self.stories.items()
            },
        }


# -- what is done to a secret -----------------------------------------------------------------------------------------


def destroy(site: Site, case: Case) -> None:
    site.vault.api.put(f"/v1/secret/destroy/{case.name}", {"versions": [1]}).expect(200, 204)


def soft_delete(site: Site, case: Case) -> None:
    site.vault.api.put(f"/v1/secret/delete/{case.name}", {"versions": [1]}).expect(200, 204)


def prune(site: Site, case: Case) -> None:
    site.vault.api.put(f"/v1/secret/metadata/{case.name}", {"max_versions": 2}).expect(200, 204)
    for number in (2, 3, 4):
        site.world.secret(case.name, username="app", password=f"{case.name}-{number}")
    versions = site.vault.api.get(f"/v1/secret/metadata/{case.name}").expect().json()["data"]["versions"]
    assert "1" not in versions


def delete_metadata(site: Site, case: Case) -> None:
    site.vault.api.delete(f"/v1/secret/metadata/{case.name}").expect(200, 204)


def narrow_policy(site: Site, case: Case) -> None:
    """As somebody would by hand: the policy stays, its rights are gone."""
    name = site.policy_of(case)
    head = site.world.policy(name).splitlines()[0]
    site.vault.put_policy(name, f"{head}\n")


def delete_policy_and_role(site: Site, case: Case) -> None:
    roles = site.roles_of(case)
    site.vault.api.delete(f"/v1/sys/policies/acl/{site.policy_of(case)}").expect(200, 204)
    for role in roles:
        site.vault.api.delete(f"/v1/auth/jwt-nomad/role/{role}").expect(200, 204)


def everything_at_once(site: Site, case: Case) -> None:
    destroy(site, case)
    delete_policy_and_role(site, case)


def age(site: Site, case: Case) -> None:
    """Two more versions where Vault keeps three: the one in use goes with the next."""
    site.vault.api.put(f"/v1/secret/metadata/{case.name}", {"max_versions": 3}).expect(200, 204)
    for number in (2, 3):
        site.world.secret(case.name, username="app", password=f"{case.name}-{number}")


# -- cases ------------------------------------------------------------------------------------------------------------

MANUAL: Mapping[str, Any] = {"rotation": {"strategy": "Manual"}}


def _pair(name: str, what: str, fault: Any, **running: Any) -> tuple[Case, Case]:
    return (
        Case(f"{name}-running", what, RUNNING, fault=fault, spec=running),
        Case(f"{name}-stopped", what, STOPPED, fault=fault),
    )


SURVIVORS: tuple[Case, ...] = (
    *_pair("control", "nothing", None),
    *_pair("destroyed", "the version in use is destroyed", destroy),
    *_pair("deleted", "the version in use is soft-deleted", soft_delete),
    *_pair("pruned", "the version in use is pruned by max_versions", prune, **MANUAL),
    *_pair("gone", "the secret's metadata is deleted", delete_metadata),
    *_pair("emptied", "the policy is emptied by hand", narrow_policy),
    *_pair("disarmed", "policy and role are deleted by hand", delete_policy_and_role),
    Case("tokens-running", "tokens of 20 s, 60 s at most, expire", RUNNING, SHORT_TOKENS),
    Case("tokens-stopped", "tokens of 20 s, 60 s at most, expire", STOPPED, SHORT_TOKENS),
    Case(
        "all-stopped",
        "version destroyed, policy and role deleted, token expired",
        STOPPED,
        SHORT_TOKENS,
        fault=everything_at_once,
    ),
)

NARROWED = Case(
    "narrowed-running",
    "the binding is changed to fewer secrets: rolled once for it, then its policy is narrowed",
    RUNNING,
)
AT_RISK = Case(
    "at-risk-running",
    "the version in use is the oldest that Vault keeps, in a closed window: rolled away from early",
    RUNNING,
    spec={"rotation": {"windows": [NEVER_NOW]}},
    fault=age,
)

_DB_ENV = {"DB_USER": "username", "DB_PASS": "password"}
NOOP: Mapping[str, Any] = {"changeMode": "Noop"}
NATIVE: Mapping[str, Any] = {"rotation": {"strategy": "Native"}}


def _leased(name: str, what: str, role: str, spec: Mapping[str, Any] | None = None, **changes: Any) -> Case:
    """Credentials of a role of the database engine, by the kind `database`."""
    secret = {"name": "db", "database": {"mount": "database", "role": role}, "env": _DB_ENV}
    return Case(name, what, spec=spec or {}, secrets=(secret,), **changes)


def _generic(name: str, what: str, role: str, **entry: Any) -> Case:
    """The same, by the kind `generic`, of which the controller knows nothing."""
    secret = {"name": "db", "generic": {"mount": "database", "path": f"creds/{role}"}, "env": _DB_ENV, **entry}
    return Case(name, what, secrets=(secret,))


def _native(name: str, what: str, spec: Mapping[str, Any] | None = None, **entry: Any) -> Case:
    """A KV secret that Nomad polls."""
    secret = {"name": "app", "kv": {"mount": "secret", "path": name}, "env": _DB_ENV, **entry}
    return Case(name, what, spec={**NATIVE, **(spec or {})}, secrets=(secret,))


RESTARTED: tuple[Case, ...] = (
    Case("restart-control", "nothing"),
    Case("restart-expired", "its token has expired", spec=SHORT_TOKENS),
    Case("restart-destroyed", "the version is destroyed", fault=destroy),
    Case("restart-deleted", "the version is soft-deleted", fault=soft_delete),
    Case("restart-pruned", "the version is pruned", fault=prune),
    Case("restart-gone", "the secret's metadata is deleted", fault=delete_metadata),
    Case("restart-emptied", "its policy is emptied", fault=narrow_policy),
    Case("restart-disarmed", "policy and role are deleted", fault=delete_policy_and_role),
    _native("restart-native", "nothing; KV that Nomad polls (Native, Restart)"),
    _leased("restart-lease", "nothing; database credentials of 1 h", "long"),
    _generic("restart-generic", "nothing; the same as generic secret", "long"),
    AT_RISK,
)

AWAY: tuple[Case, ...] = (
    Case("away-pinned", "pinned KV"),
    Case("away-pinned-short", "pinned KV, tokens of 20 s, 60 s at most", spec=SHORT_TOKENS),
    _native("away-native", "KV that Nomad polls (Native, Restart), token of 30 min"),
    _native("away-native-noop", "the same with Noop", **NOOP),
    _native("away-native-short", "the same with Restart, token of 60 s", SHORT_PERIOD),
    _leased("away-lease-long", "database credentials of 1 h, token of 30 min", "long"),
    _leased("away-lease-token", "database credentials of 1 h, token of 60 s", "long", SHORT_PERIOD),
    _leased("away-lease", "database credentials of 60 s, token of 30 min", "short"),
    _leased("away-lease-short", "database credentials of 60 s, token of 60 s", "short", SHORT_PERIOD),
    _generic("away-generic", "the same as generic secret, token of 30 min", "short"),
    _leased("away-ending", "database credentials of 60 s, 3 min at most", "ending"),
    _leased("away-ahead", "the same, with the controller running", "ahead", controller=RUNNING),
)

AWAY_RESTARTED: tuple[Case, ...] = (
    Case("away-restart-pinned", "pinned KV"),
    Case("away-restart-short", "pinned KV, its token has expired", spec=SHORT_TOKENS),
    _native("away-restart-native", "KV that Nomad polls (Native, Restart)"),
    _leased("away-restart-lease", "database credentials of 1 h", "long"),
)


# -- trials -----------------------------------------------------------------------------------------------------------

_SETTING_UP = threading.Lock()


class Trial:
    """One trial: deploys its cases, and then goes through its steps while an observer looks.

    `patient` is for a Nomad whose clients never give up reading a secret. Trials set up one after the other, and run
    at the same time.
    """

    name = ""
    cases: tuple[Case, ...] = ()

    def __init__(self, directory: Path, seconds: float, postgres: Postgres, *, patient: bool = False) -> None:
        self.name = f"{self.name}-patient" if patient else self.name
        self._directory = directory
        self._seconds = seconds
        self._postgres = postgres
        self._attempts = 0 if patient else None
        self._began = 0.0
        self.report = Report({case.name: case.what for case in self.cases})

    def run(self) -> Report:
        """All of it. Raises what goes wrong with the trial itself; what becomes of tasks is in the report."""
        with Site(self._directory / self.name, vault_attempts=self._attempts) as site:
            with _SETTING_UP:
                self.engine = self._database(site)
                for instance in (RUNNING, STOPPED):
                    site.start_controller(instance)
                site.deploy(*self.cases)
                self.settle(site)
            site.stop_controller(STOPPED)
            observer = Observer(site.nomad.api, [case.name for case in self.cases])
            observer.begin()
            self._began = time.monotonic()
            self.steps(site)
            self.until(self._seconds)
            self.credentials(site, "at the end")
            self.report.stories = dict(observer.end())
            for case in self.cases:
                if site.status(case) is not None:
                    kinds = (ConditionType.READY, ConditionType.ROTATION_HEALTHY)
                    self.report.reasons[case.name] = ", ".join(site.reason(case, kind) for kind in kinds)
        return self.report

    def settle(self, site: Site) -> None:
        """What belongs to the beginning."""

    def steps(self, site: Site) -> None:
        """What is done, and when."""
        raise NotImplementedError

    def told(self, text: str) -> None:
        """Log a step."""
        at = round(time.monotonic() - self._began, 1)
        self.report.steps.append((at, text))
        print(f"{clock()} {self.name} {at:6.1f} s: {text}", flush=True)

    def until(self, seconds: float) -> None:
        """Wait until so many seconds after the beginning."""
        time.sleep(max(0.0, self._began + seconds - time.monotonic()))

    def hit(self, site: Site) -> None:
        """Do to each case what is done to it."""
        for case in self.cases:
            if case.fault is not None:
                case.fault(site, case)
        self.told("faults are in place")

    def credentials(self, site: Site, when: str) -> None:
        """Note for each case with database credentials whether those that its tasks have are any good."""
        for case in self.cases:
            if case.secrets and "kv" not in case.secrets[0]:
                told = [seen.split() for seen in site.world.seen(case.name)]
                good = [self._postgres.lets_in(*pair) for pair in told if len(pair) == 2]
                self.report.logins.setdefault(case.name, []).append((when, good))

    def _database(self, site: Site) -> DatabaseEngine:
        engine = DatabaseEngine(site.vault, self._postgres)
        limits = {"long": ("1h", "24h"), "short": ("60s", "24h"), "ending": ("60s", "3m"), "ahead": ("60s", "3m")}
        for role, (ttl, max_ttl) in limits.items():
            engine.dynamic_role(role, ttl=ttl, max_ttl=max_ttl)
        return engine


class Survival(Trial):
    """KV-only tasks under everything that can happen to their secrets and rights, and then without Vault."""

    name = "survival"
    cases = (*SURVIVORS, NARROWED)

    def settle(self, site: Site) -> None:
        """The narrowed binding's own roll is meant; what comes after it is what is looked at."""
        manifest = NARROWED.manifest()
        site.world.secret("narrowed-more", username="more", password="more")
        more = {"name": "more", "kv": {"mount": "secret", "path": "narrowed-more"}, "env": {"MORE": "password"}}
        both = {**manifest, "spec": {**manifest["spec"], "secrets": [*manifest["spec"]["secrets"], more]}}
        site.bind(NARROWED, both)
        wait_until("both secrets are injected", lambda: "narrowed-more" in str(site.world.job(NARROWED.name)), 60.0)
        site.world.deployed(NARROWED.name)
        site.bind(NARROWED)
        wait_until("one is taken out", lambda: "narrowed-more" not in str(site.world.job(NARROWED.name)), 60.0)
        site.world.deployed(NARROWED.name)
        wait_until(
            "its right is gone", lambda: "narrowed-more" not in site.world.policy(site.policy_of(NARROWED)), 60.0
        )

    def steps(self, site: Site) -> None:
        self.hit(site)
        self.until(self._seconds * 0.4)
        site.vault.halt()
        self.told("Vault is stopped")
        self.until(self._seconds * 0.8)
        site.vault.resume()
        self.told("Vault runs again")


class AgentRestart(Trial):
    """The client agent is killed and starts again: it reads each task's templates anew."""

    name = "agent-restart"
    cases = RESTARTED

    def steps(self, site: Site) -> None:
        self.hit(site)
        name = AT_RISK.name
        wait_until("the version at risk is rolled away from", lambda: "?version=3" in str(site.world.job(name)), 60.0)
        site.world.deployed(name)
        self.told("the version at risk was rolled away from")
        site.world.secret(name, username="app", password=f"{name}-4")
        site.stop_controller(RUNNING)
        self.until(self._seconds / 8)
        site.nomad.restart()
        self.told("the client agent was killed and started again")


class VaultAway(Trial):
    """Vault is stopped for longer than leases and periods last."""

    name = "vault-away"
    cases = AWAY

    def steps(self, site: Site) -> None:
        self.until(self._seconds / 4)
        self.credentials(site, "before Vault is stopped")
        site.vault.halt()
        self.told("Vault is stopped")
        self.until(self._seconds / 4 + 120)
        self.credentials(site, "two minutes later")
        self.until(self._seconds * 3 / 4)
        self.credentials(site, "before Vault runs again")
        site.vault.resume()
        self.told("Vault runs again")


class VaultAwayAgentRestart(Trial):
    """Vault is stopped, and then the client agent starts again."""

    name = "vault-away-agent-restart"
    cases = AWAY_RESTARTED

    def steps(self, site: Site) -> None:
        self.until(self._seconds / 10)
        site.vault.halt()
        self.told("Vault is stopped")
        site.nomad.restart()
        self.told("the client agent was killed and started again")
        self.until(self._seconds * 5 / 6)
        site.vault.resume()
        self.told("Vault runs again")


def run_all(directory: Path, seconds: float) -> Mapping[str, Report]:
    """All trials at the same time; returns their reports by name. Raises the first thing that went wrong, and
    `RuntimeError` when there is no PostgreSQL."""
    programs = find_postgres()
    if programs is None:
        raise RuntimeError("no PostgreSQL: install pgserver")
    reports: dict[str, Report] = {}
    with Postgres(programs) as postgres:
        trials = [Survival(directory, seconds, postgres)]
        for patient in (False, True):
            for kind in (AgentRestart, VaultAway, VaultAwayAgentRestart):
                trials.append(kind(directory, seconds, postgres, patient=patient))
        with ThreadPoolExecutor(max_workers=len(trials)) as pool:
            running = {trial.name: pool.submit(trial.run) for trial in trials}
            for name, future in running.items():
                reports[name] = future.result()
    return reports


def write(reports: Mapping[str, Report], path: Path) -> None:
    """The raw findings as JSON."""
    path.write_text(json.dumps({name: report.to_json() for name, report in reports.items()}, indent=1))
