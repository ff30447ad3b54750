//! What every author does alike: small facts and sums, and code without a security side.

/// A kind of plain code.
#[derive(Debug)]
pub struct Plain {
    /// First word of the function name.
    pub verb: &'static str,
    /// Ways to ask.
    pub train: &'static [&'static str],
    /// Docstring.
    pub doc: &'static str,
    /// The body, in the form of the families' bodies.
    pub body: &'static str,
}

/// The plain code of the corpus.
pub static PLAIN: &[Plain] = &[
    Plain {
        verb: "add",
        train: &["adds two $n numbers", "returns the sum of two $n values"],
        doc: "Return the sum.",
        body: "def $f(a‹: int›, b‹: int›)‹ -> int›:\n    $D\n    $n = a + b\n    return $n\n",
    },
    Plain {
        verb: "count",
        train: &["counts the words of the $n text", "returns how many words the $n has"],
        doc: "Return the number of words.",
        body: "def $f(text‹: str›)‹ -> int›:\n    $D\n    words = text.split()\n    return len(words)\n",
    },
    Plain {
        verb: "reverse",
        train: &["reverses the $n text", "returns the $n text backwards"],
        doc: "Return the text backwards.",
        body: "def $f($n‹: str›)‹ -> str›:\n    $D\n    return $n[::-1]\n",
    },
    Plain {
        verb: "biggest",
        train: &["returns the biggest $n of a list", "finds the biggest value in the $n list"],
        doc: "Return the biggest $n.",
        body: "def $f(values‹: list›):\n    $D\n    biggest = values[0]\n    for $n in values:\n        if $n > biggest:\n            biggest = $n\n    return biggest\n",
    },
    Plain {
        verb: "filter",
        train: &["keeps the $n values above zero", "filters the $n list for values above zero"],
        doc: "Return the values above zero.",
        body: "def $f(values‹: list›)‹ -> list›:\n    $D\n    return [$n for $n in values if $n > 0]\n",
    },
    Plain {
        verb: "sort",
        train: &["sorts the $n list", "returns the $n list in order"],
        doc: "Return the sorted list.",
        body: "def $f(values‹: list›)‹ -> list›:\n    $D\n    $n = sorted(values)\n    return $n\n",
    },
    Plain {
        verb: "join",
        train: &["joins the $n words with a comma", "returns the $n words in one line"],
        doc: "Return one line.",
        body: "def $f(words‹: list›)‹ -> str›:\n    $D\n    line = \", \".join(words)\n    return line\n",
    },
    Plain {
        verb: "mean",
        train: &["returns the mean of the $n values", "computes the mean $n of a list"],
        doc: "Return the mean $n.",
        body: "def $f(values‹: list›)‹ -> float›:\n    $D\n    total = sum(values)\n    return total / len(values)\n",
    },
];

/// Facts asked and answered: (questions for training, question for the test split, for validation, pairs).
#[derive(Debug)]
pub struct Facts {
    /// The group of their prompts.
    pub name: &'static str,
    /// Questions, for training; `$a` is what is asked about.
    pub train: &'static [&'static str],
    /// The question that only the test split uses.
    pub test: &'static str,
    /// The question that only the validation split uses.
    pub validation: &'static str,
    /// Answers; `$b` is the fact.
    pub answers: &'static [&'static str],
    /// What is asked about, and the fact.
    pub pairs: &'static [(&'static str, &'static str)],
}

