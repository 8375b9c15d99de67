"""Files in a format: what Nomad renders of a secret is what a reader of the format gets."""

import pytest

from secretbinding.models.binding import FileFormat
from secretbinding.render.formats import chosen, whole
from tests.conformance.nomad import Nomad, file_template, job, vault_task
from tests.support.readers import NASTY, read

DATA = ".Data.data"


def test_every_format_gives_the_values_back(nomad: Nomad, unique: str) -> None:
    nomad.stack.openbao.put_secret(unique, NASTY)
    nomad.grant(unique, unique)
    texts = {item: chosen(item, DATA, {name: name for name in NASTY}) for item in FileFormat}
    templates = [
        file_template(f'{{{{ with secret "secret/data/{unique}" }}}}{text}{{{{ end }}}}', DestPath=f"local/{name}")
        for name, text in texts.items()
    ]
    nomad.register(job(unique, vault_task(unique, [{**one, "ErrMissingKey": True} for one in templates])))
    allocation = nomad.wait_allocation(unique, "running")
    for file_format in FileFormat:
        assert read(file_format, nomad.file(allocation, f"t/local/{file_format}"), NASTY) == NASTY, file_format


@pytest.mark.parametrize("file_format", [FileFormat.JSON, FileFormat.YAML])
def test_all_fields_come_with_their_types(nomad: Nomad, unique: str, file_format: FileFormat) -> None:
    secret = {"s": "x", "n": 42, "f": 1.5, "t": True, "none": None, "list": ["a", {"b": 1}], "db-pass": "\x7f"}
    nomad.stack.openbao.put_secret(unique, secret)
    nomad.grant(unique, unique)
    text = f'{{{{ with secret "secret/data/{unique}" }}}}{whole(file_format, DATA)}{{{{ end }}}}'
    nomad.register(job(unique, vault_task(unique, [file_template(text)])))
    assert read(file_format, nomad.file(nomad.wait_allocation(unique, "running"), "t/local/out"), []) == secret
