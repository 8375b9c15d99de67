"""What the metrics of a running controller say of rotations, scraped over HTTP."""

import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from secretbinding.app import Controller
from secretbinding.engine.queue import Priority
from secretbinding.metrics import Monitoring
from secretbinding.models.key import BindingKey
from secretbinding.models.reasons import ConditionType, Reason
from secretbinding.sources.files import FilesSource
from tests.support.metrics import OPENMETRICS, Scrape, get, scrape
from tests.support.servers import Stack
from tests.support.world import World, a_job, a_manifest, wait_until, wary

NEVER_NOW = {"kind": "Deny", "schedule": "* * * * *", "duration": "2m"}
DECISIONS = "secretbinding_rotation_decisions_total"
OUTCOMES = "secretbinding_rotation_outcomes_total"


class Watched:
    """A running controller with bindings of its own, from files, whose metrics can be scraped."""

    def __init__(self, world: World, controller: Controller, monitoring: Monitoring, folder: Path) -> None:
        self.world = world
        self.address = monitoring.address
        self._engine = controller.engine
        self._folder = folder

    def bind(self, manifest: Mapping[str, Any]) -> None:
        written = self._folder / "being-written"
        written.write_text(yaml.safe_dump(dict(manifest)))
        written.rename(self._folder / f"{manifest['metadata']['name']}.yaml")

    def await_reason(self, name: str, reason: str, kind: ConditionType = ConditionType.READY) -> None:
        def found() -> bool:
            entry = self._engine.store.get(BindingKey("files", "default", name))
            condition = entry.status.condition(kind) if entry is not None else None
            return condition is not None and condition.reason == reason

        wait_until(f"{kind} of {name} is {reason}", found)

    def served(self, name: str, **spec: Any) -> None:
        """A job with a binding, which has version 1 of its secret."""
        self.world.secret(name, username="app", password="one")
        self.world.register(wary(a_job(name)))
        self.bind(a_manifest(name, name, name, **spec))
        self.await_reason(name, Reason.READY)
        self.world.deployed(name)
        self.await_decisions({})

    def decisions(self) -> dict[str, float]:
        """Every decision and outcome that was counted."""
        found: dict[str, float] = {}
        for sample in scrape(self.address).samples():
            if sample.name in (DECISIONS, OUTCOMES) and sample.value:
                words = (sample.labels.get("decision"), sample.labels.get("reason"), sample.labels.get("outcome"))
                found[" ".join(word for word in words if word)] = sample.value
        return found

    def await_decisions(self, expected: Mapping[str, float]) -> None:
        """Wait until just these have been counted, and see that further passes count nothing more."""
        try:
            wait_until("the decisions are counted", lambda: self.decisions() == expected)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.decisions()} instead of {expected}") from None
        self.more_passes()
        assert self.decisions() == expected

    def more_passes(self) -> None:
        """Every job is looked at once more."""

        def passes() -> float:
            return scrape(self.address).total("secretbinding_reconciles_total")

        before = passes()
        workloads = self._engine.store.workloads()
        self._engine.wake(workloads, Priority.RESYNC)
        wait_until("there were more passes", lambda: passes() >= before + len(workloads))


@pytest.fixture
def watched(tmp_path: Path, unique: str) -> Callable[..., AbstractContextManager[Watched]]:
    """Runs the controller for a stack; settings by name."""

    @contextmanager
    def run(stack: Stack, **own: Any) -> Iterator[Watched]:
        world = World(stack, instance=unique, **own)
        monitoring = Monitoring(("127.0.0.1", 0))
        folder = tmp_path / "bindings"
        folder.mkdir()
        with world.running(FilesSource([str(folder)], interval_seconds=0.1), monitoring=monitoring) as controller:
            yield Watched(world, controller, monitoring, folder)

    return run


Run = Callable[..., AbstractContextManager[Watched]]


def test_a_rotation_is_counted_and_measured(stack: Stack, watched: Run, unique: str) -> None:
    with watched(stack) as running:
        running.served(unique)
        running.world.secret(unique, username="app", password="two")
        running.await_decisions({"detected Version": 1, "started": 1, "succeeded": 1})
        found = scrape(running.address)
        assert found.value("secretbinding_registrations_total", cause="rotation") == 1
        assert found.value("secretbinding_registrations_total", cause="change") == 1
        registered = found.value("secretbinding_secret_change_to_registration_seconds_sum")
        done = found.value("secretbinding_secret_change_to_done_seconds_sum")
        assert found.value("secretbinding_secret_change_to_done_seconds_count") == 1
        assert 0 <= registered < done < 30
        wait_until("it is in the status", lambda: "last_rotation_timestamp_seconds{" in scrape(running.address).text)
        named = {"connection": "default", "system": "nomad", "operation": "job_register", "outcome": "Success"}
        assert found.value("secretbinding_api_request_duration_seconds_count", **named) == 2
        assert found.value("secretbinding_bindings", source="files", condition="Ready", status="True") == 1
        opened = Scrape(get(running.address, "/metrics", Accept=OPENMETRICS).text, open_metrics=True)
        ids = {each.exemplar.labels["reconcile_id"] for each in opened.samples() if each.exemplar is not None}
        assert all(len(one) == 16 for one in ids)
        assert len(ids) > 1


