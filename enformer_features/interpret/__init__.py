"""What a prediction rests on: bases, bins and elements."""
