"""Configs: one file is one claim of one paper.

`get_config(arg)` returns a ConfigDict of JSON values; the docstring names the
paper, the number aimed at, the time and the command.

>>> from configs import common
>>> common.parse_arg("mode=tiny", mode=("paper", "tiny")).mode
'tiny'
"""