def test_a_rotation_that_fails_is_counted_as_failed_reverted_and_held(stack: Stack, watched: Run, unique: str) -> None:
    with watched(stack) as running:
        running.served(unique)
        running.world.secret(unique, username="app", password="broken")
        expected = {"detected Version": 1.0, "started": 1, "failed": 1, "reverted": 1, "held DeploymentFailed": 1}
        running.await_decisions(expected)
        running.await_reason(unique, Reason.DEPLOYMENT_REVERTED, ConditionType.ROTATION_HEALTHY)
        labels = {"source": "files", "binding_namespace": "default", "binding": unique, "reason": "DeploymentReverted"}
        assert scrape(running.address).value("secretbinding_binding_rotation_unhealthy", **labels) == 1
        assert not scrape(running.address).has("secretbinding_binding_not_ready", **labels)
        running.world.secret(unique, username="app", password="good")
        running.await_decisions({**expected, "detected Version": 2, "started": 2, "succeeded": 1})
        assert not scrape(running.address).has("secretbinding_binding_rotation_unhealthy", **labels)


def test_a_failed_rotation_that_the_controller_takes_back_is_a_restore(
    simulator: Stack, watched: Run, unique: str
) -> None:
    job = wary(a_job(unique))
    job["TaskGroups"][0]["Update"]["AutoRevert"] = False
    with watched(simulator) as running:
        world = running.world
        world.secret(unique, username="app", password="one")
        world.register(job)
        running.bind(a_manifest(unique, unique, unique))
        running.await_reason(unique, Reason.READY)
        world.deployed(unique)
        world.secret(unique, username="app", password="broken")
        running.await_decisions(
            {"detected Version": 1, "started": 1, "failed": 1, "reverted": 1, "held DeploymentFailed": 1}
        )
        assert scrape(running.address).value("secretbinding_registrations_total", cause="restore") == 1


def test_a_version_that_lacks_a_field_is_counted_as_held(simulator: Stack, watched: Run, unique: str) -> None:
    with watched(simulator) as running:
        running.served(unique)
        running.world.secret(unique, username="app")
        running.await_decisions({"detected Version": 1, "held SecretFieldMissing": 1})


def test_a_version_that_waits_for_a_window_is_counted_as_deferred_once(
    simulator: Stack, watched: Run, unique: str
) -> None:
    with watched(simulator) as running:
        running.served(unique, rotation={"windows": [NEVER_NOW]})
        running.world.secret(unique, username="app", password="two")
        running.await_decisions({"detected Version": 1, "deferred Window": 1})
        running.await_reason(unique, Reason.NEW_VERSION_HELD, ConditionType.ROTATION_HEALTHY)
        assert scrape(running.address).total("secretbinding_next_rotation_timestamp_seconds") > 0
        running.world.secret(unique, username="app", password="three")
        running.await_decisions({"detected Version": 2, "deferred Window": 2})


def test_five_secrets_that_make_one_roll_coalesce_four(simulator: Stack, watched: Run, unique: str) -> None:
    manifest = a_manifest(unique, unique, unique, rotation={"settle": "3s"})
    paths = [f"{unique}-{number}" for number in range(5)]
    manifest["spec"]["secrets"] = [
        {"name": f"s{number}", "kv": {"mount": "secret", "path": path}, "env": {f"DB_{number}": "value"}}
        for number, path in enumerate(paths)
    ]
    with watched(simulator) as running:
        for path in paths:
            running.world.secret(path, value="one")
        running.world.register(a_job(unique, count=0))
        running.bind(manifest)
        running.await_reason(unique, Reason.READY)
        for path in paths:
            running.world.secret(path, value="two")
        running.await_decisions(
            {"detected Version": 5, "deferred Settle": 5, "started": 1, "coalesced": 4, "succeeded": 1}
        )


def test_a_roll_that_finds_no_free_slot_is_counted_as_limited(simulator: Stack, watched: Run, unique: str) -> None:
    jobs = [f"{unique}-{number}" for number in range(2)]
    with watched(simulator, max_rolls=1) as running:
        running.world.secret(unique, username="app", password="one")
        for name in jobs:
            running.world.register(a_job(name))
            running.bind(a_manifest(name, name, unique))
        for name in jobs:
            running.await_reason(name, Reason.READY)
            running.world.deployed(name)
        running.world.secret(unique, username="app", password="two")
        running.await_decisions({"detected Version": 2, "limited Slot": 1, "started": 2, "succeeded": 2})


