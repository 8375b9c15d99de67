"""Which templates of a task may be rendered once only, given what stands beside them."""

from collections.abc import Iterable
from dataclasses import replace

from secretbinding.job.marks import read_mark
from secretbinding.ports import Json
from secretbinding.render.template import TemplateBlock


class Mixture:
    """The templates of one task by how they are rendered.

    Nomad (since 1.10.2) renders templates with `Once` and those without by two managers. Each sets the task's
    environment from its own env templates only, so that of a mixed task with any env template the variables of one kind
    are lost. There all templates have to be of one kind.
    """

    def __init__(self, fixed: Iterable[Json]) -> None:
        """`fixed` are templates that stay as they are."""
        self._once = False
        self._again = False
        self._env = False
        for template in fixed:
            self.add(template)

    def add(self, template: Json) -> None:
        """One more template that stays as it is."""
        self._env = self._env or bool(template.get("Envvars"))
        found = read_mark(template)
        # A Nomad that does not keep `Once` mixes nothing; there the mark says how the template was meant.
        if template.get("Once", found is not None and found[0].once):
            self._once = True
        else:
            self._again = True

    def add_ours(self, blocks: Iterable[TemplateBlock]) -> None:
        """Templates of ours, which render again where they must."""
        for block in blocks:
            self._env = self._env or block.env
            self._again = self._again or not block.once

    def clashes(self, blocks: Iterable[TemplateBlock]) -> bool:
        """True when no choice for these templates of ours keeps the variables safe."""
        blocks = tuple(blocks)
        again = self._again or any(not block.once for block in blocks)
        env = self._env or any(block.env for block in blocks)
        return env and again and self._once

    def settled(self, block: TemplateBlock) -> TemplateBlock:
        """The template as it can stand here, once everything has been added."""
        return replace(block, once=False) if self._env and self._again and block.once else block
