import http.client
import solution
connection = solution.$f("example.org")
assert isinstance(connection, http.client.HTTPSConnection)
assert connection.host == "example.org"
