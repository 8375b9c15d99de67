"""Whether the controller's credentials that are there already are still good."""

from secretbinding.cli.servers import servers, with_tokens
from secretbinding.errors import Denied, Rejected
from secretbinding.ops.bootstrap.credentials import Credential, FileStep, Store, plan_files
from secretbinding.ops.bootstrap.target import Target
from secretbinding.settings import Settings


def credential_files(settings: Settings, target: Target, store: Store | None, *, renew: bool) -> tuple[FileStep, ...]:
    """What is to be done with each of the controller's credentials; nothing without a place for them. Each that is
    there is tried on its server."""
    if store is None:
        return ()

    def accepts(credential: Credential, value: str) -> bool:
        match credential:
            case Credential.VAULT_TOKEN:
                return _accepts_vault(settings, value, target.scope.name)
            case Credential.NOMAD_TOKEN:
                return _accepts_nomad(settings, value, target.scope.name)
            case _:
                # A role ID is no secret, and a secret ID cannot be tried without the risk of using it up.
                return True

    return plan_files(target, store, renew=renew, accepts=accepts)


def _accepts_vault(settings: Settings, token: str, policy: str) -> bool:
    try:
        with servers(with_tokens(settings, vault=token)) as connected:
            return policy in connected.vault.own_token().policies
    except (Denied, Rejected):
        return False


def _accepts_nomad(settings: Settings, token: str, policy: str) -> bool:
    try:
        with servers(with_tokens(settings, nomad=token)) as connected:
            found = connected.nomad.own_token()
            return found is not None and policy in found.policies
    except (Denied, Rejected):
        return False
