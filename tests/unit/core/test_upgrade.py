"""What a release has written is taken by every later one as it stands: an upgrade changes nothing by itself.

Each file in `released/` is what that release made of the bindings below: policies, roles, and the job's last two
versions, the older of which failed. When one of these tests fails after a change of the code, an upgrade to it would
roll every job: mend the code, never the file. `python -m tests.unit.core.test_upgrade 0.2.0` writes the file of a new
release.
"""

import copy
import json
import sys
from pathlib import Path

import pytest

from secretbinding.ports import Json
from tests.support.builders import (
    binding,
    generic,
    given,
    group,
    job,
    kv,
    kv_state,
    on_tasks,
    strategy,
    task,
    template,
    workload_env,
)
from tests.support.builders import (
    generic_state as unknown,
)
from tests.unit.core.world import World

RELEASED = sorted(Path(__file__).with_name("released").glob("*.json"))

JOB: Json = job(
    group(task("server", Templates=[template()]), task("proxy"), name="web"),
    group(
        task("worker", KillSignal="SIGTERM"),
        name="work",
        Constraints=[{"LTarget": "${attr.kernel.name}", "RTarget": "linux", "Operand": "="}],
    ),
    group(task("reader"), name="read"),
)
SECRETS = {
    ("kv", "first"): kv_state(3),
    ("kv", "second"): kv_state(1, fields=["tls-key", "password"]),
    ("kv", "failing"): kv_state(1),
    ("generic", "creds/deploy"): unknown(),
}
FILES = [
    {"destination": "local/all.json"},
    {"destination": "secrets/all.env", "format": "Dotenv", "perms": "0600"},
    {"destination": "local/app.conf.tpl", "template": "p={{ .Data.data.password }}", "uid": 100, "gid": 100},
    {
        "destination": "local/other",
        "template": "<< .Data.data.password >>",
        "leftDelimiter": "<<",
        "rightDelimiter": ">>",
    },
]
FIRST = binding(
    kv("app", path="first", env={"P": "password", "U": "username"}, files=FILES),
    on_tasks("web"),
    workload_env(VAULT_ADDR="http://127.0.0.1:8200"),
    name="first",
)
SECOND = binding(
    kv("tls", path="second", env={"K": "tls-key"}),
    kv("frozen", path="first", version=2, env={"OLD": "password"}),
    on_tasks("work", "worker"),
    name="second",
)
THIRD = binding(
    kv("native", path="first", env={"N": "password"}), generic(), on_tasks("read"), strategy("Native"), name="third"
)
FOURTH = binding(kv("bad", path="failing", env={"F": "password"}), on_tasks("web", "proxy"), name="fourth")
BINDINGS = [given(made) for made in (FIRST, SECOND, THIRD, FOURTH)]


def world_of(released: Path) -> World:
    """The world as the release left it, with the failing secret's second version wanted."""
    left = json.loads(released.read_text())
    world = World()
    world.secrets = {**SECRETS, ("kv", "failing"): kv_state(2)}
    world.policies, world.roles = left["policies"], left["roles"]
    world.versions = left["versions"]
    world.job = copy.deepcopy(world.versions[-1])
    return world


def write_release(path: Path) -> None:
    """What this release makes of the bindings: injected, and then a version that fails."""
    world = World()
    world.secrets = dict(SECRETS)
    world.user_registers(copy.deepcopy(JOB))
    world.finish_deployment()
    world.settle(BINDINGS)
    world.secrets["kv", "failing"] = kv_state(2)
    world.run(BINDINGS)
    world.finish_deployment(success=False)
    world.settle(BINDINGS)
    left = {"policies": world.policies, "roles": world.roles, "versions": world.versions[-2:]}
    path.write_text(json.dumps(left, indent=1, sort_keys=True) + "\n")


@pytest.fixture(params=RELEASED, ids=lambda path: path.stem)
def world(request: pytest.FixtureRequest) -> World:
    return world_of(request.param)


def test_an_upgrade_changes_nothing(world: World) -> None:
    desired, plan = world.decide(BINDINGS)
    assert plan.actions == ()
    assert plan.waiting == ""
    assert all(result.fault is None for result in desired.results.values())


def test_a_state_that_failed_before_the_upgrade_is_not_tried_again(world: World) -> None:
    desired, _ = world.decide(BINDINGS)
    failed = {key.name for key, result in desired.results.items() if result.failed is not None}
    assert failed == {"fourth"}


def test_what_an_older_release_put_in_is_given_back_whole(world: World) -> None:
    untouched = World()
    untouched.user_registers(copy.deepcopy(JOB))
    world.settle([given(item.binding, deleting=True) for item in BINDINGS])
    assert world.job is not None
    assert untouched.job is not None
    assert world.job["TaskGroups"] == untouched.job["TaskGroups"]
    assert (world.policies, world.roles) == ({}, {})


def test_a_new_version_after_the_upgrade_rolls_once(world: World) -> None:
    world.secrets["kv", "second"] = kv_state(2, fields=["tls-key", "password"])
    before = len(world.versions)
    world.settle(BINDINGS)
    assert len(world.versions) == before + 1


if __name__ == "__main__":
    write_release(Path(__file__).with_name("released") / f"{sys.argv[1]}.json")
