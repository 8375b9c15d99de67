"""`validate` and `crd`: what needs no server."""

from typing import Annotated

import typer

from secretbinding.cli.allowing import read_policies, refused, suggested
from secretbinding.cli.console import emit, error
from secretbinding.cli.options import Files, Namespace, SourceName
from secretbinding.sources.files import load


def validate(
    filename: Files,
    source: Annotated[
        SourceName,
        typer.Option(help="Check for this source; one manifest must fit in a Nomad variable (64 KiB) with `nomad`."),
    ] = SourceName.FILES,
    namespace: Namespace = "default",
    policies: Annotated[
        list[str] | None,
        typer.Option(
            "--policies",
            metavar="FILE|DIR",
            help="Check besides what these SecretBindingPolicies allow. May be repeated.",
            show_default=False,
        ),
    ] = None,
    suggest_policy: Annotated[
        bool, typer.Option("--suggest-policy", help="Print the least policy that allows the manifests, and end.")
    ] = False,
) -> int:
    """Check manifests without a server: every fault, with file, line, field and remedy.

    Examples:

      secretbinding validate -f payments.yaml

      secretbinding validate -f bindings/ --source nomad

      secretbinding validate -f payments.yaml --source kubernetes --policies policies/

      secretbinding validate -f payments.yaml --source kubernetes --suggest-policy

      kubectl get nsb -o yaml | secretbinding validate -f -
    """
    rules = read_policies(policies) if policies else None
    found = load(filename, nomad_namespace=namespace, source=source.value)
    if suggest_policy:
        emit("---\n".join(suggested(found, rules or ())).rstrip("\n"))
        return 0
    problems = [problem for loaded in found for problem in refused(loaded, rules)] if rules is not None else []
    for problem in problems:
        error(str(problem))
    for loaded in found:
        key = loaded.item.key
        line, _ = loaded.document.place(loaded.prefix)
        if not problems:
            emit(f"{loaded.file}:{line}: {key.tenant}/{key.name} is valid")
    return 1 if problems else 0


def crd() -> int:
    """Print the CustomResourceDefinitions of SecretBinding and SecretBindingPolicy.

    Example:

      secretbinding crd | kubectl apply --server-side -f -
    """
    from secretbinding.models.crd import all_yaml

    emit(all_yaml())
    return 0
