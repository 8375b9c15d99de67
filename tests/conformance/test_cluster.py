"""What the servers say of themselves, and parsing of job files."""

import uuid
from typing import Any

import pytest

from tests.conformance.nomad import SECOND, Nomad, job

JOB_FILE = """
# A comment
variable "image" {
  type    = string
  default = "busybox"
}

job "myapp" {
  datacenters = ["dc1"]
  type        = "service"
  meta {
    owner = "me"
  }

  group "app" {
    count = 2

    update {
      max_parallel     = 1
      min_healthy_time = "1s"
      auto_revert      = true
    }

    restart {
      attempts = 0
      mode     = "fail"
    }

    task "web" {
      driver = "raw_exec"
      kill_timeout = "3s"

      config {
        command = "/bin/sh"
        args    = ["-c", "echo ${NOMAD_ALLOC_ID} ${var.image}; sleep 1"]
      }

      env {
        A = "1"
        B = true
      }

      template {
        data = <<EOH
{{ with secret "secret/data/myapp" }}
export DB_USER={{ .Data.data.username }}
{{ end }}
EOH
        destination = "secrets/env.sh"
        env         = true
        change_mode = "noop"
      }

      vault {
        role = "x"
        env  = false
      }

      identity {
        name = "vault_default"
        aud  = ["vault.io"]
        ttl  = "1h"
      }

      resources {
        cpu    = 20
        memory = 32
      }
    }
  }
}
"""


def parse(nomad: Nomad, text: str, **more: Any) -> Any:
    return nomad.api.put("/v1/jobs/parse", {"JobHCL": text, "Canonicalize": True, **more})


def test_a_job_file_becomes_the_job_that_the_api_takes(nomad: Nomad) -> None:
    parsed = parse(nomad, JOB_FILE).expect(200).json()
    group = parsed["TaskGroups"][0]
    web = group["Tasks"][0]
    assert (parsed["ID"], parsed["Name"], parsed["Datacenters"], parsed["Meta"]) == (
        "myapp",
        "myapp",
        ["dc1"],
        {"owner": "me"},
    )
    assert (group["Name"], group["Count"]) == ("app", 2)
    assert (group["Update"]["MinHealthyTime"], group["Update"]["AutoRevert"]) == (SECOND, True)
    assert (group["RestartPolicy"]["Attempts"], group["RestartPolicy"]["Mode"]) == (0, "fail")
    assert (web["Driver"], web["KillTimeout"], web["Env"]) == ("raw_exec", 3 * SECOND, {"A": "1", "B": "true"})
    assert web["Config"]["args"] == ["-c", "echo ${NOMAD_ALLOC_ID} busybox; sleep 1"]
    assert web["Templates"][0]["EmbeddedTmpl"] == (
        '{{ with secret "secret/data/myapp" }}\nexport DB_USER={{ .Data.data.username }}\n{{ end }}\n'
    )
    assert (web["Templates"][0]["DestPath"], web["Templates"][0]["Envvars"]) == ("secrets/env.sh", True)
    assert (web["Vault"]["Role"], web["Vault"]["Env"], web["Vault"]["ChangeMode"]) == ("x", False, "restart")
    identity = web["Identities"][0]
    assert (identity["Name"], identity["Audience"], identity["TTL"]) == ("vault_default", ["vault.io"], 3600 * SECOND)
    assert (web["Resources"]["CPU"], web["Resources"]["MemoryMB"]) == (20, 32)


def test_variables_of_a_job_file_are_set_by_text(nomad: Nomad) -> None:
    parsed = parse(nomad, JOB_FILE, Variables='image = "alpine"').expect(200).json()
    assert "alpine" in parsed["TaskGroups"][0]["Tasks"][0]["Config"]["args"][1]


def test_a_parsed_job_file_can_be_registered(nomad: Nomad, unique: str) -> None:
    text = JOB_FILE.replace('"myapp" {', f'"{unique}" {{', 1).replace("count = 2", "count = 0")
    parsed = parse(nomad, text).expect(200).json()
    nomad.register(parsed, Submission={"Source": text, "Format": "hcl2"})
    assert nomad.job(unique)["TaskGroups"][0]["Tasks"][0]["Vault"]["Role"] == "x"
    assert nomad.api.get(f"/v1/job/{unique}/submission", version=0).json()["Source"] == text


def test_a_job_file_with_a_fault_is_a_400(nomad: Nomad) -> None:
    for text in ('job "x" {', 'job "x" { nonsense { } }', "", 'group "g" {}'):
        assert parse(nomad, text).status == 400, text


