"""`flopscope whatif MODEL REWRITE...`: the model rewritten, checked, measured and ranked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from flopscope.commands import options
from flopscope.commands.compare import check_files, comparison_form, comparison_forms, require_trust, show
from flopscope.commands.requests import Request
from flopscope.commands.streams import reserved_stdout
from flopscope.commands.usage import Command, Misuse
from flopscope.commands.voices import Voice, captured_warnings

if TYPE_CHECKING:
    from flopscope.comparison import Comparison

_EXAMPLES = """\b
Examples:
  flopscope whatif zoo:mobilenet_v3_large --threads 1
  flopscope whatif model.pt fold-bn channels-last threads=1
  flopscope whatif timm:repvgg_a0 reparametrise
  flopscope whatif zoo:efficientnet_b4 mbconv-to-fused=stages.0,stages.1
\b
Rewrites: fold-bn reparametrise merge-branches (the same function, checked)
  channels-last bf16 compile threads=N batch=N (another way to run it)
  dw-to-pconv mbconv-to-fused dw-to-conv drop-se (ANOTHER function, fresh weights)
Without any, all that apply but compile and batch.
"""


@click.command(cls=Command, epilog=_EXAMPLES, short_help="Rewrite MODEL, measure what that gains.")
@click.argument("words", nargs=-1, metavar="MODEL [REWRITE...]", type=click.Path())
@options.model_options
@options.latency_options
@options.count_options
@options.effort_options
@comparison_forms
@options.message_options
def whatif(words: tuple[str, ...], **given: Any) -> None:
    """Rewrite copies of MODEL, check what the rewrites promise, and rank them by measured gain.

    Each rewrite is done alone, and those that keep the function together as well. All are timed in
    turns of one run. A first, rough ranking is given on stderr.
    """
    voice, form = Voice.of(given), comparison_form(given)
    if not words:
        raise Misuse("MODEL is missing.", hint="flopscope whatif model.pt fold-bn     (all options: --help)")
    for name in ("train", "optimizer"):
        if given[name]:
            raise Misuse(f"--{name} does not go with whatif.", hint="flopscope compare times training steps")
    if given["machine"]:
        raise Misuse(
            "--machine does not go with whatif.", hint="ratios are held against no roof: leave it out"
        )
    check_files(words[:1], given)
    request = Request.of(words[0], given)
    model, inputs = request.opened_model(voice)
    found = _supposed(model, inputs, words[1:], request, voice)
    show(found, form, voice, words[:1], given)
    require_trust(found, given)


def _supposed(model: Any, inputs: Any, names: tuple[str, ...], request: Request, voice: Voice) -> Comparison:
    from flopscope.contests import whatif as suppose
    from flopscope.progress import shown

    def early(rough: Comparison) -> None:
        voice.note(f"so far, roughly: {rough.ranking_text()}; measuring on")

    with captured_warnings(voice), reserved_stdout(), shown(False if voice.quiet else None) as told:
        return suppose(
            model,
            inputs,
            *names,
            device=request.device,
            dtype=request.dtype,
            threads=request.threads,
            channels_last=request.channels_last,
            latency=request.latency,
            effort=request.effort,
            max_seconds=request.max_seconds,
            seed=request.seed,
            progress=told,
            early=None if voice.quiet else early,
        )