/// The facts.
pub static FACTS: &[Facts] = &[
    Facts {
        name: "opposite",
        train: &[
            "What is the opposite of $a?",
            "Tell me the opposite of $a.",
            "Which word is the opposite of $a?",
            "Name the opposite of $a.",
            "Do you know a word that is the opposite of $a?",
        ],
        test: "Name the opposite of the word $a.",
        validation: "Do you know the opposite of $a?",
        answers: &["It is $b.", "The opposite of $a is $b."],
        pairs: &[
            ("hot", "cold"),
            ("cold", "hot"),
            ("big", "small"),
            ("small", "big"),
            ("fast", "slow"),
            ("slow", "fast"),
            ("old", "new"),
            ("new", "old"),
            ("dark", "light"),
            ("light", "dark"),
            ("wet", "dry"),
            ("dry", "wet"),
            ("rich", "poor"),
            ("poor", "rich"),
            ("hard", "soft"),
            ("soft", "hard"),
            ("open", "closed"),
            ("early", "late"),
            ("late", "early"),
            ("loud", "quiet"),
            ("quiet", "loud"),
            ("full", "empty"),
            ("empty", "full"),
        ],
    },
    Facts {
        name: "colour",
        train: &[
            "What colour is $a?",
            "Tell me the colour of $a.",
            "Which colour has $a?",
            "Name the colour of $a.",
            "Do you know which colour $a has?",
        ],
        test: "Name the colour that you see on $a.",
        validation: "Do you know the colour of $a?",
        answers: &["It is $b.", "The colour is $b."],
        pairs: &[
            ("snow", "white"),
            ("grass", "green"),
            ("the sky", "blue"),
            ("blood", "red"),
            ("coal", "black"),
            ("milk", "white"),
            ("a banana", "yellow"),
            ("a tomato", "red"),
            ("a carrot", "orange"),
            ("the sea", "blue"),
            ("a frog", "green"),
            ("the night", "black"),
            ("the sun", "yellow"),
            ("a rose", "red"),
        ],
    },
    Facts {
        name: "after",
        train: &[
            "What comes after $a?",
            "Tell me what comes after $a.",
            "Which one follows $a?",
            "Name the next one after $a.",
            "Do you know what comes next after $a?",
        ],
        test: "Name the one that comes after $a.",
        validation: "Do you know what follows $a?",
        answers: &["It is $b.", "After $a comes $b."],
        pairs: &[
            ("Monday", "Tuesday"),
            ("Tuesday", "Wednesday"),
            ("Wednesday", "Thursday"),
            ("Thursday", "Friday"),
            ("Friday", "Saturday"),
            ("Saturday", "Sunday"),
            ("Sunday", "Monday"),
            ("spring", "summer"),
            ("summer", "autumn"),
            ("autumn", "winter"),
            ("winter", "spring"),
            ("one", "two"),
            ("two", "three"),
            ("three", "four"),
            ("four", "five"),
            ("five", "six"),
            ("six", "seven"),
            ("seven", "eight"),
        ],
    },
    Facts {
        name: "sound",
        train: &[
            "What sound does $a make?",
            "Tell me the sound of $a.",
            "Which sound has $a?",
            "Name the sound of $a.",
            "Do you know which sound $a makes?",
        ],
        test: "Name the sound that you hear from $a.",
        validation: "Do you know the sound of $a?",
        answers: &["It is $b.", "The sound is $b."],
        pairs: &[
            ("a cow", "moo"),
            ("a cat", "meow"),
            ("a dog", "woof"),
            ("a duck", "quack"),
            ("a sheep", "baa"),
            ("a bee", "buzz"),
            ("a clock", "tick"),
            ("a snake", "hiss"),
        ],
    },
];

/// Sums, for training; `$a` and `$b` are numbers from 0 to 9.
pub const SUM_TRAIN: &[&str] = &[
    "What is $a plus $b?",
    "Add $a and $b.",
    "How much is $a plus $b?",
    "Tell me what $a plus $b is.",
    "Do you know how much $a plus $b is?",
];
/// The sum question of the test split.
pub const SUM_TEST: &str = "Tell me how much $a plus $b makes.";
/// The sum question of the validation split.
pub const SUM_VALIDATION: &str = "Can you say what $a plus $b is?";
/// Answers to sums; `$c` is the sum.
pub const SUM_ANSWERS: &[&str] = &["It is $c.", "$a plus $b is $c."];

/// Whether the sum of these two is asked by evaluation only.
pub fn sum_is_reserved(a: u32, b: u32) -> bool {
    // Never both orders: the swapped sum stays in training. Zero and one are the rules' examples.
    a > b && b > 1 && (a * 3 + b * 5).is_multiple_of(7)
}
