"""The configurations of Nomad in `deploy/nomad/`: Nomad takes them as they are."""

import subprocess
from pathlib import Path

import pytest

from secretbinding.devstack.nomad_agent import find_nomad
from tests.support.servers import Stack

NOMAD = Path(__file__).parents[2] / "deploy" / "nomad"
OF_AN_AGENT = {
    "client": "client {\n  enabled = true\n}\n",
    "client-before-1.10": "client {\n  enabled = true\n}\n",
    "server": "server {\n  enabled          = true\n  bootstrap_expect = 1\n}\n",
}


def test_each_file_is_tried_here() -> None:
    assert {path.name for path in NOMAD.glob("*.hcl")} == {f"{name}.hcl" for name in OF_AN_AGENT} | {
        "controller.nomad.hcl"
    }


def test_the_controllers_job_is_one_that_nomad_takes(stack: Stack) -> None:
    text = (NOMAD / "controller.nomad.hcl").read_text()
    job = stack.api.put("/v1/jobs/parse", {"JobHCL": text, "Canonicalize": True}).expect().json()
    told = stack.api.put("/v1/validate/job", {"Job": job}).expect().json()
    assert not told["ValidationErrors"]
    assert not told["Warnings"]


@pytest.mark.real_nomad
@pytest.mark.parametrize("name", list(OF_AN_AGENT))
def test_an_agent_takes_the_block_beside_its_own_configuration(name: str, tmp_path: Path) -> None:
    program = find_nomad()
    if program is None:
        pytest.skip("no `nomad` on PATH: nothing says whether its agent takes the configuration")
    own = tmp_path / "agent.hcl"
    own.write_text(f'data_dir = "{tmp_path}"\n{OF_AN_AGENT[name]}')
    command = [program, "config", "validate", str(own), str(NOMAD / f"{name}.hcl")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    wrong = tmp_path / "wrong.hcl"
    wrong.write_text((NOMAD / f"{name}.hcl").read_text().replace("true", "[maybe]"))
    done = subprocess.run([*command[:-1], str(wrong)], capture_output=True, text=True, check=False)
    assert done.returncode != 0, "it takes anything"
