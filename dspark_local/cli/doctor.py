"""`dspark-local doctor`: what works on this machine, what does not, and what to do."""

from __future__ import annotations

import click

from dspark_local.cli.checks import CHECKS, Finding, Level

_COLOURS = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "red"}


@click.command("doctor")
def command() -> int:
    """Say what works on this machine, what does not, and what to do. Exit code 1 if something essential fails."""
    findings = []
    for check in CHECKS:
        for finding in check():
            click.echo(line(finding))
            findings.append(finding)
    return 1 if any(f.level == Level.FAIL for f in findings) else 0


def line(finding: Finding) -> str:
    """A finding as one line; colours are left out where there is no terminal."""
    level = click.style(f"{finding.level.value:<4}", fg=_COLOURS[finding.level])
    remedy = f" → {finding.remedy}" if finding.remedy else ""
    return f"{level}  {finding.subject:<16} {' '.join(finding.found.split())}{remedy}"
