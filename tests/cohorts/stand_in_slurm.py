"""Commands that do what Slurm's do, with processes of this machine.

`sbatch` starts the script that it is given, `squeue` tells the jobs that still run,
`scancel` ends them. What was asked of `sbatch` is kept for a test to read.
"""

from __future__ import annotations

from pathlib import Path

SBATCH = """#!/bin/bash
set -eu
if [ "$1" = --test-only ]; then
    cp "$2" "{folder}/asked.sh"
    [ ! -e "{folder}/refusal" ] || {{ cat "{folder}/refusal" >&2; exit 1; }}
    exit 0
fi
script="{folder}/job.$$.sh"
cp "$1" "$script"
setsid bash "$script" >"{folder}/out.$$.txt" 2>&1 </dev/null &
echo "$!" >> "{folder}/jobs"
echo "Submitted batch job $!"
"""
SQUEUE = """#!/bin/bash
for word in "$@"; do
    case $word in --jobs=*) jobs=${{word#--jobs=}} ;; esac
done
for job in ${{jobs//,/ }}; do
    kill -0 "$job" 2>/dev/null && echo "$job"
done
exit 0
"""
SCANCEL = """#!/bin/bash
echo "$1" >> "{folder}/cancelled"
kill -KILL -- "-$1" 2>/dev/null || exit 1
"""


def write_slurm(folder: Path) -> Path:
    """Write the three commands into a folder, for a PATH, and return it."""
    folder.mkdir()
    commands = {"sbatch": SBATCH, "squeue": SQUEUE, "scancel": SCANCEL}
    for name, script in commands.items():
        command = folder / name
        command.write_text(script.format(folder=folder))
        command.chmod(0o755)
    return folder
