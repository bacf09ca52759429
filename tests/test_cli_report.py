"""`report`, in this process, on tiny models; the messages for the commonest mistakes, word for word."""

from __future__ import annotations

import csv
import importlib
import io
import json
import re
import sys
import warnings
from pathlib import Path

import pytest
import torch
from command_lines import NET, CommandLine, Said
from torch import nn

import flopscope
from flopscope import profiling
from flopscope.commands import options, porch

LOOK_AHEAD = ("--no-latency", "-q", "--csv", "--columns", "path,macs")


@pytest.fixture
def flop(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    monkeypatch.chdir(tmp_path)
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    Path("net.py").write_text(NET, encoding="utf-8")
    return CommandLine(capsys)


@pytest.fixture
def net(flop: CommandLine) -> str:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    torch.save(net, "net.pt")
    return "net.pt"


def table(said: Said) -> list[dict[str, str]]:
    assert said.code == 0, said.err
    return list(csv.DictReader(io.StringIO(said.out)))


# --------------------------------------------------------------------------- models and inputs


def test_the_first_command_of_a_user_runs_as_it_stands(flop: CommandLine, net: str) -> None:
    """`flopscope report model.pt --csv`: measured, with an input that nobody gave."""
    said = flop("report", net, "--csv", "--max-seconds", "0.05", "--threads", "1")
    rows = {row["path"]: row for row in table(said)}
    # Conv2d(3, 4, 1) on 224 x 224: 3 * 4 * 224 * 224 MACs; Linear(4, 2): 8.
    assert [int(rows[path]["macs"]) for path in ("0", "4")] == [602112, 8]
    assert all(float(row["latency_s"]) > 0 for row in rows.values())
    assert said.err == "note:  no input was given; 1x3x224x224 was inferred from the model\n"


def test_an_input_that_is_given_is_used_and_not_talked_about(flop: CommandLine, net: str) -> None:
    said = flop("report", net, "-i", "2,3,8,8", "--no-latency", "--csv", "--columns", "path,macs,latency_s")
    assert table(said)[0] == {"path": "0", "macs": "1536", "latency_s": ""}  # 2 * 3 * 4 * 8 * 8
    assert said.err == ""


def test_named_inputs_and_arguments(flop: CommandLine) -> None:
    said = flop("report", "net.py:Two", "-i", "x=5,4", "-i", "mask=5,4:bool", *LOOK_AHEAD)
    assert table(said)[0] == {"path": "a", "macs": "80"}  # 5 rows * 4 * 4
    # Conv2d(3, 6, 1) on 2 x 2: 3 * 6 * 4
    said = flop("report", "net.py:build", "--arg", "width=6", "-i", "1,3,2,2", *LOOK_AHEAD)
    assert table(said)[0] == {"path": "0", "macs": "72"}


def test_the_report_names_the_address_that_gives_the_model_again(flop: CommandLine) -> None:
    said = flop("report", "net.py:build", "--arg", "width=6", "-i", "1,3,2,2", "--json", "--no-latency")
    top = json.loads(said.out)
    assert (top["model"], top["loaded_by"]) == ("net.py:build?width=6", "import")
    address = top["model"]
    again = json.loads(flop("report", address, "-i", "1,3,2,2", "--json", "--no-latency").out)
    assert again["layers"] == top["layers"]


def test_options_of_the_run_reach_the_report(flop: CommandLine, net: str) -> None:
    said = flop(
        "report", net, "-i", "1,3,8,8", "--dtype", "bfloat16", "--channels-last", "--device", "cpu",
        "--seed", "3", "--effort", "quick", "--no-latency", "--json",
    )  # fmt: skip
    settings = json.loads(said.out)["settings"]
    expected = {"dtype": "bfloat16", "channels_last": True, "device": "cpu", "seed": 3, "effort": "quick"}
    assert {name: settings[name] for name in expected} == expected
    assert json.loads(said.out)["layers"][0]["dtype"] == "bfloat16"


def test_efforts_are_those_of_profile() -> None:
    assert tuple(profiling.EFFORTS) == options.EFFORTS


def test_counts_do_not_depend_on_whether_it_was_measured(flop: CommandLine) -> None:
    asked = (
        "report",
        "net.py:build",
        "-i",
        "1,3,8,8",
        "--csv",
        "--columns",
        "path,kind,macs,flops,bytes_read",
    )
    assert flop(*asked, "--no-latency").out == flop(*asked, "--max-seconds", "0.02").out


def test_a_forward_that_looks_at_values_is_run_after_all(flop: CommandLine) -> None:
    said = flop("report", "net.py:Looks", "-i", "2,4", "--no-latency", "--csv", "--columns", "path,macs")
    rows = {row["path"]: int(row["macs"]) for row in table(said)}
    assert rows["a"] == 32  # 2 rows * 4 * 4
    assert said.err.startswith("warning: counted on a real run")


def test_an_exported_graph_is_read_and_not_run(flop: CommandLine, net: str) -> None:
    exported = torch.export.export(torch.load(net, weights_only=False).eval(), (torch.zeros(1, 3, 8, 8),))
    torch.export.save(exported, "net.pt2")
    said = flop("report", "net.pt2", "--csv", "--columns", "path,macs,latency_s")
    assert table(said)[0] == {"path": "0", "macs": "768", "latency_s": ""}  # 3 * 4 * 8 * 8
    assert said.err == "note:  latency was not measured: a .pt2 file is read as plain data and never run\n"
    top = json.loads(flop("report", "net.pt2", "--json", "--no-latency", "-i", "1,3,8,8").out)
    assert (top["route"], top["loaded_by"], top["settings"]["inputs"]) == ("exported", "static", "1x3x8x8")
    wrong = flop("report", "net.pt2", "-i", "1,3,9,9")
    assert (wrong.code, wrong.out) == (4, "")
    assert wrong.err == (
        "error: net.pt2 is a graph for the input that it was exported with: 1x3x8x8\n"
        "       input was 1x3x9x9\n"
        "hint:  leave out -i, or export the model again with that input\n"
    )


def test_a_saved_report_is_shown_like_view_does(flop: CommandLine, net: str) -> None:
    assert flop("report", net, "--no-latency", "-o", "r.json").code == 0
    said = flop("report", "r.json", "--csv", "--device", "cpu")
    assert said.out == flop("view", "r.json", "--csv").out
    assert "--device had no effect" in said.err
    assert flop("check", "r.json", "-b", "macs<1G").code == 0


def test_json_keeps_to_its_schema(flop: CommandLine, net: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = Path(flopscope.__file__).parent / "schema" / "report.schema.json"
    said = flop("report", net, "--json", "-q", "--max-seconds", "0.02")
    assert said.err == ""
    jsonschema.validate(json.loads(said.out), json.loads(schema.read_text(encoding="utf-8")))


# --------------------------------------------------------------------------- trust


def test_a_file_runs_no_code_unless_it_is_told_to(
    flop: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Path("mymodel.py").write_text("from net import Two\nclass Net(Two): pass\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    torch.save(importlib.import_module("mymodel").Net(), "my.pt")
    for name in ("mymodel", "net"):
        del sys.modules[name]
    refused = flop("report", "my.pt", "--no-latency")
    assert (refused.code, refused.out) == (3, "")
    assert refused.err == (
        "error: my.pt is a pickled module; loading it would run code from outside the known libraries:\n"
        "       mymodel.Net\n"
        "hint:  best   flopscope report mymodel:Net -i 1,3,224,224\n"
        "       or     flopscope report my.pt --allow mymodel     "
        "(imports mymodel, builds only its nn.Module classes)\n"
        "       or     flopscope report my.pt --trust     "
        "(runs whatever the file says; only if you made it)\n"
    )
    assert "mymodel" not in sys.modules
    shapes = ("-i", "3,4", "-i", "3,4")
    assert table(flop("report", "my.pt", "--allow", "mymodel", *shapes, *LOOK_AHEAD))[0]["macs"] == "48"
    trusted = flop("report", "my.pt", "--trust", *shapes, *LOOK_AHEAD)
    assert re.fullmatch(r"warning: running code stored in my\.pt \(sha256 [0-9a-f]{64}\)\n", trusted.err)
    for name in ("mymodel", "net"):
        sys.modules.pop(name, None)


# --------------------------------------------------------------------------- messages


def refusal(said: Said, code: int) -> str:
    assert (said.code, said.out) == (code, "")
    return said.err


def test_weights_only(flop: CommandLine) -> None:
    torch.save(nn.Linear(4, 2).state_dict(), "w.pth")  # 8 + 2 parameters
    assert refusal(flop("report", "w.pth"), 3) == (
        "error: w.pth holds weights only (state_dict: 2 tensors, 10 parameters), not a model.\n"
        "hint:  weights are not needed to profile. Name the architecture:\n"
        "       flopscope report torchvision:resnet18 -i 1,3,224,224\n"
    )


def test_batch_missing_and_wrong_channels(flop: CommandLine, net: str) -> None:
    said = flop("report", net, "-i", "1,1,8,8", "--no-latency")
    assert refusal(said, 4) == (
        "error: forward failed at 0 (Conv2d): expected 3 channels, got 1\n"
        "       input was 1x1x8x8\n"
        "hint:  -i 1,3,8,8\n"
    )
    assert "-i 1,3,8,8" in refusal(flop("report", net, "-i", "3,8,8", "--no-latency"), 4)


def test_wrong_dtype_and_missing_argument(flop: CommandLine) -> None:
    said = refusal(flop("report", "net.py:Words", "-i", "1,8:float32", "--no-latency"), 4)
    assert said.startswith("error: forward failed at embed (Embedding): ")
    assert ":int64" in said
    said = refusal(flop("report", "net.py:Two", "-i", "1,4", "--no-latency"), 4)
    assert said.startswith("error: Two.forward() missing 1 required argument: 'mask'\n")
    assert "hint:  signature is forward(x, mask).  Give each:  -i x=1,4 -i mask=1,4:bool\n" in said


@pytest.mark.parametrize(
    ("args", "fact"),
    [
        (("-i", "1,a"), "error: -i '1,a' is not a shape"),
        (("-i", "1,3:flaot"), "error: "),
        (("--arg", "width"), "error: --arg 'width' is not of the form name=value.\n"),
        (("--threads", "0"), "error: invalid value for '--threads'"),
        (("--max-seconds", "0"), "error: invalid value for '--max-seconds'"),
        (("--effort", "much"), "error: invalid value for '--effort'"),
        (("--dtype", "float17", "--no-latency"), "error: dtype 'float17' is not known"),
        (("--device", "abacus"), "error: device 'abacus' is not known"),
        (("1,3,8,8",), "error: unexpected argument '1,3,8,8'.\nhint:  flopscope report net.pt -i 1,3,8,8\n"),
        (("--json", "o.json"), "error: unexpected argument 'o.json'. --json prints to standard output.\n"),
        (("out.json",), "error: unexpected argument 'out.json': report takes one MODEL.\n"
                        "hint:  to write a file:  -o out.json\n"),
        (("other.pt",), "error: unexpected argument 'other.pt': report takes one MODEL.\n"
                        "hint:  call it once for each MODEL\n"),
        (("-o", "net.pt"), "error: -o net.pt: no output has the suffix '.pt'"),
    ],
)  # fmt: skip
def test_usage_errors_end_with_2(flop: CommandLine, net: str, args: tuple[str, ...], fact: str) -> None:
    said = refusal(flop("report", net, *args), 2)
    assert said.startswith(fact)
    assert "\nhint:  " in said


def test_a_format_flag_before_its_supposed_file(flop: CommandLine, net: str) -> None:
    said = refusal(flop("report", "--csv", "out.csv", net), 2)
    assert said == (
        "error: unexpected argument 'out.csv'. --csv prints to standard output.\n"
        "hint:  flopscope report net.pt --csv > out.csv     or     -o out.csv\n"
    )


def test_unloadable_models_end_with_3(flop: CommandLine) -> None:
    Path("notes.txt").write_text("hello", encoding="utf-8")
    for model in ("absent.pt", "notes.txt", "net.py", "net.py:biuld", "no_such_package:f", "nonsense:1"):
        said = refusal(flop("report", model), 3)
        assert said.startswith("error: "), model
        assert "\nhint:  " in said, model
    assert "did you mean build?" in flop("report", "net.py:biuld").err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_device_that_is_not_there(flop: CommandLine, net: str) -> None:
    said = refusal(flop("report", net, "--device", "cuda"), 2)
    assert said.startswith(f"error: device cuda: this torch ({torch.__version__}) ")
    assert "--no-latency" in said
    assert flop("report", net, "--device", "cuda", "--no-latency", "-q").code == 0  # counts need no device


def test_a_model_is_not_overwritten_by_its_own_report(flop: CommandLine, net: str) -> None:
    Path("net.pt").rename("net.csv")
    before = Path("net.csv").read_bytes()
    said = refusal(flop("report", "net.csv", "-o", "net.csv", "--force", "--no-latency"), 2)
    assert said.startswith("error: -o net.csv is the MODEL itself.")
    assert Path("net.csv").read_bytes() == before


def test_strict_ends_with_5(flop: CommandLine, net: str) -> None:
    Path("odd.py").write_text(
        "import torch\n"
        "from torch import nn\n"
        "@torch.library.custom_op('cli_tests::odd', mutates_args=())\n"
        "def odd(x: torch.Tensor) -> torch.Tensor: return x.clone()\n"
        "odd.register_fake(torch.empty_like)\n"
        "class Net(nn.Module):\n"
        "    def forward(self, x): return odd(x)\n",
        encoding="utf-8",
    )
    args = ("report", "odd.py:Net", "-i", "2,8", "--no-latency")
    lenient = flop(*args)
    assert lenient.code == 0
    assert "≥" in lenient.out
    assert "cli_tests::odd" in refusal(flop(*args, "--strict"), 5)


def test_code_that_quits_does_not_quit_for_us(flop: CommandLine) -> None:
    said = flop("report", "net.py:Quits", "-i", "1,4", "--no-latency")
    assert said.code == 4
    assert said.err.startswith("error: the model's own code ended the program (SystemExit).\n")


def test_a_bug_of_ours_is_called_one(flop: CommandLine, net: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise ZeroDivisionError("of our own")

    monkeypatch.setattr(profiling, "profile", broken)
    said = refusal(flop("report", net), 1)
    assert said == (
        "error: unexpected ZeroDivisionError: of our own\n"
        "       this is a bug in flopscope.\n"
        "hint:  -v adds the traceback; please report it with that\n"
    )
    verbose = flop("report", net, "-v").err
    assert verbose.startswith(said)
    assert "Traceback (most recent call last)" in verbose
    assert "in broken" in verbose


def test_an_interrupt_ends_with_130(flop: CommandLine, net: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(profiling, "profile", interrupted)
    assert refusal(flop("report", net, "-o", "out.csv"), 130) == "error: interrupted.\n"
    assert not Path("out.csv").exists()


def test_warnings_of_python_are_shown_on_request(
    flop: CommandLine, net: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = profiling.profile

    def warning(*args: object, **kwargs: object) -> object:
        warnings.warn("old ways", FutureWarning, stacklevel=1)
        return plain(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(profiling, "profile", warning)
    args = ("report", net, "-i", "1,3,2,2", "--no-latency")
    assert "old ways" not in flop(*args).err
    assert "warning: old ways (FutureWarning, " in flop(*args, "-v").err


# --------------------------------------------------------------------------- the group


def test_help_and_version(flop: CommandLine) -> None:
    assert flop("--version").out == f"flopscope {flopscope.__version__}\n"
    top = flop("--help")
    assert top.code == 0
    for name, command in porch.porch.commands.items():
        assert f"\n  {name} " in top.out
        said = flop(name, "--help")
        assert said.code == 0
        assert "Examples:" in said.out
        for parameter in command.params:
            assert all(option in said.out for option in parameter.opts if option.startswith("--"))
    for section in ("Model and input:", "Run:", "Output:", "Table:", "Messages:"):
        assert section in flop("report", "-h").out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("model.pt",), "error: 'model.pt' is no command.\nhint:  flopscope report model.pt\n"),
        (("timm:resnet18", "--csv"),
         "error: 'timm:resnet18' is no command.\nhint:  flopscope report timm:resnet18 --csv\n"),
        (("reprot", "x"), "error: no such command: 'reprot'.\nhint:  did you mean report?\n"),
        (("quux",), "error: no such command: 'quux'.\n"
         "hint:  commands: report, why, compare, whatif, view, check, ops, machine, doctor, zoo\n"),
        (("--versoin",), "error: no such option: --versoin\nhint:  did you mean --version?\n"),
        (("report",), "error: MODEL is missing.\n"
                      "hint:  flopscope report model.pt     (all options: --help)\n"),
    ],
)  # fmt: skip
def test_words_that_are_no_command(flop: CommandLine, args: tuple[str, ...], message: str) -> None:
    assert refusal(flop(*args), 2) == message


def test_no_command_shows_the_help_where_errors_go(flop: CommandLine) -> None:
    said = refusal(flop(), 2)
    assert said.startswith("Usage: flopscope ")
