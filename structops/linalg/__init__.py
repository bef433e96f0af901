"""What one can ask of an operator: one family of questions a file."""
