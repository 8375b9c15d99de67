"""No binding gets more than its model says: no path or capability in a policy, no call in a template, no task or field
in a job, no line in an env file; and where a policy is asked, nothing beyond that policy."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from secretbinding.desired.compute import desire
from secretbinding.desired.values import Desired
from secretbinding.devstack.simulator.envfile import parse_env_file
from secretbinding.devstack.simulator.template import Dependency, render, secret_of
from secretbinding.job.marks import read_mark
from secretbinding.job.sidecar import is_sidecar
from secretbinding.kinds import with_role_names
from secretbinding.models.agent import AGENT_TASK, WAIT_TASK
from secretbinding.models.binding import Kv, NomadVariable, SecretBinding, SecretEntry
from secretbinding.models.kinds import Aws, Azure, Database, Gcp, Generic, Pki, Ssh, Transit
from secretbinding.models.template_syntax import check
from secretbinding.models.templates import Action, TokenKind
from secretbinding.naming import Owner, policy_name
from secretbinding.ports import Json
from secretbinding.render.agent import CONFIGURATION, AgentDefaults
from secretbinding.render.policy import policy_text
from secretbinding.render.text import go_string
from secretbinding.tenancy import Target, Tenant, decide
from secretbinding.tenancy.patterns import KV_API, matches
from tests.support import builders as make
from tests.support.builders import INSTANCE
from tests.support.fuzzing import cases
from tests.unit.core.agents import agent_reads, agents_of
from tests.unit.core.hcl import read_policy_hcl
from tests.unit.core.hostile import by_agent, hostile, state_of
from tests.unit.core.test_escaping import values, variables
from tests.unit.core.world import World
from tests.unit.tenancy.builders import policy

Rights = dict[str, set[str]]

# What of a task, a group and a job is ours to change, in the names of Nomad's API.
_TASK = {"Templates", "Vault", "Identities"}
_GROUP = {"Meta", "Constraints"}
_TEMPLATE = {
    "ChangeMode", "ChangeScript", "ChangeSignal", "DestPath", "EmbeddedTmpl", "Envvars", "ErrMissingKey", "Gid",
    "LeftDelim", "Once", "Perms", "RightDelim", "SourcePath", "Splay", "Uid", "VaultGrace", "Wait",
}  # fmt: skip
_VAULT = {"AllowTokenExpiration", "ChangeMode", "ChangeSignal", "Cluster", "DisableFile", "Env", "Namespace", "Role"}
_SIDECAR = {
    "Config", "Driver", "Env", "Identities", "KillTimeout", "Lifecycle", "LogConfig", "Name", "Resources",
    "RestartPolicy", "Templates", "User",
}  # fmt: skip
_CONFIGURATION = CONFIGURATION.removeprefix("local/")
_IDENTITY = {"Audience", "ChangeMode", "ChangeSignal", "Env", "File", "Filepath", "Name", "ServiceName", "TTL"}


def named(made: SecretBinding) -> SecretBinding:
    """The binding with the names of the roles that are made for it."""
    return with_role_names(made, Owner(INSTANCE, make.key()))


def decided(made: SecretBinding) -> tuple[World, Desired]:
    """A job with two groups and a sidecar, and what it should be with the binding."""
    world = World()
    lifecycle = {"Hook": "prestart", "Sidecar": True}
    first = make.group(make.task(), make.task("beside", Lifecycle=lifecycle))
    world.user_registers(make.job(first, make.group(make.task("other"), name="second")))
    item = make.given(made)
    assert item.binding is not None
    secrets = {(item.key, entry.name): state_of(entry) for entry in item.binding.spec.secrets}
    observed = replace(world.observe([]), secrets=secrets)
    return world, desire(observed, [item], INSTANCE)


def wanted_rights(entry: SecretEntry) -> Rights:
    """What a kind of secret needs, told once more, from Vault's documentation."""
    source = entry.source
    lease = {"sys/leases/renew": {"update"}}
    match source:
        case Kv():
            path = source.path if source.engine == "v1" else f"data/{source.path}"
            return {f"{source.mount}/{path}": {"read"}}
        case Generic():
            return {f"{source.mount}/{source.path}": {str(word) for word in source.capabilities}}
        case Database() if source.static_role is not None:
            return {f"{source.mount}/static-creds/{source.static_role}": {"read"}}
        case Database():
            return {f"{source.mount}/creds/{source.role}": {"read"}, **lease}
        case Pki():
            return {f"{source.mount}/issue/{source.role}": {"update"}}
        case Ssh():
            return {f"{source.mount}/issue/{source.role}": {"update"}}
        case Aws() if source.sts:
            return {f"{source.mount}/sts/{source.role}": {"read"}}
        case Aws() | Azure():
            return {f"{source.mount}/creds/{source.role}": {"read"}, **lease}
        case Gcp():
            return {f"{source.mount}/roleset/{source.roleset}/token": {"read"}}
        case Transit():
            return {f"{source.mount}/{word}/{source.key}": {"update"} for word in ("encrypt", "sign")}
    assert isinstance(source, NomadVariable)
    return {}