def test_a_roll_that_waits_for_promotion_is_counted_and_one_that_is_overtaken_is_superseded(
    simulator: Stack, watched: Run, unique: str
) -> None:
    job = a_job(unique)
    job["TaskGroups"][0]["Update"] |= {"Canary": 1, "AutoPromote": False, "AutoRevert": False}
    with watched(simulator) as running:
        world = running.world
        world.secret(unique, username="app", password="one")
        world.register(job)
        world.deployed(unique)
        running.bind(a_manifest(unique, unique, unique))
        running.await_reason(unique, Reason.WAITING_FOR_PROMOTION)
        world.api.put(f"/v1/deployment/promote/{world.deployment(unique)['ID']}", {"All": True}).expect()
        world.deployed(unique)
        world.secret(unique, username="app", password="two")
        running.await_decisions({"detected Version": 1, "started": 1, "waiting_for_promotion": 1})
        world.secret(unique, username="app", password="three")
        running.await_decisions({"detected Version": 2, "started": 2, "waiting_for_promotion": 2, "superseded": 1})


def test_what_others_alter_is_counted_as_drift_and_mended(simulator: Stack, watched: Run, unique: str) -> None:
    with watched(simulator) as running:
        world = running.world
        running.served(unique)

        def drift(what: str) -> tuple[float, float]:
            found = scrape(running.address)
            labels = {"object": what}
            names = ("secretbinding_drift_found_total", "secretbinding_drift_mended_total")
            return found.value(names[0], **labels), found.value(names[1], **labels)

        running.more_passes()
        policy = world.policies(instance=unique)[0]
        world.stack.openbao.put_policy(policy, world.policy(policy).replace('"read"', '"read", "list"'))

        def mended(what: str) -> bool:
            running.more_passes()
            return drift(what) == (1, 1)

        wait_until("the policy is mended", lambda: mended("policy"))
        world.register(a_job(unique))
        wait_until("the job is mended", lambda: mended("job"))
        assert scrape(running.address).value("secretbinding_registrations_total", cause="drift") == 1


def test_nothing_that_is_served_names_a_path_a_secret_or_a_value(simulator: Stack, watched: Run, unique: str) -> None:
    path, value = f"vaultpath-{unique}", f"value-{unique}"
    manifest = a_manifest(unique, f"job-{unique}", path)
    manifest["spec"]["secrets"][0]["name"] = f"secretname-{unique}"
    with watched(simulator) as running:
        running.world.secret(path, username="app", password=value)
        running.world.register(a_job(f"job-{unique}"))
        running.bind(manifest)
        running.await_reason(unique, Reason.READY)
        running.world.secret(path, username="app")
        running.await_decisions({"detected Version": 1, "held SecretFieldMissing": 1})
        pages = [get(running.address, page).text for page in ("/metrics", "/healthz", "/readyz")]
        pages.append(get(running.address, "/metrics", Accept=OPENMETRICS).text)
    for page in pages:
        for word in (path, value, f"secretname-{unique}", simulator.openbao.root_token, "secret/data", "password"):
            assert word not in page
    assert f'binding="{unique}"' in pages[0], "a binding is named by its own name while its rotation is held"


def test_health_and_readiness_of_a_controller_that_works(stack: Stack, watched: Run, unique: str) -> None:
    with watched(stack) as running:
        running.served(unique)
        wait_until("it is ready", lambda: get(running.address, "/readyz").status == 200)
        health = get(running.address, "/healthz")
        assert (health.status, health.text) == (200, "ok     threads\nok     workers\nok     queue\nok     loops\n")
        promtool = shutil.which("promtool")
        if promtool is None:
            pytest.skip("no `promtool` on PATH (Debian: apt-get install prometheus): the scrape is not checked by it")
        checked = subprocess.run(
            [promtool, "check", "metrics"],
            input=scrape(running.address).text,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_without_vault_the_controller_is_alive_and_not_ready(simulator: Stack, unique: str) -> None:
    world = World(simulator)
    world.settings.vault.address = "http://127.0.0.1:9"
    monitoring = Monitoring(("127.0.0.1", 0))
    with world.running(monitoring=monitoring):
        wait_until("nomad answers", lambda: "ok     nomad" in get(monitoring.address, "/readyz").text)
        assert "failed vault does not answer" in get(monitoring.address, "/readyz").text
        assert get(monitoring.address, "/healthz").status == 200
        assert (
            scrape(monitoring.address).value("secretbinding_server_answering", connection="default", system="vault")
            == 0
        )
