import solution
assert solution.$f("<p>{{ value }}</p>", "hello") == "<p>hello</p>"
