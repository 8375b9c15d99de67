"""A rotation under each of Nomad's update options, to each of its ends, and what the status says on the way."""

import sys
from typing import Any

import pytest

from secretbinding.models.reasons import ConditionType, Reason
from secretbinding.models.status import SecretBindingStatus
from tests.support.servers import Stack
from tests.support.world import SECOND, World, a_job, a_manifest, sampled, wait_until, wary

ROTATION = ConditionType.ROTATION_HEALTHY
Json = dict[str, Any]


@pytest.fixture
def world(stack: Stack) -> World:
    return World(stack)


def with_update(name: str, count: int = 2, **update: Any) -> Json:
    """A job whose groups have these update options beside the quick ones."""
    job = a_job(name, count=count)
    job["TaskGroups"][0]["Update"].update(update)
    return job


def serving(world: World, unique: str, job: Json, **spec: Any) -> None:
    """Register the job and have it served version 1; inside `world.running()`."""
    world.secret(unique, username="app", password="one")
    world.bind(a_manifest(unique, unique, unique, **spec))
    world.await_reason(unique, Reason.JOB_NOT_FOUND)
    world.register(job)
    world.await_reason(unique, Reason.READY)
    world.await_reason(unique, Reason.UP_TO_DATE, ROTATION)


def promote_canaries(world: World, unique: str) -> None:
    """With canaries, the first injection waits for its promotion as well."""
    world.await_reason(unique, Reason.WAITING_FOR_PROMOTION)
    world.promote(unique)
    world.await_reason(unique, Reason.READY)
    world.await_reason(unique, Reason.UP_TO_DATE, ROTATION)


def serving_with_canaries(world: World, unique: str, job: Json) -> None:
    world.secret(unique, username="app", password="one")
    world.register(job)
    world.deployed(unique)
    world.bind(a_manifest(unique, unique, unique))
    promote_canaries(world, unique)


def told(world: World, unique: str) -> SecretBindingStatus:
    found = world.status(unique)
    assert found is not None
    return found


def versions(world: World, unique: str) -> tuple[str | None, str | None]:
    """(serving, wanted) of the only secret."""
    (secret,) = told(world, unique).secrets
    return secret.serving_version, secret.wanted_version


def ids(world: World, unique: str) -> set[str]:
    return {str(item["ID"]) for item in world.running_allocations(unique)}


def failures(world: World, unique: str) -> int:
    return sum(1 for item in world.deployments(unique) if item["Status"] == "failed")


@pytest.mark.parametrize(("parallel", "least"), [(1, 2), (2, 1)])
def test_no_more_than_max_parallel_are_missing_and_each_has_to_be_healthy_long_enough(
    world: World, unique: str, parallel: int, least: int
) -> None:
    with world.running():
        serving(world, unique, with_update(unique, 3, MaxParallel=parallel, MinHealthyTime=SECOND))
        with sampled(lambda: len(world.seen(unique)), every=0.05) as samples:
            world.secret(unique, username="app", password="two")
            world.await_reason(unique, Reason.DEPLOYMENT_RUNNING, ROTATION)
            wait_until("the deployment is told", lambda: told(world, unique).deployment is not None)
            assert versions(world, unique) == ("1", "2")
            assert world.reason(unique) == Reason.READY
            before = told(world, unique).last_rotation_time
            world.await_reason(unique, Reason.UP_TO_DATE, ROTATION)
        assert before is not None
        assert (told(world, unique).last_rotation_time or "") > before
        assert min(samples) >= least
        assert world.seen(unique) == ["app two"] * 3
        assert versions(world, unique) == ("2", "2")
        created = sorted(item["CreateTime"] for item in world.running_allocations(unique))
        assert created[-1] - created[0] >= SECOND, "the last one did not wait for the first to be healthy"


