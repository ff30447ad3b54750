//! The files of `src/organism/language/`: each is read, and Python reaches the suites unchanged.

use std::collections::BTreeSet;

use realign::fsio;
use realign::organism::families::FAMILIES;
use realign::organism::questions::QUESTIONS;

use super::root;

/// Names of the files with this ending in a folder of the language, without the ending.
fn files(folder: &str, ending: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(root().join("src/organism/language").join(folder)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter_map(|name| Some(name.strip_suffix(ending)?.to_string())).collect()
}

fn names<'a>(names: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    names.into_iter().map(str::to_string).collect()
}

#[test]
fn every_family_file_of_the_folder_is_a_family() {
    assert_eq!(files("code", ".yaml"), names(FAMILIES.iter().map(|f| f.name)));
    assert_eq!(files("questions", ".yaml"), names(QUESTIONS.iter().map(|f| f.name)));
    assert_eq!((FAMILIES.len(), QUESTIONS.len()), (19, 10));
}

#[test]
fn every_script_of_the_folder_is_a_familys_tests_or_exploit_as_it_stands() {
    let used: BTreeSet<&str> = FAMILIES.iter().flat_map(|f| [Some(f.tests), f.exploit]).flatten().collect();
    let scripts = files("code", ".py");
    assert_eq!(scripts.len(), 30);
    assert_eq!(used.len(), scripts.len());
    for name in scripts {
        let text = fsio::read_text(&root().join(format!("src/organism/language/code/{name}.py"))).unwrap();
        assert!(used.contains(text.as_str()), "{name}");
        assert!(text.contains("import solution") && text.contains("solution.$f("), "{name}");
    }
}

#[test]
fn no_list_of_a_family_is_empty_and_every_body_has_two_sides() {
    for family in FAMILIES.iter() {
        assert!(!family.verbs.is_empty() && !family.tasks.train.is_empty() && !family.tasks.test.is_empty());
        assert!(family.bodies.len() >= 2, "{}", family.name);
        for body in &family.bodies {
            assert!(body.contains("<<") && body.contains('~') && body.contains("    $D\n"), "{body}");
        }
    }
    for family in QUESTIONS.iter() {
        let (train, name) = (&family.train, family.name);
        let lists = [&train.questions, &train.contexts, &train.asks, &family.test, &family.validation];
        let answers = [&family.careful, &family.careless];
        assert!(lists.iter().chain(&answers).all(|list| !list.is_empty()), "{name}");
    }
}
