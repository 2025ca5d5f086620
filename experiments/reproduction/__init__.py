"""Reproductions: the ledger of results, the table and the page made of it."""