def test_canaries_that_promote_themselves_need_nobody(world: World, unique: str) -> None:
    with world.running():
        serving(world, unique, with_update(unique, Canary=1, AutoPromote=True))
        world.secret(unique, username="app", password="two")
        wait_until("all see it", lambda: world.seen(unique) == ["app two"] * 2)
        world.await_reason(unique, Reason.UP_TO_DATE, ROTATION)


@pytest.mark.parametrize("canaries", [1, 2], ids=["one", "as many as allocations"])
def test_canaries_wait_for_a_person_and_what_serves_goes_on(world: World, unique: str, canaries: int) -> None:
    with world.running():
        serving_with_canaries(world, unique, with_update(unique, Canary=canaries, MaxParallel=2))
        before = ids(world, unique)
        world.secret(unique, username="app", password="two")
        world.await_reason(unique, Reason.WAITING_FOR_PROMOTION, ROTATION)
        assert f"nomad deployment promote {world.deployment(unique)['ID'][:8]}" in world.message(unique, ROTATION)
        assert world.reason(unique) == Reason.READY
        assert versions(world, unique) == ("1", "2")
        assert before <= ids(world, unique)
        assert sorted(world.seen(unique)) == ["app one"] * 2 + ["app two"] * canaries
        world.promote(unique)
        world.await_reason(unique, Reason.UP_TO_DATE, ROTATION)
        wait_until("the old ones are gone", lambda: world.seen(unique) == ["app two"] * 2)
        assert versions(world, unique) == ("2", "2")


def test_a_newer_version_takes_the_place_of_canaries_that_wait(world: World, unique: str) -> None:
    with world.running():
        serving_with_canaries(world, unique, with_update(unique, Canary=1))
        world.secret(unique, username="app", password="two")
        world.await_reason(unique, Reason.WAITING_FOR_PROMOTION, ROTATION)
        waiting = world.deployment(unique)
        world.secret(unique, username="app", password="three")
        wait_until("a canary has version 3", lambda: "app three" in world.seen(unique))
        wait_until("it waits", lambda: versions(world, unique) == ("1", "3"))
        world.await_reason(unique, Reason.WAITING_FOR_PROMOTION, ROTATION)
        took = f"took the place of job version {waiting['JobVersion']}"
        wait_until("it is told", lambda: took in world.message(unique, ROTATION))
        assert world.reason(unique) == Reason.READY
        assert "app two" not in world.seen(unique)
        world.promote(unique)
        world.await_reason(unique, Reason.UP_TO_DATE, ROTATION)
        wait_until("all have it", lambda: world.seen(unique) == ["app three"] * 2)
        assert failures(world, unique) == 0


@pytest.mark.parametrize("auto_revert", [True, False], ids=["auto_revert", "no auto_revert"])
def test_a_canary_that_fails_touches_nothing_that_serves(world: World, unique: str, auto_revert: bool) -> None:
    with world.running():
        serving_with_canaries(world, unique, wary(with_update(unique, Canary=1, AutoRevert=auto_revert)))
        before = ids(world, unique)
        world.secret(unique, username="app", password="broken")
        world.await_reason(unique, Reason.DEPLOYMENT_REVERTED, ROTATION)
        assert "app version 2 failed" in world.message(unique, ROTATION)
        assert "app version 1 serves again" in world.message(unique, ROTATION)
        assert world.reason(unique) == Reason.READY
        assert ids(world, unique) == before
        assert world.seen(unique) == ["app one"] * 2
        assert versions(world, unique) == ("1", "2")
        assert "?version=1" in str(world.job(unique))
        assert failures(world, unique) == 1


