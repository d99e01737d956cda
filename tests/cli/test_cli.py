"""The command line: quick to answer, and no option that does nothing."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from cyclopts import App

from reslab import __version__
from reslab.cli import app, main
from reslab.kernels.build import library
from reslab.runs import RunDir, read_json
from reslab.studies import MODULES

Reslab = Callable[..., tuple[int, str, str]]
TESTS = Path(__file__).parents[1]

# What it does is tested where this says.
OPTIONS: dict[tuple[str, str], str] = {
    ("demo", "--out"): "studies/test_degradation.py::test_the_demo_from_finished_runs",
    ("demo", "--open"): "studies/test_degradation.py::test_the_demo_from_finished_runs",
    ("demo", "--json"): "studies/test_degradation.py::test_the_demo_from_finished_runs",
    ("deepen", "--json"): "cli/test_deepen.py::test_what_was_made_as_json",
    ("weights convert", "--json"): "cli/test_weights.py::test_what_was_written_as_json",
    ("weights fetch", "--json"): "cli/test_weights.py::test_fetch",
    ("nets", "--force"): "cli/test_nets.py::test_a_picture_in_a_file",
    ("claims", "--paper"): "report/test_ledger.py::test_claims_of_a_paper_or_with_a_verdict",
    ("claims", "--verdict"): "report/test_ledger.py::test_claims_of_a_paper_or_with_a_verdict",
    ("claims", "--force"): "cli/test_targets.py::test_nothing_is_overwritten_unasked",
    ("report", "--force"): "cli/test_targets.py::test_nothing_is_overwritten_unasked",
    ("study", "--force"): "cli/test_targets.py::test_nothing_is_overwritten_unasked",
    ("eval", "--force"): "cli/test_targets.py::test_nothing_is_overwritten_unasked",
    ("bench", "--force"): "cli/test_targets.py::test_nothing_is_overwritten_unasked",
    ("probe", "--force"): "cli/test_targets.py::test_nothing_is_overwritten_unasked",
    ("published", "PAPER"): "cli/test_published.py::test_a_paper",
    ("published", "--json"): "cli/test_published.py::test_a_paper",
    ("runs", "FOLDER"): "cli/test_runs.py::test_runs_are_listed",
    ("runs", "--json"): "cli/test_runs.py::test_runs_are_listed",
    ("bench", "--peer"): "bench/test_bench_command.py::test_one_peer_of_the_two",
    ("bench", "--compile-limit"): "bench/test_bench_command.py::test_one_peer_of_the_two",
    ("train", "--orient"): "cli/test_eval.py::test_photographs_are_turned_upright_unless_asked_not_to",
    ("eval", "--orient"): "cli/test_eval.py::test_photographs_are_turned_upright_unless_asked_not_to",
    ("train", "RECIPE"): "cli/test_bad_input.py::test_names_and_shapes",
    ("train", "--net"): "cli/test_cli.py::test_an_option_of_train_reaches_the_recipe",
    ("train", "--model"): "cli/test_cli.py::test_an_option_of_train_reaches_the_recipe",
    ("train", "--data"): "cli/test_cli.py::test_an_option_of_train_reaches_the_recipe",
    ("train", "--out"): "cli/test_cli.py::test_where_a_run_goes",
    ("train", "--accumulate"): "resume/test_ranks.py::test_batches_that_cannot_be_shared_out",
    ("weights list", "--json"): "cli/test_weights.py::test_the_weights_that_come_along_are_listed",
    ("train", "--iterations"): "cli/test_cli.py::test_an_option_of_train_reaches_the_recipe",
    ("train", "--epochs"): "cli/test_cli.py::test_an_option_of_train_reaches_the_recipe",
    ("train", "--batch-size"): "cli/test_cli.py::test_an_option_of_train_reaches_the_recipe",
    ("train", "-b"): "cli/test_cli.py::test_an_option_of_train_reaches_the_recipe",
    ("train", "--seed"): "cli/test_cli.py::test_an_option_of_train_reaches_the_recipe",
    ("train", "--holdout"): "cli/test_cli.py::test_an_option_of_train_reaches_the_recipe",
    ("train", "--lr"): "cli/test_cli.py::test_an_option_of_train_reaches_the_recipe",
    ("train", "--wd"): "cli/test_cli.py::test_an_option_of_train_reaches_the_recipe",
    ("train", "--set"): "cli/test_cli.py::test_an_option_of_train_reaches_the_recipe",
    ("train", "--precision"): "cli/test_cli.py::test_an_option_of_train_reaches_the_recipe",
    ("train", "--device"): "cli/test_cli.py::test_how_a_run_is_carried_out",
    ("train", "--threads"): "cli/test_cli.py::test_how_a_run_is_carried_out",
    ("train", "--weights"): "cli/test_cli.py::test_weights_to_start_from",
    ("train", "--num-classes"): "cli/test_weights.py::test_training_with_a_new_head",
    ("train", "--resume"): "resume/test_kill.py::test_killed_equals_unkilled",
    ("train", "--checkpoint-every"): "cli/test_cli.py::test_checkpoints_as_often_as_asked",
    ("train", "--deterministic"): "cli/test_cli.py::test_how_a_run_is_carried_out",
    ("train", "--compile"): "train/test_inductor.py::test_a_run_goes_on_compiled",
    ("train", "--fused"): "cli/test_cli.py::test_resume_carries_on_as_before",
    ("train", "--no-fused"): "cli/test_cli.py::test_how_a_run_is_carried_out",
    ("train", "--checkpoint-activations"): "cli/test_cli.py::test_how_a_run_is_carried_out",
    ("train", "--workers"): "train/test_photographs_command.py::test_how_it_was_carried_out_is_kept_for_going_on",
    ("train", "-j"): "train/test_photographs_command.py::test_how_it_was_carried_out_is_kept_for_going_on",
    ("train", "--labels"): "train/test_photographs_command.py::test_how_it_was_carried_out_is_kept_for_going_on",
    ("train", "--size"): "train/test_photographs_command.py::test_small_images_are_brought_to_a_size",
    ("train", "--damaged"): "train/test_photographs_command.py::test_damaged_photographs_are_named_and_limited",
    ("train", "--dry-run"): "train/test_photographs_command.py::test_a_dry_run_says_what_would_happen",
    ("train", "--memory-budget"): "train/test_memory.py::test_a_budget_decides_what_is_computed_twice",
    ("train", "--sync-bn"): "resume/test_sync.py::test_two_ranks_have_the_statistics_of_one",
    ("train", "--json"): "cli/test_cli.py::test_the_result_of_a_run",
    ("study", "NAME"): "cli/test_cli.py::test_studies_are_listed",
    ("study", "--queue"): "studies/test_queue.py::test_the_command_works_through_them_and_goes_on",
    ("study", "--power"): "studies/test_power.py::test_the_command",
    ("study", "--data"): "studies/test_degradation.py::test_killed_with_several_jobs_under_way",
    ("study", "--depths"): "studies/test_degradation.py::test_a_real_study",
    ("study", "--seeds"): "studies/test_degradation.py::test_a_real_study",
    ("study", "--iterations"): "studies/test_degradation.py::test_a_real_study",
    ("study", "--batch-size"): "cli/test_cli.py::test_options_of_a_study",
    ("study", "-b"): "cli/test_cli.py::test_options_of_a_study",
    ("study", "--set"): "studies/test_degradation.py::test_a_real_study",
    ("study", "--out"): "studies/test_degradation.py::test_a_real_study",
    ("study", "--jobs"): "studies/test_degradation.py::test_jobs_share_the_threads_and_give_the_same_results",
    ("study", "-j"): "cli/test_cli.py::test_options_of_a_study",
    ("study", "--at-a-time"): "studies/test_together.py::test_the_command",
    ("study", "--deterministic"): "studies/test_together.py::test_the_command",
    ("study", "--device"): "cli/test_bad_input.py::test_names_and_shapes",
    ("study", "--open"): "cli/test_cli.py::test_options_of_a_study",
    ("study", "--json"): "studies/test_degradation.py::test_a_real_study",
    ("eval", "WEIGHTS"): "cli/test_eval.py::test_eval_of_a_run_is_what_the_run_said",
    ("eval", "--data"): "cli/test_eval.py::test_eval_of_a_run_is_what_the_run_said",
    ("eval", "--net"): "cli/test_eval.py::test_the_network_of_an_eval",
    ("bench", "WHAT"): "bench/test_bench_command.py::test_ours_alone",
    ("bench", "--net"): "bench/test_bench_command.py::test_ours_alone",
    ("bench", "--model"): "bench/test_bench_command.py::test_against_another_library",
    ("bench", "--against"): "bench/test_bench_command.py::test_against_the_same_network_as_scripts_have_it",
    ("bench", "--batch-size"): "bench/test_bench_command.py::test_ours_alone",
    ("bench", "-b"): "bench/test_bench_command.py::test_what_is_refused",
    ("bench", "--size"): "bench/test_bench_command.py::test_against_another_library",
    ("bench", "--rounds"): "bench/test_bench_command.py::test_ours_alone",
    ("bench", "--turn"): "bench/test_bench_command.py::test_ours_alone",
    ("bench", "--workers"): "bench/test_bench_command.py::test_batches_against_the_usual_loader",
    ("bench", "-j"): "bench/test_bench_command.py::test_batches_against_the_usual_loader",
    ("bench", "--precision"): "bench/test_bench_command.py::test_ours_alone",
    ("bench", "--device"): "bench/test_bench_command.py::test_against_another_library",
    ("bench", "--threads"): "bench/test_bench_command.py::test_against_the_same_network_as_scripts_have_it",
    ("bench", "--compile"): "bench/test_bench_command.py::test_compiled",
    ("bench", "--out"): "bench/test_bench_command.py::test_against_another_library",
    ("bench", "--json"): "bench/test_bench_command.py::test_ours_alone",
    ("deepen", "WEIGHTS"): "cli/test_deepen.py::test_the_same_function_and_on_from_there",
    ("deepen", "--to"): "cli/test_deepen.py::test_the_same_function_and_on_from_there",
    ("deepen", "--out"): "cli/test_deepen.py::test_the_same_function_and_on_from_there",
    ("deepen", "--net"): "cli/test_deepen.py::test_weights_that_name_no_network",
    ("deepen", "--model"): "cli/test_deepen.py::test_weights_that_name_no_network",
    ("deepen", "--force"): "cli/test_deepen.py::test_nothing_is_overwritten_unless_asked",
    ("eval", "--test-time"): "cli/test_eval.py::test_eval_sees_mirrored_and_shifted_images_too",
    ("eval", "--model"): "cli/test_eval.py::test_eval_by_labels_and_by_folders_of_imagenet",
    ("eval", "--split"): "cli/test_eval.py::test_eval_of_other_splits",
    ("eval", "--mean"): "cli/test_eval.py::test_eval_of_weights_that_carry_no_normalisation",
    ("eval", "--std"): "cli/test_eval.py::test_mistakes_in_an_eval",
    ("eval", "--resize"): "cli/test_eval.py::test_eval_of_weights_that_carry_no_normalisation",
    ("eval", "--crop"): "cli/test_eval.py::test_eval_of_weights_that_carry_no_normalisation",
    ("eval", "--interpolation"): "cli/test_eval.py::test_eval_of_weights_that_carry_no_normalisation",
    ("eval", "--labels"): "cli/test_eval_protocols.py::test_flat_images_with_a_list",
    ("eval", "--outputs"): "cli/test_eval.py::test_eval_by_labels_and_by_folders_of_imagenet",
    ("eval", "--protocol"): "cli/test_eval_protocols.py::test_each_protocol",
    ("eval", "--each"): "cli/test_eval_protocols.py::test_an_ensemble_of_weights_runs_and_predictions",
    ("eval", "--best-subset"): "cli/test_eval_protocols.py::test_an_ensemble_of_weights_runs_and_predictions",
    ("eval", "--scales"): "cli/test_eval_protocols.py::test_each_protocol",
    ("eval", "--window"): "cli/test_eval_protocols.py::test_each_protocol",
    ("eval", "--damaged"): "data/test_stream.py::test_eval_of_photographs_holds_none_of_them_in_memory",
    ("eval", "--recalibrate-bn"): "cli/test_eval_protocols.py::test_statistics_computed_anew",
    ("eval", "--recalibrate-images"): "cli/test_eval_protocols.py::test_statistics_computed_anew",
    ("eval", "--per-class"): "cli/test_eval_protocols.py::test_confusion_and_classes",
    ("eval", "--confusion"): "cli/test_eval_protocols.py::test_confusion_and_classes",
    ("eval", "--save"): "cli/test_eval_protocols.py::test_an_ensemble_of_weights_runs_and_predictions",
    ("eval", "--fresh"): "cli/test_eval_protocols.py::test_a_run_is_evaluated_once",
    ("eval", "--batch-size"): "cli/test_eval.py::test_how_an_eval_is_carried_out",
    ("eval", "-b"): "cli/test_eval.py::test_how_an_eval_is_carried_out",
    ("eval", "--precision"): "cli/test_eval.py::test_how_an_eval_is_carried_out",
    ("eval", "--device"): "cli/test_eval.py::test_how_an_eval_is_carried_out",
    ("eval", "--threads"): "cli/test_eval.py::test_how_an_eval_is_carried_out",
    ("eval", "--json"): "cli/test_eval.py::test_eval_of_a_run_is_what_the_run_said",
    ("weights inspect", "WEIGHTS"): "cli/test_weights.py::test_inspect",
    ("weights inspect", "--net"): "cli/test_weights.py::test_inspect_of_a_run_and_of_look_alikes",
    ("weights inspect", "--model"): "cli/test_weights.py::test_inspect_of_a_run_and_of_look_alikes",
    ("weights inspect", "--json"): "cli/test_weights.py::test_inspect",
    ("weights convert", "WEIGHTS"): "cli/test_weights.py::test_convert_keeps_all_that_is_known",
    ("weights convert", "OUT"): "cli/test_weights.py::test_convert_between_formats",
    ("weights convert", "--to"): "cli/test_weights.py::test_convert_to_other_libraries",
    ("weights convert", "--net"): "cli/test_weights.py::test_convert_into_another_network_warns",
    ("weights convert", "--model"): "cli/test_weights.py::test_convert_into_another_network_warns",
    ("weights convert", "--num-classes"): "cli/test_weights.py::test_convert_with_a_new_head",
    ("weights convert", "--force"): "cli/test_weights.py::test_convert_overwrites_only_by_force",
    ("weights fetch", "WEIGHTS"): "cli/test_weights.py::test_fetch",
    ("weights fetch", "--out"): "cli/test_weights.py::test_fetch",
    ("weights fetch", "--force"): "cli/test_weights.py::test_fetch",
    ("nets", "NAME"): "cli/test_cli.py::test_a_network_as_json",
    ("nets", "--size"): "cli/test_cli.py::test_a_network_as_json",
    ("nets", "--compare"): "cli/test_nets.py::test_networks_side_by_side",
    ("nets", "--diagram"): "cli/test_nets.py::test_a_picture_in_the_terminal",
    ("nets", "--svg"): "cli/test_nets.py::test_a_picture_in_a_file",
    ("nets", "--json"): "cli/test_cli.py::test_a_network_as_json",
}
for _place, _command, _options in (
    ("studies/test_budget.py::test_a_dry_run_plans_and_writes_nothing", "study", "--budget --dry-run"),
    ("studies/test_runs_of_studies.py::test_figures_in_every_format", "study", "--figure"),
    ("studies/test_on_ray.py::test_addresses_that_are_none", "study", "--cpus"),
    ("studies/test_on_ray.py::test_a_study_goes_on_by_way_of_a_store", "study", "--on --store"),
    ("report/test_ledger.py::test_the_command", "claims", "RESULTS --html --json --open"),
    (
        "studies/test_compare.py::test_rows_are_recipes_and_seeds_their_runs",
        "report",
        "FOLDERS --out --json --figure --open",
    ),
):
    for _option in _options.split():
        OPTIONS[_command, _option] = _place
for _command in ("probe", "prune", "features"):  # what they have in common
    for _option in ("--net", "--model", "--mean", "--std"):
        OPTIONS[_command, _option] = "cli/test_probe.py::test_weights_that_carry_nothing"
    OPTIONS[_command, "--outputs"] = "cli/test_probe.py::test_outputs_by_a_list_of_names"
    for _option in ("--images", "--batch-size", "-b", "--precision", "--device", "--threads", "--data"):
        OPTIONS[_command, _option] = "cli/test_probe.py::test_how_it_is_carried_out"
for _test, _command, _options in (
    ("test_all_figures_on_a_page", "probe", "WEIGHTS --all --open --out"),
    ("test_figures_by_name", "probe", "--responses --shares --lesions --paths --gradients --downsampling"),
    ("test_figures_by_name", "probe", "--perturbations --attribution --shattering --identity --json"),
    ("test_figures_as_pictures", "probe", "--figures --format"),
    ("test_gates", "probe", "--gates"),
    ("test_batches_and_precision_of_a_probe", "probe", "--split"),
    ("test_pruning", "prune", "WEIGHTS --out --drop --max-error --report --figure --force --json"),
    ("test_what_pruning_can_do_besides", "prune", "--finetune --lr --no-calibrate --seed --rounds"),
    ("test_features", "features", "WEIGHTS --out --stages --split --force --json"),
):
    for _option in _options.split():
        OPTIONS[_command, _option] = f"cli/test_probe.py::{_test}"
for _command in ("probe", "prune", "features", "eval", "deepen", "weights inspect", "weights convert"):
    OPTIONS[_command, "--which"] = "cli/test_layouts.py::test_which_reaches_every_command"
for _test, _options in (
    ("test_from_a_folder_to_a_classifier", "FOLDER --from --out --device --threads --workers"),
    ("test_as_json", "--json"),
    (
        "test_an_option_reaches_the_recipe",
        "--weights --train --stages --head --freeze-bn --stage-decay --balanced --augment --mixup "
        "--epochs --lr --batch-size -b --early-stop --validation --seed --precision --size --model",
    ),
    ("test_a_look_alone_writes_nothing", "--look"),
    ("test_it_goes_on_by_its_folder_alone", "--resume"),
    ("test_upright_unless_asked_not_to", "--orient"),
    ("test_the_page_is_opened", "--open"),
    ("test_cross_validation", "--folds"),
    ("test_weights_that_hold_an_average", "--which --net"),
    ("test_images_that_lie_flat_beside_a_list", "--labels"),
):
    for _option in _options.split():
        OPTIONS["finetune", _option] = f"transfer/test_finetune_command.py::{_test}"
OPTIONS["finetune", "-j"] = "transfer/test_finetune_command.py::test_it_goes_on_by_its_folder_alone"
for _test, _options in (
    ("test_probabilities_are_those_of_a_plain_forward_pass", "WEIGHTS IMAGES --json --top"),
    ("test_folders_damaged_images_and_odd_names", "--csv --threshold"),
    ("test_turned_and_deep_images_are_as_their_upright_ones", "--orient"),
    ("test_explanations_are_pictures_that_overwrite_nothing", "--explain"),
    ("test_pictures_are_overwritten_only_if_asked", "--force"),
    ("test_an_average_over_the_training", "--which"),
    (
        "test_options_of_how_images_are_shown",
        "--mean --std --outputs --device --threads --batch-size -b --net --model --precision --resize --crop "
        "--interpolation",
    ),
):
    for _option in _options.split():
        OPTIONS["predict", _option] = f"cli/test_predict.py::{_test}"
for _test, _command, _options in (
    ("test_mistakes_are_one_line", "train", "DATA"),
    (
        "test_an_option_reaches_the_training",
        "train",
        "--net --model --from --weights --norm --kind --pooling --short --long --scales --anchors --channels --regions "
        "--frozen-stages --no-flip --trainval --iterations --batch-size -b --lr --wd --weight-decay --seed --precision "
        "--evaluate-every --checkpoint-every --device --threads --out",
    ),
    ("test_a_look_writes_nothing", "train", "--look --json"),
    ("test_interrupted_and_gone_on_with", "train", "--resume"),
    ("test_eval", "eval", "DETECTOR DATA --split --resamples --out --json"),
    ("test_looking_more_than_once", "eval", "--refine --scales"),
    ("test_looking_more_than_once", "predict", "--refine --scales"),
    ("test_the_page_of_a_detector", "eval", "--page --open"),
    ("test_how_a_detector_is_carried_out", "eval", "--device --threads --short --score --precision"),
    ("test_predict", "predict", "DETECTOR PICTURES --out --json"),
    ("test_how_a_detector_is_carried_out", "predict", "--device --threads --short --score --precision"),
    ("test_nothing_is_overwritten_unasked", "eval", "--force"),
    ("test_nothing_is_overwritten_unasked", "predict", "--force"),
    ("test_an_option_reaches_the_training", "train", "--context"),
    ("test_several_detectors_vote_together", "eval", "--also"),
    ("test_how_a_detector_is_carried_out", "predict", "--also"),
):
    for _option in _options.split():
        OPTIONS[f"detect {_command}", _option] = f"detect/test_detect_commands.py::{_test}"
for _test, _options in (
    ("test_at_a_tiny_size", "DATA --nets --seeds --out --json --threads --batch-size"),
    (
        "test_each_option_reaches_the_recipe",
        "--kind --pooling --short --long --anchors --regions --iterations -b --lr --precision --weights --trainval "
        "--device",
    ),
    ("test_what_is_refused", "--from"),
):
    for _option in _options.split():
        OPTIONS["detect study", _option] = f"detect/test_study.py::{_test}"
for _test, _options in (
    ("test_bench_of_weights", "WEIGHTS"),
    ("test_bench_by_a_runtime_that_is_named", "--runtime"),
    ("test_what_bench_refuses", "--which"),
):
    for _option in _options.split():
        OPTIONS["bench", _option] = f"deploy/test_artefact_commands.py::{_test}"
for _command in ("predict", "eval"):
    OPTIONS[_command, "--runtime"] = f"deploy/test_artefact_commands.py::test_{_command}_by_each_runtime"
for _test, _options in (
    ("test_photographs_with_labels", "WEIGHTS --data --split --to --out"),
    ("test_photographs_without_labels_and_as_json", "--images --json"),
    ("test_speed_is_compared", "--speed --input"),
    ("test_int8", "--int8 --calibration --calibration-images"),
    ("test_what_does_not_pass_is_not_written", "--force"),
    ("test_what_heat_maps_need", "--explain"),
    (
        "test_options_of_what_the_weights_do_not_say",
        "--net --model --which --mean --std --resize --crop --interpolation --outputs --labels --threads",
    ),
):
    for _option in _options.split():
        OPTIONS["export", _option] = f"cli/test_export.py::{_test}"
for _test, _options in (
    ("test_what_a_picture_shows", "WEIGHTS --host --port -b --batch-size --threads --net --model"),
    ("test_a_token", "--token-file"),
    ("test_limits", "--deadline --queue --max-bytes --max-images --max-pixels --decode-seconds --decoders --linger"),
    (
        "test_options_of_what_the_weights_do_not_say",
        "--which --outputs --mean --std --resize --crop --interpolation --orient --precision --device",
    ),
    ("test_the_command_itself", "--json"),
):
    for _option in _options.split():
        OPTIONS["serve", _option] = f"cli/test_serve.py::{_test}"
OPTIONS["serve", "--runtime"] = "deploy/serve/test_of_artefact.py::test_probabilities_are_those_of_the_network"
OPTIONS["train", "--which"] = "cli/test_layouts.py::test_training_starts_from_which_was_asked_for_and_goes_on_so"
OPTIONS["prune", "--calibrate"] = "cli/test_probe.py::test_what_pruning_can_do_besides"


def options() -> Iterator[tuple[str, str]]:
    """Every option of every command, by all its names."""
    for command, called in commands(app):
        for argument in called.assemble_argument_collection():
            for name in argument.names if argument.parse else ():
                if name == "*":  # the options of several commands, which follow
                    continue
                if name not in argument.negatives or name in ("--no-fused", "--no-calibrate"):
                    yield command, name


def commands(group: App, *above: str) -> Iterator[tuple[str, App]]:
    """Every command by its words: ``train``, ``weights inspect``."""
    for name in group:
        if name.startswith("-"):
            continue
        if group[name].default_command is None:
            yield from commands(group[name], *above, name)
        else:
            yield " ".join((*above, name)), group[name]


def test_every_option_has_a_test() -> None:
    assert set(options()) == set(OPTIONS)
    for (command, option), where in OPTIONS.items():
        file, _, test = where.partition("::")
        text = (TESTS / file).read_text()
        assert f"def {test}(" in text, where
        assert option.isupper() or f'"{option}"' in text, f"{where} does not use {command} {option}"


def test_no_option_has_a_negative_that_nobody_asked_for(reslab: Reslab) -> None:
    for words in (("nets", "--no-json"), ("study", "--empty-set"), ("demo", "--no-open")):
        code, _, err = reslab(*words)
        assert code == 2
        assert "Unknown option" in err


def test_help_does_not_wait_for_torch() -> None:
    code = (
        "import sys; from reslab.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'torchvision', 'numpy', 'sklearn', 'matplotlib', 'scipy', 'pydantic'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    spent = []
    for _ in range(3):  # the least of three, in CPU seconds: the machine may be busy
        before = os.times()
        done = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True)
        after = os.times()
        assert done.returncode == 0, done.stderr
        spent.append(after.children_user + after.children_system - before.children_user - before.children_system)
    for command in ("demo", "train", "study", "nets"):
        assert command in done.stdout
    assert min(spent) < 1.2  # 0.35 on a quiet machine; torch alone takes 3


@pytest.mark.parametrize("words", [("--help",), ("train", "--help"), ("study", "--help"), ("demo", "--help")])
def test_help_of_each_command(words: tuple[str, ...], reslab: Reslab) -> None:
    code, out, err = reslab(*words)
    assert (code, err) == (0, "")
    assert "Usage: reslab" in out


def test_version_and_module(reslab: Reslab) -> None:
    assert reslab("--version") == (0, f"{__version__}\n", "")
    done = subprocess.run((sys.executable, "-m", "reslab", "--version"), capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"{__version__}\n")


def test_a_network_as_json(reslab: Reslab) -> None:
    code, out, _ = reslab("nets", "resnet20", "--json")
    assert code == 0
    found = json.loads(out)
    assert {"name", "params", "macs", "stages"} <= found.keys()
    assert (found["name"], found["params"]) == ("resnet20", 269_722)
    assert sum(stage["params"] for stage in found["stages"]) == found["params"]
    assert sum(stage["macs"] for stage in found["stages"]) == found["macs"]
    assert found["flops"] == 2 * found["macs"]
    larger = json.loads(reslab("nets", "resnet20", "--size", 64, "--json")[1])
    assert larger["params"] == found["params"]
    assert 3.9 < larger["macs"] / found["macs"] <= 4
    listed = json.loads(reslab("nets", "--json")[1])
    assert found in listed
    assert {each["name"] for each in listed} >= {"plain20", "plain110", "resnet1202"}
    assert json.loads(reslab("nets", "cifar_resnet(depth=38)", "--json")[1])["depth"] == 38


def test_networks_as_text(reslab: Reslab) -> None:
    code, out, _ = reslab("nets")
    assert code == 0
    assert "19,421,274" in out
    assert "cifar_resnet(depth=38)" in out
    code, out, _ = reslab("nets", "resnet56")
    assert code == 0
    for words in ("layer3", "8x8", "853,018", "FLOPs"):
        assert words in out


def test_studies_are_listed(reslab: Reslab) -> None:
    code, out, _ = reslab("study")
    assert code == 0
    assert "degradation" in out
    assert [each["name"] for each in json.loads(reslab("study", "--json")[1])] == list(MODULES)
    assert reslab("study", "degradation", "--depths", 20)[0] == 2


TINY = ("train", "he2015_cifar", "--threads", 1)
NET = ("--net", "cifar_resnet(depth=8, width=4)")
DIGITS = ("--data", "digits")
SHORT = ("--iterations", 4, "--batch-size", 32)


@pytest.mark.parametrize(
    ("words", "path", "value"),
    [
        ((*NET, *DIGITS, *SHORT), "net.name", "cifar_resnet(depth=8, width=4)"),
        (("--model", "cifar_plain(depth=8, width=4)", *DIGITS, *SHORT), "net.name", "cifar_plain(depth=8, width=4)"),
        ((*NET, "--data", "synthetic", *SHORT), "data.name", "synthetic"),
        ((*NET, *DIGITS, "--iterations", 6, "-b", 32), "iterations", 6),
        ((*NET, *DIGITS, "--iterations", 6, "-b", 32), "schedule.drops", [3, 4]),
        ((*NET, *DIGITS, "--epochs", 0.1, "--batch-size", 32), "iterations", round(143.7 / 32)),
        ((*NET, *DIGITS, "--epochs", 0.1, "--batch-size", 32, "--holdout", 437), "iterations", round(100 / 32)),
        ((*NET, *DIGITS, "--epochs", 0.1), "iterations", 1),
        ((*NET, *DIGITS, "--iterations", 4, "-b", 48), "global_batch", 48),
        ((*NET, *DIGITS, *SHORT, "--seed", 5), "seed", 5),
        ((*NET, *DIGITS, *SHORT, "--holdout", 100), "data.holdout", 100),
        ((*NET, *DIGITS, *SHORT, "--holdout", 100), "select", "best-validation"),
        ((*NET, *DIGITS, *SHORT, "--lr", 0.05), "optimizer.lr", 0.05),
        ((*NET, *DIGITS, *SHORT, "--wd", 0.01), "optimizer.weight_decay", 0.01),
        ((*NET, *DIGITS, *SHORT, "--set", "optimizer.nesterov=true", "seed=3"), "optimizer.nesterov", True),
        ((*NET, *DIGITS, *SHORT, "--set", "seed=2", "--set", "log_every=3"), "seed", 2),
        ((*NET, *DIGITS, *SHORT, "--precision", "fp32"), "precision", "fp32"),
        ((*NET, *DIGITS, *SHORT, "--precision", "bf16"), "precision", "bf16"),
    ],
)
def test_an_option_of_train_reaches_the_recipe(
    words: tuple[object, ...], path: str, value: object, reslab: Reslab, tmp_path: Path
) -> None:
    code, _, err = reslab(*TINY, *words, "--out", tmp_path / "run")
    assert code == 0, err
    found: Any = read_json(tmp_path / "run" / "recipe.json")
    for step in path.split("."):
        found = found[step]
    assert found == value


def test_where_a_run_goes(reslab: Reslab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = (*TINY, *NET, *DIGITS, *SHORT, "--seed", 3)
    assert reslab(*words)[0] == 0
    default = Path("runs/he2015_cifar-cifar_resnet-depth-8--width-4-digits-seed3")
    assert RunDir(default).finished
    assert reslab(*words, "--out", "else[/where]")[0] == 0  # and brackets are no markup
    assert RunDir(Path("else[/where]")).finished
    assert sorted(path.name for path in tmp_path.iterdir()) == ["else[", "runs"]


def test_how_a_run_is_carried_out(reslab: Reslab, tmp_path: Path) -> None:
    words = ("train", "he2015_cifar", *NET, *DIGITS, *SHORT)
    env = {}
    for name, more in (
        ("plain", ("--threads", 1)),
        ("unfused", ("--threads", 1, "--no-fused")),
        ("kept", ("--threads", 1, "--no-fused", "--checkpoint-activations")),
        ("cpu", ("--threads", 2, "--device", "cpu", "--deterministic")),
    ):
        code, _, err = reslab(*words, *more, "--out", tmp_path / name)
        assert code == 0, err
        assert torch.are_deterministic_algorithms_enabled() == (name == "cpu")
        assert ("fused BN+ReLU" in err) == (name not in ("unfused", "kept") and library() is not None)
        assert f"CPU, {1 + (name == 'cpu')} threads" in err or torch.cuda.is_available()
        lines = [line for line in err.splitlines() if not line.startswith("warning: ")]  # of so short a training
        assert len(lines) == 3  # what is run, on which images, and how
        env[name] = read_json(tmp_path / name / "env.json")
    assert [env[name]["threads"] for name in env] == [1, 1, 1, 2]
    assert [env[name]["deterministic"] for name in env] == [False, False, False, True]
    assert [env[name]["checkpoint_activations"] for name in env] == [False, False, True, False]
    same = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("unfused", "kept")]
    assert same[0] == same[1]
    assert env["cpu"]["device"] == "cpu"
    assert env["plain"]["fused"] == (library() is not None)
    assert env["unfused"]["fused"] is False
    assert reslab(*words, "--device", "cuda:9")[0] == 2


def test_resume_carries_on_as_before(reslab: Reslab, tmp_path: Path) -> None:
    """Threads and kernels decide the rounding, so that going on has to use those of the start."""
    out = tmp_path / "run"
    assert reslab(*TINY, *NET, *DIGITS, *SHORT, "--no-fused", "--out", out)[0] == 0
    torch.set_num_threads(2)
    (out / "result.json").unlink()
    code, _, err = reslab("train", "--resume", out)
    assert code == 0
    assert "CPU, 1 threads" in err
    assert "fused" not in err
    (out / "result.json").unlink()
    _, _, err = reslab("train", "--resume", out, "--threads", 2, "--fused")
    assert "CPU, 2 threads" in err
    assert ("fused" in err) == (library() is not None)


def test_a_folder_called_like_a_known_data_set(reslab: Reslab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("digits").mkdir()
    assert reslab(*TINY, *NET, *DIGITS, *SHORT, "--out", "run")[0] == 0
    Path("run/result.json").unlink()
    code, _, err = reslab("train", "--resume", "run")
    assert code == 0, err


def test_weights_to_start_from(reslab: Reslab, tmp_path: Path) -> None:
    words = (*TINY, *NET, *DIGITS, *SHORT)
    assert reslab(*words, "--lr", 0.05, "--seed", 1, "--out", tmp_path / "a")[0] == 0
    weights = tmp_path / "a" / "checkpoints" / "final.safetensors"
    assert reslab(*words, "--out", tmp_path / "b")[0] == 0
    code, _, err = reslab(*words, "--weights", weights, "--out", tmp_path / "c")
    assert code == 0, err
    first = {name: RunDir(tmp_path / name).read_metrics()[0]["train_loss"] for name in "bc"}
    assert first["b"] != first["c"]
    assert read_json(tmp_path / "c" / "env.json")["weights"] == str(weights)


def test_weights_are_told_by_what_they_hold(reslab: Reslab, tmp_path: Path) -> None:
    words = (*TINY, *NET, *DIGITS, *SHORT)
    for seed in (1, 2):
        assert reslab(*words, "--seed", seed, "--out", tmp_path / f"s{seed}")[0] == 0
    start = tmp_path / "start.safetensors"
    final = [(tmp_path / f"s{seed}" / "checkpoints" / "final.safetensors").read_bytes() for seed in (1, 2)]
    start.write_bytes(final[0])
    assert reslab(*words, "--weights", start, "--out", tmp_path / "run")[0] == 0
    assert len(read_json(tmp_path / "run" / "env.json")["weights_fingerprint"]) == 16
    (tmp_path / "run" / "result.json").unlink()
    for checkpoint in (tmp_path / "run" / "checkpoints").iterdir():
        checkpoint.unlink()
    start.write_bytes(final[1])
    code, _, err = reslab("train", "--resume", tmp_path / "run")
    assert code == 2
    assert "was started from other weights" in err
    start.write_bytes(final[0])
    assert reslab("train", "--resume", tmp_path / "run")[0] == 0


def test_a_finished_run_is_not_presented_as_a_new_one(reslab: Reslab, tmp_path: Path) -> None:
    words = (*TINY, *NET, *DIGITS, *SHORT, "--out", tmp_path / "run")
    assert "already holds this run" not in reslab(*words)[2]
    code, out, err = reslab(*words)
    assert code == 0
    assert "already holds this run, finished; nothing is trained, and its result is shown" in err
    assert "test error" in out
    assert "already holds this run, finished" in reslab("train", "--resume", tmp_path / "run")[2]


def test_why_a_plain_network_is_not_trained_in_bf16(
    reslab: Reslab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reslab.train.device.has_bf16", lambda _: True)
    plain = ("--net", "cifar_plain(depth=8, width=4)")
    assert "plain ones amplify its rounding" in reslab(*TINY, *plain, *DIGITS, *SHORT, "--out", tmp_path / "a")[2]
    for more in ((*plain, "--precision", "fp32"), NET):
        assert "amplify" not in reslab(*TINY, *more, *DIGITS, *SHORT, "--out", tmp_path / str(len(more)))[2]


def test_checkpoints_as_often_as_asked(reslab: Reslab, tmp_path: Path) -> None:
    words = (*TINY, *NET, *DIGITS, "--iterations", 7, "-b", 32, "--set", "evaluate_every=7")
    assert reslab(*words, "--checkpoint-every", 3, "--out", tmp_path / "run")[0] == 0
    names = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert names == ["final.safetensors", "iteration-00000006.safetensors", "iteration-00000007.safetensors"]
    assert reslab(*words, "--out", tmp_path / "seldom")[0] == 0
    assert len(list((tmp_path / "seldom" / "checkpoints").iterdir())) == 2


def test_the_result_of_a_run(reslab: Reslab, tmp_path: Path) -> None:
    words = (*TINY, *NET, *DIGITS, *SHORT, "--out", tmp_path / "run")
    code, out, _ = reslab(*words)
    assert code == 0
    saved = read_json(tmp_path / "run" / "result.json")
    assert f"test error {saved['test_error']:.2f} %" in out
    assert out.splitlines()[-1] == f"weights: {tmp_path / 'run' / 'checkpoints' / 'final.safetensors'}"
    assert "NaN" not in (tmp_path / "run" / "metrics.jsonl").read_text()
    code, out, _ = reslab(*words, "--json")
    assert json.loads(out) == {"out": str(tmp_path / "run"), **saved}


def test_options_of_a_study(reslab: Reslab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Short names and `--open`; the other options are tested with the study."""
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    torch.set_num_threads(1)
    words = ("study", "degradation", "--depths", 8, 14, "--seeds", 1, "--iterations", 2, "--device", "cpu", "-j", 1)
    code, _, err = reslab(*words, "-b", 16, "--out", tmp_path / "study", "--open")
    assert code == 0, err
    assert opened == [(tmp_path / "study" / "report.html").as_uri()]
    assert read_json(tmp_path / "study" / "study.json")["batch"] == 16
    code, _, err = reslab(*words, "--batch-size", 32, "--out", tmp_path / "study")
    assert code == 2
    assert "batch 16 there, 32 now" in err
    assert reslab(*words, "-j", 0)[0] == 2


def test_an_interruption_before_there_is_anything(monkeypatch: pytest.MonkeyPatch, reslab: Reslab) -> None:
    def interrupted(*_: object, **__: object) -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr("json.dumps", interrupted)  # the standard library's, at which a signal may well arrive
    assert reslab("nets", "--json") == (130, '{"error": "interrupted"}\n', "")
    monkeypatch.setattr("rich.table.Table.add_row", interrupted)
    assert reslab("nets") == (130, "", "reslab: interrupted\n")


def test_errors_are_one_line_whatever_the_width(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    with pytest.raises(SystemExit, match="2"):
        main(["nets", "resnet[bold]20[/nonsense]"])
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert "resnet[bold]20[/nonsense]" in err


def test_output_that_nobody_reads_to_its_end() -> None:
    """``reslab ... | head -1`` ends without a page of Python's."""
    code = "import sys; from reslab.cli import main; main(['nets', '--json'])"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 1
