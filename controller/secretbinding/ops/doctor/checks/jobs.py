"""Checks of jobs, registered ones and files, whether a binding names them or not."""

from collections.abc import Iterator, Mapping
from typing import Any

from secretbinding.ops.doctor.facts import Facts, Unknown
from secretbinding.ops.doctor.findings import Finding, Severity, check
from secretbinding.ops.doctor.literals import literal_secrets
from secretbinding.ports import Json


@check("literal-secret", "No job carries a literal secret in the `env` of a task.")
def literal_secret(facts: Facts) -> Iterator[Finding | Unknown]:
    for given in facts.job_files:
        yield from _in_job(given.job, f"{given.file}: job {given.job.get('ID')}", "the file's env block")
    if isinstance(facts.nomad.jobs, Unknown):
        yield facts.nomad.jobs
        return
    if facts.nomad.jobs_hidden is not None:
        yield facts.nomad.jobs_hidden
    for job in facts.nomad.jobs:
        name = f"job {job.get('Namespace')}/{job.get('ID')}"
        yield from _in_job(job, name, f"/v1/job/{job.get('ID')}: Env, which everybody with read-job can read")


def _in_job(job: Json, name: str, how: str) -> Iterator[Finding]:
    for group in job.get("TaskGroups") or []:
        for task in group.get("Tasks") or []:
            variables: Mapping[str, Any] = task.get("Env") or {}
            for variable, why in literal_secrets({key: str(value) for key, value in variables.items()}).items():
                yield Finding(
                    Severity.WARNING,
                    f"{name}, task {group.get('Name')}/{task.get('Name')}",
                    f"{variable} looks like a literal secret: {why}",
                    how,
                    f"put a new value into Vault, and take {variable} out of the job; a binding gives it to the "
                    f"task by `env: {{{variable}: FIELD}}`",
                )


CHECKS = (literal_secret,)
