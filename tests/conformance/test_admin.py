"""What the servers tell an administrator: agents, nodes, ACL policies and tokens."""

from typing import Any

import pytest

from secretbinding.devstack.api import Api
from tests.support.servers import Stack

RULES = """
# A comment
namespace "team-*" {
  capabilities = [
    # why
    "list-jobs",
    "submit-job",
  ]
  variables {
    path "a/*" { capabilities = ["list", "read"] }
  }
}
node { policy = "read" }
"""


def client(stack: Stack, made: Any) -> Api:
    return Api(stack.address, {"X-Nomad-Token": made["SecretID"]})


def test_an_agent_tells_its_vault_block(stack: Stack) -> None:
    config = stack.api.get("/v1/agent/self").expect().json()["config"]
    (vault,) = config["Vaults"]
    assert (vault["Name"], vault["Enabled"], vault["Addr"]) == ("default", True, stack.openbao.address)
    assert (vault["JWTAuthBackendPath"], vault["DefaultIdentity"], vault["Token"]) == ("jwt-nomad", None, "")
    assert (config["Server"]["Enabled"], config["Client"]["Enabled"]) == (True, True)
    assert config["Server"]["OIDCIssuer"] == ""
    assert config["TLSConfig"]["EnableHTTP"] is False


def test_nodes_are_filtered_by_an_attribute_that_they_lack_or_that_differs(stack: Stack) -> None:
    api = stack.api
    (node,) = api.get("/v1/nodes").expect().json()
    assert (node["Status"], node["SchedulingEligibility"], node["Drain"]) == ("ready", "eligible", False)
    assert api.get("/v1/nodes", filter='"vault.accessible" not in Attributes').expect().json() == []
    (found,) = api.get("/v1/nodes", filter='"no.such.attribute" not in Attributes').expect().json()
    assert found["ID"] == node["ID"]
    name = stack.openbao.api.get("/v1/sys/health").json()["cluster_name"]
    other = '"vault.cluster_name" in Attributes and Attributes["vault.cluster_name"] != "%s"'
    assert api.get("/v1/nodes", filter=other % name).expect().json() == []
    assert len(api.get("/v1/nodes", filter=other % "another").expect().json()) == 1
    assert api.get("/v1/nodes", filter="nonsense").status == 400


def test_without_an_issuer_there_is_no_discovery(stack: Stack) -> None:
    answer = stack.api.get("/.well-known/openid-configuration")
    assert (answer.status, answer.text.strip()) == (404, "OIDC Discovery endpoint disabled")


def test_without_acls_everything_about_them_says_so(open_stack: Stack) -> None:
    for path in ("/v1/acl/policies", "/v1/acl/policy/x", "/v1/acl/tokens"):
        answer = open_stack.api.get(path)
        assert (answer.status, answer.text) == (400, "ACL support disabled"), path
    shown = open_stack.api.get("/v1/acl/token/self").expect().json()
    assert (shown["AccessorID"], shown["Type"]) == ("acls-disabled", "client")


def test_a_policy_comes_back_as_text_and_as_nomad_reads_it(stack: Stack, unique: str) -> None:
    job = {"Namespace": "default", "JobID": "x"}
    sent = {"Name": unique, "Description": "about", "Rules": RULES, "JobACL": job}
    stack.api.put(f"/v1/acl/policy/{unique}", sent).expect()
    found = stack.api.get(f"/v1/acl/policy/{unique}").expect().json()
    assert (found["Name"], found["Description"], found["Rules"]) == (unique, "about", RULES)
    assert found["JobACL"] == {"Namespace": "default", "JobID": "x", "Group": "", "Task": ""}
    parsed = found["RulesJSON"]
    (namespace,) = parsed["Namespaces"]
    assert (namespace["Name"], namespace["Capabilities"]) == ("team-*", ["list-jobs", "submit-job"])
    assert namespace["Variables"]["Paths"] == [{"PathSpec": "a/*", "Capabilities": ["list", "read"]}]
    assert (parsed["Node"], parsed["Agent"]) == ({"Policy": "read"}, None)
    (row,) = [one for one in stack.api.get("/v1/acl/policies").expect().json() if one["Name"] == unique]
    assert "Rules" not in row
    stack.api.delete(f"/v1/acl/policy/{unique}").expect()
    assert stack.api.get(f"/v1/acl/policy/{unique}").text == "ACL policy not found"
    stack.api.delete(f"/v1/acl/policy/{unique}").expect()


