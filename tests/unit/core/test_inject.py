"""What injection puts into a job, removal takes out again; and what it never touches."""

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secretbinding.job.inject import TaskPart, inject, keep_rendered, same_job, strip, to_register, user_state
from secretbinding.job.marks import placed_marks, read_mark
from secretbinding.ports import Json
from tests.support import builders as make
from tests.support.builders import INSTANCE
from tests.unit.core.strategies import block, jobs, jobs_with_parts, owner
from tests.unit.core.world import NOMAD_CONSTRAINT, VAULT_CONSTRAINT, server_hooks

Parts = dict[tuple[str, str], TaskPart]


def without_emptiness(value: Any) -> Any:
    """Null, missing, an empty list and an empty map are one and the same; everything else is exact."""
    if isinstance(value, dict):
        kept = {name: without_emptiness(item) for name, item in value.items()}
        return {name: item for name, item in kept.items() if item is not None and item != [] and item != {}}
    return [without_emptiness(item) for item in value] if isinstance(value, list) else value


def constraints_of(job: Json) -> list[Any]:
    return [group.get("Constraints") or [] for group in job["TaskGroups"]]


def part(version: int = 1, *, signal: str = "", env: bool = True, role: str = f"nsb.{INSTANCE}.x.y") -> TaskPart:
    return TaskPart(role, ((owner(), block(version=version, signal=signal, env=env)),))


@given(jobs_with_parts())
def test_taking_our_part_out_of_a_job_gives_back_the_job(made: tuple[Json, Parts]) -> None:
    sent, parts = made
    answered = server_hooks(sent)
    user = strip(answered, INSTANCE)
    registered = server_hooks(inject(user, parts, INSTANCE))
    back = strip(registered, INSTANCE).job
    assert same_job(back, user.job)
    assert without_emptiness(back) == without_emptiness(user.job)


@given(jobs_with_parts())
def test_injecting_again_what_was_taken_out_changes_nothing(made: tuple[Json, Parts]) -> None:
    sent, parts = made
    once = inject(strip(server_hooks(sent), INSTANCE), parts, INSTANCE)
    registered = server_hooks(once)
    again = inject(strip(registered, INSTANCE), parts, INSTANCE)
    assert same_job(again, registered)
    assert without_emptiness(again) == without_emptiness(once)


@given(jobs())
def test_a_job_without_our_part_comes_back_equal_and_does_not_grow(sent: Json) -> None:
    answered = server_hooks(sent)
    stripped = strip(answered, INSTANCE).job
    assert same_job(stripped, answered)
    assert without_emptiness(server_hooks(stripped)) == without_emptiness(answered)
    assert not strip(answered, INSTANCE).keeps


@given(jobs_with_parts())
def test_the_job_given_in_is_never_changed(made: tuple[Json, Parts]) -> None:
    sent, parts = made
    answered = server_hooks(sent)
    before = copy.deepcopy(answered)
    injected = inject(strip(answered, INSTANCE), parts, INSTANCE)
    keep_rendered(injected, answered, INSTANCE)
    to_register(answered)
    assert answered == before


@settings(max_examples=20)
@given(jobs_with_parts())
def test_a_hundred_rotations_leave_the_constraints_as_after_the_first(made: tuple[Json, Parts]) -> None:
    sent, parts = made
    job = before = server_hooks(sent)
    first: list[Any] = []
    for number in range(1, 101):
        rotated = {
            ref: TaskPart(part.role, tuple((who, _at(item, number)) for who, item in part.templates), part.polls)
            for ref, part in parts.items()
        }
        job = server_hooks(keep_rendered(inject(strip(job, INSTANCE), rotated, INSTANCE), job, INSTANCE))
        first = first or [constraints_of(job)]
        assert [constraints_of(job)] == first
    removed = server_hooks(strip(job, INSTANCE).job)
    assert constraints_of(removed) == constraints_of(before)


def _at(item: Any, number: int) -> Any:
    return block(item.of, version=number, signal=item.change.signal, env=item.env)


