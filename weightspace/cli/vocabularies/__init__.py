"""Tokenizers, and models of different vocabularies brought to one."""
