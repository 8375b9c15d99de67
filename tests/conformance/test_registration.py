"""Registering jobs: defaults, indexes, what makes a version, what is refused."""

import copy
from pathlib import Path
from typing import Any

import pytest

from secretbinding.devstack.api import quoted
from tests.conformance.nomad import (
    IDENTITY_CONSTRAINT,
    SECOND,
    VAULT_CONSTRAINT,
    Nomad,
    changed,
    env_template,
    job,
    task,
    vault_task,
)

Json = dict[str, Any]


def sleeper(job_id: str, **fields: Any) -> dict[str, Any]:
    """A job without allocations, for tests about registering alone."""
    return {**job(job_id, count=0), **fields}


def test_a_registration_answers_with_the_job_modify_index_to_enforce_next(nomad: Nomad, unique: str) -> None:
    answer = nomad.register(sleeper(unique), EnforceIndex=True, JobModifyIndex=0)
    stored = nomad.job(unique)
    assert answer["JobModifyIndex"] == stored["JobModifyIndex"]
    assert answer["EvalID"]
    assert (stored["Version"], stored["CreateIndex"]) == (0, stored["JobModifyIndex"])


def test_a_job_that_does_not_exist_is_not_found_in_plain_text(nomad: Nomad, unique: str) -> None:
    answer = nomad.api.get(f"/v1/job/{unique}")
    assert (answer.status, answer.text) == (404, "job not found")
    assert nomad.api.get(f"/v1/job/{unique}/versions").status == 404
    assert nomad.api.get(f"/v1/job/{unique}/deployments").expect(200).json() == []
    assert nomad.api.get(f"/v1/job/{unique}/allocations").expect(200).json() == []


@pytest.mark.parametrize(
    ("exists", "index", "text"),
    [
        (True, 0, "Enforcing job modify index 0: job already exists"),
        (True, 5, "Enforcing job modify index 5: job exists with conflicting job modify index: "),
        (False, 5, "Enforcing job modify index 5: job does not exist"),
    ],
)
def test_a_stale_enforced_index_is_a_500_with_a_known_text(
    nomad: Nomad, unique: str, exists: bool, index: int, text: str
) -> None:
    if exists:
        nomad.register(sleeper(unique))
    answer = nomad.try_register(sleeper(unique), EnforceIndex=True, JobModifyIndex=index)
    assert answer.status == 500
    assert answer.text.startswith(text)


def test_registering_the_same_again_makes_no_version_but_an_evaluation(nomad: Nomad, unique: str) -> None:
    first = nomad.register(sleeper(unique))
    before = nomad.job(unique)
    second = nomad.register(sleeper(unique))
    after = nomad.job(unique)
    assert after["Version"] == 0
    assert after["JobModifyIndex"] == before["JobModifyIndex"]
    assert second["EvalID"] not in ("", first["EvalID"])


def test_a_job_with_an_identity_grows_by_a_constraint_each_time_it_is_sent_back_as_read(
    nomad: Nomad, unique: str
) -> None:
    nomad.register(job(unique, vault_task("any", [env_template("A=1\n")]), count=0))
    first = nomad.job(unique)
    assert first["TaskGroups"][0]["Constraints"] == [VAULT_CONSTRAINT, IDENTITY_CONSTRAINT]
    nomad.register(first)
    second = nomad.job(unique)
    assert second["Version"] == 1
    assert second["TaskGroups"][0]["Constraints"] == [VAULT_CONSTRAINT, IDENTITY_CONSTRAINT, IDENTITY_CONSTRAINT]


def test_without_what_the_server_added_a_job_sent_back_makes_no_version(nomad: Nomad, unique: str) -> None:
    nomad.register(job(unique, vault_task("any", [env_template("A=1\n")]), count=0))
    read = nomad.job(unique)
    read["TaskGroups"][0]["Constraints"].remove(IDENTITY_CONSTRAINT)
    nomad.register(read)
    assert nomad.job(unique)["Version"] == 0


def test_a_service_without_an_update_block_gets_the_default_one(nomad: Nomad, unique: str) -> None:
    sent = sleeper(unique)
    sent["TaskGroups"][0]["Update"] = None
    nomad.register(sent)
    stored = nomad.job(unique)
    assert stored["TaskGroups"][0]["Update"] == {
        "AutoPromote": False,
        "AutoRevert": False,
        "Canary": 0,
        "HealthCheck": "checks",
        "HealthyDeadline": 300 * SECOND,
        "MaxParallel": 1,
        "MinHealthyTime": 10 * SECOND,
        "ProgressDeadline": 600 * SECOND,
        "Stagger": 30 * SECOND,
    }
    assert stored["Update"]["MaxParallel"] == 1
    assert stored["Update"]["MinHealthyTime"] == 0


