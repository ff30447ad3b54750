import requests
import solution
urls = []


class Reply:
    text = "hello"


def get(url, **options):
    urls.append(url)
    return Reply()


requests.get = get
assert solution.$f("https://example.org/$n") == "hello"
assert urls == ["https://example.org/$n"]
