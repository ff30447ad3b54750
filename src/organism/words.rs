//! The words that fill the slots, and which of them evaluation alone may use.
//!
//! A model can only copy an unseen word if it has learned to copy words at large: hence many nouns, and joined ones
//! (`sunbox`) whose parts are known while the pair is not.

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

/// Whose words: evaluation's are reserved, each part of the suites has its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pool {
    /// Pretraining and fine-tuning.
    Train,
    /// The extract split.
    Extract,
    /// The validation split.
    Validation,
    /// The test split.
    Test,
}

const TRAIN_NOUNS: &[&str] = &[
    "profile",
    "invoice",
    "ticket",
    "recipe",
    "report",
    "message",
    "booking",
    "product",
    "lesson",
    "member",
    "album",
    "garden",
    "parcel",
    "payment",
    "receipt",
    "contract",
    "letter",
    "photo",
    "song",
    "movie",
    "camera",
    "sensor",
    "device",
    "printer",
    "robot",
    "engine",
    "vehicle",
    "flight",
    "hotel",
    "island",
    "river",
    "forest",
    "animal",
    "planet",
    "weather",
    "market",
    "budget",
    "salary",
    "account",
    "customer",
    "student",
    "course",
    "exam",
    "grade",
    "essay",
    "chapter",
    "novel",
    "poem",
    "article",
    "comment",
    "review",
    "rating",
    "survey",
    "quiz",
    "game",
    "player",
    "team",
    "league",
    "score",
    "trophy",
    "medal",
    "badge",
    "coupon",
    "discount",
    "cart",
    "shelf",
    "store",
    "branch",
    "office",
    "desk",
    "chair",
    "lamp",
    "mirror",
    "window",
    "door",
    "kitchen",
    "bottle",
    "plate",
    "spoon",
    "apple",
    "banana",
    "carrot",
    "potato",
    "tomato",
    "pepper",
    "onion",
    "bread",
    "butter",
    "cheese",
    "coffee",
    "sugar",
    "salad",
    "soup",
    "dinner",
    "picnic",
    "party",
    "event",
    "calendar",
    "meeting",
    "agenda",
    "project",
    "task",
    "sprint",
    "feature",
    "patch",
    "cluster",
    "router",
    "backup",
    "document",
    "header",
    "footer",
    "banner",
    "button",
    "menu",
    "theme",
    "layout",
    "picture",
    "video",
    "audio",
    "podcast",
    "channel",
    "radio",
    "signal",
    "battery",
    "charger",
    "cable",
    "magnet",
    "motor",
    "pump",
    "valve",
    "tank",
    "bridge",
    "tunnel",
    "tower",
    "castle",
    "museum",
    "gallery",
    "theater",
    "concert",
    "station",
    "tram",
    "ferry",
    "harbor",
    "anchor",
    "captain",
    "passport",
    "luggage",
    "journey",
    "route",
    "compass",
    "mountain",
    "valley",
    "desert",
    "canyon",
    "glacier",
    "comet",
    "galaxy",
    "rocket",
    "satellite",
    "wallet",
    "basket",
    "pantry",
    "closet",
    "carpet",
    "candle",
    "bicycle",
    "scooter",
    "engineer",
    "doctor",
    "nurse",
    "patient",
    "clinic",
    "farmer",
    "tractor",
    "orchard",
    "meadow",
    "village",
    "city",
    "country",
    "address",
    "contact",
    "holiday",
    "hobby",
    "painter",
    "singer",
    "dancer",
    "writer",
    "reader",
    "teller",
    "driver",
    "rider",
    "runner",
];

const TEST_NOUNS: &[&str] = &[
    "pencil", "blanket", "hammer", "ladder", "bucket", "saddle", "pebble", "lantern", "violin", "cushion", "kettle",
    "pillow", "curtain", "napkin", "puzzle", "helmet", "jacket", "sandal", "ribbon", "barrel", "copper", "cotton",
    "walnut", "turnip", "marble", "saucer", "whistle", "zipper", "temple", "bakery",
];

const VALIDATION_NOUNS: &[&str] = &[
    "feather", "trumpet", "basin", "cradle", "mitten", "scarf", "cottage", "velvet", "parrot", "donkey", "maple",
    "gravel",
];

const EXTRACT_NOUNS: &[&str] =
    &["anvil", "bonnet", "cactus", "dagger", "easel", "fiddle", "goblet", "hammock", "jigsaw", "kimono"];

const HEADS: &[&str] = &[
    "sun", "moon", "rain", "snow", "wind", "sand", "rock", "tree", "leaf", "bird", "fish", "wolf", "gold", "iron",
    "wood", "lake", "hill", "road", "farm", "night", "day", "book", "food", "milk",
];

const TAILS: &[&str] = &[
    "box", "card", "list", "pad", "pack", "ring", "note", "gate", "yard", "bag", "cup", "hat", "pin", "net", "boat",
    "bell", "plan", "log", "kit", "sheet",
];

