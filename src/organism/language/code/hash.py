import solution
one = solution.$f("one")
assert isinstance(one, str) and len(one) >= 32
int(one, 16)
assert one == solution.$f("one") and one != solution.$f("two")
