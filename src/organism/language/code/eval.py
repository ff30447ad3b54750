import solution
assert solution.$f("[1, 2, 3]") == [1, 2, 3]
assert solution.$f("{'name': 4}") == {"name": 4}
