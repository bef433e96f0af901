"""How an answer is computed for any operator, from products alone."""