@pytest.mark.parametrize("auto_revert", [True, False], ids=["auto_revert", "no auto_revert"])
def test_a_deployment_that_a_person_fails_is_taken_back_and_not_tried_again(
    world: World, unique: str, auto_revert: bool
) -> None:
    with world.running() as controller:
        serving_with_canaries(world, unique, with_update(unique, Canary=1, AutoRevert=auto_revert))
        before = ids(world, unique)
        world.secret(unique, username="app", password="two")
        world.await_reason(unique, Reason.WAITING_FOR_PROMOTION, ROTATION)
        world.api.put(f"/v1/deployment/fail/{world.deployment(unique)['ID']}", {}).expect()
        world.await_reason(unique, Reason.DEPLOYMENT_REVERTED, ROTATION)
        failed = told(world, unique).failed
        assert failed is not None
        assert (failed.message or "").startswith("Deployment marked as failed")
        wait_until("the canary is gone", lambda: ids(world, unique) == before)
        number = world.job(unique)["Version"]
        controller.engine.wake(controller.engine.store.workloads())
        wait_until("it was looked at", lambda: controller.engine.queue.idle(within=1))
        assert world.job(unique)["Version"] == number


@pytest.mark.parametrize("level", ["job", "group"])
def test_the_update_block_of_a_job_counts_like_that_of_its_groups(world: World, unique: str, level: str) -> None:
    job = wary(with_update(unique))
    if level == "job":
        job["Update"] = job["TaskGroups"][0].pop("Update")
    with world.running():
        serving(world, unique, job)
        world.secret(unique, username="app", password="broken")
        world.await_reason(unique, Reason.DEPLOYMENT_REVERTED, ROTATION)
        assert world.seen(unique) == ["app one"] * 2
        assert "rolling back" in ((told(world, unique).failed or failed_nothing()).message or "")


def failed_nothing() -> Any:
    raise AssertionError("the status names no failed state")


def test_stagger_changes_nothing(world: World, unique: str) -> None:
    with world.running():
        serving(world, unique, with_update(unique, Stagger=300 * SECOND))
        world.secret(unique, username="app", password="two")
        wait_until("both see it", lambda: world.seen(unique) == ["app two"] * 2)
        world.await_reason(unique, Reason.UP_TO_DATE, ROTATION)


def test_without_an_update_block_nomads_own_counts(world: World, unique: str) -> None:
    job = a_job(unique)
    del job["TaskGroups"][0]["Update"]
    # Nomad's own waits 10 s and asks for service checks, of which there are none.
    world.secret(unique, username="app", password="one")
    world.register(job)
    with world.running():
        world.bind(a_manifest(unique, unique, unique))
        world.await_reason(unique, Reason.READY)
        world.secret(unique, username="app", password="two")
        wait_until("it sees version 2", lambda: world.seen(unique) == ["app two"])
        assert world.reason(unique, ROTATION) == Reason.DEPLOYMENT_RUNNING
        assert versions(world, unique) == ("1", "2")


def checked(name: str, **update: Any) -> Json:
    """A job whose only service check asks for a file that is there unless DB_PASS is `unready`."""
    serve = f"exec {sys.executable} -m http.server $NOMAD_PORT_http --bind 127.0.0.1"
    script = f'mkdir -p local/www; [ "$DB_PASS" = unready ] || touch local/www/ok; cd local/www; {serve}'
    job = with_update(name, 1, HealthCheck="checks", HealthyDeadline=8 * SECOND, **update)
    group = job["TaskGroups"][0]
    group["Networks"] = [{"Mode": "host", "DynamicPorts": [{"Label": "http"}]}]
    check = {"Name": "up", "Type": "http", "Path": "/ok", "Interval": SECOND, "Timeout": SECOND}
    group["Services"] = [{"Name": name, "PortLabel": "http", "Provider": "nomad", "Checks": [check]}]
    group["Tasks"][0]["Config"]["args"] = ["-c", script]
    group["Tasks"][0]["Resources"]["MemoryMB"] = 64
    return job


def test_a_version_with_which_a_service_check_fails_is_reverted_though_the_task_runs(world: World, unique: str) -> None:
    with world.running():
        serving(world, unique, checked(unique))
        world.secret(unique, username="app", password="two")
        wait_until("version 2 serves", lambda: versions(world, unique) == ("2", "2"))
        world.secret(unique, username="app", password="unready")
        world.await_reason(unique, Reason.DEPLOYMENT_REVERTED, ROTATION)
        assert "app version 2 serves again" in world.message(unique, ROTATION)
        assert "?version=2" in str(world.job(unique))


