"""A template's change script, run beside its task."""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def run_change_script(script: Mapping[str, Any], env: Mapping[str, str], directory: Path) -> tuple[bool, str]:
    """Run it in the task's directory with the task's environment: whether it worked, and what Nomad says about it."""
    command, arguments = script["Command"], f"[{' '.join(script['Args'] or [])}]"
    try:
        done = subprocess.run(
            [command, *(script["Args"] or [])],
            env=dict(env),
            cwd=directory,
            timeout=script["Timeout"] / 1e9,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        text = f"Template failed to run script {command} with arguments {arguments} on change: {error}. Exit code: 0"
        return False, text
    if done.returncode != 0:
        text = (
            f"Template ran script {command} with arguments {arguments} on change but it exited with code: "
            f"{done.returncode}"
        )
        return False, text
    return True, f"Template successfully ran script {command} with arguments: {arguments}. Exit code: 0"
