"""What the training scripts, compare.py and predict.py are made of; docs/architecture.md draws it."""