def joined(made: SecretBinding) -> Rights:
    """What a whole binding needs."""
    found: Rights = {}
    for entry in named(made).spec.secrets:
        for path, words in wanted_rights(entry).items():
            found.setdefault(path, set()).update(words)
    return found


@settings(max_examples=cases(150))
@given(hostile())
def test_the_policy_grants_what_the_kinds_need_and_not_a_path_or_a_capability_more(made: SecretBinding) -> None:
    _, desired = decided(made)
    assert set(desired.policies) <= {policy_name(Owner(INSTANCE, make.key()))}
    for document in desired.policies.values():
        assert read_policy_hcl(policy_text(document)) == joined(made)


@settings(max_examples=cases(150))
@given(hostile())
def test_roles_grant_the_bindings_own_policy_to_this_very_job_alone(made: SecretBinding) -> None:
    _, desired = decided(made)
    for body in desired.roles.values():
        assert set(body["token_policies"]) == {policy_name(Owner(INSTANCE, make.key()))}
        assert (body["bound_claims"]["nomad_namespace"], body["bound_claims"]["nomad_job_id"]) == ("default", "web")


def differences(before: Json, after: Json) -> set[str]:
    """The fields that differ, however they are empty."""
    return {name for name in {*before, *after} if (before.get(name) or None) != (after.get(name) or None)}


def pairs(before: list[Json], after: list[Json]) -> Iterator[tuple[Json, Json]]:
    """Members of two lists by their place; neither has more than the other, nor another order."""
    assert [one["Name"] for one in before] == [one["Name"] for one in after]
    yield from zip(before, after, strict=True)


@settings(max_examples=cases(150))
@given(hostile())
def test_the_job_gets_no_task_and_no_field_but_those_of_templates_and_login(made: SecretBinding) -> None:
    world, desired = decided(made)
    assert world.job is not None
    assert desired.job is not None
    assert differences(world.job, desired.job) <= {"TaskGroups"}
    selected = {("web", "server"), *([] if made.spec.workload.groups else [("second", "other")])}
    for old_group, new_group in pairs(world.job["TaskGroups"], desired.job["TaskGroups"]):
        assert differences(old_group, new_group) <= {"Tasks", *_GROUP}
        for old, new in pairs(old_group["Tasks"], new_group["Tasks"]):
            changed = differences(old, new)
            assert changed <= _TASK
            assert not changed or (new_group["Name"], new["Name"]) in selected
            for template in new.get("Templates") or []:
                assert set(template) <= _TEMPLATE
                assert read_mark(template) is not None
            assert set(new.get("Vault") or {}) <= _VAULT
            assert all(set(one) <= _IDENTITY for one in new.get("Identities") or [])


