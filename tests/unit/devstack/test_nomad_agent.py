"""How a real Nomad agent is started, with a program that stands for Nomad."""

from pathlib import Path

import pytest

from secretbinding.devstack.nomad_agent import NomadAgent
from secretbinding.devstack.processes import ProcessError


def test_an_agent_that_did_not_start_is_tried_again_with_nothing_of_the_first_try(tmp_path: Path) -> None:
    program = tmp_path / "nomad"
    program.write_text("#!/bin/sh\nls -A data | wc -l >> seen\ntouch data/server-id\nexit 1\n")
    program.chmod(0o755)
    agent = NomadAgent(tmp_path / "dir", vault_address="http://127.0.0.1:1", program=str(program))
    try:
        with pytest.raises(ProcessError):
            agent.start(timeout_seconds=5)
        assert (tmp_path / "dir" / "seen").read_text().split() == ["0"] * 3
    finally:
        agent.stop()