def test_a_short_form_is_spelled_out(stack: Stack, unique: str) -> None:
    rules = 'namespace "a" { policy = "read" }'
    stack.api.put(f"/v1/acl/policy/{unique}", {"Name": unique, "Rules": rules}).expect()
    (namespace,) = stack.api.get(f"/v1/acl/policy/{unique}").expect().json()["RulesJSON"]["Namespaces"]
    assert {"list-jobs", "read-job", "parse-job"} <= set(namespace["Capabilities"])
    assert "submit-job" not in namespace["Capabilities"]


@pytest.mark.parametrize("rules", ["nonsense {", 'nonsense "x" {}'])
def test_rules_that_make_no_sense_are_a_400(stack: Stack, unique: str, rules: str) -> None:
    answer = stack.api.put(f"/v1/acl/policy/{unique}", {"Name": unique, "Rules": rules})
    assert answer.status == 400
    assert "failed to parse rules" in answer.text


def test_a_token_sees_itself_and_its_own_policies_and_nothing_else(stack: Stack, unique: str) -> None:
    stack.api.put(f"/v1/acl/policy/{unique}", {"Name": unique, "Rules": RULES}).expect()
    made = stack.api.put("/v1/acl/token", {"Name": unique, "Type": "client", "Policies": [unique]}).expect().json()
    assert (made["Name"], made["Type"], made["Policies"], made["Global"]) == (unique, "client", [unique], False)
    own = client(stack, made)
    shown = own.get("/v1/acl/token/self").expect().json()
    assert (shown["AccessorID"], shown["Policies"], shown["ExpirationTime"]) == (made["AccessorID"], [unique], None)
    assert own.get(f"/v1/acl/policy/{unique}").status == 200
    assert [one["Name"] for one in own.get("/v1/acl/policies").expect().json()] == [unique]
    for path in ("/v1/acl/policy/other", "/v1/acl/tokens"):
        assert (own.get(path).status, own.get(path).text) == (403, "Permission denied")
    assert own.get("/v1/nodes").status == 200
    refused = [
        own.put(f"/v1/acl/policy/{unique}", {"Name": unique, "Rules": RULES}),
        own.put("/v1/acl/token", {"Name": unique, "Type": "client", "Policies": [unique]}),
    ]
    assert [one.status for one in refused] == [403, 403]


def test_tokens_are_listed_without_their_secrets_and_deleted_by_accessor(stack: Stack, unique: str) -> None:
    made = stack.api.put("/v1/acl/token", {"Name": unique, "Type": "client", "Policies": [unique]}).expect().json()
    (row,) = [one for one in stack.api.get("/v1/acl/tokens").expect().json() if one["Name"] == unique]
    assert row["AccessorID"] == made["AccessorID"]
    assert "SecretID" not in row
    stack.api.delete(f"/v1/acl/token/{made['AccessorID']}").expect()
    assert stack.api.delete(f"/v1/acl/token/{made['AccessorID']}").status == 400
    assert client(stack, made).get("/v1/acl/token/self").status == 403


def test_without_a_token_one_is_the_anonymous_one(stack: Stack) -> None:
    shown = Api(stack.address).get("/v1/acl/token/self").expect().json()
    assert (shown["AccessorID"], shown["Type"], shown["Policies"]) == ("anonymous", "client", ["anonymous"])


def test_every_answer_has_a_date(stack: Stack) -> None:
    assert stack.api.get("/v1/status/leader").headers["Date"].endswith("GMT")