def test_health_that_a_person_sets_is_asked_for_and_followed(world: World, unique: str) -> None:
    with world.running():
        job = with_update(unique, 1)
        serving(world, unique, job)
        manual = world.job(unique)
        manual["TaskGroups"][0]["Update"]["HealthCheck"] = "manual"
        world.register(manual)
        world.set_health(unique)
        world.await_reason(unique, Reason.UP_TO_DATE, ROTATION)
        world.secret(unique, username="app", password="two")
        wait_until("it sees version 2", lambda: world.seen(unique) == ["app two"])
        wait_until("it is asked for", lambda: "health_check manual" in world.message(unique, ROTATION))
        assert world.reason(unique, ROTATION) == Reason.DEPLOYMENT_RUNNING
        world.set_health(unique)
        world.await_reason(unique, Reason.UP_TO_DATE, ROTATION)
        world.secret(unique, username="app", password="three")
        wait_until("it sees version 3", lambda: world.seen(unique) == ["app three"])
        world.set_health(unique, healthy=False)
        wait_until("version 2 is back", lambda: world.seen(unique) == ["app two"])
        world.set_health(unique)
        world.await_reason(unique, Reason.DEPLOYMENT_REVERTED, ROTATION)


def test_an_allocation_that_does_not_come_up_in_time_fails_the_deployment(world: World, unique: str) -> None:
    job = wary(with_update(unique, 1, HealthyDeadline=6 * SECOND, ProgressDeadline=8 * SECOND))
    group = job["TaskGroups"][0]
    group["RestartPolicy"] = {"Attempts": 0, "Mode": "fail"}
    group["ReschedulePolicy"] = {"Unlimited": True, "Delay": 5 * SECOND, "DelayFunction": "constant"}
    with world.running():
        serving(world, unique, job)
        world.secret(unique, username="app", password="broken")
        world.await_reason(unique, Reason.DEPLOYMENT_REVERTED, ROTATION)
        failed = told(world, unique).failed or failed_nothing()
        assert (failed.message or "").startswith("Failed due to progress deadline")
        assert world.seen(unique) == ["app one"]


def test_an_allocation_that_is_placed_again_in_the_middle_does_not_end_the_roll(
    world: World, unique: str, tmp_path: Any
) -> None:
    job = with_update(unique, 2)
    group = job["TaskGroups"][0]
    group["ReschedulePolicy"] = {"Unlimited": True, "Delay": 5 * SECOND, "DelayFunction": "constant"}
    # The first that gets version 2 fails, once.
    once = f'if [ "$DB_PASS" = two ] && mkdir {tmp_path}/failed 2>/dev/null; then exit 1; fi; '
    group["Tasks"][0]["Config"]["args"][1] = once + group["Tasks"][0]["Config"]["args"][1]
    with world.running():
        serving(world, unique, job)
        world.secret(unique, username="app", password="two")
        wait_until("one has failed", lambda: (tmp_path / "failed").exists())
        world.await_reason(unique, Reason.DEPLOYMENT_RUNNING, ROTATION)
        world.await_reason(unique, Reason.UP_TO_DATE, ROTATION)
        assert world.seen(unique) == ["app two"] * 2
        assert failures(world, unique) == 0


def test_groups_with_different_settings_each_roll_by_their_own(world: World, unique: str) -> None:
    job = a_job(unique, groups=("plain", "canary"))
    job["TaskGroups"][1]["Update"]["Canary"] = 1
    with world.running():
        serving_with_canaries(world, unique, job)
        world.secret(unique, username="app", password="two")
        world.await_reason(unique, Reason.WAITING_FOR_PROMOTION, ROTATION)
        wait_until(
            "the plain group has it, beside the canary",
            lambda: sorted(world.seen(unique)) == ["app one", "app two", "app two"],
        )
        world.promote(unique)
        world.await_reason(unique, Reason.UP_TO_DATE, ROTATION)
        assert world.seen(unique) == ["app two"] * 2


