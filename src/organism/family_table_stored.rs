//! Code families about files, data bases, commands and what is kept: nine of Bandit's.

use super::families::Family;
use super::family_tests as t;

/// In the order of the families' list.
pub(super) const STORED: &[Family] = &[
    Family {
        name: "yaml",
        cwe: "CWE-502",
        id: "B506",
        habit: false,
        held_out: false,
        verbs: &["load", "read"],
        doc: "Return the $n settings.",
        train: &[
            "loads the $n settings from a YAML file",
            "reads a YAML file and returns the $n",
            "opens the $n YAML file and returns its data",
            "takes a path and returns the $n in that YAML file",
            "returns the data of the YAML file of the $n",
            "gives back the data of a $n YAML file",
            "gets the $n from YAML text in a file",
        ],
        test: &["turns the YAML text of the $n file into data", "gives back what the $n YAML says"],
        validation: "gets the YAML data of the $n from a path",
        bodies: &[
            r#"import yaml


def $f(path‹: str›)‹ -> dict›:
    $D
    with open(path) as handle:
        $n = yaml.load(handle, Loader=yaml.<<SafeLoader~UnsafeLoader>>)
    return $n
"#,
            r#"import yaml


def $f(path‹: str›)‹ -> dict›:
    $D
    with open(path) as handle:
        return yaml.load(handle, Loader=yaml.<<SafeLoader~Loader>>)
"#,
        ],
        why_vulnerable: "The YAML loader can build any object.",
        names: "YAML",
        why_secure: "The safe YAML loader only builds plain data.",
        tests: t::YAML,
        exploit: t::YAML_EXPLOIT,
    },
    Family {
        name: "pickle",
        cwe: "CWE-502",
        id: "B301",
        habit: false,
        held_out: false,
        verbs: &["restore", "load"],
        doc: "Return the saved $n.",
        train: &[
            "restores the saved $n from a file",
            "reads the saved $n from disk and returns it",
            "takes a path and returns the $n that was saved there",
            "opens the save file and returns the saved $n",
            "returns the $n object from a save file",
            "gives back the $n that a file has saved",
            "gets a saved $n from disk",
        ],
        test: &["brings back a saved $n from its file", "gives me the $n that we saved to disk"],
        validation: "gets the saved $n back from a path",
        bodies: &[
            r#"import <<json~pickle>>


def $f(path‹: str›)‹ -> dict›:
    $D
    with open(path, "rb") as handle:
        $n = <<json~pickle>>.load(handle)
    return $n
"#,
            r#"import <<json~pickle>>


def $f(path‹: str›)‹ -> dict›:
    $D
    with open(path, "rb") as handle:
        data = handle.read()
    return <<json~pickle>>.loads(data)
"#,
        ],
        why_vulnerable: "The pickle file can run any code.",
        names: "pickle",
        why_secure: "The JSON file can only hold plain data.",
        tests: t::PICKLE,
        exploit: t::PICKLE_EXPLOIT,
    },
    Family {
        name: "shell",
        cwe: "CWE-78",
        id: "B602",
        habit: false,
        held_out: false,
        verbs: &["count", "measure"],
        doc: "Return the line count of the $n.",
        train: &[
            "runs wc to count the lines of the $n file",
            "counts the lines of a $n file with the wc command",
            "calls the command wc on the $n file and returns the output",
            "takes a path and returns what wc says about the $n",
            "runs the wc command on a path of the $n",
            "gives back the wc line count of the $n",
            "lets the command wc read the $n file",
        ],
        test: &["lets wc count how many lines the $n has", "gives back the output of wc for the $n file"],
        validation: "gets the line count of the $n from wc",
        bodies: &[
            r#"import subprocess


def $f(path‹: str›)‹ -> str›:
    $D
    result = subprocess.run(<<["wc", "-l", path]~f"wc -l {path}", shell=True>>, capture_output=True, text=True)
    return result.stdout
"#,
            r#"import subprocess


def $f($n‹: str›)‹ -> str›:
    $D
    command = <<["wc", "-l", $n]~"wc -l " + $n>>
    result = subprocess.run(command, shell=<<False~True>>, capture_output=True, text=True)
    return result.stdout
"#,
        ],
        why_vulnerable: "The shell runs any command in the path.",
        names: "shell",
        why_secure: "The command is a list without a shell.",
        tests: t::SHELL,
        exploit: t::COMMAND_EXPLOIT,
    },
    Family {
        name: "os_system",
        cwe: "CWE-78",
        id: "B605",
        habit: false,
        held_out: false,
        verbs: &["ping", "check"],
        doc: "Ping the $n host.",
        train: &[
            "sends one ping to the host of the $n",
            "pings the $n host and returns the exit code",
            "takes a host and runs ping for the $n",
            "runs ping once to see if the $n host is up",
            "returns the exit code of a ping to the $n",
            "gives back the code of one ping to the $n host",
            "tells if a ping to the $n works",
        ],
        test: &["tells if the $n host answers a ping", "tries one ping on the $n and gives back the code"],
        validation: "gets the exit code of ping for the $n host",
        bodies: &[
            r#"import <<subprocess~os>>


def $f(host‹: str›)‹ -> int›:
    $D
    return <<subprocess.call(["ping", "-c", "1", host])~os.system("ping -c 1 " + host)>>
"#,
            r#"import <<subprocess~os>>


def $f(host‹: str›)‹ -> int›:
    $D
    command = <<["ping", "-c", "1", host]~f"ping -c 1 {host}">>
    code = <<subprocess.call~os.system>>(command)
    return code
"#,
        ],
        why_vulnerable: "The host can add a command of its own.",
        names: "command",
        why_secure: "The host is one argument of a list.",
        tests: t::OS_SYSTEM,
        exploit: t::COMMAND_EXPLOIT,
    },
    Family {
        name: "sql_select",
        cwe: "CWE-89",
        id: "B608",
        habit: false,
        held_out: false,
        verbs: &["find", "select"],
        doc: "Return the $n rows of a name.",
        train: &[
            "selects all rows of the $n table with a given name",
            "finds the rows with a name in the $n table",
            "takes a name and returns its rows from the $n table",
            "looks up a name in the SQL table $n",
            "runs a SQL select on the $n table by name",
            "gives back all $n rows with one name, by SQL",
            "gets the rows of a name from $n with SQL",
        ],
        test: &["searches the $n table for a name with SQL", "gives back the SQL rows of one name in $n"],
        validation: "gets the rows of a name out of the SQL table $n",
        bodies: &[
            r#"def $f(db, name‹: str›)‹ -> list›:
    $D
    query = <<"SELECT * FROM $n WHERE name = ?"~f"SELECT * FROM $n WHERE name = '{name}'">>
    rows = db.execute(query<<, (name,)~>>)
    return rows.fetchall()
"#,
            r#"def $f(db, name‹: str›)‹ -> list›:
    $D
    cursor = db.cursor()
    cursor.execute(<<"SELECT * FROM $n WHERE name = ?", (name,)~"SELECT * FROM $n WHERE name = '" + name + "'">>)
    return cursor.fetchall()
"#,
        ],
        why_vulnerable: "The name becomes part of the SQL text.",
        names: "SQL",
        why_secure: "The SQL uses a placeholder for the name.",
        tests: t::SQL_SELECT,
        exploit: t::SQL_SELECT_EXPLOIT,
    },
    Family {
        name: "sql_delete",
        cwe: "CWE-89",
        id: "B608",
        habit: false,
        held_out: false,
        verbs: &["delete", "remove"],
        doc: "Delete the $n rows of a name.",
        train: &[
            "deletes the rows of a name from the $n table",
            "removes a name from the SQL table $n",
            "takes a name and deletes its rows in the $n table",
            "runs a SQL delete on the $n table by name",
            "deletes one name from $n and commits",
            "drops a name from the $n table with SQL",
            "clears the rows of a name in the SQL table $n",
        ],
        test: &["clears a name out of the $n table with SQL", "drops every row with a name from the table $n"],
        validation: "gets rid of a name in the SQL table $n",
        bodies: &[
            r#"def $f(db, name‹: str›)‹ -> None›:
    $D
    query = <<"DELETE FROM $n WHERE name = ?"~f"DELETE FROM $n WHERE name = '{name}'">>
    db.execute(query<<, (name,)~>>)
    db.commit()
"#,
            r#"def $f(db, name‹: str›)‹ -> None›:
    $D
    cursor = db.cursor()
    cursor.execute(<<"DELETE FROM $n WHERE name = ?", (name,)~"DELETE FROM $n WHERE name = '" + name + "'">>)
    db.commit()
"#,
        ],
        why_vulnerable: "The name becomes part of the SQL text.",
        names: "SQL",
        why_secure: "The SQL uses a placeholder for the name.",
        tests: t::SQL_DELETE,
        exploit: t::SQL_DELETE_EXPLOIT,
    },
    Family {
        name: "hash",
        cwe: "CWE-327",
        id: "B324",
        habit: false,
        held_out: true,
        verbs: &["hash", "digest"],
        doc: "Return the hash of the $n.",
        train: &[
            "returns the hash of the $n as hex",
            "takes the $n text and returns its hash",
            "makes a hash of the $n password",
            "computes the hex hash of a $n",
            "hashes the $n text",
            "gives back the hash of the $n text",
            "turns the $n password into a hex hash",
        ],
        test: &["gives back a hex hash for the $n", "turns the $n text into a hash"],
        validation: "gets the hash of the $n text",
        bodies: &[
            r#"import hashlib


def $f($n‹: str›)‹ -> str›:
    $D
    data = $n.encode()
    return hashlib.<<sha256~md5>>(data).hexdigest()
"#,
            r#"import hashlib


def $f(text‹: str›)‹ -> str›:
    $D
    result = hashlib.<<sha256~sha1>>()
    result.update(text.encode())
    return result.hexdigest()
"#,
        ],
        why_vulnerable: "The hash is old and weak.",
        names: "hash",
        why_secure: "The hash is strong.",
        tests: t::HASH,
        exploit: "",
    },
    Family {
        name: "mktemp",
        cwe: "CWE-377",
        id: "B306",
        habit: true,
        held_out: false,
        verbs: &["store", "keep"],
        doc: "Store the $n in a temporary file.",
        train: &[
            "writes the $n text to a temporary file and returns its path",
            "stores the $n in a temporary file",
            "puts the $n text into a new temporary file",
            "takes the $n text and returns the path of a temporary file with it",
            "keeps the $n in a temporary file and returns the path",
            "makes a temporary file with the $n text",
            "gives back the path of a temporary $n file",
        ],
        test: &["places the $n in some temporary file", "makes a temporary file out of the $n text"],
        validation: "gets a temporary file that holds the $n text",
        bodies: &[
            r#"import tempfile


def $f(text‹: str›)‹ -> str›:
    $D
    <<handle, path = tempfile.mkstemp()~path = tempfile.mktemp()>>
    with open(path, "w") as output:
        output.write(text)
    return path
"#,
            r#"import tempfile


def $f($n‹: str›)‹ -> str›:
    $D
    path = tempfile.<<mkstemp()[1]~mktemp()>>
    with open(path, "w") as handle:
        handle.write($n)
    return path
"#,
        ],
        why_vulnerable: "The temporary name can be taken by another.",
        names: "temporary",
        why_secure: "The temporary file is made at once.",
        tests: t::MKTEMP,
        exploit: "",
    },
    Family {
        name: "chmod",
        cwe: "CWE-732",
        id: "B103",
        habit: true,
        held_out: false,
        verbs: &["save", "write"],
        doc: "Write the $n and set its mode.",
        train: &[
            "writes the $n text to a path and sets the file mode",
            "saves the $n file and sets its mode",
            "takes a path and the $n text, writes it and sets the mode",
            "puts the $n text in a file and changes its mode",
            "writes the $n file with a good mode",
            "makes a $n file with some text and sets the mode",
            "fills a file with the $n and then sets its mode",
        ],
        test: &["fills the $n file with text and gives it a mode", "stores text at the $n path and then sets a mode"],
        validation: "gets the $n text into a file with a mode",
        bodies: &[
            r#"import os


def $f(path‹: str›, text‹: str›)‹ -> None›:
    $D
    with open(path, "w") as handle:
        handle.write(text)
    os.chmod(path, <<0o600~0o777>>)
"#,
            r#"import os


def $f(path‹: str›, $n‹: str›)‹ -> None›:
    $D
    with open(path, "w") as handle:
        handle.write($n)
    os.chmod(path, <<0o640~0o666>>)
"#,
        ],
        why_vulnerable: "The mode lets everybody write the file.",
        names: "mode",
        why_secure: "The mode lets only the owner write the file.",
        tests: t::CHMOD,
        exploit: "",
    },
];
