"""What the servers say of themselves, and parsing of job files."""

from typing import Any

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
