import solution
page = solution.$f("hello")
assert page.startswith("<") and page.endswith(">") and ">hello<" in page