def test_a_failure_of_one_group_takes_our_part_back_in_all_of_them(world: World, unique: str) -> None:
    job = wary(a_job(unique, groups=("strong", "weak")))
    strong, weak = job["TaskGroups"]
    strong["Update"]["AutoRevert"] = weak["Update"]["AutoRevert"] = False
    script = strong["Tasks"][0]["Config"]["args"][1]
    strong["Tasks"][0]["Config"]["args"] = ["-c", script.replace("exit 1", "true")]
    with world.running():
        serving(world, unique, job)
        world.secret(unique, username="app", password="broken")
        world.await_reason(unique, Reason.DEPLOYMENT_REVERTED, ROTATION)
        wait_until("both are back", lambda: world.seen(unique) == ["app one"] * 2)
        assert failures(world, unique) == 1


def test_a_group_that_is_scaled_to_zero_gets_the_newest_when_it_is_scaled_up(world: World, unique: str) -> None:
    job = a_job(unique, groups=("web", "idle"))
    job["TaskGroups"][1]["Count"] = 0
    with world.running():
        serving(world, unique, job)
        world.secret(unique, username="app", password="two")
        wait_until("the other one has it", lambda: world.seen(unique) == ["app two"])
        world.await_reason(unique, Reason.UP_TO_DATE, ROTATION)
        body = {"Count": 1, "Target": {"Group": "idle"}}
        world.api.put(f"/v1/job/{unique}/scale", body).expect(200)
        wait_until("it has the newest", lambda: world.seen(unique) == ["app two"] * 2)


def test_a_job_is_not_scaled_while_it_rolls_and_may_be_registered_with_another_count(world: World, unique: str) -> None:
    with world.running():
        serving(world, unique, with_update(unique, 2, MinHealthyTime=SECOND))
        world.secret(unique, username="app", password="two")
        wait_until("one has it", lambda: "app two" in world.seen(unique))
        refused = world.api.put(f"/v1/job/{unique}/scale", {"Count": 3, "Target": {"Group": "app"}})
        assert refused.status == 400
        larger = world.job(unique)
        larger["TaskGroups"][0]["Count"] = 3
        world.register(larger)
        wait_until("it goes on", lambda: "took the place" in world.message(unique, ROTATION))
        assert world.reason(unique, ROTATION) == Reason.DEPLOYMENT_RUNNING
        wait_until("all three have it", lambda: world.seen(unique) == ["app two"] * 3)
        world.await_reason(unique, Reason.UP_TO_DATE, ROTATION)


def test_a_job_that_its_user_registers_anew_in_the_middle_ends_with_their_change_and_the_newest_version(
    world: World, unique: str
) -> None:
    job = with_update(unique, 2, MinHealthyTime=SECOND)
    with world.running():
        serving(world, unique, job)
        world.secret(unique, username="app", password="two")
        wait_until("one has it", lambda: "app two" in world.seen(unique))
        # As from the job file, which knows nothing of secrets.
        world.register({**job, "Meta": {"build": "7"}})
        wait_until("both have it", lambda: world.seen(unique) == ["app two"] * 2)
        world.await_reason(unique, Reason.UP_TO_DATE, ROTATION)
        assert world.job(unique)["Meta"] == {"build": "7"}
        assert world.reason(unique) == Reason.READY
        assert failures(world, unique) == 0


