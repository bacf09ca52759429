"""The group of all commands: `flopscope COMMAND ...`."""

from __future__ import annotations

import difflib
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from flopscope.commands.check import check
from flopscope.commands.compare import compare
from flopscope.commands.doctor import doctor
from flopscope.commands.machine import machine
from flopscope.commands.ops import ops
from flopscope.commands.report import report
from flopscope.commands.usage import Misuse, misuse
from flopscope.commands.view import view
from flopscope.commands.voices import Voice
from flopscope.commands.whatif import whatif
from flopscope.commands.why import why
from flopscope.commands.zoo import zoo
from flopscope.version import __version__

_HELP = """What each layer of a PyTorch model costs, what it takes on this machine, and why.

\b
MODEL is a file (torch.save of a whole module, .pt2, a saved report)
or an address:
  zoo:fasternet_t0   torchvision:resnet18   timm:fasternet_t0
  pkg.mod:callable   file.py:callable       file.py:build?width=64
  op:pconv?channels=64&size=56
"""

_EXAMPLES = """\b
Examples:
  flopscope report model.pt --csv
  flopscope report torchvision:mobilenet_v3_large -i 1,3,224,224
  flopscope report net.py:build --no-latency --by kind
  flopscope report model.pt -o report.json -o layers.csv
  flopscope why model.pt features.1.conv
  flopscope compare zoo:mobilenet_v2 zoo:fasternet_t0 --threads 1
  flopscope whatif model.pt fold-bn channels-last
  flopscope view report.json --sort latency_s --top 10
  flopscope check model.pt --budget 'macs<=600M' --budget 'params<=6M'
\b
Exit codes:
  0 done   1 a budget or a gate failed   2 usage   3 model not loadable or refused
  4 the model failed to run   5 with --strict: ops without a price, or an unreliable measurement
  130 interrupted
"""


class Porch(click.Group):
    """A group that words usage errors as flopscope words all its errors."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command line; end with its exit code where `standalone_mode` says so."""
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        try:
            found = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        except click.ClickException as wrong:
            message, hint = misuse(wrong)
            Voice.of({}).error(message, hint=hint)
            sys.exit(wrong.exit_code)
        except (click.Abort, KeyboardInterrupt):
            sys.exit(130)
        sys.exit(found if isinstance(found, int) else 0)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments; without any, show the help where errors go."""
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help(), err=True)
            ctx.exit(2)
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands, as they were added: the main one first."""
        del ctx
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; where there is none of that name, say what may have been meant."""
        if not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            raise _unknown(args, self.list_commands(ctx))
        return super().resolve_command(ctx, args)


@click.group(
    cls=Porch,
    help=_HELP,
    epilog=_EXAMPLES,
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, message="flopscope %(version)s")
def porch() -> None:
    """Open the house."""


for _command in (report, why, compare, whatif, view, check, ops, machine, doctor, zoo):
    porch.add_command(_command)


def _unknown(args: Sequence[str], commands: Sequence[str]) -> Misuse:
    name = args[0]
    if ":" in name or Path(name).suffix or Path(name).exists():
        return Misuse(f"{name!r} is no command.", hint=f"flopscope report {shlex.join(args)}")
    near = difflib.get_close_matches(name, commands, 1)
    hint = f"did you mean {near[0]}?" if near else f"commands: {', '.join(commands)}"
    return Misuse(f"no such command: {name!r}.", hint=hint)
