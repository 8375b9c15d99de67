"""The metadata of many KV secrets with one request, where the server can (OpenBao)."""

from collections.abc import Mapping

from secretbinding.adapters.transport import unexpected
from secretbinding.adapters.vault.adapter import VaultAdapter
from secretbinding.adapters.vault.kv import metadata_of
from secretbinding.adapters.vault.shapes import data_of, keys_of, mapping
from secretbinding.errors import NotFound
from secretbinding.ports import KvMetadata


class ListingVaultAdapter(VaultAdapter):
    """The Vault adapter, with OpenBao's lists of metadata."""

    def kv_folder(self, mount: str, path: str) -> Mapping[str, KvMetadata] | None:
        """The metadata of all secrets directly in a folder of a KV v2 mount, by name; `path` "" is the mount's root.

        `LIST <mount>/detailed-metadata/<path>`: the answer has `key_info`, by key, beside the `keys` of any list. None
        when the folder is empty or not there, and when the server has no such list (HashiCorp Vault): both are 404.
        """
        mount = mount.strip("/")
        folder = f"{mount}/detailed-metadata/{path}".rstrip("/")
        call = self._call("kv_metadata_list", f"list metadata of {mount}/{path}", folder, "list")
        try:
            body = self._asker.list(call, folder)
        except NotFound:
            return None
        found = data_of(body, call)
        names = [key for key in keys_of(body, call) if not key.endswith("/")]
        info = mapping(found.get("key_info") or {}, call)
        if not all(isinstance(info.get(name), dict) and "versions" in info[name] for name in names):
            raise unexpected("vault", call, "a list without metadata")
        now = self.clock.at_latest()
        return {name: metadata_of(info[name], now, call) for name in names}