GROUP = 'job "x" {\n  group "g" {\n%s\n  }\n}'
TASK = GROUP % '    task "t" {\n%s\n    }'
ARGUMENT = "Unsupported argument; An argument named"
BLOCK = "Unsupported block type; Blocks of type"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('bogus = 1\njob "x" {}', f'1,1-6: {ARGUMENT} "bogus" is not expected here.'),
        ('bogus "a" {}\njob "x" {}', f'1,1-6: {BLOCK} "bogus" are not expected here.'),
        ('job "x" { bogus = 1 }', f'1,11-16: {ARGUMENT} "bogus" is not expected here.'),
        ('job "x" {\n  bogus {}\n}', f'2,3-8: {BLOCK} "bogus" are not expected here.'),
        ('job "x" {\n  typ = "batch"\n}', f'2,3-6: {ARGUMENT} "typ" is not expected here. Did you mean "type"?'),
        (
            'job "x" {\n  type {}\n}',
            f'2,3-7: {BLOCK} "type" are not expected here. Did you mean to define argument "type"? If so, use the '
            "equals sign to assign it a value.",
        ),
        ('job "x" {\n  vault {\n    bogus = 1\n  }\n}', f'3,5-10: {ARGUMENT} "bogus" is not expected here.'),
        (GROUP % "    bogus = 1", f'3,5-10: {ARGUMENT} "bogus" is not expected here.'),
        (GROUP % "    bogus {}", f'3,5-10: {BLOCK} "bogus" are not expected here.'),
        (GROUP % "    cuont = 1", f'3,5-10: {ARGUMENT} "cuont" is not expected here. Did you mean "count"?'),
        (
            GROUP % "    restart {\n      attempst = 1\n    }",
            f'4,7-15: {ARGUMENT} "attempst" is not expected here. Did you mean "attempts"?',
        ),
        (TASK % "      bogus = 1", f'4,7-12: {ARGUMENT} "bogus" is not expected here.'),
        (TASK % "      imaginary {}", f'4,7-16: {BLOCK} "imaginary" are not expected here.'),
        (
            TASK % "      template = 1",
            f'4,7-15: {ARGUMENT} "template" is not expected here. Did you mean to define a block of type "template"?',
        ),
        (TASK % "      template {\n        bogus = 1\n      }", f'5,9-14: {ARGUMENT} "bogus" is not expected here.'),
        (TASK % "      resources {\n        bogus {}\n      }", f'5,9-14: {BLOCK} "bogus" are not expected here.'),
    ],
)
def test_what_a_job_file_may_not_have_is_refused_with_its_place(nomad: Nomad, text: str, fault: str) -> None:
    answer = parse(nomad, text)
    assert (answer.status, answer.text) == (400, f"Failed to parse job: input.hcl:{fault}")


def test_what_is_for_a_region_that_is_not_there_is_refused(nomad: Nomad, unique: str) -> None:
    sent = job(unique, count=0)
    nomad.register(sent)
    about = {"JobID": unique, "JobVersion": 0}
    requests: list[tuple[str, str, Any]] = [
        ("PUT", "/v1/jobs", {"Job": sent}),
        ("PUT", "/v1/jobs", {"Job": {**sent, "Region": "global"}}),
        ("PUT", f"/v1/job/{unique}/plan", {"Job": sent}),
        ("PUT", "/v1/validate/job", {"Job": sent}),
        ("PUT", f"/v1/job/{unique}/revert", about),
        ("PUT", f"/v1/job/{unique}/stable", about),
        ("PUT", f"/v1/job/{unique}/evaluate", {"JobID": unique}),
        ("PUT", f"/v1/job/{unique}/dispatch", {}),
        ("PUT", f"/v1/job/{unique}/periodic/force", {}),
        ("PUT", f"/v1/job/{unique}/versions/x/tag", {"Version": 0}),
        ("DELETE", f"/v1/job/{unique}/versions/x/tag", None),
        ("DELETE", f"/v1/job/{unique}", None),
        ("GET", "/v1/jobs", None),
        ("GET", f"/v1/job/{unique}", None),
        ("GET", f"/v1/job/{unique}/submission?version=0", None),
        *(("GET", f"/v1/job/{unique}/{what}", None) for what in ("versions", "summary", "deployment", "deployments")),
        *(("GET", f"/v1/job/{unique}/{what}", None) for what in ("allocations", "evaluations")),
        *(("GET", f"/v1/{what}", None) for what in ("allocations", "evaluations", "deployments", "nodes", "vars")),
        *(("GET", f"/v1/{what}/{uuid.uuid4()}", None) for what in ("allocation", "evaluation", "deployment")),
        ("GET", "/v1/namespaces", None),
        ("GET", "/v1/namespace/default", None),
        ("GET", f"/v1/var/{unique}", None),
        ("PUT", f"/v1/var/{unique}", {"Items": {"a": "b"}}),
        ("DELETE", f"/v1/var/{unique}", None),
        ("GET", "/v1/status/leader", None),
        ("GET", "/.well-known/jwks.json", None),
        ("PUT", "/v1/system/gc", None),
    ]
    for method, path, body in requests:
        answer = nomad.api.request(method, f"{path}{'&' if '?' in path else '?'}region=mars", body=body)
        assert (answer.status, answer.text) == (500, "No path to region"), f"{method} {path}"
    health = nomad.api.get("/v1/agent/health", region="mars")
    assert (health.status, health.json()["server"]) == (500, {"ok": False, "message": "No path to region"})
    # With ACLs namespaces are written in the authoritative region, whatever the request says.
    assert nomad.api.put(f"/v1/namespace/{unique}", {"Name": unique}, region="mars").status == 200
    assert nomad.api.get(f"/v1/namespace/{unique}").status == 200
    assert [one["Version"] for one in nomad.versions(unique)] == [0]


