"""What an item costs, side by side with what people use today, in one run: `python -m bench`."""
