import solution
assert "hello" in solution.$f("hello", "ann")
