"""The command line: merge configurations read from files, checkpoints written.

The only part of the library that reads configuration files, and no room imports
it.  `schema` reads a file, `settings` its numbers, `methods` makes recipes of
them, `layout` says which leaf comes from where, `building` joins all of it into
parts for `merge.stream_parts`, and `command` is `weightspace-merge`.

>>> from weightspace.cli.config import schema
>>> schema.parse({"merge_method": "linear", "models": [{"model": "a"}]}).method
'linear'
"""
