"""Carry a plan out, action by action, in its order; the first failure ends it."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

import structlog

from secretbinding.desired.approles import BringSecretIds, DropSecretIds
from secretbinding.engine.bringing import Bringer
from secretbinding.engine.generator import Generator
from secretbinding.engine_roles import DeleteEngineRole, WriteEngineRole
from secretbinding.errors import Denied, NotFound, NotLeading, Rejected, ServiceError
from secretbinding.generation import GenerateValue, Made
from secretbinding.job.inject import to_register
from secretbinding.kinds import Fault
from secretbinding.models.key import BindingKey
from secretbinding.naming import is_app_role
from secretbinding.plan import (
    Action,
    DeletePolicy,
    DeleteRole,
    EvaluateJob,
    Plan,
    RegisterJob,
    TagVersion,
    UntagVersion,
    WritePolicy,
    WriteRole,
)
from secretbinding.plan_names import askers, changed_names
from secretbinding.plan_text import describe
from secretbinding.ports import Json, Nomad, Vault
from secretbinding.render.agent import AgentDefaults
from secretbinding.status import fault_of
from secretbinding.trail import asked

_log = structlog.get_logger(__name__)


class Applier:
    """Writes through the two ports. `on_action` is called after each action that was done; `may_write` is asked before
    each whether the job is still this controller's; `bindings` are those of the workload, which the trail of changes
    names."""

    def __init__(
        self,
        vault: Vault,
        nomad: Nomad,
        *,
        jwt_mount: str,
        approle_mount: str = AgentDefaults().approle_mount,
        on_action: Callable[[Action], None] = lambda action: None,
        generator: Generator | None = None,
        instance: str = "default",
        bindings: Iterable[BindingKey] = (),
        may_write: Callable[[], bool] = lambda: True,
    ) -> None:
        self.made: list[Made] = []
        self._generator = generator or Generator(vault)
        self._vault = vault
        self._nomad = nomad
        self._jwt_mount = jwt_mount
        self._approle_mount = approle_mount
        self._on_action = on_action
        self._instance = instance
        self._bindings = tuple(bindings)
        self._may_write = may_write
        self.refused: dict[str, Fault] = {}
        """The roles of engines, by path, and where several bindings have a part in the job the policies, by name, whose
        write was refused."""

    def apply(self, plan: Plan, namespace: str, job_id: str) -> bool:
        """Do all of it. Raises `errors.ServiceError` subclasses and `errors.NotLeading`; what was done before stays
        done, and the next pass goes on from there: rights are widened first, so that no step leaves a task without what
        it needs.

        False when the rest of the plan has to be decided anew, and is not done: a role of an engine or a policy was
        refused (`refused`), which is its binding's fault and no one else's, or a role tells more now that it is there.
        """
        for action in plan.actions:
            if not self._may_write():
                raise NotLeading
            with self._asked(action, namespace, job_id):
                done = self._done(action, namespace, job_id)
            if done is None:
                continue
            if not done:
                return False
            self._on_action(action)
            if isinstance(action, WriteEngineRole) and action.ends_the_look:
                return action is plan.actions[-1]
        return True

    def _done(self, action: Action, namespace: str, job_id: str) -> bool | None:
        """None for a value that was not made, which nothing waits for; False for a role that was refused."""
        if isinstance(action, GenerateValue):
            made = self._generator.make(action)
            if not made:
                return None
            self.made.extend(made)
        elif isinstance(action, WriteEngineRole):
            role = action.role
            return self._unless_refused(role.path, lambda: self._vault.write_engine_role(role.path, role.body))
        elif isinstance(action, WritePolicy) and len(self._bindings) > 1:
            return self._unless_refused(action.name, lambda: self._do(action, namespace, job_id))
        else:
            self._do(action, namespace, job_id)
        return True

    def _asked(self, action: Action, namespace: str, job_id: str) -> AbstractContextManager[None]:
        """What the trail of changes says of the writes of an action."""
        return asked(
            action=describe(action),
            bindings=askers(action, self._instance, self._bindings),
            changed=changed_names(action, self._instance),
            workload=f"{namespace}/{job_id}",
        )

    def _unless_refused(self, name: str, write: Callable[[], None]) -> bool:
        try:
            write()
        except (Denied, NotFound, Rejected) as error:
            self.refused[name] = fault_of(error)
            return False
        return True

    def _do(self, action: Action, namespace: str, job_id: str) -> None:
        match action:
            case WritePolicy(name=name, text=text):
                self._vault.write_policy(name, text)
            case DeletePolicy(name=name):
                self._vault.delete_policy(name)
            case BringSecretIds():
                bringer = Bringer(self._vault, self._nomad, mount=action.mount)
                bringer.bring(action, namespace)
            case DropSecretIds(path=path):
                self._nomad.delete_variable(namespace, path)
            case WriteRole(name=name, body=body) if is_app_role(name):
                self._vault.write_app_role(self._approle_mount, name, body)
            case DeleteRole(name=name) if is_app_role(name):
                self._vault.delete_app_role(self._approle_mount, name)
            case WriteRole(name=name, body=body):
                self._vault.write_jwt_role(self._jwt_mount, name, body)
            case DeleteRole(name=name):
                self._vault.delete_jwt_role(self._jwt_mount, name)
            case EvaluateJob():
                self._nomad.evaluate(namespace, job_id)
            case DeleteEngineRole(path=path):
                self._vault.delete_engine_role(path)
            case TagVersion(version=version, name=name, description=description):
                self._tag(namespace, job_id, version, name, description)
            case UntagVersion(name=name):
                self._nomad.untag_version(namespace, job_id, name)
            case RegisterJob(job=job, before=before, modify_index=modify_index):
                self._nomad.register(
                    to_register(job), modify_index=modify_index, submission=self._submission(namespace, job_id, before)
                )

    def _tag(self, namespace: str, job_id: str, version: int, name: str, description: str) -> None:
        """Nomad cannot address the tags of a job whose ID holds a slash, and knows none before 1.9: then the failure is
        remembered only as long as Nomad keeps the deployment (an hour)."""
        try:
            self._nomad.tag_version(namespace, job_id, version, name, description)
        except (Rejected, NotFound) as error:
            _log.warning("failed version cannot be tagged", namespace=namespace, job=job_id, error=str(error))

    def _submission(self, namespace: str, job_id: str, before: Json) -> Json | None:
        """The source that the user's version was registered from, carried along so that Nomad's UI still shows it."""
        try:
            return self._nomad.submission(namespace, job_id, int(before.get("Version") or 0))
        except ServiceError:
            return None
