"""What a merge did, as tables, figures and warnings."""