@settings(max_examples=cases(100))
@given(by_agent())
def test_an_agent_is_two_tasks_of_our_own_and_reads_the_bindings_secrets_alone(made: SecretBinding) -> None:
    world, desired = decided(made)
    assert world.job is not None
    for document in desired.policies.values():
        assert read_policy_hcl(policy_text(document)) == joined(made)
    if desired.results[make.key()].fault is not None:
        return
    assert desired.job is not None
    assert differences(world.job, desired.job) <= {"TaskGroups"}
    for old_group, new_group in pairs(world.job["TaskGroups"], desired.job["TaskGroups"]):
        assert differences(old_group, new_group) <= {"Tasks", *_GROUP}
        ours = [task for task in new_group["Tasks"] if is_sidecar(task)]
        assert {task["Name"] for task in ours} <= {AGENT_TASK, WAIT_TASK}
        assert all(set(task) <= _SIDECAR for task in ours)
        for old, new in pairs(old_group["Tasks"], [task for task in new_group["Tasks"] if not is_sidecar(task)]):
            assert differences(old, new) <= {"Templates"}
    for _, task in agents_of(desired.job):
        assert task["Config"] == {
            "image": AgentDefaults().image,
            "entrypoint": [AgentDefaults().command],
            "args": ["agent", f"-config=${{NOMAD_TASK_DIR}}/{_CONFIGURATION}"],
        }
        assert agent_reads(task) <= set(joined(made)) - {"sys/leases/renew"}


def templates(desired: Desired) -> Iterator[Json]:
    """Every template that was put into the job."""
    for group in (desired.job or {}).get("TaskGroups") or []:
        for task in group["Tasks"]:
            yield from task.get("Templates") or []


def calls(actions: Iterator[Action]) -> Iterator[tuple[str, str]]:
    """Each function that is called, with the text that is its first argument, "" for anything else."""
    for action in actions:
        words = action.words
        for index, word in enumerate(words):
            if word.kind is TokenKind.IDENTIFIER:
                after = words[index + 1] if index + 1 < len(words) else None
                literal = after is not None and after.kind in (TokenKind.STRING, TokenKind.RAW_STRING)
                yield word.text, after.value if after is not None and literal else ""


@settings(max_examples=cases(150))
@given(hostile())
def test_a_template_calls_the_bindings_secrets_and_what_its_own_text_calls_and_nothing_else(
    made: SecretBinding,
) -> None:
    _, desired = decided(made)
    own = set(joined(made)) - {"sys/leases/renew"}
    texts = [
        set(calls(iter(check(file.template, file.left_delimiter or "{{", file.right_delimiter or "}}"))))
        for entry in made.spec.secrets
        for file in entry.files
        if file.template is not None
    ]
    theirs = set().union(*texts)
    for template in templates(desired):
        actions = check(template["EmbeddedTmpl"], template["LeftDelim"], template["RightDelim"])
        for function, argument in calls(iter(actions)):
            if (function, argument) in theirs:
                continue
            if function == "secret":
                assert argument.partition("?")[0] in own
            elif function == "nomadVar":
                assert argument.partition("@")[0] == "nomad/jobs/web"
            else:
                assert function not in ("pkiCert", "key", "file", "plugin", "env", "service", "executeTemplate")


@settings(max_examples=cases(150))
@given(st.dictionaries(variables, values, min_size=1, max_size=4), values)
def test_an_env_file_has_a_line_for_each_variable_whatever_the_secret_holds(
    secret: Mapping[str, str], plain: str
) -> None:
    names = {name: name for name in secret if name != "PLAIN"}
    assume(names)
    entry = {"name": "app", "kv": {"mount": "secret", "path": "app"}, "env": names}
    body = {"workload": {"job": "web", "env": {"PLAIN": plain}}, "secrets": [entry]}
    made = SecretBinding.model_validate(
        {"metadata": {"name": "app"}, "spec": body}, by_alias=True, by_name=False, strict=False
    )
    _, desired = decided(made)
    found: dict[str, str] = {}
    for template in templates(desired):
        if template["Envvars"]:
            asked = Dependency.of(["secret/data/app?version=7"])
            data: dict[str, Any] = {"data": {"data": dict(secret)}}
            text = render(template["EmbeddedTmpl"], {asked: secret_of(data)}, {}, error_on_missing_key=True).text
            found |= parse_env_file(text)
    assert found == {**{name: secret[name] for name in names}, "PLAIN": plain}


