"""The `transit` entry: the right to use a key of a transit engine."""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from secretbinding.models.base import Rule
from secretbinding.models.kinds.base import KindSpec, given_twice
from secretbinding.models.kinds.types import KeyName
from secretbinding.models.types import Mount


class TransitOperation(StrEnum):
    """What tasks may do with a key; one path of the engine each, two for DataKey's sorts."""

    ENCRYPT = "Encrypt"
    DECRYPT = "Decrypt"
    REWRAP = "Rewrap"
    SIGN = "Sign"
    VERIFY = "Verify"
    HMAC = "Hmac"
    DATA_KEY = "DataKey"
    WRAPPED_DATA_KEY = "WrappedDataKey"
    READ_KEY = "ReadKey"


class TokenDelivery(StrEnum):
    """How a task gets the Vault token that its right hangs on."""

    FILE = "File"
    ENV = "Env"
    WITHHELD = "Withheld"


class Transit(KindSpec):
    """The right to use a key of a transit engine. There is nothing to render: tasks call Vault themselves."""

    gives_fields = False

    mount: Mount
    """Mount of the transit engine."""
    key: KeyName
    """Name of the key, which has to be there."""
    operations: Annotated[
        tuple[TransitOperation, ...],
        Field(min_length=1, max_length=9, json_schema_extra={"x-kubernetes-list-type": "set"}),
    ]
    """What the tasks may do with it. DataKey shows the new key in the clear, WrappedDataKey only encrypted; ReadKey
    shows its versions and public parts."""
    token: TokenDelivery = TokenDelivery.FILE
    """File: Nomad keeps the task's Vault token in secrets/vault_token. Env: it is VAULT_TOKEN, and the task is
    restarted when it changes. Withheld: the task gets one in another way."""

    rules = (
        Rule(
            message="an operation is given twice",
            remedy="give each operation once",
            check=lambda obj: given_twice(obj, "operations", "operation"),
        ),
    )

    def identity(self) -> list[Any]:
        return [self.mount, self.key]
