"""`validate` and `crd`: what needs no server."""

from typing import Annotated

import typer

from secretbinding.cli.console import emit
from secretbinding.cli.options import Files, Namespace, SourceName
from secretbinding.sources.files import load


def validate(
    filename: Files,
    source: Annotated[
        SourceName,
        typer.Option(help="Check for this source; one manifest must fit in a Nomad variable (64 KiB) with `nomad`."),
    ] = SourceName.FILES,
    namespace: Namespace = "default",
) -> int:
    """Check manifests without a server: every fault, with file, line, field and remedy.

    Examples:

      secretbinding validate -f payments.yaml

      secretbinding validate -f bindings/ --source nomad

      kubectl get nsb -o yaml | secretbinding validate -f -
    """
    for loaded in load(filename, nomad_namespace=namespace, source=source.value):
        key = loaded.item.key
        line, _ = loaded.document.place(loaded.prefix)
        emit(f"{loaded.file}:{line}: {key.tenant}/{key.name} is valid")
    return 0


def crd() -> int:
    """Print the CustomResourceDefinition of SecretBinding.

    Example:

      secretbinding crd | kubectl apply --server-side -f -
    """
    from secretbinding.models.crd import crd_yaml

    emit(crd_yaml())
    return 0