@given(jobs_with_parts())
def test_the_users_own_templates_keep_their_order_and_text(made: tuple[Json, Parts]) -> None:
    sent, parts = made
    answered = server_hooks(sent)
    injected = inject(strip(answered, INSTANCE), parts, INSTANCE)
    for before, after in zip(answered["TaskGroups"], injected["TaskGroups"], strict=True):
        for old, new in zip(before["Tasks"], after["Tasks"], strict=True):
            own = old["Templates"] or []
            assert (new["Templates"] or [])[: len(own)] == own


@given(jobs_with_parts())
def test_another_instances_part_is_never_touched(made: tuple[Json, Parts]) -> None:
    sent, parts = made
    theirs = {
        ref: TaskPart("nsb.other.x.y", tuple((owner("app", "other"), item) for _, item in part.templates))
        for ref, part in parts.items()
    }
    registered = server_hooks(inject(strip(server_hooks(sent), "other"), theirs, "other"))
    assert without_emptiness(server_hooks(strip(registered, INSTANCE).job)) == without_emptiness(registered)
    assert list(placed_marks(registered, "other")) == list(placed_marks(strip(registered, INSTANCE).job, "other"))


def test_two_instances_in_one_group_come_and_go_in_any_order_without_a_trace() -> None:
    sent = make.job(make.group(make.task("one"), make.task("two")))
    before = server_hooks(sent)
    job = server_hooks(inject(strip(before, "a"), {("web", "one"): part(role="nsb.a.x.y")}, "a"))
    mine: Parts = {("web", "two"): TaskPart("nsb.b.x.y", ((owner("app", "b"), block()),))}
    theirs: Parts = {("web", "one"): TaskPart("nsb.a.x.y", ((owner("app", "a"), block()),))}
    for first, second in (("a", "b"), ("b", "a")):
        job = before
        for instance, parts in (("a", theirs), ("b", mine)):
            job = server_hooks(inject(strip(job, instance), parts, instance))
        for instance in (first, second):
            job = server_hooks(strip(job, instance).job)
        assert without_emptiness(job) == without_emptiness(before)


def test_the_users_own_constraint_that_looks_like_the_servers_stays() -> None:
    own = [dict(VAULT_CONSTRAINT), dict(NOMAD_CONSTRAINT)]
    before = server_hooks(make.job(make.group(Constraints=own)))
    job = server_hooks(inject(strip(before, INSTANCE), {("web", "server"): part()}, INSTANCE))
    assert constraints_of(job) == [[*own, NOMAD_CONSTRAINT]]
    assert constraints_of(server_hooks(strip(job, INSTANCE).job)) == [own]


def test_the_users_own_constraint_on_signals_stays_when_it_is_the_very_one_that_we_need() -> None:
    own = {"LTarget": "${attr.os.signals}", "RTarget": "SIGHUP", "Operand": "set_contains"}
    before = server_hooks(make.job(make.group(Constraints=[own])))
    parts = {("web", "server"): part(signal="SIGHUP", env=False)}
    job = server_hooks(inject(strip(before, INSTANCE), parts, INSTANCE))
    assert constraints_of(server_hooks(strip(job, INSTANCE).job)) == [[own]]


def test_a_constraint_on_signals_goes_with_the_template_that_needed_it() -> None:
    before = server_hooks(make.job(make.group(make.task(KillSignal="SIGINT"))))
    job = before
    for signal in ("SIGHUP", "SIGUSR1", "SIGHUP"):
        parts = {("web", "server"): part(signal=signal, env=False)}
        job = server_hooks(inject(strip(job, INSTANCE), parts, INSTANCE))
        required = ",".join(sorted(["SIGINT", signal]))
        assert [item["RTarget"] for item in constraints_of(job)[0] if "signals" in item["LTarget"]] == [
            "SIGINT",
            required,
        ]
    assert constraints_of(server_hooks(strip(job, INSTANCE).job)) == constraints_of(before)