OWN = policy(tenants=[{"names": ["*"]}], workloads=[{"namespaces": ["default"]}])
TARGET = Target("default", "web")
TENANTS = st.sampled_from(["team", "data", "metadata"])
# Paths, mounts and templates by which a tenant could try to reach another's secret; {} is its own name.
near = st.just("{}/app") | st.sampled_from(
    ["{}", "{}x/app", "data/{}/app", "data/other/app", "{}/data/other", "other/{}/app", "metadata/other/app"]
)
near_mounts = st.just("secret") | st.sampled_from(["secret", "secret/data", "secret/{}", "Secret", "{}"])
near_texts = st.sampled_from(
    [
        'secret "secret/data/{}/app"',
        'secret "secret/{}/app"',
        'secret "secret/data/other/app"',
        'secret "secret/{}/../other/app"',
        'secret "secret/data/{}/../../data/other/app"',
        'secret "/secret/data//other"',
        'secret "secret/data/{}%2f..%2fother"',
        'secret (print "secret/data/" "other/app")',
        'secret .x "secret/data/{}/app"',
        'secrets "secret/metadata/{}"',
        '"secret/data/other/app" | secret',
        '"secret/data/{}/app" | print',
        'pkiCert "secret/data/other/app"',
        'key "{}"',
    ]
)


@st.composite
def reaching(draw: st.DrawFn, by: str) -> tuple[str, SecretBinding]:
    """A tenant, and a binding that may try to reach what is not the tenant's: by its `path`, or by its `template`."""
    tenant, kind = draw(TENANTS), draw(st.sampled_from(["kv", "kv", "generic"]) if by == "path" else st.just("kv"))
    mount, path = (draw(near_mounts), draw(near)) if by == "path" else ("secret", "{}/app")
    spec: Json = {"mount": mount.replace("{}", tenant), "path": path.replace("{}", tenant)}
    if kind == "kv" and draw(st.booleans()):
        spec["engine"] = draw(st.sampled_from(["v1", "v2"]))
    file: Json = {"destination": "secrets/x"}
    if by == "template":
        called = draw(st.lists(near_texts, min_size=1, max_size=2))
        file["template"] = "".join(f"{{{{ {text.replace('{}', tenant)} }}}}" for text in called)
    body = {"workload": {"job": "web"}, "secrets": [{"name": "app", kind: spec, "files": [file]}]}
    made = SecretBinding.model_validate(
        {"metadata": {"name": "app"}, "spec": body}, by_alias=True, by_name=False, strict=False
    )
    return tenant, made


def owns(tenant: str, path: str) -> bool:
    """Whether a path of Vault's API is one of a tenant's own secrets, whatever the version of the engine at `secret/`.
    To a tenant that is called as a part of that API only what lies below `data/` and its name belongs."""
    plain = ".." not in path.split("/") and "%" not in path
    roots = (f"secret/data/{tenant}/", *(() if tenant in KV_API else (f"secret/{tenant}/",)))
    return plain and path.startswith(roots)


@settings(max_examples=cases(400))
@given(reaching("path") | reaching("template") | hostile().map(lambda made: ("team", made)))
def test_what_the_first_rule_allows_reaches_the_tenants_own_paths_and_nothing_else(given: tuple[str, Any]) -> None:
    tenant, made = given
    decision = decide([OWN], Tenant("files", tenant), named(made), TARGET)
    if not decision.allowed:
        return
    for path, words in joined(made).items():
        assert owns(tenant, path), path
        assert words == {"read"}
    _, desired = decided(made)
    for template in templates(desired):
        actions = check(template["EmbeddedTmpl"], template["LeftDelim"], template["RightDelim"])
        for function, argument in calls(iter(actions)):
            assert function not in ("key", "file", "service", "secrets", "plugin", "executeTemplate", "nomadVar")
            if function in ("secret", "pkiCert"):
                asked = argument.partition("?")[0].strip("/")
                assert owns(tenant, asked), asked


@settings(max_examples=cases(60))
@given(st.text(max_size=20), st.text(max_size=20))
def test_a_tenants_name_is_no_pattern_whatever_it_is(tenant: str, path: str) -> None:
    assert matches("{{tenant}}/x", f"{path}/x", tenant) == (path == tenant)
    assert matches("a/{{tenant}}", f"a/{path}", tenant) == (path == tenant)
    assert go_string(tenant)
