"""The report room: what a study found, as a page, a figure, a table and files.

Everything here starts from one value, the `reslab.report.summary.Summary`. The rooms inside are
`html.write`, `figure.save`, `table.print_summary` and `files.write`; each is imported on its own, so
that a command which prints a table does not pay for matplotlib.
"""