def test_an_identity_of_the_users_own_is_used_and_left_behind() -> None:
    own = {"Name": "vault_default", "Audience": ["vault.io"], "TTL": 60}
    before = server_hooks(make.job(make.group(make.task(Identities=[own]))))
    job = inject(strip(before, INSTANCE), {("web", "server"): part()}, INSTANCE)
    assert make.find_task(job)["Identities"] == make.find_task(before)["Identities"]
    assert make.find_task(strip(server_hooks(job), INSTANCE).job)["Identities"] == make.find_task(before)["Identities"]


def test_a_vault_block_of_the_users_own_is_never_overwritten() -> None:
    own = {"Role": "own", "ChangeMode": "restart"}
    job = inject(strip(make.job(make.group(make.task(Vault=own))), INSTANCE), {("web", "server"): part()}, INSTANCE)
    assert make.find_task(job)["Vault"] == own


def test_the_token_stays_out_of_environment_and_disk() -> None:
    job = inject(strip(make.job(), INSTANCE), {("web", "server"): part()}, INSTANCE)
    vault = make.find_task(job)["Vault"]
    assert (vault["Env"], vault["DisableFile"]) == (False, True)


@pytest.mark.parametrize(
    ("polls", "leased", "expires", "mode"),
    [(False, False, True, "noop"), (True, False, False, "noop"), (True, True, False, "restart")],
)
def test_a_task_needs_its_token_only_as_long_as_something_reads_with_it(
    polls: bool, leased: bool, expires: bool, mode: str
) -> None:
    parts = {("web", "server"): TaskPart("nsb.test.x.y", ((owner(), block()),), polls=polls, leased=leased)}
    vault = make.find_task(inject(strip(make.job(), INSTANCE), parts, INSTANCE))["Vault"]
    assert (vault["AllowTokenExpiration"], vault["ChangeMode"]) == (expires, mode)


@given(jobs_with_parts(), st.randoms(use_true_random=False))
def test_what_is_there_with_the_same_meaning_stays_as_it_is_whatever_its_order(
    made: tuple[Json, Parts], random: Any
) -> None:
    sent, parts = made
    job = server_hooks(inject(strip(server_hooks(sent), INSTANCE), parts, INSTANCE))
    for group in job["TaskGroups"]:
        for task in group["Tasks"]:
            random.shuffle(task["Templates"] or [])
            random.shuffle(task["Identities"] or [])
    assert same_job(keep_rendered(inject(strip(job, INSTANCE), parts, INSTANCE), job, INSTANCE), job)


def test_templates_stand_in_one_order_whatever_order_they_come_in() -> None:
    templates = [(owner(name), block(secret, name=name)) for name in ("b", "a") for secret in ("two", "one")]
    stripped = strip(make.job(), INSTANCE)
    jobs_made = [
        inject(stripped, {("web", "server"): TaskPart("nsb.test.x.y", tuple(given_order))}, INSTANCE)
        for given_order in (templates, templates[::-1])
    ]
    assert jobs_made[0] == jobs_made[1]
    assert [placed.key.name for placed in placed_marks(jobs_made[0], INSTANCE)] == ["a", "a", "b", "b"]


def test_a_template_that_somebody_edited_is_put_back() -> None:
    job = server_hooks(inject(strip(server_hooks(make.job()), INSTANCE), {("web", "server"): part()}, INSTANCE))
    for change in (
        {"EmbeddedTmpl": make.templates_of(job)[0]["EmbeddedTmpl"] + "MORE=1\n"},
        {"Perms": "0777"},
        {"DestPath": "local/elsewhere"},
        {"ErrMissingKey": False},
        {"Envvars": False},
        {"ChangeMode": "restart"},
        {"Once": False},
        {"LeftDelim": "[["},
    ):
        edited = copy.deepcopy(job)
        edited["TaskGroups"][0]["Tasks"][0]["Templates"][0].update(change)
        wanted = keep_rendered(inject(strip(edited, INSTANCE), {("web", "server"): part()}, INSTANCE), edited, INSTANCE)
        assert not same_job(wanted, edited), change
        assert same_job(wanted, job), change


