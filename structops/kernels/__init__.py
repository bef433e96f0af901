"""The arithmetic: functions of arrays, one name per task, one version per kind of machine.

:mod:`~structops.kernels.spec` lists the names, :mod:`~structops.kernels.registry` picks a version
by the library of the data. Nothing here knows what an operator is.
"""
