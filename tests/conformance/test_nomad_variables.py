"""Nomad variables in templates: what a task reads by its own identity, what it waits for, what happens on a change."""

from typing import Any

import pytest

from tests.conformance.nomad import MS, SECOND, Nomad, env_template, events, file_template, job, say, task
from tests.support.servers import Stack

Json = dict[str, Any]
SOON = {"Min": 200 * MS, "Max": SECOND}
NASTY = "<>&\"'\n$ \\ é 😀\x01`{{"


def put(nomad: Nomad, path: str, **items: str) -> None:
    nomad.api.put(f"/v1/var/{path}", {"Path": path, "Items": items}).expect(200)


@pytest.fixture
def path(nomad: Nomad, unique: str) -> str:
    return f"nomad/jobs/{unique}"


def test_the_values_of_a_variable_are_fields_of_a_map(nomad: Nomad, unique: str, path: str) -> None:
    put(nomad, path, password=NASTY, **{"a-b": "dashed"})
    text = "\n=\n".join(
        [
            "{{ .ItemsMap.password | toJSON }}",
            '{{ index .ItemsMap "a-b" | toJSON }}',
            '{{ sprig_hasKey .ItemsMap "missing" }}',
            "{{ .password }}",
            "{{ .password.Value | toJSON }}",
            "{{ range $name, $value := .ItemsMap }}{{ $name }};{{ end }}",
        ]
    )
    wrapped = f'{{{{ with nomadVar "{path}" }}}}{text}{{{{ end }}}}'
    nomad.register(job(unique, task(Templates=[file_template(wrapped, ErrMissingKey=True)])))
    printed = nomad.file(nomad.wait_allocation(unique, "running"), "t/local/out").split("\n=\n")
    quoted = '"\\u003c\\u003e\\u0026\\"\'\\n$ \\\\ é 😀\\u0001`{{"'
    assert printed == [quoted, '"dashed"', "false", NASTY, quoted, "a-b;password;"]


def test_a_field_that_a_variable_lacks_fails_the_allocation_at_once(nomad: Nomad, unique: str, path: str) -> None:
    put(nomad, path, password="x")
    text = f'{{{{ with nomadVar "{path}" }}}}{{{{ .ItemsMap.missing }}}}{{{{ end }}}}'
    nomad.register(job(unique, task(Templates=[file_template(text, ErrMissingKey=True)])))
    failed = nomad.wait_allocation(unique, "failed")
    assert dict(events(failed))["Killing"].endswith('map has no entry for key "missing"')


def test_a_task_waits_for_a_variable_that_is_not_there(nomad: Nomad, unique: str, path: str) -> None:
    text = f'{{{{ with nomadVar "{path}" }}}}{{{{ .password }}}}{{{{ end }}}}'
    nomad.register(job(unique, task(Templates=[file_template(text)])))
    nomad.wait_event(unique, f"Missing: nomad.var.block({path}@default.global)")
    put(nomad, path, password="late")
    assert nomad.file(nomad.wait_allocation(unique, "running"), "t/local/out") == "late"


def test_a_template_that_is_rendered_once_keeps_the_value_and_another_follows_it(nomad: Nomad, unique: str) -> None:
    # Tasks may read this one whatever their job.
    path = "nomad/jobs"
    field = unique.replace("-", "_")
    put(nomad, path, **{field: "first"})
    text = f'{{{{ with nomadVar "{path}" }}}}{{{{ .{field} }}}}{{{{ end }}}}'
    noop = {"ChangeMode": "noop", "Wait": SOON, "Splay": 0}
    once = job(f"{unique}-once", task(Templates=[file_template(text, **noop)]))
    kept = job(f"{unique}-kept", task(Templates=[file_template(text, **{**noop, "Once": False})]))
    nomad.register(once)
    nomad.register(kept)
    before = nomad.wait_allocation(f"{unique}-once", "running")
    following = nomad.wait_allocation(f"{unique}-kept", "running")
    put(nomad, path, **{field: "second"})
    nomad.wait("the other to follow", lambda: nomad.file(following, "t/local/out") == "second")
    assert nomad.file(before, "t/local/out") == "first"
    assert nomad.running(f"{unique}-kept")[0]["TaskStates"]["t"]["Restarts"] == 0


def test_a_changed_variable_restarts_the_task_where_the_template_says_so(nomad: Nomad, unique: str, path: str) -> None:
    put(nomad, path, password="first")
    text = f'{{{{ with nomadVar "{path}" }}}}PASS={{{{ .ItemsMap.password | toJSON }}}}{{{{ end }}}}'
    template = env_template(text, Once=False, ChangeMode="restart", Wait=SOON, Splay=0)
    nomad.register(job(unique, task(say('echo "$PASS"'), Templates=[template])))
    assert nomad.said(unique) == "first\n"
    put(nomad, path, password="second")
    nomad.wait("a restart", lambda: nomad.allocations(unique)[0]["TaskStates"]["t"]["Restarts"] == 1)
    nomad.wait("the new value", lambda: "second" in nomad.logs(nomad.allocations(unique)[0]))


def test_with_acls_a_task_reads_the_variables_of_its_job_group_and_itself_and_no_others(
    stack: Stack, unique: str
) -> None:
    nomad = Nomad(stack)
    readable = ["nomad/jobs", f"nomad/jobs/{unique}", f"nomad/jobs/{unique}/g", f"nomad/jobs/{unique}/g/t"]
    others = [f"nomad/jobs/{unique}/other", f"nomad/jobs/other-{unique}", f"shared/{unique}"]
    for path in (*readable, *others):
        put(nomad, path, value=path)
    text = "\n".join(f'{{{{ with nomadVar "{path}" }}}}{{{{ .value }}}}{{{{ end }}}}' for path in readable)
    nomad.register(job(unique, task(Templates=[file_template(text)])))
    assert nomad.file(nomad.wait_allocation(unique, "running"), "t/local/out").split("\n") == readable
    for place, path in enumerate(others):
        text = f'{{{{ with nomadVar "{path}" }}}}{{{{ .value }}}}{{{{ end }}}}'
        nomad.register(job(f"{unique}-{place}", task(Templates=[file_template(text)])))
    for place, path in enumerate(others):
        nomad.wait_event(f"{unique}-{place}", f"Missing: nomad.var.block({path}@default.global)")
        assert nomad.allocations(f"{unique}-{place}")[0]["ClientStatus"] == "pending"
    for stub in nomad.api.get("/v1/jobs", prefix=unique).expect(200).json():
        nomad.purge(stub["ID"])
