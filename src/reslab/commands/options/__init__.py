"""What each command takes, declared once: a class per command, whose fields are its options.

The class's docstring is the command's help, the string below a field that of the option. These modules import in
milliseconds; what carries a command out is imported when it is called, by the name in its `runs`.
"""
