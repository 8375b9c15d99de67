"""What a job says of Consul is read from a job file, and stored, as Nomad does it."""

from pathlib import Path
from typing import Any

from tests.conformance.nomad import Nomad

JOB_FILE = (Path(__file__).parents[1] / "support" / "consul.nomad.hcl").read_text()
SECOND = 1_000_000_000


def filled(value: Any) -> Any:
    """Without what is empty: the API's own zero values."""
    if isinstance(value, dict):
        return {key: filled(one) for key, one in value.items() if one or isinstance(one, dict)}
    return [filled(one) for one in value] if isinstance(value, list) else value


def test_services_and_connect_of_a_job_file_become_those_of_the_api(nomad: Nomad) -> None:
    parsed = nomad.api.put("/v1/jobs/parse", {"JobHCL": JOB_FILE}).expect(200).json()
    group = parsed["TaskGroups"][0]
    assert filled(group["Consul"]) == {"Cluster": "default"}
    assert filled(group["Networks"]) == [
        {
            "Mode": "bridge",
            "DynamicPorts": [{"Label": "http"}],
            "ReservedPorts": [{"Label": "admin", "Value": 9901, "To": 9902}],
        }
    ]
    restart = {"Limit": 3, "Grace": 10 * SECOND}
    alive = {"Type": "script", "Name": "alive", "TaskName": "web", "Command": "/bin/true", "CheckRestart": restart}
    upstream = {"DestinationName": "db", "LocalBindPort": 5432}
    proxy = {"Upstreams": [upstream], "Config": {"protocol": "http"}}
    assert filled(group["Services"]) == [
        {
            "Name": "web",
            "PortLabel": "8080",
            "Tags": ["a", "b"],
            "Meta": {"team": "payments"},
            "Connect": {"SidecarService": {"Tags": ["proxy"], "Proxy": proxy}},
            "Checks": [{**alive, "Interval": 10 * SECOND, "Timeout": SECOND}],
        }
    ]
    task = group["Tasks"][0]
    assert filled(task["Consul"]) == {}
    health = {"Type": "http", "Path": "/health", "TLSSkipVerify": True, "Header": {"Accept": ["text/plain"]}}
    assert filled(task["Services"]) == [
        {
            "Name": "metrics",
            "PortLabel": "http",
            "Provider": "consul",
            "Identity": {"Audience": ["consul.io"], "TTL": 3600 * SECOND},
            "Checks": [{**health, "Interval": 10 * SECOND, "Timeout": SECOND}],
        }
    ]


def test_consul_blocks_are_stored_with_their_defaults_an_empty_one_too(nomad: Nomad, unique: str) -> None:
    parsed = nomad.api.put("/v1/jobs/parse", {"JobHCL": JOB_FILE}).expect(200).json()
    nomad.register({**parsed, "ID": unique, "Name": unique})
    group = nomad.job(unique)["TaskGroups"][0]
    assert group["Consul"] == {"Cluster": "default", "Namespace": "", "Partition": ""}
    assert group["Tasks"][0]["Consul"] == group["Consul"]
    (service,) = group["Services"]
    assert filled(service["Connect"])["SidecarService"]["Proxy"]["Config"] == {"protocol": "http"}
    nomad.api.delete(f"/v1/job/{unique}", purge="true").expect(200)