def test_a_vault_block_or_identity_of_ours_that_somebody_edited_is_put_back() -> None:
    job = server_hooks(inject(strip(server_hooks(make.job()), INSTANCE), {("web", "server"): part()}, INSTANCE))
    for field, change in (("Vault", {"Env": True}), ("Vault", {"AllowTokenExpiration": False})):
        edited = copy.deepcopy(job)
        edited["TaskGroups"][0]["Tasks"][0][field].update(change)
        wanted = keep_rendered(inject(strip(edited, INSTANCE), {("web", "server"): part()}, INSTANCE), edited, INSTANCE)
        assert same_job(wanted, job)
        assert not same_job(wanted, edited)
    edited = copy.deepcopy(job)
    edited["TaskGroups"][0]["Tasks"][0]["Identities"][0]["Env"] = True
    wanted = keep_rendered(inject(strip(edited, INSTANCE), {("web", "server"): part()}, INSTANCE), edited, INSTANCE)
    assert same_job(wanted, job)


def test_further_fields_of_a_newer_nomad_register_nothing() -> None:
    job = server_hooks(inject(strip(server_hooks(make.job()), INSTANCE), {("web", "server"): part()}, INSTANCE))
    task = job["TaskGroups"][0]["Tasks"][0]
    for item in (task["Vault"], task["Identities"][0], task["Templates"][0]):
        item.update(Novelty=False, Other="", Third=0)
    assert same_job(
        keep_rendered(inject(strip(job, INSTANCE), {("web", "server"): part()}, INSTANCE), job, INSTANCE), job
    )


def test_a_vault_block_of_ours_without_templates_is_taken_out_with_its_constraint() -> None:
    job = server_hooks(inject(strip(server_hooks(make.job()), INSTANCE), {("web", "server"): part()}, INSTANCE))
    job["TaskGroups"][0]["Tasks"][0].update(Templates=None, Identities=None)
    stripped = strip(job, INSTANCE).job
    assert make.find_task(stripped)["Vault"] is None
    assert constraints_of(stripped) == [[]]


@given(jobs_with_parts())
def test_the_users_state_does_not_depend_on_our_part(made: tuple[Json, Parts]) -> None:
    sent, parts = made
    answered = server_hooks(sent)
    registered = server_hooks(inject(strip(answered, INSTANCE), parts, INSTANCE))
    assert user_state(registered, INSTANCE) == user_state(answered, INSTANCE)


def test_the_users_state_leaves_out_bookkeeping_and_counts_and_nothing_else() -> None:
    job = make.job()
    state = user_state(job, INSTANCE)
    same = copy.deepcopy(job)
    same.update(Version=7, Status="running", SubmitTime=5, VersionTag={"Name": "x"})
    same["TaskGroups"][0]["Count"] = 9
    assert user_state(same, INSTANCE) == state
    changed = copy.deepcopy(job)
    changed["TaskGroups"][0]["Tasks"][0]["Config"]["command"] = "/bin/false"
    assert user_state(changed, INSTANCE) != state


@pytest.mark.parametrize(("left", "right"), [(0, 1), (False, True), ("", "x"), (0, None), (False, None)])
def test_zero_and_false_are_values_when_jobs_are_compared(left: Any, right: Any) -> None:
    assert not same_job(make.job(AllAtOnce=left), make.job(AllAtOnce=right))


@pytest.mark.parametrize("empty", [None, [], {}])
def test_null_nothing_and_empty_are_one_and_the_same(empty: Any) -> None:
    assert same_job(make.job(Meta=empty), make.job())


def test_marks_say_whose_template_it_is_and_where_it_stands() -> None:
    job = inject(strip(make.job(), INSTANCE), {("web", "server"): part(3)}, INSTANCE)
    (placed,) = placed_marks(job, INSTANCE)
    assert (placed.group, placed.task, placed.key, placed.intact) == ("web", "server", owner().key, True)
    assert placed.mark.pin is not None
    assert placed.mark.pin.version == 3
    assert read_mark(make.template()) is None
