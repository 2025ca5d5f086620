"""WiSE-FT: fine-tuned and zero-shot models averaged."""
