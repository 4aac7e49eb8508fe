"""What the package leans on in other libraries without their promising it, one module for each.

If one of these tests fails after an upgrade, its docstring says which module to look at, and what
that module would do wrong.
"""
