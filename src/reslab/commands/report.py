"""``reslab report``."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from reslab import runs
from reslab.commands.options.report import Options
from reslab.commands.targets import check_folder, check_target
from reslab.errors import InputError
from reslab.report import figure
from reslab.report import files as report_files
from reslab.report.files import SUMMARY
from reslab.report.summary import Summary
from reslab.report.table import print_summary


def run(options: Options) -> Path | None:
    """Compares runs, or shows a study once more; returns the page, if one was written."""
    out = options.out
    if not options.folders:
        raise InputError("expected folders of runs, or of a study, such as runs/resnet20 runs/plain20")
    for path in options.figure:
        figure.check_format(path)
        check_target("--figure", path, force=options.force)
    if out is not None:
        check_folder("--out", out, report_files.NAMES, force=options.force)
    summary = _summary(options.folders)
    report = None
    for path in options.figure:
        figure.save(summary, path)
    if out is not None:
        report = next(path for path in report_files.write(summary, out) if path.suffix == ".html")
    if options.json:
        print(summary.to_json(), end="")
    else:
        print_summary(summary, Console())
    if report is not None:
        Console(stderr=True).print(f"Report: {report}", highlight=False, markup=False, soft_wrap=True)
    return report


def _summary(folders: Sequence[Path]) -> Summary:
    from reslab.studies.compare import compare

    if len(folders) == 1 and (folders[0] / SUMMARY).is_file():
        return Summary.of(runs.read_json(folders[0] / SUMMARY))
    for folder in folders:
        if (folder / SUMMARY).is_file():
            raise InputError(f"{folder} is a study; give a study alone, or its runs: {folder}/runs/*")
    return compare(folders, command=shlex.join(["reslab", "report", *map(str, folders)]))