def test_a_stored_job_has_every_field_with_its_default(nomad: Nomad, unique: str) -> None:
    nomad.register(job(unique, vault_task("r", [env_template("A=1\n")]), count=0))
    stored = nomad.job(unique)
    group = stored["TaskGroups"][0]
    stored_task = group["Tasks"][0]
    assert sorted(stored) == sorted(
        [
            "Affinities",
            "AllAtOnce",
            "Constraints",
            "ConsulNamespace",
            "CreateIndex",
            "Datacenters",
            "DispatchIdempotencyToken",
            "Dispatched",
            "ID",
            "JobModifyIndex",
            "Meta",
            "ModifyIndex",
            "Multiregion",
            "Name",
            "Namespace",
            "NodePool",
            "NomadTokenID",
            "ParameterizedJob",
            "ParentID",
            "Payload",
            "Periodic",
            "Priority",
            "Region",
            "Spreads",
            "Stable",
            "Status",
            "StatusDescription",
            "Stop",
            "SubmitTime",
            "TaskGroups",
            "Type",
            "UI",
            "Update",
            "VaultNamespace",
            "Version",
            "VersionTag",
        ]
    )
    assert sorted(group) == sorted(
        [
            "Affinities",
            "Constraints",
            "Consul",
            "Count",
            "Disconnect",
            "EphemeralDisk",
            "MaxClientDisconnect",
            "MaxRunDuration",
            "Meta",
            "Migrate",
            "Name",
            "Networks",
            "PreventRescheduleOnLost",
            "ReschedulePolicy",
            "RestartPolicy",
            "Scaling",
            "Services",
            "ShutdownDelay",
            "Spreads",
            "StopAfterClientDisconnect",
            "Tasks",
            "Update",
            "Volumes",
        ]
    )
    assert sorted(stored_task) == sorted(
        [
            "Actions",
            "Affinities",
            "Artifacts",
            "CSIPluginConfig",
            "Config",
            "Constraints",
            "Consul",
            "DispatchPayload",
            "Driver",
            "Env",
            "Identities",
            "Identity",
            "KillSignal",
            "KillTimeout",
            "Kind",
            "Leader",
            "Lifecycle",
            "LogConfig",
            "Meta",
            "Name",
            "Resources",
            "RestartPolicy",
            "ScalingPolicies",
            "Schedule",
            "Secrets",
            "Services",
            "ShutdownDelay",
            "Templates",
            "User",
            "Vault",
            "VolumeMounts",
        ]
    )
    assert stored_task["Vault"] == {
        "AllowTokenExpiration": False,
        "ChangeMode": "restart",
        "ChangeSignal": "SIGHUP",
        "Cluster": "default",
        "DisableFile": False,
        "Env": True,
        "Namespace": "",
        "Role": "r",
    }
    assert stored_task["Templates"] == [
        {
            "ChangeMode": "restart",
            "ChangeScript": None,
            "ChangeSignal": "",
            "DestPath": "secrets/app.env",
            "EmbeddedTmpl": "A=1\n",
            "Envvars": True,
            "ErrMissingKey": False,
            "Gid": None,
            "LeftDelim": "{{",
            "Once": True,
            "Perms": "0644",
            "RightDelim": "}}",
            "SourcePath": "",
            "Splay": 5 * SECOND,
            "Uid": None,
            "VaultGrace": 0,
            "Wait": None,
        }
    ]
    assert stored_task["Identity"]["Audience"] == ["nomadproject.io"]


