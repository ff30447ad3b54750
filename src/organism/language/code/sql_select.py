import sqlite3
import solution
db = sqlite3.connect(":memory:")
db.execute("CREATE TABLE $n (name TEXT, size INTEGER)")
db.execute("INSERT INTO $n VALUES ('ann', 1), ('bob', 2)")
assert [tuple(row) for row in solution.$f(db, "bob")] == [("bob", 2)]