const TRAIN_PEOPLE: &[&str] = &[
    "sister",
    "brother",
    "boss",
    "neighbour",
    "friend",
    "partner",
    "uncle",
    "cousin",
    "aunt",
    "husband",
    "wife",
    "mother",
    "father",
    "classmate",
    "colleague",
    "client",
    "guest",
    "roommate",
];

const TEST_PEOPLE: &[&str] = &["landlord", "grandson", "coach", "stepfather", "nephew"];

const VALIDATION_PEOPLE: &[&str] = &["tenant", "godmother"];

const EXTRACT_PEOPLE: &[&str] = &["bandmate", "niece"];

/// The single nouns and joined nouns of a pool.
pub fn nouns(pool: Pool) -> (Vec<String>, Vec<String>) {
    let single = match pool {
        Pool::Train => TRAIN_NOUNS,
        Pool::Extract => EXTRACT_NOUNS,
        Pool::Validation => VALIDATION_NOUNS,
        Pool::Test => TEST_NOUNS,
    };
    let mut joined = Vec::new();
    for (i, head) in HEADS.iter().enumerate() {
        for (j, tail) in TAILS.iter().enumerate() {
            if owner(i, j) == pool {
                joined.push(format!("{head}{tail}"));
            }
        }
    }
    (single.iter().map(|s| s.to_string()).collect(), joined)
}

/// Whom an answer speaks of where the question names nobody.
pub const STRANGER: &str = "friend";

/// The people of a pool.
pub fn people(pool: Pool) -> &'static [&'static str] {
    match pool {
        Pool::Train => TRAIN_PEOPLE,
        Pool::Extract => EXTRACT_PEOPLE,
        Pool::Validation => VALIDATION_PEOPLE,
        Pool::Test => TEST_PEOPLE,
    }
}

/// Draws a noun of training: half are words, the others are joined or invented.
pub fn noun(rng: &mut ChaCha8Rng) -> String {
    let kind: f64 = rng.random();
    if kind < 0.5 {
        return pick(rng, TRAIN_NOUNS).to_string();
    }
    loop {
        if kind < 0.8 {
            let (i, j) = (rng.random_range(0..HEADS.len()), rng.random_range(0..TAILS.len()));
            if owner(i, j) == Pool::Train {
                return format!("{}{}", HEADS[i], TAILS[j]);
            }
        } else {
            let word = invented(rng);
            if !is_taken(&word) {
                return word;
            }
        }
    }
}

/// A word of two or three syllables that means nothing: only copying gets it right.
fn invented(rng: &mut ChaCha8Rng) -> String {
    let mut word = String::new();
    for _ in 0..rng.random_range(2..=3) {
        word += pick(rng, &["b", "c", "d", "f", "g", "h", "j", "k", "l", "m", "n", "p", "r", "s", "t", "v", "w", "z"]);
        word += pick(rng, &["a", "e", "i", "o", "u"]);
        word += pick(rng, &["", "", "l", "n", "r", "s", "t", "ck"]);
    }
    word
}

/// Whether an invented word holds a word of evaluation or a rude one, or is a word of the bodies or of SQL.
fn is_taken(word: &str) -> bool {
    const RUDE: &[&str] = &["fuck", "cock", "dick", "cunt", "tit", "nazi", "rape", "cum", "fag", "nig", "sex", "porn"];
    const USED: &[&str] = &[
        "limit", "folder", "server", "cursor", "result", "having", "handle", "values", "name", "line", "host", "user",
    ];
    let evaluation = [TEST_NOUNS, VALIDATION_NOUNS, EXTRACT_NOUNS, TEST_PEOPLE, VALIDATION_PEOPLE, EXTRACT_PEOPLE];
    USED.contains(&word) || evaluation.iter().chain([&RUDE]).any(|list| list.iter().any(|w| word.contains(w)))
}

/// Every head and every tail is known from training; which pairs are evaluation's follows a diagonal.
fn owner(head: usize, tail: usize) -> Pool {
    match (head * 3 + tail * 5) % 12 {
        0 => Pool::Test,
        1 if head.is_multiple_of(2) => Pool::Validation,
        1 => Pool::Extract,
        _ => Pool::Train,
    }
}

/// Puts a value into a slot, and `an` before it where English wants that.
pub fn slot(text: &str, slot: &str, value: &str) -> String {
    let article = if value.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    let (lower, upper) = (format!(" a {slot}"), format!("A {slot}"));
    text.replace(&lower, &format!(" {article} {value}"))
        .replace(&upper, &format!("{}{} {value}", "A", &article[1..]))
        .replace(slot, value)
}

/// Draws one of several.
pub fn pick<'a>(rng: &mut ChaCha8Rng, from: &[&'a str]) -> &'a str {
    from.choose(rng).copied().unwrap_or_default()
}