def test_a_job_may_name_its_region_and_the_request_overrides_it(nomad: Nomad, unique: str) -> None:
    sent = {**job(unique, count=0), "Region": "mars"}
    for answer in (nomad.try_register(sent), nomad.api.put(f"/v1/job/{unique}/plan", {"Job": sent})):
        assert (answer.status, answer.text) == (500, "No path to region")
    nomad.api.put("/v1/jobs", {"Job": sent}, region="global").expect(200)


def test_what_an_agent_knows_by_itself_is_the_same_for_any_region(nomad: Nomad) -> None:
    assert nomad.api.get("/v1/regions", region="mars").expect(200).json() == ["global"]
    assert nomad.api.get("/v1/agent/self", region="mars").expect(200).json()["config"]["Region"] == "global"
    nomad.api.put("/v1/jobs/parse", {"JobHCL": 'job "x" {}'}, region="mars").expect(200)


def test_a_fault_of_the_request_itself_comes_before_its_region(nomad: Nomad, unique: str) -> None:
    for path, body, fault in (
        ("/v1/jobs", {"Job": {}}, "Job ID hasn't been provided"),
        (f"/v1/var/{unique}", {"Items": {}}, "variable missing required Items object"),
        (f"/v1/job/{unique}/revert", {"JobVersion": 0}, "JobID must be specified"),
    ):
        answer = nomad.api.put(path, body, region="mars")
        assert (answer.status, answer.text) == (400, fault)


def test_region_leader_and_namespaces_are_told(nomad: Nomad) -> None:
    assert nomad.api.get("/v1/regions").expect(200).json() == ["global"]
    assert ":" in nomad.api.get("/v1/status/leader").expect(200).json()
    namespaces = nomad.api.get("/v1/namespaces").expect(200).json()
    assert "default" in [one["Name"] for one in namespaces]
    config = nomad.api.get("/v1/agent/self").expect(200).json()["config"]
    assert config["Region"] == "global"
    assert int(config["Version"]["Version"].split(".")[0]) >= 1


def test_a_node_is_ready(nomad: Nomad) -> None:
    nodes = nomad.api.get("/v1/nodes").expect(200).json()
    assert [(one["Status"], one["SchedulingEligibility"]) for one in nodes] == [("ready", "eligible")]
    assert nodes[0]["Drivers"]["raw_exec"]["Healthy"] is True


def test_a_namespace_can_be_made_and_holds_jobs_of_its_own(nomad: Nomad, unique: str) -> None:
    nomad.api.put(f"/v1/namespace/{unique}", {"Name": unique}).expect(200)
    nomad.register({**job(unique, count=0), "Namespace": unique})
    assert nomad.api.get(f"/v1/job/{unique}").status == 404
    assert nomad.api.get(f"/v1/job/{unique}", namespace=unique).expect(200).json()["Namespace"] == unique
    assert nomad.api.get(f"/v1/namespace/{unique}").expect(200).json()["Name"] == unique
    nomad.api.delete(f"/v1/job/{unique}", purge="true", namespace=unique).expect(200)