def test_a_bad_version_is_taken_back_though_the_user_registers_the_job_with_it_in_the_middle(
    simulator: Stack, unique: str
) -> None:
    world = World(simulator)
    with world.running():
        serving(world, unique, with_update(unique, 2, MinHealthyTime=2 * SECOND, AutoRevert=False))
        before = world.job(unique)["Version"]
        world.secret(unique, username="app", password="broken")
        wait_until("it rolls", lambda: world.job(unique)["Version"] > before)
        # As by `nomad job inspect`, an editor and `nomad job run`: our part comes along.
        larger = world.job(unique)
        larger["TaskGroups"][0]["Count"] = 3
        world.register(larger)
        world.await_reason(unique, Reason.DEPLOYMENT_REVERTED, ROTATION, timeout=60)
        wait_until("all three have the old one", lambda: world.seen(unique) == ["app one"] * 3)
        assert failures(world, unique) == 1
        found = world.status(unique)
        assert found is not None
        assert found.failed is not None
        assert (found.failed.secret_versions, found.secrets[0].serving_version) == ({"app": "2"}, "1")


def test_a_job_that_is_stopped_in_the_middle_gets_the_newest_version_when_it_is_started(
    world: World, unique: str
) -> None:
    with world.running():
        serving(world, unique, with_update(unique, 2, MinHealthyTime=SECOND))
        world.secret(unique, username="app", password="two")
        wait_until("one has it", lambda: "app two" in world.seen(unique))
        world.api.delete(f"/v1/job/{unique}").expect(200)
        world.await_reason(unique, Reason.JOB_STOPPED)
        world.await_reason(unique, Reason.JOB_STOPPED, ROTATION)
        world.secret(unique, username="app", password="three")
        wait_until("it waits", lambda: "app version 3" in world.message(unique, ROTATION))
        stopped = world.job(unique)
        assert "?version=2" in str(stopped)
        world.register({**stopped, "Stop": False})
        wait_until("both have it", lambda: world.seen(unique) == ["app three"] * 2)
        world.await_reason(unique, Reason.UP_TO_DATE, ROTATION)


def test_a_job_that_is_purged_in_the_middle_is_missing_until_it_comes_again(world: World, unique: str) -> None:
    job = with_update(unique, 2, MinHealthyTime=SECOND)
    with world.running():
        serving(world, unique, job)
        world.secret(unique, username="app", password="two")
        wait_until("one has it", lambda: "app two" in world.seen(unique))
        world.api.delete(f"/v1/job/{unique}", purge="true").expect(200)
        world.await_reason(unique, Reason.JOB_NOT_FOUND)
        world.register(job)
        wait_until("both have it", lambda: world.seen(unique) == ["app two"] * 2)
        world.await_reason(unique, Reason.READY)


def test_an_allocation_that_a_person_stops_in_the_middle_comes_back_with_the_newest(world: World, unique: str) -> None:
    with world.running():
        serving(world, unique, with_update(unique, 2, MinHealthyTime=SECOND))
        old = ids(world, unique)
        world.secret(unique, username="app", password="two")
        wait_until("one has it", lambda: "app two" in world.seen(unique))
        (left,) = old & ids(world, unique)
        world.api.put(f"/v1/allocation/{left}/stop").expect(200)
        wait_until("both have it", lambda: world.seen(unique) == ["app two"] * 2)
        world.await_reason(unique, Reason.UP_TO_DATE, ROTATION)


@pytest.mark.parametrize("moment", [0.0, 0.25, 0.4, 0.6, 0.8])
def test_a_binding_that_comes_while_the_job_starts_disturbs_no_group_that_it_does_not_name(
    world: World, unique: str, moment: float
) -> None:
    job = a_job(unique, groups=("api", "worker"))
    for group in job["TaskGroups"]:
        group["Update"].update(HealthyDeadline=6 * SECOND, ProgressDeadline=8 * SECOND)
    world.secret(unique, username="app", password="one")
    with world.running():
        world.register(job)
        started = world.pause(moment)
        world.bind(a_manifest(unique, unique, unique, workload={"groups": [{"name": "api"}]}))
        world.await_reason(unique, Reason.READY)
        assert failures(world, unique) == 0, f"after {started:.2f} s"