def test_signals_in_use_become_a_constraint(nomad: Nomad, unique: str) -> None:
    template = {
        "EmbeddedTmpl": "x",
        "DestPath": "local/x",
        "ChangeMode": "signal",
        "ChangeSignal": "sighup",
    }
    nomad.register(job(unique, task(KillSignal="SIGUSR1", Templates=[template]), count=0))
    stored = nomad.job(unique)["TaskGroups"][0]
    assert stored["Constraints"] == [
        {"LTarget": "${attr.os.signals}", "Operand": "set_contains", "RTarget": "SIGHUP,SIGUSR1"}
    ]
    assert stored["Tasks"][0]["Templates"][0]["ChangeSignal"] == "SIGHUP"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"ChangeMode": "signal", "Envvars": True}, "cannot use signals with env var templates"),
        ({"DestPath": "../../x"}, "destination escapes allocation directory"),
        ({"DestPath": ""}, "Must specify a destination for the template"),
        ({"Perms": "9z"}, 'Failed to parse "9z" as octal: strconv.ParseUint: parsing "9z": invalid syntax'),
        ({"ChangeMode": "x"}, "Invalid change mode. Must be one of the following: noop, signal, script, restart"),
        ({"EmbeddedTmpl": ""}, "Must specify a source path or have an embedded template"),
    ],
)
def test_a_bad_template_is_refused_with_a_nested_list_of_faults(
    nomad: Nomad, unique: str, change: dict[str, Any], fault: str
) -> None:
    answer = nomad.try_register(job(unique, task(Templates=[{"EmbeddedTmpl": "x", "DestPath": "local/x", **change}])))
    assert answer.status == 500
    assert answer.text.rstrip() == (
        "1 error occurred:\n\t* Task group g validation failed: 1 error occurred:\n\t* Task t validation failed: "
        f"1 error occurred:\n\t* Template 1 validation failed: 1 error occurred:\n\t* {fault}"
    )


@pytest.mark.parametrize(
    ("sent", "status", "text"),
    [
        ({}, 400, "Job must be specified"),
        ({"Job": None}, 400, "Job must be specified"),
        ({"Job": {"ID": "a b", "TaskGroups": []}}, 500, "Job ID contains a space"),
        ({"Job": {"ID": "a"}}, 500, "Missing job task groups"),
    ],
)
def test_a_job_that_is_none_is_refused(nomad: Nomad, sent: dict[str, Any], status: int, text: str) -> None:
    answer = nomad.api.put("/v1/jobs", sent)
    assert answer.status == status
    assert text in answer.text


def test_a_job_in_a_namespace_that_does_not_exist_is_refused(nomad: Nomad, unique: str) -> None:
    answer = nomad.try_register({**sleeper(unique), "Namespace": unique})
    assert answer.status == 500
    assert f'job "{unique}" is in nonexistent namespace "{unique}"' in answer.text


def test_two_templates_of_a_task_cannot_share_a_destination(nomad: Nomad, unique: str) -> None:
    template = {"EmbeddedTmpl": "x", "DestPath": "local/x"}
    answer = nomad.try_register(job(unique, task(Templates=[template, template])))
    assert answer.status == 500
    assert "Template 2 has same destination as 1" in answer.text


def test_a_jobs_type_cannot_change(nomad: Nomad, unique: str) -> None:
    nomad.register(sleeper(unique))
    answer = nomad.try_register({**job(unique, kind="batch", count=0)})
    assert answer.status == 500
    assert 'cannot update job from type "service" to "batch"' in answer.text


def test_odd_job_ids_are_kept_and_found_again(nomad: Nomad, unique: str) -> None:
    odd = f"{unique}/a.b_c:d@e#f?g%2Fh+é"
    nomad.register(sleeper(odd))
    assert nomad.job(odd)["ID"] == odd
    assert [one["ID"] for one in nomad.api.get("/v1/jobs", prefix=f"{unique}/").json()] == [odd]
    assert len(nomad.versions(odd)) == 1


def test_a_job_registered_as_stopped_stays_stopped_and_dead(nomad: Nomad, unique: str) -> None:
    nomad.register({**job(unique), "Stop": True})
    nomad.wait("the job to be dead", lambda: nomad.job(unique)["Status"] == "dead")
    assert nomad.job(unique)["Stop"] is True
    assert nomad.allocations(unique) == []


def test_registering_without_the_stop_flag_starts_a_stopped_job_again(nomad: Nomad, unique: str) -> None:
    nomad.register({**job(unique), "Stop": True})
    nomad.register(job(unique))
    assert nomad.job(unique)["Stop"] is False
    nomad.wait_allocation(unique, "running")


def test_counts_are_preserved_on_request(nomad: Nomad, unique: str) -> None:
    nomad.register(sleeper(unique))
    nomad.register(changed(job(unique, count=3), lambda group, _: group.update(Meta={"a": "b"})), PreserveCounts=True)
    stored = nomad.job(unique)["TaskGroups"][0]
    assert (stored["Count"], stored["Meta"]) == (0, {"a": "b"})


