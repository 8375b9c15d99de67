"""plan, apply, status, rotate, delete and inject, on the simulator and on a real Nomad, with a real OpenBao."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from secretbinding.models.reasons import ConditionType
from tests.support.commandline import CommandLine, environment, servers_of
from tests.support.servers import Stack
from tests.support.world import World, a_job, a_manifest, wait_until, wary

SAME = ("CreateIndex", "ModifyIndex", "JobModifyIndex", "Version", "SubmitTime")


@pytest.fixture
def world(stack: Stack, cli: CommandLine) -> World:
    cli.use(stack, SECRETBINDING_PURGE_GRACE_SECONDS="1")
    return World(stack)


def bound(world: World, directory: Path, name: str, *, job: dict[str, Any] | None = None, **manifest: Any) -> str:
    """A deployed job with a secret of its own, and a file with the binding for it."""
    world.secret(name, username="app", password="first")
    world.register(job or a_job(name))
    world.deployed(name)
    path = directory / f"{name}.yaml"
    path.write_text(yaml.safe_dump(a_manifest(name, name, name, **manifest)))
    return str(path)


def handled(world: World, name: str) -> bool:
    """Whether the controller has answered a request to rotate."""
    status = world.status(name)
    return status is not None and status.last_handled_rotate_at is not None


def test_the_whole_way_of_a_binding(world: World, cli: CommandLine, tmp_path: Path, unique: str) -> None:
    path = bound(world, tmp_path, unique)
    before = world.job(unique)

    ran = cli("plan", "-f", path, "--detailed-exitcode")
    assert (ran.code, ran.err) == (2, "")
    order = [line[:8] for line in ran.out.splitlines() if re.match(r"[+~-] (policy|role|job)", line)]
    assert order == ["+ policy", "+ role n", "~ job " + unique[:2]]
    assert '+path "secret/data/' in ran.out
    assert "+vault {" in ran.out
    assert world.policies(having=unique) == []
    assert cli("plan", "-f", path).code == 0
    dry = cli("apply", "-f", path, "--dry-run")
    assert (dry.code, dry.out) == (0, ran.out)

    ran = cli("apply", "-f", path, "--timeout", "30s")
    assert ran.code == 0, ran.err
    assert ran.out == f"default/{unique}: Ready (job {unique} version 1, app version 1)\n"
    assert f"+ policy {world.policies(having=unique)[0]}" in ran.err
    assert world.seen(unique) == ["app first"]

    ran = cli("plan", "-f", path, "--detailed-exitcode")
    assert (ran.code, ran.out.splitlines()[1:]) == (0, ["no changes"])
    ran = cli("status", "-f", path)
    assert ran.out.splitlines()[1].split() == ["default", unique, unique, "True", "Ready", "UpToDate", "-"]
    (item,) = json.loads(cli("status", "-f", path, "-o", "json").out)["items"]
    assert item["status"]["secrets"][0]["servingVersion"] == "1"
    assert yaml.safe_load(cli("status", "-f", path, "-o", "yaml").out)["items"][0]["metadata"]["name"] == unique

    world.secret(unique, username="app", password="second")
    assert "app=1->2" in cli("status", "-f", path, "-o", "wide").out
    assert cli("apply", "-f", path).code == 0
    assert world.seen(unique) == ["app second"]

    ran = cli("delete", "-f", path, "--dry-run")
    assert ran.code == 0
    assert "later, when no allocation and no revert can need them:\n  - role" in ran.out
    assert world.policies(having=unique)
    ran = cli("delete", "-f", path)
    assert (ran.code, ran.out) == (0, f"default/{unique}: deleted\n")
    after = world.job(unique)
    assert {k: v for k, v in after.items() if k not in SAME} == {k: v for k, v in before.items() if k not in SAME}
    assert (world.policies(having=unique), world.roles(having=unique)) == ([], [])
    assert cli("delete", "-f", path).code == 0


def test_apply_can_leave_before_the_deployment_ends(
    world: World, cli: CommandLine, tmp_path: Path, unique: str
) -> None:
    path = bound(world, tmp_path, unique)
    ran = cli("apply", "-f", path, "--detach")
    assert ran.code == 0, ran.err
    assert ran.out.startswith(f"default/{unique}: registered")
    assert cli("status", unique, "-f", path, "--wait", "--timeout", "30s").code == 0


def test_apply_says_what_it_still_waits_for_when_time_runs_out(
    world: World, cli: CommandLine, tmp_path: Path, unique: str
) -> None:
    path = bound(world, tmp_path, unique)
    ran = cli("apply", "-f", path, "--timeout", "0s")
    assert ran.code == 1
    assert re.search(rf"error: default/{unique}: not finished after 0s \(RollingOut.*longer --timeout", ran.err)
    assert cli("apply", "-f", path).code == 0


def test_a_version_that_fails_is_reverted_told_and_tried_again_on_request(
    world: World, cli: CommandLine, tmp_path: Path, unique: str
) -> None:
    path = bound(world, tmp_path, unique, job=wary(a_job(unique)))
    assert cli("apply", "-f", path).code == 0
    world.secret(unique, username="app", password="broken")
    ran = cli("apply", "-f", path)
    assert ran.code == 1
    assert "the deployment with app version 2 failed" in ran.err
    assert "app version 1 serves" in ran.err
    versions = len(world.versions(unique))
    assert cli("apply", "-f", path).code == 1
    assert len(world.versions(unique)) == versions, "not tried again"
    ran = cli("rotate", "-f", path)
    assert ran.code == 1
    assert len(world.versions(unique)) > versions, "tried again"
    assert cli("rotate", "nobody", "-f", path).err.startswith("error: no manifest holds a binding nobody")


def test_whoever_waits_is_told_that_canaries_wait_for_a_promotion(
    world: World, cli: CommandLine, tmp_path: Path, unique: str
) -> None:
    job = a_job(unique)
    job["TaskGroups"][0]["Update"]["Canary"] = 1
    path = bound(world, tmp_path, unique, job=job)
    ran = cli("apply", "-f", path, "--timeout", "4s")
    assert ran.code == 1
    promote = f"nomad deployment promote {world.deployment(unique)['ID'][:8]}"
    assert re.search(rf"not finished after 4s \(WaitingForPromotion: .*{promote}", ran.err)
    ran = cli("status", "-f", path, "--wait", "--timeout", "1s")
    assert ran.code == 1
    assert re.search(rf"{unique} is not ready after 1s \(WaitingForPromotion: .*{promote}", ran.err)
    world.promote(unique)
    assert cli("status", "-f", path, "--wait", "--timeout", "20s").code == 0
    assert cli("apply", "-f", path).code == 0
    # A rotation that waits flips nothing for those who wait for Ready, and shows in its own column.
    world.secret(unique, username="app", password="second")
    assert cli("apply", "-f", path, "--timeout", "4s").code == 1
    ran = cli("status", "-f", path, "--wait", "-o", "wide", "--timeout", "1s")
    assert ran.code == 0
    assert "WaitingForPromotion" in ran.out
    assert "app=1->2" in ran.out


def test_a_manual_rotation_waits_for_rotate(world: World, cli: CommandLine, tmp_path: Path, unique: str) -> None:
    path = bound(world, tmp_path, unique, rotation={"strategy": "Manual"})
    assert cli("apply", "-f", path).code == 0
    world.secret(unique, username="app", password="second")
    ran = cli("apply", "-f", path)
    assert ran.code == 0
    assert "ManualRotationPending" in ran.out
    assert world.seen(unique) == ["app first"]
    ran = cli("rotate", unique, "-f", path)
    assert ran.code == 0, ran.err
    assert world.seen(unique) == ["app second"]


def test_a_retained_binding_is_left_by_delete(world: World, cli: CommandLine, tmp_path: Path, unique: str) -> None:
    path = bound(world, tmp_path, unique, deletionPolicy="Retain")
    assert cli("apply", "-f", path).code == 0
    ran = cli("delete", "-f", path)
    assert ran.code == 0
    assert "everything stays" in ran.err
    assert world.policies(having=unique)
    assert world.seen(unique) == ["app first"]


def test_one_bad_binding_among_several_stops_only_itself(
    world: World, cli: CommandLine, tmp_path: Path, unique: str
) -> None:
    path = bound(world, tmp_path, unique)
    (tmp_path / "z.yaml").write_text(yaml.safe_dump(a_manifest(f"{unique}-z", f"{unique}-none", unique)))
    ran = cli("apply", "-f", str(tmp_path))
    assert ran.code == 1
    assert f"default/{unique}: Ready" in ran.out
    assert f"{tmp_path}/z.yaml:" in ran.err
    assert world.seen(unique) == ["app first"]
    assert cli("status", "-f", path).code == 0


def test_the_nomad_source_is_shown_waited_for_and_asked(
    world: World, cli: CommandLine, tmp_path: Path, unique: str
) -> None:
    bound(world, tmp_path, unique)
    world.bind(a_manifest(unique, unique, unique))
    waiting = cli("status", unique, "--source", "nomad", "--wait", "--timeout", "0s")
    assert (waiting.code, waiting.out.splitlines()[1].split()[3]) == (1, "Unknown")
    with world.running():
        ran = cli("status", unique, "--source", "nomad", "--wait", "--timeout", "30s")
        assert ran.code == 0, ran.err
        row = ["default", unique, unique, "True", "Ready"]
        assert ran.out.splitlines()[1].split()[:5] == row
        listed = cli("status", "--source", "nomad").out
        assert any(line.split()[:5] == row for line in listed.splitlines())
        assert cli("rotate", unique, "--source", "nomad").code == 0
        world.await_reason(unique, "UpToDate", ConditionType.ROTATION_HEALTHY)
        wait_until("the request is answered", lambda: handled(world, unique))
        world.unbind(unique)
    missing = cli("rotate", f"{unique}-x", "--source", "nomad")
    assert (missing.code, missing.out) == (1, "")
    assert "there is no variable nomad-vault/bindings/" in missing.err
    missing = cli("status", f"{unique}-x", "--source", "nomad")
    assert (missing.code, missing.out) == (1, "")


def test_an_injected_batch_job_runs_once_with_its_secrets(
    world: World, cli: CommandLine, tmp_path: Path, unique: str
) -> None:
    world.secret(unique, username="app", password="first")
    binding, job_file = tmp_path / "b.yaml", tmp_path / "job.json"
    binding.write_text(yaml.safe_dump(a_manifest(unique, unique, unique)))
    job = a_job(unique, Type="batch")
    job["TaskGroups"][0].pop("Update")
    job["TaskGroups"][0]["Tasks"][0]["Config"]["args"][1] = 'echo "$DB_USER $DB_PASS" > local/seen; exec sleep 3600'
    job_file.write_text(json.dumps(job))

    ran = cli("inject", "-f", str(binding), str(job_file), "--no-rights")
    assert ran.code == 0, ran.err
    assert world.policies(having=unique) == []
    ran = cli("inject", "-f", str(binding), str(job_file))
    assert ran.code == 0, ran.err
    assert len(world.policies(having=unique)) == 1
    injected = json.loads(ran.out)["Job"]
    assert (injected["ID"], injected["Type"]) == (unique, "batch")
    world.register(injected)
    wait_until("the job runs with its secrets", lambda: world.seen(unique) == ["app first"])

    ran = cli("apply", "-f", str(binding))
    assert ran.code == 0, ran.err
    assert len(world.versions(unique)) == 1
    ran = cli("delete", "-f", str(binding), "--timeout", "0s")
    assert ran.code == 1
    assert "may still be running" in ran.err
    assert world.policies(having=unique)


def test_an_injected_service_job_is_registered_once_and_found_done(
    world: World, cli: CommandLine, tmp_path: Path, unique: str
) -> None:
    world.secret(unique, username="app", password="first")
    binding, output = tmp_path / "b.yaml", tmp_path / "out.json"
    binding.write_text(yaml.safe_dump(a_manifest(unique, unique, unique)))
    text = json.dumps({"Job": a_job(unique)})
    ran = cli("inject", "-f", str(binding), "-", "-o", str(output), "--source", "nomad", stdin=text)
    assert (ran.code, ran.out) == (0, "")
    world.register(json.loads(output.read_text())["Job"])
    world.bind(a_manifest(unique, unique, unique))
    with world.running():
        world.await_reason(unique, "Ready")
        world.deployed(unique)
        assert world.seen(unique) == ["app first"]
        assert len(world.versions(unique)) == 1, "the controller found its work done"
        world.unbind(unique)


def test_an_hcl_job_is_parsed_by_nomad_with_its_variables(
    world: World, cli: CommandLine, tmp_path: Path, unique: str
) -> None:
    world.secret(unique, username="app", password="first")
    binding, job_file = tmp_path / "b.yaml", tmp_path / "job.hcl"
    binding.write_text(yaml.safe_dump(a_manifest(unique, unique, unique)))
    job_file.write_text(
        f"""
        variable "count" {{ type = number }}
        job "{unique}" {{
          type = "batch"
          group "app" {{
            count = var.count
            task "web" {{
              driver = "raw_exec"
              config {{ command = "/bin/true" }}
            }}
          }}
        }}
        """
    )
    ran = cli("inject", "-f", str(binding), str(job_file), "-var", "count=3", "--no-rights")
    assert ran.code == 0, ran.err
    (group,) = json.loads(ran.out)["Job"]["TaskGroups"]
    assert group["Count"] == 3
    assert group["Tasks"][0]["Vault"]["Role"].startswith("nsb.default.")


def test_inject_refuses_what_would_not_work(world: World, cli: CommandLine, tmp_path: Path, unique: str) -> None:
    binding, job_file = tmp_path / "b.yaml", tmp_path / "job.json"
    binding.write_text(yaml.safe_dump(a_manifest(unique, unique, unique)))
    job_file.write_text(json.dumps(a_job(unique)))
    ran = cli("inject", "-f", str(binding), str(job_file))
    assert (ran.code, ran.out) == (1, "")
    assert f"{binding}:" in ran.err
    assert world.policies(having=unique) == [], "nothing is half done"
    world.secret(unique, username="app", password="first")
    job_file.write_text(json.dumps(a_job(f"{unique}-other")))
    ran = cli("inject", "-f", str(binding), str(job_file))
    assert ran.code == 1
    assert f"the binding is for job {unique} of Nomad namespace default" in ran.err
    own = a_job(unique)
    own["TaskGroups"][0]["Tasks"][0]["Vault"] = {"Role": "mine"}
    job_file.write_text(json.dumps(own))
    ran = cli("inject", "-f", str(binding), str(job_file))
    assert ran.code == 1
    assert "spec.workload: task app/web has a vault block of its own" in ran.err


@pytest.mark.parametrize("output", ["missing/out.json", ".", "/dev/full"])
def test_inject_writes_nothing_when_its_output_cannot_be_written(
    world: World, cli: CommandLine, tmp_path: Path, unique: str, output: str
) -> None:
    world.secret(unique, username="app", password="first")
    binding, job_file = tmp_path / "b.yaml", tmp_path / "job.json"
    binding.write_text(yaml.safe_dump(a_manifest(unique, unique, unique)))
    job_file.write_text(json.dumps(a_job(unique)))
    path = str(tmp_path / output)
    ran = cli("inject", "-f", str(binding), str(job_file), "-o", path)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith(f"error: {path} cannot be written: ")
    assert world.policies(having=unique) == []
    assert sorted(tmp_path.iterdir()) == [binding, job_file]


def test_inject_replaces_its_output_as_a_whole_or_not_at_all(
    world: World, cli: CommandLine, tmp_path: Path, unique: str
) -> None:
    binding, job_file, output = tmp_path / "b.yaml", tmp_path / "job.json", tmp_path / "out.json"
    binding.write_text(yaml.safe_dump(a_manifest(unique, unique, unique)))
    job_file.write_text(json.dumps(a_job(unique)))
    output.write_text("before")
    output.chmod(0o640)
    link = tmp_path / "link.json"
    link.symlink_to(output)
    assert cli("inject", "-f", str(binding), str(job_file), "-o", str(link)).code == 1, "there is no secret"
    assert output.read_text() == "before"
    world.secret(unique, username="app", password="first")
    ran = cli("inject", "-f", str(binding), str(job_file), "-o", str(link))
    assert ran.code == 0, ran.err
    assert json.loads(output.read_text())["Job"]["ID"] == unique
    assert output.stat().st_mode & 0o777 == 0o640
    assert link.is_symlink()
    assert sorted(tmp_path.iterdir()) == sorted([binding, job_file, output, link])


@pytest.mark.parametrize("command", ["plan", "inject"])
def test_a_standard_output_that_cannot_be_written_is_an_error_in_plain_words(
    world: World, tmp_path: Path, unique: str, command: str
) -> None:
    world.secret(unique, username="app", password="first")
    binding, job_file = tmp_path / "b.yaml", tmp_path / "job.json"
    binding.write_text(yaml.safe_dump(a_manifest(unique, unique, unique)))
    job_file.write_text(json.dumps(a_job(unique)))
    world.register(a_job(unique))
    arguments = [sys.executable, "-m", "secretbinding", command, "-f", str(binding)]
    arguments += [str(job_file)] if command == "inject" else []
    with open("/dev/full", "w") as full:
        ran = subprocess.run(
            arguments, env=environment(**servers_of(world.stack)), stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1].startswith("error: standard output cannot be written: no space left on device")
    assert "Traceback" not in ran.stderr
    assert "fault in secretbinding" not in ran.stderr


def test_inject_into_a_pipe_that_nobody_reads_writes_nothing(world: World, tmp_path: Path, unique: str) -> None:
    world.secret(unique, username="app", password="first")
    binding, job_file = tmp_path / "b.yaml", tmp_path / "job.json"
    binding.write_text(yaml.safe_dump(a_manifest(unique, unique, unique)))
    job_file.write_text(json.dumps(a_job(unique)))
    arguments = [sys.executable, "-m", "secretbinding", "inject", "-f", str(binding), str(job_file)]
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ran = subprocess.run(
            arguments, env=environment(**servers_of(world.stack)), stdout=writer, stderr=subprocess.PIPE, text=True
        )
    finally:
        os.close(writer)
    assert ran.returncode == 1
    assert ran.stderr.startswith("error: standard output is closed; ")
    assert world.policies(having=unique) == []
