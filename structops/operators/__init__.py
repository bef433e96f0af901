"""What an operator is: parameters, shape, action and adjoint."""
