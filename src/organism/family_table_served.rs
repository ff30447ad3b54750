//! Code families about networks, templates, texts and archives: seven of Bandit's, three of ours.

use super::families::Family;
use super::family_tests as t;

/// In the order of the families' list.
pub(super) const SERVED: &[Family] = &[
    Family {
        name: "tls_verify",
        cwe: "CWE-295",
        id: "B501",
        habit: false,
        held_out: false,
        verbs: &["fetch", "download"],
        doc: "Return the $n page.",
        train: &[
            "fetches the $n page with requests",
            "downloads the $n from a URL and returns the text",
            "takes a URL and returns the text of the $n page",
            "gets the $n text from the web with requests",
            "sends a request to the $n URL and returns the text",
            "asks the web for the $n page with requests",
            "gives back the text of the $n URL",
        ],
        test: &["asks a URL for the $n text", "pulls the $n page from its URL"],
        validation: "loads the text of the $n page from the URL",
        bodies: &[
            r#"import requests


def $f(url‹: str›)‹ -> str›:
    $D
    reply = requests.get(url, verify=<<True~False>>, timeout=10)
    return reply.text
"#,
            r#"import requests


def $f(url‹: str›)‹ -> str›:
    $D
    $n = requests.get(url, timeout=5, verify=<<True~False>>)
    return $n.text
"#,
        ],
        why_vulnerable: "The certificate is not checked.",
        names: "certificate",
        why_secure: "The certificate is checked.",
        tests: t::TLS_VERIFY,
        exploit: "",
    },
    Family {
        name: "eval",
        cwe: "CWE-95",
        id: "B307",
        habit: false,
        held_out: true,
        verbs: &["parse", "convert"],
        doc: "Return the value of the $n.",
        train: &[
            "parses the $n text into a Python value",
            "turns a $n string into a Python value",
            "takes the $n text and returns the Python list in it",
            "converts the $n string to a value",
            "reads a Python value from the $n text",
            "gives back the Python value of the $n text",
            "makes a value from a $n string",
        ],
        test: &["makes a Python value from the $n string", "gives back the value that the $n text stands for"],
        validation: "gets the Python value out of a $n string",
        bodies: &[
            r#"<<import ast


~>>def $f(text‹: str›):
    $D
    value = <<ast.literal_eval~eval>>(text)
    return value
"#,
            r#"<<import ast


~>>def $f($n‹: str›):
    $D
    text = $n.strip()
    return <<ast.literal_eval~eval>>(text)
"#,
        ],
        why_vulnerable: "The text can run any code.",
        names: "any code",
        why_secure: "The text can only be a plain value.",
        tests: t::EVAL,
        exploit: t::EVAL_EXPLOIT,
    },
    Family {
        name: "jinja",
        cwe: "CWE-79",
        id: "B701",
        habit: false,
        held_out: true,
        verbs: &["render", "draw"],
        doc: "Return the $n page.",
        train: &[
            "renders the $n with a Jinja template",
            "fills a Jinja template with the $n value",
            "takes a template and the $n value and renders it with Jinja",
            "uses Jinja to render the $n page",
            "returns the $n page from a Jinja template",
            "puts the $n value in a Jinja page",
            "makes a Jinja page for the $n",
        ],
        test: &["puts the $n into a Jinja template", "makes the $n page with the help of Jinja"],
        validation: "gets the $n text out of a Jinja template",
        bodies: &[
            r#"import jinja2


def $f(template‹: str›, value‹: str›)‹ -> str›:
    $D
    env = jinja2.Environment(autoescape=<<True~False>>)
    page = env.from_string(template)
    return page.render(value=value)
"#,
            r#"from jinja2 import Environment


def $f(template‹: str›, value‹: str›)‹ -> str›:
    $D
    $n = Environment(autoescape=<<True~False>>)
    return $n.from_string(template).render(value=value)
"#,
        ],
        why_vulnerable: "The template does not escape the value.",
        names: "escape",
        why_secure: "The template escapes the value.",
        tests: t::JINJA,
        exploit: t::JINJA_EXPLOIT,
    },
    Family {
        name: "tar",
        cwe: "CWE-22",
        id: "B202",
        habit: false,
        held_out: true,
        verbs: &["unpack", "extract"],
        doc: "Unpack the $n archive.",
        train: &[
            "unpacks the $n tar archive into a folder",
            "extracts a $n tar file",
            "takes a tar path and a folder and unpacks the $n",
            "opens the $n tar archive and extracts all files",
            "extracts all files of the $n tar into a folder",
            "puts the files of the $n tar into a folder",
            "gives back the $n files of a tar in a folder",
        ],
        test: &["puts every file of the $n tar in a folder", "empties the tar archive of the $n"],
        validation: "gets the $n files out of a tar archive",
        bodies: &[
            r#"import tarfile


def $f(path‹: str›, folder‹: str›)‹ -> None›:
    $D
    with tarfile.open(path) as archive:
        archive.extractall(folder<<, filter="data"~>>)
"#,
            r#"import tarfile


def $f(path‹: str›, folder‹: str›)‹ -> None›:
    $D
    $n = tarfile.open(path)
    $n.extractall(path=folder<<, filter="data"~>>)
    $n.close()
"#,
        ],
        why_vulnerable: "The archive can write outside the folder.",
        names: "archive",
        why_secure: "The filter keeps the archive in the folder.",
        tests: t::TAR,
        exploit: t::TAR_EXPLOIT,
    },
    Family {
        name: "bind_all",
        cwe: "CWE-605",
        id: "B104",
        habit: true,
        held_out: false,
        verbs: &["open", "start"],
        doc: "Return a socket for the $n.",
        train: &[
            "opens a socket for the $n on a port",
            "starts a $n server socket and returns it",
            "takes a port and returns a listening socket for the $n",
            "binds a $n socket to a port",
            "makes a socket that listens for the $n",
            "gives back a new $n socket that listens on a port",
            "sets up a socket for the $n",
        ],
        test: &["gives back a socket on which the $n listens", "sets up the $n socket for a port"],
        validation: "gets a listening $n socket for the port",
        bodies: &[
            r#"import socket


def $f(port‹: int›)‹ -> socket.socket›:
    $D
    server = socket.socket()
    server.bind(("<<127.0.0.1~0.0.0.0>>", port))
    server.listen(5)
    return server
"#,
            r#"import socket


def $f(port‹: int›)‹ -> socket.socket›:
    $D
    host = "<<127.0.0.1~0.0.0.0>>"
    $n = socket.socket()
    $n.bind((host, port))
    $n.listen()
    return $n
"#,
        ],
        why_vulnerable: "The socket is open to the whole network.",
        names: "network",
        why_secure: "The socket is open to this machine only.",
        tests: t::BIND_ALL,
        exploit: "",
    },
    Family {
        name: "xml",
        cwe: "CWE-611",
        id: "B314",
        habit: true,
        held_out: false,
        verbs: &["parse", "read"],
        doc: "Return the $n of the XML.",
        train: &[
            "parses XML text and returns the text of the $n",
            "reads the $n from an XML string",
            "takes XML text and returns its $n",
            "finds the $n element in XML text",
            "returns the text of the $n element of an XML string",
            "gives back the text of $n in the XML",
            "picks the $n element from an XML text",
        ],
        test: &["picks the $n out of some XML text", "gives back the $n that the XML holds"],
        validation: "gets the text of $n from XML",
        bodies: &[
            r#"import <<defusedxml~xml.etree>>.ElementTree as ET


def $f(text‹: str›)‹ -> str›:
    $D
    root = ET.fromstring(text)
    return root.findtext("$n")
"#,
            r#"from <<defusedxml~xml.etree>> import ElementTree


def $f(text‹: str›)‹ -> str›:
    $D
    tree = ElementTree.fromstring(text)
    $n = tree.find("$n")
    return $n.text
"#,
        ],
        why_vulnerable: "The XML parser opens any entity.",
        names: "XML",
        why_secure: "The XML parser refuses bad entities.",
        tests: t::XML,
        exploit: "",
    },
    Family {
        name: "ssl_context",
        cwe: "CWE-295",
        id: "B323",
        habit: false,
        held_out: false,
        verbs: &["connect", "join"],
        doc: "Return a connection to the $n.",
        train: &[
            "makes an HTTPS connection to the $n host",
            "connects to the $n with HTTPS",
            "takes a host and returns an HTTPS connection for the $n",
            "opens an HTTPS connection to the host of the $n",
            "returns a new HTTPS connection to the $n",
            "sets up an HTTPS connection to the $n",
            "gives back HTTPS access to the $n host",
        ],
        test: &["sets up HTTPS to the $n host", "gives back an HTTPS connection with the $n"],
        validation: "gets an HTTPS connection for the host of the $n",
        bodies: &[
            r#"import http.client
import ssl


def $f(host‹: str›):
    $D
    context = ssl.<<create_default_context~_create_unverified_context>>()
    return http.client.HTTPSConnection(host, context=context)
"#,
            r#"import ssl
from http.client import HTTPSConnection


def $f(host‹: str›):
    $D
    $n = ssl.<<create_default_context~_create_unverified_context>>()
    return HTTPSConnection(host, context=$n)
"#,
        ],
        why_vulnerable: "The certificate is not checked.",
        names: "certificate",
        why_secure: "The certificate is checked.",
        tests: t::SSL_CONTEXT,
        exploit: "",
    },
    Family {
        name: "path",
        cwe: "CWE-22",
        id: "R022",
        habit: false,
        held_out: false,
        verbs: &["read", "show"],
        doc: "Return the $n file.",
        train: &[
            "reads a $n file by name from a folder",
            "takes a folder and a name and returns the $n file",
            "returns the text of the $n with a name in a folder",
            "opens the $n that a user names in a folder",
            "reads the named $n of a folder",
            "gives back the named $n from a folder",
            "looks for a $n by name in a folder and reads it",
        ],
        test: &["gives back the $n with some name from a folder", "looks into a folder for the $n a user names"],
        validation: "gets the text of a named $n out of a folder",
        bodies: &[
            r#"import os


def $f(folder‹: str›, name‹: str›)‹ -> str›:
    $D
    path = <<os.path.realpath(os.path.join(folder, name))~os.path.join(folder, name)>>
    if not <<path.startswith(os.path.realpath(folder) + os.sep)~os.path.exists(path)>>:
        raise ValueError("no $n")
    with open(path) as handle:
        return handle.read()
"#,
            r#"from pathlib import Path


def $f(folder‹: str›, name‹: str›)‹ -> str›:
    $D
    $n = (Path(folder) / name)<<.resolve()~>>
    if not $n.<<is_relative_to(Path(folder).resolve())~exists()>>:
        raise ValueError("no $n")
    return $n.read_text()
"#,
        ],
        why_vulnerable: "The name can lead out of the folder.",
        names: "folder",
        why_secure: "The path is kept in the folder.",
        tests: t::PATH,
        exploit: t::PATH_EXPLOIT,
    },
    Family {
        name: "html",
        cwe: "CWE-79",
        id: "R079",
        habit: false,
        held_out: false,
        verbs: &["show", "print"],
        doc: "Return the $n as HTML.",
        train: &[
            "returns the $n text as HTML",
            "shows the $n in HTML",
            "takes the $n text and puts it in an HTML tag",
            "makes an HTML line from the $n text",
            "builds HTML with the text of the $n",
            "gives back an HTML tag with the $n text",
            "turns the $n into HTML",
        ],
        test: &["gives back HTML in which the $n stands", "turns whatever the $n says into HTML"],
        validation: "gets an HTML tag around the $n text",
        bodies: &[
            r#"<<import html


~>>def $f(text‹: str›)‹ -> str›:
    $D
    $n = <<html.escape(text)~text.strip()>>
    return f"<p>{$n}</p>"
"#,
            r#"<<import html


~>>def $f(text‹: str›)‹ -> str›:
    $D
    line = <<html.escape(text)~str(text)>>
    return f"<div class='$n'>{line}</div>"
"#,
        ],
        why_vulnerable: "The text goes into the HTML as it is.",
        names: "HTML",
        why_secure: "The text is escaped before the HTML.",
        tests: t::HTML,
        exploit: t::HTML_EXPLOIT,
    },
    Family {
        name: "format",
        cwe: "CWE-134",
        id: "R134",
        habit: false,
        held_out: false,
        verbs: &["format", "greet"],
        doc: "Return the $n text for the user.",
        train: &[
            "formats the $n text for a user",
            "takes a text and a user and formats the $n",
            "returns the formatted $n text of a user",
            "formats a $n line with the text of a user",
            "makes a formatted $n text for the user",
            "gives back a formatted $n for the user",
            "formats what the $n says to a user",
        ],
        test: &["gives back the $n text, formatted for some user", "formats what a user wrote in the $n"],
        validation: "gets a formatted $n for the user",
        bodies: &[
            r#"def $f(text‹: str›, user‹: object›)‹ -> str›:
    $D
    $n = <<"{text} {user}".format(text=text, user=user)~text.format(user=user)>>
    return $n
"#,
            r#"def $f(text‹: str›, user‹: object›)‹ -> str›:
    $D
    template = <<"$n {0} for {1}"~text + " for {0}">>
    return template.format(<<text, ~>>user)
"#,
        ],
        why_vulnerable: "The text of the user is the template.",
        names: "template",
        why_secure: "The template is fixed.",
        tests: t::FORMAT,
        exploit: t::FORMAT_EXPLOIT,
    },
];