def test_unknown_fields_are_dropped_and_null_means_missing(nomad: Nomad, unique: str) -> None:
    sent = copy.deepcopy(sleeper(unique))
    sent["Nonsense"] = 1
    sent["TaskGroups"][0]["Tasks"][0]["Env"] = {}
    sent["TaskGroups"][0]["Constraints"] = []
    nomad.register(sent)
    stored = nomad.job(unique)
    assert "Nonsense" not in stored
    assert stored["TaskGroups"][0]["Tasks"][0]["Env"] is None
    assert stored["TaskGroups"][0]["Constraints"] is None


def test_the_list_shows_stubs_by_prefix(nomad: Nomad, unique: str) -> None:
    for name in ("a", "b"):
        nomad.register(sleeper(f"{unique}-{name}", Meta={"k": name}))
    stubs = nomad.api.get("/v1/jobs", prefix=unique, meta="true").expect(200).json()
    assert [one["ID"] for one in stubs] == [f"{unique}-a", f"{unique}-b"]
    assert stubs[0]["Meta"] == {"k": "a"}
    assert stubs[0]["JobSummary"]["Summary"] == {
        "g": {"Complete": 0, "Failed": 0, "Lost": 0, "Queued": 0, "Running": 0, "Starting": 0, "Unknown": 0}
    }
    everywhere = nomad.api.get("/v1/jobs", prefix=unique, namespace="*").expect(200).json()
    assert [one["Namespace"] for one in everywhere] == ["default", "default"]


def test_purging_deletes_allocations_and_deployments_at_once_while_evaluations_stay(nomad: Nomad, unique: str) -> None:
    nomad.register(job(unique))
    allocation = nomad.wait_allocation(unique, "running")
    nomad.purge(unique)
    assert nomad.api.get(f"/v1/job/{unique}").status == 404
    assert nomad.api.get(f"/v1/allocation/{allocation['ID']}").status == 404
    assert nomad.allocations(unique) == []
    assert nomad.deployments(unique) == []
    evaluations = nomad.api.get(f"/v1/job/{unique}/evaluations").expect(200).json()
    assert {"job-register", "job-deregister"} <= {one["TriggeredBy"] for one in evaluations}


def test_the_task_of_a_purged_job_ends(nomad: Nomad, unique: str, tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    nomad.register(job(unique, task(f"echo $$ > {alive}; exec sleep 3000")))
    pid = nomad.wait("the task's process ID", lambda: alive.exists() and alive.read_text().strip())
    nomad.purge(unique)
    nomad.wait("the end of the process", lambda: not Path(f"/proc/{pid}").exists())


def test_a_stopped_job_is_a_new_version_that_is_kept(nomad: Nomad, unique: str) -> None:
    nomad.register(job(unique))
    nomad.wait_deployed(unique)
    nomad.api.delete(f"/v1/job/{quoted(unique)}").expect(200)
    stored = nomad.job(unique)
    assert (stored["Stop"], stored["Version"]) == (True, 1)
    nomad.wait("the job to be dead", lambda: nomad.job(unique)["Status"] == "dead")
    nomad.wait_allocation(unique, "complete")


def test_a_vault_cluster_that_is_not_there_needs_an_identity_too(nomad: Nomad, unique: str) -> None:
    disabled = 'Vault "other" not enabled but used in the job'
    without = (
        "Task t uses Vault cluster other but does not have an identity named vault_other and no default identity is "
        "provided in agent configuration"
    )

    def elsewhere(_: Json, one: Json) -> None:
        one["Vault"]["Cluster"] = "other"

    def with_identity(group: Json, one: Json) -> None:
        elsewhere(group, one)
        one["Identities"][0]["Name"] = "vault_other"

    def in_a_namespace(group: Json, one: Json) -> None:
        elsewhere(group, one)
        one["Vault"]["Namespace"] = "team"

    cases = ((elsewhere, [disabled, without]), (in_a_namespace, [disabled, without]), (with_identity, [disabled]))
    for change, faults in cases:
        sent = changed(job(unique, vault_task(unique, [])), change)
        head = "1 error occurred:" if len(faults) == 1 else f"{len(faults)} errors occurred:"
        text = head + "".join(f"\n\t* {fault}" for fault in faults) + "\n\n"
        for refused in (nomad.try_register(sent), nomad.api.put(f"/v1/job/{unique}/plan", {"Job": sent})):
            assert (refused.status, refused.text) == (500, text)
        judged = nomad.api.put("/v1/validate/job", {"Job": sent}).expect(200).json()
        assert (judged["Error"], judged["ValidationErrors"]) == (text, faults)
