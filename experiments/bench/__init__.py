"""Beds that several families share: populations, tasks, texts, classifiers."""
