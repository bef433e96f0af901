"""What a structure makes cheap: functions registered on (question, operator pattern).

Importing this package registers every rule; `structops.linalg.dispatch` does so on the first
question, by name.
"""

from structops.rules import algebra, block, elementary, kronecker, toeplitz

__all__ = ["algebra", "block", "elementary", "kronecker", "toeplitz"]
